/* Content: open to release, and everything in between that moves bytes. */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>

/* Whoever stands for "a user without CAP_FSETID" when a root process gave that capability up. */
#define NOBODY_UID 65534

struct cred cred_of_writer(fuse_req_t req, int kill)
{
	struct cred c = cred_of(req);

	if (!kill)
		c.uid = 0;
	else if (!c.uid)
		c.uid = NOBODY_UID;
	return c;
}

int priv_bits_set(struct session *s, uint64_t ino)
{
	struct stat st;

	if (volume_getattr(s->v, ino, &st))
		return 0;
	return (st.st_mode & S_ISUID) || (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
}

static int is_writer(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* O_TRUNC as its own step, because it needs the caller: it clears setuid bits like any write. */
static int open_truncate(fuse_req_t req, uint64_t ino, int kill)
{
	struct session *s = session_of(req);
	struct cred c = cred_of_writer(req, kill);
	struct stat st = { .st_size = 0 }, after;
	int told = kill && priv_bits_set(s, ino);
	int rc;

	rc = volume_setattr(s->v, ino, &st, VOL_SET_SIZE | (kill ? VOL_SET_KILL_PRIV : 0), &c,
			    &after);
	/* OPEN's reply carries no attributes. */
	if (!rc && told)
		notify_attr(s, ino);
	return rc;
}

static int open_common(fuse_req_t req, uint64_t ino, struct fuse_file_info *fi)
{
	struct session *s = session_of(req);
	int kill = wire_kill_priv(), rc;

	rc = volume_open(s->v, ino, fi->flags & ~(O_TRUNC | O_CREAT | O_EXCL));
	if (rc)
		return rc;
	if (is_writer(fi->flags))
		rc = writers_add(s, ino);
	if (rc)
		goto release;
	if (fi->flags & O_TRUNC)
		rc = open_truncate(req, ino, kill);
	if (rc)
		goto drop;
	fi->keep_cache = 1;
	return 0;
drop:
	if (is_writer(fi->flags))
		writers_drop(s, ino);
release:
	volume_release(s->v, ino);
	return rc;
}

static void close_common(struct session *s, uint64_t ino, int flags)
{
	if (is_writer(flags))
		writers_drop(s, ino);
	volume_release(s->v, ino);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct session *s = session_of(req);
	int rc = open_common(req, ino, fi);

	if (rc)
		fuse_reply_err(req, -rc);
	else if (fuse_reply_open(req, fi) == -ENOENT)
		close_common(s, ino, fi->flags); /* interrupted: no RELEASE will come */
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	close_common(session_of(req), ino, fi->flags);
	fuse_reply_err(req, 0);
}

/* The name exists: what open(2) without O_EXCL does. The kernel gets here only when its own idea of
 * the name was older. */
static int create_existing(struct session *s, uint64_t parent, const char *name, struct entry *e)
{
	int rc = volume_lookup(s->v, parent, name, e);

	if (rc)
		return rc;
	if (S_ISREG(e->st.st_mode))
		return 0;
	volume_forget(s->v, e->st.st_ino, 1);
	return S_ISDIR(e->st.st_mode) ? -EISDIR : -EEXIST;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct session *s = session_of(req);
	struct fuse_entry_param ep;
	struct cred c = cred_of(req);
	struct entry e;
	int made = 1, rc;

	rc = volume_mknod(s->v, parent, name, (mode & ~S_IFMT) | S_IFREG, 0, &c, &e);
	if (rc == -EEXIST && !(fi->flags & O_EXCL)) {
		made = 0;
		rc = create_existing(s, parent, name, &e);
	}
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	if (made)
		fi->flags &= ~O_TRUNC; /* nothing to cut, and no second look at its times */
	rc = open_common(req, e.st.st_ino, fi);
	if (!rc && !made)
		rc = volume_getattr(s->v, e.st.st_ino, &e.st);
	if (rc) {
		if (made)
			volume_unlink(s->v, parent, name);
		volume_forget(s->v, e.st.st_ino, 1);
		fuse_reply_err(req, -rc);
		return;
	}
	entry_param_of(s, &e.st, &ep);
	if (fuse_reply_create(req, &ep, fi) == -ENOENT) {
		close_common(s, e.st.st_ino, fi->flags);
		volume_forget(s->v, e.st.st_ino, 1);
	}
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct park *p = park_begin(req, PARK_READ);
	int rc;

	if (!p)
		return;
	rc = iobuf_get(&p->s->bufs, size, &p->buf);
	if (!rc)
		rc = volume_read(p->s->v, ino, (uint64_t)off, p->buf.p, size, &p->got, &p->op,
				 park_done, p);
	park_submitted(p, rc);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct park *p = park_begin(req, PARK_WRITE);
	int kill = !fi->writepage && wire_kill_priv();
	struct cred c;

	if (!p)
		return;
	c = cred_of_writer(req, kill);
	p->len = size;
	/* WRITE's reply carries no attributes either. The question costs a look into the inode
	 * table, and only where the kernel could not tell by itself that nothing is to be
	 * cleared. */
	if (kill && priv_bits_set(p->s, ino))
		p->attr_ino = ino;
	park_submitted(p, volume_write(p->s->v, ino, (uint64_t)off, buf, size, fi->writepage, &c,
				       park_done, p));
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct park *p = park_begin(req, PARK_FSYNC);

	if (p)
		park_submitted(p, volume_fsync(p->s->v, ino, datasync, park_done, p));
}

/* FALLOCATE and COPY_FILE_RANGE have no flag for it on the wire: there, every user but root is one
 * without CAP_FSETID. */
static int kill_by_uid(fuse_req_t req)
{
	return fuse_req_ctx(req)->uid != 0;
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct session *s = session_of(req);
	int kill = kill_by_uid(req), told = kill && priv_bits_set(s, ino), rc;
	struct cred c = cred_of_writer(req, kill);

	rc = volume_fallocate(s->v, ino, mode, (uint64_t)off, (uint64_t)len, &c);
	if (!rc && told)
		notify_attr(s, ino);
	fuse_reply_err(req, -rc);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct session *s = session_of(req);
	uint64_t found = 0;
	int rc;

	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	/* Dirty pages that the volume has not seen would look like holes: `cp` of a file that is
	 * being written would lose them. Without a writer there are none; without the writeback
	 * cache there are those of mappings. */
	if (writers_any(s, ino)) {
		notify_then_lseek(req, ino, (uint64_t)off, whence);
		return;
	}
	rc = volume_lseek(s->v, ino, (uint64_t)off, whence, &found);
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_lseek(req, (off_t)found);
}

/* The kernel has written both ranges back before it asks, and drops its pages of the target after.
 */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct session *s = session_of(req);
	int kill = kill_by_uid(req), told = kill && priv_bits_set(s, ino_out), rc;
	struct cred c = cred_of_writer(req, kill);
	uint64_t copied = 0;

	rc = flags ? -EINVAL
		   : volume_copy_range(s->v, ino_in, (uint64_t)off_in, ino_out, (uint64_t)off_out,
				       len, &copied, &c);
	if (!rc && told)
		notify_attr(s, ino_out);
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_write(req, copied);
}
