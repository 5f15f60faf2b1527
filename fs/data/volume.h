/* The volume: files, folders and everything POSIX about them, over meta (names, nodes, runs) and
 * segstore (content). What fs/fuse calls.
 *
 * File content changes only in memory first: each inode has an overlay of changed ranges (dirty
 * bytes, sealed extents, holes) above its committed runs; the commit cycle seals, syncs and moves
 * it into rows (DESIGN.md, "Commit order"). Names and attributes change in the open transaction at
 * once.
 *
 * Async: functions that take `done` return 0 when finished (out parameters valid, done not called),
 * -EINPROGRESS when done(arg, result) will be called exactly once from another thread, or a
 * negative errno. No function here waits for the network or a disk sync; those that may need one
 * are async. Names: 1..255 bytes, not "." or ".."; longer: -ENAMETOOLONG.
 */
#ifndef FS_DATA_VOLUME_H
#define FS_DATA_VOLUME_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "fs/base/err.h"
#include "fs/meta/meta.h"
#include "fs/data/segstore.h"

struct volume;

struct volume_opts {
	struct meta *meta;
	uint32_t extent_max;
	uint64_t quota; /* bytes, 0 none */
	int read_only;
	int64_t commit_interval; /* ns, 1 s */
	uint64_t dirty_max;      /* bytes of dirty (unsealed) data in memory, 32 MiB */
	uint64_t unsynced_max; /* bytes sealed and not synced, from which on writers wait; 48 MiB */
	uint32_t inode_cache;  /* clean inodes kept, 65,536 */
	uint32_t row_cache;    /* rows in windows of content before those of unused inodes go */
	int fsync_cloud;       /* 1: fsync means stored at quorum */
	int64_t fsync_timeout; /* ns that such an fsync may take, 120 s; then -ETIMEDOUT */
	/* Kernel caches: called from a thread of volume's own, never inside an operation (may
	 * block). NULL: none. */
	void (*inval_inode)(void *arg, uint64_t ino, int64_t off, int64_t len);
	void *inval_arg;
};

/* Two steps, because segstore needs volume's commit: create, then attach an opened segstore (also
 * borrowed), then start. */
int volume_create(const struct volume_opts *o, struct volume **out, struct err *e);
/* Everything that was written before is durable: done(arg, 0), else the error. */
void volume_commit_async(void *volume, void (*done)(void *arg, int result), void *arg);
/* Every row that was changed before is: dirty bytes that find no room do not matter, for it is this
 * commit that lets uploads make room. Fits segstore_opts.commit. */
void volume_commit_rows(void *volume, void (*done)(void *arg, int result), void *arg);
int volume_start(struct volume *v, struct segstore *st,
		 struct err *e); /* removes orphans of the last mount in the background */
void volume_set_inval(struct volume *v,
		      void (*inval_inode)(void *arg, uint64_t ino, int64_t off, int64_t len),
		      void *arg);
/* Seals, syncs and commits all; ends the threads. 0, or the sticky error. Blocks. */
int volume_stop(struct volume *v); /* -ENOSPC, -EIO: what was not synced is lost, and meta abandoned
				      so that closing it commits nothing */
/* The mount ends: each fsync that waits for the clouds is answered -EINTR soon, and none waits for
 * them any more. */
void volume_end_waits(struct volume *v);
/* After volume_stop, when the store was closed before: what a failed commit left refers to nothing
 * any more. */
void volume_store_closed(struct volume *v);
void volume_destroy(struct volume *v);
/* Why the volume is read-only although nobody asked for that (sticky I/O error), or 0. */
int volume_failed(struct volume *v);

struct cred {
	uid_t uid;
	gid_t gid;
	mode_t umask;
	int ngroups;
	const gid_t *groups; /* supplementary; may be NULL: unknown */
};

/* What lookup-like operations answer. Each success of volume_lookup, _mknod, _create, _symlink,
 * _mkdir, _link and each readdirplus entry counts one kernel reference on ino, until volume_forget.
 */
struct entry {
	struct stat st; /* st_ino, st_rdev etc. complete */
};

int volume_lookup(struct volume *v, uint64_t parent, const char *name,
		  struct entry *out); /* "." and ".." too (NFS export) */
void volume_forget(struct volume *v, uint64_t ino, uint64_t count);
int volume_getattr(struct volume *v, uint64_t ino, struct stat *out);

/* Bits as FUSE_SET_ATTR_*: MODE 1, UID 2, GID 4, SIZE 8, ATIME 16, MTIME 32, ATIME_NOW 128,
 * MTIME_NOW 256, CTIME 1024; here as VOL_SET_*. cred NULL: from the daemon itself. Clears
 * setuid/setgid and security.capability where POSIX says; chmod updates the ACL mask. Growing
 * beyond quota or cap: -ENOSPC. Size above 2^63-1-extent: -EFBIG. */
enum {
	VOL_SET_MODE = 1,
	VOL_SET_UID = 2,
	VOL_SET_GID = 4,
	VOL_SET_SIZE = 8,
	VOL_SET_ATIME = 16,
	VOL_SET_MTIME = 32,
	VOL_SET_ATIME_NOW = 128,
	VOL_SET_MTIME_NOW = 256,
	VOL_SET_CTIME = 1024,
	VOL_SET_KILL_PRIV = 1 << 30
};
int volume_setattr(struct volume *v, uint64_t ino, const struct stat *st, int set,
		   const struct cred *cred, struct stat *out);

