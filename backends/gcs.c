/* gs://bucket/prefix?endpoint=&credentials=&storage-class=&ca=&insecure=&conditional=: Google Cloud
 * Storage by its JSON API, or with HMAC keys by its XML API, which is S3's language (s3.c): at
 * Google in Google's dialect (GOOG4-HMAC-SHA256, x-goog-if-generation-match), at another endpoint=
 * in AWS's.
 *
 * A put is uploadType=multipart: one request with the metadata, so that name, precondition and
 * checksum go together. STORAGE_EMULATOR_HOST stands for endpoint= and credentials=none. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "backends/gcs_token.h"
#include "backends/http_parse.h"
#include "backends/s3.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define GCS_ENDPOINT "https://storage.googleapis.com"

struct gcs {
	struct cloud c;
	struct gcs_token token;
	char *storage_class;
};

/* -- requests ------------------------------------------------------------------------------- */

static void put_list_query(const struct cloud_op *op, struct buf *u)
{
	buf_printf(u, "?fields=items(name,size),nextPageToken&maxResults=%d&prefix=",
		   op->step == CLOUD_PLACE ? 1 : CLOUD_LIST_MAX);
	url_encode(u, op->c->prefix, 0);
	if (op->step == CLOUD_PLACE)
		return;
	url_encode(u, op->req->key, 0);
	if (op->req->token) {
		buf_printf(u, "&pageToken=");
		url_encode(u, op->req->token, 0);
	}
}

/* The metadata part of an upload. */
static char *metadata(const struct gcs *g, const struct cloud_op *op)
{
	AUTO_FREE char *name = str_printf("%s%s", op->c->prefix, op->req->key);
	char crc[9], *text;
	json_t *o;

	if (!name || s3_checksum(op->req->iov, op->req->iovs, crc))
		return NULL;
	o = json_pack("{s:s,s:s,s:s,s:s*}", "name", name, "contentType", CLOUD_OBJECT_TYPE,
		      "crc32c", crc, "storageClass", g->storage_class);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text;
}

/* The body: metadata, the caller's bytes, the end. The boundary is random, so that no bytes can
 * hold it on purpose. */
static int put_body(const struct gcs *g, struct cloud_op *op)
{
	const struct backend_req *req = op->req;
	AUTO_FREE char *meta = metadata(g, op);
	char boundary[33], type[80];
	uint8_t random[16];
	size_t head;

	if (!meta || getrandom(random, sizeof(random), 0) != sizeof(random))
		return -ENOMEM;
	hex_put(boundary, random, sizeof(random));
	buf_printf(&op->extra,
		   "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--%s\r\n"
		   "Content-Type: " CLOUD_OBJECT_TYPE "\r\n\r\n",
		   boundary, meta, boundary);
	head = op->extra.len;
	buf_printf(&op->extra, "\r\n--%s--\r\n", boundary);
	op->iov = calloc((size_t)req->iovs + 2, sizeof(*op->iov));
	if (!op->iov || op->extra.failed)
		return -ENOMEM;
	op->iov[0] = (struct iovec){ op->extra.p, head };
	for (int i = 0; i < req->iovs; i++)
		op->iov[1 + i] = req->iov[i];
	op->iov[1 + req->iovs] = (struct iovec){ op->extra.p + head, op->extra.len - head };
	op->http.body = op->iov;
	op->http.bodies = req->iovs + 2;
	snprintf(type, sizeof(type), "multipart/related; boundary=%s", boundary);
	return cloud_header(op, "Content-Type", type);
}

static int build_put(const struct gcs *g, struct cloud_op *op)
{
	op->http.method = HTTP_POST;
	endpoint_put(&op->c->ep, &op->shown);
	buf_printf(&op->shown, "/upload/storage/v1/b/");
	url_encode(&op->shown, op->c->bucket, 0);
	buf_printf(&op->shown, "/o");
	buf_put(&op->url, op->shown.p, op->shown.len);
	buf_printf(&op->url, "?uploadType=multipart&fields=name,size");
	if ((op->req->flags & BACKEND_IF_ABSENT) && !op->unconditional)
		buf_printf(&op->url, "&ifGenerationMatch=0");
	return put_body(g, op);
}

