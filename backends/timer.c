/* A pairing heap by due time (Fredman et al. 1986) with links in the timers themselves, so that
 * setting one cannot fail. */
#include "backends/timer.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"

struct timers {
	pthread_mutex_t lock;
	pthread_cond_t wake;   /* the thread: an earlier timer, or the end */
	pthread_cond_t ran;    /* who waits for a callback to return */
	struct timer *root;    /* by lock */
	struct timer *running; /* by lock: only compared, may be freed already */
	int stop, orphan;      /* by lock; orphan: the thread frees this itself */
	pthread_t thread;
};

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct timers *shared; /* by shared_lock */
static int shared_refs;       /* by shared_lock */

static struct timer *heap_merge(struct timer *a, struct timer *b)
{
	if (!a || !b)
		return a ? a : b;
	if (b->at < a->at) {
		struct timer *t = a;

		a = b, b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	a->next = a->prev = NULL;
	return a;
}

/* The children of a node that leaves, as one heap; iterative, for there may be many. */
static struct timer *heap_join(struct timer *list)
{
	struct timer *pairs = NULL, *heap = NULL;

	while (list) {
		struct timer *a = list, *b = a->next, *m;

		list = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		m = heap_merge(a, b);
		m->next = pairs;
		pairs = m;
	}
	while (pairs) {
		struct timer *m = pairs;

		pairs = m->next;
		m->next = NULL;
		heap = heap_merge(heap, m);
	}
	return heap;
}

static void heap_remove(struct timers *ts, struct timer *t)
{
	struct timer *rest = heap_join(t->child);

	if (t == ts->root) {
		ts->root = rest;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		ts->root = heap_merge(ts->root, rest);
	}
	t->child = t->next = t->prev = NULL;
	t->set = 0;
}

static void timers_free(struct timers *ts)
{
	pthread_cond_destroy(&ts->ran);
	pthread_cond_destroy(&ts->wake);
	pthread_mutex_destroy(&ts->lock);
	free(ts);
}

static void *timers_thread(void *arg)
{
	struct timers *ts = arg;
	int orphan;

	pthread_setname_np(pthread_self(), "sk-timer");
	pthread_mutex_lock(&ts->lock);
	while (!ts->stop) {
		struct timer *t = ts->root;
		void (*fn)(struct timer *);

		if (!t || t->at > clock_mono_ns()) {
			cond_wait_until(&ts->wake, &ts->lock, t ? t->at : 0);
			continue;
		}
		heap_remove(ts, t);
		ts->running = t;
		fn = t->fn; /* once unlocked, t may be set again */
		pthread_mutex_unlock(&ts->lock);
		fn(t);
		pthread_mutex_lock(&ts->lock);
		ts->running = NULL;
		pthread_cond_broadcast(&ts->ran);
	}
	orphan = ts->orphan;
	pthread_mutex_unlock(&ts->lock);
	if (orphan)
		timers_free(ts);
	return NULL;
}

static struct timers *timers_start(void)
{
	struct timers *ts = calloc(1, sizeof(*ts));
	sigset_t all, old;
	int rc;

	if (!ts)
		return NULL;
	pthread_mutex_init(&ts->lock, NULL);
	if (cond_init_mono(&ts->wake))
		goto free_ts;
	if (cond_init_mono(&ts->ran))
		goto destroy_wake;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&ts->thread, NULL, timers_thread, ts);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		return ts;

	pthread_cond_destroy(&ts->ran);
destroy_wake:
	pthread_cond_destroy(&ts->wake);
free_ts:
	pthread_mutex_destroy(&ts->lock);
	free(ts);
	return NULL;
}

struct timers *timers_acquire(void)
{
	SCOPE_LOCK(&shared_lock);
	if (!shared)
		shared = timers_start();
	if (shared)
		shared_refs++;
	return shared;
}

void timers_release(struct timers *ts)
{
	int self;

	if (!ts)
		return;
	{
		SCOPE_LOCK(&shared_lock);
		if (--shared_refs > 0)
			return;
		shared = NULL;
	}
	self = pthread_equal(pthread_self(), ts->thread);
	if (self)
		pthread_detach(ts->thread);
	pthread_mutex_lock(&ts->lock);
	ts->stop = 1;
	ts->orphan = self;
	pthread_cond_signal(&ts->wake);
	pthread_mutex_unlock(&ts->lock);
	if (!self) {
		pthread_join(ts->thread, NULL);
		timers_free(ts);
	}
}

void timer_set(struct timers *ts, struct timer *t, int64_t at, void (*fn)(struct timer *t))
{
	SCOPE_LOCK(&ts->lock);
	t->fn = fn;
	t->at = at > 0 ? at : 1; /* 0 would read as "no deadline" in the wait */
	t->set = 1;
	t->child = t->next = t->prev = NULL;
	ts->root = heap_merge(ts->root, t);
	if (ts->root == t)
		pthread_cond_signal(&ts->wake);
}

int timer_cancel(struct timers *ts, struct timer *t)
{
	SCOPE_LOCK(&ts->lock);
	if (!t->set)
		return 0;
	heap_remove(ts, t);
	return 1;
}

void timer_cancel_wait(struct timers *ts, struct timer *t)
{
	SCOPE_LOCK(&ts->lock);
	if (t->set)
		heap_remove(ts, t);
	while (ts->running == t)
		cond_wait_until(&ts->ran, &ts->lock, 0);
	/* It may have set itself again before it returned. */
	if (t->set)
		heap_remove(ts, t);
}
