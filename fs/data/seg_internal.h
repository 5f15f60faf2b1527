/* What the files of the segment store share. The contract is segstore.h; formats: coding/FORMAT.md.
 *
 * Locks, in order: meta lock -> segstore.lock -> plain.lock. segstore.lock is short and never held
 * across disk, network or the database (I7): whoever works on a segment without it holds a pin.
 *
 * A segment in memory (seg->phase; moves through seg_set_phase only):
 *
 *   OPEN -> CLOSING -> CLOSED -> DROPPED
 *
 * OPEN takes appends. CLOSING takes none: its last records are being sealed, its index is not
 * durable yet. CLOSED: all on disk (or lost from it, when dispersed). What meta knows is `row`;
 * what of that is committed is `row_durable`. How far its coding got: has_set, stored, present. */
#ifndef FS_DATA_SEG_INTERNAL_H
#define FS_DATA_SEG_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "backends/fanout.h"
#include "backends/health.h"
#include "coding/code.h"
#include "coding/shard.h"
#include "crypto/key.h"
#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/hash.h"
#include "fs/base/list.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/base/workq.h"
#include "fs/data/segstore.h"
#include "fs/meta/segment.h"

#define SEG_EXTENTS_MAX   8192u
#define SEG_INDEX_NUMBER  8192u /* of the index extent: no data extent ever has it (I3) */
#define SEG_FILE_HEADER   128u
#define SEG_RECORD_HEADER 64u
#define SEG_PIECES_MAX    64
#define SEG_LANES         4
#define SEG_INDEX_ROOM    (512u << 10) /* more than 8,192 index entries, padded for k = 32 */
#define SEG_LENGTH_MAX    (256u << 20) /* of a staging file; bounds what is read from disk (I8) */
#define SEG_PUNCH         (1u << 20)
/* Sealed bytes of one transfer: 4 MiB of a file, with what sealing adds to its extents. */
#define SEG_PIECE_MAX ((4u << 20) + (16u << 10))
#define SEG_PIECE_MIN (128u << 10)
#define SEG_QUEUE_LONG                                                                             \
	16 /* with more fetches running, a further one only makes the queue longer                 \
	    */
#define SEG_PATH_MAX    4096
#define SEG_CAP_MARGIN  128      /* 1/128 of the cap: half a block for each file, and their maps */
#define SEG_RETRY_FIRST NS_PER_S /* of a put that failed; doubles */

enum { EXT_ZSTD = 1, EXT_INDEX = 2, EXT_VOID = 4 };

/* One extent of a segment. Constant once its append returned. */
struct seg_ext {
	uint64_t file_pos; /* sum of file_len of those before it */
	uint32_t pos;      /* of its record header in the file */
	uint32_t file_len; /* bytes of a file */
	uint32_t stored;   /* after zstd */
	uint8_t flags;
	uint8_t nonce[8];
};

struct seg_hint {
	uint64_t ino, off;
};

/* What sealing and opening need besides the extent. */
struct seg_cipher {
	const uint8_t *key;
	uint8_t drive[16], id[16];
	uint32_t keyno;
	int k;
};

/* segment_io.c: bytes of the formats. */
static inline uint32_t ext_sealed(const struct seg_ext *x, int k)
{
	return shard_sealed_len(x->stored, k);
}
static inline uint32_t ext_end(const struct seg_ext *x, int k)
{
	return x->pos + SEG_RECORD_HEADER + ext_sealed(x, k);
}
static inline uint32_t ext_number(const struct seg_ext *x, uint32_t i)
{
	return x->flags & EXT_INDEX ? SEG_INDEX_NUMBER : i;
}
void segio_file_header_put(uint8_t out[SEG_FILE_HEADER], const struct seg_cipher *c);
int segio_file_header_check(const uint8_t in[SEG_FILE_HEADER], const struct seg_cipher *c);
void segio_record_put(uint8_t out[SEG_RECORD_HEADER], const struct seg_cipher *c, uint32_t number,
		      const struct seg_ext *x, const struct seg_hint *hint);
/* -EBADMSG when it is none of this segment; fills all of x but file_pos and pos. */
int segio_record_get(const uint8_t in[SEG_RECORD_HEADER], const struct seg_cipher *c,
		     uint32_t *number, struct seg_ext *x, struct seg_hint *hint);
