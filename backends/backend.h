/* A backend: one place that stores objects. Asynchronous; every real backend and every layer
 * (retry, limit, stats, fault) has this one interface. One contract test suite runs over all of
 * them; the in-memory backend is its reference.
 *
 * Objects are written once and never changed. Keys are 1..200 bytes of [A-Za-z0-9._/-]; parts
 * between '/' are not empty and do not begin with '.'; ".." stands nowhere. No key is another's
 * folder: with "a/b" there is no "a" (a folder cannot hold both).
 *
 * Results (0 or negative errno in req->result):
 * - -ENOENT: get, head: the backend answered that there is no such object. An absent *backend* is
 *   -ENODEV, never -ENOENT.
 * - -EEXIST: put with BACKEND_IF_ABSENT: an object is there. What it holds is the caller's to
 *   compare (I4).
 * - -ENODEV: the backend is absent or is not the drive's: folder missing, marker of another drive,
 *   bucket missing.
 * - -EACCES: credentials or permissions: the user must act.
 * - -ENOSPC: the backend is full or over quota.
 * - -ETIMEDOUT: the deadline, or the request's patience, passed.
 * - -ECANCELED: cancelled.
 * - -EAGAIN: worth repeating (throttled, server error, connection lost); retry_after may say when.
 * - -EBADMSG: the answer is not what it claims (wrong length, error document in a 200).
 * - -EINVAL: bad key or arguments. -ENOMEM: out of memory here. -EIO: else.
 */
#ifndef BACKENDS_BACKEND_H
#define BACKENDS_BACKEND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "fs/base/clock.h"
#include "fs/base/err.h"

#define BACKEND_KEY_MAX 200

enum backend_op { BACKEND_PUT, BACKEND_GET, BACKEND_HEAD, BACKEND_DELETE, BACKEND_LIST };
#define BACKEND_OPS 5

enum {
	BACKEND_IF_ABSENT = 1,  /* PUT: only when there is no such object */
	BACKEND_BACKGROUND = 2, /* nobody waits for it (healing): where requests queue, others go
				   first */
};

struct backend_entry {
	char key[BACKEND_KEY_MAX + 1];
	uint64_t size;
};

/* The caller owns the request and everything it points to until done() is called; done() may free
 * or reuse it. */
struct backend_req {
	/* What is asked. */
	enum backend_op op;
	unsigned flags;
	const char *key;  /* LIST: prefix, "" for all */
	int64_t deadline; /* absolute CLOCK_MONOTONIC ns; 0: the backend's own default (30 s) */
	/* ns that it may take once it has begun, waiting for a free slot not counted; 0: no limit
	 */
	int64_t patience;
	/* Bytes per second at which a network backend sends or takes the body, 0: as it comes. Set
	 * by the layer that limits bandwidth, so that a large object is no burst. */
	uint64_t pace;
	/* PUT: the body. GET: where the bytes go; the sum of lengths is what is wanted. */
	const struct iovec *iov;
	int iovs;
	uint64_t offset;   /* GET: from where */
	const char *token; /* LIST: next_token of the page before, NULL to start */
	/* Exactly once, from any thread, also from inside backend_submit or backend_cancel; no
	 * locks are held. It must not block: the thread may be the one that serves the network, or
	 * the timers, of all. */
	void (*done)(struct backend_req *req);
	void *user;

	/* What came of it; valid in done(). */
	int result;
	/* GET: bytes delivered, fewer than wanted only when the object ends there (0 behind its
	 * end). HEAD: the object's size. */
	uint64_t size;
	int64_t retry_after; /* ns to wait before a repetition, 0 unknown */
	int64_t waited;      /* ns of its time for which the backend is not to blame: queue, pace */
	int64_t date;        /* unix seconds by the backend's clock, 0 unknown */
	/* 1: it failed on this machine before the backend was asked, which says nothing about the
	 * backend's health. */
	int unasked;
	/* LIST: both malloc'ed and the caller's. Entries are sorted by key, NULL when none; a page
	 * may be empty. next_token is NULL on the last page. */
	struct backend_entry *entries;
	size_t nentries;
	char *next_token;

	/* For whoever executes the request. */
	void *impl[4];
};

struct backend;

