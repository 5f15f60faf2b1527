/* Internal: the kinds of backend that a URL can name. registry.c holds the table of them; each kind
 * stands in a file of its own. */
#ifndef BACKENDS_KINDS_H
#define BACKENDS_KINDS_H

#include "backends/registry.h"

struct backend_kind {
	const char *scheme;
	const char *const *params; /* known parameters besides those of all kinds; ends with NULL */
	/* Checks path and parameters of a URL of this kind. 0 or -EINVAL with a sentence. */
	int (*check)(const struct backend_url *u, struct err *e);
	/* The label when the URL gives none, malloc'ed. Which provider's loss or curiosity this
	 * backend shares. */
	char *(*provider)(const struct backend_url *u);
	/* As backend_url_place, without "<scheme>:" in front; malloc'ed. */
	char *(*place)(const struct backend_url *u);
	/* As backend_open. The URL has passed check(). */
	int (*open)(const struct backend_url *u, const struct backend_env *env,
		    struct backend **out, struct err *e);
};

extern const struct backend_kind file_kind;  /* file.c */
extern const struct backend_kind mem_kind;   /* mem.c */
extern const struct backend_kind s3_kind;    /* s3.c */
extern const struct backend_kind azure_kind; /* azure.c */
extern const struct backend_kind gs_kind;    /* gcs.c */

#endif
