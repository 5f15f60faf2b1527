/* Options as a table: name, type, range, default, help. One table serves the command line, -o
 * lists, the ini file, --help and the man page (a test compares them). Unknown names and values out
 * of range are errors that name the range. */
#ifndef FS_BASE_OPTIONS_H
#define FS_BASE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include "fs/base/err.h"

enum opt_type {
	OPT_FLAG, /* int: 1 when given without a value; also =yes|no|true|false|1|0; "no_NAME"
		     clears NAME */
	OPT_INT,  /* int64_t, min..max */
	OPT_SIZE, /* uint64_t bytes, min..max; suffixes K M G T P (1024), optional trailing B or iB
		   */
	OPT_DURATION, /* int64_t nanoseconds, min..max in ns; suffixes ms s m h d; a bare number is
			 seconds */
	OPT_STRING, /* char *, malloc'ed, NULL when not given; max is the length limit (0: 4096) */
	OPT_CHOICE, /* int index into choices, a NULL-terminated list of words */
	OPT_OCTAL,  /* int64_t, min..max, written in octal (umask) */
	OPT_IGNORE, /* accepted with or without a value and ignored (what mount(8) passes) */
};

struct option_def {
	const char *name;
	enum opt_type type;
	size_t offset; /* of the field in the target struct */
	int64_t min, max;
	const char *const *choices;
	const char *dflt; /* textual default, applied by options_defaults; NULL: field zeroed */
	const char *arg;  /* name of the argument in the help, e.g. "SIZE" */
	const char *help; /* one sentence */
};

/* Tables end with .name = NULL. target is the caller's struct. All return 0 or a negative errno
 * with *e filled. */
int options_defaults(const struct option_def *defs, void *target, struct err *e);
/* In names - and _ are the same. A later setting replaces an earlier one.
 * value NULL: given without one. where: said in errors, e.g. "-o" or "photos.conf, line 7".
 * -ENOENT: unknown name (also filled). */
int options_set(const struct option_def *defs, void *target, const char *name, const char *value,
		const char *where, struct err *e);
/* "a,b=c,d": commas inside values are written "\,". */
int options_parse_list(const struct option_def *defs, void *target, const char *list,
		       const char *where, struct err *e);
void options_release(const struct option_def *defs, void *target); /* frees the strings */
/* Help text of the table for a terminal, 80 columns, into out as for `--help`. */
struct buf;
void options_help(const struct option_def *defs, const char *prefix, struct buf *out);

/* The parsers on their own. 0 or -EINVAL, -ERANGE. */
int parse_size(const char *s, uint64_t *v);
int parse_duration(const char *s, int64_t *ns);
/* "1.5 GiB", "312 B" into out. Returns out. */
const char *format_size(char out[32], uint64_t bytes);

#endif
