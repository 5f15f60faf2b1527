/* The user's secret (passphrase, key file or recovery key): from where it comes and how it is kept.
 * Always in locked, wiped memory; never from the command line's arguments. */
#ifndef FS_DRIVE_SECRET_H
#define FS_DRIVE_SECRET_H

#include <stddef.h>
#include "crypto/keyslot.h"
#include "fs/base/err.h"

#define SECRET_MAX (64u << 10) /* bytes of a key file; a passphrase may have 1,024 */

struct secret {
	void *p; /* secmem, a NUL behind it */
	size_t len;
	enum keyslot_kind kind; /* PASSPHRASE or KEYFILE; see secret_recovery */
};
void secret_release(struct secret *s);

/* Where to look, in this order; the first that is given is the only one asked. */
struct secret_source {
	const char *passfile; /* a file with the passphrase; its last newline does not count */
	int passfd;           /* an open descriptor, read to its end; -1 none */
	const char *keyfile;  /* a file whose bytes are the secret, newline included */
	/* Then $CREDENTIALS_DIRECTORY/skyflok-NAME, else .../passphrase (systemd's
	 * LoadCredential=), then the terminal. */
	const char *name;   /* of the drive */
	const char *prompt; /* "Passphrase for photos: " */
	int confirm;        /* ask twice on the terminal; both have to be equal */
	int no_prompt;      /* never ask the terminal */
	int no_credentials; /* not from $CREDENTIALS_DIRECTORY: a new secret is wanted */
};

/* 0; -EACCES the file's mode lets others read it, or it is not ours; -EINVAL empty or too long, the
 * two inputs differ; -ENOTTY there is no terminal and nothing else was given (the sentence lists
 * the ways); -EINTR; the errno of reading. */
int secret_get(const struct secret_source *src, struct secret *out, struct err *e);

/* 1 and the 32 bytes when the text is a recovery key (checksum right): the same prompt takes both.
 */
int secret_recovery(const struct secret *s, uint8_t key[32]);

#endif
