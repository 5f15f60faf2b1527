#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cloud.h"
#include "backends/http_parse.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define SKEW_MIN     60               /* seconds: servers forgive minutes */
#define RELOAD_EVERY (30 * NS_PER_S)  /* credentials are read again at most that often */
#define SAY_EVERY    (600 * NS_PER_S) /* the same trouble is logged at most that often */

static void op_start(struct cloud_op *op);

/* -- small things --------------------------------------------------------------------------- */

int64_t cloud_now_locked(const struct cloud *c)
{
	return clock_real_ns() / NS_PER_S + c->skew;
}

void cloud_hold_locked(struct cloud *c)
{
	c->live++;
}

void cloud_let(struct cloud *c)
{
	SCOPE_LOCK(&c->lock);
	if (!--c->live)
		pthread_cond_broadcast(&c->idle);
}

int cloud_header(struct cloud_op *op, const char *name, const char *value)
{
	if (strpbrk(value, "\r\n"))
		return -EINVAL;
	buf_printf(&op->headers, "%s: %s", name, value);
	buf_put8(&op->headers, 0);
	return op->headers.failed ? -ENOMEM : 0;
}

void cloud_range(const struct cloud_op *op, char out[64])
{
	uint64_t first = op->what == BACKEND_GET ? op->req->offset : 0;
	uint64_t n = op->what == BACKEND_GET ? op->want : 1;

	snprintf(out, 64, "bytes=%llu-%llu", (unsigned long long)first,
		 (unsigned long long)(first + n - 1));
}

void cloud_name(const struct cloud_op *op, struct buf *out)
{
	buf_printf(out, "%s%s", op->c->prefix, op->req->key);
}

/* 1 when it was; else it takes the place of what was said longest ago. */
static int said_lately(struct cloud *c, const char *id)
{
	int64_t now = clock_mono_ns();
	size_t oldest = 0;

	SCOPE_LOCK(&c->lock);
	for (size_t i = 0; i < ARRAY_LEN(c->said); i++) {
		if (!strncmp(c->said[i].id, id, sizeof(c->said[i].id) - 1)) {
			if (c->said[i].at && now - c->said[i].at < SAY_EVERY)
				return 1;
			c->said[i].at = now;
			return 0;
		}
		if (c->said[i].at < c->said[oldest].at)
			oldest = i;
	}
	snprintf(c->said[oldest].id, sizeof(c->said[oldest].id), "%s", id);
	c->said[oldest].at = now;
	return 0;
}

void cloud_say(struct cloud *c, const char *id, const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!said_lately(c, id))
		log_warn("%s: %s", c->b.name, text);
	SCOPE_LOCK(&c->lock);
	snprintf(c->words, sizeof(c->words), "%.*s", (int)sizeof(c->words) - 1, text);
}

void cloud_words(struct backend *b, char *out, size_t size)
{
	struct cloud *c = container_of(b, struct cloud, b);

	*out = 0;
	if (b->ops->submit != cloud_submit)
		return;
	SCOPE_LOCK(&c->lock);
	snprintf(out, size, "%s", c->words);
}

int cloud_errno_of_status(int status)
{
	switch (status) {
	case 401:
	case 403:
	case 407: /* the proxy wants a password */
		return -EACCES;
	case 404:
	case 410:
		return CLOUD_WHICH_ABSENT;
	case 412:
		return -EEXIST;
	case 408:
	case 425:
	case 429:
		return -EAGAIN;
	case 507:
		return -ENOSPC;
	}
	return status >= 500 ? -EAGAIN : -EIO;
}

/* -- the end of a request ------------------------------------------------------------------- */

static void op_free(struct cloud_op *op)
{
	http_req_release(&op->http);
	/* The URL may hold a SAS, the headers a bearer token. */
	if (op->url.p)
		explicit_bzero(op->url.p, op->url.len);
	if (op->headers.p)
		explicit_bzero(op->headers.p, op->headers.len);
	buf_release(&op->url);
	buf_release(&op->shown);
	buf_release(&op->headers);
	buf_release(&op->extra);
	page_release(&op->page);
	free(op->iov);
	free(op);
}

