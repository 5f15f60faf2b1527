#include "backends/backend.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"

static int key_chars(const char *key)
{
	size_t n = strlen(key);

	if (n > BACKEND_KEY_MAX || strstr(key, "..") || strstr(key, "//") || strstr(key, "/."))
		return 0;
	if (key[0] == '/' || key[0] == '.')
		return 0;
	return strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-") ==
	       n;
}

int backend_key_check(const char *key)
{
	if (!key || !*key || !key_chars(key) || key[strlen(key) - 1] == '/')
		return -EINVAL;
	return 0;
}

int backend_prefix_check(const char *prefix)
{
	return prefix && key_chars(prefix) ? 0 : -EINVAL;
}

static int req_check(const struct backend_req *req)
{
	if (req->iovs < 0 || (req->iovs > 0 && !req->iov) || req->deadline < 0 || req->patience < 0)
		return -EINVAL;
	switch (req->op) {
	case BACKEND_PUT:
		if (req->flags & ~(unsigned)(BACKEND_IF_ABSENT | BACKEND_BACKGROUND))
			return -EINVAL;
		break;
	case BACKEND_GET:
		if (req->offset > INT64_MAX || backend_req_bytes(req) > INT64_MAX - req->offset)
			return -EINVAL;
		break;
	case BACKEND_HEAD:
	case BACKEND_DELETE:
		break;
	case BACKEND_LIST:
		return backend_prefix_check(req->key);
	default:
		return -EINVAL;
	}
	return backend_key_check(req->key);
}

void backend_submit(struct backend *b, struct backend_req *req)
{
	int rc = req_check(req);

	req->result = 0;
	req->size = 0;
	req->retry_after = 0;
	req->waited = 0;
	req->date = 0;
	req->unasked = 0;
	req->entries = NULL;
	req->nentries = 0;
	req->next_token = NULL;
	memset(req->impl, 0, sizeof(req->impl));
	/* Nobody needs to be asked any more; nor is it the backend's fault. */
	if (!rc && req->deadline && clock_mono_ns() >= req->deadline)
		rc = -ETIMEDOUT;
	if (rc) {
		req->result = rc;
		req->unasked = 1;
		req->done(req);
		return;
	}
	b->ops->submit(b, req);
}

void backend_cancel(struct backend *b, struct backend_req *req)
{
	b->ops->cancel(b, req);
}

void backend_destroy(struct backend *b)
{
	if (b)
		b->ops->destroy(b);
}

int backend_space(struct backend *b, uint64_t *total, uint64_t *avail)
{
	while (b && !b->ops->space)
		b = b->below;
	*total = *avail = 0;
	return b ? b->ops->space(b, total, avail) : -EOPNOTSUPP;
}

int backend_claim(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16], struct err *e)
{
	while (b && !b->ops->claim)
		b = b->below;
	/* A kind without markers tells places apart by other means; there is nothing to do. */
	return b ? b->ops->claim(b, drive, uuid, e) : 0;
}

int backend_unclaim(struct backend *b, const uint8_t drive[16], struct err *e)
{
	while (b && !b->ops->unclaim)
		b = b->below;
	return b ? b->ops->unclaim(b, drive, e) : 0;
}

int backend_verify(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		   int64_t timeout, struct err *e)
{
	while (b && !b->ops->verify)
		b = b->below;
	return b ? b->ops->verify(b, drive, uuid, timeout, e) : 0;
}

/* Blocking wrappers. */

struct wait {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int ended; /* by lock */
};

static void wait_done(struct backend_req *req)
{
	struct wait *w = req->user;

	SCOPE_LOCK(&w->lock);
	w->ended = 1;
	pthread_cond_signal(&w->cond);
}

#define STOP_LOOK (50 * NS_PER_MS)

/* 1 when the request has ended, 0 when it is to be cancelled. */
static int wait_for(struct backend *b, struct wait *w)
{
	SCOPE_LOCK(&w->lock);

	while (!w->ended && !backend_stopped(b))
		cond_wait_until(&w->cond, &w->lock, b->stop ? clock_mono_ns() + STOP_LOOK : 0);
	return w->ended;
}

/* The backend guarantees done() by the deadline, so the wait itself needs none. */
static int run(struct backend *b, struct backend_req *req, int64_t timeout)
{
	struct wait w = { .lock = PTHREAD_MUTEX_INITIALIZER };

	if (backend_stopped(b))
		return -ECANCELED;
	if (cond_init_mono(&w.cond))
		return -ENOMEM;
	req->user = &w;
	req->done = wait_done;
	req->deadline = timeout > 0 ? clock_mono_ns() + timeout : 0;
	backend_submit(b, req);
	if (!wait_for(b, &w))
		backend_cancel(b, req);
	pthread_mutex_lock(&w.lock);
	while (!w.ended)
		cond_wait_until(&w.cond, &w.lock, 0);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
	return req->result;
}

