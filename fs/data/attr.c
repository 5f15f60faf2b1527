/* Attributes. Set explicitly they change in memory at once and in the row with the next commit;
 * size and mtime go with the content (DESIGN.md, "each file's content is a prefix of its own"). */
#include <sys/sysmacros.h>

#include "fs/data/acl.h"
#include "fs/data/volume_internal.h"

#define BLOCK_SIZE_HINT (128 << 10)
#define DAY_NS          (86400 * NS_PER_S)

void node_stat(struct volume *v, const struct node *n, struct stat *st)
{
	(void)v;
	*st = (struct stat){ .st_ino = n->ino,
			     .st_mode = n->mode,
			     .st_nlink = n->nlink,
			     .st_uid = n->uid,
			     .st_gid = n->gid,
			     .st_rdev = makedev(n->rdev >> 20, n->rdev & 0xfffff),
			     .st_size = (off_t)n->size,
			     .st_blksize = BLOCK_SIZE_HINT,
			     .st_blocks = (blkcnt_t)((n->bytes + 511) / 512),
			     .st_atim = timespec_of(n->atime),
			     .st_mtim = timespec_of(n->mtime),
			     .st_ctim = timespec_of(n->ctime) };
}

void inode_stat(struct volume *v, struct inode *i, struct stat *st)
{
	struct node n = i->n;

	n.bytes = S_ISREG(n.mode) ? file_map_bytes(i) : 0;
	node_stat(v, &n, st);
}

int cred_in_group(const struct cred *c, gid_t gid)
{
	if (c->gid == gid)
		return 1;
	if (!c->groups)
		return -1;
	for (int i = 0; i < c->ngroups; i++)
		if (c->groups[i] == gid)
			return 1;
	return 0;
}

