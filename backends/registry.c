#include "backends/registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kinds.h"
#include "fs/base/buf.h"
#include "fs/base/scope.h"

#define URL_MAX   4096
#define LABEL_MAX 63

static const struct backend_kind *const kinds[] = {
	&file_kind, &mem_kind, &s3_kind, &azure_kind, &gs_kind,
};

static const struct backend_kind *kind_find(const char *scheme)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (strcmp(kinds[i]->scheme, scheme) == 0)
			return kinds[i];
	return NULL;
}

static int unknown_scheme(const char *url, const char *scheme, struct err *e)
{
	struct buf b = { 0 };
	const char *list;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		buf_printf(&b, "%s%s", i ? ", " : "", kinds[i]->scheme);
	list = buf_cstr(&b);
	err_set(e, -EINVAL, "%s: unknown scheme \"%s\" (known: %s)", url, scheme, list ? list : "");
	buf_release(&b);
	return -EINVAL;
}

static int unknown_param(const struct backend_kind *k, const char *name, struct err *e)
{
	struct buf b = { 0 };
	const char *list;

	buf_printf(&b, "provider, location, cost");
	for (const char *const *p = k->params; *p; p++)
		buf_printf(&b, ", %s", *p);
	list = buf_cstr(&b);
	err_set(e, -EINVAL, "%s:// has no parameter \"%s\" (known: %s)", k->scheme, name,
		list ? list : "");
	buf_release(&b);
	return -EINVAL;
}

/* Percent-decodes n bytes into new memory. -EINVAL: a bad escape or a control character. */
static int decode(const char *s, size_t n, char **out)
{
	char *p = malloc(n + 1);
	size_t len = 0;

	*out = NULL;
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '%') {
			if (i + 2 >= n || hex_get(&c, 1, s + i + 1, 2)) {
				free(p);
				return -EINVAL;
			}
			i += 2;
		}
		/* Also a NUL, which would cut the text. */
		if (c < 0x20 || c == 0x7f) {
			free(p);
			return -EINVAL;
		}
		p[len++] = (char)c;
	}
	p[len] = 0;
	*out = p;
	return 0;
}

/* Labels are shown in tables and logs, and compared. */
static int take_label(char **label, char **value, const char *name, struct err *e)
{
	if (*label)
		return err_set(e, -EINVAL, "%s= stands twice", name);
	if (strlen(*value) > LABEL_MAX)
		return err_set(e, -EINVAL, "%s= is longer than %d bytes", name, LABEL_MAX);
	*label = *value;
	*value = NULL;
	return 0;
}

static int take_cost(double *cost, const char *value, struct err *e)
{
	char *end;

	if (*cost >= 0)
		return err_set(e, -EINVAL, "cost= stands twice");
	/* Digits and a point: strtod would also take "inf" and hexadecimal. */
	if (!*value || value[strspn(value, "0123456789.")] || strlen(value) > 16)
		return err_set(e, -EINVAL, "cost=%.32s: the price of reading a GB, such as 0.09",
			       value);
	*cost = strtod(value, &end);
	if (*end) {
		*cost = -1;
		return err_set(e, -EINVAL, "cost=%s is not a number", value);
	}
	return 0;
}

/* name and value are taken, also on failure. */
static int add_param(const struct backend_kind *k, struct backend_url *u, char *name_, char *value_,
		     struct err *e)
{
	AUTO_FREE char *name = name_;
	AUTO_FREE char *value = value_;
	const char *const *known = k->params;

	if (strcmp(name, "provider") == 0) {
		if (!*value)
			return err_set(e, -EINVAL, "provider= is empty");
		return take_label(&u->provider, &value, "provider", e);
	}
	if (strcmp(name, "location") == 0)
		return take_label(&u->location, &value, "location", e);
	if (strcmp(name, "cost") == 0)
		return take_cost(&u->cost, value, e);
	while (*known && strcmp(*known, name))
		known++;
	if (!*known)
		return unknown_param(k, name, e);
	if (backend_url_param(u, name))
		return err_set(e, -EINVAL, "%s= stands twice", name);
	if (u->nparams == BACKEND_URL_PARAMS)
		return err_set(e, -EINVAL, "more than %d parameters", BACKEND_URL_PARAMS);
	u->params[u->nparams].name = name;
	u->params[u->nparams++].value = value;
	name = value = NULL;
	return 0;
}