/* What the body took because it had to keep to its pace. */
static int64_t paced_ns(const struct backend_req *req)
{
	uint64_t n = req->op == BACKEND_PUT ? backend_req_bytes(req) : req->size;

	return (int64_t)((double)n / (double)req->pace * NS_PER_S);
}

static void op_finish(struct cloud_op *op, int result)
{
	struct backend_req *req = op->req;
	struct cloud *c = op->c;

	{
		SCOPE_LOCK(&c->lock);
		req->impl[0] = NULL;
	}
	req->result = result;
	if (req->op != BACKEND_LIST && (result || req->op != op->what))
		req->size = 0; /* also for a GET of nothing, which was a HEAD */
	if (!result && req->pace)
		req->waited = paced_ns(req);
	op_free(op);
	req->done(req);
	cloud_let(c);
}

/* -- corrections ---------------------------------------------------------------------------- */

/* Our signature may be refused because this machine's clock is wrong: then theirs is used. */
static int correct_skew(struct cloud_op *op)
{
	struct cloud *c = op->c;
	int64_t off;

	if (!c->time_signed || !op->req->date || (op->fixed & FIX_SKEW))
		return 0;
	{
		SCOPE_LOCK(&c->lock);
		off = op->req->date - cloud_now_locked(c);
		if (off > -SKEW_MIN && off < SKEW_MIN)
			return 0;
		c->skew += off;
		off = c->skew;
	}
	op->fixed |= FIX_SKEW;
	cloud_say(c, "skew",
		  "this machine's clock is %lld s %s the server's: requests are signed with the "
		  "server's time. Set the clock (is NTP running?)",
		  (long long)(off < 0 ? -off : off), off < 0 ? "ahead of" : "behind");
	return 1;
}

/* Keys may have been renewed meanwhile (session tokens, a rotated key in the drive's file). */
static int correct_credentials(struct cloud_op *op)
{
	struct cloud *c = op->c;
	int64_t now = clock_mono_ns();

	if (op->fixed & FIX_CREDENTIALS)
		return 0;
	op->fixed |= FIX_CREDENTIALS;
	SCOPE_LOCK(&c->lock);
	if (c->reloaded && now - c->reloaded < RELOAD_EVERY)
		return 0;
	c->reloaded = now;
	return c->ops->reload(c);
}

/* The cloud's own words, without anything that could steer a terminal. */
static void clean(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 32 || *s == 127)
			*s = ' ';
	}
}

static void explain(struct cloud_op *op, int result, const struct cloud_fault *f)
{
	struct cloud *c = op->c;
	char id[100], source[sizeof(c->cred.source)];

	if (result == -EEXIST || result == -ENOENT || result == -EAGAIN)
		return;
	snprintf(id, sizeof(id), "%d %s", result, f->code);
	{
		SCOPE_LOCK(&c->lock);
		memcpy(source, c->cred.source, sizeof(source));
	}
	if (result == -EACCES)
		cloud_say(
		    c, id,
		    "refused with %d %s (%s). Credentials used: %s. Check that they are valid "
		    "and may read, write, list and delete in %s",
		    op->http.status, f->code, f->message, source, c->bucket);
	else if (result == -ENODEV)
		cloud_say(c, id, "%s is not there: %d %s (%s)", c->bucket, op->http.status, f->code,
			  f->message);
	else if (result == -ENOSPC)
		cloud_say(c, id, "full or over quota: %d %s (%s)", op->http.status, f->code,
			  f->message);
	else if (result == -EBADMSG)
		cloud_say(c, id,
			  "an answer that is not what it claims to be (status %d): is something "
			  "between, a proxy or a login page?",
			  op->http.status);
	else
		cloud_say(c, id, "%d %s (%s)", op->http.status, f->code, f->message);
}

