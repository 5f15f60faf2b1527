/* Extended attributes: stored as they are, but for ACLs, which are also mode bits, and
 * user.skyflok.*, which are answers. */
#include <linux/limits.h>
#include <sys/xattr.h>

#include "fs/data/acl.h"
#include "fs/data/volume_internal.h"

#define CAPS_XATTR  "security.capability"
#define STATE_XATTR "user.skyflok.state"
#define OWN_PREFIX  "user.skyflok."
#define VALUE_MAX   (64u << 10)
#define LIST_MAX    (64u << 10)

int xattr_flags_load(struct volume *v, struct inode *i)
{
	int rc;

	if (i->xattrs != TRI_UNKNOWN)
		return 0;
	rc = xattr_any(v->m, i->n.ino);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&i->lock);
	i->xattrs = rc ? TRI_YES : TRI_NO;
	if (!rc)
		i->caps = i->default_acl = TRI_NO;
	pthread_mutex_unlock(&i->lock);
	return 0;
}

static int starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n > XATTR_NAME_MAX)
		return -ERANGE;
	if (starts(name, "user.") || starts(name, "trusted.") || starts(name, "security."))
		return name[strcspn(name, ".") + 1] ? 0 : -EINVAL;
	if (strcmp(name, ACL_ACCESS_XATTR) == 0 || strcmp(name, ACL_DEFAULT_XATTR) == 0)
		return 0;
	return -EOPNOTSUPP;
}

static int give(const char *text, void *value, size_t cap, size_t *n)
{
	*n = strlen(text);
	if (!cap)
		return 0;
	if (cap < *n)
		return -ERANGE;
	memcpy(value, text, *n);
	return 0;
}

/* Answers without the meta lock when nothing is there: the kernel asks for security.capability
 * often. */
static int surely_absent(struct inode *i, const char *name)
{
	SCOPE_LOCK(&i->lock);

	return i->xattrs == TRI_NO || (i->caps == TRI_NO && strcmp(name, CAPS_XATTR) == 0) ||
	       (i->default_acl == TRI_NO && strcmp(name, ACL_DEFAULT_XATTR) == 0);
}

int volume_getxattr(struct volume *v, uint64_t ino, const char *name, void *value, size_t cap,
		    size_t *n)
{
	struct inode *i;
	char text[64];
	int rc = name_ok(name);

	*n = 0;
	if (rc)
		return rc == -EOPNOTSUPP ? rc : -ENODATA;
	rc = inode_get(v, ino, &i);
	if (rc)
		return rc;
	if (strcmp(name, STATE_XATTR) == 0) {
		rc = S_ISREG(i->type) ? volume_state_xattr(v, i, text, sizeof(text)) : -ENODATA;
		if (!rc)
			rc = give(text, value, cap, n);
	} else if (surely_absent(i, name)) {
		rc = -ENODATA;
	} else {
		meta_lock(v->m);
		rc = xattr_flags_load(v, i);
		if (!rc)
			rc = xattr_get(v->m, ino, name, value, cap, n);
		if (rc == -ENODATA && strcmp(name, CAPS_XATTR) == 0) {
			pthread_mutex_lock(&i->lock);
			i->caps = TRI_NO;
			pthread_mutex_unlock(&i->lock);
		}
		meta_unlock(v->m);
	}
	inode_put(v, i);
	return rc;
}

int volume_listxattr(struct volume *v, uint64_t ino, char *names, size_t cap, size_t *n)
{
	struct inode *i;
	int rc = inode_get(v, ino, &i);

	*n = 0;
	if (rc)
		return rc;
	if (!surely_absent(i, "")) {
		meta_lock(v->m);
		rc = xattr_flags_load(v, i);
		if (!rc && i->xattrs == TRI_YES)
			rc = xattr_list(v->m, ino, names, cap, n);
		meta_unlock(v->m);
	}
	inode_put(v, i);
	return rc;
}

/* Meta lock held. The flags that are known once `name` was set or removed. */
static void note_change(struct volume *v, struct inode *i, const char *name, int present)
{
	pthread_mutex_lock(&i->lock);
	i->xattrs = present ? TRI_YES : TRI_UNKNOWN;
	if (strcmp(name, CAPS_XATTR) == 0)
		i->caps = present ? TRI_YES : TRI_NO;
	if (strcmp(name, ACL_DEFAULT_XATTR) == 0)
		i->default_acl = present ? TRI_YES : TRI_NO;
	i->n.ctime = now_ns();
	inode_attr_changed(v, i, 0);
	pthread_mutex_unlock(&i->lock);
}

