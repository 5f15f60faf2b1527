#include "fs/drive/drive.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "crypto/key.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/drive/each.h"
#include "fs/drive/guard.h"
#include "fs/drive/keys.h"
#include "fs/drive/unlock.h"
#include "fs/meta/meta.h"

#define UNLOCK_TIMEOUT (10 * NS_PER_S)
#define CARE_INTERVAL  (10 * NS_PER_S)
#define VERIFY_TIMEOUT (10 * NS_PER_S)
#define FLUSH_AGE      (30 * NS_PER_S)
#define FLUSH_IDLE     (5 * NS_PER_S)
/* The program, its libraries, threads and what is too small to be counted. */
#define MEMORY_BASE     (32ull << 20)
#define INODE_BYTES     600 /* one in memory, with its places in tables */
#define ROW_BYTES       40
#define FILE_IN_FLIGHT  8
#define CLOUD_IN_FLIGHT 16
/* What statfs says where no backend tells its size (object stores). */
#define SPACE_UNKNOWN (1ull << 50)

/* Who may use how much; in bytes, but for inodes and rows. Measured by tests/system/test_memory. */
struct shares {
	uint64_t segments, dirty, unsynced, pages, buffers, kernel;
	uint32_t inodes, rows;
};

struct drive {
	struct shares shares;
	const struct paths *paths;
	const struct config *config;
	uint64_t cache_size;
	struct keyring *keys;
	struct manifest manifest;
	struct meta *meta;
	struct backend *backends[DRIVE_MAX_BACKENDS];
	struct backend *bare[DRIVE_MAX_BACKENDS]; /* below the layers, owned by them */
	struct backend_stack_handles handles[DRIVE_MAX_BACKENDS];
	struct bandwidth *bandwidth; /* of all of them */
	struct volume *volume;
	struct segstore *segstore;
	struct segstore *wake; /* atomic: what on_change may call; NULL before and after */
	/* The care thread: space of the backends for statfs, markers, a pending header generation.
	 */
	pthread_t care;
	int care_runs;
	int read_only;
	uint32_t verified;    /* atomic; bit i: what the marker of backend i says is known */
	pthread_mutex_t lock; /* guards stop */
	pthread_cond_t wakeup;
	int stop; /* and atomic, for the backends: whoever waits for one comes back at once */
};

uint64_t drive_default_cache(const char *folder)
{
	struct statvfs sv;
	uint64_t tenth = UINT64_MAX;

	if (!statvfs(folder, &sv))
		tenth = (uint64_t)sv.f_blocks * sv.f_frsize / 10;
	return MAX(MIN(tenth, 10ull << 30), DRIVE_CACHE_MIN);
}

/* Dirty bytes may for a moment be twice what they should: they count twice. */
static struct shares shares_of(uint64_t memory)
{
	uint64_t percent =
	    (MAX(memory ? memory : DRIVE_MEMORY, (uint64_t)DRIVE_MEMORY_MIN) - MEMORY_BASE) / 100;

	return (struct shares){
		.segments = 48 * percent,
		.unsynced = 48 * percent / 4, /* a part of those */
		.dirty = 7 * percent,
		.pages = 6 * percent,
		.buffers = 6 * percent,
		/* What the kernel may send at once arrives at once: WRITEs are taken before their
		 * answer is delayed. */
		.kernel = 24 * percent,
		.inodes = (uint32_t)MIN(12 * percent / INODE_BYTES, UINT32_MAX),
		.rows = (uint32_t)MIN(5 * percent / ROW_BYTES, UINT32_MAX),
	};
}

/* ---- backends ---- */

/* The health layer has said it already. */
static void on_change(void *arg, struct backend *health)
{
	struct drive *d = arg;
	struct segstore *st = __atomic_load_n(&d->wake, __ATOMIC_ACQUIRE);

	if (st)
		segstore_backend_changed(st);
}

static int check_bandwidth(uint64_t up, uint64_t down, struct err *e)
{
	if ((up && up < DRIVE_BANDWIDTH_MIN) || (down && down < DRIVE_BANDWIDTH_MIN))
		return err_set(
		    e, -ERANGE,
		    "a limit of bandwidth is %uK bytes per second or more, or 0 for none",
		    DRIVE_BANDWIDTH_MIN >> 10);
	return 0;
}

