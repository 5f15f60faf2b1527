/* The segment store: sealed extents in staging and cache files, their coding, upload, healing and
 * fetching. The only place that knows the whole path of sealed bytes (FORMATS.md). Below it: meta
 * rows, crypto, coding, backends. Above it: volume.
 *
 * Threads: all functions may be called from any thread. Lock order: meta lock -> segstore's. Those
 * marked [meta] take the meta lock for a moment (they may have to load an index), so the caller
 * holds neither it nor a lock that comes after it. None of them waits for the network or a disk
 * sync unless it says "blocks". A segment that nobody knows (never was, or was dropped): -EINVAL.
 *
 * A segment's life, locally: OPEN (grows; its unsynced bytes also stay in memory) -> CLOSED ->
 * UPLOADING -> STORED s/n -> dispersed n/n (its file moves to the cache folder, where it may be
 * evicted) -> DROPPED (no row names it).
 */
#ifndef FS_DATA_SEGSTORE_H
#define FS_DATA_SEGSTORE_H

#include <stddef.h>
#include <stdint.h>
#include "backends/backend.h"
#include "backends/bandwidth.h"
#include "crypto/key.h"
#include "fs/base/err.h"
#include "fs/meta/meta.h"

struct segstore;
struct seg_lane; /* an open segment that one sequential writer has for itself */

struct segstore_opts {
	const char *staging_dir, *cache_dir; /* exist; on disks that may differ */
	struct meta *meta;
	const struct keyring *keys;
	const uint8_t *drive; /* 16 bytes */
	int k, m;
	uint32_t extent_max;   /* 64 KiB .. 1 MiB, power of two */
	uint64_t segment_size; /* target, 1 .. 64 MiB; drives take clamp(4 MiB x k, 8, 64 MiB) */
	int compress;          /* 1: zstd level 1 per extent, incompressible data raw */
	struct backend **backends; /* k + m, each with a health layer on top; borrowed. backends[i]
				      holds shard i */
	struct bandwidth *bandwidth; /* which the backends share, or NULL; borrowed. How much is
					asked for at once, and for how long, depends on it */
	uint64_t cache_cap;          /* bytes of staging + cache files; hard */
	uint64_t memory;             /* bytes to be used for buffers and caches, about; 0: 96 MiB */
	int quorum; /* 0: every healthy backend, never fewer than max(k, majority of n); else at
		       least that many, same lower bound */
	uint64_t heal_rate; /* bytes per second that healing moves at most while nobody waits for
			       it; 0: no limit */
	int64_t timeout;    /* ns: deadline of a foreground fetch */
	int64_t flush_age, flush_idle; /* ns: open segments are closed for upload when that old (30
					  s) or idle that long (5 s) */
	/* Asks for a commit cycle (volume's writeback); done(arg, 0) when everything changed before
	 * the call is *committed* (WAL synced), else the error; exactly once, also after the volume
	 * stopped. Called with no locks held, one at a time, from a worker of the upload: it must
	 * not wait for an upload. */
	void (*commit)(void *arg, void (*done)(void *done_arg, int result), void *done_arg);
	void *commit_arg;
};

/* Recovers: every segment row that is OPEN has its staging file scanned (torn tail dropped by
 * tags), closed, never appended to again; staging files without a row were never acknowledged: they
 * are put aside into staging/orphans for 7 days; CLOSED/UPLOADING/STORED ones are queued. Files
 * that are missing or unreadable are said in the log, and their reads fail; the rest goes on.
 * Blocks. Reports sentences. Starts no upload before segstore_start. [meta] */
int segstore_open(const struct segstore_opts *o, struct segstore **out, struct err *e);
void segstore_start(struct segstore *st);
/* Stops uploading, waits for requests in flight up to deadline (then cancels them), closes files.
 * What is not dispersed stays in staging. Blocks. Afterwards no backend's on_change may call
 * segstore_backend_changed any more. */
void segstore_close(struct segstore *st, int64_t deadline);

