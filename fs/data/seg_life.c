/* Opening, starting and closing a segment store. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <string.h>
#include "fs/base/file.h"

#define UPLOAD_THREADS 2
#define FETCH_THREADS  2
#define PATIENCE       (60 * NS_PER_S) /* for what was cancelled */

#define MEMORY_DEFAULT (96ull << 20)

static int options_check(const struct segstore_opts *o, struct err *e)
{
	if (o->k < 1 || o->m < 0 || o->k + o->m < 2 || o->k + o->m > CODE_MAX_N)
		return err_set(e, -EINVAL, "a code of k = %d, m = %d is not possible", o->k, o->m);
	if (o->extent_max < 64 << 10 || o->extent_max > 1 << 20 ||
	    o->extent_max & (o->extent_max - 1))
		return err_set(e, -EINVAL,
			       "the maximum extent is a power of two from 64 KiB to 1 MiB, not %u",
			       o->extent_max);
	if (o->segment_size < 1 << 20 || o->segment_size > 64 << 20)
		return err_set(e, -EINVAL, "a segment has 1 to 64 MiB, not %llu bytes",
			       (unsigned long long)o->segment_size);
	return 0;
}

static struct seg_limits limits_of(uint64_t memory)
{
	uint64_t m = memory ? memory : MEMORY_DEFAULT;

	return (struct seg_limits){
		.unsynced = m / 3,
		.unsynced_go = MAX(m / 18, 1u << 20),
		.resident = m / 12,
		/* A segment of 16 MiB, coded 4 + 2, and half of the next one: its shards are made
		 * while those of the first are on their way. */
		.upload = m * 5 / 12,
		.fetch = m / 4,
		.plain = m / 12,
		.bodies = (int)MIN(MAX(m >> 20, 8u), 4096u),
	};
}

static void options_take(struct segstore *st, const struct segstore_opts *o)
{
	uint64_t append =
	    (uint64_t)SEG_PIECES_MAX * (SEG_RECORD_HEADER + shard_sealed_len(o->extent_max, o->k));

	st->meta = o->meta;
	st->keys = o->keys;
	memcpy(st->drive, o->drive, 16);
	st->k = o->k, st->m = o->m, st->n = o->k + o->m;
	st->all = st->n == 32 ? UINT32_MAX : (1u << st->n) - 1;
	st->extent_max = o->extent_max;
	st->target = o->segment_size;
	st->limit = (uint32_t)(o->segment_size + o->segment_size / 8);
	st->region_len = SEG_FILE_HEADER + MAX(st->limit, append) + SEG_INDEX_ROOM;
	st->compress = o->compress;
	st->quorum = o->quorum;
	memcpy(st->backends, o->backends, (size_t)st->n * sizeof(st->backends[0]));
	st->cap_set = o->cache_cap;
	st->cap = o->cache_cap - o->cache_cap / SEG_CAP_MARGIN;
	st->bandwidth = o->bandwidth;
	fanout_budget_init(&st->budget, SEG_QUEUE_LONG);
	st->pace.rate = o->heal_rate;
	st->max = limits_of(o->memory);
	st->timeout = o->timeout ? o->timeout : 30 * NS_PER_S;
	st->flush_age = o->flush_age ? o->flush_age : 30 * NS_PER_S;
	st->flush_idle = o->flush_idle ? o->flush_idle : 5 * NS_PER_S;
	st->commit = o->commit;
	st->commit_arg = o->commit_arg;
	list_init(&st->opens);
	list_init(&st->rows);
	list_init(&st->rows_written);
	list_init(&st->work);
	list_init(&st->lru);
	list_init(&st->bodies);
	list_init(&st->regions);
	list_init(&st->dead);
	list_init(&st->room);
	list_init(&st->commits);
	list_init(&st->commits_running);
	list_init(&st->running_uploads);
	list_init(&st->running_xfers);
	list_init(&st->queued_xfers);
	list_init(&st->waiting_xfers);
	list_init(&st->heal_xfers);
}

static void free_one(struct hash_node *n, void *arg)
{
	struct seg *s = container_of(n, struct seg, node);

	hash_remove(&((struct segstore *)arg)->segs, n);
	seg_free(arg, s);
}

