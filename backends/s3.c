/* s3://bucket/prefix?region=&endpoint=&style=path|virtual&storage-class=&credentials=&ca=&insecure=
 * &conditional=&payload=signed|unsigned: AWS, and what speaks its language (Ceph, MinIO, R2, B2,
 * Wasabi, Google with HMAC keys).
 *
 * The payload is not hashed under TLS, which protects it already (and SHA-256 of everything would
 * cost more than sealing, coding and TLS together), nor on loopback; it is over plain http
 * elsewhere (insecure=1), and with payload=signed. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/s3.h"
#include "backends/xml.h"
#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define AWS_HOST "s3.amazonaws.com" /* stands for all of AWS in labels and places */

struct s3 {
	struct cloud c;
	struct s3_conf conf;
	int aws;     /* the endpoint follows from the region */
	int virtual; /* https://bucket.host/key, not https://host/bucket/key */
	int payload; /* hash it */
	char *storage_class;
	char region[64];         /* by c.lock */
	struct s3_signer signer; /* by c.lock */
};

/* -- requests ------------------------------------------------------------------------------- */

static void put_query(const struct cloud_op *op, struct buf *q)
{
	const struct backend_req *req = op->req;

	if (op->step != CLOUD_PLACE && op->what != BACKEND_LIST)
		return;
	/* sorted by name, as the signature wants it */
	if (op->step == CLOUD_MAIN && req->token) {
		buf_printf(q, "continuation-token=");
		url_encode(q, req->token, 0);
		buf_put8(q, '&');
	}
	buf_printf(q, "encoding-type=url&list-type=2&max-keys=%d&prefix=",
		   op->step == CLOUD_PLACE ? 1 : CLOUD_LIST_MAX);
	url_encode(q, op->c->prefix, 0);
	if (op->step == CLOUD_MAIN)
		url_encode(q, req->key, 0);
}

/* The encoded path, base included. */
static void put_path(const struct s3 *s, const struct cloud_op *op, struct buf *p)
{
	buf_printf(p, "%s/", s->c.ep.base);
	if (!s->virtual) {
		url_encode(p, s->c.bucket, 0);
		buf_put8(p, '/');
	}
	if (op->step == CLOUD_PLACE || op->what == BACKEND_LIST)
		return;
	url_encode(p, s->c.prefix, 1);
	url_encode(p, op->req->key, 1);
}

#define HEADERS_MAX 10

struct headers {
	struct s3_header h[HEADERS_MAX];
	int n;
};

static void add(struct headers *h, const char *name, const char *value)
{
	h->h[h->n++] = (struct s3_header){ name, value };
}

static const char *own(const struct s3 *s, const char *aws, const char *goog)
{
	return s->conf.dialect == S3_AWS4 ? aws : goog;
}

static int is_put(const struct cloud_op *op)
{
	return op->step == CLOUD_MAIN && op->what == BACKEND_PUT;
}

static void add_put_headers(const struct s3 *s, const struct cloud_op *op, char checksum[9],
			    struct headers *h)
{
	add(h, "content-type", CLOUD_OBJECT_TYPE);
	if (s->storage_class)
		add(h, own(s, "x-amz-storage-class", "x-goog-storage-class"), s->storage_class);
	if ((op->req->flags & BACKEND_IF_ABSENT) && !op->unconditional) {
		if (s->conf.dialect == S3_AWS4)
			add(h, "if-none-match", "*");
		else
			add(h, "x-goog-if-generation-match", "0");
	}
	/* Others refuse what they do not know of the newer checksums. */
	if (s->aws && !s3_checksum(op->req->iov, op->req->iovs, checksum))
		add(h, "x-amz-checksum-crc32c", checksum);
}

static int set_body(const struct s3 *s, struct cloud_op *op, char payload[65])
{
	if (is_put(op)) {
		op->http.body = op->req->iov;
		op->http.bodies = op->req->iovs;
	}
	if (!s->payload) {
		memcpy(payload, S3_UNSIGNED, sizeof(S3_UNSIGNED));
		return 0;
	}
	return s3_payload_hash(op->http.body, op->http.bodies, payload);
}

