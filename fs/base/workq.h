/* A pool of threads that runs jobs in order of submission. */
#ifndef FS_BASE_WORKQ_H
#define FS_BASE_WORKQ_H

#include <stdint.h>

struct workq;

/* A pool of `threads` named `name` (<= 15 characters). NULL when out of memory or threads. Signals
 * are blocked in them. */
struct workq *workq_create(const char *name, int threads);

/* Runs fn(arg) on the pool. Never blocks, and does not fail when memory is out: 512 jobs then have
 * their place all the same (beyond them the process is aborted). */
void workq_submit(struct workq *q, void (*fn)(void *arg), void *arg);

/* Runs fn(arg) not before at_ns (CLOCK_MONOTONIC). Delayed jobs that are not yet due at
 * workq_destroy run at once. */
void workq_submit_at(struct workq *q, int64_t at_ns, void (*fn)(void *arg), void *arg);

/* Waits until every submitted job has run, those that jobs submit meanwhile included, and no
 * delayed job is left. */
void workq_drain(struct workq *q);

/* Drains, ends the threads, frees. NULL is fine. Not from a job. */
void workq_destroy(struct workq *q);

#endif
