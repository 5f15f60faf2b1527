/* azure://account/container/prefix?endpoint=&credentials=&tier=Hot|Cool|Cold&ca=&insecure=
 * &conditional=: Azure Blob Storage, block blobs put in one request.
 *
 * An endpoint without a path whose host is an address or loopback (Azurite) gets "/account". */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/azure_sign.h"
#include "backends/cloud.h"
#include "backends/http_parse.h"
#include "backends/xml.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define AZURE_SUFFIX  "blob.core.windows.net"
#define AZURE_VERSION "2021-12-02"

struct azure {
	struct cloud c;
	char *tier;
};

/* -- requests ------------------------------------------------------------------------------- */

static void put_path(const struct cloud_op *op, struct buf *p)
{
	buf_printf(p, "%s/", op->c->ep.base);
	url_encode(p, op->c->bucket, 0);
	if (op->step == CLOUD_PLACE || op->what == BACKEND_LIST)
		return;
	buf_put8(p, '/');
	url_encode(p, op->c->prefix, 1);
	url_encode(p, op->req->key, 1);
}

#define PAIRS_MAX 8

struct pairs {
	struct azure_pair p[PAIRS_MAX];
	int n;
};

static void add(struct pairs *a, const char *name, const char *value)
{
	a->p[a->n++] = (struct azure_pair){ name, value };
}

static void put_query(struct cloud_op *op, const struct pairs *q)
{
	const char *sas = op->c->cred.sas_token;

	for (int i = 0; i < q->n; i++) {
		buf_printf(&op->url, "%c%s=", i ? '&' : '?', q->p[i].name);
		url_encode(&op->url, q->p[i].value, 0);
	}
	/* With an account key the SAS is not needed. */
	if (sas && !op->c->cred.account_key && !op->c->cred.none)
		buf_printf(&op->url, "%c%s", q->n ? '&' : '?', sas);
}

static const char *const names[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };

static void choose_method(struct cloud_op *op, struct azure_sign_req *r)
{
	struct http_req *h = &op->http;

	h->method = HTTP_GET;
	if (op->step == CLOUD_EXISTS || (op->step == CLOUD_MAIN && op->what == BACKEND_HEAD))
		h->method = HTTP_HEAD;
	else if (op->step == CLOUD_MAIN && op->what == BACKEND_PUT)
		h->method = HTTP_PUT;
	else if (op->step == CLOUD_MAIN && op->what == BACKEND_DELETE)
		h->method = HTTP_DELETE;
	r->method = names[h->method];
}

/* Headers and query of the operation, into r and the lists. */
static void fill(const struct azure *a, struct cloud_op *op, struct pairs *h, struct pairs *q,
		 char range[64], struct azure_sign_req *r)
{
	const struct backend_req *req = op->req;

	if (op->http.method == HTTP_PUT) {
		op->http.body = req->iov;
		op->http.bodies = req->iovs;
		r->content_length = backend_req_bytes(req);
		r->content_type = CLOUD_OBJECT_TYPE;
		add(h, "x-ms-blob-type", "BlockBlob");
		if (a->tier)
			add(h, "x-ms-access-tier", a->tier);
		if ((req->flags & BACKEND_IF_ABSENT) && !op->unconditional)
			r->if_none_match = "*";
	} else if (op->http.method == HTTP_DELETE) {
		add(h, "x-ms-delete-snapshots", "include");
	} else if (op->step == CLOUD_PLACE || op->what == BACKEND_LIST) {
		buf_printf(&op->extra, "%s%s", op->c->prefix,
			   op->step == CLOUD_PLACE ? "" : req->key);
		add(q, "comp", "list");
		add(q, "restype", "container");
		add(q, "maxresults", op->step == CLOUD_PLACE ? "1" : "1000");
		if (op->extra.len)
			add(q, "prefix", buf_cstr(&op->extra));
		if (op->step == CLOUD_MAIN && req->token)
			add(q, "marker", req->token);
	} else if (op->http.method == HTTP_GET) {
		cloud_range(op, range);
		r->range = range;
	}
}