int backend_put_wait(struct backend *b, const char *key, const void *p, size_t n, unsigned flags,
		     int64_t timeout)
{
	struct iovec iov = { (void *)p, n };
	struct backend_req req = {
		.op = BACKEND_PUT, .key = key, .flags = flags, .iov = &iov, .iovs = 1
	};

	return run(b, &req, timeout);
}

int backend_get_wait(struct backend *b, const char *key, uint64_t off, void *p, size_t n,
		     size_t *got, int64_t timeout)
{
	struct iovec iov = { p, n };
	struct backend_req req = {
		.op = BACKEND_GET, .key = key, .offset = off, .iov = &iov, .iovs = 1
	};
	int rc = run(b, &req, timeout);

	*got = rc ? 0 : req.size;
	return rc;
}

int backend_read_wait(struct backend *b, const char *key, size_t max, uint8_t **p, size_t *n,
		      int64_t timeout)
{
	uint64_t size;
	uint8_t *bytes;
	size_t got;
	int rc;

	*p = NULL;
	*n = 0;
	rc = backend_head_wait(b, key, &size, timeout);
	if (rc)
		return rc;
	if (size > max)
		return -EFBIG;
	/* One more than it should have: an object that is longer than its HEAD said shows. */
	bytes = malloc(size + 1);
	if (!bytes)
		return -ENOMEM;
	rc = backend_get_wait(b, key, 0, bytes, size + 1, &got, timeout);
	if (!rc && got != size)
		rc = -EBADMSG;
	if (rc) {
		free(bytes);
		return rc;
	}
	*p = bytes;
	*n = got;
	return 0;
}

int backend_head_wait(struct backend *b, const char *key, uint64_t *size, int64_t timeout)
{
	struct backend_req req = { .op = BACKEND_HEAD, .key = key };
	int rc = run(b, &req, timeout);

	*size = rc ? 0 : req.size;
	return rc;
}

int backend_delete_wait(struct backend *b, const char *key, int64_t timeout)
{
	struct backend_req req = { .op = BACKEND_DELETE, .key = key };
	int rc = run(b, &req, timeout);

	return rc == -ENOENT ? 0 : rc;
}

/* Adds a page to the list. -EBADMSG when it is not in order behind what is there: a server that
 * repeats a page would otherwise keep the caller here for ever. */
static int list_append(struct backend_entry **all, size_t *n, const struct backend_req *page)
{
	struct backend_entry *more;

	if (page->nentries == 0)
		return 0;
	if (*n && strcmp((*all)[*n - 1].key, page->entries[0].key) >= 0)
		return -EBADMSG;
	more = reallocarray(*all, *n + page->nentries, sizeof(**all));
	if (!more)
		return -ENOMEM;
	memcpy(more + *n, page->entries, page->nentries * sizeof(**all));
	*all = more;
	*n += page->nentries;
	return 0;
}

/* until: the deadline of all pages together; 0: each page has `timeout`. */
static int list_wait(struct backend *b, const char *prefix, size_t max, int64_t timeout,
		     int64_t until, struct backend_entry **entries, size_t *n)
{
	char *token = NULL;
	int rc, empty = 0;

	*entries = NULL;
	*n = 0;
	do {
		struct backend_req req = { .op = BACKEND_LIST, .key = prefix, .token = token };
		int64_t left = until ? until - clock_mono_ns() : timeout;

		rc = until && left <= 0 ? -ETIMEDOUT : run(b, &req, left);
		if (!rc && req.nentries > max - *n)
			rc = -EFBIG;
		if (!rc)
			rc = list_append(entries, n, &req);
		empty = req.nentries ? 0 : empty + 1;
		if (!rc && empty > 1000)
			rc = -EBADMSG;
		free(req.entries);
		free(token);
		token = req.next_token;
	} while (!rc && token);
	free(token);
	if (rc) {
		free(*entries);
		*entries = NULL;
		*n = 0;
	}
	return rc;
}

int backend_list_wait(struct backend *b, const char *prefix, struct backend_entry **entries,
		      size_t *n, int64_t timeout)
{
	return list_wait(b, prefix, SIZE_MAX, timeout, 0, entries, n);
}

int backend_list_few_wait(struct backend *b, const char *prefix, size_t max,
			  struct backend_entry **entries, size_t *n, int64_t timeout)
{
	int64_t until = clock_mono_ns() + (timeout > 0 ? timeout : BACKEND_TIMEOUT);

	return list_wait(b, prefix, max, timeout, until, entries, n);
}
