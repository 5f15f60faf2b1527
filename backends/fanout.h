/* One logical operation over n backends: put all with a quorum, get any k. Backends given here
 * carry a health layer on top. */
#ifndef BACKENDS_FANOUT_H
#define BACKENDS_FANOUT_H

#include <pthread.h>

#include "backends/backend.h"
#include "backends/health.h"

#define FANOUT_MAX 32

/* Puts object i to backend i for every i in `todo`. -EEXIST is compared: the object is read back in
 * whole and equal bytes count as success (I4), others are -ESTALE. Backends whose breaker is open
 * fail at once. progress() is called once per object as it ends, done() once when all have ended.
 * Both from any thread, never concurrently with each other for one call. All memory belongs to the
 * caller until done. */
struct fanout_put {
	struct backend **backends;
	int n;
	uint32_t todo;                  /* bit i: put object i */
	const char *const *keys;        /* keys[i] */
	const struct iovec *const *iov; /* iov[i][0 .. iovs-1] */
	int iovs;
	unsigned flags;   /* of each put: BACKEND_IF_ABSENT or 0 */
	int64_t deadline; /* of each request */
	void (*progress)(struct fanout_put *f, int i, int result);
	void (*done)(struct fanout_put *f);
	void *user;
	int result[FANOUT_MAX]; /* per object; 0 stored */
	pthread_mutex_t lock;   /* the implementation's, as impl */
	void *impl;
};
void fanout_put(struct fanout_put *f); /* -ENOMEM comes as result of all */
/* Cancels what is in flight; done() comes as always. Only after fanout_put has returned. It may
 * race with done(), or come after it, and then does nothing; the caller keeps f until both have
 * happened. */
void fanout_put_cancel(struct fanout_put *f);

/* What all gets of a drive may spend on hedges: each request earns a twentieth of one, so that they
 * are about 5 % at most (and at most ten at once); none while more than `busy` gets are under way:
 * then it is the queue that is slow. */
struct fanout_budget {
	int busy;    /* constant */
	int running; /* atomic */
	int tokens;  /* atomic; twentieths of a hedge */
};
void fanout_budget_init(struct fanout_budget *b, int busy);

/* Reads the same kind of range from any k of n backends. Starts k (+ `extra` at once), adds one for
 * every failure, and hedges: when more than `extra` are slower than their `hedge`, the next
 * candidate is asked too, if the budget allows. One that is slower than `rescue` may never answer:
 * another takes its place in any case.
 * Candidates are taken in the order given by `order` (cheapest or fastest first), those with an
 * open breaker last. check() judges the bytes of object i (0 good, -EBADMSG wrong: counted as
 * corrupt for that backend); called on any thread, may run concurrently for different i. done()
 * exactly once, as soon as k are good or k can no longer be reached; losers are cancelled, and
 * their buffers stay in use until `released()` is called (exactly once, after done) - free memory
 * there. */
struct fanout_get {
	struct backend **backends;
	int n, k, extra;
	const uint8_t *order;    /* permutation of 0..n-1 */
	const char *const *keys; /* keys[i] */
	uint64_t offset[FANOUT_MAX];
	void *buf[FANOUT_MAX]; /* buf[i] holds len bytes */
	size_t len;
	uint32_t skip;  /* bit i: never ask backend i (its shard is known to be missing) */
	unsigned flags; /* of each get: BACKEND_BACKGROUND or 0 */
	int64_t deadline;
	int64_t hedge[FANOUT_MAX];    /* ns, of backend i; 0: none */
	int64_t rescue;               /* ns, 0: none */
	struct fanout_budget *budget; /* outlives released(); NULL: hedges are free */
	int (*check)(struct fanout_get *f, int i);
	void (*done)(struct fanout_get *f);
	void (*released)(struct fanout_get *f);
	void *user;
	/* 0: k good. -ENOENT: too few have it. -EBADMSG: too few have it right. -ETIMEDOUT: the
	 * deadline passed. -ECANCELED. -EINVAL, -ENOMEM. -EIO else. */
	int result;
	uint32_t good;        /* bit i: buf[i] is good; exactly k bits when result is 0 */
	uint32_t bad;         /* bit i: answered with wrong bytes */
	uint32_t missing;     /* bit i: answered -ENOENT */
	pthread_mutex_t lock; /* the implementation's, as impl */
	void *impl;
};
void fanout_get(struct fanout_get *f);
/* done(-ECANCELED) soon, unless done already. Only after fanout_get has returned. It may race with
 * released(), or come after it, and then does nothing; the caller keeps f until both have happened.
 */
void fanout_get_cancel(struct fanout_get *f);

#endif
