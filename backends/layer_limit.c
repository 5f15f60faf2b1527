#include "backends/layers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "backends/bandwidth.h"
#include "backends/relay.h"
#include "fs/base/clock.h"
#include "fs/base/list.h"
#include "fs/base/scope.h"

/* Directions wait apart: a PUT that waits for bandwidth must not hold up reads. So do classes:
 * what runs in the background gives way. */
enum direction { DIR_UP, DIR_DOWN, DIR_NONE, DIRECTIONS };
static_assert((int)DIR_UP == BANDWIDTH_UP && (int)DIR_DOWN == BANDWIDTH_DOWN, "used as such");
enum { FRONT, BACK, CLASSES };

struct limit {
	struct layer l;
	struct bandwidth *bw; /* borrowed; NULL: no limit */
	struct bandwidth_user user;
	/* The rest by l.lock. */
	int in_flight; /* constant; 0: no limit */
	int flying;
	int dispatching; /* one thread submits; others only queue, so that recursion stays flat */
	uint64_t seq;
	struct list queue[DIRECTIONS][CLASSES];
	struct timer wake; /* when bandwidth is there again */
};

struct limit_relay {
	struct relay r;
	struct list link; /* in queue[dir][class] while PARKED */
	uint64_t seq;
	enum direction dir;
	int back;       /* its class */
	uint64_t cost;  /* bytes it may move */
	uint64_t taken; /* of those, what was charged */
	int64_t since;  /* when it was queued; 0: never */
	int64_t waited; /* in the queue */
};

static void dispatch(struct limit *q);

static int slot_free_locked(const struct limit *q)
{
	return !q->in_flight || q->flying < q->in_flight;
}

static int64_t bandwidth_at(const struct limit *q, enum direction d, int back, int64_t now)
{
	return q->bw && d != DIR_NONE
		   ? bandwidth_when(q->bw, (enum bandwidth_direction)d, back, now)
		   : 0;
}

static void begin_locked(struct limit *q, struct limit_relay *lr)
{
	struct backend_req *req = &lr->r.req;

	q->flying++;
	if (lr->since)
		lr->waited = clock_mono_ns() - lr->since;
	if (q->bw && lr->dir != DIR_NONE) {
		req->pace =
		    bandwidth_take(q->bw, (enum bandwidth_direction)lr->dir, lr->back, lr->cost);
		lr->taken = req->pace ? lr->cost : 0;
		if (req->pace && req->patience)
			req->patience += (int64_t)((double)lr->cost / (double)req->pace * NS_PER_S);
	}
	/* From here on its patience counts. */
	req->deadline = backend_deadline(&q->l.b, req);
}

/* The oldest request that may begin, those in front first, or NULL; then *wake is when one may, by
 * bandwidth (INT64_MAX: not by waiting). */
static struct limit_relay *next_locked(struct limit *q, int64_t *wake)
{
	struct limit_relay *best = NULL;
	int64_t now = clock_mono_ns();

	*wake = INT64_MAX;
	if (!slot_free_locked(q))
		return NULL;
	for (int c = 0; c < CLASSES && !best; c++)
		for (int d = 0; d < DIRECTIONS; d++) {
			struct list *first = list_first(&q->queue[d][c]);
			struct limit_relay *lr;
			int64_t at;

			if (!first)
				continue;
			at = bandwidth_at(q, (enum direction)d, c, now);
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

	r->req.waited += lr->waited;
	if (lr->dir == DIR_DOWN && lr->taken > came)
		bandwidth_give_back(q->bw, BANDWIDTH_DOWN, lr->back, lr->taken - came);
	pthread_mutex_lock(&l->lock);
	q->flying--;
	layer_hold_locked(l);
	pthread_mutex_unlock(&l->lock);
	relay_end(r);
	dispatch(q);
	layer_unhold(l);
}

static int idle_locked(const struct limit *q)
{
	for (int d = 0; d < DIRECTIONS; d++)
		for (int c = 0; c < CLASSES; c++)
			if (!list_empty(&q->queue[d][c]))
				return 0;
	return 1;
}

static void limit_submit(struct backend *b, struct backend_req *req)
{
	struct limit *q = container_of(b, struct limit, l.b);
	struct relay *r = relay_create(&q->l, req, sizeof(struct limit_relay));
	int64_t now = clock_mono_ns();
	struct limit_relay *lr;
	int direct;

	if (!r)
		return;
	lr = container_of(r, struct limit_relay, r);
	list_init(&lr->link);
	lr->dir = req->op == BACKEND_PUT ? DIR_UP : req->op == BACKEND_GET ? DIR_DOWN : DIR_NONE;
	lr->back = req->flags & BACKEND_BACKGROUND ? BACK : FRONT;
	lr->cost = backend_req_bytes(req);

	pthread_mutex_lock(&q->l.lock);
	direct = idle_locked(q) && slot_free_locked(q) && !bandwidth_at(q, lr->dir, lr->back, now);
	if (direct) {
		begin_locked(q, lr);
	} else {
		lr->seq = q->seq++;
		lr->since = now;
		list_push_back(&q->queue[lr->dir][lr->back], &lr->link);
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

/* On the timers' thread: whoever sets the rate must not find itself submitting requests. */
static void rates_changed(struct bandwidth_user *u)
{
	struct limit *q = container_of(u, struct limit, user);

	SCOPE_LOCK(&q->l.lock);
	timer_cancel(q->l.timers, &q->wake);
	timer_set(q->l.timers, &q->wake, clock_mono_ns(), wake_timer);
}

static void limit_destroy(struct backend *b)
{
	struct limit *q = container_of(b, struct limit, l.b);

	layer_drain(&q->l);
	if (q->bw)
		bandwidth_leave(q->bw, &q->user);
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

struct backend *layer_limit(struct backend *below, int in_flight, struct bandwidth *bw)
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
		for (int c = 0; c < CLASSES; c++)
			list_init(&q->queue[d][c]);
	q->bw = bw;
	q->user.changed = rates_changed;
	if (bw)
		bandwidth_join(bw, &q->user);
	return &q->l.b;
}
