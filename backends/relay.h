/* Internal: what every layer needs. A layer passes each request on as one of its own (a relay), so
 * that the caller's stays as it was, may be cancelled at any time, and is ended exactly once.
 *
 * States of a relay; all moves under the layer's lock:
 *   HELD    some thread of the layer works on it, without the lock       -> PARKED, BELOW, ENDED
 *   PARKED  it waits in the layer, in a queue or for its timer           -> HELD (by dispatcher,
 * timer or cancel: who comes first) BELOW   it was submitted underneath -> HELD (when it returns)
 *   ENDED   the caller's done() is being or has been called
 */
#ifndef BACKENDS_RELAY_H
#define BACKENDS_RELAY_H

#include <pthread.h>

#include "backends/backend.h"
#include "backends/timer.h"

enum relay_state { RELAY_HELD, RELAY_PARKED, RELAY_BELOW, RELAY_ENDED };

struct layer;

struct relay {
	struct backend_req req;    /* what goes underneath; its results are what the caller gets */
	struct backend_req *outer; /* the caller's */
	struct layer *layer;
	struct timer timer;
	void (*on_timer)(struct layer *l, struct relay *r);
	enum relay_state state; /* these four by the layer's lock */
	int cancelled;
	int submitting; /* calls of backend_submit that have not returned yet */
	int refs;
};

struct layer {
	struct backend b; /* b.below is what is underneath */
	struct timers *timers;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned live; /* by lock: relays not yet freed, and holds */
	/* A relay came back from underneath and is HELD; ends it, parks it or submits it again. */
	void (*returned)(struct layer *l, struct relay *r);
	int parks_asked; /* constant; what is PARKED counts as asked: the wait plays the network */
	/* Optional: takes a relay that was PARKED out of the layer's queue. With the lock. */
	void (*unqueue_locked)(struct layer *l, struct relay *r);
};

/* 0 or -ENOMEM; takes `below` only on success. */
int layer_init(struct layer *l, struct backend *below, const struct backend_ops *ops,
	       void (*returned)(struct layer *l, struct relay *r));
void layer_drain(struct layer *l);   /* waits until no relay is left */
void layer_release(struct layer *l); /* drains, destroys what is below; frees nothing of l */
/* Keeps layer_drain waiting while a thread still works in the layer after a relay may have ended.
 */
void layer_hold_locked(struct layer *l);
void layer_unhold(struct layer *l);
void layer_destroy(struct backend *b); /* ops.destroy of layers that own nothing else: also frees */
void layer_cancel(struct backend *b, struct backend_req *outer); /* ops.cancel of all layers */

/* A HELD relay of `size` bytes (struct relay first), zeroed behind. NULL: out of memory, and outer
 * has been ended. */
struct relay *relay_create(struct layer *l, struct backend_req *outer, size_t size);
/* Submits underneath; when it was cancelled meanwhile, it returns with -ECANCELED instead. */
void relay_submit(struct relay *r);
/* HELD -> PARKED until `at` (INT64_MAX: no timer), then on_timer(l, r) gets it HELD. 0 when it was
 * cancelled: then it stays HELD. A relay whose wait can also be ended by a dispatcher is parked
 * only once. */
int relay_park_locked(struct relay *r, int64_t at,
		      void (*on_timer)(struct layer *l, struct relay *r));
int relay_park(struct relay *r, int64_t at, void (*on_timer)(struct layer *l, struct relay *r));
/* PARKED -> HELD, for a dispatcher. Does not call unqueue_locked. 0 when somebody else has it. */
int relay_take_locked(struct relay *r);
/* Ends the caller's request with the results in r->req. The relay is gone afterwards. */
void relay_end(struct relay *r);
void relay_end_with(struct relay *r, int result);

#endif
