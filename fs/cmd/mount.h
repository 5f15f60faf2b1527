/* The mount itself, for `skyflok mount` and mount.skyflok. */
#ifndef FS_CMD_MOUNT_H
#define FS_CMD_MOUNT_H

#include "fs/cmd/mount_options.h"

/* name: of the drive; mountpoint: as given. o: parsed options; what the [mount] section of the
 * configuration gives counts only where o was not set: list is parsed again on top of it. Returns
 * an exit status; sentences went to stderr. */
int mount_drive(const char *name, const char *mountpoint, struct mount_options *o);
/* mount -o remount,ro or rw of a mounted drive. */
int mount_remount(const char *mountpoint, const struct mount_options *o);

#endif