/* mode has the type bits and is not yet masked: umask or the parent's default ACL is applied here;
 * setgid folders hand on their group. */
int volume_mknod(struct volume *v, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
		 const struct cred *cred, struct entry *out);
int volume_mkdir(struct volume *v, uint64_t parent, const char *name, mode_t mode,
		 const struct cred *cred, struct entry *out);
int volume_symlink(struct volume *v, uint64_t parent, const char *name, const char *target,
		   const struct cred *cred, struct entry *out);
int volume_readlink(struct volume *v, uint64_t ino, char *target,
		    size_t cap); /* NUL-terminated; cap >= 4096 */
int volume_link(struct volume *v, uint64_t ino, uint64_t parent, const char *name,
		struct entry *out);
int volume_unlink(struct volume *v, uint64_t parent, const char *name);
int volume_rmdir(struct volume *v, uint64_t parent, const char *name);
/* flags of renameat2(2): RENAME_NOREPLACE, RENAME_EXCHANGE, else -EINVAL. Async: waits while a
 * commit holds replacing renames (I7). */
int volume_rename(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent,
		  const char *new_name, unsigned flags, void (*done)(void *arg, int result),
		  void *arg);

struct volume_dirent {
	uint64_t ino, cookie;
	uint32_t type; /* S_IFMT bits */
	const char *name;
	const struct stat *st; /* with plus; else NULL */
};
/* Entries after cookie (0: from the start, "." = cookie 1 and ".." = 2 included). emit returns 1
 * when its buffer is full (the entry is then not counted). plus: with attributes, counting a kernel
 * reference for each emitted entry but "." and "..". No handle: cookies are stable. */
int volume_readdir(struct volume *v, uint64_t ino, uint64_t cookie, int plus,
		   int (*emit)(void *arg, const struct volume_dirent *d), void *arg);

/* flags: O_ACCMODE, O_TRUNC... -ENOSPC for writing at 95 % of the cap; -EROFS. Pairs with
 * volume_release. */
int volume_open(struct volume *v, uint64_t ino, int flags);
void volume_release(struct volume *v, uint64_t ino);

/* Exactly min(len, size - off) bytes into the memory given; *got says how many. buf stays the
 * caller's; it must live until done. cancel: volume_read_cancel(op). */
struct read_op;
int volume_read(struct volume *v, uint64_t ino, uint64_t off, void *buf, size_t len, size_t *got,
		struct read_op **op, void (*done)(void *arg, int result), void *arg);
/* An interrupted request: hastens done(-EINTR). Only while done has not been called: callers
 * serialise. */
void volume_read_cancel(struct volume *v, struct read_op *op);

/* All of it or an error (up to 62 extents; more is done in parts). from_cache: written back from
 * the page cache (mtime set here is corrected by the kernel's SETATTR; cred is meaningless). The
 * bytes are taken before it returns; -EINPROGRESS only delays the reply (back-pressure: unsynced
 * bytes above the limit, staging above 80 % of the cap). */
int volume_write(struct volume *v, uint64_t ino, uint64_t off, const void *buf, size_t len,
		 int from_cache, const struct cred *cred, void (*done)(void *arg, int result),
		 void *arg);
int volume_fsync(
    struct volume *v, uint64_t ino, int datasync, void (*done)(void *arg, int result),
    void *arg); /* also folders; ino 0: everything. With fsync_cloud: -ETIMEDOUT, or -EIO
		   when too few backends can be reached; then it is durable here */
int volume_fallocate(struct volume *v, uint64_t ino, int mode, uint64_t off, uint64_t len,
		     const struct cred *cred);
/* SEEK_DATA, SEEK_HOLE. -ENXIO beyond the end. */
int volume_lseek(struct volume *v, uint64_t ino, uint64_t off, int whence, uint64_t *out);
/* A metadata clone where both are ranges of synced or sealed extents; copies bytes for dirty odds
 * and ends only if local. *copied may be short, never 0 before the end. */
int volume_copy_range(struct volume *v, uint64_t in, uint64_t off_in, uint64_t out,
		      uint64_t off_out, uint64_t len, uint64_t *copied, const struct cred *cred);

int volume_getxattr(struct volume *v, uint64_t ino, const char *name, void *value, size_t cap,
		    size_t *n); /* incl. user.skyflok.state */
int volume_setxattr(struct volume *v, uint64_t ino, const char *name, const void *value, size_t n,
		    int flags, const struct cred *cred);
int volume_listxattr(struct volume *v, uint64_t ino, char *names, size_t cap, size_t *n);
int volume_removexattr(struct volume *v, uint64_t ino, const char *name, const struct cred *cred);
int volume_statfs(struct volume *v,
		  struct statvfs *out); /* quota, else what segstore's backends told last (given by
					   volume_set_space); never I/O */
void volume_set_space(struct volume *v, uint64_t total, uint64_t avail);

/* For status and where. */
struct volume_state {
	uint64_t dirty_bytes, dirty_inodes, known_inodes, cached_inodes, commits;
	struct meta_totals totals;
};
void volume_state(struct volume *v, struct volume_state *out);
/* The distinct segments that hold a file's content, dirty: bytes not sealed yet. */
int volume_where(struct volume *v, uint64_t ino, uint32_t *segs, int max, uint64_t *dirty);
/* For the cleaner, meta lock held: it rewrote rows of ino (the same bytes at another place) and has
 * not committed that yet. */
void volume_rows_changed(struct volume *v, uint64_t ino);

#endif
