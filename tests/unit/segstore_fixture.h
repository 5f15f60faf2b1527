/* A segment store on memory backends with faults, a real database and real folders. A commit cycle
 * is done by whoever asks for it. */
#ifndef TESTS_UNIT_SEGSTORE_FIXTURE_H
#define TESTS_UNIT_SEGSTORE_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/health.h"
#include "backends/layers.h"
#include "backends/mem.h"
#include "crypto/secmem.h"
#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/data/segstore.h"
#include "fs/meta/run.h"
#include "fs/meta/segment.h"

#define N_MAX  8
#define PIECES 20000

struct piece {              /* one extent that was appended */
	struct seg_loc loc; /* loc.first is its own number */
	uint32_t len;
	uint64_t seed;
	int has_run;
};

struct rig {
	char dir[64];
	int k, m, n;
	uint32_t extent_max;
	uint64_t segment_size, cap;
	int compress, quorum;
	uint64_t heal_rate;
	int64_t flush_age, flush_idle, timeout;
	struct mem_store *store[N_MAX]; /* survive a reopening */
	struct fault_rule rule[N_MAX][2];
	struct backend *fault[N_MAX], *health[N_MAX];
	struct bandwidth *bandwidth;
	uint64_t memory;
	struct keyring *keys;
	uint8_t drive[16];
	struct meta *meta;
	struct segstore *st;
	pthread_mutex_t lock; /* guards what follows */
	struct piece *pieces;
	int npieces;
	int commits;
	atomic_int no_commit; /* an error for every commit */
	atomic_int ready;     /* st is valid for callbacks */
};

static inline void fill(uint8_t *p, size_t n, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
	for (size_t i = 0; i < n; i++) {
		if (i % 8 == 0)
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[i] = seed % 5 == 4 ? (uint8_t)(i / 512) : (uint8_t)(x >> (i % 8 * 8));
	}
}

