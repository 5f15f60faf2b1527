/* What is mounted where, from /proc/self/mountinfo. */
#ifndef FS_CMD_MOUNTS_H
#define FS_CMD_MOUNTS_H

#include <sys/types.h>
#include "fs/base/err.h"

#define SKYFLOK_FS_TYPE "fuse.skyflok"

struct mount_entry {
	dev_t dev;
	char *mountpoint;
	char *type;
	char *source; /* "skyflok:NAME" for ours */
};
void mount_entry_release(struct mount_entry *m);

/* The topmost mount at exactly this path, or the newest with this device, or of this drive. 1
 * found, 0 not, negative errno. */
int mounts_at(const char *path, struct mount_entry *out);
int mounts_of_dev(dev_t dev, struct mount_entry *out);
int mounts_of_drive(const char *name, struct mount_entry *out);
/* The drive's name of one of ours, else NULL. */
const char *mount_entry_drive(const struct mount_entry *m);

/* realpath(3) that also works when the last component is a dead mount. malloc'ed; NULL with errno.
 */
char *mounts_resolve(const char *path);

/* umount(2) as root, else fusermount3. LAZY: detach at once, also while programs use it; FORCE: cut
 * off from its daemon as well. 0, -EBUSY, other errno with *e. */
enum { MOUNTS_LAZY = 1, MOUNTS_FORCE = 2 };
int mounts_unmount(const char *path, int flags, struct err *e);

/* umount(8) looks for the helper of "fuse", the kernel's word, when it is given an absolute path,
 * unless its own table names another one: brings it there, by mount(8). For root, and where the
 * helper is installed; failures do not matter. Blocks for milliseconds. */
void mounts_announce(const char *path, const char *name);

/* A mount of ours whose daemon has died ("Transport endpoint is not connected"): is cleared, so
 * that the path is a folder again. 1 cleared, 0 there was none, negative errno with *e. */
int mounts_clear_dead(const char *path, struct err *e);

#endif
