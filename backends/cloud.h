/* Internal: what S3, Azure Blob and Google Cloud Storage have in common. One backend request is
 * one HTTP request, or a few when something has to be cleared up first:
 *
 *   MAIN --404 that does not say whether object or bucket is missing--> PLACE (list one object)
 *   MAIN --the server knows no conditional put--> EXISTS (head) --absent--> MAIN, unconditional
 *   MAIN --clock, region, token or credentials corrected--> MAIN (each at most once)
 *
 * The kinds say how requests are built and answers judged (struct cloud_ops); this part validates
 * bodies, keeps cancellation exact and says in the log what the user can do. */
#ifndef BACKENDS_CLOUD_H
#define BACKENDS_CLOUD_H

#include <pthread.h>
#include "backends/backend.h"
#include "backends/credentials.h"
#include "backends/endpoint.h"
#include "backends/http.h"
#include "backends/kinds.h"
#include "backends/page.h"

#define CLOUD_LIST_MAX    1000
#define CLOUD_LIST_BYTES  (8 * 1024 * 1024)
#define CLOUD_MARKER      ".skyflok/drive"
#define CLOUD_OBJECT_TYPE "application/octet-stream"

enum cloud_step { CLOUD_MAIN, CLOUD_EXISTS, CLOUD_PLACE };

/* Verdicts besides 0 and negative errno. */
enum {
	CLOUD_WAIT = 1,     /* build: no token yet; cloud_wake_waiting() when there is */
	CLOUD_AGAIN,        /* judge: something was corrected */
	CLOUD_WHICH_ABSENT, /* judge: the object, or all of the place */
	CLOUD_NO_CONDITION, /* judge: the server does not do "only if absent" */
};

/* What was corrected already for a request; each once. */
enum { FIX_SKEW = 1, FIX_CREDENTIALS = 2, FIX_REGION = 4 };

struct cloud;

struct cloud_op {
	struct cloud *c;
	struct backend_req *req;
	struct http_req http;
	enum backend_op what; /* req->op; HEAD for a GET of no bytes */
	enum cloud_step step;
	unsigned fixed;
	int build_failed;    /* other than for want of memory: no token, a bad key */
	int cancelled;       /* by c->lock */
	int looked;          /* PUT: EXISTS has begun */
	int unconditional;   /* PUT: ...and found nothing */
	int pending;         /* PLACE: the result when the place is there */
	uint64_t want;       /* GET */
	uint64_t expect;     /* GET: bytes that the headers announce; HEAD by range: the size */
	unsigned attempt;    /* the kind's: which token fetch it waited for... */
	unsigned used;       /* ...which one's token it was sent with... */
	int unauthorized;    /* ...and how often a token was refused */
	struct list waiting; /* by c->lock */
	struct buf url, shown, headers, extra;
	struct iovec *iov; /* malloc'ed: a body of more than the caller's */
	struct page page;
};

struct cloud_fault {
	char code[80], message[300];
};

struct cloud_ops {
	/* Sets method, url (with op->url as memory), headers (op->headers) and body of op->http for
	 * op->step. Under c->lock. 0, CLOUD_WAIT, or negative errno. */
	int (*build)(struct cloud_op *op);
	/* Code and message of an error answer. */
	void (*fault)(const struct cloud_op *op, struct cloud_fault *f);
	/* What an answer outside of 2xx means: negative errno or a verdict. May correct something
	 * (takes c->lock itself). */
	int (*judge)(struct cloud_op *op, const struct cloud_fault *f);
	/* Is a 2xx to PUT, HEAD or DELETE the cloud's own word, not a proxy's page? HEAD sets
	 * req->size. 0 or -EBADMSG. */
	int (*accept)(struct cloud_op *op);
	int (*parse_list)(const char *text, size_t n, const char *strip, struct page *p);
	/* Reads the credentials again, under c->lock; 1 when they have changed. */
	int (*reload)(struct cloud *c);
	/* Frees what is the kind's own, and c. */
	void (*release)(struct cloud *c);
};