static int build_other(struct cloud_op *op)
{
	int list = op->step == CLOUD_PLACE || op->what == BACKEND_LIST;
	struct buf *u = &op->shown;
	char range[64];

	op->http.method =
	    op->step == CLOUD_MAIN && op->what == BACKEND_DELETE ? HTTP_DELETE : HTTP_GET;
	endpoint_put(&op->c->ep, u);
	buf_printf(u, "/storage/v1/b/");
	url_encode(u, op->c->bucket, 0);
	buf_printf(u, "/o");
	if (!list) {
		buf_put8(u, '/');
		url_encode(u, op->c->prefix, 0);
		url_encode(u, op->req->key, 0);
	}
	buf_put(&op->url, u->p, u->len);
	if (list) {
		put_list_query(op, &op->url);
		return 0;
	}
	if (op->http.method == HTTP_DELETE)
		return 0;
	if (op->step == CLOUD_EXISTS || op->what == BACKEND_HEAD) {
		buf_printf(&op->url, "?fields=name,size");
		return 0;
	}
	buf_printf(&op->url, "?alt=media");
	cloud_range(op, range);
	return cloud_header(op, "Range", range);
}

static int gcs_build(struct cloud_op *op)
{
	struct gcs *g = container_of(op->c, struct gcs, c);
	const char *token;
	int r = gcs_token_get_locked(&g->token, op, &token);

	if (r)
		return r;
	if (token) {
		buf_printf(&op->headers, "Authorization: Bearer %s", token);
		buf_put8(&op->headers, 0);
	}
	return op->step == CLOUD_MAIN && op->what == BACKEND_PUT ? build_put(g, op)
								 : build_other(op);
}

/* -- answers -------------------------------------------------------------------------------- */

static void gcs_fault(const struct cloud_op *op, struct cloud_fault *f)
{
	const char *text = (const char *)op->http.text.p;
	size_t n = op->http.text.len;
	json_t *root = n ? json_loadb(text, n, 0, NULL) : NULL;
	const json_t *error = json_object_get(root, "error");
	const json_t *first = json_array_get(json_object_get(error, "errors"), 0);
	const char *words = json_string_value(json_object_get(error, "message"));
	const char *reason = json_string_value(json_object_get(first, "reason"));

	if (reason)
		snprintf(f->code, sizeof(f->code), "%s", reason);
	if (words)
		snprintf(f->message, sizeof(f->message), "%s", words);
	else if (!root && n && *text != '<') /* a failed download answers in plain text */
		snprintf(f->message, sizeof(f->message), "%.*s", (int)MIN(n, 250u), text);
	if (f->message[0] && !f->code[0])
		snprintf(f->code, sizeof(f->code), "%d", op->http.status);
	json_decref(root);
}

static int judge_404(const struct cloud_fault *f)
{
	if (!strncmp(f->message, "No such object", 14))
		return -ENOENT;
	if (strstr(f->message, "bucket does not exist"))
		return -ENODEV;
	return CLOUD_WHICH_ABSENT;
}

static int gcs_judge(struct cloud_op *op, const struct cloud_fault *f)
{
	struct gcs *g = container_of(op->c, struct gcs, c);

	switch (op->http.status) {
	case 401:
		return gcs_token_refused(&g->token, op) ? CLOUD_AGAIN : -EACCES;
	case 403:
		if (strstr(f->code, "ateLimitExceeded") || !strcmp(f->code, "quotaExceeded"))
			return -EAGAIN;
		if (!strcmp(f->code, "retentionPolicyNotMet") ||
		    !strcmp(f->code, "objectUnderActiveHold"))
			return -EIO;
		return -EACCES;
	case 404:
		return judge_404(f);
	}
	return cloud_errno_of_status(op->http.status);
}