/* -- answers -------------------------------------------------------------------------------- */

/* The headers of a GET's answer against what was asked: I8, no body is believed by its status. */
static int check_range(struct cloud_op *op)
{
	const char *range = http_header(&op->http, "Content-Range");
	const char *length = http_header(&op->http, "Content-Length");
	uint64_t first = op->what == BACKEND_GET ? op->req->offset : 0;
	uint64_t want = op->what == BACKEND_GET ? op->want : 1, n;
	struct http_range r;

	/* An empty object: some servers answer 200, Azurite "206, bytes 0--1/0". Any other 200
	 * ignores the range. */
	if (length && !http_number(length, &n) && n == 0 &&
	    (!range || http_range_parse(range, &r))) {
		op->expect = 0;
		return HTTP_TO_TEXT;
	}
	if (op->http.status != 206 || !range || http_range_parse(range, &r) || r.first != first)
		return -EBADMSG;
	n = r.last - r.first + 1;
	if (n > want || (n < want && r.last + 1 != r.total))
		return -EBADMSG;
	if (length && (http_number(length, &r.last) || r.last != n))
		return -EBADMSG;
	if (op->what == BACKEND_GET) {
		op->expect = n;
		return HTTP_TO_IOV;
	}
	if (r.total == UINT64_MAX)
		return -EBADMSG;
	op->expect = r.total;
	return HTTP_TO_TEXT;
}

static int by_range(const struct cloud_op *op)
{
	if (op->step == CLOUD_PLACE)
		return 0;
	if (op->what == BACKEND_GET)
		return 1;
	return op->c->head_by_range && (op->what == BACKEND_HEAD || op->step == CLOUD_EXISTS);
}

static int on_headers(struct http_req *r)
{
	struct cloud_op *op = r->user;

	if (by_range(op) && (r->status == 200 || r->status == 206))
		return check_range(op);
	return HTTP_TO_TEXT;
}

/* 416: the range lies behind the end. */
static int answer_416(struct cloud_op *op)
{
	const char *range = http_header(&op->http, "Content-Range");
	struct http_range r;

	if (range &&
	    (http_range_parse(range, &r) || r.first <= r.last ||
	     (r.total != UINT64_MAX && op->what == BACKEND_GET && op->req->offset < r.total)))
		return -EBADMSG;
	op->expect = 0;
	op->req->size = 0;
	return 0;
}

static int answer_list(struct cloud_op *op)
{
	const char *strip = op->c->prefix;
	struct page *p = &op->page;
	int r = op->c->ops->parse_list((char *)op->http.text.p, op->http.text.len, strip, p);

	if (r || op->step == CLOUD_PLACE)
		return r;
	op->req->entries = p->entries;
	op->req->nentries = p->n;
	op->req->next_token = p->next;
	op->req->size = p->foreign; /* for cloud_claim */
	memset(p, 0, sizeof(*p));
	return 0;
}

/* 2xx. */
static int answer_good(struct cloud_op *op)
{
	struct backend_req *req = op->req;

	if (op->step == CLOUD_PLACE || req->op == BACKEND_LIST)
		return answer_list(op);
	if (!by_range(op))
		return op->c->ops->accept(op);
	if (op->http.status != 206 && op->http.status != 200)
		return -EBADMSG;
	if (op->what != BACKEND_GET) {
		req->size = op->expect;
		return 0;
	}
	if (op->http.got != op->expect)
		return -EBADMSG;
	req->size = op->expect;
	return 0;
}

static int answer_bad(struct cloud_op *op, struct cloud_fault *f)
{
	int r;

	if (op->http.status == 416 && by_range(op))
		return answer_416(op);
	op->c->ops->fault(op, f);
	clean(f->code);
	clean(f->message);
	r = op->c->ops->judge(op, f);
	if (r == -EACCES && (correct_skew(op) || correct_credentials(op)))
		r = CLOUD_AGAIN;
	return r;
}

