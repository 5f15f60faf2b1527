/* Values of HTTP headers. They come from outside: all are bounded and strict. */
#ifndef BACKENDS_HTTP_PARSE_H
#define BACKENDS_HTTP_PARSE_H

#include <stdint.h>

/* A date in one of the three forms of RFC 9110 section 5.6.7 as unix seconds. 0 or -EINVAL. */
int http_date_parse(const char *s, int64_t *unix_seconds);

/* "bytes FIRST-LAST/TOTAL" or "bytes * /TOTAL" (without the blank), RFC 9110 section 14.4. TOTAL
 * may be "*": total is then UINT64_MAX. For the second form first = 1, last = 0. 0 or -EINVAL. */
struct http_range {
	uint64_t first, last, total;
};
int http_range_parse(const char *s, struct http_range *r);

/* Retry-After: seconds or a date; date is "now" by the server's clock (0: unknown). Returns ns, at
 * most an hour; 0 when it says nothing useful. */
int64_t http_retry_after(const char *s, int64_t date);

/* Decimal digits only. 0, -EINVAL, -ERANGE. */
int http_number(const char *s, uint64_t *v);

#endif
