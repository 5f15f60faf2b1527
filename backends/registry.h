/* From a URL to a backend. A URL carries its labels:
 * file:///srv/a?provider=acme&location=DE-FRA&cost=0.09 */
#ifndef BACKENDS_REGISTRY_H
#define BACKENDS_REGISTRY_H

#include "backends/backend.h"

#define BACKEND_URL_PARAMS 16

struct backend_url {
	char *scheme;   /* "file", "mem", "s3", "azure", "gs" */
	char *path;     /* behind "//", percent-decoded: file: absolute path; else bucket/prefix */
	char *provider; /* label; default: file: "local:<path>" (each folder counts as its own
			   provider), others: scheme and endpoint's host */
	char *location; /* label, "" when none */
	double cost;    /* what reading a GB costs there, in any currency; -1: not given */
	int nparams;    /* the rest of the query, for the kind itself; decoded */
	struct {
		char *name, *value;
	} params[BACKEND_URL_PARAMS];
};

/* 0, -EINVAL with a sentence, -ENOMEM. Unknown schemes and parameters that the kind does not know
 * are errors (with the list of known ones). */
int backend_url_parse(const char *url, struct backend_url *u, struct err *e);
void backend_url_release(struct backend_url *u);
const char *backend_url_param(const struct backend_url *u, const char *name); /* NULL when absent */
/* A text that two URLs share exactly when they name the same place (scheme, endpoint, path
 * normalised; realpath for folders). malloc'ed. */
char *backend_url_place(const struct backend_url *u);

/* What a kind of backend needs to know of its drive. */
struct backend_env {
	/* 16 bytes; NULL: not bound yet (create, test), the marker is not verified. */
	const uint8_t *drive;
	const uint8_t *uuid;          /* 16 bytes of the backend within the drive, or NULL */
	const char *credentials_file; /* path of the drive's .cred file, or NULL */
	int64_t timeout;              /* default deadline per request in ns, 0: 30 s */
	const int *stop;              /* as in struct backend */
};

/* The bare backend, without layers. Does not touch the network; file: does not touch the folder. 0
 * or errno with *e. */
int backend_open(const struct backend_url *u, const struct backend_env *env, struct backend **out,
		 struct err *e);

#endif