static int send_headers(struct cloud_op *op, const struct azure_sign_req *r)
{
	int err = 0;

	for (int i = 0; i < r->nheaders && !err; i++)
		err = cloud_header(op, r->headers[i].name, r->headers[i].value);
	if (!err && *r->content_type)
		err = cloud_header(op, "Content-Type", r->content_type);
	if (!err && *r->if_none_match)
		err = cloud_header(op, "If-None-Match", r->if_none_match);
	if (!err && *r->range)
		err = cloud_header(op, "Range", r->range);
	return err;
}

static int sign(struct cloud_op *op, const struct azure_sign_req *r)
{
	int err;

	if (!op->c->cred.account_key || op->c->cred.none)
		return 0;
	buf_printf(&op->headers, "Authorization: ");
	err = azure_sign(op->c->cred.account_key, r, &op->headers);
	buf_put8(&op->headers, 0);
	return err == -EINVAL ? -EACCES : err;
}

static int azure_build(struct cloud_op *op)
{
	struct azure *a = container_of(op->c, struct azure, c);
	struct azure_sign_req r = {
		.account = op->c->account, .content_type = "", .if_none_match = "", .range = ""
	};
	struct pairs h = { .n = 0 }, q = { .n = 0 };
	char date[64], range[64];
	struct buf path = { 0 };
	int err;

	choose_method(op, &r);
	put_path(op, &path);
	r.path = buf_cstr(&path);
	if (!r.path)
		return -ENOMEM;
	azure_date(cloud_now_locked(op->c), date);
	add(&h, "x-ms-version", AZURE_VERSION);
	add(&h, "x-ms-date", date);
	fill(a, op, &h, &q, range, &r);
	buf_printf(&op->shown, "%s://%s%s", op->c->ep.tls ? "https" : "http", op->c->ep.authority,
		   r.path);
	buf_put(&op->url, op->shown.p, op->shown.len);
	put_query(op, &q);
	r.headers = h.p, r.nheaders = h.n;
	r.query = q.p, r.nquery = q.n;
	err = op->extra.failed ? -ENOMEM : send_headers(op, &r);
	if (!err)
		err = sign(op, &r);
	buf_release(&path);
	return err;
}

/* -- answers -------------------------------------------------------------------------------- */

static void azure_fault(const struct cloud_op *op, struct cloud_fault *f)
{
	const char *text = (const char *)op->http.text.p;
	const char *code = http_header(&op->http, "x-ms-error-code");
	size_t n = op->http.text.len;

	if (n) {
		xml_value(text, n, "Error/Code", f->code, sizeof(f->code));
		xml_value(text, n, "Error/Message", f->message, sizeof(f->message));
		/* Its further lines are request id and time. */
		f->message[strcspn(f->message, "\n")] = 0;
	}
	if (code)
		snprintf(f->code, sizeof(f->code), "%s", code);
}

static const struct {
	const char *code;
	int result;
} codes[] = {
	{ "BlobNotFound", -ENOENT },
	{ "ContainerNotFound", -ENODEV },
	{ "ContainerDisabled", -ENODEV },
	{ "ContainerBeingDeleted", -ENODEV },
	{ "AccountBeingCreated", -EAGAIN },
	{ "BlobAlreadyExists", -EEXIST },
	{ "UnauthorizedBlobOverwrite", -EEXIST },
	{ "ConditionNotMet", -EEXIST },
	{ "LeaseIdMissing", -EIO },
	{ "BlobImmutableDueToPolicy", -EIO },
	{ "AccountIsDisabled", -EACCES },
	{ "InvalidAuthenticationInfo", -EACCES },
	{ "PublicAccessNotPermitted", -EACCES },
	{ "ServerBusy", -EAGAIN },
	{ "InternalError", -EAGAIN },
	{ "OperationTimedOut", -EAGAIN },
	{ "Md5Mismatch", -EAGAIN },
};

static int azure_judge(struct cloud_op *op, const struct cloud_fault *f)
{
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (!strcmp(f->code, codes[i].code))
			return codes[i].result;
	}
	return cloud_errno_of_status(op->http.status);
}

static int azure_accept(struct cloud_op *op)
{
	const struct http_req *h = &op->http;
	const char *length;

	if (op->step == CLOUD_EXISTS || op->what == BACKEND_HEAD) {
		length = http_header(h, "Content-Length");
		if (!http_header(h, "x-ms-blob-type") || !length)
			return -EBADMSG;
		return http_number(length, &op->req->size) ? -EBADMSG : 0;
	}
	if (op->what == BACKEND_PUT)
		return h->status == 201 && http_header(h, "ETag") ? 0 : -EBADMSG;
	return h->status == 202 && http_header(h, "x-ms-request-id") ? 0 : -EBADMSG;
}

