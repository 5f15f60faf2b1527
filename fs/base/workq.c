/* Ready jobs are a queue; delayed ones a pairing heap by due time (Fredman et al. 1986), because
 * its links live in the job record: nothing besides the record is ever allocated.
 *
 * Idle threads wait for the earliest due time. Invariant: no thread waits longer than until the
 * root of the heap is due. A root that comes earlier than the old one wakes all; when the root
 * leaves, the deadlines of the waiting are early, never late. */
#include "fs/base/workq.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"

struct job {
	void (*fn)(void *arg);
	void *arg;
	struct job *next;  /* in the queue; or next sibling in the heap */
	struct job *child; /* heap */
	int64_t at_ns;
};

/* Records for times without memory: whoever submits cannot go on without its job, what it holds
 * would be held for ever. More than this are never under way when nothing can be allocated, for
 * whatever a job is about was allocated before. */
#define SPARE_JOBS 512

struct workq {
	pthread_mutex_t lock;
	pthread_cond_t work;       /* for idle threads */
	pthread_cond_t done;       /* for workq_drain */
	struct job *first, **last; /* by lock: ready jobs */
	struct job *delayed;       /* by lock: root of the heap */
	int running;               /* by lock: jobs being run */
	int closing;               /* by lock: delayed jobs are due at once */
	int stop;                  /* by lock: idle threads end */
	int threads;               /* constant once created */
	char name[16];             /* constant */
	struct job *spare;         /* by lock: unused ones of spares */
	struct job spares[SPARE_JOBS];
	pthread_t ids[];
};

static struct job *heap_merge(struct job *a, struct job *b)
{
	if (!a || !b)
		return a ? a : b;
	if (b->at_ns < a->at_ns) {
		struct job *t = a;

		a = b, b = t;
	}
	b->next = a->child;
	a->child = b;
	return a;
}

/* The heap without its root: siblings merged in pairs, then the pairs; iterative, for there may be
 * many. */
static struct job *heap_rest(struct job *root)
{
	struct job *pairs = NULL, *heap = NULL, *list = root->child;

	while (list) {
		struct job *a = list, *b = a->next, *m;

		list = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		m = heap_merge(a, b);
		m->next = pairs;
		pairs = m;
	}
	while (pairs) {
		struct job *m = pairs;

		pairs = m->next;
		m->next = NULL;
		heap = heap_merge(heap, m);
	}
	root->child = NULL;
	return heap;
}

static void job_free_locked(struct workq *q, struct job *j)
{
	if (j < q->spares || j >= q->spares + SPARE_JOBS) {
		free(j);
		return;
	}
	j->next = q->spare;
	q->spare = j;
}

static void push_ready_locked(struct workq *q, struct job *j)
{
	j->next = NULL;
	*q->last = j;
	q->last = &j->next;
}

/* Due jobs join the queue behind what was submitted before. */
static void move_due_locked(struct workq *q)
{
	int64_t now;

	if (!q->delayed)
		return;
	now = clock_mono_ns();
	while (q->delayed && (q->closing || q->delayed->at_ns <= now)) {
		struct job *j = q->delayed;

		q->delayed = heap_rest(j);
		push_ready_locked(q, j);
		pthread_cond_signal(&q->work);
	}
}

static void *worker(void *arg)
{
	struct workq *q = arg;

	pthread_setname_np(pthread_self(), q->name);
	pthread_mutex_lock(&q->lock);
	for (;;) {
		struct job *j;

		move_due_locked(q);
		j = q->first;
		if (j) {
			q->first = j->next;
			if (!q->first)
				q->last = &q->first;
			q->running++;
			pthread_mutex_unlock(&q->lock);
			j->fn(j->arg);
			pthread_mutex_lock(&q->lock);
			job_free_locked(q, j);
			q->running--;
			continue;
		}
		if (q->running == 0 && !q->delayed)
			pthread_cond_broadcast(&q->done);
		if (q->stop)
			break;
		cond_wait_until(&q->work, &q->lock, q->delayed ? q->delayed->at_ns : 0);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static void stop_and_join(struct workq *q)
{
	pthread_mutex_lock(&q->lock);
	q->stop = 1;
	pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->lock);
	for (int i = 0; i < q->threads; i++)
		pthread_join(q->ids[i], NULL);
}

struct workq *workq_create(const char *name, int threads)
{
	struct workq *q;
	sigset_t all, old;

	if (threads < 1)
		threads = 1;
	q = calloc(1, sizeof(*q) + (size_t)threads * sizeof(q->ids[0]));
	if (!q)
		return NULL;
	q->last = &q->first;
	for (int i = 0; i < SPARE_JOBS; i++)
		job_free_locked(q, &q->spares[i]);
	snprintf(q->name, sizeof(q->name), "%s", name);
	if (pthread_mutex_init(&q->lock, NULL))
		goto free_q;
	if (cond_init_mono(&q->work))
		goto destroy_lock;
	if (cond_init_mono(&q->done))
		goto destroy_work;
	/* Inherited by the threads from their first instruction on. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (q->threads < threads && !pthread_create(&q->ids[q->threads], NULL, worker, q))
		q->threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (q->threads == threads)
		return q;

	stop_and_join(q);
	pthread_cond_destroy(&q->done);
destroy_work:
	pthread_cond_destroy(&q->work);
destroy_lock:
	pthread_mutex_destroy(&q->lock);
free_q:
	free(q);
	return NULL;
}

static struct job *job_create(struct workq *q, int64_t at_ns, void (*fn)(void *arg), void *arg)
{
	struct job *j = malloc(sizeof(*j));

	if (!j) {
		pthread_mutex_lock(&q->lock);
		j = q->spare;
		if (j)
			q->spare = j->next;
		pthread_mutex_unlock(&q->lock);
	}
	if (!j) {
		log_error("out of memory: cannot queue a job");
		abort();
	}
	*j = (struct job){ .fn = fn, .arg = arg, .at_ns = at_ns };
	return j;
}

void workq_submit(struct workq *q, void (*fn)(void *arg), void *arg)
{
	struct job *j = job_create(q, 0, fn, arg);

	pthread_mutex_lock(&q->lock);
	push_ready_locked(q, j);
	pthread_cond_signal(&q->work);
	pthread_mutex_unlock(&q->lock);
}

void workq_submit_at(struct workq *q, int64_t at_ns, void (*fn)(void *arg), void *arg)
{
	/* 0 would read as "no deadline" in the wait; any time in the past is as good as any other.
	 */
	struct job *j = job_create(q, at_ns > 0 ? at_ns : 1, fn, arg);

	pthread_mutex_lock(&q->lock);
	q->delayed = heap_merge(q->delayed, j);
	if (q->delayed == j)
		pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->lock);
}

void workq_drain(struct workq *q)
{
	pthread_mutex_lock(&q->lock);
	while (q->first || q->running || q->delayed)
		cond_wait_until(&q->done, &q->lock, 0);
	pthread_mutex_unlock(&q->lock);
}

void workq_destroy(struct workq *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->lock);
	q->closing = 1;
	pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->lock);
	workq_drain(q);
	stop_and_join(q);
	pthread_cond_destroy(&q->done);
	pthread_cond_destroy(&q->work);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
