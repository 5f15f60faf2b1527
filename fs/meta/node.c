/* Nodes and symlink targets. */
#include "fs/meta/node.h"

#include <errno.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

/* ---- Nodes ---- */

static int node_get_step(struct meta *m, uint64_t ino, struct node *out)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_NODE_GET);
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	*out = (struct node){
		.ino = ino,
		.mode = db_u32(st, 1),
		.nlink = db_u32(st, 2),
		.uid = db_u32(st, 3),
		.gid = db_u32(st, 4),
		.rdev = db_u32(st, 5),
		.flags = db_u32(st, 6),
		.size = db_u64(st, 7),
		.bytes = db_u64(st, 8),
		.parent = db_u64(st, 9),
		.atime = sqlite3_column_int64(st, 10),
		.mtime = sqlite3_column_int64(st, 11),
		.ctime = sqlite3_column_int64(st, 12),
		.btime = sqlite3_column_int64(st, 13),
	};
	tx_done(st);
	return 0;
}

int node_get(struct meta *m, uint64_t ino, struct node *out)
{
	return TX_READ(m, node_get_step(m, ino, out));
}

int node_bind_step(struct meta *m, enum sql_id id, const struct node *n)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, n->ino);
	db_bind(st, 2, n->mode);
	db_bind(st, 3, n->nlink);
	db_bind(st, 4, n->uid);
	db_bind(st, 5, n->gid);
	db_bind(st, 6, n->rdev);
	db_bind(st, 7, n->flags);
	db_bind(st, 8, n->size);
	db_bind(st, 9, n->bytes);
	db_bind(st, 10, n->parent);
	db_bind(st, 11, (uint64_t)n->atime);
	db_bind(st, 12, (uint64_t)n->mtime);
	db_bind(st, 13, (uint64_t)n->ctime);
	db_bind(st, 14, (uint64_t)n->btime);
	return tx_exec(m, st);
}

/* 1: it is new, 0: it was there. Which one comes first saves a search: new numbers only grow. */
static int node_put_step(struct meta *m, const struct node *n)
{
	int rc;

	if (n->ino > m->max_ino) {
		rc = node_bind_step(m, SQL_NODE_INSERT, n);
		if (rc)
			return rc;
	}
	rc = node_bind_step(m, SQL_NODE_UPDATE, n);
	if (rc)
		return rc < 0 ? rc : 0;
	return node_bind_step(m, SQL_NODE_INSERT, n);
}

int node_put(struct meta *m, const struct node *n, int atime_only)
{
	uint8_t key[NODE_KEY], row[NODE_ROW];
	int rc;

	if (!n->ino || n->ino > META_INT_MAX || n->size > META_INT_MAX || n->bytes > META_INT_MAX ||
	    n->parent > META_INT_MAX)
		return -EINVAL;
	rc = tx_reserve(m, 1, NODE_KEY + NODE_ROW);
	if (rc)
		return rc;
	rc = TX_WRITE(m, node_put_step(m, n));
	if (rc < 0)
		return rc;
	be64_put(key, n->ino);
	node_encode(n, row);
	/* A new row is published, whatever the caller thinks of it. */
	tx_put(m, OUTBOX_NODE, key, sizeof(key), row, sizeof(row), rc,
	       atime_only && !rc ? CHANGE_LOCAL : 0);
	m->totals.inodes += (uint64_t)rc;
	if (n->ino > m->max_ino)
		m->max_ino = n->ino;
	return 0;
}

static int delete_by_ino(struct meta *m, enum sql_id id, uint64_t ino)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	return tx_exec(m, st);
}

static int delete_xattrs(struct meta *m, uint64_t ino)
{
	char name[META_NAME_MAX + 1];
	int rc;

	for (;;) {
		sqlite3_stmt *st = tx_stmt(m, SQL_XATTR_LIST);
		const void *p;
		size_t n;

		if (!st)
			return tx_error(m);
		db_bind(st, 1, ino);
		rc = tx_step(m, st);
		if (rc <= 0)
			return rc;
		p = db_blob(st, 0, &n);
		n = p ? MIN(n, META_NAME_MAX) : 0;
		memcpy(name, p ? p : "", n);
		name[n] = '\0';
		tx_done(st);
		rc = xattr_delete(m, ino, name);
		if (rc)
			return rc == -ENODATA ? -EIO : rc;
	}
}

int node_delete(struct meta *m, uint64_t ino)
{
	uint8_t key[NODE_KEY];
	int rc = delete_xattrs(m, ino), link;

	if (rc < 0) {
		tx_recover(m, 0);
		return rc;
	}
	rc = tx_reserve(m, 2, 2 * sizeof(key));
	if (rc)
		return rc;
	link = TX_WRITE(m, delete_by_ino(m, SQL_LINK_DELETE, ino));
	if (link < 0)
		return link;
	be64_put(key, ino);
	if (link)
		tx_delete(m, OUTBOX_LINK, key, sizeof(key), 0);
	rc = TX_WRITE(m, delete_by_ino(m, SQL_NODE_DELETE, ino));
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	tx_delete(m, OUTBOX_NODE, key, sizeof(key), 0);
	m->totals.inodes--;
	return 0;
}

int node_each_orphan(struct meta *m, int (*fn)(void *arg, uint64_t ino), void *arg)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_NODE_ORPHANS);
	int rc = st ? 0 : tx_error(m);

	while (!rc && (rc = tx_step(m, st)) > 0) {
		rc = fn(arg, db_u64(st, 0));
		if (rc)
			tx_done(st);
	}
	tx_recover(m, 0);
	return rc;
}

/* ---- Symlink targets ---- */

static int link_get_step(struct meta *m, uint64_t ino, char *target, size_t cap, size_t *n)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_LINK_GET);
	const void *p;
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	p = db_blob(st, 0, n);
	if (p && cap)
		memcpy(target, p, MIN(*n, cap));
	tx_done(st);
	return p ? 0 : -ENOMEM;
}

int link_get(struct meta *m, uint64_t ino, char *target, size_t cap, size_t *n)
{
	*n = 0;
	return TX_READ(m, link_get_step(m, ino, target, cap, n));
}

static int link_put_step(struct meta *m, uint64_t ino, const char *target, size_t n)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_LINK_PUT);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	db_bind_blob(st, 2, target, n);
	return tx_exec(m, st);
}

int link_put(struct meta *m, uint64_t ino, const char *target, size_t n)
{
	uint8_t key[8];
	int rc;

	if (n > META_LINK_MAX)
		return -ENAMETOOLONG;
	if (!ino || ino > META_INT_MAX)
		return -EINVAL;
	rc = tx_reserve(m, 1, sizeof(key) + n);
	if (rc)
		return rc;
	rc = TX_WRITE(m, link_put_step(m, ino, target, n));
	if (rc < 0)
		return rc;
	be64_put(key, ino);
	tx_put(m, OUTBOX_LINK, key, sizeof(key), target, n, 0, 0);
	return 0;
}
