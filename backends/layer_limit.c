#include "backends/layers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "backends/relay.h"
#include "fs/base/clock.h"
#include "fs/base/list.h"
#include "fs/base/scope.h"

/* Directions wait apart: a PUT that waits for bandwidth must not hold up reads. */
enum direction { DIR_UP, DIR_DOWN, DIR_NONE, DIRECTIONS };

/* A request may begin while the bucket is not in debt, and is charged in whole: no request is too
 * large for the rate. What was saved up is at most a quarter of a second's worth, or one small
 * object. */
#define BURST_MIN 65536.0
struct bucket {
	double rate; /* bytes per second, 0: no limit */
	double tokens;
	int64_t at; /* when tokens was right */
};

struct limit {
	struct layer l;
	/* All by l.lock. */
	int in_flight; /* constant; 0: no limit */
	int flying;
	int dispatching; /* one thread submits; others only queue, so that recursion stays flat */
	uint64_t seq;
	struct list queue[DIRECTIONS];
	struct bucket bucket[DIRECTIONS];
	struct timer wake; /* when the first bucket is out of debt */
};

struct limit_relay {
	struct relay r;
	struct list link; /* in queue[dir] while PARKED */
	uint64_t seq;
	enum direction dir;
	uint64_t cost;
};

static void dispatch(struct limit *q);

static void bucket_fill(struct bucket *b, int64_t now)
{
	double burst = MAX(b->rate / 4, BURST_MIN);

	if (b->at)
		b->tokens += b->rate * (double)(now - b->at) / NS_PER_S;
	b->tokens = MIN(b->tokens, burst);
	b->at = now;
}

/* When the bucket is out of debt; 0: it is. */
static int64_t bucket_wait(struct bucket *b, int64_t now)
{
	if (b->rate <= 0)
		return 0;
	bucket_fill(b, now);
	if (b->tokens >= 0)
		return 0;
	return now + (int64_t)(-b->tokens / b->rate * NS_PER_S) + 1;
}

static int slot_free_locked(const struct limit *q)
{
	return !q->in_flight || q->flying < q->in_flight;
}

static void begin_locked(struct limit *q, struct limit_relay *lr)
{
	q->flying++;
	if (q->bucket[lr->dir].rate > 0)
		q->bucket[lr->dir].tokens -= (double)lr->cost;
	/* From here on its patience counts. */
	lr->r.req.deadline = backend_deadline(&q->l.b, &lr->r.req);
}

/* The oldest request that may begin, or NULL; then *wake is when one may, by bandwidth (INT64_MAX:
 * not by waiting). */
static struct limit_relay *next_locked(struct limit *q, int64_t *wake)
{
	struct limit_relay *best = NULL;
	int64_t now = clock_mono_ns();

	*wake = INT64_MAX;
	if (!slot_free_locked(q))
		return NULL;
	for (int d = 0; d < DIRECTIONS; d++) {
		struct list *first = list_first(&q->queue[d]);
		struct limit_relay *lr;
		int64_t at;

		if (!first)
			continue;
		at = bucket_wait(&q->bucket[d], now);
		if (at) {
			*wake = MIN(*wake, at);
			continue;
		}
		lr = list_entry(first, struct limit_relay, link);
		if (!best || lr->seq < best->seq)
			best = lr;
	}
	return best;
}

static void wake_timer(struct timer *t)
{
	dispatch(container_of(t, struct limit, wake));
}

static void dispatch(struct limit *q)
{
	struct limit_relay *lr;
	int64_t wake;

	pthread_mutex_lock(&q->l.lock);
	if (q->dispatching)
		goto unlock;
	q->dispatching = 1;
	while ((lr = next_locked(q, &wake))) {
		list_remove(&lr->link);
		relay_take_locked(&lr->r); /* in a queue it is PARKED */
		begin_locked(q, lr);
		pthread_mutex_unlock(&q->l.lock);
		relay_submit(&lr->r);
		pthread_mutex_lock(&q->l.lock);
	}
	if (wake != INT64_MAX) {
		timer_cancel(q->l.timers, &q->wake);
		timer_set(q->l.timers, &q->wake, wake, wake_timer);
	}
	q->dispatching = 0;
unlock:
	pthread_mutex_unlock(&q->l.lock);
}