/* --- appending --- */
struct seg_piece {
	const void *data;
	uint32_t len;      /* 1 .. extent_max */
	uint64_t ino, off; /* hint for salvage: for what it was written first */
};
struct seg_loc {
	uint32_t seg, first; /* n consecutive extents, one per piece */
};
/* Seals n (1..64) pieces into consecutive extents of one segment (lane's own, or the common one
 * when lane is NULL). The bytes are in memory and readable at once, durable after segstore_sync.
 * Takes one reference on the segment for the caller (segstore_unref). -EINVAL; -ENOSPC at the cap;
 * -EIO, or -ENOSPC, when the disk takes nothing and much is waiting in memory; -ENOMEM. A failed
 * append may have consumed numbers (I3): other extents are not affected. */
int segstore_append(struct segstore *st, struct seg_lane *lane, const struct seg_piece *pieces,
		    int n, struct seg_loc *loc);
/* The same for bytes that a program was told are written: not refused by the cap, for they have
 * nowhere else to go, and a commit that cannot take them would keep uploads from making room. Who
 * accepts bytes counts them against the cap then. */
int segstore_append_accepted(struct segstore *st, struct seg_lane *lane,
			     const struct seg_piece *pieces, int n, struct seg_loc *loc);
/* At most 4 lanes at once; NULL when none is free: use the common one. */
struct seg_lane *segstore_lane_take(struct segstore *st);
void segstore_lane_give(
    struct segstore *st,
    struct seg_lane *lane); /* its segment goes on as the common one or is closed */

/* Makes every append that returned before the call durable (fdatasync). Blocks. A file whose sync
 * fails is written anew from synced prefix + memory under the same segment id and closed; -EIO only
 * when that fails as well: the bytes stay in memory. -ENOSPC: the disk is full; evicting did not
 * help. Both are tried again with the next call. */
int segstore_sync(struct segstore *st);
/* Bytes in memory that are not synced yet, and a callback when they are below the limit again (at
 * once, from the caller's thread, if they are). A background flusher syncs on its own from 8 MiB
 * on. */
uint64_t segstore_unsynced(struct segstore *st);
void segstore_when_room(struct segstore *st, void (*fn)(void *arg), void *arg);

/* Meta lock held, in commit step 3, before runs are inserted: inserts rows of segments that were
 * synced and have none yet, updates closed ones and stores their index. Calls of this and of
 * segstore_committed alternate, but for cycles whose commit failed. */
int segstore_write_rows(struct segstore *st);
/* After the commit became durable: closed segments whose rows are durable may now be uploaded; dead
 * ones are dropped. One thread at a time. [meta] */
void segstore_committed(struct segstore *st);

/* References keep a segment from being dropped or evicted: one per place in memory that names it.
 * Who comes to a segment through a row takes one before a change of that row can be committed (meta
 * lock, or the lock that the committer needs to change the row). */
void segstore_ref(struct segstore *st, uint32_t seg);
void segstore_unref(struct segstore *st, uint32_t seg);

/* --- reading --- */
struct seg_miss {
	uint32_t seg, first, count; /* extents that are not here */
	int64_t deadline;           /* of fetching them; 0: the store's timeout, from then on */
};
/* By when a read that begins now has to have ended: now + timeout. */
int64_t segstore_deadline(const struct segstore *st);
/* Is the bandwidth limited by the user? Then the time that a rate costs does not count against a
 * reader's: each fetch has a deadline of its own. */
int segstore_limited(struct segstore *st);
/* Copies len bytes of the file content of extents first, first+1, ... starting `skip` bytes in
 * (skip may span extents). 0; -EAGAIN: not all local, *miss says what to fetch; -EBADMSG: local
 * bytes are wrong and no backend can help (not uploaded yet); -EINVAL: beyond the segment; -EIO:
 * its index is lost. May read the local disk. [meta] */
int segstore_read(struct segstore *st, uint32_t seg, uint32_t first, uint64_t skip, void *dst,
		  size_t len, struct seg_miss *miss);

/* Fetches extents (more around them when access looks sequential or like a scan of neighbours) from
 * the backends. done(arg, result) exactly once from a pool thread; until seg_fetch_release the
 * fetched bytes are guaranteed to satisfy segstore_read. What was here when the call was made is
 * not fetched and may be evicted since: on -EAGAIN fetch that, too. result: 0, -ETIMEDOUT, -EIO,
 * -EBADMSG, -ECANCELED. Returns NULL and a negative *rc when it fails at once (fewer than k
 * breakers closed: -EIO). done may come before the call returns. [meta] */