/* The transport failed. */
static int answer_none(struct cloud_op *op)
{
	op->req->unasked = op->http.unasked && !op->build_failed;
	if (op->build_failed)
		return op->http.result; /* explained already */
	if (op->http.result == -EACCES)
		cloud_say(op->c, "tls", "TLS: %s (endpoint %s; ca=FILE names another authority)",
			  op->http.problem, op->c->ep.authority);
	else if (op->http.result == -EIO || op->http.result == -EBADMSG)
		cloud_say(op->c, "http", "%s", op->http.problem);
	return op->http.result;
}

static void next_step(struct cloud_op *op, enum cloud_step step)
{
	op->step = step;
	op->looked |= step == CLOUD_EXISTS;
	op_start(op);
}

/* A verdict on the step that has ended: another one, or the end. */
static void conclude(struct cloud_op *op, int verdict, const struct cloud_fault *f)
{
	struct cloud *c = op->c;

	if (verdict == CLOUD_AGAIN) {
		op_start(op);
		return;
	}
	if (verdict == CLOUD_NO_CONDITION && op->req->op == BACKEND_PUT && !op->unconditional) {
		cloud_say(c, "condition",
			  "the server does no conditional put: a look before each takes its place, "
			  "which cannot exclude two machines that write at the same moment");
		{
			SCOPE_LOCK(&c->lock);
			c->no_condition = 1;
		}
		next_step(op, CLOUD_EXISTS);
		return;
	}
	if (verdict == CLOUD_WHICH_ABSENT && op->step != CLOUD_PLACE) {
		/* That a put finds no object says nothing about objects; and a page of HTML is not
		 * the cloud's word. */
		if (op->what == BACKEND_PUT && op->step == CLOUD_MAIN)
			op->pending = -EIO;
		else
			op->pending = f->code[0] || !op->http.text.len ? -ENOENT : -EBADMSG;
		next_step(op, CLOUD_PLACE);
		return;
	}
	if (verdict > 0)
		verdict = op->step == CLOUD_PLACE ? -ENODEV : -EIO;
	if (op->step == CLOUD_PLACE && !verdict)
		verdict = op->pending;
	else if (op->step == CLOUD_EXISTS && !verdict)
		verdict = -EEXIST;
	if (verdict == -ENOENT && op->req->op == BACKEND_PUT) {
		if (op->looked && !op->unconditional) {
			op->unconditional = 1;
			next_step(op, CLOUD_MAIN);
			return;
		}
		verdict = -ENODEV;
	}
	if (verdict == -ENOENT && op->req->op == BACKEND_DELETE)
		verdict = 0;
	if (verdict)
		explain(op, verdict, f);
	op_finish(op, verdict);
}

static void on_done(struct http_req *r)
{
	struct cloud_op *op = r->user;
	struct cloud_fault f = { "", "" };
	const char *s;
	int verdict;

	if (r->parked) {
		{
			SCOPE_LOCK(&op->c->lock);
			list_remove(&op->waiting);
		}
		if (r->result)
			op_finish(op, r->result);
		else
			op_start(op);
		return;
	}
	if (r->result) {
		op_finish(op, answer_none(op));
		return;
	}
	s = http_header(r, "Date");
	if (s)
		http_date_parse(s, &op->req->date);
	s = http_header(r, "Retry-After");
	op->req->retry_after = s && r->status >= 400 ? http_retry_after(s, op->req->date) : 0;
	verdict = r->status >= 200 && r->status < 300 ? answer_good(op) : answer_bad(op, &f);
	conclude(op, verdict, &f);
}

/* -- the beginning -------------------------------------------------------------------------- */