struct cloud {
	struct backend b;
	const struct cloud_ops *ops;
	struct http_site *site;
	struct endpoint ep;
	char *bucket;                          /* or container */
	char *prefix;                          /* "" or "a/b/" */
	struct credentials cred;               /* by lock */
	char *cred_name, *cred_file, *account; /* how they are found: see credentials_query */
	int time_signed;                       /* a wrong clock makes requests fail */
	int head_by_range; /* HEAD is a GET of the first byte: its errors have a body */
	int64_t default_deadline;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	/* by lock */
	unsigned live;    /* requests, and whatever else is to end before destroy */
	int no_condition; /* look before a conditional put */
	int64_t skew;     /* seconds that the cloud's clock is ahead */
	int64_t reloaded; /* when the credentials were last read again */
	struct {
		char id[80];
		int64_t at;
	} said[8];           /* what was logged lately */
	char words[400];     /* the last explanation, logged or not */
	struct list waiting; /* cloud_op.waiting: for a token */
};

/* Sets up what is common from the URL: name, endpoint (`dflt` unless the URL has one), bucket and
 * prefix (`path`, borrowed), deadlines. The memory is the kind's; on failure release() is the
 * caller's business. */
int cloud_init(struct cloud *c, const struct backend_ops *bops, const struct cloud_ops *ops,
	       const struct backend_url *u, const struct backend_env *env, const char *path,
	       const char *dflt, struct err *e);
/* The last step of open: joins the HTTP engine, with the URL's CA. */
int cloud_connect(struct cloud *c, const struct backend_url *u, struct err *e);
void cloud_release(struct cloud *c); /* what cloud_init set; not c itself */
/* The credentials query of this backend. */
struct credentials_query cloud_query(const struct cloud *c);

/* For struct backend_ops. */
void cloud_submit(struct backend *b, struct backend_req *req);
void cloud_cancel(struct backend *b, struct backend_req *req);
void cloud_destroy(struct backend *b);
int cloud_claim(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16], struct err *e);
int cloud_unclaim(struct backend *b, const uint8_t drive[16], struct err *e);
int cloud_verify(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		 int64_t timeout, struct err *e);

/* For the kinds. */
int64_t cloud_now_locked(const struct cloud *c); /* unix seconds by the cloud's clock */
void cloud_wake_waiting_locked(struct cloud *c);
void cloud_hold_locked(struct cloud *c); /* destroy waits until... */
void cloud_let(struct cloud *c);
/* Adds "name: value" to op->headers; a value with a line end makes it fail (-EINVAL). */
int cloud_header(struct cloud_op *op, const char *name, const char *value);
/* "bytes=a-b" of op's GET, or of a HEAD by range. */
void cloud_range(const struct cloud_op *op, char out[64]);
/* The object's full name: prefix and key. */
void cloud_name(const struct cloud_op *op, struct buf *out);
/* Says in the log, unless it was said lately: "<backend>: <text>". */
void cloud_say(struct cloud *c, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The last explanation, into out; "" when there is none, or b is no cloud. */
void cloud_words(struct backend *b, char *out, size_t size);
/* By status alone: what is the same for all HTTP services. 0 when it says nothing. */
int cloud_errno_of_status(int status);
/* Parameters that all kinds know, for struct backend_kind: list them first. */
#define CLOUD_PARAMS "endpoint", "credentials", "ca", "insecure", "conditional"
/* 0 no, 1 yes, -EINVAL with a sentence; dflt when absent. */
int cloud_flag(const struct backend_url *u, const char *name, int dflt, struct err *e);
/* Checks of endpoint, insecure and conditional, for check(). */
int cloud_check(const struct backend_url *u, const char *dflt, struct err *e);
/* "kind:authority-host" and "authority/base/path" for provider() and place(). malloc'ed. */
char *cloud_provider(const struct backend_url *u, const char *dflt);
char *cloud_place(const struct backend_url *u, const char *dflt);

#endif
