/* Google's OAuth 2.0 tokens for a program: from a service account's key (RFC 7523: a JWT signed
 * with RS256), from what gcloud saved for applications (a refresh token), or from the machine's
 * metadata server. Texts only; gcs_token.c sends them. */
#ifndef BACKENDS_GCS_AUTH_H
#define BACKENDS_GCS_AUTH_H

#include <stddef.h>
#include <stdint.h>
#include "fs/base/buf.h"
#include "fs/base/err.h"

#define GCS_SCOPE "https://www.googleapis.com/auth/devstorage.read_write"

struct rsa_key;

struct gcs_account {
	char *email, *key_id, *token_uri;
	struct rsa_key *key;                             /* a service account... */
	char *client_id, *client_secret, *refresh_token; /* ...or a user's grant */
};

/* From the JSON of a key file. `source` is for messages. 0; -EACCES with a sentence: not such a
 * file, or its token_uri is not https (loopback may be http); -ENOMEM. */
int gcs_account_parse(const char *json, size_t n, const char *source, struct gcs_account *a,
		      struct err *e);
void gcs_account_release(struct gcs_account *a); /* wipes */

/* Appends the signed assertion, valid from now (unix seconds) for an hour. 0, -EIO, -ENOMEM. */
int gcs_assertion(const struct gcs_account *a, int64_t now, struct buf *out);
/* Appends the form that is posted to token_uri. As above. */
int gcs_token_form(const struct gcs_account *a, int64_t now, struct buf *out);

/* A token server's answer: *token malloc'ed (visible ASCII only), *seconds it is good for (1 ..
 * 86400). 0, -EBADMSG, -ENOMEM. */
int gcs_token_parse(const char *text, size_t n, char **token, int64_t *seconds);
/* The words of an error answer, "invalid_grant: Invalid JWT Signature."; "" when there are none. */
void gcs_token_error(const char *text, size_t n, char out[300]);

#endif
