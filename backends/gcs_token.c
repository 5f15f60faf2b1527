#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/gcs_token.h"
#include "backends/http_parse.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"

#define FETCH_TIMEOUT (15 * NS_PER_S)
#define RENEW_BEFORE  300 /* seconds: a token lives an hour */
#define METADATA_HOST "metadata.google.internal"
#define METADATA_PATH "/computeMetadata/v1/instance/service-accounts/default/token"

int gcs_token_init(struct gcs_token *t, struct cloud *c, const char *ca, struct err *e)
{
	struct http_conf conf = { .ca = ca };
	struct endpoint ep;
	int r;

	t->c = c;
	t->way = c->cred.none ? GCS_NO_AUTH : c->cred.metadata ? GCS_METADATA : GCS_ACCOUNT;
	if (t->way == GCS_NO_AUTH)
		return 0;
	conf.direct = 1;
	if (t->way == GCS_ACCOUNT) {
		r = gcs_account_parse(c->cred.service_account, strlen(c->cred.service_account),
				      c->cred.source, &t->account, e);
		if (r)
			return r;
		conf.direct = !endpoint_parse(t->account.token_uri, 0, &ep, NULL) && ep.loopback;
	}
	return http_site_open(&conf, &t->site, e);
}

static void forget(struct gcs_token *t)
{
	secret_free(t->value);
	t->value = NULL;
}

void gcs_token_release(struct gcs_token *t)
{
	http_site_close(t->site);
	gcs_account_release(&t->account);
	forget(t);
	http_req_release(&t->http);
	if (t->form.p)
		explicit_bzero(t->form.p, t->form.len);
	buf_release(&t->url);
	buf_release(&t->headers);
	buf_release(&t->form);
}

/* It may have been an old one, from before a renewal, for the request waited long for its turn:
 * then the present one is not touched. */
int gcs_token_refused(struct gcs_token *t, struct cloud_op *op)
{
	if (t->way == GCS_NO_AUTH || op->unauthorized++ == 3)
		return 0;
	SCOPE_LOCK(&t->c->lock);
	if (op->used == t->which) {
		if (op->unauthorized > 1)
			return 0; /* a fresh one, too */
		forget(t);
	}
	return 1;
}

void gcs_token_change_locked(struct gcs_token *t, struct gcs_account *a)
{
	forget(t);
	gcs_account_release(&t->account);
	t->account = *a;
	memset(a, 0, sizeof(*a));
}

static void fetch_done(struct http_req *r);

static int compose_locked(struct gcs_token *t)
{
	const char *host = getenv("GCE_METADATA_HOST");
	int r;

	buf_reset(&t->url);
	buf_reset(&t->headers);
	buf_reset(&t->form);
	t->http.body = NULL;
	t->http.bodies = 0;
	if (t->way == GCS_METADATA) {
		t->http.method = HTTP_GET;
		buf_printf(&t->url, "http://%s%s", host && *host ? host : METADATA_HOST,
			   METADATA_PATH);
		buf_put(&t->headers, "Metadata-Flavor: Google", 24);
	} else {
		t->http.method = HTTP_POST;
		buf_printf(&t->url, "%s", t->account.token_uri);
		buf_put(&t->headers, "Content-Type: application/x-www-form-urlencoded", 48);
		r = gcs_token_form(&t->account, cloud_now_locked(t->c), &t->form);
		if (r)
			return r;
		t->body = (struct iovec){ t->form.p, t->form.len };
		t->http.body = &t->body;
		t->http.bodies = 1;
	}
	t->http.url = t->http.shown = buf_cstr(&t->url);
	t->http.headers = &t->headers;
	return !t->http.url || t->headers.failed || t->form.failed ? -ENOMEM : 0;
}

static int send_locked(struct gcs_token *t)
{
	int r = compose_locked(t);

	if (r)
		return r;
	t->http.deadline = clock_mono_ns() + FETCH_TIMEOUT;
	t->http.done = fetch_done;
	t->http.user = t;
	http_submit(t->site, &t->http);
	return 0;
}