/* Seals x->stored bytes of data into out[ext_sealed]. Consumes number (I3). */
int segio_seal(const struct seg_cipher *c, uint32_t number, const struct seg_ext *x,
	       const void *data, void *out);
/* Opens into out[ext_sealed - 16], stored bytes first. -EBADMSG also when the padding is not zero.
 */
int segio_open(const struct seg_cipher *c, uint32_t number, const struct seg_ext *x,
	       const void *sealed, void *out);
/* Length of the index extent's stored bytes, so that shards become multiples of 4 KiB.
 * data_len: sum of the slots of all data extents in one shard. */
uint32_t segio_index_stored(uint32_t count, uint64_t slots, int k);
void segio_index_put(uint8_t *out, uint32_t len, const struct seg_ext *x,
		     const struct seg_hint *hints, uint32_t count, int64_t created);
/* Makes the index extent x[count] of the extents before it and its whole record at rec, which has
 * room for SEG_RECORD_HEADER + SEG_INDEX_ROOM. pos: where the record will stand. */
int segio_index_seal(const struct seg_cipher *c, struct seg_ext *x, uint32_t count,
		     const struct seg_hint *hints, int64_t created, uint32_t pos, uint8_t *rec);
uint64_t segio_slots(const struct seg_ext *x, uint32_t count, int k);
/* The blob in meta. x has count + 1 entries, the index last. */
int segio_blob_put(const struct seg_ext *x, uint32_t count, uint8_t **out, size_t *n);
int segio_blob_get(const uint8_t *p, size_t n, int k, struct seg_ext **x, uint32_t *count);
/* zstd into out[cap]: bytes, or 0 when it does not pay. */
size_t segio_compress(const void *in, size_t n, void *out, size_t cap);
int segio_decompress(const void *in, size_t n, void *out,
		     size_t len); /* exactly len, or -EBADMSG */
/* MAC of fragment p[len] of extent number. */
int segio_fragment_mac(const uint8_t key[KEY_LEN], uint32_t number, const void *p, uint32_t len,
		       uint8_t mac[SHARD_MAC_LEN]);
/* Memory of the calling thread, 64-byte aligned, freed when it ends. NULL when out of memory. */
enum { SCRATCH_SEALED, SCRATCH_PLAIN, SCRATCH_UNPACK, SCRATCH_PACK, SCRATCH_COUNT };
void *segio_scratch(int which, size_t n);

/* Memory that workers seal into; position in it = offset in the file. */
struct seg_region {
	struct list link; /* of st->regions when unused */
	uint8_t *p;
	size_t len;
};

/* What is needed to find and open extents. Loaded on demand for closed segments. */
struct seg_body {
	struct list lru; /* by lock: of st->bodies when the segment is closed */
	struct seg *seg;
	uint32_t count;      /* by lock while open: data extents reserved */
	struct seg_ext *ext; /* count, and the index extent behind them once closed */
	uint8_t *absent;     /* by lock: 1: not in the file. NULL: all are there, or no file is */
	struct seg_cipher cipher;
	uint8_t *key; /* secmem */
	int fd;       /* staging or cache file; -1 */
};

/* More about a segment until it is closed and nobody reads its memory any more. */
struct seg_open {
	struct list link; /* of st->opens until closed */
	struct seg *seg;
	struct seg_region *region;
	uint8_t *done;          /* by lock: per extent, its record is complete */
	struct seg_hint *hints; /* per extent */
	uint32_t pos;           /* by lock: end of what is reserved */
	uint32_t finished;      /* by lock: extents of the prefix in which all are complete */
	uint32_t finished_pos;  /* by lock: its end */
	uint32_t pending;       /* by lock: appends that are sealing */
	uint32_t written;       /* of the pass: bytes in the file */
	uint32_t zeroed;        /* of the pass: blocks below are written, if only with zeros */
	uint32_t small_syncs;   /* of the pass: how many in a row brought little */
	uint32_t allocated;     /* by lock: bytes that the file takes on the disk beforehand */
	uint32_t synced;        /* by lock: bytes that fdatasync confirmed */
	atomic_uint released;   /* bytes below were given back to the kernel: read the file */
	uint32_t kept;          /* by lock: closed, and bytes still in memory; in st->kept */
	int index_done;         /* of the pass: the index record is in the region */
	int dir_synced;         /* of the pass */
	int broken;             /* of the pass: a sync failed, the file needs to be written anew */
	int64_t born_ns, touched_ns; /* by lock */
};