static int open_backends(struct drive *d, const struct drive_opts *o, struct err *e)
{
	struct backend *bare[DRIVE_MAX_BACKENDS];
	int rc;

	d->bandwidth = bandwidth_create(o->bandwidth_up, o->bandwidth_down);
	if (!d->bandwidth)
		return err_set(e, -ENOMEM, "out of memory");
	rc = backends_open_guarded(d->paths, d->config, o->timeout, &d->stop, bare, e);
	if (rc)
		return rc;
	for (int i = 0; i < d->config->n; i++) {
		int local = !strcmp(d->config->backends[i].parsed.scheme, "file");
		struct backend_stack_opts so = {
			.in_flight = local ? FILE_IN_FLIGHT : CLOUD_IN_FLIGHT,
			.bw = d->bandwidth,
			.on_change = on_change,
			.arg = d,
		};

		d->bare[i] = bare[i];
		d->backends[i] = backend_stack(bare[i], &so, &d->handles[i]);
		bare[i] = NULL;
		if (!d->backends[i]) {
			backends_close(bare, d->config->n);
			return err_set(e, -ENOMEM, "out of memory or threads");
		}
	}
	return 0;
}

/* ---- care ---- */

/* Folders on the same disk share its space: those that tell the same numbers are taken for one
 * disk. A drive is full when its tightest backend is. */
static void poll_space(struct drive *d)
{
	uint64_t total[DRIVE_MAX_BACKENDS], avail[DRIVE_MAX_BACKENDS];
	uint64_t most = UINT64_MAX, left = UINT64_MAX;
	int known[DRIVE_MAX_BACKENDS], n = d->config->n;

	for (int i = 0; i < n; i++)
		known[i] = !backend_space(d->backends[i], &total[i], &avail[i]);
	for (int i = 0; i < n; i++) {
		uint64_t sharers = 0;

		if (!known[i])
			continue;
		for (int j = 0; j < n; j++)
			sharers += known[j] && total[j] == total[i] &&
				   (avail[j] > avail[i] ? avail[j] - avail[i]
							: avail[i] - avail[j]) < total[i] / 1024;
		most = MIN(most, total[i] / sharers);
		left = MIN(left, avail[i] / sharers);
	}
	if (most == UINT64_MAX)
		volume_set_space(d->volume, SPACE_UNKNOWN, SPACE_UNKNOWN);
	else
		volume_set_space(d->volume, most * (uint64_t)d->config->k,
				 left * (uint64_t)d->config->k);
}

static void verify_one(void *arg, int i)
{
	struct drive *d = arg;

	/* A shut breaker knows better than to ask: it probes by itself. But not when it is the
	 * guard that answers. */
	if (__atomic_load_n(&d->verified, __ATOMIC_RELAXED) >> i & 1 ||
	    (!health_usable(d->backends[i], 0) && !guard_foreign(d->bare[i])))
		return;
	int foreign = guard_foreign(d->bare[i]);
	if (!guard_verify(d->bare[i], !d->read_only, VERIFY_TIMEOUT))
		return;
	if (foreign)
		health_retry(d->handles[i].health);
	__atomic_or_fetch(&d->verified, 1u << i, __ATOMIC_RELAXED);
}

/* Folders look at their marker with every request; clouds are asked once, behind the mount. Until
 * then nothing can be spoiled there: keys are random, and headers are written only if absent. */
static void care_markers(struct drive *d)
{
	if (__builtin_popcount(__atomic_load_n(&d->verified, __ATOMIC_RELAXED)) < d->config->n)
		each_backend(d->config->n, verify_one, d);
}

static void care_header(struct drive *d, int first)
{
	struct err e = { 0 };
	int rc = keys_finish_pending(d->paths, d->backends, d->config->n, &e);

	if (!rc && first) {
		rc = unlock_refresh(d->paths, d->backends, d->config->n, UNLOCK_TIMEOUT, d->keys,
				    &e);
		if (rc > 0)
			log_info("a newer header was found on the backends and kept here");
	}
	if (rc < 0)
		log_warn("%s", err_text(&e, rc));
}

static void *care_main(void *arg)
{
	struct drive *d = arg;
	int first = 1;

	pthread_setname_np(pthread_self(), "care");
	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		pthread_mutex_unlock(&d->lock);
		poll_space(d);
		malloc_trim(0); /* what an hour of load left in pieces */
		care_markers(d);
		care_header(d, first);
		first = 0;
		pthread_mutex_lock(&d->lock);
		if (!d->stop)
			cond_wait_until(&d->wakeup, &d->lock, clock_mono_ns() + CARE_INTERVAL);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static int care_start(struct drive *d, struct err *e)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = -pthread_create(&d->care, NULL, care_main, d);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return err_set(e, rc, "cannot start a thread: %s", strerror(-rc));
	d->care_runs = 1;
	return 0;
}