/* The object's resource: it must be ours, and of the size that was sent. */
static int accept_resource(struct cloud_op *op, uint64_t *size)
{
	json_t *root =
	    json_loadb((char *)op->http.text.p, op->http.text.len, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(root, "name"));
	const char *bytes = json_string_value(json_object_get(root, "size"));
	size_t n = strlen(op->c->prefix);
	int ok = name && bytes && !strncmp(name, op->c->prefix, n) &&
		 !strcmp(name + n, op->req->key) && !http_number(bytes, size);

	json_decref(root);
	return ok ? 0 : -EBADMSG;
}

/* 204 without a body at Google, 200 with "null" at an emulator; a page of HTML is neither. */
static int accept_delete(const struct cloud_op *op)
{
	json_t *root;
	int ok;

	if (op->http.text.len == 0)
		return 0;
	root = json_loadb((char *)op->http.text.p, op->http.text.len, JSON_DECODE_ANY, NULL);
	ok = json_is_null(root) || (json_is_object(root) && json_object_size(root) == 0);
	json_decref(root);
	return ok ? 0 : -EBADMSG;
}

static int gcs_accept(struct cloud_op *op)
{
	uint64_t size;
	int r;

	if (op->step == CLOUD_MAIN && op->what == BACKEND_DELETE)
		return accept_delete(op);
	r = accept_resource(op, &size);
	if (!r && op->step == CLOUD_MAIN && op->what == BACKEND_PUT)
		return size == backend_req_bytes(op->req) ? 0 : -EBADMSG;
	if (!r)
		op->req->size = size;
	return r;
}

/* -- life ----------------------------------------------------------------------------------- */

static int gcs_reload(struct cloud *c)
{
	struct gcs *g = container_of(c, struct gcs, c);
	struct credentials_query q = cloud_query(c);
	struct credentials fresh;
	struct gcs_account account;

	if (g->token.way != GCS_ACCOUNT || g->token.fetching || credentials_gcs(&q, &fresh, NULL))
		return 0;
	if (!fresh.service_account || credentials_equal(&fresh, &c->cred) ||
	    gcs_account_parse(fresh.service_account, strlen(fresh.service_account), fresh.source,
			      &account, NULL)) {
		credentials_release(&fresh);
		return 0;
	}
	gcs_token_change_locked(&g->token, &account);
	credentials_release(&c->cred);
	c->cred = fresh;
	return 1;
}

static void gcs_release(struct cloud *c)
{
	struct gcs *g = container_of(c, struct gcs, c);

	gcs_token_release(&g->token);
	cloud_release(c);
	free(g->storage_class);
	free(g);
}

static const struct cloud_ops gcs_cloud_ops = {
	.build = gcs_build,
	.fault = gcs_fault,
	.judge = gcs_judge,
	.accept = gcs_accept,
	.parse_list = gcs_list_parse,
	.reload = gcs_reload,
	.release = gcs_release,
};

static const struct backend_ops gcs_backend_ops = {
	.name = "gs",
	.submit = cloud_submit,
	.cancel = cloud_cancel,
	.destroy = cloud_destroy,
	.claim = cloud_claim,
	.verify = cloud_verify,
	.unclaim = cloud_unclaim,
};

/* As the libraries of Google have it: with or without a scheme, which then is http. */
static char *emulator(const struct backend_url *u)
{
	const char *host = getenv("STORAGE_EMULATOR_HOST");

	if (!host || !*host || backend_url_param(u, "endpoint"))
		return NULL;
	return str_printf("%s%s", strstr(host, "://") ? "" : "http://", host);
}

