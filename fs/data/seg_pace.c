/* Who heals gives way. A backend that comes back after a week, or empty, has thousands of shards to
 * get: they go one segment at a time (upload.c), at most so many bytes per second, and behind
 * readers that wait for the same backends. Content that is not at quorum yet is never held back. */
#include "fs/data/seg_internal.h"

#define YIELD_MAX  (250 * NS_PER_MS) /* a reader that never stops must not stop healing */
#define YIELD_LOOK (20 * NS_PER_MS)
#define ASK_BYTES  (64u << 10) /* what a request costs at least, however small its object */

static void wake(void *arg)
{
	struct segstore *st = arg;

	pthread_mutex_lock(&st->lock);
	st->pace.waking = 0;
	pthread_mutex_unlock(&st->lock);
	seg_upload_kick(st);
}

static void wake_at_locked(struct segstore *st, int64_t at)
{
	/* Delayed jobs run at once when the pool ends: not in a circle. */
	if (st->pace.waking || st->stopping)
		return;
	st->pace.waking = 1;
	workq_submit_at(st->uploadq, at, wake, st);
}

int seg_pace_waits_locked(struct segstore *st, int64_t now)
{
	if (!st->pace.rate || st->pace.hurry)
		return 0;
	if (now < st->pace.at) {
		wake_at_locked(st, st->pace.at);
		return 1;
	}
	if (st->fg_running && now < st->pace.at + YIELD_MAX) {
		wake_at_locked(st, now + YIELD_LOOK);
		return 1;
	}
	return 0;
}

void seg_pace_begin_locked(struct segstore *st, struct seg *s, uint32_t todo, int64_t now)
{
	uint64_t requests = (uint64_t)__builtin_popcount(todo), bytes = requests * s->shard_len;

	if (!st->pace.rate)
		return;
	if (!seg_whole_locked(s)) { /* it is fetched first */
		requests += s->k;
		bytes += s->length;
	}
	bytes = MAX(bytes, requests * ASK_BYTES);
	st->pace.at = MAX(now, st->pace.at) + (int64_t)(bytes * NS_PER_S / st->pace.rate);
}