struct seg_fetch;
struct seg_fetch *segstore_fetch(struct segstore *st, const struct seg_miss *miss,
				 void (*done)(void *arg, int result), void *arg, int *rc);
void segstore_fetch_cancel(struct segstore *st,
			   struct seg_fetch *f); /* this waiter only: done(-ECANCELED) soon */
void segstore_fetch_release(struct segstore *st, struct seg_fetch *f); /* after done */
/* Read-ahead hint: bytes of this segment will be wanted soon. [meta] */
void segstore_prefetch(struct segstore *st, uint32_t seg, uint32_t first, uint32_t count);

/* Position arithmetic for lseek/insert: does extent position (seg, first, skip + len) end exactly
 * where (seg, next_first, next_skip) begins? Without any other lock: 0 also when that would take an
 * index that is not in memory. */
int segstore_continues(struct segstore *st, uint32_t seg, uint32_t first, uint64_t skip_plus_len,
		       uint32_t next_first, uint64_t next_skip);

/* --- state, for status, where, sync, umount --- */
struct segstore_state {
	uint64_t staged_bytes; /* sealed bytes here that are not dispersed n/n */
	uint64_t yield_bytes;  /* of these, what is on enough backends to be evicted when there is
				  no other room; the rest cannot be */
	uint64_t cached_bytes; /* evictable */
	uint64_t spare_bytes;  /* taken on the disk ahead of content that is still to come */
	uint64_t cap;          /* as given */
	uint64_t room;         /* of that, what staged, spare and cached bytes may take together */
	uint32_t open, closed, uploading, stored, dispersed, dropped; /* segments */
	uint32_t below_n; /* uploaded segments that miss shards: the heal queue */
	uint64_t to_upload_bytes, heal_bytes; /* left to send */
	int losses_survivable; /* how many backend losses every uploaded segment survives when all
				  backends are there: min over segments of present shards - k; m
				  when there are none */
	uint64_t backend_shards[32], backend_bytes[32];
};
void segstore_state(struct segstore *st, struct segstore_state *out);
/* The same of this moment: backends that are away now count as lost already. Negative: so many
 * have to return before everything can be read from the backends. Takes a look at every segment
 * that is not dispersed. */
int segstore_losses_now(struct segstore *st);

enum seg_level { SEG_STAGED, SEG_STORED, SEG_DISPERSED };
struct seg_where {
	uint32_t seg;
	uint8_t id[16], set[16];
	enum seg_level level;
	int open;         /* not uploaded at all yet */
	uint32_t present; /* bit i: backend i holds shard i */
	int k, m;
	int cached; /* whole or part is in the local cache */
};
int segstore_where(struct segstore *st, uint32_t seg, struct seg_where *out); /* -ENOENT */

/* Closes the open segments so that they are uploaded now; takes effect with the next commit. */
void segstore_flush(struct segstore *st);
/* Blocks until every segment that was closed before is at `level`, the deadline passes
 * (-ETIMEDOUT), or nothing more can move (-EIO: too few backends). */
int segstore_wait(struct segstore *st, enum seg_level level, int64_t deadline);
/* The same; tick is called a few times a second without locks, and ends the wait (-ECANCELED) by
 * returning non-zero. */
int segstore_wait_ticking(struct segstore *st, enum seg_level level, int64_t deadline,
			  int (*tick)(void *arg), void *arg);
/* The same for who waits for many things at once. look: 0 reached; -EAGAIN not yet; else as
 * segstore_wait. sleep blocks until something may have changed, at most until `until`. A wait is
 * its owner's to serialise. */
struct seg_wait {
	enum seg_level level;
	uint64_t seq;
	int64_t deadline, stuck_since;
};
void segstore_wait_begin(struct segstore *st, struct seg_wait *w, enum seg_level level,
			 int64_t deadline);
int segstore_wait_look(struct segstore *st, struct seg_wait *w);
void segstore_wait_sleep(struct segstore *st, int64_t until);
/* A backend's health changed: wake the uploader and the heal queue. */
void segstore_backend_changed(struct segstore *st);

#endif