int inode_kill_suid(struct volume *v, struct inode *i)
{
	uint32_t kill = 0;

	if (!S_ISREG(i->type))
		return 0;
	if (i->n.mode & S_ISUID)
		kill |= S_ISUID;
	/* without group execution setgid once meant mandatory locking: it stays */
	if ((i->n.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		kill |= S_ISGID;
	if (!kill)
		return 0;
	i->n.mode &= ~kill;
	inode_attr_changed(v, i, 0);
	return 1;
}

int inode_kill_caps(struct volume *v, struct inode *i)
{
	size_t n;
	int rc = 0;

	pthread_mutex_lock(&i->lock);
	if (i->caps == TRI_NO) {
		pthread_mutex_unlock(&i->lock);
		return 0;
	}
	pthread_mutex_unlock(&i->lock);
	meta_lock(v->m);
	rc = xattr_flags_load(v, i);
	if (!rc && i->caps == TRI_UNKNOWN) {
		enum tri caps = TRI_NO;

		if (i->xattrs == TRI_YES) {
			rc = xattr_get(v->m, i->n.ino, "security.capability", NULL, 0, &n);
			caps = rc == -ENODATA ? TRI_NO : TRI_YES;
			if (rc == -ENODATA)
				rc = 0;
		}
		pthread_mutex_lock(&i->lock);
		if (!rc)
			i->caps = caps;
		pthread_mutex_unlock(&i->lock);
	}
	if (!rc && i->caps == TRI_YES) {
		rc = xattr_delete(v->m, i->n.ino, "security.capability");
		pthread_mutex_lock(&i->lock);
		if (!rc) {
			i->caps = TRI_NO;
			i->xattrs = TRI_UNKNOWN;
		}
		pthread_mutex_unlock(&i->lock);
		volume_changed(v);
	}
	meta_unlock(v->m);
	return rc;
}

void inode_touch_atime(struct volume *v, struct inode *i)
{
	int64_t now;

	if (v->o.read_only || atomic_load_explicit(&v->failed, memory_order_relaxed))
		return;
	now = now_ns();
	if (i->n.atime > i->n.mtime && i->n.atime > i->n.ctime && now - i->n.atime < DAY_NS)
		return;
	i->n.atime = now;
	inode_attr_changed(v, i, 1);
}

void inode_set_mtime(struct inode *i, int64_t t)
{
	i->n.mtime = t;
	if (!i->data_dirty)
		i->row_mtime = t;
}

int volume_getattr(struct volume *v, uint64_t ino, struct stat *out)
{
	struct inode *i;
	int rc = inode_get(v, ino, &i);

	if (rc)
		return rc;
	pthread_mutex_lock(&i->lock);
	inode_stat(v, i, out);
	pthread_mutex_unlock(&i->lock);
	inode_put(v, i);
	return 0;
}

/* chmod of a file with an access ACL. Meta lock held, inode lock not. */
static int chmod_acl(struct volume *v, struct inode *i, mode_t mode)
{
	AUTO_FREE struct acl *a = NULL;
	AUTO_FREE uint8_t *value = NULL;
	size_t n = 0;
	int rc = xattr_flags_load(v, i);

	if (rc || i->xattrs != TRI_YES || S_ISLNK(i->type))
		return rc;
	rc = xattr_get(v->m, i->n.ino, ACL_ACCESS_XATTR, NULL, 0, &n);
	if (rc)
		return rc == -ENODATA ? 0 : rc;
	a = malloc(sizeof(*a));
	value = malloc(n);
	if (!a || !value)
		return -ENOMEM;
	rc = xattr_get(v->m, i->n.ino, ACL_ACCESS_XATTR, value, n, &n);
	if (!rc)
		rc = acl_parse(a, value, n);
	if (rc)
		return rc;
	acl_chmod(a, mode & 0777);
	acl_format(a, value);
	return xattr_put(v->m, i->n.ino, ACL_ACCESS_XATTR, value, n);
}

static void set_owner(struct inode *i, const struct stat *st, int set, const struct cred *cred)
{
	if (set & VOL_SET_UID)
		i->n.uid = st->st_uid;
	if (set & VOL_SET_GID)
		i->n.gid = st->st_gid;
	/* chown(2) takes them from everybody, as Linux does */
	if (cred && !S_ISDIR(i->type)) {
		i->n.mode &= ~(uint32_t)S_ISUID;
		if (i->n.mode & S_IXGRP)
			i->n.mode &= ~(uint32_t)S_ISGID;
	}
}

static void set_mode(struct inode *i, mode_t mode, const struct cred *cred)
{
	mode &= 07777;
	if (cred && cred->uid && !S_ISDIR(i->type) && cred_in_group(cred, i->n.gid) == 0)
		mode &= ~(mode_t)S_ISGID;
	i->n.mode = (i->n.mode & S_IFMT) | mode;
}

static void set_times(struct inode *i, const struct stat *st, int set)
{
	int64_t now = now_ns();

	if (set & VOL_SET_ATIME_NOW)
		i->n.atime = now;
	else if (set & VOL_SET_ATIME)
		i->n.atime = ns_of(st->st_atim);
	if (set & VOL_SET_MTIME_NOW)
		inode_set_mtime(i, now);
	else if (set & VOL_SET_MTIME)
		inode_set_mtime(i, ns_of(st->st_mtim));
	i->n.ctime = set & VOL_SET_CTIME ? ns_of(st->st_ctim) : now;
}

/* Inode lock held. */
static int setattr_locked(struct volume *v, struct inode *i, const struct stat *st, int set,
			  const struct cred *cred)
{
	int rc;

	if (set & VOL_SET_SIZE) {
		if (!S_ISREG(i->type))
			return S_ISDIR(i->type) ? -EISDIR : -EINVAL;
		if ((uint64_t)st->st_size > i->n.size) {
			rc = volume_may_create(v);
			if (rc)
				return rc;
		}
		rc = file_truncate(v, i, (uint64_t)st->st_size);
		if (rc)
			return rc;
	}
	if (set & (VOL_SET_UID | VOL_SET_GID))
		set_owner(i, st, set, cred);
	if ((set & VOL_SET_KILL_PRIV) || ((set & VOL_SET_SIZE) && cred && cred->uid))
		inode_kill_suid(v, i);
	if (set & VOL_SET_MODE)
		set_mode(i, st->st_mode, cred);
	set_times(i, st, set);
	inode_attr_changed(v, i, 0);
	return 0;
}

int volume_setattr(struct volume *v, uint64_t ino, const struct stat *st, int set,
		   const struct cred *cred, struct stat *out)
{
	struct inode *i;
	int rc = volume_writable(v), with_acl = set & VOL_SET_MODE;

	if (rc)
		return rc;
	if ((set & VOL_SET_SIZE) && (st->st_size < 0 || (uint64_t)st->st_size > file_size_max(v)))
		return -EFBIG;
	rc = inode_get(v, ino, &i);
	if (rc)
		return rc;
	if (set & (VOL_SET_SIZE | VOL_SET_UID | VOL_SET_GID | VOL_SET_KILL_PRIV))
		rc = inode_kill_caps(v, i);
	pthread_mutex_lock(&i->lock);
	with_acl = with_acl && i->xattrs != TRI_NO;
	pthread_mutex_unlock(&i->lock);
	if (with_acl)
		meta_lock(v->m);
	if (!rc && with_acl)
		rc = chmod_acl(v, i, st->st_mode);
	pthread_mutex_lock(&i->lock);
	if (!rc)
		rc = setattr_locked(v, i, st, set, cred);
	if (!rc)
		inode_stat(v, i, out);
	pthread_mutex_unlock(&i->lock);
	if (with_acl)
		meta_unlock(v->m);
	inode_put(v, i);
	return rc;
}