enum seg_phase { SEG_OPEN = 1, SEG_CLOSING, SEG_CLOSED, SEG_GONE };
enum seg_place { PLACE_NONE, PLACE_STAGING, PLACE_CACHE };

struct xfer;

/* All fields by st->lock unless they are constant. */
struct seg {
	struct hash_node node; /* key: num */
	uint32_t num, keyno;   /* constant, as the next ones */
	uint8_t id[16];
	uint8_t k;
	int64_t created; /* unix seconds */

	uint8_t phase;       /* enum seg_phase */
	uint8_t place;       /* enum seg_place: where the file is */
	uint8_t row;         /* enum segment_state as meta has it, 0 none yet */
	uint8_t row_durable; /* committed */
	uint8_t has_set, set_durable, stored;
	uint8_t m;         /* of the coding */
	uint8_t dead;      /* live was seen as 0: to be dropped when nothing names it */
	uint8_t dropping;  /* DROPPED or deleted in meta, waits for the commit */
	uint8_t busy;      /* an upload is at it */
	uint8_t moving;    /* its file is being moved or evicted */
	uint8_t writing;   /* fetched bytes are being written into its file, by so many */
	uint8_t loading;   /* its body is being loaded: wait for st->changed */
	uint8_t damaged;   /* said once: local bytes are wrong and nobody can help */
	uint8_t pushing;   /* a job brings its facts to meta; 2: once more */
	uint8_t dirty_row; /* facts that meta does not have yet */
	uint32_t extents;  /* once closed */
	uint64_t length;
	uint64_t disk;    /* bytes it takes locally; open: what is reserved */
	uint64_t punched; /* eviction goes on here */
	uint8_t set[16];
	uint32_t present, suspect, present_durable;
	uint32_t
	    unknown; /* backends of which nothing is known: the database came from the clouds */
	uint32_t shard_len; /* bytes of one shard; 0 unknown */
	uint32_t refs, pins;
	uint64_t close_seq;
	int64_t retry_at, retry_delay;
	uint32_t last_failed; /* bit i: the last put to backend i failed */
	/* Misses, to see scans (fetch.c). */
	int64_t miss_since;
	uint32_t misses, miss_next;
	struct list
	    rows; /* of st->rows until its CLOSED row is written, then of st->rows_written */
	struct list deadlink; /* of st->dead */
	struct list work;     /* of st->work from closing until dispersed */
	struct list lru;      /* of st->lru when it has a file and is closed */
	struct list xfers;
	struct seg_body *body;
	struct seg_open *open;
};

/* For finding a segment by its id while recovering. */
struct seg_id {
	struct hash_node node;
	struct seg *seg;
};

struct seg_lane {
	struct seg *seg; /* by lock */
	int taken;
};

struct commit_wait {
	struct list link;
	void (*fn)(void *arg, int result);
	void *arg;
};

struct room_wait {
	struct list link;
	void (*fn)(void *arg);
	void *arg;
};

/* Opened extents for partial reads. */
struct plain_cache {
	pthread_mutex_t lock;
	struct hash map;
	struct list lru;
	size_t bytes;
	uint64_t max; /* constant */
};

/* One listing of a backend (seg_verify.c). */
struct verify;

/* What the memory that was given is used for, in bytes. Sealed bytes that are not synced yet count
 * as unsynced, those that open segments keep besides as resident. However large they are, one
 * upload of what is not at quorum and one transfer may always run. */
struct seg_limits {
	uint64_t unsynced, unsynced_go; /* appends wait from here; the flusher begins */
	uint64_t resident;
	uint64_t upload, fetch;
	uint64_t plain; /* opened extents for partial reads */
	int bodies;     /* indexes of closed segments */
};