static enum http_method method_of(const struct cloud_op *op)
{
	if (op->step != CLOUD_MAIN)
		return HTTP_GET;
	return op->what == BACKEND_PUT      ? HTTP_PUT
	       : op->what == BACKEND_DELETE ? HTTP_DELETE
					    : HTTP_GET;
}

/* Sends all of h but host, which libcurl writes from the URL, and the signature. */
static int sign_and_send(struct s3 *s, struct cloud_op *op, struct headers *h,
			 const struct s3_sign_req *r)
{
	int err = 0;

	for (int i = 0; i < h->n && !err; i++) {
		if (strcmp(h->h[i].name, "host"))
			err = cloud_header(op, h->h[i].name, h->h[i].value);
	}
	if (err || s->c.cred.none)
		return err;
	s->signer.access_key = s->c.cred.access_key_id;
	s->signer.secret = s->c.cred.secret_access_key;
	s->signer.region = s->region;
	buf_printf(&op->headers, "Authorization: ");
	err = s3_sign(&s->signer, r, &op->headers);
	buf_put8(&op->headers, 0);
	return err;
}

static int s3_build(struct cloud_op *op)
{
	struct s3 *s = container_of(op->c, struct s3, c);
	char host[330], range[64], payload[65], date[17], checksum[9];
	struct buf path = { 0 }, query = { 0 };
	struct headers h = { .n = 0 };
	struct s3_sign_req sign = { .payload = payload, .date = date };
	int err = set_body(s, op, payload);

	put_path(s, op, &path);
	put_query(op, &query);
	snprintf(host, sizeof(host), "%s%s%s", s->virtual ? s->c.bucket : "", s->virtual ? "." : "",
		 s->c.ep.authority);
	s3_date(cloud_now_locked(op->c), date);
	add(&h, "host", host);
	if (!s->c.cred.none) {
		add(&h, own(s, "x-amz-content-sha256", "x-goog-content-sha256"), payload);
		add(&h, own(s, "x-amz-date", "x-goog-date"), date);
		if (s->c.cred.session_token)
			add(&h, "x-amz-security-token", s->c.cred.session_token);
	}
	if (is_put(op)) {
		add_put_headers(s, op, checksum, &h);
	} else if (op->step == CLOUD_EXISTS ||
		   (op->step == CLOUD_MAIN &&
		    (op->what == BACKEND_GET || op->what == BACKEND_HEAD))) {
		cloud_range(op, range);
		add(&h, "range", range);
	}
	op->http.method = method_of(op);
	sign.method = op->http.method == HTTP_PUT   ? "PUT"
		      : op->http.method == HTTP_GET ? "GET"
						    : "DELETE";
	sign.path = buf_cstr(&path);
	sign.query = query.len ? buf_cstr(&query) : "";
	sign.headers = h.h;
	sign.nheaders = h.n;
	if (!sign.path || !sign.query)
		err = -ENOMEM;
	if (!err) {
		buf_printf(&op->shown, "%s://%s%s", s->c.ep.tls ? "https" : "http", host,
			   sign.path);
		buf_put(&op->url, op->shown.p, op->shown.len);
		buf_printf(&op->url, "%s%s", query.len ? "?" : "", sign.query);
		err = sign_and_send(s, op, &h, &sign);
	}
	buf_release(&path);
	buf_release(&query);
	return err;
}

/* -- answers -------------------------------------------------------------------------------- */

static void s3_fault(const struct cloud_op *op, struct cloud_fault *f)
{
	const char *text = (const char *)op->http.text.p;
	size_t n = op->http.text.len;

	if (!n)
		return;
	xml_value(text, n, "Error/Code", f->code, sizeof(f->code));
	xml_value(text, n, "Error/Message", f->message, sizeof(f->message));
}