static int set_up(struct gcs *g, const struct backend_url *u, const struct backend_env *env,
		  const struct credentials *cred, const char *endpoint, struct err *e)
{
	const char *class = backend_url_param(u, "storage-class");
	struct cloud *c = &g->c;
	int r = cloud_init(c, &gcs_backend_ops, &gcs_cloud_ops, u, env, u->path, endpoint, e);

	c->cred = *cred; /* taken, also on failure */
	if (r)
		return r;
	g->storage_class = class ? strdup(class) : NULL;
	if (class && !g->storage_class)
		return err_set(e, -ENOMEM, "out of memory");
	r = gcs_token_init(&g->token, c, backend_url_param(u, "ca"), e);
	return r ? r : cloud_connect(c, u, e);
}

/* Takes cred. */
static int open_json(const struct backend_url *u, const struct backend_env *env,
		     struct credentials *cred, const char *endpoint, struct backend **out,
		     struct err *e)
{
	struct gcs *g = calloc(1, sizeof(*g));
	int r;

	if (!g) {
		credentials_release(cred);
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = set_up(g, u, env, cred, endpoint, e);
	if (r) {
		gcs_release(&g->c);
		return r;
	}
	*out = &g->c.b;
	return 0;
}

static int gcs_open(const struct backend_url *u, const struct backend_env *env,
		    struct backend **out, struct err *e)
{
	const char *name = backend_url_param(u, "credentials");
	struct s3_conf hmac = { .dialect = backend_url_param(u, "endpoint") ? S3_AWS4 : S3_GOOG4,
				.endpoint = GCS_ENDPOINT,
				.region = "auto",
				.credentials = credentials_gcs };
	AUTO_FREE char *emu = emulator(u), *label = str_printf("gs://%s", u->path);
	struct credentials_query q = { .name = emu && !name ? "none" : name,
				       .file = env->credentials_file,
				       .backend = label ? label : "gs" };
	struct credentials cred;
	int r = credentials_gcs(&q, &cred, e);

	*out = NULL;
	if (r)
		return r;
	if (!cred.access_key_id || cred.service_account)
		return open_json(u, env, &cred, emu ? emu : GCS_ENDPOINT, out, e);
	credentials_release(&cred);
	hmac.endpoint = emu ? emu : GCS_ENDPOINT;
	return s3_open(u, env, &hmac, out, e);
}

/* -- the kind ------------------------------------------------------------------------------- */

static const char *const gcs_params[] = { CLOUD_PARAMS, "storage-class", NULL };

static int gcs_check(const struct backend_url *u, struct err *e)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
	AUTO_FREE char *bucket = NULL, *prefix = NULL;
	const char *class = backend_url_param(u, "storage-class");
	int r = path_split(u->path, "bucket", &bucket, &prefix, e);
	size_t n = r ? 0 : strlen(bucket);

	if (!r && (n < 3 || n > 222 || strspn(bucket, allowed) < n || bucket[0] == '.'))
		r = err_set(e, -EINVAL,
			    "\"%s\" is no bucket name: 3 to 222 of a-z, 0-9, -, _ and .", bucket);
	if (!r)
		r = cloud_check(u, GCS_ENDPOINT, e);
	if (!r && class &&
	    (!*class || strspn(class, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") < strlen(class)))
		r = err_set(e, -EINVAL, "storage-class=%s: STANDARD, NEARLINE, COLDLINE or ARCHIVE",
			    class);
	return r;
}

static char *gcs_provider(const struct backend_url *u)
{
	return cloud_provider(u, GCS_ENDPOINT);
}

static char *gcs_place(const struct backend_url *u)
{
	AUTO_FREE char *emu = emulator(u);

	return cloud_place(u, emu ? emu : GCS_ENDPOINT);
}

const struct backend_kind gs_kind = {
	.scheme = "gs",
	.params = gcs_params,
	.check = gcs_check,
	.provider = gcs_provider,
	.place = gcs_place,
	.open = gcs_open,
};
