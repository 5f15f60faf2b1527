/* What the parts of the volume share. Only for fs/data's volume files.
 *
 * Lock order: meta lock -> inode locks (ascending ino) -> { tab_lock | list_lock | known.lock |
 * c_lock | space_lock } -> segstore. None of the leaves is held while another is taken. */
#ifndef FS_DATA_VOLUME_INTERNAL_H
#define FS_DATA_VOLUME_INTERNAL_H

#include <errno.h>
#include <string.h>
#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/base/workq.h"
#include "fs/data/inode_table.h"
#include "fs/data/known.h"
#include "fs/data/volume.h"
#include "fs/meta/node.h"
#include "fs/meta/run.h"
#include "fs/meta/segment.h"

/* A caller who waits: parked until `done` is called. */
struct waiter {
	struct list link;
	uint64_t ino;     /* whose fsync; 0: everything */
	int cloud;        /* also stored at quorum, */
	int64_t deadline; /* by then */
	struct seg_wait wait;
	int rows; /* the transaction only: bytes that could not be sealed are not meant */
	void (*done)(void *arg, int result);
	void *arg;
};

struct snap; /* writeback.c */

struct volume {
	struct volume_opts o;
	struct meta *m;
	struct segstore *st;
	struct overlay_env env;
	struct inode_table table;
	struct known known;
	struct workq *jobs;  /* delayed replies, parked renames: never blocks for long */
	struct workq *inval; /* tells the kernel; may block */
	struct workq *cloud; /* fsync_cloud: waits for uploads */
	atomic_int failed;   /* 0 or -EIO, sticky */

	pthread_mutex_t list_lock;
	struct list dirty_data, dirty_attr, renamed, reap; /* by list_lock; each entry is a ref */
	size_t data_count, attr_count, renamed_count, reap_count; /* by list_lock */
	struct inode *lane_holder[4];                             /* by list_lock; each is a ref */

	int hold;           /* by the meta lock: replacing renames wait */
	struct list parked; /* by the meta lock: struct rename_op */

	pthread_mutex_t c_lock;
	pthread_cond_t c_cond;
	pthread_t committer;
	int running, stopping;      /* by c_lock */
	int stopped;                /* by c_lock: the last cycle knew that it is stopping */
	int kick, flush;            /* by c_lock: commit now; close open segments in it */
	atomic_int changed;         /* something is uncommitted; set to 1 by c_lock */
	int64_t changed_at;         /* by c_lock */
	struct list waiters;        /* by c_lock: struct waiter, for the next cycle */
	struct list cloud_waiters;  /* by c_lock: cloud_wait.c */
	int cloud_runs, cloud_stop; /* by c_lock */
	struct list throttled;      /* by c_lock: writers that wait until dirty memory is sealed */
	/* Only the committer: */
	uint32_t cycle;
	struct list snaps;     /* struct snap, oldest first: taken, not committed */
	uint64_t *old_orphans; /* of the last mount */
	size_t old_orphans_n, old_orphans_at;

	atomic_int seal_rc; /* why the last cycle left dirty bytes, or 0 */
	atomic_ullong commits;
	atomic_ullong total_bytes, total_inodes; /* as of the last commit */
	atomic_ullong space_total, space_avail;  /* volume_set_space */

	pthread_mutex_t space_lock;
	int64_t space_time;               /* by space_lock: when fill was asked */
	uint64_t space_written;           /* by space_lock: written since */
	uint64_t space_staged, space_cap; /* by space_lock */
	int space_said;                   /* by space_lock: the log says that it is full */
};

/* --- volume.c --- */
void volume_changed(struct volume *v); /* the committer runs within commit_interval */
void volume_kick(struct volume *v);    /* at once */
void volume_fail(struct volume *v, int rc, const char *what);
/* 0, -EROFS (asked for, or after a failure). */
int volume_writable(struct volume *v);
/* Percent of the cap that is staged, with what `more` bytes would add. */
unsigned volume_fill(struct volume *v, uint64_t more);
/* 0, or -ENOSPC when new things are refused (95 %). */
int volume_may_create(struct volume *v);
#define FILL_DELAY  80
#define FILL_REFUSE 95
void volume_inval_attr(struct volume *v, uint64_t ino);