static inline int rm_one(const char *path, const struct stat *sb, int flag, struct FTW *f)
{
	(void)sb, (void)flag, (void)f;
	return remove(path);
}
static inline void rm_tree(const char *dir)
{
	nftw(dir, rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline const char *rig_path(const struct rig *r, const char *name)
{
	static __thread char buf[4][256];
	static __thread int i;
	char *b = buf[i++ % 4];
	snprintf(b, 256, "%s/%s", r->dir, name);
	return b;
}

/* sync, rows, runs of what was appended, COMMIT, WAL sync: as the volume does. */
static inline int rig_commit(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	int n = r->npieces;
	int rc = atomic_load(&r->no_commit);
	if (!rc)
		rc = segstore_sync(r->st);
	if (!rc) {
		meta_lock(r->meta);
		rc = segstore_write_rows(r->st);
		for (int i = 0; !rc && i < n; i++) {
			struct piece *p = &r->pieces[i];
			struct run run = { .off = (uint64_t)i << 20,
					   .len = p->len,
					   .seg = p->loc.seg,
					   .first = p->loc.first };
			if (!p->has_run)
				rc = run_insert(r->meta, 1000, &run, 0);
			p->has_run += !p->has_run && !rc ? 1 : 0;
		}
		if (!rc)
			rc = meta_commit(r->meta);
		meta_unlock(r->meta);
		if (!rc)
			rc = meta_wal_sync(r->meta);
		for (int i = 0; !rc && i < n; i++)
			if (r->pieces[i].has_run == 1) {
				r->pieces[i].has_run = 2;
				segstore_unref(r->st, r->pieces[i].loc.seg);
			}
	}
	r->commits++;
	pthread_mutex_unlock(&r->lock);
	if (!rc)
		segstore_committed(r->st);
	return rc;
}

static inline void rig_commit_cb(void *arg, void (*done)(void *, int), void *done_arg)
{
	struct rig *r = arg;
	while (!atomic_load(&r->ready))
		usleep(1000);
	done(done_arg, rig_commit(r));
}

static inline void rig_changed(void *arg, struct backend *b)
{
	struct rig *r = arg;
	(void)b;
	if (atomic_load(&r->ready))
		segstore_backend_changed(r->st);
}

static inline struct segstore_opts rig_opts(struct rig *r)
{
	return (struct segstore_opts){ .staging_dir = rig_path(r, "staging"),
				       .cache_dir = rig_path(r, "cache"),
				       .meta = r->meta,
				       .keys = r->keys,
				       .drive = r->drive,
				       .k = r->k,
				       .m = r->m,
				       .extent_max = r->extent_max,
				       .segment_size = r->segment_size,
				       .compress = r->compress,
				       .backends = r->health,
				       .bandwidth = r->bandwidth,
				       .memory = r->memory,
				       .cache_cap = r->cap,
				       .quorum = r->quorum,
				       .heal_rate = r->heal_rate,
				       .timeout = r->timeout,
				       .flush_age = r->flush_age,
				       .flush_idle = r->flush_idle,
				       .commit = rig_commit_cb,
				       .commit_arg = r };
}

/* Opens database and store on what is there. */
/* What segstore_open says; all is closed again when it is an error. */
static inline int rig_try_up(struct rig *r, int create, struct err *e)
{
	struct meta_opts mo = { .drive = r->drive, .create = create, .root_mode = 0755 };

	int rc = meta_open(rig_path(r, "drive.db"), &mo, &r->meta, e);
	ck_assert_msg(!rc, "meta_open: %s", err_text(e, rc));
	for (int i = 0; i < r->n; i++) {
		struct backend *b = mem_open(r->store[i], 1, 0);
		r->fault[i] = layer_fault(b, NULL, 0);
		b = r->bandwidth ? layer_limit(r->fault[i], 0, r->bandwidth) : r->fault[i];
		r->health[i] = layer_health(b, rig_changed, r);
		ck_assert_ptr_nonnull(r->health[i]);
		snprintf(r->health[i]->name, sizeof(r->health[i]->name), "cloud%d", i);
	}
	struct segstore_opts o = rig_opts(r);
	rc = segstore_open(&o, &r->st, e);
	if (!rc) {
		atomic_store(&r->ready, 1);
		return 0;
	}
	for (int i = 0; i < r->n; i++)
		backend_destroy(r->health[i]);
	ck_assert_int_eq(meta_close(r->meta), 0);
	r->st = NULL, r->meta = NULL;
	return rc;
}

static inline void rig_up(struct rig *r, int create)
{
	struct err e = { 0 };

	int rc = rig_try_up(r, create, &e);
	ck_assert_msg(!rc, "segstore_open: %s", err_text(&e, rc));
}

static inline void rig_start(struct rig *r)
{
	segstore_start(r->st);
}

static inline void rig_down(struct rig *r)
{
	segstore_close(r->st, clock_mono_ns() + NS_PER_S / 5);
	atomic_store(&r->ready, 0);
	for (int i = 0; i < r->n; i++)
		backend_destroy(r->health[i]);
	ck_assert_int_eq(meta_close(r->meta), 0);
	r->st = NULL, r->meta = NULL;
}

static inline void rig_init(struct rig *r, int k, int m)
{
	*r = (struct rig){ .k = k,
			   .m = m,
			   .n = k + m,
			   .extent_max = 128 << 10,
			   .segment_size = 1 << 20,
			   .cap = 1ull << 30,
			   .flush_age = 60 * NS_PER_S,
			   .flush_idle = 60 * NS_PER_S,
			   .timeout = 5 * NS_PER_S };
	snprintf(r->dir, sizeof(r->dir), "/tmp/check_segstore.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(r->dir));
	mkdir(rig_path(r, "staging"), 0700);
	mkdir(rig_path(r, "cache"), 0700);
	pthread_mutex_init(&r->lock, NULL);
	memset(r->drive, 0xd7, 16);
	r->keys = keyring_create(r->drive);
	for (int i = 0; i < r->n; i++)
		r->store[i] = mem_store_create();
	r->pieces = calloc(PIECES, sizeof(*r->pieces));
}

static inline void rig_release(struct rig *r)
{
	if (r->st)
		rig_down(r);
	for (int i = 0; i < r->n; i++)
		mem_store_destroy(r->store[i]);
	keyring_destroy(r->keys);
	free(r->pieces);
	rm_tree(r->dir);
}

/* Appends one extent; the rig remembers it. Returns the result. */
static inline int rig_append(struct rig *r, uint32_t len, uint64_t seed)
{
	uint8_t *p = malloc(len);
	struct seg_loc loc;

	fill(p, len, seed);
	struct seg_piece piece = { .data = p, .len = len, .ino = 1000, .off = seed };
	int rc = segstore_append(r->st, NULL, &piece, 1, &loc);
	free(p);
	if (rc)
		return rc;
	pthread_mutex_lock(&r->lock);
	r->pieces[r->npieces++] = (struct piece){ .loc = loc, .len = len, .seed = seed };
	pthread_mutex_unlock(&r->lock);
	return 0;
}

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int done, result;
};
static inline void waiter_done(void *arg, int result)
{
	struct waiter *w = arg;
	pthread_mutex_lock(&w->lock);
	w->done++, w->result = result;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static inline int waiter_ended(struct waiter *w)
{
	SCOPE_LOCK(&w->lock);
	return w->done;
}

/* Reads, fetching what is not here. 0, or the error. */
static inline int rig_read(struct rig *r, uint32_t seg, uint32_t first, uint64_t skip, void *dst,
			   size_t len)
{
	for (int tries = 0; tries < 20; tries++) {
		struct seg_miss miss;
		struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER };
		int rc = segstore_read(r->st, seg, first, skip, dst, len, &miss);
		if (rc != -EAGAIN)
			return rc;
		cond_init_mono(&w.cond);
		struct seg_fetch *f = segstore_fetch(r->st, &miss, waiter_done, &w, &rc);
		if (!f)
			return rc;
		pthread_mutex_lock(&w.lock);
		while (!w.done)
			pthread_cond_wait(&w.cond, &w.lock);
		pthread_mutex_unlock(&w.lock);
		rc = w.result;
		if (!rc) {
			struct seg_miss again;
			rc = segstore_read(r->st, seg, first, skip, dst, len, &again);
		}
		segstore_fetch_release(r->st, f);
		/* Here when the fetch was planned, evicted since: segstore.h allows that. */
		if (rc != -EAGAIN)
			return rc;
	}
	return -EAGAIN;
}

/* 0 when the piece reads back right, else the error; other bytes fail the test. */
static inline int rig_check(struct rig *r, int i)
{
	struct piece p = r->pieces[i];
	uint8_t *want = malloc(p.len), *got = malloc(p.len);

	fill(want, p.len, p.seed);
	memset(got, 0xee, p.len);
	int rc = rig_read(r, p.loc.seg, p.loc.first, 0, got, p.len);
	if (!rc)
		ck_assert_msg(!memcmp(want, got, p.len), "piece %d reads other bytes", i);
	free(want);
	free(got);
	return rc;
}

static inline void rig_check_all(struct rig *r)
{
	for (int i = 0; i < r->npieces; i++) {
		int rc = rig_check(r, i);
		ck_assert_msg(!rc, "piece %d (segment %u extent %u): %s", i, r->pieces[i].loc.seg,
			      r->pieces[i].loc.first, strerror(-rc));
	}
}

static inline void rig_sync_all(struct rig *r, enum seg_level level)
{
	segstore_flush(r->st);
	ck_assert_int_eq(rig_commit(r), 0);
	int rc = segstore_wait(r->st, level, clock_mono_ns() + 20 * NS_PER_S);
	ck_assert_msg(!rc, "wait: %s", strerror(-rc));
}

static inline void rig_fault(struct rig *r, int i, enum fault_action action, int result)
{
	r->rule[i][0] =
	    (struct fault_rule){ .op = -1, .prefix = "", .action = action, .result = result };
	layer_fault_set(r->fault[i], r->rule[i], 1);
}
static inline void rig_no_fault(struct rig *r, int i)
{
	layer_fault_set(r->fault[i], NULL, 0);
}

static inline void rig_wipe_cache(struct rig *r)
{
	rm_tree(rig_path(r, "cache"));
	mkdir(rig_path(r, "cache"), 0700);
}

#define WAIT_FOR(cond)                                                                             \
	do {                                                                                       \
		int64_t until_ = clock_mono_ns() + 20 * NS_PER_S;                                  \
		int ok_;                                                                           \
		while (!(ok_ = (cond)) && clock_mono_ns() < until_)                                \
			usleep(2000);                                                              \
		ck_assert_msg(ok_, "waited 20 s for: %s", #cond);                                  \
	} while (0)

static inline int files_in(const char *dir, const char *suffix)
{
	int n = 0;
	DIR *d = opendir(dir);
	struct dirent *e;
	while (d && (e = readdir(d))) {
		size_t l = strlen(e->d_name), s = strlen(suffix);
		n += l >= s && !strcmp(e->d_name + l - s, suffix);
	}
	if (d)
		closedir(d);
	return n;
}

static inline int rig_files(struct rig *r)
{
	return files_in(rig_path(r, "staging"), ".seg") + files_in(rig_path(r, "cache"), ".seg");
}

#endif
