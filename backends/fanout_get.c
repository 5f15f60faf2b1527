#include "backends/fanout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/timer.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"

/* A candidate's way:  IDLE -> ASKED -> (CHECKED by check()) -> GOOD or FAILED;  IDLE -> SKIPPED
 * One thread at a time is the driver: it submits, cancels and calls done and released, all without
 * the lock. Completions and the timer only record; whoever finds no driver becomes it. Who records
 * and is not the driver must not touch the run afterwards. */
enum get_state { GET_IDLE, GET_SKIPPED, GET_ASKED, GET_GOOD, GET_FAILED };

struct candidate {
	struct backend_req req;
	struct get_run *run;
	struct iovec iov;
	/* These by f->lock. */
	enum get_state state;
	int result;                  /* why it FAILED */
	int64_t hedge_at, rescue_at; /* ASKED: when another one is asked besides */
	int cancel_sent;
};

struct get_run {
	struct fanout_get *f;
	struct timers *timers; /* NULL: neither hedges nor a deadline of our own */
	struct timer timer;
	int64_t deadline;
	uint8_t order[FANOUT_MAX]; /* candidates as they are to be asked */
	int norder;
	/* The rest by f->lock. */
	int driving;
	int cancelled;
	int refs;       /* the timer's and those of calls of fanout_get_cancel */
	int next;       /* in order */
	int hedges;     /* paid for */
	int64_t pay_at; /* when the budget, which had none left, is asked again */
	int told;       /* done() has been called, or is being called */
	int decided;    /* the result stands; what comes later only releases */
	struct candidate c[];
};

static void drive_unlock(struct get_run *g);

static int count_locked(const struct get_run *g, enum get_state state)
{
	int n = 0;

	for (int i = 0; i < g->norder; i++)
		n += g->c[g->order[i]].state == state;
	return n;
}

static void get_done(struct backend_req *req)
{
	struct candidate *c = container_of(req, struct candidate, req);
	struct get_run *g = c->run;
	struct fanout_get *f = g->f;
	int i = (int)(c - g->c), rc = req->result, decided;

	pthread_mutex_lock(&f->lock);
	decided = g->decided;
	pthread_mutex_unlock(&f->lock);
	if (!decided && rc == 0) {
		/* The caller knows how long the object is: a shorter one is damaged. */
		if (req->size != f->len)
			rc = -EBADMSG;
		else if (f->check)
			rc = f->check(f, i);
		if (rc == -EBADMSG)
			health_report_corrupt(f->backends[i]);
	}
	pthread_mutex_lock(&f->lock);
	c->state = rc == 0 ? GET_GOOD : GET_FAILED;
	c->result = rc;
	drive_unlock(g);
}

/* Why fewer than k are good. What is certain comes first: absence, then damage. */
static int reason_locked(const struct get_run *g, int64_t now)
{
	const struct fanout_get *f = g->f;
	int missing = 0, bad = 0, late = 0;

	if (g->cancelled)
		return -ECANCELED;
	for (int i = 0; i < f->n; i++) {
		const struct candidate *c = &g->c[i];

		if (c->state == GET_SKIPPED || (c->state == GET_FAILED && c->result == -ENOENT))
			missing++;
		else if (c->state == GET_FAILED && c->result == -EBADMSG)
			bad++;
		else if (c->state == GET_FAILED && c->result == -ETIMEDOUT)
			late++;
	}
	if (f->n - missing < f->k)
		return -ENOENT;
	if (f->n - missing - bad < f->k)
		return -EBADMSG;
	return late || now >= g->deadline ? -ETIMEDOUT : -EIO;
}

/* Writes the results down; they do not change afterwards. */
static void decide_locked(struct get_run *g, int good, int64_t now)
{
	struct fanout_get *f = g->f;
	int taken = 0;

	g->decided = 1;
	f->result = good >= f->k ? 0 : reason_locked(g, now);
	for (int i = 0; i < f->n; i++) {
		const struct candidate *c = &g->c[i];

		if (c->state == GET_GOOD && taken++ < f->k)
			f->good |= 1u << i;
		else if (c->state == GET_FAILED && c->result == -EBADMSG)
			f->bad |= 1u << i;
		else if (c->state == GET_FAILED && c->result == -ENOENT)
			f->missing |= 1u << i;
	}
}

#define HEDGE_PRICE 20 /* earnings of 20 requests: 5 % */
#define HEDGES_MAX  10
#define PAY_AGAIN   (20 * NS_PER_MS)

