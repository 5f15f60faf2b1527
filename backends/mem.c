#include "backends/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kinds.h"
#include "fs/base/clock.h"
#include "fs/base/options.h"
#include "fs/base/scope.h"
#include "fs/base/workq.h"

#define LIST_PAGE 1000

struct object {
	char *key;
	uint8_t *bytes;
	size_t size;
};

struct mem_store {
	pthread_mutex_t lock;
	struct object *objects; /* by lock: sorted by key */
	size_t count, cap;      /* by lock */
};

struct mem {
	struct backend b;
	struct mem_store *store;
	int owns_store;
	struct workq *q; /* NULL: synchronous */
	int64_t latency;
	pthread_mutex_t lock; /* guards impl[0] of requests, and calls */
	pthread_cond_t idle;
	unsigned live; /* by lock: calls not yet freed */
};

/* A request on its way through the threads. */
struct call {
	struct mem *m;
	struct backend_req *req; /* by m->lock; NULL: answered by cancel */
	int64_t deadline;
};

/* Index of the first object whose key is not below `key`. */
static size_t find_locked(const struct mem_store *s, const char *key)
{
	size_t lo = 0, hi = s->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(s->objects[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct object *get_locked(const struct mem_store *s, const char *key)
{
	size_t i = find_locked(s, key);

	return i < s->count && strcmp(s->objects[i].key, key) == 0 ? &s->objects[i] : NULL;
}

static int insert_locked(struct mem_store *s, const char *key, uint8_t *bytes, size_t size)
{
	size_t i = find_locked(s, key);
	char *name = strdup(key);

	if (!name)
		return -ENOMEM;
	if (s->count == s->cap) {
		size_t cap = MAX(2 * s->cap, 64u);
		struct object *o = reallocarray(s->objects, cap, sizeof(*o));

		if (!o) {
			free(name);
			return -ENOMEM;
		}
		s->objects = o;
		s->cap = cap;
	}
	memmove(s->objects + i + 1, s->objects + i, (s->count - i) * sizeof(*s->objects));
	s->objects[i] = (struct object){ .key = name, .bytes = bytes, .size = size };
	s->count++;
	return 0;
}

static int mem_put(struct mem_store *s, struct backend_req *req)
{
	size_t n = backend_req_bytes(req), at = 0;
	uint8_t *bytes = malloc(n + 1);
	struct object *o;
	int rc = 0;

	if (!bytes)
		return -ENOMEM;
	for (int i = 0; i < req->iovs; i++) {
		if (req->iov[i].iov_len)
			memcpy(bytes + at, req->iov[i].iov_base, req->iov[i].iov_len);
		at += req->iov[i].iov_len;
	}
	SCOPE_LOCK(&s->lock);
	o = get_locked(s, req->key);
	if (!o) {
		rc = insert_locked(s, req->key, bytes, n);
	} else if (req->flags & BACKEND_IF_ABSENT) {
		rc = -EEXIST;
	} else {
		free(o->bytes);
		o->bytes = bytes;
		o->size = n;
	}
	if (rc)
		free(bytes);
	return rc;
}

static int mem_get(struct mem_store *s, struct backend_req *req)
{
	struct object *o;
	size_t at, left;

	SCOPE_LOCK(&s->lock);
	o = get_locked(s, req->key);
	if (!o)
		return -ENOENT;
	at = MIN(req->offset, o->size);
	left = o->size - at;
	for (int i = 0; i < req->iovs && left; i++) {
		size_t n = MIN(left, req->iov[i].iov_len);

		if (n)
			memcpy(req->iov[i].iov_base, o->bytes + at, n);
		at += n;
		left -= n;
		req->size += n;
	}
	return 0;
}

static int mem_head(struct mem_store *s, struct backend_req *req)
{
	struct object *o;

	SCOPE_LOCK(&s->lock);
	o = get_locked(s, req->key);
	if (!o)
		return -ENOENT;
	req->size = o->size;
	return 0;
}

static int mem_delete(struct mem_store *s, struct backend_req *req)
{
	struct object *o;

	SCOPE_LOCK(&s->lock);
	o = get_locked(s, req->key);
	if (!o)
		return 0;
	free(o->key);
	free(o->bytes);
	s->count--;
	memmove(o, o + 1, (size_t)(s->objects + s->count - o) * sizeof(*o));
	return 0;
}

static int mem_list(struct mem_store *s, struct backend_req *req)
{
	size_t plen = strlen(req->key), first, n = 0;
	const char *last;

	SCOPE_LOCK(&s->lock);
	first = find_locked(s, req->key);
	if (req->token && strcmp(req->token, req->key) >= 0) {
		first = find_locked(s, req->token);
		if (first < s->count && strcmp(s->objects[first].key, req->token) == 0)
			first++;
	}
	while (first + n < s->count && n < LIST_PAGE &&
	       strncmp(s->objects[first + n].key, req->key, plen) == 0)
		n++;
	if (n == 0)
		return 0;
	req->entries = calloc(n, sizeof(*req->entries));
	if (!req->entries)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		snprintf(req->entries[i].key, sizeof(req->entries[i].key), "%s",
			 s->objects[first + i].key);
		req->entries[i].size = s->objects[first + i].size;
	}
	req->nentries = n;
	last = s->objects[first + n - 1].key;
	if (n < LIST_PAGE || first + n == s->count ||
	    strncmp(s->objects[first + n].key, req->key, plen) != 0)
		return 0;
	req->next_token = strdup(last);
	if (req->next_token)
		return 0;
	free(req->entries);
	req->entries = NULL;
	req->nentries = 0;
	return -ENOMEM;
}

static int mem_run(struct mem *m, struct backend_req *req)
{
	static int (*const runs[])(struct mem_store *, struct backend_req *) = {
		[BACKEND_PUT] = mem_put,       [BACKEND_GET] = mem_get,   [BACKEND_HEAD] = mem_head,
		[BACKEND_DELETE] = mem_delete, [BACKEND_LIST] = mem_list,
	};

	req->date = clock_real_ns() / NS_PER_S;
	return runs[req->op](m->store, req);
}

static void call_free(struct call *c)
{
	struct mem *m = c->m;

	free(c);
	SCOPE_LOCK(&m->lock);
	if (--m->live == 0)
		pthread_cond_broadcast(&m->idle);
}

static void call_run(void *arg)
{
	struct call *c = arg;
	struct mem *m = c->m;
	struct backend_req *req;

	pthread_mutex_lock(&m->lock);
	req = c->req;
	c->req = NULL;
	if (req)
		req->impl[0] = NULL; /* too late to cancel it */
	pthread_mutex_unlock(&m->lock);
	if (req) {
		req->result = clock_mono_ns() >= c->deadline ? -ETIMEDOUT : mem_run(m, req);
		req->done(req);
	}
	call_free(c);
}

static void mem_submit(struct backend *b, struct backend_req *req)
{
	struct mem *m = container_of(b, struct mem, b);
	int64_t now = clock_mono_ns(), deadline = backend_deadline(b, req);
	struct call *c;

	if (!m->q) {
		req->result = now >= deadline ? -ETIMEDOUT : mem_run(m, req);
		req->done(req);
		return;
	}
	c = malloc(sizeof(*c));
	if (!c) {
		req->result = -ENOMEM;
		req->done(req);
		return;
	}
	*c = (struct call){ .m = m, .req = req, .deadline = deadline };
	pthread_mutex_lock(&m->lock);
	m->live++;
	req->impl[0] = c;
	pthread_mutex_unlock(&m->lock);
	if (m->latency || now >= deadline)
		workq_submit_at(m->q, MIN(now + m->latency, deadline), call_run, c);
	else
		workq_submit(m->q, call_run, c);
}

static void mem_cancel(struct backend *b, struct backend_req *req)
{
	struct mem *m = container_of(b, struct mem, b);
	struct call *c;

	pthread_mutex_lock(&m->lock);
	c = req->impl[0];
	if (c) {
		c->req = NULL;
		req->impl[0] = NULL;
		m->live++; /* until done() has returned */
	}
	pthread_mutex_unlock(&m->lock);
	if (!c)
		return;
	req->result = -ECANCELED;
	req->done(req);
	SCOPE_LOCK(&m->lock);
	if (--m->live == 0)
		pthread_cond_broadcast(&m->idle);
}

static void mem_destroy(struct backend *b)
{
	struct mem *m = container_of(b, struct mem, b);

	workq_destroy(m->q);
	pthread_mutex_lock(&m->lock);
	while (m->live)
		cond_wait_until(&m->idle, &m->lock, 0);
	pthread_mutex_unlock(&m->lock);
	if (m->owns_store)
		mem_store_destroy(m->store);
	pthread_cond_destroy(&m->idle);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct backend_ops mem_ops = {
	.name = "mem",
	.submit = mem_submit,
	.cancel = mem_cancel,
	.destroy = mem_destroy,
};

struct mem_store *mem_store_create(void)
{
	struct mem_store *s = calloc(1, sizeof(*s));

	if (s)
		pthread_mutex_init(&s->lock, NULL);
	return s;
}

void mem_store_destroy(struct mem_store *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++) {
		free(s->objects[i].key);
		free(s->objects[i].bytes);
	}
	free(s->objects);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

uint64_t mem_store_count(struct mem_store *s)
{
	SCOPE_LOCK(&s->lock);
	return s->count;
}

int mem_store_flip(struct mem_store *s, const char *key, uint64_t offset, uint8_t bits)
{
	struct object *o;

	SCOPE_LOCK(&s->lock);
	o = get_locked(s, key);
	if (!o)
		return -ENOENT;
	if (offset >= o->size)
		return -ERANGE;
	o->bytes[offset] ^= bits;
	return 0;
}

struct backend *mem_open(struct mem_store *store, int threads, int64_t latency)
{
	struct mem *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->b.ops = &mem_ops;
	snprintf(m->b.name, sizeof(m->b.name), "mem");
	m->latency = latency;
	m->owns_store = !store;
	m->store = store ? store : mem_store_create();
	if (!m->store)
		goto free_m;
	if (cond_init_mono(&m->idle))
		goto free_store;
	pthread_mutex_init(&m->lock, NULL);
	if (threads == 0)
		return &m->b;
	m->q = workq_create("sk-mem", threads);
	if (m->q)
		return &m->b;

	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->idle);
free_store:
	if (m->owns_store)
		mem_store_destroy(m->store);
free_m:
	free(m);
	return NULL;
}

/* The kind: mem://NAME?threads=2&latency=20ms; each opening is a store of its own. */

static int mem_params(const struct backend_url *u, uint64_t *threads, int64_t *latency,
		      struct err *e)
{
	const char *t = backend_url_param(u, "threads"), *l = backend_url_param(u, "latency");

	*threads = 0;
	*latency = 0;
	if (t && (parse_size(t, threads) || *threads > 64))
		return err_set(e, -EINVAL, "mem://%s: threads=%s is not 0 to 64", u->path, t);
	if (l && (parse_duration(l, latency) || *latency < 0 || *threads == 0))
		return err_set(e, -EINVAL, "mem://%s: latency=%s is no duration, or threads=0",
			       u->path, l);
	return 0;
}

static int mem_check(const struct backend_url *u, struct err *e)
{
	uint64_t threads;
	int64_t latency;

	return mem_params(u, &threads, &latency, e);
}

static char *mem_place(const struct backend_url *u)
{
	return strdup(u->path);
}

static char *mem_provider(const struct backend_url *u)
{
	char *s = NULL;

	return asprintf(&s, "mem:%s", u->path) < 0 ? NULL : s;
}

static int mem_kind_open(const struct backend_url *u, const struct backend_env *env,
			 struct backend **out, struct err *e)
{
	uint64_t threads;
	int64_t latency;
	int rc = mem_params(u, &threads, &latency, e);

	*out = NULL;
	if (rc)
		return rc;
	*out = mem_open(NULL, (int)threads, latency);
	return *out ? 0 : err_set(e, -ENOMEM, "mem://%s: out of memory or threads", u->path);
}

static const char *const mem_known[] = { "threads", "latency", NULL };

const struct backend_kind mem_kind = {
	.scheme = "mem",
	.params = mem_known,
	.check = mem_check,
	.provider = mem_provider,
	.place = mem_place,
	.open = mem_kind_open,
};
