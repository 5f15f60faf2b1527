#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "backends/s3_sign.h"
#include "crypto/base64.h"
#include "crypto/digest.h"

/* What differs between the dialects. */
static const struct {
	const char *algorithm, *key, *service, *end;
} words[] = {
	[S3_AWS4] = { "AWS4-HMAC-SHA256", "AWS4", "s3", "aws4_request" },
	[S3_GOOG4] = { "GOOG4-HMAC-SHA256", "GOOG4", "storage", "goog4_request" },
};

void s3_date(int64_t unix_seconds, char out[17])
{
	time_t t = (time_t)unix_seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm) != 16)
		memcpy(out, "19700101T000000Z", 17);
}

int s3_payload_hash(const struct iovec *body, int n, char out[65])
{
	uint8_t hash[SHA256_LEN];

	if (sha256v(body, n, hash))
		return -EIO;
	hex_put(out, hash, sizeof(hash));
	return 0;
}

int s3_checksum(const struct iovec *body, int n, char out[9])
{
	uint32_t crc = 0;
	uint8_t be[4];

	for (int i = 0; i < n; i++)
		crc = crc32c(crc, body[i].iov_base, body[i].iov_len);
	be32_put(be, crc);
	return base64_encode(out, be, sizeof(be)) == 8 ? 0 : -EIO;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct s3_header *)a)->name, ((const struct s3_header *)b)->name);
}

static void put_names(struct buf *out, const struct s3_sign_req *r)
{
	for (int i = 0; i < r->nheaders; i++)
		buf_printf(out, "%s%s", i ? ";" : "", r->headers[i].name);
}

/* Without white space at the ends, and runs of it inside as one blank. */
static void put_trimmed(struct buf *out, const char *v)
{
	v += strspn(v, " \t");
	while (*v) {
		size_t word = strcspn(v, " \t"), gap = strspn(v + word, " \t");
		buf_put(out, v, word);
		v += word + gap;
		if (gap && *v)
			buf_put8(out, ' ');
	}
}

static int canonical_hash(const struct s3_sign_req *r, char hex[65])
{
	uint8_t hash[SHA256_LEN];
	struct buf c = { 0 };
	int err;

	buf_printf(&c, "%s\n%s\n%s\n", r->method, r->path, r->query);
	for (int i = 0; i < r->nheaders; i++) {
		buf_printf(&c, "%s:", r->headers[i].name);
		put_trimmed(&c, r->headers[i].value);
		buf_put8(&c, '\n');
	}
	buf_put8(&c, '\n');
	put_names(&c, r);
	buf_printf(&c, "\n%s", r->payload);
	err = c.failed ? -ENOMEM : sha256(c.p, c.len, hash);
	buf_release(&c);
	if (!err)
		hex_put(hex, hash, sizeof(hash));
	return err;
}

/* HMAC chain over date, region, service and end word. The intermediate keys are wiped. */
static int derive_key(struct s3_signer *s, const char *date)
{
	const char *parts[] = { NULL, s->region, words[s->dialect].service, words[s->dialect].end };
	char day[9], first[256];
	uint8_t k[SHA256_LEN];
	int n, err = 0;

	snprintf(day, sizeof(day), "%.8s", date);
	if (!strcmp(s->day, day))
		return 0;
	parts[0] = day;
	n = snprintf(first, sizeof(first), "%s%s", words[s->dialect].key, s->secret);
	if (n < 0 || n >= (int)sizeof(first))
		return -EIO;
	err = hmac_sha256(first, (size_t)n, day, 8, s->key);
	for (int i = 1; i < 4 && !err; i++) {
		memcpy(k, s->key, sizeof(k));
		err = hmac_sha256(k, sizeof(k), parts[i], strlen(parts[i]), s->key);
	}
	explicit_bzero(first, sizeof(first));
	explicit_bzero(k, sizeof(k));
	if (!err)
		memcpy(s->day, day, sizeof(day));
	return err;
}

int s3_sign(struct s3_signer *s, const struct s3_sign_req *r, struct buf *out)
{
	struct buf to_sign = { 0 }, scope = { 0 };
	uint8_t mac[SHA256_LEN];
	char hex[65];
	int err;

	qsort(r->headers, (size_t)r->nheaders, sizeof(*r->headers), by_name);
	err = canonical_hash(r, hex);
	if (!err)
		err = derive_key(s, r->date);
	if (!err) {
		buf_printf(&scope, "%.8s/%s/%s/%s", r->date, s->region, words[s->dialect].service,
			   words[s->dialect].end);
		buf_printf(&to_sign, "%s\n%s\n%.*s\n%s", words[s->dialect].algorithm, r->date,
			   (int)scope.len, (const char *)scope.p, hex);
		err = scope.failed || to_sign.failed
			  ? -ENOMEM
			  : hmac_sha256(s->key, sizeof(s->key), to_sign.p, to_sign.len, mac);
	}
	if (!err) {
		hex_put(hex, mac, sizeof(mac));
		buf_printf(out, "%s Credential=%s/%.*s,SignedHeaders=", words[s->dialect].algorithm,
			   s->access_key, (int)scope.len, (const char *)scope.p);
		put_names(out, r);
		buf_printf(out, ",Signature=%s", hex);
	}
	buf_release(&scope);
	buf_release(&to_sign);
	return err ? -EIO : 0;
}
