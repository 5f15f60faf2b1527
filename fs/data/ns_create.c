/* Making names: the entry is inserted at once, the node's row is written by the next commit. */
#include <sys/sysmacros.h>

#include "fs/data/acl.h"
#include "fs/data/volume_internal.h"

#define LINKS_MAX     1000000000u
#define SYMLINK_MAX   4095
#define DEV_MINOR_MAX 0xfffffu
#define DEV_MAJOR_MAX 0xfffu

/* The ACLs that a new node gets. */
struct inherited {
	uint8_t *deflt, *access; /* xattr values; NULL: none */
	size_t deflt_n, access_n;
};

static void inherited_release(struct inherited *h)
{
	free(h->deflt);
	free(h->access);
}

/* Meta lock held. Has dir a default ACL? Then *value (malloc'ed). */
static int default_acl_get(struct volume *v, struct inode *dir, uint8_t **value, size_t *n)
{
	int rc = xattr_flags_load(v, dir);

	*value = NULL;
	if (rc || dir->default_acl == TRI_NO || dir->xattrs == TRI_NO)
		return rc;
	rc = xattr_get(v->m, dir->n.ino, ACL_DEFAULT_XATTR, NULL, 0, n);
	if (!rc) {
		*value = malloc(*n ? *n : 1);
		if (!*value)
			return -ENOMEM;
		rc = xattr_get(v->m, dir->n.ino, ACL_DEFAULT_XATTR, *value, *n, n);
	}
	pthread_mutex_lock(&dir->lock);
	if (!rc || rc == -ENODATA)
		dir->default_acl = rc ? TRI_NO : TRI_YES;
	pthread_mutex_unlock(&dir->lock);
	return rc == -ENODATA ? 0 : rc;
}

/* Applies the parent's default ACL, or the umask, to *mode. */
static int inherit_acl(struct volume *v, struct inode *dir, mode_t *mode, const struct cred *cred,
		       struct inherited *h)
{
	AUTO_FREE struct acl *a = NULL;
	int rc;

	*h = (struct inherited){ 0 };
	if (S_ISLNK(*mode))
		return 0;
	rc = default_acl_get(v, dir, &h->deflt, &h->deflt_n);
	if (rc)
		return rc;
	if (!h->deflt) {
		*mode &= ~(cred ? cred->umask : 0);
		return 0;
	}
	a = malloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	rc = acl_parse(a, h->deflt, h->deflt_n);
	if (rc)
		return rc;
	if (!acl_inherit(a, mode)) {
		h->access_n = ACL_XATTR_SIZE(a->n);
		h->access = malloc(h->access_n);
		if (!h->access)
			return -ENOMEM;
		acl_format(a, h->access);
	}
	if (!S_ISDIR(*mode)) {
		free(h->deflt);
		h->deflt = NULL;
	}
	return 0;
}

static void node_init(struct node *n, struct inode *dir, mode_t mode, dev_t rdev,
		      const struct cred *cred)
{
	int64_t now = now_ns();

	*n = (struct node){ .mode = mode,
			    .nlink = S_ISDIR(mode) ? 2 : 1,
			    .uid = cred ? cred->uid : 0,
			    .gid = cred ? cred->gid : 0,
			    .rdev = major(rdev) << 20 | minor(rdev),
			    .parent = S_ISDIR(mode) ? dir->n.ino : 0,
			    .atime = now,
			    .mtime = now,
			    .ctime = now,
			    .btime = now };
	pthread_mutex_lock(&dir->lock);
	if (dir->n.mode & S_ISGID) {
		n->gid = dir->n.gid;
		if (S_ISDIR(mode))
			n->mode |= S_ISGID;
		else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && cred && cred->uid &&
			 cred_in_group(cred, n->gid) == 0)
			n->mode &= ~(uint32_t)S_ISGID;
	}
	pthread_mutex_unlock(&dir->lock);
}

/* Rows besides the name that a node has from its beginning. */
static int put_rows(struct volume *v, struct inode *i, const char *target,
		    const struct inherited *h)
{
	uint64_t ino = i->n.ino;
	int rc = 0;

	if (target)
		rc = link_put(v->m, ino, target, strlen(target));
	if (!rc && h->access)
		rc = xattr_put(v->m, ino, ACL_ACCESS_XATTR, h->access, h->access_n);
	if (!rc && h->deflt)
		rc = xattr_put(v->m, ino, ACL_DEFAULT_XATTR, h->deflt, h->deflt_n);
	if (h->access || h->deflt)
		i->xattrs = TRI_YES;
	if (h->deflt)
		i->default_acl = TRI_YES;
	return rc;
}

/* Meta lock held. */
static int insert_locked(struct volume *v, struct inode *dir, const char *name, size_t len,
			 struct node *n, const char *target, const struct inherited *h,
			 struct entry *out)
{
	struct dirent_row d;
	struct inode *i;
	int rc;