static void store_free(struct segstore *st)
{
	workq_destroy(st->uploadq);
	workq_destroy(st->fetchq);
	if (st->segs.slots)
		hash_each(&st->segs, free_one, st);
	if (st->spare) {
		seg_open_free_locked(st, st->spare);
		seg_free(st, st->spare);
	}
	seg_regions_free(st);
	hash_release(&st->segs);
	code_destroy(st->code);
	plain_release(&st->plain);
	pthread_cond_destroy(&st->changed);
	pthread_cond_destroy(&st->flush_cv);
	pthread_mutex_destroy(&st->lock);
	free(st->staging_dir);
	free(st->cache_dir);
	free(st);
}

int segstore_open(const struct segstore_opts *o, struct segstore **out, struct err *e)
{
	*out = NULL;
	int rc = options_check(o, e);
	if (rc)
		return rc;
	struct segstore *st = calloc(1, sizeof(*st));
	if (!st || pthread_mutex_init(&st->lock, NULL) || cond_init_mono(&st->changed) ||
	    cond_init_mono(&st->flush_cv) || plain_init(&st->plain, limits_of(o->memory).plain)) {
		free(st);
		return err_set(e, -ENOMEM, "out of memory");
	}
	options_take(st, o);
	st->staging_dir = str_printf("%s", o->staging_dir);
	st->cache_dir = str_printf("%s", o->cache_dir);
	st->uploadq = workq_create("seg-upload", UPLOAD_THREADS);
	st->fetchq = workq_create("seg-fetch", FETCH_THREADS);
	rc = code_create(st->k, st->m, &st->code);
	if (!rc && (!st->staging_dir || !st->cache_dir || !st->uploadq || !st->fetchq ||
		    hash_init(&st->segs, 1024)))
		rc = -ENOMEM;
	if (rc)
		err_set(e, rc, "the segment store cannot be set up: %s", strerror(-rc));
	if (!rc)
		rc = seg_recover(st, e);
	if (!rc) {
		rc = seg_flusher_start(st);
		if (rc)
			err_set(e, rc, "no thread for writing to disk: %s", strerror(-rc));
	}
	if (rc) {
		store_free(st);
		return rc;
	}
	*out = st;
	return 0;
}

void segstore_start(struct segstore *st)
{
	pthread_mutex_lock(&st->lock);
	st->started = 1;
	pthread_mutex_unlock(&st->lock);
	/* Once per mount: is all still where it was put? */
	for (int i = 0; i < st->n; i++)
		seg_verify_due(st, i);
	seg_tick(st);
}

/* What is under way, but for what the flusher does. */
static int busy_locked(const struct segstore *st)
{
	return st->uploads || st->jobs || st->commit_running || !list_empty(&st->commits) ||
	       !list_empty(&st->running_xfers) || !list_empty(&st->queued_xfers) ||
	       !list_empty(&st->waiting_xfers) || !list_empty(&st->heal_xfers) || st->verifying;
}

/* Commits that nobody will make any more. */
static void commits_abandon(struct segstore *st)
{
	struct list left;

	list_init(&left);
	pthread_mutex_lock(&st->lock);
	list_splice_back(&left, &st->commits);
	st->commit_wanted = 0;
	pthread_mutex_unlock(&st->lock);
	list_for_each_safe (l, &left) {
		struct commit_wait *w = list_entry(l, struct commit_wait, link);
		list_remove(l);
		w->fn(w->arg, -ECANCELED); /* w may be gone */
	}
}

void segstore_close(struct segstore *st, int64_t deadline)
{
	if (!st)
		return;
	pthread_mutex_lock(&st->lock);
	st->stopping = 1;
	seg_close_all_locked(st);
	while (busy_locked(st) && clock_mono_ns() < deadline)
		cond_wait_until(&st->changed, &st->lock,
				MIN(deadline, clock_mono_ns() + 100 * NS_PER_MS));
	int64_t give_up = MAX(deadline, clock_mono_ns()) + PATIENCE;
	while (busy_locked(st) && clock_mono_ns() < give_up) {
		pthread_mutex_unlock(&st->lock);
		seg_fetch_cancel_all(st);
		seg_upload_cancel_all(st);
		seg_verify_cancel(st);
		commits_abandon(st);
		pthread_mutex_lock(&st->lock);
		if (busy_locked(st))
			cond_wait_until(&st->changed, &st->lock, clock_mono_ns() + 50 * NS_PER_MS);
	}
	int stuck = busy_locked(st);
	pthread_mutex_unlock(&st->lock);
	seg_flusher_stop(st);
	int rc = segstore_sync(st);
	if (rc)
		log_error("the last sync of staging failed: %s", strerror(-rc));
	if (stuck) { /* somebody may still call back, so nothing is freed */
		log_error("requests to backends did not end although they were cancelled");
		return;
	}
	store_free(st);
}
