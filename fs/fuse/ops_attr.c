/* Attributes, extended attributes, and the size of the whole. */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <string.h>

enum { XATTR_MAX = 64 << 10 }; /* XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel */

_Static_assert(VOL_SET_MODE == FUSE_SET_ATTR_MODE && VOL_SET_UID == FUSE_SET_ATTR_UID &&
		   VOL_SET_GID == FUSE_SET_ATTR_GID && VOL_SET_SIZE == FUSE_SET_ATTR_SIZE &&
		   VOL_SET_ATIME == FUSE_SET_ATTR_ATIME && VOL_SET_MTIME == FUSE_SET_ATTR_MTIME &&
		   VOL_SET_ATIME_NOW == FUSE_SET_ATTR_ATIME_NOW &&
		   VOL_SET_MTIME_NOW == FUSE_SET_ATTR_MTIME_NOW &&
		   VOL_SET_CTIME == FUSE_SET_ATTR_CTIME,
	       "bits pass through");

enum {
	SET_PASSED = VOL_SET_MODE | VOL_SET_UID | VOL_SET_GID | VOL_SET_SIZE | VOL_SET_ATIME |
		     VOL_SET_MTIME | VOL_SET_ATIME_NOW | VOL_SET_MTIME_NOW | VOL_SET_CTIME
};

void reply_attr(fuse_req_t req, int rc, struct stat *st)
{
	const struct session *s = session_of(req);

	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	present_attr(s, st);
	fuse_reply_attr(req, st, s->o.attr_timeout);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int rc = volume_getattr(session_of(req)->v, ino, &st);

	reply_attr(req, rc, &st);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	struct cred_groups g = { .many = NULL };
	struct stat st;
	int set = to_set & SET_PASSED, rc;

	if (wire_kill_priv())
		set |= VOL_SET_KILL_PRIV;
	/* Setgid by somebody outside the group is dropped; only then do groups decide. */
	if ((set & VOL_SET_MODE) && (attr->st_mode & S_ISGID) && fuse_req_ctx(req)->uid)
		cred_groups_of(req, &g);
	else
		g.c = cred_of(req);
	rc = volume_setattr(session_of(req)->v, ino, attr, set, &g.c, &st);
	free(g.many);
	reply_attr(req, rc, &st);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int rc = volume_statfs(session_of(req)->v, &st);

	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_statfs(req, &st);
}

/* The answer to getxattr and listxattr: size 0 asks for the length only. */
static void reply_xattr(fuse_req_t req, int rc, size_t size, const char *value, size_t n)
{
	if (rc)
		fuse_reply_err(req, -rc);
	else if (!size)
		fuse_reply_xattr(req, n);
	else if (n > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, n);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct session *s = session_of(req);
	struct iobuf b = { 0 };
	size_t n = 0;
	int rc;

	size = MIN(size, (size_t)XATTR_MAX);
	/* The most frequent question by far, and nearly always absent: no buffer for a length. */
	rc = size ? iobuf_get(&s->bufs, size, &b) : 0;
	if (!rc)
		rc = volume_getxattr(s->v, ino, name, b.p, size, &n);
	reply_xattr(req, rc, size, b.p, n);
	iobuf_put(&s->bufs, &b);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags)
{
	struct cred_groups g = { .many = NULL };
	int rc;

	/* An access ACL changes the mode, and setgid goes when the caller is outside the group. */
	if (!strcmp(name, "system.posix_acl_access") && fuse_req_ctx(req)->uid)
		cred_groups_of(req, &g);
	else
		g.c = cred_of(req);
	rc = volume_setxattr(session_of(req)->v, ino, name, value, size, flags, &g.c);
	free(g.many);
	fuse_reply_err(req, -rc);
}

/* trusted.* is for administrators: listxattr(2) of local filesystems hides it from others. */
static size_t hide_trusted(char *names, size_t n)
{
	size_t out = 0;

	for (size_t at = 0, len; at < n; at += len) {
		len = strnlen(names + at, n - at - 1) + 1;
		if (!strncmp(names + at, "trusted.", 8))
			continue;
		memmove(names + out, names + at, len);
		out += len;
	}
	return out;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct session *s = session_of(req);
	struct iobuf b;
	size_t n = 0;
	int rc = iobuf_get(&s->bufs, XATTR_MAX, &b);

	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	rc = volume_listxattr(s->v, ino, b.p, XATTR_MAX, &n);
	if (!rc && fuse_req_ctx(req)->uid)
		n = hide_trusted(b.p, n);
	reply_xattr(req, rc, size, b.p, n);
	iobuf_put(&s->bufs, &b);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct cred c = cred_of(req);

	fuse_reply_err(req, -volume_removexattr(session_of(req)->v, ino, name, &c));
}
