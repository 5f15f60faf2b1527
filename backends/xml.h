/* A walk over a small XML document from outside, on expat: no DTD (so no entities), at most 16
 * deep, at most 8 KiB of text in an element. */
#ifndef BACKENDS_XML_H
#define BACKENDS_XML_H

#include <stddef.h>

struct xml_walk {
	/* An element begins; path is "Root/Child/...". attrs: name, value, ..., NULL. Optional. */
	int (*start)(void *arg, const char *path, const char **attrs);
	/* It ends; text is what stood directly inside, NUL-terminated. */
	int (*end)(void *arg, const char *path, const char *text);
	void *arg;
};

/* 0; -EBADMSG: not well-formed, or beyond the limits; -ENOMEM; what a callback returned but 0. */
int xml_parse(const char *text, size_t n, const struct xml_walk *walk);

/* The text of the first element with that path, cut to size - 1 bytes. 0, -ENOENT, or as above. */
int xml_value(const char *text, size_t n, const char *path, char *out, size_t size);

#endif
