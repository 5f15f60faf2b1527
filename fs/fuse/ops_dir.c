/* Names: lookup and forget, making and removing entries, reading folders. */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* Inode numbers are never reused, so one generation serves for NFS handles too. */
#define GENERATION 1

void present_attr(const struct session *s, struct stat *st)
{
	if (s->o.uid >= 0)
		st->st_uid = (uid_t)s->o.uid;
	if (s->o.gid >= 0)
		st->st_gid = (gid_t)s->o.gid;
	if (s->o.umask >= 0 && !S_ISLNK(st->st_mode))
		st->st_mode = (st->st_mode & S_IFMT) | (0777 & ~(mode_t)s->o.umask);
}

void entry_param_of(const struct session *s, const struct stat *st, struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){
		.ino = st->st_ino,
		.generation = GENERATION,
		.attr = *st,
		.attr_timeout = s->o.attr_timeout,
		.entry_timeout = s->o.attr_timeout,
	};
	present_attr(s, &out->attr);
}

void reply_entry(fuse_req_t req, int rc, struct entry *e)
{
	struct session *s = session_of(req);
	struct fuse_entry_param ep;

	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	entry_param_of(s, &e->st, &ep);
	/* -ENOENT: the caller was killed meanwhile, so the kernel did not count the reference. */
	if (fuse_reply_entry(req, &ep) == -ENOENT)
		volume_forget(s->v, e->st.st_ino, 1);
}

struct cred cred_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct cred){ .uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask };
}

void cred_groups_of(fuse_req_t req, struct cred_groups *out)
{
	int n;

	out->c = cred_of(req);
	out->many = NULL;
	n = fuse_req_getgroups(req, (int)ARRAY_LEN(out->few), out->few);
	if (n < 0)
		return; /* unknown, the volume then does not decide by them */
	out->c.groups = out->few;
	out->c.ngroups = n;
	if (n <= (int)ARRAY_LEN(out->few))
		return;
	out->c.groups = NULL;
	out->c.ngroups = 0;
	out->many = calloc((size_t)n, sizeof(gid_t));
	if (!out->many || fuse_req_getgroups(req, n, out->many) > n)
		return;
	out->c.groups = out->many;
	out->c.ngroups = n;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct session *s = session_of(req);
	struct fuse_entry_param none = { .entry_timeout = s->o.attr_timeout };
	struct entry e;
	int rc = volume_lookup(s->v, parent, name, &e);

	if (rc == -ENOENT)
		fuse_reply_entry(req, &none); /* lets the kernel remember that it is absent */
	else
		reply_entry(req, rc, &e);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	volume_forget(session_of(req)->v, ino, nlookup);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct session *s = session_of(req);

	for (size_t i = 0; i < count; i++)
		volume_forget(s->v, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* Setgid on a new entry stays only for members of the group; the kernel has already asked, for its
 * own part, so the groups are fetched only for the volume to agree. */
static void cred_of_maker(fuse_req_t req, mode_t mode, struct cred_groups *out)
{
	out->many = NULL;
	if ((mode & S_ISGID) && fuse_req_ctx(req)->uid)
		cred_groups_of(req, out);
	else
		out->c = cred_of(req);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct cred_groups g;
	struct entry e;
	int rc;

	cred_of_maker(req, mode, &g);
	rc = volume_mknod(session_of(req)->v, parent, name, mode, rdev, &g.c, &e);
	free(g.many);
	reply_entry(req, rc, &e);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct cred_groups g;
	struct entry e;
	int rc;

	cred_of_maker(req, mode, &g);
	rc = volume_mkdir(session_of(req)->v, parent, name, (mode & ~S_IFMT) | S_IFDIR, &g.c, &e);
	free(g.many);
	reply_entry(req, rc, &e);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct cred c = cred_of(req);
	struct entry e;
	int rc = volume_symlink(session_of(req)->v, parent, name, target, &c, &e);

	reply_entry(req, rc, &e);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[PATH_MAX + 1];
	int rc = volume_readlink(session_of(req)->v, ino, target, sizeof(target));

	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_readlink(req, target);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	struct entry e;
	int rc = volume_link(session_of(req)->v, ino, new_parent, new_name, &e);

	reply_entry(req, rc, &e);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -volume_unlink(session_of(req)->v, parent, name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -volume_rmdir(session_of(req)->v, parent, name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	struct park *p = park_begin(req, PARK_STATUS);

	if (p)
		park_submitted(p, volume_rename(p->s->v, parent, name, new_parent, new_name, flags,
						park_done, p));
}

/* ENOSYS once: the kernel then sends neither OPENDIR nor RELEASEDIR, and caches entries as if
 * cache_readdir were set. Cookies need no handle. */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS);
}

struct emit_ctx {
	fuse_req_t req;
	char *p;
	size_t cap, len;
	int plus;
};

static int is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* 1 when the entry does not fit any more. */
static int emit(void *arg, const struct volume_dirent *d)
{
	struct emit_ctx *c = arg;
	struct fuse_entry_param ep = { 0 };
	struct stat st = { .st_ino = d->ino, .st_mode = d->type };
	size_t n;

	if (!c->plus) {
		n = fuse_add_direntry(c->req, c->p + c->len, c->cap - c->len, d->name, &st,
				      (off_t)d->cookie);
	} else {
		/* Node id 0: "no attributes", so the kernel counts no reference on the dots. */
		if (is_dot(d->name) || !d->st)
			ep.attr = st;
		else
			entry_param_of(session_of(c->req), d->st, &ep);
		n = fuse_add_direntry_plus(c->req, c->p + c->len, c->cap - c->len, d->name, &ep,
					   (off_t)d->cookie);
	}
	if (n > c->cap - c->len)
		return 1;
	c->len += n;
	return 0;
}

static void readdir_common(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, int plus)
{
	struct session *s = session_of(req);
	struct iobuf b;
	struct emit_ctx c = { .req = req, .cap = MIN(size, (size_t)FUSE_MAX_IO), .plus = plus };
	int rc = iobuf_get(&s->bufs, c.cap, &b);

	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	c.p = b.p;
	rc = volume_readdir(s->v, ino, (uint64_t)off, plus, emit, &c);
	/* Entries that were emitted before an error have been counted as known to the kernel: they
	 * must reach it. The error comes again with the next call. */
	if (rc && !c.len)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_buf(req, c.p, c.len);
	iobuf_put(&s->bufs, &b);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_common(req, ino, size, off, 0);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	readdir_common(req, ino, size, off, 1);
}
