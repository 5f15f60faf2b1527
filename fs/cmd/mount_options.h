/* The options of a mount: one table for `skyflok mount --NAME`, for -o lists (fstab, mount(8)) and
 * for the [mount] section of NAME.conf. */
#ifndef FS_CMD_MOUNT_OPTIONS_H
#define FS_CMD_MOUNT_OPTIONS_H

#include <stdint.h>
#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/options.h"

struct mount_options {
	int allow_other, nonempty, writeback, foreground, verbose;
	int64_t uid, gid, umask; /* -1: not given */
	uint64_t cache_size;     /* 0: not given */
	uint64_t heal_rate;      /* 0: no limit */
	char *cache_dir, *passfile, *keyfile, *log_file;
	int64_t passfd; /* -1: none */
	int64_t timeout, commit, drain, attr_timeout;
	int64_t quorum, threads;
	int64_t fsync_timeout;
	uint64_t bwlimit_up, bwlimit_down; /* bytes per second; 0: no limit */
	int restart;
	uint64_t memory;
	int fsync; /* index into its choices: 0 disk, 1 cloud */
	/* Set by what mount(8) passes, not by the table. */
	int read_only, remount;
	int sloppy;        /* -s: unknown options are ignored */
	struct buf kernel; /* "noexec,nosuid,...": for the kernel */
};

extern const struct option_def mount_option_table[];

int mount_options_init(struct mount_options *o, struct err *e);
void mount_options_release(struct mount_options *o);

/* One -o list: ours go to the table, ro and rw and what the kernel enforces to their places; what
 * only concerns mount(8) (auto, _netdev, nofail, user, x-...) is accepted and ignored. Anything
 * else is -EINVAL. A comma inside a value is written "\,". */
int mount_options_parse(struct mount_options *o, const char *list, const char *where,
			struct err *e);
/* The same as a callback of cmd_parse, where = "-o". */
int mount_options_on_list(void *target, const char *list, struct err *e);

/* The kernel's list as a string, "" when empty; belongs to o. */
const char *mount_options_kernel(struct mount_options *o);

#endif
