#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "backends/azure_sign.h"
#include "crypto/base64.h"
#include "crypto/digest.h"

#define KEY_MAX 128 /* bytes; Azure's are 64 */

void azure_date(int64_t unix_seconds, char out[64])
{
	static const char days[] = "SunMonTueWedThuFriSat",
			  months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = (time_t)unix_seconds;
	struct tm tm = { .tm_mday = 1, .tm_year = 70, .tm_wday = 4 };

	gmtime_r(&t, &tm);
	snprintf(out, 64, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday,
		 tm.tm_mday % 100, months + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000,
		 tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct azure_pair *)a)->name, ((const struct azure_pair *)b)->name);
}

static void put_string(struct buf *s, const struct azure_sign_req *r)
{
	/* verb, Content-Encoding, Content-Language */
	buf_printf(s, "%s\n\n\n", r->method);
	if (r->content_length)
		buf_printf(s, "%llu", (unsigned long long)r->content_length);
	/* Content-MD5, Content-Type, Date (x-ms-date stands for it), If-Modified-Since, If-Match,
	 * If-None-Match, If-Unmodified-Since, Range */
	buf_printf(s, "\n\n%s\n\n\n\n%s\n\n%s\n", r->content_type, r->if_none_match, r->range);
	for (int i = 0; i < r->nheaders; i++)
		buf_printf(s, "%s:%s\n", r->headers[i].name, r->headers[i].value);
	buf_printf(s, "/%s%s", r->account, r->path);
	for (int i = 0; i < r->nquery; i++)
		buf_printf(s, "\n%s:%s", r->query[i].name, r->query[i].value);
}

int azure_sign(const char *key, const struct azure_sign_req *r, struct buf *out)
{
	uint8_t raw[KEY_MAX / 3 * 4 + 2], mac[SHA256_LEN];
	char text[BASE64_SIZE(SHA256_LEN)];
	struct buf s = { 0 };
	size_t n;
	int err;

	if (strlen(key) > KEY_MAX || base64_decode(key, strlen(key), raw, &n) || n == 0)
		return -EINVAL;
	if (r->nheaders)
		qsort(r->headers, (size_t)r->nheaders, sizeof(*r->headers), by_name);
	if (r->nquery)
		qsort(r->query, (size_t)r->nquery, sizeof(*r->query), by_name);
	put_string(&s, r);
	err = s.failed ? -ENOMEM : hmac_sha256(raw, n, s.p, s.len, mac);
	explicit_bzero(raw, sizeof(raw));
	buf_release(&s);
	if (err)
		return err;
	base64_encode(text, mac, sizeof(mac));
	buf_printf(out, "SharedKey %s:%s", r->account, text);
	return 0;
}