static int build_locked(struct cloud_op *op)
{
	int r;

	if (op->cancelled)
		return -ECANCELED;
	buf_reset(&op->url);
	buf_reset(&op->shown);
	buf_reset(&op->headers);
	buf_reset(&op->extra);
	free(op->iov);
	op->iov = NULL;
	op->http.body = NULL;
	op->http.bodies = 0;
	op->http.max_text =
	    op->step == CLOUD_PLACE || op->req->op == BACKEND_LIST ? CLOUD_LIST_BYTES : 0;
	r = op->c->ops->build(op);
	if (r == CLOUD_WAIT) {
		list_push_back(&op->c->waiting, &op->waiting);
		return HTTP_PARK;
	}
	if (r) {
		op->build_failed = r != -ENOMEM && r != -EINVAL;
		return r;
	}
	op->http.url = buf_cstr(&op->url);
	op->http.shown = buf_cstr(&op->shown);
	op->http.headers = &op->headers;
	return !op->http.url || !op->http.shown || op->headers.failed || op->extra.failed ? -ENOMEM
											  : 0;
}

/* Its turn has come. */
static int on_prepare(struct http_req *r)
{
	struct cloud_op *op = r->user;

	SCOPE_LOCK(&op->c->lock);
	return build_locked(op);
}

/* Under the lock, so that a cancel finds either nothing sent or what is. */
static void op_start(struct cloud_op *op)
{
	struct cloud *c = op->c;

	{
		SCOPE_LOCK(&c->lock);
		op->http.parked = 0;
		if (!op->cancelled) {
			http_submit(c->site, &op->http);
			return; /* the network thread has it */
		}
	}
	op_finish(op, -ECANCELED);
}

void cloud_wake_waiting_locked(struct cloud *c)
{
	list_for_each (l, &c->waiting)
		http_wake(&list_entry(l, struct cloud_op, waiting)->http);
}

void cloud_submit(struct backend *b, struct backend_req *req)
{
	struct cloud *c = container_of(b, struct cloud, b);
	struct cloud_op *op = calloc(1, sizeof(*op));
	int conditional = req->op == BACKEND_PUT && (req->flags & BACKEND_IF_ABSENT);

	if (!op) {
		req->result = -ENOMEM;
		req->unasked = 1;
		req->done(req);
		return;
	}
	op->c = c;
	op->req = req;
	op->want = req->op == BACKEND_GET ? backend_req_bytes(req) : 0;
	op->what = req->op == BACKEND_GET && !op->want ? BACKEND_HEAD : req->op;
	list_init(&op->waiting);
	op->http.user = op;
	op->http.done = on_done;
	op->http.prepare = on_prepare;
	op->http.headers_done = on_headers;
	op->http.into = req->iov;
	op->http.intos = req->op == BACKEND_GET ? req->iovs : 0;
	op->http.deadline = req->deadline;
	if (!op->http.deadline)
		op->http.deadline = clock_mono_ns() + (b->timeout ? b->timeout : BACKEND_TIMEOUT);
	op->http.patience = req->patience;
	op->http.pace = req->pace;
	{
		SCOPE_LOCK(&c->lock);
		c->live++;
		req->impl[0] = op;
		if (conditional && c->no_condition)
			op->step = CLOUD_EXISTS, op->looked = 1;
	}
	op_start(op);
}

void cloud_cancel(struct backend *b, struct backend_req *req)
{
	struct cloud *c = container_of(b, struct cloud, b);
	struct cloud_op *op;

	SCOPE_LOCK(&c->lock);
	op = req->impl[0];
	if (!op)
		return;
	op->cancelled = 1;
	http_cancel(&op->http);
}

void cloud_destroy(struct backend *b)
{
	struct cloud *c = container_of(b, struct cloud, b);

	{
		SCOPE_LOCK(&c->lock);
		while (c->live)
			pthread_cond_wait(&c->idle, &c->lock);
	}
	c->ops->release(c);
}
