#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "backends/endpoint.h"
#include "backends/http_parse.h"

static int is_loopback(const char *host)
{
	size_t n = strlen(host);
	struct in_addr a;

	if (!strcmp(host, "localhost") || !strcmp(host, "[::1]"))
		return 1;
	if (n > 10 && !strcmp(host + n - 10, ".localhost"))
		return 1;
	return inet_pton(AF_INET, host, &a) == 1 && ntohl(a.s_addr) >> 24 == 127;
}

/* "host", "host:port", "[v6]", "[v6]:port" */
static int parse_authority(const char *s, size_t n, struct endpoint *ep)
{
	const char *colon = NULL, *bracket = n && s[0] == '[' ? memchr(s, ']', n) : NULL;
	size_t host = n;
	uint64_t port = 0;
	char digits[6];

	if (n && s[0] == '[' && !bracket)
		return -EINVAL;
	colon = bracket ? bracket + 1 : memchr(s, ':', n);
	if (colon && colon < s + n) {
		size_t len = (size_t)(s + n - colon - 1);
		host = (size_t)(colon - s);
		if (*colon != ':' || len == 0 || len >= sizeof(digits))
			return -EINVAL;
		memcpy(digits, colon + 1, len);
		digits[len] = 0;
		if (http_number(digits, &port) || port == 0 || port > 65535)
			return -EINVAL;
	}
	if (host == 0 || host > 253)
		return -EINVAL;
	for (size_t i = 0; i < host; i++) {
		char c = (char)tolower((unsigned char)s[i]);
		if (!isalnum((unsigned char)c) && !strchr(bracket ? "[:]" : ".-_", c))
			return -EINVAL;
		ep->host[i] = c;
	}
	ep->host[host] = 0;
	if (port && port != (ep->tls ? 443u : 80u))
		snprintf(ep->authority, sizeof(ep->authority), "%s:%u", ep->host, (unsigned)port);
	else
		snprintf(ep->authority, sizeof(ep->authority), "%s", ep->host);
	return 0;
}

static int parse_base(const char *s, struct endpoint *ep)
{
	size_t n = strlen(s);

	while (n && s[n - 1] == '/')
		n--;
	if (n >= sizeof(ep->base) ||
	    strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		      "0123456789-._~/") < n)
		return -EINVAL;
	memcpy(ep->base, s, n);
	ep->base[n] = 0;
	return strstr(ep->base, "//") || strstr(ep->base, "/.") ? -EINVAL : 0;
}

int endpoint_parse(const char *text, int insecure, struct endpoint *ep, struct err *e)
{
	const char *s = text;
	size_t n;

	memset(ep, 0, sizeof(*ep));
	ep->tls = 1;
	if (!strncasecmp(s, "https://", 8)) {
		s += 8;
	} else if (!strncasecmp(s, "http://", 7)) {
		s += 7;
		ep->tls = 0;
	}
	n = strcspn(s, "/");
	if (parse_authority(s, n, ep) || parse_base(s + n, ep))
		return err_set(e, -EINVAL, "endpoint \"%.200s\" is not https://HOST[:PORT][/PATH]",
			       text);
	ep->loopback = is_loopback(ep->host);
	if (!ep->tls && !ep->loopback && !insecure)
		return err_set(
		    e, -EINVAL,
		    "endpoint http://%s is not encrypted: credentials and object names "
		    "would be readable on the way. Use https, or insecure=1 if you insist",
		    ep->authority);
	return 0;
}

void endpoint_put(const struct endpoint *ep, struct buf *out)
{
	buf_printf(out, "%s://%s%s", ep->tls ? "https" : "http", ep->authority, ep->base);
}

void url_encode(struct buf *out, const char *s, int keep_slash)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if ((c < 128 && isalnum(c)) || strchr("-._~", c) || (c == '/' && keep_slash)) {
			buf_put8(out, c);
			continue;
		}
		buf_put8(out, '%');
		buf_put8(out, (uint8_t)hex[c >> 4]);
		buf_put8(out, (uint8_t)hex[c & 15]);
	}
}

int url_decode(char *s)
{
	char *to = s;
	uint8_t byte;

	for (; *s; s++) {
		if (*s != '%') {
			*to++ = *s;
			continue;
		}
		if (!s[1] || !s[2] || hex_get(&byte, 1, s + 1, 2) || !byte)
			return -EINVAL;
		*to++ = (char)byte;
		s += 2;
	}
	*to = 0;
	return 0;
}

static int part_bad(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c < 32 || c == 127 || c == '\\')
			return 1;
	}
	return (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.');
}

/* The parts of path, joined by single slashes, into out (which has room for all of path). */
static int join_parts(const char *path, char *out)
{
	char *to = out;

	*to = 0;
	for (path += strspn(path, "/"); *path; path += strspn(path, "/")) {
		size_t n = strcspn(path, "/");
		if (part_bad(path, n))
			return -EINVAL;
		if (to > out)
			*to++ = '/';
		memcpy(to, path, n);
		to += n;
		*to = 0;
		path += n;
	}
	return to - out <= 512 ? 0 : -EINVAL;
}

int path_split(const char *path, const char *what, char **bucket, char **prefix, struct err *e)
{
	size_t n;

	*bucket = *prefix = NULL;
	path += strspn(path, "/");
	n = strcspn(path, "/");
	if (!n)
		return err_set(e, -EINVAL, "the %s is missing", what);
	*bucket = strndup(path, n);
	*prefix = malloc(strlen(path + n) + 1);
	if (*bucket && *prefix && !join_parts(path + n, *prefix))
		return 0;
	n = *bucket && *prefix;
	free(*bucket);
	free(*prefix);
	*bucket = *prefix = NULL;
	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	return err_set(e, -EINVAL,
		       "a prefix has at most 512 characters, none of them a control character or a "
		       "backslash, and no part that is \".\" or \"..\"");
}
