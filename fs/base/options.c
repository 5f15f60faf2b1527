#include "fs/base/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/buf.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"

#define STRING_MAX_DEFAULT 4096
#define HELP_WIDTH         80
#define HELP_COLUMN        28
#define RANGE_TEXT_MAX     512

/* ---- numbers with units ---- */

struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "P", 1ull << 50 }, { "T", 1ull << 40 }, { "G", 1ull << 30 },
	{ "M", 1ull << 20 }, { "K", 1ull << 10 }, { "", 1 },
};
static const struct unit duration_units[] = {
	{ "d", 86400 * NS_PER_S }, { "h", 3600 * NS_PER_S }, { "m", 60 * NS_PER_S },
	{ "s", NS_PER_S },         { "ms", NS_PER_MS },
};

/* DIGITS[.DIGITS], then *rest. The value is whole + frac / scale. Nine decimals are kept, more are
 * refused. */
static int parse_decimal(const char *s, uint64_t *whole, uint64_t *frac, uint64_t *scale,
			 const char **rest)
{
	*whole = *frac = 0;
	*scale = 1;
	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	for (; isdigit((unsigned char)*s); s++)
		if (__builtin_mul_overflow(*whole, 10, whole) ||
		    __builtin_add_overflow(*whole, (uint64_t)(*s - '0'), whole))
			return -ERANGE;
	if (*s == '.') {
		s++;
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		for (; isdigit((unsigned char)*s); s++) {
			if (*scale == 1000000000)
				return -EINVAL;
			*frac = *frac * 10 + (uint64_t)(*s - '0');
			*scale *= 10;
		}
	}
	while (*s == ' ')
		s++;
	*rest = s;
	return 0;
}

static int scale_by(uint64_t whole, uint64_t frac, uint64_t scale, uint64_t factor, uint64_t *v)
{
	uint64_t part = (uint64_t)((unsigned __int128)frac * factor / scale);

	if (__builtin_mul_overflow(whole, factor, &whole) || __builtin_add_overflow(whole, part, v))
		return -ERANGE;
	return 0;
}

int parse_size(const char *s, uint64_t *v)
{
	uint64_t whole, frac, scale, factor = 1;
	int rc = parse_decimal(s, &whole, &frac, &scale, &s);

	if (rc)
		return rc;
	for (size_t i = 0; *s && i < ARRAY_LEN(size_units); i++) {
		if (toupper((unsigned char)*s) != size_units[i].suffix[0])
			continue;
		factor = size_units[i].factor;
		s++;
		if (s[0] == 'i' && (s[1] == 'B' || s[1] == 'b'))
			s++;
		break;
	}
	if (*s == 'B' || *s == 'b')
		s++;
	if (*s)
		return -EINVAL;
	if (factor == 1 && scale != 1)
		return -EINVAL; /* there is no half byte */
	return scale_by(whole, frac, scale, factor, v);
}

int parse_duration(const char *s, int64_t *ns)
{
	uint64_t whole, frac, scale, v, factor = 0;
	int rc = parse_decimal(s, &whole, &frac, &scale, &s);

	if (rc)
		return rc;
	if (!*s)
		factor = NS_PER_S;
	for (size_t i = 0; i < ARRAY_LEN(duration_units); i++)
		if (!strcmp(s, duration_units[i].suffix))
			factor = duration_units[i].factor;
	if (!factor)
		return -EINVAL;
	rc = scale_by(whole, frac, scale, factor, &v);
	if (rc)
		return rc;
	if (v > INT64_MAX)
		return -ERANGE;
	*ns = (int64_t)v;
	return 0;
}

const char *format_size(char out[32], uint64_t bytes)
{
	static const char prefix[] = "KMGTPE";
	uint64_t unit = 1024, tenths;
	int i = 0;

	if (bytes < 1024) {
		snprintf(out, 32, "%" PRIu64 " B", bytes);
		return out;
	}
	for (;;) {
		tenths = (uint64_t)(((unsigned __int128)bytes * 10 + unit / 2) / unit);
		if (tenths < 10240 || prefix[i + 1] == '\0')
			break;
		unit *= 1024;
		i++;
	}
	snprintf(out, 32, "%" PRIu64 ".%" PRIu64 " %ciB", tenths / 10, tenths % 10, prefix[i]);
	return out;
}

/* ---- ranges in words, in the syntax that the option takes ---- */

