/* Inside of fs/meta: the instance, and how the nouns work on the open transaction. Not for callers.
 *
 * Truth is the list of changed rows (change.h); the open SQLite transaction follows it. An
 * operation is: tx_reserve (may fail, nothing changed) - statements - tx_put/tx_delete (cannot
 * fail). Its statements stand in one function that is called through TX_WRITE (TX_READ when it only
 * reads): when SQLite fails in it, the transaction is rolled back, the list is applied again, and
 * the function is called once more. So whatever part of an operation SQLite kept or undid by itself
 * does not matter. */
#ifndef FS_META_IMPL_H
#define FS_META_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include "fs/meta/change.h"
#include "fs/meta/db.h"
#include "fs/meta/meta.h"
#include "fs/meta/rows.h"
#include "fs/meta/sql.h"

enum alloc_kind { ALLOC_INO, ALLOC_COOKIE, ALLOC_SEGMENT, ALLOC_KINDS };

/* Numbers below local_high may have been used when the process ends unexpectedly; those below
 * drive_high may be in use as far as a machine that knows the outbox only can tell. */
struct alloc {
	_Atomic uint64_t next; /* segment numbers are given without the lock too */
	uint64_t local_high, drive_high;
	uint64_t start; /* next when the database was opened */
};

/* A segment's live bytes, in memory since it was first touched; the truth while dirty. */
struct seg_live {
	struct hash_node node; /* key: number */
	struct seg_live *dirty_next, *dead_next;
	uint64_t live;
	uint8_t exists; /* has a row */
	uint8_t dirty, dead;
};

struct meta {
	char *path;
	int read_only;
	atomic_int failed; /* sticky; no lock needed */
	int lock_fd, wal_fd;
	char *ballast;
	atomic_int ballast_gone;

	pthread_mutex_t lock; /* guards everything below; also held around each statement */
	sqlite3 *db;
	sqlite3_stmt *st[SQL_COUNT];
	struct changes changes; /* of the open transaction */
	int dirty;              /* changes is not empty, or trim_seq is set */
	int sql_error;          /* code of the statement that failed, until tx_recover */
	int detached;           /* rolled back, and the errno why it could not be applied again */
	int full;               /* COMMIT found no room, and none has succeeded since */
	uint64_t trim_seq;      /* outbox rows up to it are deleted in this transaction */
	struct buf blob;

	struct meta_totals totals;
	uint64_t seq, blobs, blob_bytes; /* outbox: last number, rows, their bytes */
	uint64_t max_ino; /* no node above it: says whether to try INSERT or UPDATE */
	struct alloc alloc[ALLOC_KINDS];
	struct hash lives;
	struct seg_live *dirty_lives, *dead_lives;

	/* Checkpoints (wal.c) */
	pthread_t thread;
	int thread_runs, stop;
	pthread_cond_t work, unparked;
	sqlite3 *checkpointer; /* the thread's */
	int parked;            /* meta_lock waits until the thread is done */
	int wal_pages;         /* frames in the WAL as of the last COMMIT */
	uint64_t wal_size;     /* of the file, at least */
	int tried_pages;       /* the same when the last checkpoint began */
	int park_pages, park_at, step_pages;
	int64_t last_commit_ns;
};

/* ---- tx.c ---- */

/* May be changed by a test between meta_open and the first change. */
#define WAL_PARK_PAGES 16284 /* 64 MiB in frames of 24 + 4,096 bytes */
#define WAL_STEP_PAGES 4096  /* checkpoint after so many new ones */

/* 0, -EROFS, -EIO, -ENOMEM: whether `entries` changed rows (keys and rows of `bytes` in all) may
 * follow. */
int tx_reserve(struct meta *m, int entries, size_t bytes);
void tx_put(struct meta *m, uint8_t table, const void *key, size_t key_len, const void *row,
	    size_t row_len, int is_new, int flags);
void tx_delete(struct meta *m, uint8_t table, const void *key, size_t key_len, int flags);

/* A statement, reset, inside a transaction (begun if need be). NULL: m->sql_error is set; the
 * caller returns tx_error(m). */
sqlite3_stmt *tx_stmt(struct meta *m, enum sql_id id);
/* 1: a row (the caller ends with tx_done); 0: the end (reset); or the negative errno of tx_error.
 */
