/* What changed and is not published yet: one blob per transaction, in order. Format:
 * coding/FORMAT.md, "Rows". Lock of meta.h held where a function takes a struct meta and does not
 * say otherwise. */
#ifndef FS_META_OUTBOX_H
#define FS_META_OUTBOX_H

#include "fs/meta/meta.h"
#include "fs/base/buf.h"

/* Tables and operations as they stand in the blob; final, they are replayed on other machines. */
enum outbox_table {
	OUTBOX_NODE = 1,
	OUTBOX_LINK,
	OUTBOX_NAME,
	OUTBOX_XATTR,
	OUTBOX_RUN,
	OUTBOX_SEGMENT,
	OUTBOX_INDEX,
	OUTBOX_CODING,
	OUTBOX_DRIVE
};
enum outbox_op { OUTBOX_UPSERT = 1, OUTBOX_DELETE = 2 };

uint64_t outbox_count(struct meta *m); /* transactions waiting, committed ones only */
uint64_t outbox_bytes(struct meta *m);
uint64_t outbox_last(struct meta *m); /* highest seq ever given; never reused. 0: none yet */
/* Blobs with seq > after in order. fn gets each (borrowed, must not change anything); stops when it
 * returns non-zero, and returns that. */
int outbox_each(struct meta *m, uint64_t after,
		int (*fn)(void *arg, uint64_t seq, const void *blob, size_t n), void *arg);
/* Forgets blobs up to seq (published). A change like any other: committed by meta_commit. At most
 * some megabytes per call, the oldest first, for it takes about 10 ms per MiB: -EAGAIN when there
 * are more (commit, let others have the lock, call again). */
int outbox_trim(struct meta *m, uint64_t seq);
/* Applies a blob to this database (replica, tests): upsert or delete of full rows, whatever their
 * order; not in this database's own outbox. -EBADMSG when malformed (bounded, I8; nothing was
 * applied then). Row values that are well-formed but absurd are the sealing's business. */
int outbox_apply(struct meta *m, const void *blob, size_t n);

/* ---- Without a database: for the publisher and its tests. No lock. ---- */

/* Checks a blob and calls fn for each entry in order (key and row borrowed; row_len 0 for deletes);
 * stops when it returns non-zero, and returns that. -EBADMSG when malformed anywhere (fn was not
 * called then). */
struct outbox_entry {
	uint8_t table, op;
	uint16_t key_len;
	uint32_t row_len;
	const uint8_t *key, *row;
};
int outbox_parse(const void *blob, size_t n, int (*fn)(void *arg, const struct outbox_entry *entry),
		 void *arg);

/* Coalesces blobs into one: give them in order, the last entry of a key wins. */
struct outbox_merge;
struct outbox_merge *outbox_merge_create(void);                            /* NULL: out of memory */
int outbox_merge_add(struct outbox_merge *om, const void *blob, size_t n); /* -EBADMSG, -ENOMEM */
int outbox_merge_finish(struct outbox_merge *om, struct buf *blob); /* appends to blob. -ENOMEM */
void outbox_merge_destroy(struct outbox_merge *om);

/* ---- Snapshots: all replicated rows, streamed from a read transaction of an own connection. Lock
 * not needed; one thread at a time per snapshot. While one is open the WAL cannot shrink. ---- */

struct outbox_snapshot;
/* *seq: the outbox blobs up to it are in the snapshot, later ones are not. Only what is committed
 * counts; that it is also synced is for the caller to see to (meta_wal_sync after this). */
int outbox_snapshot_open(struct meta *m, struct outbox_snapshot **out, uint64_t *seq);
/* Fills blob (what was in it is gone) with rows until it holds at least `target` bytes: a blob for
 * outbox_apply. 1: it holds rows; 0: the end; or a negative errno (close the snapshot then). Parts
 * may be applied in any order. */
int outbox_snapshot_next(struct outbox_snapshot *s, size_t target, struct buf *blob);
void outbox_snapshot_close(struct outbox_snapshot *s); /* NULL is fine */

#endif