/* Exact: in the largest unit that divides. */
static void put_with_unit(char out[32], uint64_t v, const struct unit *units, size_t n)
{
	size_t i = 0;

	while (i < n - 1 && (v == 0 || v % units[i].factor))
		i++;
	if (units[i].factor == NS_PER_MS && v % NS_PER_MS)
		snprintf(out, 32, "%.9gs", (double)v / (double)NS_PER_S);
	else
		snprintf(out, 32, "%" PRIu64 "%s", v / units[i].factor, v ? units[i].suffix : "");
}

static void put_limit(char out[32], const struct option_def *d, int64_t v)
{
	if (d->type == OPT_SIZE)
		put_with_unit(out, (uint64_t)v, size_units, ARRAY_LEN(size_units));
	else if (d->type == OPT_DURATION)
		put_with_unit(out, (uint64_t)v, duration_units, ARRAY_LEN(duration_units));
	else if (d->type == OPT_OCTAL)
		snprintf(out, 32, v ? "0%" PRIo64 : "%" PRIo64, (uint64_t)v);
	else
		snprintf(out, 32, "%" PRId64, v);
}

static void put_choices(char *out, size_t size, const struct option_def *d)
{
	size_t used = 0;

	out[0] = '\0';
	for (int i = 0; d->choices[i] && used < size; i++) {
		int n = snprintf(out + used, size - used, "%s%s", i ? ", " : "", d->choices[i]);

		if (n < 0)
			return;
		used += (size_t)n;
	}
}

/* What is allowed, e.g. "64K to 16G"; empty when there is nothing to say. */
static void put_range(char out[RANGE_TEXT_MAX], const struct option_def *d)
{
	char lo[32], hi[32];

	out[0] = '\0';
	switch (d->type) {
	case OPT_INT:
	case OPT_SIZE:
	case OPT_DURATION:
	case OPT_OCTAL:
		put_limit(lo, d, d->min);
		put_limit(hi, d, d->max);
		if (d->max == INT64_MAX && d->min == INT64_MIN)
			break;
		if (d->max == INT64_MAX)
			snprintf(out, RANGE_TEXT_MAX, "at least %s", lo);
		else if (d->min == INT64_MIN)
			snprintf(out, RANGE_TEXT_MAX, "at most %s", hi);
		else
			snprintf(out, RANGE_TEXT_MAX, "%s to %s", lo, hi);
		break;
	case OPT_CHOICE:
		put_choices(out, RANGE_TEXT_MAX, d);
		break;
	case OPT_FLAG:
		snprintf(out, RANGE_TEXT_MAX, "yes or no");
		break;
	case OPT_STRING:
	case OPT_IGNORE:
		break;
	}
}

/* ---- setting ---- */

struct setting {
	const struct option_def *d;
	void *field;
	const char *value; /* may be NULL */
	const char *where;
	struct err *e;
};

static const char *kind_of(const struct option_def *d)
{
	switch (d->type) {
	case OPT_SIZE:
		return "a size such as 64M, ";
	case OPT_DURATION:
		return "a time such as 500ms, 30s or 2h, ";
	case OPT_OCTAL:
		return "an octal number, ";
	case OPT_INT:
		return "a whole number, ";
	case OPT_CHOICE:
		return "one of ";
	default:
		return "";
	}
}

static int bad_value(const struct setting *s, int code)
{
	char range[RANGE_TEXT_MAX];

	put_range(range, s->d);
	if (!s->value)
		return err_set(s->e, -EINVAL, "%s: option %s needs a value: %s%s", s->where,
			       s->d->name, kind_of(s->d), range);
	return err_set(s->e, code, "%s: %s=%.64s is %s; allowed: %s%s", s->where, s->d->name,
		       s->value, code == -ERANGE ? "out of range" : "not valid", kind_of(s->d),
		       range);
}

static int set_flag(const struct setting *s)
{
	static const char *const yes[] = { "yes", "true", "1" };
	static const char *const no[] = { "no", "false", "0" };
	int *field = s->field;

	if (!s->value) {
		*field = 1;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (!strcmp(s->value, yes[i]) || !strcmp(s->value, no[i])) {
			*field = !strcmp(s->value, yes[i]);
			return 0;
		}
	}
	return bad_value(s, -EINVAL);
}