/* --- writeback.c --- */
void *writeback_thread(void *volume);
void writeback_discard(struct volume *v); /* when it has ended: what never became durable */
/* like->done is called by the committer after a commit that began later; like is copied. Else a
 * negative errno: not called. */
int writeback_wait(struct volume *v, const struct waiter *like);

/* --- cloud_wait.c --- */
/* Takes over the waiters (emptied): each is answered when everything that was closed for upload so
 * far is stored at quorum, or its deadline has come, or nothing moves. */
void cloud_wait_add(struct volume *v, struct list *waiters);

/* --- file_map.c: inode lock held --- */
struct map_piece {
	uint64_t off, end;
	uint64_t pos;
	uint32_t seg, first; /* MAP_SEALED */
	uint32_t next;       /* likewise, as in struct piece; 0 unknown */
	const uint8_t *mem;  /* MAP_DIRTY: valid while the lock is held */
	enum { MAP_HOLE, MAP_DIRTY, MAP_SEALED } kind;
	int committed; /* from a row */
};
/* The piece that begins at off, at most up to end (> off). -EAGAIN: rows at off are not in memory.
 */
int file_map_next(struct inode *i, uint64_t off, uint64_t end, struct map_piece *out);
/* Neither meta nor inode lock held: loads the rows there. */
int file_map_load(struct volume *v, struct inode *i, uint64_t off);
/* The same with both held. */
int file_map_load_locked(struct volume *v, struct inode *i, uint64_t off);
/* Bytes allocated, for st_blocks. */
uint64_t file_map_bytes(struct inode *i);

/* --- file_write.c --- */
int file_truncate(struct volume *v, struct inode *i, uint64_t size); /* inode lock held */
int file_seal(struct volume *v, struct inode *i);                    /* inode lock held */
uint64_t file_size_max(struct volume *v);
/* No locks held. Gives the lane back, if it has one and did not write since `before`
 * (clock_mono_ns). */
void file_drop_lane(struct volume *v, struct inode *i, int64_t before);
/* Room for `more` new bytes under the quota? */
int volume_quota(struct volume *v, uint64_t more);

/* --- attr.c --- */
void inode_stat(struct volume *v, struct inode *i, struct stat *st); /* inode lock held */
/* A node that is not in memory. */
void node_stat(struct volume *v, const struct node *n, struct stat *st);
/* Inode lock held, meta lock not needed. 1 when setuid/setgid went. */
int inode_kill_suid(struct volume *v, struct inode *i);
/* Before a change by cred: does security.capability have to go, and does it go? No locks held. */
int inode_kill_caps(struct volume *v, struct inode *i);
void inode_touch_atime(struct volume *v, struct inode *i); /* inode lock held */
/* Explicit mtime (inode lock held): goes with content that is not in a snapshot yet, else at once.
 */
void inode_set_mtime(struct inode *i, int64_t t);
int cred_in_group(const struct cred *c, gid_t gid); /* 1, 0, or -1: unknown */
static inline int64_t now_ns(void)
{
	return clock_real_ns();
}

/* --- ns_common.c --- */
int name_check(const char *name, size_t *n);
/* Meta lock held. A directory that is still linked: -ENOTDIR, -ENOENT. */
int dir_get_locked(struct volume *v, uint64_t ino, struct inode **out);
/* An entry came or went (inode lock taken inside). */
void dir_touch(struct volume *v, struct inode *dir, int entries, int subdirs);
/* A name of i went: ctime, link count; the last one makes it an orphan. */
void inode_unlinked(struct volume *v, struct inode *i);
/* The last reference of kernel or handles went, maybe: an orphan is queued for removal. */
void inode_maybe_reap(struct volume *v, struct inode *i);
/* Fills entry and counts a kernel reference. Meta lock held. */
int entry_fill(struct volume *v, struct inode *i, struct entry *out);

struct rename_op; /* ns_rename.c */
void rename_run_parked(struct volume *v, struct list *parked);

/* --- xattr.c --- */
int xattr_flags_load(struct volume *v, struct inode *i); /* meta lock held, inode lock not */

/* --- file_where.c --- */
int volume_state_xattr(struct volume *v, struct inode *i, char *out, size_t cap);

#endif
