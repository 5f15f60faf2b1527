/* Credentials: found where people keep them, held in memory that is wiped when freed, never
 * logged. */
#ifndef BACKENDS_CREDENTIALS_H
#define BACKENDS_CREDENTIALS_H

#include <stddef.h>
#include "fs/base/err.h"

struct credentials {
	char source[256]; /* in words: "environment (AWS_ACCESS_KEY_ID)"; "none" */
	int none;         /* credentials=none: send none */
	int metadata;     /* credentials=metadata: ask the machine's metadata server */
	/* What was found; NULL what was not. */
	char *access_key_id, *secret_access_key, *session_token; /* S3, and GCS's HMAC keys */
	char *region;                                      /* S3: of the profile or environment */
	char *account_key, *sas_token, *connection_string; /* Azure */
	char *service_account;                             /* GCS: the key file's JSON text */
};

struct credentials_query {
	const char *name;    /* the URL's credentials=, or NULL */
	const char *file;    /* the drive's credential file, or NULL */
	const char *backend; /* for messages */
	const char *account; /* Azure: the URL's account; a connection string of another one does
				not count */
};

/* In the drive's credential file, the section `name`; S3: else a profile of that name in
 * ~/.aws/credentials and ~/.aws/config. Without a name the kind's usual places:
 * S3: AWS_ACCESS_KEY_ID + AWS_SECRET_ACCESS_KEY (+ AWS_SESSION_TOKEN); the profile AWS_PROFILE or
 *   "default" in AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE, else below ~/.aws.
 * Azure: AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN.
 * GCS: GOOGLE_APPLICATION_CREDENTIALS; else the file that gcloud writes for applications.
 * 0; -EACCES: none found, a file that others can read, or a section without what is needed (with a
 * sentence that says where it was looked for); -ENOMEM. */
int credentials_s3(const struct credentials_query *q, struct credentials *c, struct err *e);
int credentials_azure(const struct credentials_query *q, struct credentials *c, struct err *e);
int credentials_gcs(const struct credentials_query *q, struct credentials *c, struct err *e);

/* Wipes and frees. */
void credentials_release(struct credentials *c);
/* 1 when both hold the same values. */
int credentials_equal(const struct credentials *a, const struct credentials *b);

/* A string that is wiped before it is freed. NULL is fine. */
void secret_free(char *s);
/* The value of KEY in an Azure connection string "A=b;C=d", malloc'ed; NULL when absent. Keys are
 * case-insensitive, as in Microsoft's own libraries. */
char *connection_string_get(const char *s, const char *key);

#endif
