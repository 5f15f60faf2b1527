/* Ini text: [sections], NAME = VALUE, # and ; at the beginning of a line are comments. libinih
 * cuts lines at 200 characters without a word, and session tokens and connection strings are
 * longer. */
#ifndef BACKENDS_INI_H
#define BACKENDS_INI_H

#include <stddef.h>

/* Calls fn for every setting, in order; section is "" before the first. Names and values without
 * the white space around them; a value may be empty. A line that is indented below a setting
 * without a value (the nested settings of ~/.aws/config) is passed over. fn returns 0 to go on;
 * anything else ends it and is returned. Lines that are none of this: -EINVAL with *line set (from
 * 1). The text is changed in place; text[n] must be writable. */
int ini_parse_text(char *text, size_t n,
		   int (*fn)(void *arg, const char *section, const char *name, const char *value),
		   void *arg, int *line);

#endif