struct segstore {
	/* Constant once open. */
	struct seg_limits max;
	char *staging_dir, *cache_dir;
	struct meta *meta;
	const struct keyring *keys;
	uint8_t drive[16];
	int k, m, n;
	uint32_t all; /* n bits */
	uint32_t extent_max,
	    limit; /* limit: where a segment that is not empty ends at the latest */
	uint64_t target;
	size_t region_len;
	int compress, quorum;
	struct backend *backends[32];
	struct bandwidth *bandwidth; /* or NULL */
	uint64_t cap;                /* what content may take here */
	uint64_t
	    cap_set; /* what was asked for: the rest is the filesystem's, for its last blocks */
	int64_t timeout, flush_age, flush_idle;
	void (*commit)(void *arg, void (*done)(void *done_arg, int result), void *done_arg);
	void *commit_arg;
	struct code *code;
	struct workq *uploadq, *fetchq;

	pthread_mutex_t lock;
	pthread_cond_t changed;  /* broadcast: loading, passes, progress, ends */
	pthread_cond_t flush_cv; /* for the flusher */
	struct hash segs;
	struct list opens, rows, rows_written, work, lru, bodies, regions, dead;
	int nbodies, nregions;
	struct seg *common, *spare;
	struct seg_lane lanes[SEG_LANES];
	uint64_t close_seq;
	int started, stopping, flusher_runs, flusher_stop;
	pthread_t flusher;

	/* Sync passes: one at a time. */
	uint64_t pass_begun, pass_done;
	int pass_running, pass_rc;
	int sync_error;     /* of the last pass */
	uint64_t kept;      /* bytes of closed segments whose memory somebody still reads */
	uint64_t unsynced;  /* reserved and not confirmed */
	struct list room;   /* room_wait */
	int backend_change; /* wake-up from health layers */

	/* Commits asked for. */
	struct list commits; /* commit_wait: for the next one */
	struct list commits_running;
	int commit_running;
	int commit_wanted;  /* by nobody who waits in commits */
	int commit_error;   /* of the last one */
	int64_t rows_since; /* ns: since when something waits for a commit that nobody asked for */

	/* Uploads. */
	int uploads, uploads_early, heals;
	struct {
		uint64_t rate; /* constant: bytes per second that healing moves; 0: no limit */
		int64_t at;    /* the next one may begin */
		int hurry;     /* so many wait for all to be on n */
		int waking;    /* a job will look again */
	} pace;
	uint64_t upload_bytes;
	uint64_t put_rate; /* bytes per second of the last segment that was stored; 0: not known */
	struct list running_uploads;
	uint32_t usable_seen; /* bit i: usable when last looked at */
	uint32_t absent_seen; /* bit i: was absent since its last verification */
	uint32_t verify_due;
	int64_t verify_at[32];
	struct verify *verifying;

	/* Fetches. */
	struct list running_xfers, queued_xfers; /* queued: read-ahead */
	struct list waiting_xfers;               /* somebody waits for them; they wait for memory */
	struct list heal_xfers;                  /* the same of those that heal: behind readers */
	uint64_t fetch_bytes,
	    heal_fetch_bytes; /* memory of those that run, and of those that heal */
	int bg_running, fg_running;
	uint64_t bg_bytes;
	unsigned explored; /* atomic */
	struct fanout_budget budget;
	int jobs; /* fetch completions and the like that are under way */

	/* Sums, kept by seg_account. */
	struct segstore_state sums;
	uint32_t by_present[33]; /* stored segments by how many shards are good */

	struct plain_cache plain;
};

/* segstore.c */
struct seg *seg_new(struct segstore *st, uint32_t num, const uint8_t id[16], uint32_t keyno);
void seg_free(struct segstore *st, struct seg *s);
struct seg *seg_find_locked(struct segstore *st, uint32_t num);
void seg_pin_locked(struct seg *s);
void seg_unpin_locked(struct segstore *st, struct seg *s);
/* Every change of what is summed stands between these two. */
void seg_account_begin_locked(struct segstore *st, struct seg *s);
void seg_account_end_locked(struct segstore *st, struct seg *s);
/* What open files take on the disk ahead of their content. */
uint64_t seg_spare_locked(const struct segstore *st);
/* What all files take. */
static inline uint64_t seg_taken_locked(const struct segstore *st)
{
	return st->sums.staged_bytes + st->sums.cached_bytes + seg_spare_locked(st);
}
void seg_set_phase_locked(struct segstore *st, struct seg *s, enum seg_phase phase);
void seg_path(const struct segstore *st, const struct seg *s, enum seg_place place,
	      char out[SEG_PATH_MAX]);
