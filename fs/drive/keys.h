/* Changing who can unlock a drive: a new header generation with other slots. The data is never
 * touched. */
#ifndef FS_DRIVE_KEYS_H
#define FS_DRIVE_KEYS_H

#include "backends/backend.h"
#include "fs/drive/config.h"
#include "fs/drive/generation.h"
#include "fs/drive/paths.h"
#include "fs/drive/secret.h"
#include "fs/drive/unlock.h"

/* One change: the lock on generations is held from keys_begin to keys_end, so that two commands do
 * not undo each other. Works while the drive is mounted. */
struct keys {
	const struct paths *p;
	const struct config *c;
	int lock;
	struct backend *backends[DRIVE_MAX_BACKENDS];
	struct header_unlocked u; /* slots are changed here until keys_store */
};

/* Completes what is pending, unlocks, and takes a newer generation of the backends if there is one.
 * Errors as unlock_drive. keys_end also after a failure. */
int keys_begin(struct keys *k, const struct paths *p, const struct config *c,
	       const struct secret *secret, int64_t timeout, struct err *e);
void keys_end(struct keys *k);

/* In memory. *number: the new slot's. -ENOSPC 16 slots; -EINVAL label or cost; -EEXIST the label is
 * taken. cost NULL: the default. Blocks for Argon2id. */
int keys_add(struct keys *k, enum keyslot_kind kind, const char *label, const void *secret,
	     size_t secret_len, const struct keyslot_cost *cost, uint32_t *number, struct err *e);
/* In memory. -ENOENT no such slot; -EPERM it is the last one. */
int keys_remove(struct keys *k, uint32_t number, struct err *e);
/* The slot that opened gets this secret instead of its own. */
int keys_change(struct keys *k, const void *secret, size_t secret_len,
		const struct keyslot_cost *cost, struct err *e);

/* Writes the new generation. now: as generation_revoke. r says what is pending and where. Blocks.
 */
int keys_store(struct keys *k, int now, struct generation_report *r, struct err *e);

/* Completes a pending generation if there is one and nobody else is at it: for a daemon and for
 * commands that pass by. 1 completed, 0 nothing pending or still pending, negative errno. Blocks.
 */
int keys_finish_pending(const struct paths *p, struct backend *const *backends, int n,
			struct err *e);

const char *
keyslot_kind_word(enum keyslot_kind kind); /* "passphrase", "key file", "recovery key" */

#endif
