#include <ctype.h>
#include <errno.h>
#include <string.h>
#include "backends/ini.h"

/* Cuts white space at both ends of the NUL-terminated s, in place. */
static char *trim(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = 0;
	return s;
}

struct ini_state {
	const char *section;
	int nested; /* below a setting without a value */
};

static int parse_line(char *line, struct ini_state *st,
		      int (*fn)(void *, const char *, const char *, const char *), void *arg)
{
	int indented = *line == ' ' || *line == '\t';
	char *s = trim(line), *equals;

	if (!*s || *s == '#' || *s == ';')
		return 0;
	if (indented && st->nested)
		return 0;
	st->nested = 0;
	if (*s == '[') {
		char *end = strchr(s, ']');
		if (!end)
			return -EINVAL;
		end[0] = 0;
		st->section = trim(s + 1);
		return 0;
	}
	equals = strchr(s, '=');
	if (!equals || equals == s)
		return -EINVAL;
	*equals = 0;
	s = trim(s);
	equals = trim(equals + 1);
	st->nested = !*equals;
	return fn(arg, st->section, s, equals);
}

int ini_parse_text(char *text, size_t n,
		   int (*fn)(void *arg, const char *section, const char *name, const char *value),
		   void *arg, int *line)
{
	struct ini_state st = { .section = "" };
	char *p = text, *end = text + n;

	*line = 0;
	if (n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3; /* a byte order mark from somebody's editor */
	while (p < end) {
		char *nl = memchr(p, '\n', (size_t)(end - p));
		char *stop = nl ? nl : end;
		int r;

		++*line;
		if (memchr(p, 0, (size_t)(stop - p)))
			return -EINVAL;
		*stop = 0; /* there is a byte behind the end: see file_read_all */
		r = parse_line(p, &st, fn, arg);
		if (r)
			return r;
		p = stop + 1;
	}
	return 0;
}