void fanout_budget_init(struct fanout_budget *b, int busy)
{
	*b = (struct fanout_budget){ .busy = busy, .tokens = HEDGE_PRICE };
}

static void budget_earn(struct fanout_budget *b)
{
	/* Two at once may go one above the limit: no harm. */
	if (b && __atomic_load_n(&b->tokens, __ATOMIC_RELAXED) < HEDGES_MAX * HEDGE_PRICE)
		__atomic_fetch_add(&b->tokens, 1, __ATOMIC_RELAXED);
}

static int budget_pay(struct fanout_budget *b)
{
	int had;

	if (!b)
		return 1;
	if (__atomic_load_n(&b->running, __ATOMIC_RELAXED) > b->busy)
		return 0;
	had = __atomic_load_n(&b->tokens, __ATOMIC_RELAXED);
	while (had >= HEDGE_PRICE)
		if (__atomic_compare_exchange_n(&b->tokens, &had, had - HEDGE_PRICE, 0,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return 1;
	return 0;
}

static void budget_running(struct fanout_budget *b, int add)
{
	if (b)
		__atomic_fetch_add(&b->running, add, __ATOMIC_RELAXED);
}

static void ask_locked(struct get_run *g)
{
	struct fanout_get *f = g->f;
	int i = g->order[g->next++];
	struct candidate *c = &g->c[i];
	int64_t now = clock_mono_ns();

	c->state = GET_ASKED;
	c->hedge_at = f->hedge[i] > 0 ? now + f->hedge[i] : INT64_MAX;
	c->rescue_at = f->rescue > 0 ? now + f->rescue : INT64_MAX;
	budget_earn(f->budget);
	pthread_mutex_unlock(&f->lock);
	c->iov = (struct iovec){ f->buf[i], f->len };
	c->req = (struct backend_req){
		.op = BACKEND_GET,
		.key = f->keys[i],
		.offset = f->offset[i],
		.iov = &c->iov,
		.iovs = 1,
		.flags = f->flags,
		.deadline = g->deadline,
		.done = get_done,
	};
	backend_submit(f->backends[i], &c->req);
	pthread_mutex_lock(&f->lock);
}

static void cancel_locked(struct get_run *g, int i)
{
	struct fanout_get *f = g->f;

	g->c[i].cancel_sent = 1;
	pthread_mutex_unlock(&f->lock);
	backend_cancel(f->backends[i], &g->c[i].req);
	pthread_mutex_lock(&f->lock);
}

/* How many are asked besides the k: the extra ones from the start, for each that is slow once it is
 * paid for, for each that may be lost. *next is when that may change, INT64_MAX: never. */
static int besides_locked(struct get_run *g, int64_t now, int64_t *next)
{
	const struct fanout_get *f = g->f;
	int slow = 0, lost = 0, covered;

	*next = INT64_MAX;
	for (int i = 0; i < g->norder; i++) {
		const struct candidate *c = &g->c[g->order[i]];

		if (c->state != GET_ASKED)
			continue;
		slow += c->hedge_at <= now;
		lost += c->rescue_at <= now;
		if (c->hedge_at > now)
			*next = MIN(*next, c->hedge_at);
		if (c->rescue_at > now)
			*next = MIN(*next, c->rescue_at);
	}
	covered = MAX(f->extra + g->hedges, lost);
	while (slow > covered && g->next < g->norder && now >= g->pay_at) {
		if (budget_pay(f->budget))
			g->hedges = ++covered - f->extra;
		else
			g->pay_at = now + PAY_AGAIN;
	}
	if (slow > covered)
		*next = MIN(*next, g->pay_at);
	return MAX(f->extra, MAX(lost, MIN(slow, covered)));
}

static void get_timer(struct timer *t)
{
	struct get_run *g = container_of(t, struct get_run, timer);

	pthread_mutex_lock(&g->f->lock);
	g->refs--;
	drive_unlock(g);
}

static void disarm_locked(struct get_run *g)
{
	if (g->timers && timer_cancel(g->timers, &g->timer))
		g->refs--;
}

static void arm_locked(struct get_run *g, int64_t at)
{
	if (!g->timers)
		return;
	disarm_locked(g);
	g->refs++;
	timer_set(g->timers, &g->timer, at, get_timer);
}

/* One thing that is to be done before the result stands. 1: something was done, look again. */
static int step_locked(struct get_run *g)
{
	struct fanout_get *f = g->f;
	int64_t now = clock_mono_ns(), next;
	int besides = besides_locked(g, now, &next);
	int good = count_locked(g, GET_GOOD), asked = count_locked(g, GET_ASKED);
	int left = g->norder - g->next;
	/* Each one that failed has made room for another. */
	int want = MIN(f->k + besides - good, left + asked);

	if (good >= f->k || good + asked + left < f->k || g->cancelled || now >= g->deadline) {
		decide_locked(g, good, now);
		return 1;
	}
	if (asked < want) {
		ask_locked(g);
		return 1;
	}
	arm_locked(g, left ? MIN(next, g->deadline) : g->deadline);
	return 0;
}

static int find_to_cancel_locked(const struct get_run *g)
{
	for (int i = 0; i < g->norder; i++)
		if (g->c[g->order[i]].state == GET_ASKED && !g->c[g->order[i]].cancel_sent)
			return g->order[i];
	return -1;
}

/* Enters with the lock, leaves without. */
static void drive_unlock(struct get_run *g)
{
	struct fanout_get *f = g->f;
	struct timers *timers = g->timers;
	int i;

	if (g->driving) {
		pthread_mutex_unlock(&f->lock);
		return;
	}
	g->driving = 1;
	while (!g->decided)
		if (!step_locked(g))
			goto leave;
	if (!g->told) {
		g->told = 1;
		disarm_locked(g);
		pthread_mutex_unlock(&f->lock);
		f->done(f);
		pthread_mutex_lock(&f->lock);
	}
	while ((i = find_to_cancel_locked(g)) >= 0)
		cancel_locked(g, i);
	if (count_locked(g, GET_ASKED) == 0 && g->refs == 0) {
		f->impl = NULL; /* a cancel that comes late finds nothing */
		budget_running(f->budget, -1);
		pthread_mutex_unlock(&f->lock);
		free(g);
		f->released(f);
		timers_release(timers);
		return;
	}
leave:
	g->driving = 0;
	pthread_mutex_unlock(&f->lock);
}

/* Puts those with an open breaker behind the others and leaves out what is to be skipped. -EINVAL
 * when order is no permutation. */
static int arrange(struct get_run *g)
{
	struct fanout_get *f = g->f;
	uint8_t shut[FANOUT_MAX];
	uint32_t seen = 0;
	int nshut = 0;

	for (int j = 0; j < f->n; j++) {
		uint8_t i = f->order[j];

		if (i >= f->n || (seen >> i & 1))
			return -EINVAL;
		seen |= 1u << i;
		if (f->skip >> i & 1)
			g->c[i].state = GET_SKIPPED;
		else if (health_usable(f->backends[i], 0))
			g->order[g->norder++] = i;
		else
			shut[nshut++] = i;
	}
	memcpy(g->order + g->norder, shut, (size_t)nshut);
	g->norder += nshut;
	return 0;
}

static void get_refuse(struct fanout_get *f, int rc)
{
	f->result = rc;
	f->done(f);
	f->released(f);
}

void fanout_get(struct fanout_get *f)
{
	struct get_run *g;
	int rc;

	pthread_mutex_init(&f->lock, NULL);
	f->impl = NULL;
	f->result = 0;
	f->good = f->bad = f->missing = 0;
	if (f->n < 1 || f->n > FANOUT_MAX || f->k < 1 || f->k > f->n || f->extra < 0 || !f->len) {
		get_refuse(f, -EINVAL);
		return;
	}
	g = calloc(1, sizeof(*g) + (size_t)f->n * sizeof(g->c[0]));
	if (!g) {
		get_refuse(f, -ENOMEM);
		return;
	}
	g->f = f;
	for (int i = 0; i < f->n; i++)
		g->c[i].run = g;
	rc = arrange(g);
	if (rc) {
		free(g);
		get_refuse(f, rc);
		return;
	}
	g->deadline = f->deadline ? f->deadline : clock_mono_ns() + BACKEND_TIMEOUT;
	/* Health layers hold references of their own: this starts no thread. */
	g->timers = timers_acquire();
	budget_running(f->budget, 1);
	pthread_mutex_lock(&f->lock);
	f->impl = g;
	drive_unlock(g);
}

void fanout_get_cancel(struct fanout_get *f)
{
	struct get_run *g;

	pthread_mutex_lock(&f->lock);
	g = f->impl;
	if (!g) {
		pthread_mutex_unlock(&f->lock);
		return;
	}
	g->cancelled = 1;
	g->refs++;
	drive_unlock(g);
	pthread_mutex_lock(&f->lock);
	g->refs--;
	drive_unlock(g);
}