/* fn(arg, result) from any thread, without locks, after a commit that began after this call; not
 * from inside it. w is borrowed until then: it is part of what waits, so that waiting cannot fail
 * for want of memory. */
void seg_after_commit(struct segstore *st, struct commit_wait *w, void (*fn)(void *arg, int result),
		      void *arg);
void seg_commit_soon(struct segstore *st); /* such a commit, for which nobody waits */
void seg_drop_check(struct segstore *st);
int seg_dead_mark(struct segstore *st, struct seg *s);
/* Length of one shard of a closed segment, out of its file's length. */
static inline uint32_t seg_shard_len(uint64_t length, uint32_t extents, int k)
{
	uint64_t records = (uint64_t)extents + 1;
	return (uint32_t)(SHARD_HEADER_LEN + records * SHARD_MAC_LEN +
			  (length - SEG_FILE_HEADER - records * SEG_RECORD_HEADER) / (unsigned)k);
}
static inline int seg_good_shards(const struct seg *s)
{
	return __builtin_popcount(s->present & ~s->suspect);
}
static inline int seg_dispersed(const struct segstore *st, const struct seg *s)
{
	return s->stored && (s->present & ~s->suspect) == st->all;
}
/* Its file may go under pressure: at quorum on at least k + 1, from where healing reads, and that
 * is committed (I6). */
static inline int seg_yields(const struct seg *s)
{
	uint32_t good = s->present & s->present_durable & ~s->suspect;

	return s->phase == SEG_CLOSED && s->stored && s->set_durable &&
	       __builtin_popcount(good) >= s->k + 1;
}
/* Can k backends deliver it, as far as is known? */
static inline int seg_fetchable(const struct seg *s)
{
	return s->set_durable && __builtin_popcount(s->present | s->unknown) >= s->k;
}

/* staging.c */
void seg_close_all_locked(struct segstore *st);
void seg_begin_close_locked(struct segstore *st, struct seg *s);
void seg_open_free_locked(struct segstore *st, struct seg *s);
void seg_regions_free(struct segstore *st);

/* seg_sync.c */
int seg_flusher_start(struct segstore *st);
void seg_flusher_stop(struct segstore *st);

/* seg_recover.c */
int seg_recover(struct segstore *st, struct err *e);
/* Reads a staging file record by record. Fills body (count, ext), hints (malloc'ed) and the end of
 * what is good; *closed: the index record is there. */
int seg_scan(struct segstore *st, struct seg *s, struct seg_body *body, struct seg_hint **hints,
	     uint32_t *end, int *closed);

/* cache.c */
struct seg_body *seg_body_new(struct segstore *st, struct seg *s);
void seg_body_free(struct seg_body *b);
void seg_body_drop_locked(struct segstore *st, struct seg *s); /* no pins */
/* Pins s and makes s->body valid until seg_unpin. */
int seg_body_get(struct segstore *st, struct seg *s);
void seg_unpin(struct segstore *st, struct seg *s);
void seg_bodies_trim_locked(struct segstore *st);
/* Where sealed bytes of extent i are: memory, a transfer, or the file, then read into buf. Not
 * verified. -ENOENT: not here. s is pinned. */
enum seg_source { FROM_REGION = 1, FROM_XFER, FROM_FILE };
struct seg_sealed {
	const uint8_t *p;
	struct xfer *x; /* referenced until seg_sealed_release */
	enum seg_source from;
};
int seg_sealed_get(struct segstore *st, struct seg *s, uint32_t i, void *buf,
		   struct seg_sealed *out);
void seg_sealed_release(struct segstore *st, struct seg_sealed *r);
/* seg_sealed_get and segio_open into plain (which may be buf), from wherever it opens. -ENOENT: has
 * to be fetched. -EBADMSG: lost. */
int seg_open_extent(struct segstore *st, struct seg *s, uint32_t i, void *buf, void *plain,
		    struct seg_sealed *out);
