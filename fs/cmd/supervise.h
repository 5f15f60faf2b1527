/* -o restart: a process that stays behind the daemon and starts it again when a signal ended it. */
#ifndef FS_CMD_SUPERVISE_H
#define FS_CMD_SUPERVISE_H

#include "fs/cmd/daemon.h"

/* Runs body(d, arg) in a child. Its first report (daemon_ready) is passed on to `outer`; a child
 * that dies by a signal after that, and leaves its mount at mountpoint, is followed by another one,
 * unless the end was asked for or it happens too often. SIGTERM, SIGINT and SIGHUP are handed on.
 * Returns the exit status. The process has one thread. */
int supervise(struct daemon *outer, const char *mountpoint, const char *log_file,
	      int (*body)(struct daemon *d, void *arg), void *arg);

#endif
