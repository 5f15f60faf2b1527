/* A mounted drive: the mount itself, the threads that serve the kernel, and the orderly end.
 *
 * Order of calls: session_create (mounts; the kernel may already queue requests), session_loop
 * (serves them until somebody unmounts or session_exit is called), session_destroy. The volume must
 * be started before session_loop and stopped after session_destroy: parked requests end inside it.
 * fork before session_create: it starts threads.
 */
#ifndef FS_FUSE_SESSION_H
#define FS_FUSE_SESSION_H

#include <stdint.h>
#include "fs/base/err.h"

struct volume;
struct session;

struct session_opts {
	const char *mountpoint; /* copied */
	struct volume *volume;  /* borrowed until session_destroy has returned */
	const char *name;       /* drive's name, shown as skyflok:NAME by df and mount; copied */
	/* More mount options, comma-separated (a comma inside a value: "\,"): allow_other, ro,
	 * nosuid, nodev, noexec, ... What neither libfuse nor the kernel knows is refused. */
	const char *kernel_options;
	int nonempty;        /* mount over a folder that is not empty */
	int64_t uid, gid;    /* presented owner and group of everything; -1: the stored ones */
	int64_t umask;       /* presented permissions become 0777 & ~umask; -1: the stored ones */
	double attr_timeout; /* seconds the kernel keeps attributes, names and absent names */
	int writeback;       /* 1: the kernel collects writes in the page cache */
	int threads;         /* 1 to 64 */
	unsigned max_background, congestion;
	uint64_t buffers;     /* bytes of read buffers kept for reuse; 0: 22 MiB */
	uint64_t dirty_limit; /* bytes of this mount that the kernel keeps dirty; 0: its default */
	/* Called once, from a serving thread, after the kernel's INIT was answered: from here on
	 * programs can use the mount. Must not touch the mountpoint. May be NULL. */
	void (*on_init)(void *arg);
	void *on_init_arg;
};

/* Everything at its default: timeout 3600 s, writeback, 6 threads, 2048 background requests,
 * congestion at 64, stored owners. The rest 0. */
void session_opts_default(struct session_opts *o);

/* Checks the mountpoint, mounts, and tells the volume where to send invalidations. Errors come with
 * a sentence in *e: -ENOENT mountpoint or /dev/fuse missing, -ENOTDIR, -ENOTEMPTY, -EACCES,
 * -EPERM (allow_other without user_allow_other in /etc/fuse.conf), -ENOTCONN (a dead mount is in
 * the way), -EINVAL (option unknown or out of range), -ENOMEM. */
int session_create(const struct session_opts *o, struct session **out, struct err *e);

/* Serves until the filesystem is unmounted or session_exit ends it. Blocks; all signals are blocked
 * in the serving threads. 0, or a negative errno when no thread could be started, or one of them
 * failed; then requests were cut off. */
int session_loop(struct session *s);

/* Ends session_loop from any thread; does not block. First call: unmounts, so that the kernel hands
 * over its dirty pages first; when programs still use the mount, flushes, detaches it, and cuts
 * them off after 5 s. Second call: ends at once, pages that the kernel still holds are lost. */
void session_exit(struct session *s);

/* Unmounts when still mounted, ends what is parked, waits for its own threads, frees. Not while
 * session_loop runs. NULL is fine. */
void session_destroy(struct session *s);

/* The descriptor of /dev/fuse; -1 when unmounted. */
int session_fd(const struct session *s);

/* Requests that are waiting for the volume right now (for status). */
unsigned session_parked(const struct session *s);

#endif
