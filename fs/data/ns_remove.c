/* Removing names. */
#include "fs/data/volume_internal.h"

/* Meta lock held. The node behind a name, with a reference, when it is a folder or not, as `dir`
 * says. */
static int victim_locked(struct volume *v, uint64_t parent, const char *name, size_t len, int dir,
			 struct inode **out)
{
	struct dirent_row d;
	int rc = dirent_get(v->m, parent, name, len, &d);

	if (rc)
		return rc;
	if (S_ISDIR(d.type) != dir)
		return dir ? -ENOTDIR : -EISDIR;
	if (dir) {
		rc = dirent_empty(v->m, d.ino);
		if (rc != 1)
			return rc ? rc : -ENOTEMPTY;
	}
	return inode_get_locked(v, d.ino, out);
}

static int remove_name(struct volume *v, uint64_t parent, const char *name, int dir)
{
	struct inode *p, *i;
	size_t len;
	int rc = volume_writable(v);

	if (!rc)
		rc = name_check(name, &len);
	if (rc == -EINVAL && strcmp(name, "..") == 0)
		rc = -ENOTEMPTY;
	if (rc)
		return rc;
	meta_lock(v->m);
	rc = dir_get_locked(v, parent, &p);
	if (!rc) {
		rc = victim_locked(v, parent, name, len, dir, &i);
		if (!rc) {
			rc = dirent_delete(v->m, parent, name, len);
			if (!rc) {
				dir_touch(v, p, -1, dir ? -1 : 0);
				inode_unlinked(v, i);
			}
			inode_put(v, i);
		}
		inode_put(v, p);
	}
	meta_unlock(v->m);
	return rc;
}

int volume_unlink(struct volume *v, uint64_t parent, const char *name)
{
	return remove_name(v, parent, name, 0);
}

int volume_rmdir(struct volume *v, uint64_t parent, const char *name)
{
	return remove_name(v, parent, name, 1);
}
