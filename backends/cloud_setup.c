/* From a URL to the common part of a cloud, and the marker that binds a place to a drive. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cloud.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define CLAIM_TIMEOUT (30 * NS_PER_S)

int cloud_flag(const struct backend_url *u, const char *name, int dflt, struct err *e)
{
	const char *v = backend_url_param(u, name);

	if (!v)
		return dflt;
	if (!strcmp(v, "1") || !strcmp(v, "yes") || !strcmp(v, "true"))
		return 1;
	if (!strcmp(v, "0") || !strcmp(v, "no") || !strcmp(v, "false"))
		return 0;
	return err_set(e, -EINVAL, "%s=%s: yes or no (also 1, 0, true, false)", name, v);
}

static int endpoint_of(const struct backend_url *u, const char *dflt, struct endpoint *ep,
		       struct err *e)
{
	const char *given = backend_url_param(u, "endpoint");
	int insecure = cloud_flag(u, "insecure", 0, e);

	if (insecure < 0)
		return insecure;
	return endpoint_parse(given ? given : dflt, insecure, ep, e);
}

int cloud_check(const struct backend_url *u, const char *dflt, struct err *e)
{
	struct endpoint ep;
	int r = endpoint_of(u, dflt, &ep, e);

	if (r)
		return r;
	r = cloud_flag(u, "conditional", 1, e);
	return r < 0 ? r : 0;
}

char *cloud_provider(const struct backend_url *u, const char *dflt)
{
	struct endpoint ep;

	if (endpoint_of(u, dflt, &ep, NULL))
		return NULL;
	return str_printf("%s:%s", u->scheme, ep.host);
}

char *cloud_place(const struct backend_url *u, const char *dflt)
{
	AUTO_FREE char *bucket = NULL, *prefix = NULL;
	struct endpoint ep;

	if (endpoint_of(u, dflt, &ep, NULL) ||
	    path_split(u->path, "bucket", &bucket, &prefix, NULL))
		return NULL;
	return str_printf("%s%s/%s/%s", ep.authority, ep.base, bucket, prefix);
}

struct credentials_query cloud_query(const struct cloud *c)
{
	return (struct credentials_query){ .name = c->cred_name,
					   .file = c->cred_file,
					   .backend = c->b.name,
					   .account = c->account };
}

static int copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int init_place(struct cloud *c, const struct backend_url *u, const char *path,
		      const char *dflt, struct err *e)
{
	AUTO_FREE char *prefix = NULL;
	int r = endpoint_of(u, dflt, &c->ep, e);

	if (!r)
		r = path_split(path, "bucket or container", &c->bucket, &prefix, e);
	if (r)
		return r;
	c->prefix = str_printf("%s%s", prefix, *prefix ? "/" : "");
	return c->prefix ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int cloud_init(struct cloud *c, const struct backend_ops *bops, const struct cloud_ops *ops,
	       const struct backend_url *u, const struct backend_env *env, const char *path,
	       const char *dflt, struct err *e)
{
	int r;

	c->b.ops = bops;
	c->ops = ops;
	c->b.timeout = env->timeout;
	snprintf(c->b.name, sizeof(c->b.name), "%s://%s", u->scheme, u->path);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	list_init(&c->waiting);
	r = init_place(c, u, path, dflt, e);
	if (r)
		return r;
	if (copy(&c->cred_name, backend_url_param(u, "credentials")) ||
	    copy(&c->cred_file, env->credentials_file))
		return err_set(e, -ENOMEM, "out of memory");
	r = cloud_flag(u, "conditional", 1, e);
	if (r < 0)
		return r;
	c->no_condition = !r;
	return 0;
}

int cloud_connect(struct cloud *c, const struct backend_url *u, struct err *e)
{
	struct http_conf conf = { .ca = backend_url_param(u, "ca"), .direct = c->ep.loopback };

	return http_site_open(&conf, &c->site, e);
}

void cloud_release(struct cloud *c)
{
	http_site_close(c->site);
	credentials_release(&c->cred);
	free(c->bucket);
	free(c->prefix);
	free(c->cred_name);
	free(c->cred_file);
	free(c->account);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->idle);
}

/* -- the marker ----------------------------------------------------------------------------- */