static void care_stop(struct drive *d)
{
	if (!d->care_runs)
		return;
	pthread_mutex_lock(&d->lock);
	__atomic_store_n(&d->stop, 1, __ATOMIC_RELAXED);
	pthread_cond_signal(&d->wakeup);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->care, NULL);
	d->care_runs = 0;
}

/* ---- putting together ---- */

static int take_keys(struct drive *d, const struct secret *secret, struct err *e)
{
	struct header_unlocked u;
	int rc = unlock_drive(d->paths, d->config, secret, UNLOCK_TIMEOUT, &u, e);

	if (rc)
		return rc;
	d->keys = u.keys;
	u.keys = NULL;
	d->manifest = u.manifest;
	u.manifest = (struct manifest){ 0 };
	header_unlocked_release(&u);
	return 0;
}

static int open_volume(struct drive *d, const struct drive_opts *o, struct err *e)
{
	struct volume_opts vo = {
		.meta = d->meta,
		.extent_max = d->manifest.extent_max,
		.quota = d->config->quota,
		.read_only = o->read_only,
		.commit_interval = o->commit_interval,
		.dirty_max = d->shares.dirty,
		.inode_cache = d->shares.inodes,
		.row_cache = d->shares.rows,
		.unsynced_max = d->shares.unsynced,
		.fsync_cloud = o->fsync_cloud,
		.fsync_timeout = o->fsync_timeout,
	};

	return volume_create(&vo, &d->volume, e);
}

static int open_segstore(struct drive *d, const struct drive_opts *o, struct err *e)
{
	struct segstore_opts so = {
		.staging_dir = d->paths->staging,
		.cache_dir = d->paths->cache,
		.meta = d->meta,
		.keys = d->keys,
		.drive = d->manifest.drive,
		.k = d->config->k,
		.m = d->config->m,
		.extent_max = d->manifest.extent_max,
		.segment_size = d->manifest.segment_size,
		.compress = d->config->compress,
		.backends = d->backends,
		.bandwidth = d->bandwidth,
		.cache_cap = d->cache_size,
		.memory = d->shares.segments,
		.quorum = o->quorum,
		.heal_rate = o->heal_rate,
		.timeout = o->timeout,
		.flush_age = FLUSH_AGE,
		.flush_idle = FLUSH_IDLE,
		.commit = volume_commit_rows,
		.commit_arg = d->volume,
	};

	return segstore_open(&so, &d->segstore, e);
}

int drive_open(const struct drive_opts *o, const struct secret *secret, struct drive **out,
	       struct err *e)
{
	struct drive *d = calloc(1, sizeof(*d));
	int rc;

	*out = NULL;
	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->paths = o->paths;
	d->config = o->config;
	d->read_only = o->read_only;
	d->shares = shares_of(o->memory);
	pthread_mutex_init(&d->lock, NULL);
	cond_init_mono(&d->wakeup);
	rc = check_bandwidth(o->bandwidth_up, o->bandwidth_down, e);
	if (!rc)
		rc = paths_make(d->paths, e);
	if (!rc)
		rc = take_keys(d, secret, e);
	if (!rc) {
		struct meta_opts mo = { .drive = d->manifest.drive, .cache = d->shares.pages };

		d->cache_size =
		    o->cache_size ? o->cache_size : drive_default_cache(d->paths->staging);
		rc = meta_open(d->paths->database, &mo, &d->meta, e);
	}
	if (!rc)
		rc = open_backends(d, o, e);
	if (!rc)
		rc = open_volume(d, o, e);
	if (!rc)
		rc = open_segstore(d, o, e);
	if (!rc)
		rc = volume_start(d->volume, d->segstore, e);
	if (!rc) {
		segstore_start(d->segstore);
		__atomic_store_n(&d->wake, d->segstore, __ATOMIC_RELEASE);
		rc = care_start(d, e);
	}
	if (rc) {
		drive_close(d, clock_mono_ns());
		return rc;
	}
	*out = d;
	return 0;
}

int drive_close(struct drive *d, int64_t deadline)
{
	int rc = 0, r;

	if (!d)
		return 0;
	care_stop(d);
	if (d->segstore && d->volume)
		rc = volume_stop(d->volume);
	__atomic_store_n(&d->wake, NULL, __ATOMIC_RELEASE);
	if (d->segstore)
		segstore_close(d->segstore, deadline);
	if (d->volume) {
		volume_store_closed(d->volume);
		volume_destroy(d->volume);
	}
	backends_close(d->backends, d->config->n);
	bandwidth_destroy(d->bandwidth);
	if (d->meta) {
		r = meta_close(d->meta);
		if (!rc)
			rc = r;
	}
	manifest_release(&d->manifest);
	keyring_destroy(d->keys);
	pthread_cond_destroy(&d->wakeup);
	pthread_mutex_destroy(&d->lock);
	free(d);
	return rc;
}