/* "a=b&c=d" */
static int parse_query(const struct backend_kind *k, struct backend_url *u, const char *q,
		       struct err *e)
{
	while (*q) {
		size_t len = strcspn(q, "&"), eq = strcspn(q, "=&");
		char *name, *value = NULL;
		int rc;

		if (eq == 0 || eq >= len)
			return err_set(e, -EINVAL, "parameters must be name=value, separated by &");
		rc = decode(q, eq, &name);
		if (!rc)
			rc = decode(q + eq + 1, len - eq - 1, &value);
		if (rc) {
			free(name);
			return err_set(
			    e, rc, "bad %%-escape or control character in the parameter \"%.*s\"",
			    (int)eq, q);
		}
		rc = add_param(k, u, name, value, e);
		if (rc)
			return rc;
		q += len + (q[len] == '&');
	}
	return 0;
}

static int fill_labels(const struct backend_kind *k, struct backend_url *u)
{
	if (!u->provider)
		u->provider = k->provider(u);
	if (!u->location)
		u->location = strdup("");
	return u->provider && u->location ? 0 : -ENOMEM;
}

static int parse(const char *url, struct backend_url *u, struct err *e)
{
	const char *rest = strstr(url, "://"), *query;
	const struct backend_kind *k;
	int rc;

	if (!rest || strlen(url) > URL_MAX)
		return err_set(
		    e, -EINVAL,
		    "%.200s: a backend is written SCHEME://PLACE, for instance file:///srv/a", url);
	u->scheme = strndup(url, (size_t)(rest - url));
	if (!u->scheme)
		return -ENOMEM;
	k = kind_find(u->scheme);
	if (!k)
		return unknown_scheme(url, u->scheme, e);
	rest += 3;
	query = strchr(rest, '?');
	rc = decode(rest, query ? (size_t)(query - rest) : strlen(rest), &u->path);
	if (rc)
		return err_set(e, rc, "%s: bad %%-escape or control character", url);
	if (!u->path[0])
		return err_set(e, -EINVAL, "%s: says no place behind \"//\"", url);
	rc = query ? parse_query(k, u, query + 1, e) : 0;
	if (rc)
		return err_wrap(e, rc, "%s", url);
	rc = k->check ? k->check(u, e) : 0;
	return rc ? rc : fill_labels(k, u);
}

int backend_url_parse(const char *url, struct backend_url *u, struct err *e)
{
	int rc;

	memset(u, 0, sizeof(*u));
	u->cost = -1;
	rc = parse(url, u, e);
	if (rc == -ENOMEM)
		err_set(e, rc, "out of memory");
	if (rc)
		backend_url_release(u);
	return rc;
}

void backend_url_release(struct backend_url *u)
{
	for (int i = 0; i < u->nparams; i++) {
		free(u->params[i].name);
		free(u->params[i].value);
	}
	free(u->scheme);
	free(u->path);
	free(u->provider);
	free(u->location);
	memset(u, 0, sizeof(*u));
}

const char *backend_url_param(const struct backend_url *u, const char *name)
{
	for (int i = 0; i < u->nparams; i++)
		if (strcmp(u->params[i].name, name) == 0)
			return u->params[i].value;
	return NULL;
}

char *backend_url_place(const struct backend_url *u)
{
	const struct backend_kind *k = kind_find(u->scheme);
	AUTO_FREE char *place = k ? k->place(u) : NULL;
	char *s = NULL;

	if (!place || asprintf(&s, "%s:%s", u->scheme, place) < 0)
		return NULL;
	return s;
}

/* "acme DE-FRA" when the user gave labels, else "file:/srv/a". */
static void name_backend(const struct backend_kind *k, const struct backend_url *u,
			 struct backend *b)
{
	AUTO_FREE char *own = k->provider(u);

	if (own && strcmp(own, u->provider) == 0 && !u->location[0])
		snprintf(b->name, sizeof(b->name), "%s:%s", u->scheme, u->path);
	else
		snprintf(b->name, sizeof(b->name), "%s%s%s", u->provider, u->location[0] ? " " : "",
			 u->location);
}

int backend_open(const struct backend_url *u, const struct backend_env *env, struct backend **out,
		 struct err *e)
{
	const struct backend_kind *k = kind_find(u->scheme);
	int rc;

	*out = NULL;
	if (!k)
		return unknown_scheme(u->scheme, u->scheme, e);
	rc = k->open(u, env, out, e);
	if (rc)
		return rc;
	(*out)->timeout = env->timeout;
	(*out)->stop = env->stop;
	name_backend(k, u, *out);
	return 0;
}
