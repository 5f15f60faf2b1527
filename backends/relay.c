/* Lock order: a layer's lock, then the timers'. No lock is held while anything underneath or above
 * is called. */
#include "backends/relay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/base/scope.h"

int layer_init(struct layer *l, struct backend *below, const struct backend_ops *ops,
	       void (*returned)(struct layer *l, struct relay *r))
{
	if (cond_init_mono(&l->idle))
		return -ENOMEM;
	l->timers = timers_acquire();
	if (!l->timers) {
		pthread_cond_destroy(&l->idle);
		return -ENOMEM;
	}
	pthread_mutex_init(&l->lock, NULL);
	l->b.ops = ops;
	l->b.below = below;
	l->b.timeout = below->timeout;
	l->b.stop = below->stop;
	snprintf(l->b.name, sizeof(l->b.name), "%s", below->name);
	l->returned = returned;
	return 0;
}

void layer_drain(struct layer *l)
{
	SCOPE_LOCK(&l->lock);
	while (l->live)
		cond_wait_until(&l->idle, &l->lock, 0);
}

void layer_release(struct layer *l)
{
	layer_drain(l);
	backend_destroy(l->b.below);
	timers_release(l->timers);
	pthread_cond_destroy(&l->idle);
	pthread_mutex_destroy(&l->lock);
}

static void live_less_locked(struct layer *l)
{
	if (--l->live == 0)
		pthread_cond_broadcast(&l->idle);
}

void layer_hold_locked(struct layer *l)
{
	l->live++;
}

void layer_unhold(struct layer *l)
{
	SCOPE_LOCK(&l->lock);
	live_less_locked(l);
}

void layer_destroy(struct backend *b)
{
	struct layer *l = container_of(b, struct layer, b);

	layer_release(l);
	free(l);
}

static void relay_unref_locked(struct relay *r)
{
	struct layer *l = r->layer;

	if (--r->refs)
		return;
	free(r);
	live_less_locked(l);
}

static void relay_returned(struct backend_req *req)
{
	struct relay *r = container_of(req, struct relay, req);

	pthread_mutex_lock(&r->layer->lock);
	r->state = RELAY_HELD;
	pthread_mutex_unlock(&r->layer->lock);
	r->layer->returned(r->layer, r);
}

struct relay *relay_create(struct layer *l, struct backend_req *outer, size_t size)
{
	struct relay *r = calloc(1, size);

	if (!r) {
		outer->result = -ENOMEM;
		outer->done(outer);
		return NULL;
	}
	r->req = (struct backend_req){
		.op = outer->op,
		.flags = outer->flags,
		.key = outer->key,
		.deadline = outer->deadline ? outer->deadline : backend_deadline(&l->b, outer),
		.patience = outer->patience,
		.pace = outer->pace,
		.iov = outer->iov,
		.iovs = outer->iovs,
		.offset = outer->offset,
		.token = outer->token,
		.done = relay_returned,
	};
	r->outer = outer;
	r->layer = l;
	r->state = RELAY_HELD;
	r->refs = 1;
	SCOPE_LOCK(&l->lock);
	l->live++;
	outer->impl[0] = r;
	return r;
}

void relay_submit(struct relay *r)
{
	struct layer *l = r->layer;
	int cancel;

	pthread_mutex_lock(&l->lock);
	if (r->cancelled) {
		pthread_mutex_unlock(&l->lock);
		r->req.result = -ECANCELED;
		r->req.unasked = 1;
		l->returned(l, r);
		return;
	}
	r->state = RELAY_BELOW;
	r->submitting++;
	r->refs++;
	pthread_mutex_unlock(&l->lock);

	backend_submit(l->b.below, &r->req);

	/* It may have returned already, even have been submitted again by another thread: only the
	 * last submission to come back makes up for a cancel that found none to cancel. */
	pthread_mutex_lock(&l->lock);
	cancel = --r->submitting == 0 && r->cancelled && r->state == RELAY_BELOW;
	if (cancel) {
		pthread_mutex_unlock(&l->lock);
		backend_cancel(l->b.below, &r->req);
		pthread_mutex_lock(&l->lock);
	}
	relay_unref_locked(r);
	pthread_mutex_unlock(&l->lock);
}

