/* The bandwidth of a drive: how many bytes per second all of its backends together may be sent,
 * and asked for. One for the layer_limit of each backend. What counts are the bodies of puts and
 * gets, repetitions and losers of a fan-out included.
 *
 * A request may begin while there is no debt, and is charged in whole: none is too large for the
 * rate. Those with BACKEND_BACKGROUND begin only when everything is paid for, their own and the
 * others' bytes; the others do not wait for what these owe. So healing costs a reader an eighth of
 * the rate at most (kept back while it waits, or it would starve), and the sum stays below the rate
 * but for one background request. */
#ifndef BACKENDS_BANDWIDTH_H
#define BACKENDS_BANDWIDTH_H

#include <stdint.h>
#include "fs/base/list.h"

struct bandwidth;

enum bandwidth_direction { BANDWIDTH_UP, BANDWIDTH_DOWN, BANDWIDTH_DIRECTIONS };

/* Bytes per second, 0: no limit. NULL: out of memory. */
struct bandwidth *bandwidth_create(uint64_t up, uint64_t down);
/* Nobody may use it any more. NULL is fine. */
void bandwidth_destroy(struct bandwidth *w);
/* From any thread, at any time; who waits is told. */
void bandwidth_set(struct bandwidth *w, uint64_t up, uint64_t down);
/* NULL (no limit) is fine. */
uint64_t bandwidth_rate(struct bandwidth *w, enum bandwidth_direction d);

/* ---- for layer_limit ---- */

struct bandwidth_user {
	struct list link;
	/* The rates have changed. Any thread; must not block, nor call back into here. */
	void (*changed)(struct bandwidth_user *u);
};
void bandwidth_join(struct bandwidth *w, struct bandwidth_user *u);
void bandwidth_leave(struct bandwidth *w, struct bandwidth_user *u); /* changed() is over */
/* 0: a request may begin now; else when it is worth asking again (CLOCK_MONOTONIC ns). */
int64_t bandwidth_when(struct bandwidth *w, enum bandwidth_direction d, int background,
		       int64_t now);
/* Charges what begins. Returns the rate, at which a transfer should pace itself; 0: no limit. */
uint64_t bandwidth_take(struct bandwidth *w, enum bandwidth_direction d, int background,
			uint64_t bytes);
/* So many bytes of what was taken did not come. */
void bandwidth_give_back(struct bandwidth *w, enum bandwidth_direction d, int background,
			 uint64_t bytes);

#endif
