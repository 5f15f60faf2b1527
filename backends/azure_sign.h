/* Azure Storage SharedKey signatures ("Authorize with Shared Key", Azure Storage services REST
 * API), for service versions from 2015-02-21 on. */
#ifndef BACKENDS_AZURE_SIGN_H
#define BACKENDS_AZURE_SIGN_H

#include <stdint.h>
#include "fs/base/buf.h"

struct azure_pair {
	const char *name; /* lower case */
	const char *value;
};

struct azure_sign_req {
	const char *account;
	const char *method;
	uint64_t content_length;
	const char *content_type, *if_none_match, *range; /* "" when not sent */
	struct azure_pair *headers; /* those that begin with x-ms-; is sorted here */
	int nheaders;
	const char *path;         /* as sent, encoded */
	struct azure_pair *query; /* decoded; is sorted here */
	int nquery;
};

/* Appends "SharedKey ACCOUNT:SIGNATURE". key is the account's key in Base64. 0; -EINVAL: that is
 * no key; -ENOMEM, -EIO. */
int azure_sign(const char *key, const struct azure_sign_req *r, struct buf *out);

/* unix seconds as "Sun, 06 Nov 1994 08:49:37 GMT", whatever the locale. */
void azure_date(int64_t unix_seconds, char out[64]);

#endif