	n->ino = meta_next_ino(v->m);
	d.parent = dir->n.ino;
	d.ino = n->ino;
	d.cookie = meta_next_cookie(v->m);
	d.type = n->mode & S_IFMT;
	d.name_len = (uint16_t)len;
	memcpy(d.name, name, len + 1);
	i = inode_create(v, n);
	if (!i)
		return -ENOMEM;
	i->xattrs = i->caps = i->default_acl = TRI_NO;
	baserows_set_empty(&i->base);
	rc = dirent_insert(v->m, &d);
	if (rc) {
		inode_free(i);
		return rc;
	}
	rc = put_rows(v, i, target, h);
	if (!rc)
		rc = entry_fill(v, i, out);
	if (rc) {
		/* without its name nothing finds what was put; node_delete removes rows by number
		 */
		int undo = dirent_delete(v->m, d.parent, name, len);

		if (undo)
			volume_fail(v, undo, "taking back half a new name");
		(void)node_delete(v->m, n->ino);
		inode_free(i);
		return rc;
	}
	inode_publish(v, i);
	pthread_mutex_lock(&i->lock);
	inode_attr_changed(v, i, 0);
	pthread_mutex_unlock(&i->lock);
	dir_touch(v, dir, 1, S_ISDIR(n->mode) ? 1 : 0);
	inode_put(v, i);
	return 0;
}

static int make(struct volume *v, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
		const char *target, const struct cred *cred, struct entry *out)
{
	struct inherited h = { 0 };
	struct inode *dir;
	struct node n;
	size_t len;
	int rc = volume_writable(v);

	if (!rc)
		rc = name_check(name, &len);
	if (rc == -EINVAL)
		rc = -EEXIST; /* "." and ".." */
	if (!rc)
		rc = volume_may_create(v);
	if (rc)
		return rc;
	meta_lock(v->m);
	rc = dir_get_locked(v, parent, &dir);
	if (rc) {
		meta_unlock(v->m);
		return rc;
	}
	rc = inherit_acl(v, dir, &mode, cred, &h);
	if (!rc) {
		node_init(&n, dir, mode, rdev, cred);
		if (target)
			n.size = strlen(target);
		rc = insert_locked(v, dir, name, len, &n, target, &h, out);
	}
	inode_put(v, dir);
	meta_unlock(v->m);
	inherited_release(&h);
	return rc;
}

int volume_mknod(struct volume *v, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
		 const struct cred *cred, struct entry *out)
{
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	if (S_ISDIR(mode) || S_ISLNK(mode))
		return -EINVAL;
	if (!S_ISCHR(mode) && !S_ISBLK(mode))
		rdev = 0;
	if (major(rdev) > DEV_MAJOR_MAX || minor(rdev) > DEV_MINOR_MAX)
		return -EINVAL;
	return make(v, parent, name, mode, rdev, NULL, cred, out);
}

int volume_mkdir(struct volume *v, uint64_t parent, const char *name, mode_t mode,
		 const struct cred *cred, struct entry *out)
{
	return make(v, parent, name, (mode & 07777) | S_IFDIR, 0, NULL, cred, out);
}

int volume_symlink(struct volume *v, uint64_t parent, const char *name, const char *target,
		   const struct cred *cred, struct entry *out)
{
	size_t n = strnlen(target, SYMLINK_MAX + 1);

	if (!n)
		return -ENOENT;
	if (n > SYMLINK_MAX)
		return -ENAMETOOLONG;
	return make(v, parent, name, S_IFLNK | 0777, 0, target, cred, out);
}

static int link_locked(struct volume *v, struct inode *i, struct inode *dir, const char *name,
		       size_t len, struct entry *out)
{
	struct dirent_row d;
	int rc;

	if (S_ISDIR(i->type))
		return -EPERM;
	if (i->n.nlink == 0)
		return -ENOENT;
	if (i->n.nlink >= LINKS_MAX)
		return -EMLINK;
	d = (struct dirent_row){ .parent = dir->n.ino,
				 .ino = i->n.ino,
				 .cookie = meta_next_cookie(v->m),
				 .type = i->type,
				 .name_len = (uint16_t)len };
	memcpy(d.name, name, len + 1);
	rc = dirent_insert(v->m, &d);
	if (rc)
		return rc;
	pthread_mutex_lock(&i->lock);
	i->n.nlink++;
	i->n.ctime = now_ns();
	inode_attr_changed(v, i, 0);
	pthread_mutex_unlock(&i->lock);
	dir_touch(v, dir, 1, 0);
	return entry_fill(v, i, out);
}

int volume_link(struct volume *v, uint64_t ino, uint64_t parent, const char *name,
		struct entry *out)
{
	struct inode *i, *dir;
	size_t len;
	int rc = volume_writable(v);

	if (!rc)
		rc = name_check(name, &len);
	if (rc)
		return rc == -EINVAL ? -EEXIST : rc;
	meta_lock(v->m);
	rc = inode_get_locked(v, ino, &i);
	if (!rc) {
		rc = dir_get_locked(v, parent, &dir);
		if (!rc) {
			rc = link_locked(v, i, dir, name, len, out);
			inode_put(v, dir);
		}
		inode_put(v, i);
	}
	meta_unlock(v->m);
	return rc;
}