int seg_whole_locked(const struct seg *s); /* the file has every extent, as far as is known */
/* An extent of the file turned out to be wrong. */
void seg_mark_absent(struct segstore *st, struct seg *s, uint32_t i);
void seg_touch_locked(struct segstore *st, struct seg *s);
/* Frees space until `need` more bytes fit under the cap; 0 or -ENOSPC. Blocks on the disk. */
int seg_make_room(struct segstore *st, uint64_t need);
/* Returns bytes freed. For the last `must` also what is not on all backends goes. */
uint64_t seg_evict(struct segstore *st, uint64_t want, uint64_t must);
void seg_move_to_cache(struct segstore *st, struct seg *s);
/* Writes good sealed bytes (file layout, first .. first + count - 1) into the local file. */
void seg_cache_write(struct segstore *st, struct seg *s, uint32_t first, uint32_t count,
		     const uint8_t *p, size_t len);
int plain_init(struct plain_cache *c, uint64_t max);
void plain_release(struct plain_cache *c);

/* fetch.c */
struct xfer *xfer_find_done_locked(struct seg *s, uint32_t i); /* with a reference */
const uint8_t *xfer_sealed(const struct xfer *x, uint32_t pos);
void xfer_unref(struct segstore *st, struct xfer *x);
void seg_fetch_cancel_all(struct segstore *st);
/* As segstore_fetch, for the uploader: no reader waits for it, so it gives way to them where
 * bandwidth is limited, and says nothing about what will be read next. */
struct seg_fetch *seg_fetch_to_heal(struct segstore *st, const struct seg_miss *miss,
				    void (*done)(void *arg, int result), void *arg, int *rc);
uint32_t seg_usable_mask(struct segstore *st, int for_put);

/* fetch_order.c */
uint64_t seg_rate_down(struct segstore *st); /* bytes per second, 0: no limit */
/* The best first; suspect: bit i, backend i had lost the shard, or served wrong bytes. */
void seg_fetch_order(struct segstore *st, uint32_t suspect, uint8_t *order);
struct seg_haste {
	size_t len;       /* sealed bytes */
	int reader, heal; /* who waits for it; neither: read-ahead */
	int busy;         /* many are fetching */
	int64_t deadline; /* before the time that a limit of bandwidth adds */
};
/* Fills in extra, hedge, rescue and deadline of g, whose len is set; may change the order behind
 * the first k. */
void seg_fetch_haste(struct segstore *st, const struct seg_haste *h, uint8_t *order,
		     struct fanout_get *g);

/* seg_code.c: the shards of a segment, all of them or those in `todo`. The body is there. -ENOENT:
 * an extent has to be fetched first; -EBADMSG: one is lost. */
struct shards {
	size_t len; /* of each */
	uint8_t *p[CODE_MAX_N];
};
int shards_make(struct segstore *st, struct seg *s, uint32_t todo, struct shards *out);
void shards_release(struct shards *sh); /* also after a failure */

/* upload.c */
void seg_upload_kick(struct segstore *st);
void seg_upload_cancel_all(struct segstore *st);

/* Backends that hang while the others have answered long ago. */
void seg_upload_stragglers(struct segstore *st);

/* seg_pace.c */
int seg_pace_waits_locked(struct segstore *st,
			  int64_t now); /* 1: no healing now; later it is kicked */
void seg_pace_begin_locked(struct segstore *st, struct seg *s, uint32_t todo, int64_t now);

/* seg_facts.c */
int seg_quorum_min(const struct segstore *st);
/* failed: backends that just refused; they are not healthy, whatever their breaker says yet. */
int seg_at_quorum(const struct segstore *st, const struct seg *s, uint32_t usable, uint32_t failed);
void seg_stored_locked(struct segstore *st, struct seg *s);
uint32_t seg_missing_locked(const struct segstore *st, const struct seg *s); /* to be put */
void seg_doubt_locked(struct seg *s, uint32_t shards); /* they seem missing or wrong */
void seg_work_add_locked(struct segstore *st, struct seg *s);
void seg_push_facts(struct segstore *st, struct seg *s); /* to meta, by a job */
/* Somebody who read found shards missing or wrong. */
void seg_report_shards(struct segstore *st, struct seg *s, uint32_t missing, uint32_t bad);
int seg_work_left_locked(struct segstore *st, enum seg_level level, uint64_t seq);
int seg_work_can_move_locked(struct segstore *st, enum seg_level level, uint64_t seq,
			     uint32_t usable);
void seg_tick(void *st);

/* seg_verify.c */
void seg_verify_due(struct segstore *st, int backend);
void seg_verify_run(struct segstore *st);
void seg_verify_cancel(struct segstore *st);

#endif
