/* One HTTP engine for all backends of the process: libcurl's multi interface in one network
 * thread, counted by its users. HTTP/1.1, connections kept and reused, TLS verified, the proxy
 * environment honoured (but never for loopback), redirects not followed, no "Expect:" stall.
 *
 * A site is what the requests of one backend have in common: its CA file and how many requests it
 * may have on the wire at a time; the others wait in order.
 *
 * Limits of one request: 3 s to connect (name, TCP, TLS), 15 s at less than 1000 bytes/s either
 * way, which is also how long a server may think before its first byte, and the deadline, which
 * counts from http_submit.
 *
 * Nothing of a request's headers, query or body is ever logged. */
#ifndef BACKENDS_HTTP_H
#define BACKENDS_HTTP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/list.h"

struct http_site;
struct http_transfer;

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_POST, HTTP_DELETE };

enum http_state { HTTP_IDLE, HTTP_WAITING, HTTP_RUNNING, HTTP_FINISHED };

#define HTTP_PARK 1

/* Where the body of an answer goes. */
enum http_sink {
	HTTP_TO_TEXT, /* into text, at most max_text bytes */
	HTTP_TO_IOV,  /* into into[], at most the sum of its lengths */
};

/* The caller owns the request and all it points to, until done(). Start with { 0 }. */
struct http_req {
	/* What is asked. */
	enum http_method method;
	int parked;        /* 1: is never sent; waits for http_wake, http_cancel or its deadline */
	const char *url;   /* encoded; sent as it is */
	const char *shown; /* for the debug log: the URL without query */
	const struct buf *headers; /* "Name: value\0" one after the other; NULL: none */
	const struct iovec *body;  /* PUT, POST */
	int bodies;
	const struct iovec *into; /* GET */
	int intos;
	size_t max_text;  /* 0: 64 KiB */
	int64_t deadline; /* absolute, monotonic ns; required */
	int64_t patience; /* ns it may take once it is on the wire; 0: no limit */
	uint64_t pace;    /* bytes per second of the body, either way; 0: no limit */
	/* Called when its turn has come, to fill in url, headers and body: what is signed, dated or
	 * carries a token must not grow old while it waits. 0; HTTP_PARK: not yet, it is parked
	 * instead; a negative errno ends it, unasked. Optional. On the network thread, no locks
	 * held. */
	int (*prepare)(struct http_req *r);
	/* Called once the headers of an answer are complete (status and http_header work):
	 * enum http_sink, or a negative errno that ends the request. NULL: HTTP_TO_TEXT. On the
	 * network thread, no locks held. */
	int (*headers_done)(struct http_req *r);
	/* Exactly once, always on the network thread, no locks held. It may free or submit the
	 * request again. */
	void (*done)(struct http_req *r);
	void *user;

	/* What came of it; valid in done(), until the request is submitted again. */
	int result;  /* 0: there is an answer, look at status. Else -ETIMEDOUT, -ECANCELED, -EAGAIN
			(connection refused, reset, unknown host), -EACCES (certificate), -EBADMSG
			(not HTTP, too long), -ENOMEM, -EIO */
	int unasked; /* 1: it failed on this machine before anything was sent */
	int status;  /* 200... */
	struct buf text;   /* the body, unless it went to into[] */
	uint64_t got;      /* bytes delivered to into[] */
	struct buf answer; /* header lines "Name: value\0" */
	char problem[256]; /* what went wrong, in libcurl's words; never a secret */

	/* The engine's own, guarded by its lock. */
	enum http_state state;
	int cancelled, woken, restarted;
	int64_t due;
	struct list link, change;
	struct http_site *site;
	struct http_transfer *transfer;
};

struct http_conf {
	const char *ca; /* file or folder of certificates; NULL: the system's */
	int direct;     /* 1: no proxy */
	int max;        /* requests on the wire at a time; 0: 32 */
};

/* 0; -ENOENT or -EINVAL (ca; with a sentence), -ENOMEM, -EAGAIN (no thread). The first one starts
 * the network thread: not before a fork. */
int http_site_open(const struct http_conf *conf, struct http_site **out, struct err *e);
/* Nothing may be in flight. The last one ends the thread: not from the network thread. NULL is
 * fine. */
void http_site_close(struct http_site *s);

/* Never blocks, never fails, never calls done() itself. */
void http_submit(struct http_site *s, struct http_req *r);
/* done() comes soon, with -ECANCELED unless it has ended already; then it does nothing. The
 * request's memory must still be there; an idle one (never submitted) is fine. */
void http_cancel(struct http_req *r);
/* A parked request ends with 0. As http_cancel. */
void http_wake(struct http_req *r);
/* Frees text and answer. */
void http_req_release(struct http_req *r);

/* Value of the answer's header (case-insensitive, the first of that name), or NULL. Valid as long
 * as the answer. */
const char *http_header(const struct http_req *r, const char *name);

#endif
