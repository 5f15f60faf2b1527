/* Names: the entries of folders. */
#include <errno.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

static int check(uint64_t parent, size_t n)
{
	return !parent || parent > META_INT_MAX || !n || n > META_NAME_MAX ? -EINVAL : 0;
}

/* The statement with parent and name bound. */
static sqlite3_stmt *stmt_of(struct meta *m, enum sql_id id, uint64_t parent, const char *name,
			     size_t n)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (st) {
		db_bind(st, 1, parent);
		db_bind_blob(st, 2, name, n);
	}
	return st;
}

static void set_name(struct dirent_row *d, const void *name, size_t n)
{
	d->name_len = (uint16_t)MIN(n, META_NAME_MAX);
	memcpy(d->name, name, d->name_len);
	d->name[d->name_len] = '\0';
}

static int get_step(struct meta *m, uint64_t parent, const char *name, size_t n,
		    struct dirent_row *out)
{
	sqlite3_stmt *st = stmt_of(m, SQL_NAME_GET, parent, name, n);
	int rc;

	if (!st)
		return tx_error(m);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	out->parent = parent;
	out->ino = db_u64(st, 0);
	out->cookie = db_u64(st, 1);
	out->type = db_u32(st, 2);
	set_name(out, name, n);
	tx_done(st);
	return 0;
}

int dirent_get(struct meta *m, uint64_t parent, const char *name, size_t n, struct dirent_row *out)
{
	int rc = check(parent, n);

	return rc ? rc : TX_READ(m, get_step(m, parent, name, n, out));
}

static int insert_step(struct meta *m, const struct dirent_row *d)
{
	sqlite3_stmt *st = stmt_of(m, SQL_NAME_INSERT, d->parent, d->name, d->name_len);

	if (!st)
		return tx_error(m);
	db_bind(st, 3, d->ino);
	db_bind(st, 4, d->cookie);
	db_bind(st, 5, d->type);
	return tx_exec(m, st);
}

static void note(struct meta *m, const struct dirent_row *d, int is_new)
{
	uint8_t key[CHANGE_KEY_MAX], row[NAME_ROW];
	size_t key_len = name_key(key, d->parent, d->name, d->name_len);

	name_encode(d, row);
	tx_put(m, OUTBOX_NAME, key, key_len, row, sizeof(row), is_new, 0);
}

int dirent_insert(struct meta *m, const struct dirent_row *d)
{
	int rc = check(d->parent, d->name_len);

	if (!rc && (!d->ino || d->ino > META_INT_MAX || d->cookie > META_INT_MAX))
		rc = -EINVAL;
	if (!rc)
		rc = tx_reserve(m, 1, 8u + d->name_len + NAME_ROW);
	if (rc)
		return rc;
	rc = TX_WRITE(m, insert_step(m, d));
	if (rc <= 0)
		return rc ? rc : -EEXIST;
	note(m, d, 1);
	return 0;
}

static int delete_step(struct meta *m, uint64_t parent, const char *name, size_t n)
{
	sqlite3_stmt *st = stmt_of(m, SQL_NAME_DELETE, parent, name, n);

	return st ? tx_exec(m, st) : tx_error(m);
}

int dirent_delete(struct meta *m, uint64_t parent, const char *name, size_t n)
{
	uint8_t key[CHANGE_KEY_MAX];
	int rc = check(parent, n);

	if (!rc)
		rc = tx_reserve(m, 1, 8 + n);
	if (rc)
		return rc;
	rc = TX_WRITE(m, delete_step(m, parent, name, n));
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	tx_delete(m, OUTBOX_NAME, key, name_key(key, parent, name, n), 0);
	return 0;
}

static int retarget_step(struct meta *m, const struct dirent_row *d)
{
	sqlite3_stmt *st = stmt_of(m, SQL_NAME_RETARGET, d->parent, d->name, d->name_len);

	if (!st)
		return tx_error(m);
	db_bind(st, 3, d->ino);
	db_bind(st, 4, d->type);
	return tx_exec(m, st);
}

int dirent_retarget(struct meta *m, uint64_t parent, const char *name, size_t n, uint64_t ino,
		    uint32_t type)
{
	struct dirent_row d;
	int rc;

	if (!ino || ino > META_INT_MAX)
		return -EINVAL;
	rc = dirent_get(m, parent, name, n, &d);
	if (!rc)
		rc = tx_reserve(m, 1, 8 + n + NAME_ROW);
	if (rc)
		return rc;
	d.ino = ino;
	d.type = type;
	rc = TX_WRITE(m, retarget_step(m, &d));
	if (rc < 0)
		return rc;
	note(m, &d, 0);
	return 0;
}

static int page_step(struct meta *m, uint64_t parent, uint64_t after, struct dirent_row *out,
		     int max)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_NAME_PAGE);
	int rc, count = 0;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, parent);
	db_bind(st, 2, after);
	db_bind(st, 3, (uint64_t)max);
	while ((rc = tx_step(m, st)) > 0) {
		struct dirent_row *d = &out[count];
		size_t n;
		const void *name = db_blob(st, 0, &n);

		if (!name) {
			tx_done(st);
			return -ENOMEM;
		}
		d->parent = parent;
		d->ino = db_u64(st, 1);
		d->cookie = db_u64(st, 2);
		d->type = db_u32(st, 3);
		set_name(d, name, n);
		count++;
	}
	return rc ? rc : count;
}

int dirent_page(struct meta *m, uint64_t parent, uint64_t after, struct dirent_row *out, int max)
{
	if (max <= 0)
		return -EINVAL;
	if (after >= META_INT_MAX)
		return 0;
	return TX_READ(m, page_step(m, parent, after, out, max));
}

static int any_step(struct meta *m, uint64_t parent)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_NAME_ANY);
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, parent);
	rc = tx_step(m, st);
	if (rc > 0)
		tx_done(st);
	return rc;
}

int dirent_empty(struct meta *m, uint64_t parent)
{
	int rc = TX_READ(m, any_step(m, parent));

	return rc < 0 ? rc : !rc;
}