/* ---- using ---- */

struct volume *drive_volume(struct drive *d)
{
	return d->volume;
}

struct segstore *drive_segstore(struct drive *d)
{
	return d->segstore;
}

const struct config *drive_config(const struct drive *d)
{
	return d->config;
}

const struct paths *drive_paths(const struct drive *d)
{
	return d->paths;
}

uint64_t drive_cache_size(const struct drive *d)
{
	return d->cache_size;
}

uint64_t drive_read_buffers(const struct drive *d)
{
	return d->shares.buffers;
}

uint64_t drive_kernel_dirty(const struct drive *d)
{
	/* It has to fit into the reserve above 95 % of the cap as well. */
	return MIN(MAX(d->cache_size / 20, 2ull << 20), d->shares.kernel);
}

uint64_t drive_generation(const struct drive *d)
{
	return d->manifest.generation;
}

void drive_health(struct drive *d, int backend, struct health_info *out)
{
	health_get(d->handles[backend].health, out);
}

void drive_words(struct drive *d, int backend, char *out, size_t size)
{
	guard_words(d->bare[backend], out, size);
}

void drive_stats(struct drive *d, int backend, struct backend_stats *out)
{
	layer_stats_get(d->handles[backend].stats, out);
}

int drive_set_bandwidth(struct drive *d, uint64_t up, uint64_t down, struct err *e)
{
	int rc = check_bandwidth(up, down, e);

	if (!rc)
		bandwidth_set(d->bandwidth, up, down);
	return rc;
}

void drive_bandwidth(struct drive *d, uint64_t *up, uint64_t *down)
{
	*up = bandwidth_rate(d->bandwidth, BANDWIDTH_UP);
	*down = bandwidth_rate(d->bandwidth, BANDWIDTH_DOWN);
}

/* A commit that outlives a cancelled wait still has somewhere to report to. */
struct flush {
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t cond;
	int refs, ended, result;
};

static void flush_unref(struct flush *f)
{
	int left;

	pthread_mutex_lock(&f->lock);
	left = --f->refs;
	pthread_mutex_unlock(&f->lock);
	if (left)
		return;
	pthread_cond_destroy(&f->cond);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static void flush_done(void *arg, int result)
{
	struct flush *f = arg;

	pthread_mutex_lock(&f->lock);
	f->ended = 1;
	f->result = result;
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->lock);
	flush_unref(f);
}

static int ticked(int64_t deadline, int (*tick)(void *arg), void *arg)
{
	if (tick && tick(arg))
		return -ECANCELED;
	return deadline && clock_mono_ns() >= deadline ? -ETIMEDOUT : 0;
}

/* Seals, syncs and commits everything that was written before. */
static int commit_all(struct drive *d, int64_t deadline, int (*tick)(void *arg), void *arg)
{
	struct flush *f = calloc(1, sizeof(*f));
	int rc = 0;

	if (!f)
		return -ENOMEM;
	pthread_mutex_init(&f->lock, NULL);
	cond_init_mono(&f->cond);
	f->refs = 2;
	volume_commit_async(d->volume, flush_done, f);
	pthread_mutex_lock(&f->lock);
	while (!f->ended && !rc) {
		cond_wait_until(&f->cond, &f->lock, clock_mono_ns() + NS_PER_S / 2);
		if (f->ended)
			break;
		pthread_mutex_unlock(&f->lock);
		rc = ticked(deadline, tick, arg);
		pthread_mutex_lock(&f->lock);
	}
	if (f->ended)
		rc = f->result;
	pthread_mutex_unlock(&f->lock);
	flush_unref(f);
	return rc;
}

int drive_flush(struct drive *d, enum seg_level level, int64_t deadline, int (*tick)(void *arg),
		void *arg)
{
	int rc = commit_all(d, deadline, tick, arg);

	/* Whoever waits may know that the network is back: not in up to 30 s, now. */
	for (int i = 0; level > SEG_STAGED && i < d->config->n; i++)
		health_retry(d->handles[i].health);
	if (!rc && level > SEG_STAGED) {
		segstore_flush(d->segstore);
		rc = commit_all(d, deadline, tick, arg);
	}
	if (!rc && level > SEG_STAGED)
		rc = segstore_wait_ticking(d->segstore, level, deadline, tick, arg);
	return rc;
}
