/* The metadata database: nodes, names, xattrs, runs, segments, codings, outbox, and one
 * transaction. No SQLite type is visible above.
 *
 * Lock: one short lock guards the whole (one writer connection). Every function below and in the
 * sibling headers that does not say otherwise needs it held by the caller: meta_lock(m) ...
 * meta_unlock(m). Never hold it across network or disk sync (I7); nothing here syncs but
 * meta_wal_sync and meta_close, which must be called without it.
 *
 * Transaction: the first change after a commit begins one by itself. meta_commit ends it (WAL
 * written, not synced). *Committed* means meta_commit plus a meta_wal_sync that succeeded and began
 * after it. Reads see the changes of the open transaction. The changed rows are kept in memory
 * until COMMIT succeeded, so that a transaction that SQLite rolled back (disk full, out of memory)
 * is applied again: no change that was answered with 0 is ever silently undone while the process
 * lives.
 *
 * Outbox: every changed row of a replicated table (all but local values and shard presence) is
 * remembered once per transaction, the last one wins, and written as one blob by meta_commit.
 *
 * Errors: -ENOENT no such row, -EEXIST, -ENOSPC the state filesystem is full (the transaction is
 * kept in memory and readable: call meta_commit again when there is room; a ballast file is freed
 * first), -ENOMEM (nothing changed), -EIO anything else from SQLite. That one is sticky:
 * meta_failed() becomes true and further changes fail with -EROFS; reads go on as long as SQLite
 * can serve them, and see what was answered before.
 *
 * Numbers: file offsets, lengths, inode numbers, cookies and times are below 2^63. Offsets beyond
 * are refused with -EFBIG (a range's end is clipped).
 *
 * Callers must not rely on being the only reader of the tables, on row ids, or on a query being
 * free: a distributed SQL engine is to stand behind these headers one day.
 */
#ifndef FS_META_META_H
#define FS_META_META_H

#include <stddef.h>
#include <stdint.h>
#include "fs/base/err.h"

struct meta;

#define META_SCHEMA_VERSION 1

struct meta_opts {
	const uint8_t *drive; /* 16 bytes: must match what is stored; stored by create */
	int create; /* 1: a new database, which must not exist; makes the root folder (ino 1)
		       with root_mode/uid/gid */
	uint32_t root_mode, root_uid, root_gid;
	uint64_t cache; /* bytes of pages kept in memory; 0: 16 MiB */
	int read_only;  /* 1: no changes (-EROFS), no lock taken (status, tests); drive may be NULL.
			   Each meta_lock ... meta_unlock sees one consistent state, the newest
			   committed */
};

/* Opens PATH (and PATH-wal, PATH-shm, PATH.ballast). Takes an exclusive lock on PATH.lock for the
 * life of *out: -EBUSY "mounted already" otherwise. Sentences for: not there (-ENOENT), there
 * already
 * (-EEXIST, create), damaged (-EBADMSG; header and schema; PRAGMA quick_check only when the last
 * close was not clean), future version (-EPROTONOSUPPORT), other drive (-EXDEV), not a database of
 * ours
 * (-EBADMSG). A database of an older version is migrated. A create that failed leaves nothing.
 * Blocks on the disk. Lock not needed. */
int meta_open(const char *path, const struct meta_opts *opts, struct meta **out, struct err *e);
/* Commits, syncs and checkpoints unless failed, and always frees m (NULL is fine). The first error
 * is returned: -ENOSPC or -EIO mean that changes since the last committed transaction are lost.
 * Lock not needed; no other thread may use m any more. */
int meta_close(struct meta *m);

void meta_lock(struct meta *m);
void meta_unlock(struct meta *m);

int meta_dirty(struct meta *m);  /* 1 when a transaction is open */
int meta_commit(struct meta *m); /* 0 also when nothing was open; -EROFS once failed */
int meta_failed(struct meta *m); /* lock not needed */
/* Whoever fills the open transaction cannot complete it (content that its rows name is not on
 * disk): m is failed from now on, as after an I/O error, so that nothing commits it, meta_close
 * neither. why: for the log. Lock not needed. */
void meta_abandon(struct meta *m, const char *why);

/* fdatasync of the WAL by its own descriptor; makes durable what meta_commit wrote before the call.
 * Lock must not be held; any number of threads. After a failure (-EIO, sticky) m is failed: no
 * checkpoint will ever run, none at close. Also restores the ballast file when there is room again.
 *
 * Checkpoints run on a thread and connection of their own, without the lock. When the WAL has grown
 * past 64 MiB the first meta_unlock outside a transaction parks everybody in meta_lock until that
 * thread has emptied it (the one permitted exception of I7). So whoever changes rows must also
 * commit. */
int meta_wal_sync(struct meta *m);

/* Allocators; never reused, also not after a crash (they are persisted far ahead of use), nor on a
 * machine that recovers the drive from its clouds. They never fail. */
uint64_t meta_next_ino(struct meta *m);    /* 2.. */
uint64_t meta_next_cookie(struct meta *m); /* 16.. */
/* 1..; 0 when 2^32 were used up. Needs no lock: a writer that fills a segment holds an inode's. */
uint32_t meta_next_segment(struct meta *m);

/* Sums over all nodes, kept in memory and with each commit. */
struct meta_totals {
	uint64_t bytes; /* sum of run lengths (file bytes, shared extents counted per file) */
	uint64_t inodes;
};
void meta_totals(struct meta *m, struct meta_totals *out);

/* Small local values (not replicated): text keys (1..255 bytes; those that begin with "meta." are
 * ours) to blobs. -ENOENT. value malloc'ed. */
int meta_local_get(struct meta *m, const char *key, uint8_t **value, size_t *n);
int meta_local_put(struct meta *m, const char *key, const void *value, size_t n);
int meta_local_delete(struct meta *m, const char *key); /* -ENOENT */
/* The same for values that are replicated (drive parameters). */
int meta_drive_get(struct meta *m, const char *key, uint8_t **value, size_t *n);
int meta_drive_put(struct meta *m, const char *key, const void *value, size_t n);

/* A consistent copy of what is committed into PATH, which must not exist (tests, support). A
 * connection of its own: lock not needed. Synced. */
int meta_backup(struct meta *m, const char *path, struct err *e);

#endif
