/* What the namespace operations share. All of them hold the meta lock, so names are stable
 * meanwhile. */
#include "fs/data/volume_internal.h"

#define NAME_LEN_MAX 255

int name_check(const char *name, size_t *n)
{
	*n = strnlen(name, NAME_LEN_MAX + 1);
	if (*n > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	if (*n == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/'))
		return -EINVAL;
	return 0;
}

int dir_get_locked(struct volume *v, uint64_t ino, struct inode **out)
{
	int rc = inode_get_locked(v, ino, out);

	if (rc)
		return rc;
	rc = !S_ISDIR((*out)->type) ? -ENOTDIR : (*out)->n.nlink == 0 ? -ENOENT : 0;
	if (rc) {
		inode_put(v, *out);
		*out = NULL;
	}
	return rc;
}

void dir_touch(struct volume *v, struct inode *dir, int entries, int subdirs)
{
	SCOPE_LOCK(&dir->lock);

	dir->n.mtime = dir->n.ctime = now_ns();
	dir->n.size += (uint64_t)(int64_t)entries;
	dir->n.nlink += (uint32_t)subdirs;
	inode_attr_changed(v, dir, 0);
}

void inode_unlinked(struct volume *v, struct inode *i)
{
	int gone;

	pthread_mutex_lock(&i->lock);
	i->n.ctime = now_ns();
	i->n.nlink = S_ISDIR(i->type) ? 0 : i->n.nlink - 1;
	gone = i->n.nlink == 0 && !i->orphan;
	if (gone) {
		i->orphan = 1;
		inode_ref(i);
	}
	inode_attr_changed(v, i, 0);
	pthread_mutex_unlock(&i->lock);
	if (gone)
		inode_maybe_reap(v, i);
}

/* The committer checks again under the meta lock before it removes anything. */
void inode_maybe_reap(struct volume *v, struct inode *i)
{
	if (atomic_load(&i->opens) == 0 && known_get(&v->known, i->n.ino) == 0)
		inode_reap(v, i);
}

int entry_fill(struct volume *v, struct inode *i, struct entry *out)
{
	int rc = known_add(&v->known, i->n.ino);

	if (rc)
		return rc;
	pthread_mutex_lock(&i->lock);
	inode_stat(v, i, &out->st);
	pthread_mutex_unlock(&i->lock);
	return 0;
}