/* -- life ----------------------------------------------------------------------------------- */

static int azure_reload(struct cloud *c)
{
	struct credentials_query q = cloud_query(c);
	struct credentials fresh;

	if (credentials_azure(&q, &fresh, NULL))
		return 0;
	if (credentials_equal(&fresh, &c->cred)) {
		credentials_release(&fresh);
		return 0;
	}
	credentials_release(&c->cred);
	c->cred = fresh;
	return 1;
}

static void azure_release(struct cloud *c)
{
	struct azure *a = container_of(c, struct azure, c);

	cloud_release(c);
	free(a->tier);
	free(a);
}

static const struct cloud_ops azure_cloud_ops = {
	.build = azure_build,
	.fault = azure_fault,
	.judge = azure_judge,
	.accept = azure_accept,
	.parse_list = azure_list_parse,
	.reload = azure_reload,
	.release = azure_release,
};

static const struct backend_ops azure_backend_ops = {
	.name = "azure",
	.submit = cloud_submit,
	.cancel = cloud_cancel,
	.destroy = cloud_destroy,
	.claim = cloud_claim,
	.verify = cloud_verify,
	.unclaim = cloud_unclaim,
};

static int is_address(const char *host)
{
	struct in_addr v4;

	return host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1;
}

/* Azurite and the like have the account in the path. */
static void add_account(struct endpoint *ep, const char *account)
{
	if (!ep->base[0] && (ep->loopback || is_address(ep->host)))
		snprintf(ep->base, sizeof(ep->base), "/%s", account);
}

/* A connection string may say where the account is; a URL's endpoint= wins. */
static int endpoint_of_string(struct cloud *c, int insecure, struct err *e)
{
	const char *s = c->cred.connection_string;
	AUTO_FREE char *blob = NULL, *suffix = NULL, *scheme = NULL, *text = NULL;

	if (!s)
		return 0;
	blob = connection_string_get(s, "BlobEndpoint");
	if (blob)
		return endpoint_parse(blob, insecure, &c->ep, e);
	suffix = connection_string_get(s, "EndpointSuffix");
	scheme = connection_string_get(s, "DefaultEndpointsProtocol");
	if (!suffix)
		return 0;
	text = str_printf("%s://%s.blob.%s", scheme ? scheme : "https", c->account, suffix);
	return text ? endpoint_parse(text, insecure, &c->ep, e)
		    : err_set(e, -ENOMEM, "out of memory");
}

/* u->path as account (malloc'ed), the rest (malloc'ed) and the default endpoint (malloc'ed). */
static int split(const struct backend_url *u, char **account, char **rest, char **dflt,
		 struct err *e)
{
	int r = path_split(u->path, "account", account, rest, e);

	*dflt = r ? NULL : str_printf("https://%s." AZURE_SUFFIX, *account);
	if (!r && !*dflt)
		r = err_set(e, -ENOMEM, "out of memory");
	return r;
}

static int check_key(const struct cloud *c, struct err *e)
{
	struct azure_sign_req nothing = { .account = "",
					  .method = "",
					  .content_type = "",
					  .if_none_match = "",
					  .range = "",
					  .path = "" };
	struct buf out = { 0 };
	int r;

	if (!c->cred.account_key)
		return 0;
	r = azure_sign(c->cred.account_key, &nothing, &out);
	buf_release(&out);
	return r ? err_set(e, r == -EINVAL ? -EACCES : r,
			   "%s: the account key (%s) is not one: Base64 is expected", c->b.name,
			   c->cred.source)
		 : 0;
}

static int set_up(struct azure *a, const struct backend_url *u, const struct backend_env *env,
		  struct err *e)
{
	AUTO_FREE char *rest = NULL, *dflt = NULL;
	struct cloud *c = &a->c;
	const char *tier = backend_url_param(u, "tier");
	struct credentials_query q;
	char *account;
	int r = split(u, &account, &rest, &dflt, e);

