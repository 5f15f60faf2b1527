#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "backends/cloud.h"
#include "backends/probe.h"
#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define SMALL   4096
#define LARGE   (4 * 1024 * 1024)
#define LARGES  4 /* at a time, as a drive's upload has them */
#define ROUNDS  5 /* small requests for the latency */
#define TIMEOUT (20 * NS_PER_S)

struct run {
	struct probe *p;
	struct backend *b;
	const char *scheme;
	char prefix[40];     /* "skyflok-test-<hex>/" */
	uint8_t *bytes;      /* LARGE random ones */
	uint8_t *back;       /* LARGES * LARGE, what came back */
	int64_t date, asked; /* of the last answer that had a date */
};

const char *probe_step_name(enum probe_step s)
{
	static const char *const names[] = { "open",          "list",   "put",    "get",
					     "range",         "head",   "absent", "conditional put",
					     "4 MiB objects", "delete", "clock" };

	return s < PROBE_STEPS ? names[s] : "?";
}

static void say(struct probe *p, enum probe_step s, enum probe_verdict v, int result,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void say(struct probe *p, enum probe_step s, enum probe_verdict v, int result,
		const char *fmt, ...)
{
	va_list ap;

	p->step[s].verdict = v;
	p->step[s].result = result;
	va_start(ap, fmt);
	vsnprintf(p->step[s].words, sizeof(p->step[s].words), fmt, ap);
	va_end(ap);
}

/* -- requests ------------------------------------------------------------------------------- */

struct ask {
	struct backend_req req;
	struct iovec iov;
	char key[BACKEND_KEY_MAX + 1];
	struct flight *flight;
};

struct flight {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int left;
};

static void ask_done(struct backend_req *req)
{
	struct ask *a = req->user;

	SCOPE_LOCK(&a->flight->lock);
	if (!--a->flight->left)
		pthread_cond_signal(&a->flight->cond);
}

/* Asks n at once and waits. Returns the first error. */
static int ask_all(struct run *r, struct ask *a, int n)
{
	struct flight f = { .lock = PTHREAD_MUTEX_INITIALIZER,
			    .cond = PTHREAD_COND_INITIALIZER,
			    .left = n };
	int result = 0;

	for (int i = 0; i < n; i++) {
		a[i].flight = &f;
		a[i].req.user = &a[i];
		a[i].req.done = ask_done;
		a[i].req.deadline = clock_mono_ns() + TIMEOUT;
		backend_submit(r->b, &a[i].req);
	}
	pthread_mutex_lock(&f.lock);
	while (f.left)
		pthread_cond_wait(&f.cond, &f.lock);
	pthread_mutex_unlock(&f.lock);
	pthread_cond_destroy(&f.cond);
	pthread_mutex_destroy(&f.lock);
	for (int i = n - 1; i >= 0; i--) {
		if (a[i].req.result)
			result = a[i].req.result;
		if (a[i].req.date)
			r->date = a[i].req.date, r->asked = clock_real_ns() / NS_PER_S;
	}
	return result;
}

static void fill(struct run *r, struct ask *a, enum backend_op op, const char *name, void *p,
		 size_t n)
{
	memset(a, 0, sizeof(*a));
	snprintf(a->key, sizeof(a->key), "%s%s", r->prefix, name);
	a->iov = (struct iovec){ p, n };
	a->req.op = op;
	a->req.key = a->key;
	a->req.iov = &a->iov;
	a->req.iovs = op == BACKEND_PUT || op == BACKEND_GET;
}

/* One request; what is worth repeating is repeated twice. */
static int ask_one(struct run *r, struct ask *a)
{
	int result = 0;

	for (int i = 0; i < 3; i++) {
		struct timespec pause = timespec_of((int64_t)(i + 1) * 300 * NS_PER_MS);
		result = ask_all(r, a, 1);
		if (result != -EAGAIN)
			break;
		nanosleep(&pause, NULL);
	}
	return result;
}

/* -- words ---------------------------------------------------------------------------------- */

/* What the key has to be allowed, in the cloud's own terms. */
static const char *permission(const char *scheme, enum probe_step s)
{
	static const struct {
		const char *scheme, *list, *put, *get, *del;
	} table[] = {
		{ "s3", "s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject" },
		{ "azure", "list (SAS: sp=l)", "write and create (SAS: sp=cw)", "read (SAS: sp=r)",
		  "delete (SAS: sp=d)" },
		{ "gs", "storage.objects.list", "storage.objects.create and .delete",
		  "storage.objects.get", "storage.objects.delete" },
		{ "file", "reading the folder", "writing", "reading", "deleting" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (strcmp(scheme, table[i].scheme))
			continue;
		if (s == PROBE_LIST || s == PROBE_ABSENT)
			return table[i].list;
		if (s == PROBE_PUT || s == PROBE_CONDITIONAL || s == PROBE_LARGE)
			return table[i].put;
		return s == PROBE_DELETE ? table[i].del : table[i].get;
	}
	return "this";
}

static void bad(struct run *r, enum probe_step s, int result)
{
	char words[400] = "";

	cloud_words(r->b, words, sizeof(words));
	if (result == -EACCES)
		say(r->p, s, PROBE_BAD, result, "refused; the permission needed is %s. %s",
		    permission(r->scheme, s), words);
	else if (result == -ENODEV)
		say(r->p, s, PROBE_BAD, result, "the bucket, container or folder is not there. %s",
		    words);
	else if (result == -ENOSPC)
		say(r->p, s, PROBE_BAD, result, "full or over quota. %s", words);
	else if (result == -ETIMEDOUT)
		say(r->p, s, PROBE_BAD, result, "no answer in time: endpoint, firewall, proxy? %s",
		    words);
	else if (result == -EAGAIN)
		say(r->p, s, PROBE_BAD, result,
		    "no connection, or server errors, three times in a row. %s", words);
	else if (result == -EBADMSG)
		say(r->p, s, PROBE_BAD, result,
		    "the answer is not what it claims to be: is something between (a proxy, a "
		    "login "
		    "page)? %s",
		    words);
	else
		say(r->p, s, PROBE_BAD, result, "%s. %s", strerror(-result), words);
}

/* -- steps ---------------------------------------------------------------------------------- */

static int step_list(struct run *r)
{
	struct ask a;
	int result;

	fill(r, &a, BACKEND_LIST, "", NULL, 0);
	result = ask_one(r, &a);
	free(a.req.entries);
	free(a.req.next_token);
	if (result)
		bad(r, PROBE_LIST, result);
	else
		say(r->p, PROBE_LIST, PROBE_GOOD, 0, "yes");
	return result;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* Small requests, one after the other, for the latency. */
static int step_small(struct run *r, enum probe_step s, enum backend_op op, int64_t *median)
{
	int64_t took[ROUNDS];
	char name[16];
	struct ask a;

	for (int i = 0; i < ROUNDS; i++) {
		int result;
		snprintf(name, sizeof(name), "small/%d", i);
		fill(r, &a, op, name, op == BACKEND_PUT ? r->bytes : r->back, SMALL);
		took[i] = clock_mono_ns();
		result = ask_one(r, &a);
		took[i] = clock_mono_ns() - took[i];
		if (!result && op == BACKEND_GET &&
		    (a.req.size != SMALL || memcmp(r->bytes, r->back, SMALL)))
			result = -EBADMSG;
		if (result) {
			bad(r, s, result);
			return result;
		}
	}
	qsort(took, ROUNDS, sizeof(took[0]), by_value);
	*median = took[ROUNDS / 2];
	say(r->p, s, PROBE_GOOD, 0, "yes, %.1f ms", (double)*median / 1e6);
	return 0;
}

static int step_range(struct run *r)
{
	static const struct {
		uint64_t off;
		size_t want, get;
	} pieces[] = { { 1000, 100, 100 }, { SMALL - 10, 100, 10 }, { SMALL + 5, 10, 0 } };
	struct ask a;

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		int result;
		fill(r, &a, BACKEND_GET, "small/0", r->back, pieces[i].want);
		a.req.offset = pieces[i].off;
		result = ask_one(r, &a);
		if (!result && (a.req.size != pieces[i].get ||
				memcmp(r->bytes + pieces[i].off, r->back, pieces[i].get)))
			result = -EBADMSG;
		if (result) {
			bad(r, PROBE_RANGE, result);
			return result;
		}
	}
	say(r->p, PROBE_RANGE, PROBE_GOOD, 0, "yes");
	return 0;
}

static int step_head(struct run *r)
{
	struct ask a;
	int result;

	fill(r, &a, BACKEND_HEAD, "small/0", NULL, 0);
	result = ask_one(r, &a);
	if (!result && a.req.size != SMALL)
		result = -EBADMSG;
	if (result)
		bad(r, PROBE_HEAD, result);
	else
		say(r->p, PROBE_HEAD, PROBE_GOOD, 0, "yes");
	return result;
}

static int step_absent(struct run *r)
{
	struct ask a;
	int result;

	fill(r, &a, BACKEND_HEAD, "nothing/here", NULL, 0);
	result = ask_one(r, &a);
	if (result == -ENOENT) {
		say(r->p, PROBE_ABSENT, PROBE_GOOD, 0, "yes");
		return 0;
	}
	if (result == -EACCES)
		say(r->p, PROBE_ABSENT, PROBE_BAD, result,
		    "an object that is not there is refused instead of said to be absent: the key "
		    "lacks %s",
		    permission(r->scheme, PROBE_ABSENT));
	else
		bad(r, PROBE_ABSENT, result ? result : -EBADMSG);
	return result ? result : -EBADMSG;
}

static void step_conditional(struct run *r)
{
	struct ask a;
	int result;

	fill(r, &a, BACKEND_PUT, "small/0", r->bytes + SMALL, SMALL);
	a.req.flags = BACKEND_IF_ABSENT;
	result = ask_one(r, &a);
	if (result && result != -EEXIST) {
		bad(r, PROBE_CONDITIONAL, result);
		return;
	}
	r->p->conditional = result == -EEXIST;
	fill(r, &a, BACKEND_GET, "small/0", r->back, SMALL);
	if (r->p->conditional && !ask_one(r, &a) && memcmp(r->back, r->bytes, SMALL))
		r->p->conditional = 0;
	if (r->p->conditional)
		say(r->p, PROBE_CONDITIONAL, PROBE_GOOD, 0, "yes");
	else
		say(r->p, PROBE_CONDITIONAL, PROBE_WARN, 0,
		    "no: the server ignores \"only if absent\" and writes over what is there. Give "
		    "conditional=no, which looks before each such put; that cannot exclude two "
		    "machines which write in the same second, so such a backend should not be in "
		    "the majority of a drive that is mounted on several");
}

static void step_large(struct run *r)
{
	struct ask a[LARGES];
	char name[16];
	int64_t t;
	int result;

	for (int i = 0; i < LARGES; i++) {
		snprintf(name, sizeof(name), "large/%d", i);
		fill(r, &a[i], BACKEND_PUT, name, r->bytes, LARGE);
	}
	t = clock_mono_ns();
	result = ask_all(r, a, LARGES);
	if (!result)
		r->p->up = LARGES * (double)LARGE * 1e9 / (double)(clock_mono_ns() - t);
	for (int i = 0; i < LARGES && !result; i++) {
		snprintf(name, sizeof(name), "large/%d", i);
		fill(r, &a[i], BACKEND_GET, name, r->back + (size_t)i * LARGE, LARGE);
	}
	t = clock_mono_ns();
	if (!result)
		result = ask_all(r, a, LARGES);
	if (!result)
		r->p->down = LARGES * (double)LARGE * 1e9 / (double)(clock_mono_ns() - t);
	for (int i = 0; i < LARGES && !result; i++) {
		if (a[i].req.size != LARGE || memcmp(r->back + (size_t)i * LARGE, r->bytes, LARGE))
			result = -EBADMSG;
	}
	if (result)
		bad(r, PROBE_LARGE, result);
	else
		say(r->p, PROBE_LARGE, PROBE_GOOD, 0, "yes, %.1f MiB/s up, %.1f MiB/s down",
		    r->p->up / (1 << 20), r->p->down / (1 << 20));
}

/* Also cleans up, so that it goes on behind a failure. */
static void step_delete(struct run *r)
{
	int failed = 0;
	char name[16];
	struct ask a;

	for (int i = 0; i < ROUNDS + LARGES; i++) {
		int result;
		snprintf(name, sizeof(name), "%s/%d", i < ROUNDS ? "small" : "large",
			 i < ROUNDS ? i : i - ROUNDS);
		fill(r, &a, BACKEND_DELETE, name, NULL, 0);
		result = ask_one(r, &a);
		failed = failed ? failed : result;
	}
	fill(r, &a, BACKEND_HEAD, "small/0", NULL, 0);
	if (failed)
		bad(r, PROBE_DELETE, failed);
	else if (ask_one(r, &a) == 0)
		say(r->p, PROBE_DELETE, PROBE_BAD, -EIO,
		    "a deleted object is still there (is it retained by a policy?)");
	else
		say(r->p, PROBE_DELETE, PROBE_GOOD, 0, "yes");
}

static void step_clock(struct run *r)
{
	int64_t off = r->date - r->asked;

	if (!r->date) {
		say(r->p, PROBE_CLOCK, PROBE_SKIPPED, 0, "it does not tell the time");
		return;
	}
	r->p->skew = off;
	if (off > -5 && off < 5)
		say(r->p, PROBE_CLOCK, PROBE_GOOD, 0, "agrees with this machine's");
	else
		say(r->p, PROBE_CLOCK, PROBE_WARN, 0,
		    "%lld s %s this machine's. Requests are signed with the server's time when it "
		    "insists; set the clock (is NTP running?)",
		    (long long)(off < 0 ? -off : off), off < 0 ? "behind" : "ahead of");
}

static void steps(struct run *r)
{
	int list = step_list(r), absent, put;

	/* Without the place, or any answer, there is nothing more to learn. */
	if (list && list != -EACCES)
		return;
	put = step_small(r, PROBE_PUT, BACKEND_PUT, &r->p->put_latency);
	absent = step_absent(r);
	if (!put && !step_small(r, PROBE_GET, BACKEND_GET, &r->p->get_latency)) {
		step_range(r);
		step_head(r);
		if (!absent)
			step_conditional(r);
		step_large(r);
	}
	if (!put)
		step_delete(r);
	step_clock(r);
}

/* Deleting objects leaves folders: they would make `create` say that the place is not empty. Only
 * empty ones go, and those of a drive's own stay. */
static void tidy_folder(const struct run *r, const char *root)
{
	static const char *const ours[] = { "small", "large", "" };
	AUTO_FREE char *marker = str_printf("%s/.skyflok/drive", root);
	AUTO_FREE char *tmp = str_printf("%s/.skyflok/tmp", root);
	AUTO_FREE char *hidden = str_printf("%s/.skyflok", root);

	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		AUTO_FREE char *path = str_printf("%s/%s%s", root, r->prefix, ours[i]);
		if (path)
			rmdir(path);
	}
	if (!marker || !tmp || !hidden || !access(marker, F_OK))
		return;
	rmdir(tmp);
	rmdir(hidden);
}

static int begin(struct run *r, const char *url, const struct backend_env *env,
		 struct backend_url *u)
{
	uint8_t id[8];
	char hex[17];
	struct err e = { 0 };
	int result = backend_url_parse(url, u, &e);

	if (!result) {
		r->scheme = u->scheme;
		result = backend_open(u, env, &r->b, &e);
	}
	if (result) {
		say(r->p, PROBE_OPEN, PROBE_BAD, result, "%.500s", err_text(&e, result));
		return result;
	}
	snprintf(r->p->name, sizeof(r->p->name), "%s", r->b->name);
	say(r->p, PROBE_OPEN, PROBE_GOOD, 0, "yes");
	r->bytes = malloc(LARGE);
	r->back = malloc((size_t)LARGES * LARGE);
	if (!r->bytes || !r->back || getrandom(id, sizeof(id), 0) != sizeof(id)) {
		say(r->p, PROBE_OPEN, PROBE_BAD, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	hex_put(hex, id, sizeof(id));
	snprintf(r->prefix, sizeof(r->prefix), "skyflok-test-%s/", hex);
	for (size_t at = 0; at < LARGE; at += 8) /* nothing that compresses */
		be64_put(r->bytes + at, (at + 1) * 0x9e3779b97f4a7c15u ^ be64_get(id));
	return 0;
}

int probe_run(const char *url, const struct backend_env *env, struct probe *p)
{
	struct run r = { .p = p };
	struct backend_url u = { 0 };

	memset(p, 0, sizeof(*p));
	snprintf(p->name, sizeof(p->name), "%.60s", url);
	p->conditional = -1;
	if (!begin(&r, url, env, &u))
		steps(&r);
	backend_destroy(r.b);
	if (r.prefix[0] && !strcmp(r.scheme, "file"))
		tidy_folder(&r, u.path);
	backend_url_release(&u);
	free(r.bytes);
	free(r.back);
	for (int s = 0; s < PROBE_STEPS; s++) {
		if (p->step[s].verdict == PROBE_BAD)
			return p->step[s].result;
	}
	return 0;
}

void probe_print(const struct probe *p, struct buf *out)
{
	static const char *const marks[] = { "-", "ok", "warning", "FAILED" };

	buf_printf(out, "%s\n", p->name);
	for (int s = 0; s < PROBE_STEPS; s++) {
		if (p->step[s].verdict == PROBE_SKIPPED && !p->step[s].words[0])
			continue;
		buf_printf(out, "  %-16s %-8s %s\n", probe_step_name((enum probe_step)s),
			   marks[p->step[s].verdict], p->step[s].words);
	}
}
