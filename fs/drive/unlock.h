/* From a secret to the drive's keys: the local copy of the header first, so that a drive mounts
 * with no network; then any k headers from the backends. */
#ifndef FS_DRIVE_UNLOCK_H
#define FS_DRIVE_UNLOCK_H

#include "backends/backend.h"
#include "fs/base/err.h"
#include "fs/drive/config.h"
#include "fs/drive/header.h"
#include "fs/drive/paths.h"
#include "fs/drive/secret.h"

/* Both the local copy and, only when that does not open, the backends; each request of those ends
 * within timeout (ns). A local copy that is missing, damaged or older is then written anew. The
 * manifest is checked against the configuration. A passphrase that reads as a recovery key is tried
 * as such first.
 * 0; -EACCES wrong passphrase; -ENOKEY too few headers fit together (*e names what each backend
 * said); -EBADMSG, -ENOTSUP the header is damaged or of a future version; -EINVAL the configuration
 * does not fit. Blocks: half a second for Argon2id, and the network. */
int unlock_drive(const struct paths *p, const struct config *c, const struct secret *secret,
		 int64_t timeout, struct header_unlocked *out, struct err *e);

/* The slots in the local copy (no secret needed); from the backends when there is none. */
int unlock_slots(const struct paths *p, const struct config *c, int64_t timeout,
		 struct keyslot slots[KEYSLOT_MAX], int *nslots, struct err *e);

/* For a running daemon: looks whether the backends have a newer generation that verifies under the
 * keys, and takes it as the local copy. 1 when taken, 0 when not, negative errno. Blocks. */
int unlock_refresh(const struct paths *p, struct backend *const *backends, int n, int64_t timeout,
		   struct keyring *keys, struct err *e);

/* The bare backends of a configuration, for commands: bound to the drive, without layers.
 * backends[0..n-1]; backends_close takes NULL entries. 0 or errno with *e. */
int backends_open(const struct paths *p, const struct config *c, int64_t timeout,
		  struct backend **backends, struct err *e);
/* The same for a drive that exists: one whose credentials cannot be had is there too, and answers
 * -EACCES (guard.h). Borrows p, c and stop (may be NULL, see struct backend) until
 * backends_close. */
int backends_open_guarded(const struct paths *p, const struct config *c, int64_t timeout,
			  const int *stop, struct backend **backends, struct err *e);
void backends_close(struct backend **backends, int n);

/* What a backend's error means, for a sentence: "absent, or not this drive's" for -ENODEV... */
const char *backend_reason(int rc);

#endif