static int start_locked(struct gcs_token *t)
{
	int r = send_locked(t);

	if (r)
		return r;
	cloud_hold_locked(t->c);
	t->fetching = 1;
	t->begun++;
	t->skew_fixed = 0;
	return 0;
}

int gcs_token_get_locked(struct gcs_token *t, struct cloud_op *op, const char **value)
{
	int64_t now = clock_mono_ns();
	int r;

	*value = NULL;
	if (t->way == GCS_NO_AUTH)
		return 0;
	if (t->value && now < t->until) {
		/* Renewed while the old one is good still; a failure of that is no harm yet. */
		if (now >= t->renew && !t->fetching && start_locked(t))
			t->renew = now + 10 * NS_PER_S;
		*value = t->value;
		op->used = t->which;
		return 0;
	}
	/* Not endlessly: what it waited for has failed. */
	if (op->attempt && t->ended >= op->attempt && t->result)
		return t->result;
	if (!t->fetching) {
		r = start_locked(t);
		if (r)
			return r;
	}
	op->attempt = t->begun;
	return CLOUD_WAIT;
}

/* A JWT of the wrong hour is refused as invalid_grant. 1: sent again with the server's time. */
static int retry_with_their_clock(struct gcs_token *t)
{
	const char *s = http_header(&t->http, "Date");
	struct cloud *c = t->c;
	int64_t date, off;

	if (t->way != GCS_ACCOUNT || t->skew_fixed || !s || http_date_parse(s, &date))
		return 0;
	{
		SCOPE_LOCK(&c->lock);
		off = date - cloud_now_locked(c);
		if (off > -60 && off < 60)
			return 0;
		c->skew += off;
		t->skew_fixed = 1;
		if (send_locked(t))
			return 0;
	}
	cloud_say(c, "skew",
		  "this machine's clock is %lld s %s Google's: tokens are asked for with their "
		  "time. Set the clock (is NTP running?)",
		  (long long)(off < 0 ? -off : off), off < 0 ? "ahead of" : "behind");
	return 1;
}

static int judge(struct gcs_token *t, char words[300])
{
	struct http_req *r = &t->http;

	gcs_token_error((char *)r->text.p, r->text.len, words);
	if (r->status == 429 || r->status >= 500)
		return -EAGAIN;
	return -EACCES;
}

/* The outcome of a fetch; *token is set on success. */
static int outcome(struct gcs_token *t, char **token, int64_t *seconds, char words[300])
{
	struct http_req *r = &t->http;

	*token = NULL;
	snprintf(words, 300, "%s", r->problem);
	if (r->result)
		return r->result;
	if (r->status != 200)
		return judge(t, words);
	/* Anybody may answer for that name in a foreign network. */
	if (t->way == GCS_METADATA && !http_header(r, "Metadata-Flavor"))
		return -EACCES;
	return gcs_token_parse((char *)r->text.p, r->text.len, token, seconds);
}

static void fetch_done(struct http_req *r)
{
	struct gcs_token *t = r->user;
	struct cloud *c = t->c;
	int64_t seconds = 0, now = clock_mono_ns();
	char *token, words[300];
	int result = outcome(t, &token, &seconds, words);

	if (result == -EACCES && r->status == 400 && retry_with_their_clock(t))
		return;
	if (r->text.p)
		explicit_bzero(r->text.p, r->text.len);
	if (result)
		cloud_say(c, "token", "no access token from %s: %d %s. Credentials used: %s",
			  t->way == GCS_METADATA ? "the metadata server" : t->account.token_uri,
			  r->status, words, c->cred.source);
	{
		SCOPE_LOCK(&c->lock);
		t->fetching = 0;
		t->ended = t->begun;
		t->result = result;
		if (!result) {
			int64_t early = MIN(RENEW_BEFORE, seconds / 4);
			forget(t);
			t->value = token;
			t->which = t->begun;
			t->until = now + (seconds - MIN(10, seconds / 10)) * NS_PER_S;
			t->renew = now + (seconds - early) * NS_PER_S;
		} else {
			t->renew = now + 10 * NS_PER_S;
		}
		cloud_wake_waiting_locked(c);
	}
	cloud_let(c);
}
