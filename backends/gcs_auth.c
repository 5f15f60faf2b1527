#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "backends/credentials.h"
#include "backends/endpoint.h"
#include "backends/gcs_auth.h"
#include "crypto/base64.h"
#include "crypto/sign.h"

#define DEFAULT_TOKEN_URI "https://oauth2.googleapis.com/token"
#define GRANT_JWT         "urn:ietf:params:oauth:grant-type:jwt-bearer"

void gcs_account_release(struct gcs_account *a)
{
	secret_free(a->email);
	secret_free(a->key_id);
	secret_free(a->token_uri);
	secret_free(a->client_id);
	secret_free(a->client_secret);
	secret_free(a->refresh_token);
	rsa_key_free(a->key);
	memset(a, 0, sizeof(*a));
}

static char *copy(const json_t *root, const char *name)
{
	const char *s = json_string_value(json_object_get(root, name));

	return s ? strdup(s) : NULL;
}

static int parse_service(const json_t *root, const char *source, struct gcs_account *a,
			 struct err *e)
{
	const char *pem = json_string_value(json_object_get(root, "private_key"));
	int r;

	a->email = copy(root, "client_email");
	a->key_id = copy(root, "private_key_id");
	if (!a->email || !pem)
		return err_set(e, -EACCES,
			       "%s: a service account key has client_email and private_key",
			       source);
	r = rsa_key_load(pem, strlen(pem), &a->key);
	return r ? err_set(e, r == -ENOMEM ? r : -EACCES,
			   "%s: its private_key is no RSA key of 2048 to 8192 bits", source)
		 : 0;
}

static int parse_user(const json_t *root, const char *source, struct gcs_account *a, struct err *e)
{
	a->client_id = copy(root, "client_id");
	a->client_secret = copy(root, "client_secret");
	a->refresh_token = copy(root, "refresh_token");
	if (!a->client_id || !a->client_secret || !a->refresh_token)
		return err_set(e, -EACCES, "%s lacks client_id, client_secret or refresh_token",
			       source);
	return 0;
}

static int parse(const json_t *root, const char *source, struct gcs_account *a, struct err *e)
{
	const char *type = json_string_value(json_object_get(root, "type"));
	struct endpoint ep;
	struct err why;
	int r;

	if (!type)
		return err_set(e, -EACCES, "%s is not the JSON file of a service account key",
			       source);
	if (!strcmp(type, "service_account"))
		r = parse_service(root, source, a, e);
	else if (!strcmp(type, "authorized_user"))
		r = parse_user(root, source, a, e);
	else
		r = err_set(e, -EACCES,
			    "%s: credentials of type \"%.40s\" are not supported, service_account "
			    "and authorized_user are",
			    source, type);
	if (r)
		return r;
	a->token_uri = copy(root, "token_uri");
	if (!a->token_uri)
		a->token_uri = strdup(DEFAULT_TOKEN_URI);
	if (!a->token_uri)
		return err_set(e, -ENOMEM, "out of memory");
	return endpoint_parse(a->token_uri, 0, &ep, &why)
		   ? err_set(e, -EACCES, "%s: token_uri: %s", source, why.text)
		   : 0;
}

int gcs_account_parse(const char *json, size_t n, const char *source, struct gcs_account *a,
		      struct err *e)
{
	json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, NULL);
	int r;

	memset(a, 0, sizeof(*a));
	r = parse(root, source, a, e);
	json_decref(root);
	if (r)
		gcs_account_release(a);
	return r;
}

static int put_json(struct buf *out, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0;
	char *encoded = text ? malloc(BASE64_SIZE(n)) : NULL;

	if (encoded)
		buf_put(out, encoded, base64url_encode(encoded, text, n));
	free(encoded);
	free(text);
	json_decref(value);
	return encoded && !out->failed ? 0 : -ENOMEM;
}

int gcs_assertion(const struct gcs_account *a, int64_t now, struct buf *out)
{
	uint8_t sig[RSA_SIG_MAX];
	char text[BASE64_SIZE(RSA_SIG_MAX)];
	size_t start = out->len, n;
	json_t *header =
	    a->key_id ? json_pack("{s:s,s:s,s:s}", "alg", "RS256", "typ", "JWT", "kid", a->key_id)
		      : json_pack("{s:s,s:s}", "alg", "RS256", "typ", "JWT");
	int r = put_json(out, header);

	buf_put8(out, '.');
	/* A little in the past: a server whose clock is behind must not find it premature. */
	now -= 10;
	if (!r)
		r = put_json(out, json_pack("{s:s,s:s,s:s,s:I,s:I}", "iss", a->email, "scope",
					    GCS_SCOPE, "aud", a->token_uri, "iat", (json_int_t)now,
					    "exp", (json_int_t)(now + 3600)));
	if (r)
		return r;
	r = rsa_sign_sha256(a->key, out->p + start, out->len - start, sig, &n);
	if (r)
		return r;
	buf_put8(out, '.');
	buf_put(out, text, base64url_encode(text, sig, n));
	return out->failed ? -ENOMEM : 0;
}

int gcs_token_form(const struct gcs_account *a, int64_t now, struct buf *out)
{
	if (a->key) {
		buf_printf(out, "grant_type=");
		url_encode(out, GRANT_JWT, 0);
		buf_printf(out, "&assertion=");
		return gcs_assertion(a, now, out);
	}
	buf_printf(out, "grant_type=refresh_token&client_id=");
	url_encode(out, a->client_id, 0);
	buf_printf(out, "&client_secret=");
	url_encode(out, a->client_secret, 0);
	buf_printf(out, "&refresh_token=");
	url_encode(out, a->refresh_token, 0);
	return out->failed ? -ENOMEM : 0;
}

/* It goes into a header. */
static int visible(const char *s)
{
	const char *p = s;

	while (*p > 32 && *p < 127)
		p++;
	return !*p && p > s && p - s < 8192;
}

int gcs_token_parse(const char *text, size_t n, char **token, int64_t *seconds)
{
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	const char *t = json_string_value(json_object_get(root, "access_token"));
	const char *type = json_string_value(json_object_get(root, "token_type"));
	json_int_t life = json_integer_value(json_object_get(root, "expires_in"));
	int r = -EBADMSG;

	*token = NULL;
	*seconds = life < 1 ? 1 : life > 86400 ? 86400 : life;
	if (t && visible(t) && life > 0 && (!type || !strcasecmp(type, "Bearer"))) {
		*token = strdup(t);
		r = *token ? 0 : -ENOMEM;
	}
	json_decref(root);
	return r;
}

void gcs_token_error(const char *text, size_t n, char out[300])
{
	json_t *root = json_loadb(text, n, 0, NULL);
	const char *code = json_string_value(json_object_get(root, "error"));
	const char *words = json_string_value(json_object_get(root, "error_description"));

	snprintf(out, 300, "%.80s%s%.200s", code ? code : "", words ? ": " : "",
		 words ? words : "");
	for (char *p = out; *p; p++) {
		if ((unsigned char)*p < 32 || *p == 127)
			*p = ' ';
	}
	json_decref(root);
}