struct call {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int over;
};

static void call_done(struct backend_req *req)
{
	struct call *call = req->user;

	SCOPE_LOCK(&call->lock);
	call->over = 1;
	pthread_cond_signal(&call->cond);
}

#define STOP_LOOK (50 * NS_PER_MS)

/* Until the call is over (0: whenever) or `until`; 1 when it is over. */
static int call_await(struct backend *b, struct call *call, int64_t until)
{
	SCOPE_LOCK(&call->lock);

	while (!call->over && !backend_stopped(b) && (!until || clock_mono_ns() < until)) {
		int64_t look = b->stop ? clock_mono_ns() + STOP_LOOK : until;

		cond_wait_until(&call->cond, &call->lock, until ? MIN(look, until) : look);
	}
	return call->over;
}

/* One try. */
static void call_once(struct backend *b, struct backend_req *req, struct call *call)
{
	call->over = 0;
	req->done = call_done;
	req->user = call;
	req->result = 0;
	req->size = 0;
	cloud_submit(b, req);
	if (!call_await(b, call, 0))
		cloud_cancel(b, req);
	pthread_mutex_lock(&call->lock);
	while (!call->over)
		pthread_cond_wait(&call->cond, &call->lock);
	call->over = 0;
	pthread_mutex_unlock(&call->lock);
}

/* A blocking request, repeated while it is worth it. Not by way of backend_submit: the marker's
 * name is deliberately no key, so that no request of the drive ever touches it. */
static int call_wait(struct backend *b, struct backend_req *req, int64_t timeout)
{
	int64_t give_up = clock_mono_ns() + timeout, pause = 200 * NS_PER_MS;
	struct call call = { .lock = PTHREAD_MUTEX_INITIALIZER };

	if (backend_stopped(b))
		return -ECANCELED;
	if (cond_init_mono(&call.cond))
		return -ENOMEM;
	for (;;) {
		req->deadline = MIN(clock_mono_ns() + 15 * NS_PER_S, give_up);
		call_once(b, req, &call);
		if ((req->result != -EAGAIN && req->result != -ETIMEDOUT) || backend_stopped(b) ||
		    clock_mono_ns() + pause >= give_up)
			break;
		call_await(b, &call, clock_mono_ns() + pause);
		pause *= 2;
	}
	pthread_cond_destroy(&call.cond);
	pthread_mutex_destroy(&call.lock);
	return req->result;
}

#define MARKER_MAX 200

static void marker_text(char out[MARKER_MAX], const uint8_t drive[16], const uint8_t uuid[16])
{
	char d[33], u[33];

	hex_put(d, drive, 16);
	hex_put(u, uuid, 16);
	snprintf(out, MARKER_MAX, "skyflok drive %s\nbackend %s\n", d, u);
}

static int marker_get(struct backend *b, char out[MARKER_MAX], int64_t timeout)
{
	struct iovec iov = { out, MARKER_MAX - 1 };
	struct backend_req req = { .op = BACKEND_GET, .key = CLOUD_MARKER, .iov = &iov, .iovs = 1 };
	int r = call_wait(b, &req, timeout);

	out[r ? 0 : req.size] = 0;
	return r;
}

static int marker_compare(const struct cloud *c, const char *found, const char *want, struct err *e)
{
	if (!strcmp(found, want))
		return 0;
	if (!strncmp(found, want, strcspn(want, "\n") + 1))
		return err_set(e, -EEXIST, "%s is another backend of this drive already",
			       c->b.name);
	return err_set(e, -EEXIST, "%s belongs to another drive: its %s%s says \"%.*s\"", c->b.name,
		       c->prefix, CLOUD_MARKER, (int)strcspn(found, "\n"), found);
}

