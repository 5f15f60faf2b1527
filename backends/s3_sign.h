/* AWS Signature Version 4 in the Authorization header ("Authenticating Requests: Using the
 * Authorization Header", Amazon S3 API Reference), and Google's dialect of it for HMAC keys. */
#ifndef BACKENDS_S3_SIGN_H
#define BACKENDS_S3_SIGN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "fs/base/buf.h"

#define S3_UNSIGNED "UNSIGNED-PAYLOAD"

enum s3_dialect {
	S3_AWS4,  /* x-amz-*, AWS4-HMAC-SHA256, .../s3/aws4_request */
	S3_GOOG4, /* x-goog-*, GOOG4-HMAC-SHA256, .../storage/goog4_request */
};

struct s3_header {
	const char *name; /* lower case */
	const char *value;
};

struct s3_signer {
	enum s3_dialect dialect;
	const char *access_key, *secret, *region; /* borrowed */
	/* The day's signing key, cached; reset `day` when one of the above changes. */
	char day[9];
	uint8_t key[32];
};

struct s3_sign_req {
	const char *method;
	const char *path;  /* encoded, as sent */
	const char *query; /* encoded and sorted by name, as sent, without "?"; "" none */
	/* All that is to be signed: host, x-amz-content-sha256, x-amz-date...; is sorted here. */
	struct s3_header *headers;
	int nheaders;
	const char *payload; /* the hash in hex, or S3_UNSIGNED */
	const char *date;    /* "20130524T000000Z", as in x-amz-date */
};

/* Appends the value of the Authorization header. 0 or -EIO. Not for two threads at once with one
 * signer. */
int s3_sign(struct s3_signer *s, const struct s3_sign_req *r, struct buf *out);

/* unix seconds as "20130524T000000Z". */
void s3_date(int64_t unix_seconds, char out[17]);
/* SHA-256 of a body in hex. 0 or -EIO. */
int s3_payload_hash(const struct iovec *body, int n, char out[65]);
/* CRC-32C of a body as the clouds write it: big-endian, in Base64. */
int s3_checksum(const struct iovec *body, int n, char out[9]);

#endif
