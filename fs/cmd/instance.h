/* Who has a drive open on this machine: STATE/NAME/lock, held by flock for the life of the daemon;
 * its text says where it is mounted. The kernel drops the lock with the process, so a dead daemon
 * never blocks anybody. */
#ifndef FS_CMD_INSTANCE_H
#define FS_CMD_INSTANCE_H

#include <jansson.h>
#include <sys/types.h>
#include "fs/base/err.h"
#include "fs/drive/control.h"
#include "fs/drive/paths.h"

/* Takes the lock. A daemon that only drains after its unmount is asked to stop, and waited for (60
 * s). -EBUSY with the mountpoint and pid of the one that runs. *fd stays open for the lock's life.
 */
int instance_lock(const struct paths *p, int *fd, struct err *e);
/* Writes who holds it. */
int instance_describe(int fd, const char *mountpoint, const char *cache, struct err *e);

struct instance {
	int running;      /* the lock is held */
	pid_t pid;        /* 0 unknown */
	char *mountpoint; /* of the one that runs, or ran last; may be NULL */
	char *cache;      /* its cache folder; may be NULL */
};
/* Looks without taking. 0 or a negative errno. */
int instance_look(const struct paths *p, struct instance *out);
void instance_release(struct instance *i);

/* A drive named on a command line by its name, by its mountpoint, or (arg NULL) because it is the
 * only one mounted, or the only one there is. 0; -ENOENT, -EINVAL with a sentence. */
int instance_name(const char *arg, char name[DRIVE_NAME_MAX + 1], struct err *e);

/* Connects to the daemon of a drive. -ENOTCONN with "is not mounted"; -EPERM when it is, but by
 * another user. */
int instance_connect(const struct paths *p, struct control_client **out, struct err *e);
/* That sentence, for a caller who knows it. Returns -EPERM. */
int instance_elsewhere(const char *name, struct err *e);

#endif