struct backend_ops {
	/* Required: "file", "s3", "retry"... */
	const char *name;
	/* Required. */
	void (*submit)(struct backend *b, struct backend_req *req);
	/* Required: hastens done(-ECANCELED); done may still report success. */
	void (*cancel)(struct backend *b, struct backend_req *req);
	/* Required: waits for requests in flight; layers destroy what is below. */
	void (*destroy)(struct backend *b);
	/* Optional: -EOPNOTSUPP when unknown; local and quick only. */
	int (*space)(struct backend *b, uint64_t *total, uint64_t *avail);
	/* Optional: binds the place to the drive: writes a marker that later requests verify.
	 * -EEXIST (filled): it holds another drive or other files. -EINPROGRESS: no clear answer
	 * came, the marker may be there. Blocks. */
	int (*claim)(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		     struct err *e);
	/* Optional: takes back what claim wrote, if it is this drive's, and folders that are empty
	 * by now; the place itself stays. 0 also when there is no marker; -EEXIST another drive's.
	 * Blocks. */
	int (*unclaim)(struct backend *b, const uint8_t drive[16], struct err *e);
	/* Optional: does the place carry the marker of this drive and backend? 0 yes, -ENOENT it
	 * carries none, -EEXIST (filled) another's; else why it cannot be told. Kinds whose every
	 * request looks have no such hook. Blocks, up to timeout (ns). */
	int (*verify)(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		      int64_t timeout, struct err *e);
};

struct backend {
	const struct backend_ops *ops;
	struct backend *below; /* layers: what is underneath, else NULL */
	int64_t timeout;       /* default ns for a request; 0: BACKEND_TIMEOUT. Layers inherit it */
	/* Atomic, NULL: none. Not 0: the blocking wrappers, and claim, unclaim and verify of
	 * clouds, cancel what they wait for and end in -ECANCELED. Layers inherit it. */
	const int *stop;
	char name[64]; /* for logs and status: "acme DE-FRA" or "file:/srv/a" */
};

#define BACKEND_TIMEOUT (30 * NS_PER_S)

/* When req has to have ended, by its deadline, its patience (from now) and the backend's default.
 * For implementers. */
static inline int64_t backend_deadline(const struct backend *b, const struct backend_req *req)
{
	int64_t now = clock_mono_ns();
	int64_t at = req->deadline;

	if (!at)
		at = now + (b->timeout ? b->timeout : BACKEND_TIMEOUT);
	return req->patience && now + req->patience < at ? now + req->patience : at;
}

/* Sum of the lengths of a request's I/O vector. */
static inline uint64_t backend_req_bytes(const struct backend_req *req)
{
	uint64_t n = 0;

	for (int i = 0; i < req->iovs; i++)
		n += req->iov[i].iov_len;
	return n;
}

/* Never blocks, never fails: bad arguments come back through done() too. The result fields are
 * cleared first. */
void backend_submit(struct backend *b, struct backend_req *req);
/* Only after backend_submit has returned. It may race with done(), or come after it, and then does
 * nothing; so the caller keeps the request's memory, and does not submit it again, until both have
 * happened. */
void backend_cancel(struct backend *b, struct backend_req *req);
void backend_destroy(struct backend *b); /* NULL is fine */
/* Was the owner of the backend asked to end? */
static inline int backend_stopped(const struct backend *b)
{
	return b->stop && __atomic_load_n(b->stop, __ATOMIC_RELAXED);
}
int backend_space(struct backend *b, uint64_t *total, uint64_t *avail);
int backend_claim(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		  struct err *e);
int backend_unclaim(struct backend *b, const uint8_t drive[16], struct err *e);
/* 0 also for a kind that verifies with every request. */
int backend_verify(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		   int64_t timeout, struct err *e);

/* 0 or -EINVAL. */
int backend_key_check(const char *key);
int backend_prefix_check(const char *prefix); /* "", or the beginning of a key */

/* Blocking wrappers for commands and tests. timeout in ns (0: default). */
int backend_put_wait(struct backend *b, const char *key, const void *p, size_t n, unsigned flags,
		     int64_t timeout);
int backend_get_wait(struct backend *b, const char *key, uint64_t off, void *p, size_t n,
		     size_t *got, int64_t timeout);
/* A whole object of at most max bytes, malloc'ed. -EFBIG when larger. */
int backend_read_wait(struct backend *b, const char *key, size_t max, uint8_t **p, size_t *n,
		      int64_t timeout);
int backend_head_wait(struct backend *b, const char *key, uint64_t *size, int64_t timeout);
int backend_delete_wait(struct backend *b, const char *key,
			int64_t timeout); /* 0 also when it was not there */
/* All pages. *entries malloc'ed. */
int backend_list_wait(struct backend *b, const char *prefix, struct backend_entry **entries,
		      size_t *n, int64_t timeout);
/* The same where few are expected, from a backend that may lie: all pages within timeout, and
 * -EFBIG beyond max entries, so that an answer without end neither hangs the caller nor fills its
 * memory. */
int backend_list_few_wait(struct backend *b, const char *prefix, size_t max,
			  struct backend_entry **entries, size_t *n, int64_t timeout);

#endif
