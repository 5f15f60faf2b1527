/* Renaming. One that replaces or exchanges names makes other content appear under a name: the
 * commit that contains it must contain that content. So while a commit fixes its content (`hold`)
 * such a rename is parked, unstarted, and runs after it (DESIGN.md, "Commit order"); the nodes that
 * it moves over a name are remembered for the commit (inode_renamed). */
#include <fcntl.h>
#include <stdio.h>

#include "fs/data/volume_internal.h"

struct rename_op {
	struct list link;
	struct volume *v;
	uint64_t parent, new_parent;
	unsigned flags;
	void (*done)(void *arg, int result);
	void *arg;
	char name[256], new_name[256];
};

/* What takes part; references held. */
struct move {
	struct inode *from, *to; /* folders; may be the same */
	struct inode *i, *j;     /* moved; replaced or exchanged, or NULL */
	const char *name, *new_name;
	size_t len, new_len;
	unsigned flags;
};

static void move_release(struct volume *v, struct move *m)
{
	struct inode *all[] = { m->i, m->j, m->from, m->to };

	for (size_t k = 0; k < ARRAY_LEN(all); k++)
		if (all[k])
			inode_put(v, all[k]);
}

/* -EINVAL when `top` is dir or above it. Meta lock held. */
static int check_not_below(struct volume *v, struct inode *top, struct inode *dir)
{
	uint64_t at = dir->n.ino;

	while (at != META_ROOT_INO) {
		struct inode *i;
		int rc;

		if (at == top->n.ino)
			return -EINVAL;
		rc = inode_get_locked(v, at, &i);
		if (rc)
			return rc;
		at = i->n.parent;
		inode_put(v, i);
	}
	return at == top->n.ino ? -EINVAL : 0;
}

static int find_locked(struct volume *v, uint64_t parent, const char *name, size_t len,
		       struct inode **out)
{
	struct dirent_row d;
	int rc = dirent_get(v->m, parent, name, len, &d);

	return rc ? rc : inode_get_locked(v, d.ino, out);
}

