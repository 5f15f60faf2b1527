/* What the files of fs/fuse share. Nobody outside includes this. */
#ifndef FS_FUSE_FUSE_INTERNAL_H
#define FS_FUSE_FUSE_INTERNAL_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "fs/base/hash.h"
#include "fs/base/list.h"
#include "fs/base/workq.h"
#include "fs/data/volume.h"
#include "fs/fuse/session.h"

enum { FUSE_MAX_IO = 1 << 20 }; /* libfuse 3.14 asks for no more: 256 pages */

/* Buffers of READ replies, 4 KiB aligned, in three sizes; each size keeps a bounded free list. */
enum { IOBUF_CLASSES = 3 };
struct iobuf_pool {
	pthread_mutex_t lock;
	void *free[IOBUF_CLASSES]; /* linked through their first bytes; by lock */
	unsigned kept[IOBUF_CLASSES];
	unsigned keep[IOBUF_CLASSES]; /* constant */
};
struct iobuf {
	void *p;
	size_t cap;
};

struct session {
	struct volume *v;
	struct fuse_session *se;
	struct session_opts o; /* its strings are not kept */
	char *mountpoint;      /* absolute, links resolved */
	char bdi[32];          /* "major:minor" of the mount, "" unknown */

	/* Negotiation, wire.c: written by the thread that reads and answers INIT. */
	uint64_t init_unique;
	uint32_t init_offered, init_extra; /* flag bits: offered by the kernel; added by us */
	int init_done;

	/* Serving threads, session.c. */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	pthread_t workers[64];
	int n_workers, running; /* by lock; running: workers that have not left */
	int exit_calls, force;  /* by lock */
	int loop_rc;            /* by lock: why it ended, when nobody asked for that */
	int unmounter_started;  /* by lock */
	pthread_t unmounter;

	/* notify.c. Two queues, because an invalidation may wait for WRITEs to be answered, and the
	 * end of an interrupted request must not wait behind it. */
	struct workq *notifyq, *interruptq;
	pthread_mutex_t writers_lock;
	struct hash writers; /* inode -> number of files open for writing; by writers_lock */
	int inval_calls;     /* threads that invalidate pages just now; by lock */

	/* park.c */
	pthread_mutex_t park_lock;
	pthread_cond_t park_idle;
	struct list parked;    /* struct park, state PARKED; by park_lock */
	struct list park_free; /* by park_lock */
	unsigned park_free_n;  /* by park_lock */
	unsigned inflight;     /* parks in use; by park_lock */
	atomic_uint n_parked;  /* for session_parked */
	atomic_int closing;    /* everything parked ends now */
	struct iobuf_pool bufs;
};

static inline struct session *session_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- wire.c: what libfuse 3.14 does not pass on ---- */
extern const struct fuse_custom_io wire_io;
/* 1 when the request that this thread is handling said that its caller may not keep setuid, setgid
 * and capabilities (WRITE, OPEN, CREATE, SETATTR). Valid inside the operation only. */
int wire_kill_priv(void);

/* ---- bdi.c ---- */
/* "major:minor" of the last filesystem mounted on path, from /proc/self/mountinfo (so without a
 * request to ourselves); *ours: its type is fuse.skyflok. 0 or -ENOENT. */
int bdi_find(const char *path, char *devno, size_t cap, int *ours);
void bdi_tune(const struct session *s);

/* ---- mount.c ---- */
/* The mountpoint as an absolute path (malloc'ed, also on failure perhaps), or a sentence why not.
 */
int mount_check(const struct session_opts *o, char **mountpoint, struct err *e);
int mount_new(struct session *s, const struct fuse_lowlevel_ops *ops, size_t size, struct err *e);
/* These do nothing, and succeed, when our mount is gone. mount_end: 0 or -EBUSY, after the kernel
 * has handed over its dirty pages. mount_abort: cuts every program off at once; -EPERM. */
int mount_end(const struct session *s);
void mount_detach(const struct session *s);
int mount_abort(const struct session *s);
/* Closes our side of the connection, which aborts it unless a thread of ours is inside a call on
 * it, and keeps the descriptor's number in use. */
void mount_disconnect(const struct session *s);

/* ---- notify.c ---- */
void session_inval(void *session, uint64_t ino, int64_t off, int64_t len);
/* Attributes of ino changed behind the kernel's back. Never blocks; fine inside an operation. */
void notify_attr(struct session *s, uint64_t ino);
/* Counts files open for writing. 0 or -ENOMEM. */
int writers_add(struct session *s, uint64_t ino);
void writers_release(struct session *s);
void writers_drop(struct session *s, uint64_t ino);
int writers_any(struct session *s, uint64_t ino);
/* Launders the page cache of ino, then answers the LSEEK, on a thread of the notify queue. */
void notify_then_lseek(fuse_req_t req, uint64_t ino, uint64_t off, int whence);

/* ---- park.c ---- */
enum park_kind { PARK_READ, PARK_WRITE, PARK_STATUS, PARK_FSYNC };
struct park {
	struct session *s;
	fuse_req_t req;
	enum park_kind kind;
	pid_t tid;        /* who asked; 0 unknown */
	struct iobuf buf; /* READ */
	size_t len, got;  /* WRITE: what to acknowledge; READ: what volume filled in */
	struct read_op *op;
	uint64_t
	    attr_ino; /* tell the kernel that its attributes changed, before the reply; 0 none */

	pthread_mutex_t lock;
	int state;                    /* by lock */
	int refs;                     /* by lock */
	int interrupted;              /* by lock */
	int result;                   /* by lock */
	_Atomic(pthread_t) canceller; /* the thread inside volume_read_cancel, or 0 */
	int deferred;                 /* only the canceller touches it */
	struct list all;              /* in session.parked or park_free; by park_lock */
};
int park_init(struct session *s);
void park_release(struct session *s);
/* Ends everything parked and waits for it. 0, or -ETIMEDOUT: then the session must not be freed. */
int park_drain(struct session *s);

/* A record for req; NULL when out of memory (req was answered). Pass park_done and the record to
 * the volume, then give park_submitted what the volume returned. Afterwards it is not yours. */
struct park *park_begin(fuse_req_t req, enum park_kind kind);
void park_submitted(struct park *p, int rc);
void park_done(void *park, int result);

int iobuf_get(struct iobuf_pool *pool, size_t len, struct iobuf *out); /* 0 or -ENOMEM */
void iobuf_put(struct iobuf_pool *pool, struct iobuf *b);

/* ---- ops_*.c: shared helpers ---- */
/* Who asks. groups_of adds the supplementary groups, which costs a read of /proc: only where they
 * decide something. */
struct cred_groups {
	struct cred c;
	gid_t few[64];
	gid_t *many; /* free() it */
};
struct cred cred_of(fuse_req_t req);
void cred_groups_of(fuse_req_t req, struct cred_groups *out);
/* Who changes content: uid 0 where the caller may keep setuid bits, else never 0. */
struct cred cred_of_writer(fuse_req_t req, int kill);
/* 1 when the file now has bits that a write by `kill` callers clears. */
int priv_bits_set(struct session *s, uint64_t ino);

void present_attr(const struct session *s, struct stat *st); /* uid=, gid=, umask= */
void entry_param_of(const struct session *s, const struct stat *st, struct fuse_entry_param *out);
void reply_entry(fuse_req_t req, int rc,
		 struct entry *e); /* also takes back a lost reply's reference */
void reply_attr(fuse_req_t req, int rc, struct stat *st);

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags);
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags);

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

#endif