static void disarm_locked(struct relay *r)
{
	if (timer_cancel(r->layer->timers, &r->timer))
		relay_unref_locked(r);
}

void layer_cancel(struct backend *b, struct backend_req *outer)
{
	struct layer *l = container_of(b, struct layer, b);
	struct relay *r;

	pthread_mutex_lock(&l->lock);
	r = outer->impl[0];
	if (!r || r->cancelled)
		goto unlock;
	r->cancelled = 1;
	if (r->state == RELAY_PARKED) {
		r->state = RELAY_HELD;
		disarm_locked(r);
		if (l->unqueue_locked)
			l->unqueue_locked(l, r);
		pthread_mutex_unlock(&l->lock);
		r->req.unasked = !l->parks_asked;
		relay_end_with(r, -ECANCELED);
		return;
	}
	if (r->state == RELAY_BELOW && !r->submitting) {
		r->refs++;
		pthread_mutex_unlock(&l->lock);
		backend_cancel(l->b.below, &r->req);
		pthread_mutex_lock(&l->lock);
		relay_unref_locked(r);
	}
unlock:
	pthread_mutex_unlock(&l->lock);
}

static void relay_timer(struct timer *t)
{
	struct relay *r = container_of(t, struct relay, timer);
	struct layer *l = r->layer;
	int mine;

	pthread_mutex_lock(&l->lock);
	mine = r->state == RELAY_PARKED;
	if (mine) {
		r->state = RELAY_HELD;
		if (l->unqueue_locked)
			l->unqueue_locked(l, r);
	}
	pthread_mutex_unlock(&l->lock);
	if (mine)
		r->on_timer(l, r);
	pthread_mutex_lock(&l->lock);
	relay_unref_locked(r);
	pthread_mutex_unlock(&l->lock);
}

int relay_park_locked(struct relay *r, int64_t at,
		      void (*on_timer)(struct layer *l, struct relay *r))
{
	if (r->cancelled)
		return 0;
	r->state = RELAY_PARKED;
	if (at != INT64_MAX) {
		r->on_timer = on_timer;
		r->refs++; /* the timer's */
		timer_set(r->layer->timers, &r->timer, at, relay_timer);
	}
	return 1;
}

int relay_park(struct relay *r, int64_t at, void (*on_timer)(struct layer *l, struct relay *r))
{
	SCOPE_LOCK(&r->layer->lock);
	return relay_park_locked(r, at, on_timer);
}

int relay_take_locked(struct relay *r)
{
	if (r->state != RELAY_PARKED)
		return 0;
	r->state = RELAY_HELD;
	disarm_locked(r);
	return 1;
}

void relay_end(struct relay *r)
{
	struct layer *l = r->layer;
	struct backend_req *outer = r->outer;

	outer->result = r->req.result;
	outer->size = r->req.size;
	outer->retry_after = r->req.retry_after;
	outer->waited = r->req.waited;
	outer->date = r->req.date;
	outer->unasked = r->req.unasked;
	outer->entries = r->req.entries;
	outer->nentries = r->req.nentries;
	outer->next_token = r->req.next_token;
	pthread_mutex_lock(&l->lock);
	r->state = RELAY_ENDED;
	outer->impl[0] = NULL; /* a cancel that comes late finds nothing */
	pthread_mutex_unlock(&l->lock);
	outer->done(outer);
	pthread_mutex_lock(&l->lock);
	relay_unref_locked(r);
	pthread_mutex_unlock(&l->lock);
}

void relay_end_with(struct relay *r, int result)
{
	r->req.result = result;
	relay_end(r);
}
