/* Internal: S3 and what speaks it. gcs.c opens it for HMAC keys. */
#ifndef BACKENDS_S3_H
#define BACKENDS_S3_H

#include "backends/cloud.h"
#include "backends/s3_sign.h"

struct s3_conf {
	enum s3_dialect dialect;
	const char *endpoint; /* NULL: AWS, by region */
	const char *region;   /* when neither URL nor credentials say one */
	int (*credentials)(const struct credentials_query *q, struct credentials *c, struct err *e);
};

/* As backend_kind.open. */
int s3_open(const struct backend_url *u, const struct backend_env *env, const struct s3_conf *conf,
	    struct backend **out, struct err *e);

#endif