static const struct {
	const char *code;
	int result;
} codes[] = {
	{ "NoSuchKey", -ENOENT },
	{ "NoSuchBucket", -ENODEV },
	{ "InvalidBucketName", -ENODEV },
	{ "PreconditionFailed", -EEXIST },
	{ "AccessDenied", -EACCES },
	{ "InvalidAccessKeyId", -EACCES },
	{ "SignatureDoesNotMatch", -EACCES },
	{ "RequestTimeTooSkewed", -EACCES },
	{ "RequestExpired", -EACCES },
	{ "ExpiredToken", -EACCES },
	{ "InvalidToken", -EACCES },
	{ "InvalidSecurity", -EACCES },
	{ "AccountProblem", -EACCES },
	{ "AllAccessDisabled", -EACCES },
	{ "NotSignedUp", -EACCES },
	{ "UserSuspended", -EACCES },
	{ "Unauthorized", -EACCES },
	{ "UnauthorizedAccess", -EACCES },
	{ "AuthorizationHeaderMalformed", -EACCES },
	{ "MissingSecurityHeader", -EACCES },
	{ "QuotaExceeded", -ENOSPC },
	{ "TotalStorageQuotaExceeded", -ENOSPC },
	{ "InsufficientCapacity", -ENOSPC },
	{ "XMinioStorageFull", -ENOSPC },
	{ "StorageFull", -ENOSPC },
	{ "SlowDown", -EAGAIN },
	{ "SlowDownRead", -EAGAIN },
	{ "SlowDownWrite", -EAGAIN },
	{ "ServerBusy", -EAGAIN },
	{ "TooManyRequests", -EAGAIN },
	{ "InternalError", -EAGAIN },
	{ "ServiceUnavailable", -EAGAIN },
	{ "OperationAborted", -EAGAIN },
	{ "ConditionalRequestConflict", -EAGAIN },
	{ "RequestTimeout", -EAGAIN },
	{ "IncompleteBody", -EAGAIN },
	{ "BadDigest", -EAGAIN },
	{ "XAmzContentSHA256Mismatch", -EAGAIN },
	{ "XAmzContentChecksumMismatch", -EAGAIN },
	{ "TemporaryRedirect", -EAGAIN },
};

