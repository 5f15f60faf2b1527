/* Where a cloud is: scheme, host, port and path of its endpoint, and the pieces of URLs. */
#ifndef BACKENDS_ENDPOINT_H
#define BACKENDS_ENDPOINT_H

#include "fs/base/buf.h"
#include "fs/base/err.h"

struct endpoint {
	int tls;
	int loopback;        /* 127.0.0.0/8, ::1, localhost and *.localhost */
	char host[256];      /* lower case; IPv6 in brackets */
	char authority[264]; /* host, and ":port" unless it is the scheme's own: the Host header */
	char base[128];      /* "" or "/path" without a slash at the end */
};

/* "https://host[:port][/path]", "http://..." or without a scheme, which means https. 0 or -EINVAL
 * with a sentence. Plain http is refused except for loopback or when `insecure`. */
int endpoint_parse(const char *text, int insecure, struct endpoint *ep, struct err *e);
/* "https://authority/base" */
void endpoint_put(const struct endpoint *ep, struct buf *out);

/* Percent-encodes all but A-Z a-z 0-9 - . _ ~ and, when keep_slash, "/" (RFC 3986 unreserved, which
 * is also what SigV4 wants). */
void url_encode(struct buf *out, const char *s, int keep_slash);
/* Undoes it in place; "+" stays. 0 or -EINVAL (a malformed escape, or %00). */
int url_decode(char *s);

/* "bucket/any//prefix/" into bucket (borrowed name of at most max characters) and "any/prefix"
 * ("" when none). Both malloc'ed. 0, -EINVAL with a sentence, -ENOMEM. */
int path_split(const char *path, const char *what, char **bucket, char **prefix, struct err *e);

#endif
