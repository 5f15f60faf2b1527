#include "backends/fanout.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/scope.h"

/* An object's way:  IDLE -> PUT -> (-EEXIST) READ_NEXT -> READ -> ENDED -> TOLD
 * One thread at a time is the driver: it submits, tells progress and done, and does so without the
 * lock. Completions only record; whoever finds no driver becomes it. Who records and is not the
 * driver must not touch the run afterwards. */
enum put_state { PUT_IDLE, PUT_PUT, PUT_READ_NEXT, PUT_READ, PUT_ENDED, PUT_TOLD };

struct put_object {
	struct backend_req req;
	struct fanout_put_run *run;
	struct iovec iov;
	enum put_state state; /* these by f->lock */
	int result;
	int cancel_sent;
};

struct fanout_put_run {
	struct fanout_put *f;
	/* The rest by f->lock. */
	int driving;
	int cancelled;
	int refs; /* calls of fanout_put_cancel that still use this */
	int left; /* objects not yet TOLD */
	int n;
	struct put_object o[];
};

static void drive_unlock(struct fanout_put_run *g);

/* 1 when the n bytes at p are the body. */
static int body_equals(const struct fanout_put *f, int i, const uint8_t *p, size_t n)
{
	for (int v = 0; v < f->iovs; v++) {
		size_t len = f->iov[i][v].iov_len;

		if (len > n || (len && memcmp(p, f->iov[i][v].iov_base, len)))
			return 0;
		p += len;
		n -= len;
	}
	return n == 0;
}

/* keeps I4: what is there already counts only when it is the same. */
static int compare(struct put_object *o, int i)
{
	int rc = o->req.result;

	if (rc == -ENOENT)
		rc = -EAGAIN; /* it was there, and went: whoever deletes it decides what is next */
	else if (rc == 0)
		rc = body_equals(o->run->f, i, o->iov.iov_base, o->req.size) ? 0 : -ESTALE;
	free(o->iov.iov_base);
	o->iov.iov_base = NULL;
	return rc;
}

static void put_done(struct backend_req *req)
{
	struct put_object *o = container_of(req, struct put_object, req);
	struct fanout_put_run *g = o->run;
	struct fanout_put *f = g->f;
	int rc = req->result, reading = req->op == BACKEND_GET;

	if (reading)
		rc = compare(o, (int)(o - g->o));
	pthread_mutex_lock(&f->lock);
	o->result = rc;
	o->state = !reading && rc == -EEXIST ? PUT_READ_NEXT : PUT_ENDED;
	drive_unlock(g);
}

/* Submits the put, or the reading back. Without the lock, by the driver. */
static void put_send(struct fanout_put_run *g, int i, int reading)
{
	struct fanout_put *f = g->f;
	struct put_object *o = &g->o[i];

	o->req = (struct backend_req){
		.op = BACKEND_PUT,
		.flags = f->flags,
		.key = f->keys[i],
		.iov = f->iov[i],
		.iovs = f->iovs,
		.deadline = f->deadline,
		.done = put_done,
	};
	if (reading) {
		/* One byte more than expected, so that a longer object shows. */
		o->iov.iov_len = backend_req_bytes(&o->req) + 1;
		o->iov.iov_base = malloc(o->iov.iov_len);
		o->req.op = BACKEND_GET;
		o->req.flags = f->flags & BACKEND_BACKGROUND;
		o->req.iov = &o->iov;
		o->req.iovs = 1;
		if (!o->iov.iov_base) {
			o->req.result = -ENOMEM;
			put_done(&o->req);
			return;
		}
	}
	backend_submit(f->backends[i], &o->req);
}

/* What the driver does next: the index of an object in that state, or -1. */
static int find_locked(const struct fanout_put_run *g, enum put_state state)
{
	for (int i = 0; i < g->n; i++)
		if (g->o[i].state == state)
			return i;
	return -1;
}

static int find_to_cancel_locked(struct fanout_put_run *g)
{
	for (int i = 0; g->cancelled && i < g->n; i++)
		if ((g->o[i].state == PUT_PUT || g->o[i].state == PUT_READ) && !g->o[i].cancel_sent)
			return i;
	return -1;
}

static void send_locked(struct fanout_put_run *g, int i, int reading)
{
	if (g->cancelled) {
		g->o[i].result = -ECANCELED;
		g->o[i].state = PUT_ENDED;
		return;
	}
	g->o[i].state = reading ? PUT_READ : PUT_PUT;
	g->o[i].cancel_sent = 0;
	pthread_mutex_unlock(&g->f->lock);
	put_send(g, i, reading);
	pthread_mutex_lock(&g->f->lock);
}

static void tell_locked(struct fanout_put_run *g, int i)
{
	int rc = g->o[i].result;

	g->o[i].state = PUT_TOLD;
	g->left--;
	g->f->result[i] = rc;
	pthread_mutex_unlock(&g->f->lock);
	if (g->f->progress)
		g->f->progress(g->f, i, rc);
	pthread_mutex_lock(&g->f->lock);
}

/* Enters with the lock, leaves without. */
static void drive_unlock(struct fanout_put_run *g)
{
	struct fanout_put *f = g->f;
	int i;

	if (g->driving) {
		pthread_mutex_unlock(&f->lock);
		return;
	}
	g->driving = 1;
	for (;;) {
		if ((i = find_locked(g, PUT_IDLE)) >= 0) {
			send_locked(g, i, 0);
		} else if ((i = find_locked(g, PUT_ENDED)) >= 0) {
			tell_locked(g, i);
		} else if ((i = find_locked(g, PUT_READ_NEXT)) >= 0) {
			send_locked(g, i, 1);
		} else if ((i = find_to_cancel_locked(g)) >= 0) {
			g->o[i].cancel_sent = 1;
			pthread_mutex_unlock(&g->f->lock);
			backend_cancel(f->backends[i], &g->o[i].req);
			pthread_mutex_lock(&g->f->lock);
		} else {
			break;
		}
	}
	if (g->left == 0 && g->refs == 0) {
		f->impl = NULL; /* a cancel that comes late finds nothing */
		pthread_mutex_unlock(&f->lock);
		free(g);
		f->done(f);
		return;
	}
	g->driving = 0;
	pthread_mutex_unlock(&g->f->lock);
}

static void put_refuse(struct fanout_put *f, int rc)
{
	for (int i = 0; i < MIN(f->n, FANOUT_MAX); i++) {
		if (!(f->todo >> i & 1))
			continue;
		f->result[i] = rc;
		if (f->progress)
			f->progress(f, i, rc);
	}
	f->done(f);
}

void fanout_put(struct fanout_put *f)
{
	struct fanout_put_run *g;

	pthread_mutex_init(&f->lock, NULL);
	f->impl = NULL;
	memset(f->result, 0, sizeof(f->result));
	if (f->n < 1 || f->n > FANOUT_MAX || (f->n < 32 && f->todo >> f->n)) {
		put_refuse(f, -EINVAL);
		return;
	}
	g = calloc(1, sizeof(*g) + (size_t)f->n * sizeof(g->o[0]));
	if (!g) {
		put_refuse(f, -ENOMEM);
		return;
	}
	g->f = f;
	g->n = f->n;
	for (int i = 0; i < f->n; i++) {
		g->o[i].run = g;
		g->o[i].state = f->todo >> i & 1 ? PUT_IDLE : PUT_TOLD;
		g->left += f->todo >> i & 1;
	}
	pthread_mutex_lock(&f->lock);
	f->impl = g;
	drive_unlock(g);
}

void fanout_put_cancel(struct fanout_put *f)
{
	struct fanout_put_run *g;

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
