/* Finding and listing. */
#include <fcntl.h>

#include "fs/data/volume_internal.h"

/* "." and "..": only NFS export asks. Meta lock held. */
static int dot_locked(struct volume *v, uint64_t ino, const char *name, uint64_t *out)
{
	struct inode *i;
	int rc = inode_get_locked(v, ino, &i);

	if (rc)
		return rc;
	*out = ino;
	if (name[1])
		rc = S_ISDIR(i->type) ? 0 : -ENOTDIR;
	if (name[1] && ino != META_ROOT_INO)
		*out = i->n.parent;
	if (!rc && i->n.nlink == 0)
		rc = -ENOENT;
	inode_put(v, i);
	return rc;
}

static int lookup_locked(struct volume *v, uint64_t parent, const char *name, struct entry *out)
{
	struct dirent_row d;
	struct inode *i;
	uint64_t ino;
	size_t n;
	int rc;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		rc = dot_locked(v, parent, name, &ino);
	} else {
		rc = name_check(name, &n);
		if (!rc)
			rc = dirent_get(v->m, parent, name, n, &d);
		ino = d.ino;
	}
	if (!rc)
		rc = inode_get_locked(v, ino, &i);
	if (rc)
		return rc;
	rc = entry_fill(v, i, out);
	inode_put(v, i);
	return rc;
}

int volume_lookup(struct volume *v, uint64_t parent, const char *name, struct entry *out)
{
	int rc;

	meta_lock(v->m);
	rc = lookup_locked(v, parent, name, out);
	meta_unlock(v->m);
	return rc;
}

void volume_forget(struct volume *v, uint64_t ino, uint64_t count)
{
	struct inode *i;

	if (known_sub(&v->known, ino, count))
		return;
	i = inode_peek(v, ino); /* an orphan is always in memory */
	if (!i)
		return;
	if (i->orphan)
		inode_maybe_reap(v, i);
	inode_put(v, i);
}

int volume_open(struct volume *v, uint64_t ino, int flags)
{
	int rc = 0, writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
	struct inode *i;

	if (writes)
		rc = volume_writable(v);
	if (writes && !rc)
		rc = volume_may_create(v);
	if (!rc)
		rc = inode_get(v, ino, &i);
	if (rc)
		return rc;
	atomic_fetch_add(&i->opens, 1); /* and the reference stays */
	if (flags & O_TRUNC) {
		pthread_mutex_lock(&i->lock);
		rc = S_ISREG(i->type) ? file_truncate(v, i, 0) : 0;
		pthread_mutex_unlock(&i->lock);
	}
	if (rc)
		volume_release(v, ino);
	return rc;
}

void volume_release(struct volume *v, uint64_t ino)
{
	struct inode *i = inode_peek(v, ino);

	if (!i)
		return;
	if (atomic_fetch_sub(&i->opens, 1) == 1) {
		file_drop_lane(v, i, INT64_MAX);
		if (i->orphan)
			inode_maybe_reap(v, i);
	}
	inode_put(v, i); /* of open */
	inode_put(v, i);
}

/* --- listing --- */

#define PAGE 32

struct listed {
	struct dirent_row d;
	struct stat st;
	int counted;
};

/* A folder of a million names must not push a million inodes through the table: what is not in
 * memory is read from its row. Meta lock held. */
static int stat_locked(struct volume *v, uint64_t ino, struct stat *st)
{
	struct inode *i = inode_peek(v, ino);
	struct node n;
	int rc;

	if (!i) {
		rc = node_get(v->m, ino, &n);
		if (!rc)
			node_stat(v, &n, st);
		return rc;
	}
	pthread_mutex_lock(&i->lock);
	inode_stat(v, i, st);
	pthread_mutex_unlock(&i->lock);
	inode_put(v, i);
	return 0;
}

static void fill_dots(struct listed *page, int *n, struct inode *dir, uint64_t cookie)
{
	static const char *const names[] = { ".", ".." };

	for (uint64_t c = cookie + 1; c <= 2; c++, ++*n) {
		struct dirent_row *d = &page[*n].d;

		d->cookie = c;
		d->ino = c == 1 || dir->n.ino == META_ROOT_INO ? dir->n.ino : dir->n.parent;
		d->type = S_IFDIR;
		memcpy(d->name, names[c - 1], c + 1);
		page[*n].counted = 0;
	}
}

/* Meta lock held. How many, or a negative errno. */
static int list_page(struct volume *v, struct inode *dir, uint64_t cookie, int plus,
		     struct dirent_row *rows, struct listed *page)
{
	int n = 0, got = 0;

	fill_dots(page, &n, dir, cookie);
	if (dir->n.nlink)
		got = dirent_page(v->m, dir->n.ino, MAX(cookie, 2), rows, PAGE);
	if (got < 0)
		return got;
	for (int k = 0; k < got; k++, n++) {
		page[n].d = rows[k];
		page[n].counted = plus;
	}
	for (int k = 0; plus && k < n; k++) {
		int rc = stat_locked(v, page[k].d.ino, &page[k].st);

		/* counted while the name cannot go, so that its node stays */
		if (!rc && page[k].counted)
			rc = known_add(&v->known, page[k].d.ino);
		if (rc) {
			while (k--)
				if (page[k].counted)
					known_sub(&v->known, page[k].d.ino, 1);
			return rc;
		}
	}
	return n;
}

int volume_readdir(struct volume *v, uint64_t ino, uint64_t cookie, int plus,
		   int (*emit)(void *arg, const struct volume_dirent *d), void *arg)
{
	AUTO_FREE struct listed *page = malloc((PAGE + 2) * sizeof(*page));
	AUTO_FREE struct dirent_row *rows = malloc(PAGE * sizeof(*rows));
	struct inode *dir;
	int rc = page && rows ? 0 : -ENOMEM, full = 0, n = 0;

	if (!rc)
		rc = inode_get(v, ino, &dir);
	if (rc)
		return rc;
	if (!S_ISDIR(dir->type))
		rc = -ENOTDIR;
	while (!rc && !full) {
		meta_lock(v->m);
		n = list_page(v, dir, cookie, plus, rows, page);
		meta_unlock(v->m);
		if (n <= 0)
			break;
		for (int k = 0; k < n; k++) {
			struct listed *e = &page[k];
			struct volume_dirent d = { .ino = e->d.ino,
						   .cookie = e->d.cookie,
						   .type = e->d.type,
						   .name = e->d.name,
						   .st = plus ? &e->st : NULL };

			full = full || emit(arg, &d);
			if (full && e->counted)
				volume_forget(v, e->d.ino, 1);
			cookie = full ? cookie : e->d.cookie;
		}
	}
	if (!rc && n < 0)
		rc = n;
	pthread_mutex_lock(&dir->lock);
	inode_touch_atime(v, dir);
	pthread_mutex_unlock(&dir->lock);
	inode_put(v, dir);
	return rc;
}

int volume_readlink(struct volume *v, uint64_t ino, char *target, size_t cap)
{
	struct inode *i;
	size_t n = 0;
	int rc;

	meta_lock(v->m);
	rc = inode_get_locked(v, ino, &i);
	if (!rc && !S_ISLNK(i->type)) {
		inode_put(v, i);
		rc = -EINVAL;
	}
	if (!rc) {
		rc = link_get(v->m, ino, target, cap - 1, &n);
		if (!rc)
			target[n] = '\0';
		pthread_mutex_lock(&i->lock);
		inode_touch_atime(v, i);
		pthread_mutex_unlock(&i->lock);
		inode_put(v, i);
	}
	meta_unlock(v->m);
	return rc;
}