static void aws_host(const char *region, char out[256])
{
	snprintf(out, 256, "s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) ? "" : ".cn");
}

/* Region names go into a host name and a signature. */
static int region_ok(const char *r)
{
	size_t n = strlen(r);

	return n > 0 && n < 64 && strspn(r, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static void set_region_locked(struct s3 *s, const char *region)
{
	snprintf(s->region, sizeof(s->region), "%s", region);
	s->signer.day[0] = 0;
	if (s->aws) {
		aws_host(region, s->c.ep.host);
		snprintf(s->c.ep.authority, sizeof(s->c.ep.authority), "%s", s->c.ep.host);
	}
}

/* The server says that the bucket is elsewhere. At AWS we follow; a given endpoint is what the user
 * wants, so only the region of the signature is taken over. */
static int correct_region(struct s3 *s, struct cloud_op *op, const struct cloud_fault *f)
{
	const char *h = http_header(&op->http, "x-amz-bucket-region");
	int moved = op->http.status == 301 || !strcmp(f->code, "PermanentRedirect");
	char region[64] = "", endpoint[256] = "";

	if (!moved && strcmp(f->code, "AuthorizationHeaderMalformed"))
		return 0;
	if (h)
		snprintf(region, sizeof(region), "%s", h);
	else
		xml_value((char *)op->http.text.p, op->http.text.len, "Error/Region", region,
			  sizeof(region));
	if (region_ok(region) && !(op->fixed & FIX_REGION) && (!moved || s->aws)) {
		op->fixed |= FIX_REGION;
		{
			SCOPE_LOCK(&s->c.lock);
			set_region_locked(s, region);
		}
		cloud_say(&s->c, "region", "the bucket is in region %s: add region=%s to the URL",
			  region, region);
		return CLOUD_AGAIN;
	}
	if (!moved)
		return 0;
	xml_value((char *)op->http.text.p, op->http.text.len, "Error/Endpoint", endpoint,
		  sizeof(endpoint));
	cloud_say(
	    &s->c, "redirect",
	    "the bucket is at another endpoint (%s, region %s): correct endpoint= and region= "
	    "in the URL",
	    endpoint[0] ? endpoint : "not said", region[0] ? region : "not said");
	return -ENODEV;
}

static int s3_judge(struct cloud_op *op, const struct cloud_fault *f)
{
	struct s3 *s = container_of(op->c, struct s3, c);
	int r = correct_region(s, op, f);

	if (r)
		return r;
	if (op->http.status == 501 && is_put(op) && (op->req->flags & BACKEND_IF_ABSENT))
		return CLOUD_NO_CONDITION;
	if (strstr(f->message, "cap exceeded")) /* Backblaze, as AccessDenied */
		return -ENOSPC;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (!strcmp(f->code, codes[i].code))
			return codes[i].result;
	}
	return cloud_errno_of_status(op->http.status);
}

/* An answer of a storage server, and not of a proxy's login page, has an ETag, or nothing to say.
 */
static int s3_accept(struct cloud_op *op)
{
	if (op->what == BACKEND_PUT)
		return http_header(&op->http, "ETag") && op->http.text.len == 0 ? 0 : -EBADMSG;
	return op->http.text.len == 0 ? 0 : -EBADMSG;
}

/* -- life ----------------------------------------------------------------------------------- */

static int s3_reload(struct cloud *c)
{
	struct s3 *s = container_of(c, struct s3, c);
	struct credentials_query q = cloud_query(c);
	struct credentials fresh;

	if (s->conf.credentials(&q, &fresh, NULL))
		return 0;
	if (credentials_equal(&fresh, &c->cred)) {
		credentials_release(&fresh);
		return 0;
	}
	credentials_release(&c->cred);
	c->cred = fresh;
	s->signer.day[0] = 0;
	return 1;
}

static void s3_free(struct s3 *s)
{
	cloud_release(&s->c);
	free(s->storage_class);
	explicit_bzero(s->signer.key, sizeof(s->signer.key));
	free(s);
}

static void s3_release(struct cloud *c)
{
	s3_free(container_of(c, struct s3, c));
}

static const struct cloud_ops s3_cloud_ops = {
	.build = s3_build,
	.fault = s3_fault,
	.judge = s3_judge,
	.accept = s3_accept,
	.parse_list = s3_list_parse,
	.reload = s3_reload,
	.release = s3_release,
};

static const struct backend_ops s3_backend_ops = {
	.name = "s3",
	.submit = cloud_submit,
	.cancel = cloud_cancel,
	.destroy = cloud_destroy,
	.claim = cloud_claim,
	.verify = cloud_verify,
	.unclaim = cloud_unclaim,
};

/* s3.REGION.provider.tld, as Backblaze, Wasabi and AWS name their endpoints. */
static int region_of_host(const char *host, char out[64])
{
	size_t n;

	if (strncmp(host, "s3.", 3))
		return -ENOENT;
	n = strcspn(host + 3, ".");
	if (n == 0 || n > 63 || !memchr(host + 3, '-', n) || !strchr(host + 3 + n + 1, '.'))
		return -ENOENT;
	memcpy(out, host + 3, n);
	out[n] = 0;
	return 0;
}

static void choose_region(struct s3 *s, const struct backend_url *u)
{
	const char *given = backend_url_param(u, "region");
	char of_host[64];

	if (given)
		set_region_locked(s, given);
	else if (!s->aws && !region_of_host(s->c.ep.host, of_host))
		set_region_locked(s, of_host);
	else if (s->c.cred.region && region_ok(s->c.cred.region))
		set_region_locked(s, s->c.cred.region);
	else
		set_region_locked(s, s->conf.region);
}

static int set_options(struct s3 *s, const struct backend_url *u)
{
	const char *style = backend_url_param(u, "style");
	const char *payload = backend_url_param(u, "payload");
	const char *class = backend_url_param(u, "storage-class");

	/* A bucket with dots has no certificate as a host. */
	s->virtual = style ? !strcmp(style, "virtual") : s->aws && !strchr(s->c.bucket, '.');
	s->payload = payload ? !strcmp(payload, "signed") : !s->c.ep.tls && !s->c.ep.loopback;
	s->storage_class = class ? strdup(class) : NULL;
	return class && !s->storage_class ? -ENOMEM : 0;
}

int s3_open(const struct backend_url *u, const struct backend_env *env, const struct s3_conf *conf,
	    struct backend **out, struct err *e)
{
	struct s3 *s = calloc(1, sizeof(*s));
	struct credentials_query q;
	int r;

	*out = NULL;
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->conf = *conf;
	s->signer.dialect = conf->dialect;
	s->aws = !conf->endpoint && !backend_url_param(u, "endpoint");
	r = cloud_init(&s->c, &s3_backend_ops, &s3_cloud_ops, u, env, u->path,
		       conf->endpoint ? conf->endpoint : AWS_HOST, e);
	q = cloud_query(&s->c);
	if (!r)
		r = conf->credentials(&q, &s->c.cred, e);
	if (!r && set_options(s, u))
		r = err_set(e, -ENOMEM, "out of memory");
	if (!r)
		r = cloud_connect(&s->c, u, e);
	if (r) {
		s3_free(s);
		return r;
	}
	choose_region(s, u);
	s->c.time_signed = !s->c.cred.none;
	s->c.head_by_range = 1;
	*out = &s->c.b;
	return 0;
}

/* -- the kind ------------------------------------------------------------------------------- */

static const char *const s3_params[] = { CLOUD_PARAMS,    "region",  "style",
					 "storage-class", "payload", NULL };

static int choice(const struct backend_url *u, const char *name, const char *a, const char *b,
		  struct err *e)
{
	const char *v = backend_url_param(u, name);

	if (!v || !strcmp(v, a) || !strcmp(v, b))
		return 0;
	return err_set(e, -EINVAL, "%s=%s: %s or %s", name, v, a, b);
}

static int check_bucket(const char *bucket, int virtual, struct err *e)
{
	size_t n = strlen(bucket);
	const char *allowed = virtual ? "abcdefghijklmnopqrstuvwxyz0123456789-."
				      : "abcdefghijklmnopqrstuvwxyz0123456789-._"
					"ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	if (n < 3 || n > 222 || strspn(bucket, allowed) < n || strstr(bucket, "..") ||
	    bucket[0] == '.')
		return err_set(e, -EINVAL,
			       "\"%s\" is no bucket name: at least 3 letters, digits, - and .%s",
			       bucket, virtual ? " (small ones with style=virtual)" : "");
	return 0;
}

static int s3_check(const struct backend_url *u, struct err *e)
{
	AUTO_FREE char *bucket = NULL, *prefix = NULL;
	const char *region = backend_url_param(u, "region"), *style = backend_url_param(u, "style");
	const char *class = backend_url_param(u, "storage-class");
	int r = path_split(u->path, "bucket", &bucket, &prefix, e);

	if (!r)
		r = cloud_check(u, AWS_HOST, e);
	if (!r)
		r = choice(u, "style", "path", "virtual", e);
	if (!r)
		r = choice(u, "payload", "signed", "unsigned", e);
	if (!r)
		r = check_bucket(bucket, style && !strcmp(style, "virtual"), e);
	if (!r && region && !region_ok(region))
		r = err_set(e, -EINVAL, "region=%s: small letters, digits and -", region);
	if (!r && class &&
	    (!*class || strspn(class, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") < strlen(class)))
		r = err_set(e, -EINVAL, "storage-class=%s: capitals, digits and _, as STANDARD_IA",
			    class);
	return r;
}

static char *s3_provider(const struct backend_url *u)
{
	return cloud_provider(u, AWS_HOST);
}

static char *s3_place(const struct backend_url *u)
{
	return cloud_place(u, AWS_HOST);
}

static int s3_kind_open(const struct backend_url *u, const struct backend_env *env,
			struct backend **out, struct err *e)
{
	static const struct s3_conf aws = { .dialect = S3_AWS4,
					    .region = "us-east-1",
					    .credentials = credentials_s3 };

	return s3_open(u, env, &aws, out, e);
}

const struct backend_kind s3_kind = {
	.scheme = "s3",
	.params = s3_params,
	.check = s3_check,
	.provider = s3_provider,
	.place = s3_place,
	.open = s3_kind_open,
};
