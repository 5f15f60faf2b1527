/* The unmount itself, for `skyflok umount` and umount.fuse.skyflok. */
#ifndef FS_CMD_UMOUNT_H
#define FS_CMD_UMOUNT_H

#include <stdint.h>

struct umount_options {
	int64_t drain; /* ns; -1: as the mount's drain option says */
	int lazy;
	int force;    /* a daemon that does not answer is cut off, and so are its programs */
	int readonly; /* busy: made read-only instead */
	int quiet;    /* no line of progress, nothing on success */
};

struct cmd;
/* arg: mountpoint or name. Waits until the daemon has ended, unless lazy. Returns an exit status;
 * sentences went to stdout and stderr. */
int umount_drive(const struct cmd *cmd, const char *arg, const struct umount_options *o);

/* The program umount.fuse.skyflok: what umount(8) calls for this type. */
int umount_helper_main(int argc, char **argv);

#endif
