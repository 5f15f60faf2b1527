/* The mounted drive: one process from unlocking to the last byte drained. */
#ifndef FS_CMD_SERVE_H
#define FS_CMD_SERVE_H

#include "fs/base/err.h"
#include "fs/cmd/daemon.h"
#include "fs/cmd/mount_options.h"
#include "fs/drive/config.h"
#include "fs/drive/paths.h"

/* Mounts and serves until the drive is unmounted and drained. Reports readiness through daemon;
 * failures before that are said on stderr. mountpoint is absolute. Returns an exit status. */
int serve_run(struct daemon *daemon, const struct paths *paths, const struct config *config,
	      struct mount_options *o, const char *mountpoint);

#endif