static void limit_unqueue_locked(struct layer *l, struct relay *r)
{
	list_remove(&container_of(r, struct limit_relay, r)->link);
}

static void queued_too_long(struct layer *l, struct relay *r)
{
	r->req.unasked = 1;
	relay_end_with(r, -ETIMEDOUT);
}

static void limit_returned(struct layer *l, struct relay *r)
{
	struct limit *q = container_of(l, struct limit, l);
	struct limit_relay *lr = container_of(r, struct limit_relay, r);
	uint64_t came = r->req.result ? 0 : r->req.size;

	pthread_mutex_lock(&l->lock);
	q->flying--;
	if (lr->dir == DIR_DOWN && q->bucket[DIR_DOWN].rate > 0 && lr->cost > came)
		q->bucket[DIR_DOWN].tokens += (double)(lr->cost - came);
	layer_hold_locked(l);
	pthread_mutex_unlock(&l->lock);
	relay_end(r);
	dispatch(q);
	layer_unhold(l);
}

static void limit_submit(struct backend *b, struct backend_req *req)
{
	struct limit *q = container_of(b, struct limit, l.b);
	struct relay *r = relay_create(&q->l, req, sizeof(struct limit_relay));
	struct limit_relay *lr;
	int direct;

	if (!r)
		return;
	lr = container_of(r, struct limit_relay, r);
	list_init(&lr->link);
	lr->dir = req->op == BACKEND_PUT ? DIR_UP : req->op == BACKEND_GET ? DIR_DOWN : DIR_NONE;
	lr->cost = backend_req_bytes(req);

	pthread_mutex_lock(&q->l.lock);
	direct = list_empty(&q->queue[DIR_UP]) && list_empty(&q->queue[DIR_DOWN]) &&
		 list_empty(&q->queue[DIR_NONE]) && slot_free_locked(q) &&
		 !bucket_wait(&q->bucket[lr->dir], clock_mono_ns());
	if (direct) {
		begin_locked(q, lr);
	} else {
		lr->seq = q->seq++;
		list_push_back(&q->queue[lr->dir], &lr->link);
		relay_park_locked(r, r->req.deadline, queued_too_long);
		layer_hold_locked(&q->l);
	}
	pthread_mutex_unlock(&q->l.lock);
	if (direct) {
		relay_submit(r);
		return;
	}
	dispatch(q);
	layer_unhold(&q->l);
}

static void limit_destroy(struct backend *b)
{
	struct limit *q = container_of(b, struct limit, l.b);

	layer_drain(&q->l);
	timer_cancel_wait(q->l.timers, &q->wake);
	layer_release(&q->l);
	free(q);
}

static const struct backend_ops limit_ops = {
	.name = "limit",
	.submit = limit_submit,
	.cancel = layer_cancel,
	.destroy = limit_destroy,
};

struct backend *layer_limit(struct backend *below, int in_flight, uint64_t up, uint64_t down)
{
	struct limit *q;

	if (!below)
		return NULL;
	q = calloc(1, sizeof(*q));
	if (!q || layer_init(&q->l, below, &limit_ops, limit_returned)) {
		free(q);
		backend_destroy(below);
		return NULL;
	}
	q->l.unqueue_locked = limit_unqueue_locked;
	q->in_flight = MAX(in_flight, 0);
	for (int d = 0; d < DIRECTIONS; d++)
		list_init(&q->queue[d]);
	q->bucket[DIR_UP].rate = (double)up;
	q->bucket[DIR_DOWN].rate = (double)down;
	return &q->l.b;
}

void layer_limit_set(struct backend *limit, uint64_t up, uint64_t down)
{
	struct limit *q = container_of(limit, struct limit, l.b);

	pthread_mutex_lock(&q->l.lock);
	/* A debt made at the old rate is forgiven: at a much lower new one it would last for
	 * minutes. */
	q->bucket[DIR_UP] = (struct bucket){ .rate = (double)up };
	q->bucket[DIR_DOWN] = (struct bucket){ .rate = (double)down };
	pthread_mutex_unlock(&q->l.lock);
	dispatch(q);
}