int tx_step(struct meta *m, sqlite3_stmt *st);
/* Steps a statement without rows. How many rows it changed, or a negative errno. */
int tx_exec(struct meta *m, sqlite3_stmt *st);
static inline void tx_done(sqlite3_stmt *st)
{
	sqlite3_reset(st);
}
int tx_error(struct meta *m); /* negative errno of m->sql_error */
int tx_set_error(struct meta *m,
		 int rc); /* notes an SQLite code (an allocation that failed, say) */

/* After a failed statement: rolls back, applies the list again. No-op without one. force: also
 * without (an operation that gives up half-way). */
void tx_recover(struct meta *m, int force);
int tx_retry(struct meta *m, int write); /* recovers; 1 when another try makes sense */

#define TX_CALL(m, write, call)                                                                    \
	({                                                                                         \
		int tx_rc_ = (call);                                                               \
		if (tx_rc_ < 0 && tx_retry(m, write)) {                                            \
			tx_rc_ = (call);                                                           \
			if (tx_rc_ < 0)                                                            \
				tx_recover(m, 0);                                                  \
		}                                                                                  \
		tx_rc_;                                                                            \
	})
#define TX_READ(m, call)  TX_CALL(m, 0, call)
#define TX_WRITE(m, call) TX_CALL(m, 1, call)

/* Ends a transaction that only read, so that the WAL can restart and a reader sees what is new. */
void tx_end_read(struct meta *m);
void tx_fail(struct meta *m, const char *why); /* sticky; logs once; no lock needed */
void tx_finalize(struct meta *m);              /* all statements, for close */
int tx_load_sums(struct meta *m);

/* The blob that a bound statement selects: malloc'ed (NUL behind it), or -ENOENT. */
int tx_get_blob(struct meta *m, sqlite3_stmt *st, uint8_t **out, size_t *n);

/* ---- apply.c: encoded rows into tables ---- */

/* What applying changed in meta_totals, to be added by the caller. */
struct row_delta {
	int64_t bytes, inodes;
};
int row_erase(struct meta *m, uint8_t table, const uint8_t *key, size_t key_len,
	      struct row_delta *d);
/* -EEXIST when the key is there. */
int row_insert(struct meta *m, uint8_t table, const uint8_t *key, size_t key_len,
	       const uint8_t *row, size_t row_len, struct row_delta *d);

/* ---- node.c, segment.c ---- */

int node_bind_step(struct meta *m, enum sql_id id, const struct node *n);
int segment_bind_step(struct meta *m, enum sql_id id, const struct segment_row *s);
/* The entry of a segment, loaded if need be; NULL: *rc is the errno. It stays until meta_commit. */
struct seg_live *live_get(struct meta *m, uint32_t num, int *rc);
void live_move(struct meta *m, struct seg_live *l, int64_t delta);
void live_set(struct meta *m, uint32_t num, int exists,
	      uint64_t live);    /* a row came from outside */
int live_flush(struct meta *m);  /* writes the rows of the dirty ones */
void live_prune(struct meta *m); /* after COMMIT: forgets clean ones when there are many */
void live_release(struct meta *m);

/* ---- alloc.c ---- */

int alloc_load(struct meta *m);  /* at open; raises local_high in the open transaction */
int alloc_flush(struct meta *m); /* before COMMIT */
int alloc_exact(struct meta *m); /* at a clean close: no gap */
/* A replicated value came from outside. */
void alloc_seen(struct meta *m, const uint8_t *key, size_t key_len, const uint8_t *row,
		size_t row_len);

/* ---- wal.c ---- */

int wal_start(struct meta *m, struct err *e); /* descriptor, connection; after journal_mode=WAL */
int wal_run(struct meta *m, struct err *e);   /* the thread; from here on the lock is needed */
void wal_stop(struct meta *m);                /* thread and its connection */
int wal_checkpoint_all(struct meta *m);       /* at close: leaves an empty WAL */
void wal_committed(struct meta *m);           /* after each COMMIT */
void ballast_make(struct meta *m);
void wal_disk_full(struct meta *m); /* frees the ballast */

/* ---- schema.c ---- */

/* Local value: the last close was clean. Its absence asks for a check of all pages. */
#define SCHEMA_KEY_CLEAN "meta.clean"

int schema_damaged(struct meta *m, struct err *e, const char *what); /* -EBADMSG, says the remedy */
int schema_create(struct meta *m, const struct meta_opts *opts, struct err *e);
int schema_check(struct meta *m, const struct meta_opts *opts, struct err *e);

#endif