static int set_int(const struct setting *s, int base)
{
	const char *digits = s->value;
	long long v;
	char *end;

	if (!digits)
		return bad_value(s, -EINVAL);
	/* strtoll would accept white space and a plus sign. */
	if (!isdigit((unsigned char)digits[digits[0] == '-']))
		return bad_value(s, -EINVAL);
	errno = 0;
	v = strtoll(digits, &end, base);
	if (*end || end == digits)
		return bad_value(s, -EINVAL);
	if (errno || v < s->d->min || v > s->d->max)
		return bad_value(s, -ERANGE);
	*(int64_t *)s->field = v;
	return 0;
}

static int set_size(const struct setting *s)
{
	uint64_t v;
	int rc = s->value ? parse_size(s->value, &v) : -EINVAL;

	if (!rc && (v < (uint64_t)s->d->min || v > (uint64_t)s->d->max))
		rc = -ERANGE;
	if (rc)
		return bad_value(s, rc);
	*(uint64_t *)s->field = v;
	return 0;
}

static int set_duration(const struct setting *s)
{
	int64_t v;
	int rc = s->value ? parse_duration(s->value, &v) : -EINVAL;

	if (!rc && (v < s->d->min || v > s->d->max))
		rc = -ERANGE;
	if (rc)
		return bad_value(s, rc);
	*(int64_t *)s->field = v;
	return 0;
}

static int set_string(const struct setting *s)
{
	size_t max = s->d->max > 0 ? (size_t)s->d->max : STRING_MAX_DEFAULT;
	char **field = s->field, *copy;

	if (!s->value)
		return err_set(s->e, -EINVAL, "%s: option %s needs a value: %s", s->where,
			       s->d->name, s->d->arg ? s->d->arg : "a text");
	/* The value is not repeated: it may be a secret. */
	if (strlen(s->value) > max)
		return err_set(s->e, -ERANGE,
			       "%s: the value of %s is too long; allowed: up to %zu bytes",
			       s->where, s->d->name, max);
	copy = strdup(s->value);
	if (!copy)
		return err_set(s->e, -ENOMEM, "%s: out of memory", s->where);
	free(*field);
	*field = copy;
	return 0;
}

static int set_choice(const struct setting *s)
{
	for (int i = 0; s->value && s->d->choices[i]; i++) {
		if (strcmp(s->value, s->d->choices[i]))
			continue;
		*(int *)s->field = i;
		return 0;
	}
	return bad_value(s, -EINVAL);
}

static int set_one(const struct setting *s)
{
	switch (s->d->type) {
	case OPT_FLAG:
		return set_flag(s);
	case OPT_INT:
		return set_int(s, 10);
	case OPT_OCTAL:
		return set_int(s, 8);
	case OPT_SIZE:
		return set_size(s);
	case OPT_DURATION:
		return set_duration(s);
	case OPT_STRING:
		return set_string(s);
	case OPT_CHOICE:
		return set_choice(s);
	case OPT_IGNORE:
		return 0;
	}
	return -EINVAL;
}

/* Equal, with - and _ the same: --log-file on the command line is log_file behind -o. */
static int same_name(const char *a, const char *b)
{
	for (; *a && *b; a++, b++)
		if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_')))
			return 0;
	return *a == *b;
}

static const struct option_def *find(const struct option_def *d, const char *name)
{
	for (; d->name; d++)
		if (same_name(d->name, name))
			return d;
	return NULL;
}

int options_set(const struct option_def *defs, void *target, const char *name, const char *value,
		const char *where, struct err *e)
{
	const struct option_def *d = find(defs, name);
	struct setting s = { .value = value, .where = where, .e = e };

	if (!d && (!strncmp(name, "no_", 3) || !strncmp(name, "no-", 3))) {
		d = find(defs, name + 3);
		if (d && d->type != OPT_FLAG)
			d = NULL;
		if (d && value)
			return err_set(e, -EINVAL, "%s: option %.64s takes no value", where, name);
		s.value = "no";
	}
	if (!d)
		return err_set(e, -ENOENT, "%s: there is no option \"%.64s\"; --help lists them",
			       where, name);
	s.d = d;
	s.field = (char *)target + d->offset;
	return set_one(&s);
}

static void zero_field(const struct option_def *d, void *field)
{
	switch (d->type) {
	case OPT_FLAG:
	case OPT_CHOICE:
		*(int *)field = 0;
		break;
	case OPT_INT:
	case OPT_DURATION:
	case OPT_OCTAL:
		*(int64_t *)field = 0;
		break;
	case OPT_SIZE:
		*(uint64_t *)field = 0;
		break;
	case OPT_STRING:
		*(char **)field = NULL;
		break;
	case OPT_IGNORE:
		break;
	}
}

