/* Internal: the token of one Google backend, fetched when needed and renewed before it ends. */
#ifndef BACKENDS_GCS_TOKEN_H
#define BACKENDS_GCS_TOKEN_H

#include "backends/cloud.h"
#include "backends/gcs_auth.h"

enum gcs_way { GCS_NO_AUTH, GCS_ACCOUNT, GCS_METADATA };

struct gcs_token {
	struct cloud *c;
	enum gcs_way way;
	struct http_site *site; /* the token server is another host than the storage */
	/* All by c->lock but what belongs to a fetch under way. */
	struct gcs_account account;
	char *value;
	int64_t until, renew;  /* monotonic ns */
	int fetching, result;  /* of the last fetch */
	unsigned begun, ended; /* fetches */
	unsigned which;        /* the fetch that value came from */
	int skew_fixed;
	struct http_req http;
	struct buf url, headers, form;
	struct iovec body;
};

/* From c->cred. 0 or errno with *e. */
int gcs_token_init(struct gcs_token *t, struct cloud *c, const char *ca, struct err *e);
void gcs_token_release(struct gcs_token *t);
/* A good token in *value (valid under the lock), or NULL when none is needed: 0. CLOUD_WAIT: it is
 * being fetched. Negative errno: the fetch that op waited for has failed. */
int gcs_token_get_locked(struct gcs_token *t, struct cloud_op *op, const char **value);
/* The storage has refused the token that op was sent with. 1: worth sending again with another. */
int gcs_token_refused(struct gcs_token *t, struct cloud_op *op);
/* Other credentials: takes *a. */
void gcs_token_change_locked(struct gcs_token *t, struct gcs_account *a);

#endif