	if (!r)
		r = cloud_init(c, &azure_backend_ops, &azure_cloud_ops, u, env, rest, dflt, e);
	c->account = account;
	if (r)
		return r;
	q = cloud_query(c);
	r = credentials_azure(&q, &c->cred, e);
	if (!r && !backend_url_param(u, "endpoint"))
		r = endpoint_of_string(c, cloud_flag(u, "insecure", 0, NULL), e);
	if (!r)
		r = check_key(c, e);
	if (r)
		return r;
	add_account(&c->ep, account);
	c->time_signed = c->cred.account_key != NULL;
	a->tier = tier ? strdup(tier) : NULL;
	if (tier && !a->tier)
		return err_set(e, -ENOMEM, "out of memory");
	return cloud_connect(c, u, e);
}

static int azure_open(const struct backend_url *u, const struct backend_env *env,
		      struct backend **out, struct err *e)
{
	struct azure *a = calloc(1, sizeof(*a));
	int r;

	*out = NULL;
	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	r = set_up(a, u, env, e);
	if (r) {
		azure_release(&a->c);
		return r;
	}
	*out = &a->c.b;
	return 0;
}

/* -- the kind ------------------------------------------------------------------------------- */

static const char *const azure_params[] = { CLOUD_PARAMS, "tier", NULL };

static int check_name(const char *name, const char *what, size_t max, const char *allowed,
		      struct err *e)
{
	size_t n = strlen(name);

	if (n < 3 || n > max || strspn(name, allowed) < n)
		return err_set(e, -EINVAL, "\"%s\" is no %s: 3 to %zu of %s", name, what, max,
			       strchr(allowed, '-') ? "a-z, 0-9 and -" : "a-z and 0-9");
	return 0;
}

static int azure_check(const struct backend_url *u, struct err *e)
{
	static const char *const tiers[] = { "Hot", "Cool", "Cold" };
	AUTO_FREE char *account = NULL, *rest = NULL, *dflt = NULL, *container = NULL,
		       *prefix = NULL;
	const char *tier = backend_url_param(u, "tier");
	int r = split(u, &account, &rest, &dflt, e);

	if (!r)
		r = check_name(account, "storage account", 24,
			       "abcdefghijklmnopqrstuvwxyz0123456789", e);
	if (!r)
		r = path_split(rest, "container (azure://ACCOUNT/CONTAINER)", &container, &prefix,
			       e);
	if (!r)
		r = check_name(container, "container", 63, "abcdefghijklmnopqrstuvwxyz0123456789-",
			       e);
	if (!r)
		r = cloud_check(u, dflt, e);
	for (size_t i = 0; !r && tier && i < ARRAY_LEN(tiers); i++) {
		if (!strcmp(tier, tiers[i]))
			return 0;
	}
	return !r && tier
		   ? err_set(e, -EINVAL,
			     "tier=%s: Hot, Cool or Cold (Archive cannot be read at once)", tier)
		   : r;
}

/* Accounts at Azure share a provider, so the account's own label is left out of the host. */
static char *azure_provider(const struct backend_url *u)
{
	AUTO_FREE char *account = NULL, *rest = NULL, *dflt = NULL, *full = NULL;
	size_t n;

	if (split(u, &account, &rest, &dflt, NULL))
		return NULL;
	full = cloud_provider(u, dflt);
	if (!full)
		return NULL;
	n = strlen(account);
	if (!strncmp(full + 6, account, n) && full[6 + n] == '.') /* "azure:" */
		return str_printf("azure:%s", full + 6 + n + 1);
	return strdup(full);
}

static char *azure_place(const struct backend_url *u)
{
	AUTO_FREE char *account = NULL, *rest = NULL, *dflt = NULL, *container = NULL,
		       *prefix = NULL;
	const char *given = backend_url_param(u, "endpoint");
	struct endpoint ep;

	if (split(u, &account, &rest, &dflt, NULL) ||
	    path_split(rest, "container", &container, &prefix, NULL) ||
	    endpoint_parse(given ? given : dflt, 1, &ep, NULL))
		return NULL;
	add_account(&ep, account);
	return str_printf("%s%s/%s/%s", ep.authority, ep.base, container, prefix);
}

const struct backend_kind azure_kind = {
	.scheme = "azure",
	.params = azure_params,
	.check = azure_check,
	.provider = azure_provider,
	.place = azure_place,
	.open = azure_open,
};
