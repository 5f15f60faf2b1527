/* Making and removing a drive: all of it or nothing. */
#ifndef FS_DRIVE_CREATE_H
#define FS_DRIVE_CREATE_H

#include <stdint.h>
#include "crypto/keyslot.h"
#include "fs/base/err.h"
#include "fs/drive/config.h"
#include "fs/drive/paths.h"
#include "fs/drive/secret.h"

struct create_opts {
	int k, m;
	const char *const *urls; /* n of them */
	int n;
	uint64_t extent_max, quota;
	int compress;
	int insist;               /* --provider-limit-override */
	int keep_order;           /* --keep-order: URL i gets shard i */
	const char *credentials;  /* file to take over as NAME.cred, or NULL */
	struct keyslot_cost cost; /* {0}: the default */
};

/* Everything that can be said before a passphrase is asked: name free, layout allowed, URLs right.
 * Fills *c (to be released by the caller) with new ids. Undoes what a crashed create left. */
int create_check(const struct paths *p, const struct create_opts *o, struct config *c,
		 struct err *e);

/* Undoes what a create or destroy that was interrupted left; create_check does it as well. 0;
 * -ENOENT there is nothing; -EAGAIN some backend did not answer, what is to be undone there is kept
 * in mind. Blocks. */
int create_undo_crashed(const struct paths *p, struct err *e);

/* What was found out about the places, in the order that they have in the end. */
struct create_report {
	int moved;                           /* it is not the order that was given */
	int64_t latency[DRIVE_MAX_BACKENDS]; /* ns of a small request; 0: a folder, or unknown */
	uint32_t unconditional;              /* bit i: ignores "only if absent" */
};

/* Makes the drive: the places are put in order (placement_order; c changes), header generation 1 is
 * committed here, each backend is claimed, the header is put on all n, the database is made, and
 * last the configuration file appears: before that there is no drive. On any failure what was made
 * is undone. root_*: of the root folder. Blocks. Failpoints: create.claim.N, create.database,
 * create.config, and those of generation.h. */
int create_drive(const struct paths *p, const struct create_opts *o, struct config *c,
		 const struct secret *secret, struct create_report *r, struct err *e);

struct destroy_report {
	uint64_t objects[DRIVE_MAX_BACKENDS]; /* deleted */
	int result[DRIVE_MAX_BACKENDS];       /* 0, or why the backend could not be emptied */
};
/* Deletes the drive's objects and marker on every backend, then the local state. Without force it
 * stops before the local state when a backend could not be emptied (-EAGAIN: repeat it). progress
 * may be NULL; called from several threads. The caller has made sure that it is not mounted. */
int destroy_drive(const struct paths *p, const struct config *c, int force,
		  void (*progress)(void *arg, int backend, uint64_t objects), void *arg,
		  struct destroy_report *r, struct err *e);

#endif