static int check_flags(struct volume *v, uint64_t ino, const char *name, int flags, size_t n)
{
	size_t had = 0, list = 0;
	int rc = xattr_get(v->m, ino, name, NULL, 0, &had);

	if (rc && rc != -ENODATA)
		return rc;
	if (!rc)
		return flags & XATTR_CREATE ? -EEXIST : 0;
	if (flags & XATTR_REPLACE)
		return -ENODATA;
	rc = xattr_list(v->m, ino, NULL, 0, &list);
	if (rc)
		return rc;
	return list + strlen(name) + 1 > LIST_MAX ? -ENOSPC : 0;
}

/* An access ACL that says no more than mode bits is not kept. Meta lock held. *drop: remove
 * instead. */
static int apply_acl(struct volume *v, struct inode *i, const char *name, const void *value,
		     size_t n, const struct cred *cred, int *drop)
{
	AUTO_FREE struct acl *a = malloc(sizeof(*a));
	mode_t bits;
	int rc;

	if (!a)
		return -ENOMEM;
	if (S_ISLNK(i->type))
		return -EOPNOTSUPP;
	if (strcmp(name, ACL_DEFAULT_XATTR) == 0) {
		if (!S_ISDIR(i->type))
			return -EACCES;
		*drop = n <= ACL_XATTR_SIZE(0);
		return *drop ? 0 : acl_parse(a, value, n);
	}
	rc = acl_parse(a, value, n);
	if (rc)
		return rc;
	*drop = acl_mode(a, &bits);
	pthread_mutex_lock(&i->lock);
	bits |= i->n.mode & 07000;
	if (cred && cred->uid && cred_in_group(cred, i->n.gid) == 0)
		bits &= ~(mode_t)S_ISGID;
	i->n.mode = (i->n.mode & S_IFMT) | bits;
	inode_attr_changed(v, i, 0);
	pthread_mutex_unlock(&i->lock);
	return 0;
}

static int setxattr_locked(struct volume *v, struct inode *i, const char *name, const void *value,
			   size_t n, int flags, const struct cred *cred)
{
	int rc = check_flags(v, i->n.ino, name, flags, n), drop = 0;

	if (!rc && starts(name, "system."))
		rc = apply_acl(v, i, name, value, n, cred, &drop);
	if (rc)
		return rc;
	if (drop)
		rc = xattr_delete(v->m, i->n.ino, name);
	else
		rc = xattr_put(v->m, i->n.ino, name, value, n);
	if (drop && rc == -ENODATA)
		rc = 0;
	if (!rc)
		note_change(v, i, name, !drop);
	return rc;
}

int volume_setxattr(struct volume *v, uint64_t ino, const char *name, const void *value, size_t n,
		    int flags, const struct cred *cred)
{
	struct inode *i;
	int rc = volume_writable(v);

	if (!rc)
		rc = name_ok(name);
	if (rc)
		return rc;
	if (starts(name, OWN_PREFIX))
		return -EPERM;
	if (n > VALUE_MAX)
		return -E2BIG;
	meta_lock(v->m);
	rc = inode_get_locked(v, ino, &i);
	if (!rc) {
		rc = setxattr_locked(v, i, name, value, n, flags, cred);
		inode_put(v, i);
	}
	meta_unlock(v->m);
	if (!rc && starts(name, "system."))
		volume_inval_attr(v, ino);
	return rc;
}

int volume_removexattr(struct volume *v, uint64_t ino, const char *name, const struct cred *cred)
{
	struct inode *i;
	int rc = volume_writable(v);

	(void)cred;
	if (!rc)
		rc = name_ok(name);
	if (rc)
		return rc == -ERANGE ? -ENODATA : rc;
	if (starts(name, OWN_PREFIX))
		return -EPERM;
	meta_lock(v->m);
	rc = inode_get_locked(v, ino, &i);
	if (!rc) {
		rc = xattr_delete(v->m, ino, name);
		if (!rc)
			note_change(v, i, name, 0);
		inode_put(v, i);
	}
	meta_unlock(v->m);
	return rc;
}
