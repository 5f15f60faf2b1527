#include <errno.h>
#include <string.h>
#include <strings.h>
#include "backends/http_parse.h"
#include "fs/base/clock.h"

/* Exactly n digits at *s, or -1. */
static int digits(const char **s, int n)
{
	int v = 0;

	for (int i = 0; i < n; i++, (*s)++) {
		if (**s < '0' || **s > '9')
			return -1;
		v = v * 10 + (**s - '0');
	}
	return v;
}

static int month(const char **s)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	for (int i = 0; i < 12; i++) {
		if (!strncmp(*s, names + 3 * i, 3)) {
			*s += 3;
			return i + 1;
		}
	}
	return -1;
}

static int literal(const char **s, const char *what)
{
	size_t n = strlen(what);

	if (strncmp(*s, what, n))
		return -1;
	*s += n;
	return 0;
}

static int time_of_day(const char **s, int64_t *seconds)
{
	int h = digits(s, 2), m, sec;

	if (h < 0 || h > 23 || literal(s, ":"))
		return -1;
	m = digits(s, 2);
	if (m < 0 || m > 59 || literal(s, ":"))
		return -1;
	sec = digits(s, 2);
	if (sec < 0 || sec > 60) /* 60: a leap second */
		return -1;
	*seconds = h * 3600 + m * 60 + sec;
	return 0;
}

/* Days since 1970-01-01 in the Gregorian calendar; the year is counted from March, so that the
 * leap day is its last. */
static int64_t days_of(int64_t y, int m, int d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = y / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static int finish(int64_t y, int m, int d, int64_t seconds, const char *rest, int64_t *out)
{
	static const int8_t length[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	if (m < 1 || d < 1 || d > length[m - 1] || y < 1970 || *rest)
		return -EINVAL;
	*out = days_of(y, m, d) * 86400 + seconds;
	return 0;
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static int parse_fixdate(const char *s, int64_t *out)
{
	int d = digits(&s, 2), m, y1, y2;
	int64_t t;

	if (d < 0 || literal(&s, " ") || (m = month(&s)) < 0 || literal(&s, " "))
		return -EINVAL;
	if ((y1 = digits(&s, 2)) < 0 || (y2 = digits(&s, 2)) < 0 || literal(&s, " "))
		return -EINVAL;
	if (time_of_day(&s, &t) || literal(&s, " GMT"))
		return -EINVAL;
	return finish(y1 * 100 + y2, m, d, t, s, out);
}

/* Sunday, 06-Nov-94 08:49:37 GMT; two digits are a year of 1970..2069 */
static int parse_rfc850(const char *s, int64_t *out)
{
	int d = digits(&s, 2), m, y;
	int64_t t;

	if (d < 0 || literal(&s, "-") || (m = month(&s)) < 0 || literal(&s, "-"))
		return -EINVAL;
	if ((y = digits(&s, 2)) < 0 || literal(&s, " ") || time_of_day(&s, &t) ||
	    literal(&s, " GMT"))
		return -EINVAL;
	return finish(y < 70 ? 2000 + y : 1900 + y, m, d, t, s, out);
}

/* Sun Nov  6 08:49:37 1994 */
static int parse_asctime(const char *s, int64_t *out)
{
	int d, m = month(&s), y1, y2;
	int64_t t;

	if (m < 0 || literal(&s, " "))
		return -EINVAL;
	d = *s == ' ' ? (s++, digits(&s, 1)) : digits(&s, 2);
	if (d < 0 || literal(&s, " ") || time_of_day(&s, &t) || literal(&s, " "))
		return -EINVAL;
	if ((y1 = digits(&s, 2)) < 0 || (y2 = digits(&s, 2)) < 0)
		return -EINVAL;
	return finish(y1 * 100 + y2, m, d, t, s, out);
}

int http_date_parse(const char *s, int64_t *unix_seconds)
{
	size_t name = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

	*unix_seconds = 0;
	if (name < 3 || name > 9)
		return -EINVAL;
	s += name;
	if (literal(&s, ", "))
		return literal(&s, " ") ? -EINVAL : parse_asctime(s, unix_seconds);
	if (s[0] && s[1] && s[2] == '-')
		return parse_rfc850(s, unix_seconds);
	return parse_fixdate(s, unix_seconds);
}

static int number(const char **s, uint64_t *v)
{
	const char *start = *s;

	*v = 0;
	for (; **s >= '0' && **s <= '9'; (*s)++) {
		unsigned digit = (unsigned)(**s - '0');
		if (*v > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		*v = *v * 10 + digit;
	}
	return *s == start ? -EINVAL : 0;
}

int http_number(const char *s, uint64_t *v)
{
	int r = number(&s, v);

	if (!r && *s)
		r = -EINVAL;
	if (r)
		*v = 0;
	return r;
}

int http_range_parse(const char *s, struct http_range *r)
{
	*r = (struct http_range){ .first = 1, .total = UINT64_MAX };
	if (strncasecmp(s, "bytes ", 6))
		return -EINVAL;
	s += 6;
	if (*s == '*') {
		s++;
	} else {
		if (number(&s, &r->first) || literal(&s, "-") || number(&s, &r->last))
			return -EINVAL;
		if (r->last < r->first || r->last == UINT64_MAX)
			return -EINVAL;
	}
	if (literal(&s, "/"))
		return -EINVAL;
	if (!strcmp(s, "*"))
		return 0;
	if (number(&s, &r->total) || *s)
		return -EINVAL;
	return r->first <= r->last && r->last >= r->total ? -EINVAL : 0;
}

int64_t http_retry_after(const char *s, int64_t date)
{
	uint64_t seconds;
	int64_t at;

	if (!http_number(s, &seconds))
		return (int64_t)(seconds < 3600 ? seconds : 3600) * NS_PER_S;
	if (http_date_parse(s, &at))
		return 0;
	if (!date)
		date = clock_real_ns() / NS_PER_S;
	if (at <= date)
		return 0;
	return (at - date < 3600 ? at - date : 3600) * NS_PER_S;
}
