/* The layers that a drive puts on each of its backends. */
#ifndef BACKENDS_STACK_H
#define BACKENDS_STACK_H

#include "backends/health.h"
#include "backends/layers.h"

struct backend_stack_opts {
	int in_flight;        /* 0: no limit */
	struct bandwidth *bw; /* shared by the drive's backends, outlives the stack; may be NULL */
	int tries;            /* 0: 6 */
	int fault; /* tests: put a fault layer above the bare backend, with these rules */
	struct fault_rule *rules;
	int nrules;
	void (*on_change)(void *arg, struct backend *health); /* as layer_health; may be NULL */
	void *arg;
};

/* Layers within the stack; they live as long as it does. fault is NULL when there is none. */
struct backend_stack_handles {
	struct backend *fault, *limit, *retry, *stats, *health;
};

/* Takes bare, also on failure (then it is destroyed and NULL returned: out of memory or threads).
 * Destroy the result with backend_destroy. *h is filled on success. */
struct backend *backend_stack(struct backend *bare, const struct backend_stack_opts *o,
			      struct backend_stack_handles *h);

#endif
