#include "backends/stack.h"

#include <string.h>

/* From the bottom to the top; every layer takes what is below it and passes a NULL on. */
struct backend *backend_stack(struct backend *bare, const struct backend_stack_opts *o,
			      struct backend_stack_handles *h)
{
	struct backend *b = bare;

	memset(h, 0, sizeof(*h));
	/* Faults stand where the network would fail. */
	if (o->fault)
		h->fault = b = layer_fault(b, o->rules, o->nrules);
	/* Below retry: each try takes a slot and bandwidth of its own, and waiting for one is not
	 * held against the try. */
	h->limit = b = layer_limit(b, o->in_flight, o->bw);
	h->retry = b = layer_retry(b, o->tries ? o->tries : 6);
	/* Above retry: what the callers see, repetitions included. */
	h->stats = b = layer_stats(b);
	/* On top: a shut breaker answers before anything is counted, queued or tried. */
	h->health = b = layer_health(b, o->on_change, o->arg);
	if (!b)
		memset(h, 0, sizeof(*h));
	return b;
}