/* 0 when the place holds nothing at all. */
static int must_be_empty(struct cloud *c, struct err *e)
{
	AUTO_FREE char *token = NULL;
	int r;

	for (int page = 0; page < 1000; page++) {
		struct backend_req req = { .op = BACKEND_LIST, .key = "", .token = token };
		r = call_wait(&c->b, &req, CLAIM_TIMEOUT);
		if (!r && (req.nentries || req.size))
			r = err_set(e, -EEXIST,
				    "%s holds other objects (such as \"%.100s\"): give the drive a "
				    "prefix of its own",
				    c->b.name, req.nentries ? req.entries[0].key : "...");
		else if (r)
			err_set(e, r, "%s cannot be listed: %s", c->b.name, strerror(-r));
		free(req.entries);
		free(token);
		token = req.next_token;
		if (r || !token)
			return r;
	}
	return err_set(e, -EBADMSG, "%s: the listing does not end", c->b.name);
}

int cloud_claim(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16], struct err *e)
{
	struct cloud *c = container_of(b, struct cloud, b);
	char want[MARKER_MAX], found[MARKER_MAX];
	struct iovec iov = { want, 0 };
	struct backend_req put = { .op = BACKEND_PUT,
				   .flags = BACKEND_IF_ABSENT,
				   .key = CLOUD_MARKER,
				   .iov = &iov,
				   .iovs = 1 };
	int r;

	marker_text(want, drive, uuid);
	r = marker_get(b, found, CLAIM_TIMEOUT);
	if (!r)
		return marker_compare(c, found, want, e);
	if (r != -ENOENT)
		return err_set(e, r, "%s: %s%s cannot be read: %s", b->name, c->prefix,
			       CLOUD_MARKER, strerror(-r));
	r = must_be_empty(c, e);
	if (r)
		return r;
	iov.iov_len = strlen(want);
	r = call_wait(b, &put, CLAIM_TIMEOUT);
	/* Two drives may be created at the same moment: who came first has it. */
	if (r == -EEXIST && !marker_get(b, found, CLAIM_TIMEOUT))
		return marker_compare(c, found, want, e);
	if (!r)
		return 0;
	err_set(e, r, "%s: %s%s cannot be written: %s", b->name, c->prefix, CLOUD_MARKER,
		strerror(-r));
	return r == -ETIMEDOUT || r == -EAGAIN || r == -EIO ? -EINPROGRESS : r;
}

int cloud_verify(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		 int64_t timeout, struct err *e)
{
	struct cloud *c = container_of(b, struct cloud, b);
	char want[MARKER_MAX], found[MARKER_MAX];
	int r = marker_get(b, found, timeout);

	marker_text(want, drive, uuid);
	if (r)
		return err_set(e, r, "%s: %s%s cannot be read: %s", b->name, c->prefix,
			       CLOUD_MARKER, strerror(-r));
	return marker_compare(c, found, want, e);
}

int cloud_unclaim(struct backend *b, const uint8_t drive[16], struct err *e)
{
	struct cloud *c = container_of(b, struct cloud, b);
	struct backend_req del = { .op = BACKEND_DELETE, .key = CLOUD_MARKER };
	const uint8_t none[16] = { 0 };
	char want[MARKER_MAX], found[MARKER_MAX];
	int r = marker_get(b, found, CLAIM_TIMEOUT);

	if (r == -ENOENT)
		return 0;
	if (r)
		return err_set(e, r, "%s: %s%s cannot be read: %s", b->name, c->prefix,
			       CLOUD_MARKER, strerror(-r));
	marker_text(want, drive, none);
	if (strncmp(found, want, strcspn(want, "\n") + 1))
		return marker_compare(c, found, want, e);
	r = call_wait(b, &del, CLAIM_TIMEOUT);
	return r ? err_set(e, r, "%s: %s%s cannot be deleted: %s", b->name, c->prefix, CLOUD_MARKER,
			   strerror(-r))
		 : 0;
}