static int check_replace(struct volume *v, const struct move *m)
{
	int rc;

	if (m->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (S_ISDIR(m->j->type) && !S_ISDIR(m->i->type))
		return -EISDIR;
	if (!S_ISDIR(m->j->type) && S_ISDIR(m->i->type))
		return -ENOTDIR;
	if (!S_ISDIR(m->j->type))
		return 0;
	rc = dirent_empty(v->m, m->j->n.ino);
	return rc == 1 ? 0 : rc ? rc : -ENOTEMPTY;
}

/* Fills m and says whether it may be done. */
static int prepare(struct volume *v, uint64_t parent, uint64_t new_parent, struct move *m)
{
	int rc = dir_get_locked(v, parent, &m->from);

	if (!rc)
		rc = dir_get_locked(v, new_parent, &m->to);
	if (!rc)
		rc = find_locked(v, parent, m->name, m->len, &m->i);
	if (rc)
		return rc;
	rc = find_locked(v, new_parent, m->new_name, m->new_len, &m->j);
	if (rc == -ENOENT && !(m->flags & RENAME_EXCHANGE))
		rc = 0;
	if (rc)
		return rc;
	if (S_ISDIR(m->i->type) && m->from != m->to)
		rc = check_not_below(v, m->i, m->to);
	if (!rc && (m->flags & RENAME_EXCHANGE)) {
		if (S_ISDIR(m->j->type) && m->from != m->to)
			rc = check_not_below(v, m->j, m->from);
	} else if (!rc && m->j && m->i != m->j) {
		/* also the folder that holds the moved one: it is not empty */
		rc = check_replace(v, m);
	} else if (!rc && m->j && (m->flags & RENAME_NOREPLACE)) {
		rc = -EEXIST;
	}
	return rc;
}

static void moved(struct volume *v, struct inode *i, struct inode *to)
{
	SCOPE_LOCK(&i->lock);

	i->n.ctime = now_ns();
	if (S_ISDIR(i->type))
		i->n.parent = to->n.ino;
	inode_attr_changed(v, i, 0);
}

/* The second half of a change of names failed with rc, the first was taken back with undo: half of
 * it must never be committed. */
static int undone(struct volume *v, int rc, int undo)
{
	if (undo)
		volume_fail(v, undo, "taking back half a rename");
	return rc;
}

static int exchange(struct volume *v, struct move *m)
{
	int di = S_ISDIR(m->i->type), dj = S_ISDIR(m->j->type);
	int rc = dirent_retarget(v->m, m->from->n.ino, m->name, m->len, m->j->n.ino, m->j->type);

	if (rc)
		return rc;
	rc = dirent_retarget(v->m, m->to->n.ino, m->new_name, m->new_len, m->i->n.ino, m->i->type);
	if (rc)
		return undone(v, rc,
			      dirent_retarget(v->m, m->from->n.ino, m->name, m->len, m->i->n.ino,
					      m->i->type));
	moved(v, m->i, m->to);
	moved(v, m->j, m->from);
	inode_renamed(v, m->i);
	inode_renamed(v, m->j);
	dir_touch(v, m->from, 0, dj - di);
	dir_touch(v, m->to, 0, di - dj);
	return 0;
}

static int replace(struct volume *v, struct move *m)
{
	int dir = S_ISDIR(m->i->type);
	int rc =
	    dirent_retarget(v->m, m->to->n.ino, m->new_name, m->new_len, m->i->n.ino, m->i->type);

	if (rc)
		return rc;
	rc = dirent_delete(v->m, m->from->n.ino, m->name, m->len);
	if (rc)
		return undone(v, rc,
			      dirent_retarget(v->m, m->to->n.ino, m->new_name, m->new_len,
					      m->j->n.ino, m->j->type));
	moved(v, m->i, m->to);
	inode_renamed(v, m->i);
	dir_touch(v, m->from, -1, dir ? -1 : 0);
	dir_touch(v, m->to, 0, 0); /* one folder for another: the count stays */
	inode_unlinked(v, m->j);
	return 0;
}

static int move_name(struct volume *v, struct move *m)
{
	int dir = S_ISDIR(m->i->type), rc;
	struct dirent_row d = { .parent = m->to->n.ino,
				.ino = m->i->n.ino,
				.cookie = meta_next_cookie(v->m),
				.type = m->i->type,
				.name_len = (uint16_t)m->new_len };

	memcpy(d.name, m->new_name, m->new_len + 1);
	rc = dirent_insert(v->m, &d);
	if (rc)
		return rc;
	rc = dirent_delete(v->m, m->from->n.ino, m->name, m->len);
	if (rc)
		return undone(v, rc, dirent_delete(v->m, m->to->n.ino, m->new_name, m->new_len));
	moved(v, m->i, m->to);
	dir_touch(v, m->from, -1, dir ? -1 : 0);
	dir_touch(v, m->to, 1, dir ? 1 : 0);
	return 0;
}

/* -EINPROGRESS: has to wait for the commit (nothing was done). Meta lock held. */
static int rename_locked(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent,
			 const char *new_name, unsigned flags)
{
	struct move m = { .name = name, .new_name = new_name, .flags = flags };
	int rc = name_check(name, &m.len);

	if (!rc)
		rc = name_check(new_name, &m.new_len);
	if (rc)
		return rc == -EINVAL ? -EBUSY : rc; /* "." and ".." */
	rc = prepare(v, parent, new_parent, &m);
	if (!rc && m.j && m.i != m.j) {
		if (v->hold)
			rc = -EINPROGRESS;
		else if (flags & RENAME_EXCHANGE)
			rc = exchange(v, &m);
		else
			rc = replace(v, &m);
	} else if (!rc && !m.j) {
		rc = move_name(v, &m);
	}
	/* else two names of one node: rename(2) does nothing */
	move_release(v, &m);
	return rc;
}

int volume_rename(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent,
		  const char *new_name, unsigned flags, void (*done)(void *arg, int result),
		  void *arg)
{
	struct rename_op *op;
	int rc = volume_writable(v);

	if (rc)
		return rc;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	meta_lock(v->m);
	rc = rename_locked(v, parent, name, new_parent, new_name, flags);
	if (rc == -EINPROGRESS) {
		op = malloc(sizeof(*op));
		if (op) {
			*op = (struct rename_op){ .v = v,
						  .parent = parent,
						  .new_parent = new_parent,
						  .flags = flags,
						  .done = done,
						  .arg = arg };
			/* checked: at most 255 bytes */
			memcpy(op->name, name, strlen(name) + 1);
			memcpy(op->new_name, new_name, strlen(new_name) + 1);
			list_push_back(&v->parked, &op->link);
		} else {
			rc = -ENOMEM;
		}
	}
	meta_unlock(v->m);
	return rc;
}

static void run_parked(void *arg)
{
	struct rename_op *op = arg;
	int rc = volume_rename(op->v, op->parent, op->name, op->new_parent, op->new_name, op->flags,
			       op->done, op->arg);

	/* held again by the next commit: parked anew */
	if (rc != -EINPROGRESS)
		op->done(op->arg, rc);
	free(op);
}

void rename_run_parked(struct volume *v, struct list *parked)
{
	list_for_each_safe (l, parked) {
		list_remove(l);
		workq_submit(v->jobs, run_parked, list_entry(l, struct rename_op, link));
	}
}