int options_defaults(const struct option_def *defs, void *target, struct err *e)
{
	/* All are zeroed first, so that options_release is right also after a failure. */
	for (const struct option_def *d = defs; d->name; d++)
		zero_field(d, (char *)target + d->offset);
	for (const struct option_def *d = defs; d->name; d++) {
		struct setting s = { .d = d,
				     .field = (char *)target + d->offset,
				     .value = d->dflt,
				     .where = "default",
				     .e = e };
		int rc = d->dflt ? set_one(&s) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

/* Cuts the item at *at off: unescaped into item (as large as the list); *at moves behind its comma,
 * NULL at the end. */
static void next_item(const char **at, char *item)
{
	const char *s = *at;

	while (*s && *s != ',') {
		if (s[0] == '\\' && s[1] == ',')
			s++;
		*item++ = *s++;
	}
	*item = '\0';
	*at = *s ? s + 1 : NULL;
}

int options_parse_list(const struct option_def *defs, void *target, const char *list,
		       const char *where, struct err *e)
{
	AUTO_FREE char *item = malloc(strlen(list) + 1);

	if (!item)
		return err_set(e, -ENOMEM, "%s: out of memory", where);
	for (const char *at = list; at;) {
		char *value;
		int rc;

		next_item(&at, item);
		if (!*item)
			continue; /* mount(8) and hands leave ",," behind */
		value = strchr(item, '=');
		if (value)
			*value++ = '\0';
		rc = options_set(defs, target, item, value, where, e);
		if (rc)
			return rc;
	}
	return 0;
}

void options_release(const struct option_def *defs, void *target)
{
	for (const struct option_def *d = defs; d->name; d++) {
		char **field = (char **)((char *)target + d->offset);

		if (d->type != OPT_STRING)
			continue;
		free(*field);
		*field = NULL;
	}
}

/* ---- help ---- */

/* Appends the words of text, broken at HELP_WIDTH, each new line indented to HELP_COLUMN. Returns
 * the column reached. */
static size_t put_wrapped(struct buf *out, const char *text, size_t column)
{
	for (;;) {
		size_t n;

		text += strspn(text, " ");
		n = strcspn(text, " ");
		if (!n)
			return column;
		if (column > HELP_COLUMN && column + 1 + n > HELP_WIDTH) {
			buf_printf(out, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		}
		if (column > HELP_COLUMN) {
			buf_put8(out, ' ');
			column++;
		}
		buf_put(out, text, n);
		column += n;
		text += n;
	}
}

static void put_facts(char *text, size_t size, const struct option_def *d)
{
	char range[RANGE_TEXT_MAX];

	text[0] = '\0';
	put_range(range, d);
	if (d->type == OPT_FLAG && d->dflt &&
	    (!strcmp(d->dflt, "yes") || !strcmp(d->dflt, "true") || !strcmp(d->dflt, "1")))
		snprintf(text, size, "(default yes; no_%s turns it off)", d->name);
	else if (d->type == OPT_FLAG)
		return;
	else if (range[0] && d->dflt)
		snprintf(text, size, "(%s; default %s)", range, d->dflt);
	else if (range[0])
		snprintf(text, size, "(%s)", range);
	else if (d->dflt && d->dflt[0])
		snprintf(text, size, "(default %s)", d->dflt);
}

void options_help(const struct option_def *defs, const char *prefix, struct buf *out)
{
	char facts[RANGE_TEXT_MAX + 128];

	for (const struct option_def *d = defs; d->name; d++) {
		size_t start = out->len, column;

		if (d->type == OPT_IGNORE)
			continue;
		buf_printf(out, "  %s%s", prefix ? prefix : "", d->name);
		if (d->type != OPT_FLAG)
			buf_printf(out, "=%s", d->arg ? d->arg : "VALUE");
		column = out->len - start;
		if (column + 2 > HELP_COLUMN) {
			buf_put8(out, '\n');
			column = 0;
		}
		buf_printf(out, "%*s", (int)(HELP_COLUMN - column), "");
		column = put_wrapped(out, d->help ? d->help : "", HELP_COLUMN);
		put_facts(facts, sizeof(facts), d);
		put_wrapped(out, facts, column);
		buf_put8(out, '\n');
	}
}
