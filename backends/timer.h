/* Internal: timers that can be taken back, for deadlines, backoff, hedges and probes.
 *
 * One thread serves all backends of the process: a thread for each layer of each backend would be
 * dozens that sleep. It is counted by reference, runs while somebody holds one, and keeps nothing
 * of any backend's. Callbacks run on it, one after the other, without locks: they must not block.
 */
#ifndef BACKENDS_TIMER_H
#define BACKENDS_TIMER_H

#include <stdint.h>

struct timers;

/* Embedded in its owner's record; zero-filled, or timer_init, to start. */
struct timer {
	void (*fn)(struct timer *t);
	int64_t at;
	int set;                           /* in the heap */
	struct timer *child, *next, *prev; /* prev: left sibling, or parent of the first child */
};

struct timers *timers_acquire(void); /* NULL when out of memory or threads */
void timers_release(
    struct timers *ts); /* NULL is fine. Also from a callback. No timer of yours may be set */

/* Runs fn(t) at `at` (CLOCK_MONOTONIC). t is not set. Once fn has been entered, t may be set again
 * or freed. */
void timer_set(struct timers *ts, struct timer *t, int64_t at, void (*fn)(struct timer *t));
/* 1: fn will not run for this setting. 0: it was not set, or fn runs or has run. Never blocks. */
int timer_cancel(struct timers *ts, struct timer *t);
/* As timer_cancel, and waits until fn(t) has returned when it runs now. Not from a callback, nor
 * with a lock that fn takes. */
void timer_cancel_wait(struct timers *ts, struct timer *t);

#endif
