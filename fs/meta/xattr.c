/* Extended attributes. */
#include <errno.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

static int check(uint64_t ino, const char *name)
{
	size_t n = strlen(name);

	return !ino || ino > META_INT_MAX || !n || n > META_NAME_MAX ? -EINVAL : 0;
}

static sqlite3_stmt *stmt_of(struct meta *m, enum sql_id id, uint64_t ino, const char *name)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (st) {
		db_bind(st, 1, ino);
		db_bind_blob(st, 2, name, strlen(name));
	}
	return st;
}

static int get_step(struct meta *m, uint64_t ino, const char *name, void *value, size_t cap,
		    size_t *n)
{
	sqlite3_stmt *st = stmt_of(m, SQL_XATTR_GET, ino, name);
	const void *p;
	int rc;

	if (!st)
		return tx_error(m);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -ENODATA;
	p = db_blob(st, 0, n);
	rc = !p ? -ENOMEM : cap && cap < *n ? -ERANGE : 0;
	if (!rc && cap)
		memcpy(value, p, *n);
	tx_done(st);
	return rc;
}

int xattr_get(struct meta *m, uint64_t ino, const char *name, void *value, size_t cap, size_t *n)
{
	int rc = check(ino, name);

	*n = 0;
	return rc ? rc : TX_READ(m, get_step(m, ino, name, value, cap, n));
}

static int put_step(struct meta *m, uint64_t ino, const char *name, const void *value, size_t n)
{
	sqlite3_stmt *st = stmt_of(m, SQL_XATTR_PUT, ino, name);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 3, value, n);
	return tx_exec(m, st);
}

int xattr_put(struct meta *m, uint64_t ino, const char *name, const void *value, size_t n)
{
	uint8_t key[CHANGE_KEY_MAX];
	size_t name_len = strlen(name);
	int rc = check(ino, name);

	if (n > META_XATTR_MAX)
		return -E2BIG;
	if (!rc)
		rc = tx_reserve(m, 1, 8 + name_len + n);
	if (rc)
		return rc;
	rc = TX_WRITE(m, put_step(m, ino, name, value, n));
	if (rc < 0)
		return rc;
	tx_put(m, OUTBOX_XATTR, key, name_key(key, ino, name, name_len), value, n, 0, 0);
	return 0;
}

static int delete_step(struct meta *m, uint64_t ino, const char *name)
{
	sqlite3_stmt *st = stmt_of(m, SQL_XATTR_DELETE, ino, name);

	return st ? tx_exec(m, st) : tx_error(m);
}

int xattr_delete(struct meta *m, uint64_t ino, const char *name)
{
	uint8_t key[CHANGE_KEY_MAX];
	size_t name_len = strlen(name);
	int rc = check(ino, name);

	if (!rc)
		rc = tx_reserve(m, 1, 8 + name_len);
	if (rc)
		return rc;
	rc = TX_WRITE(m, delete_step(m, ino, name));
	if (rc <= 0)
		return rc ? rc : -ENODATA;
	tx_delete(m, OUTBOX_XATTR, key, name_key(key, ino, name, name_len), 0);
	return 0;
}

static int list_step(struct meta *m, uint64_t ino, char *names, size_t cap, size_t *n)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_XATTR_LIST);
	int rc;

	*n = 0;
	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	while ((rc = tx_step(m, st)) > 0) {
		size_t len;
		const void *p = db_blob(st, 0, &len);

		if (!p) {
			tx_done(st);
			return -ENOMEM;
		}
		if (*n + len + 1 <= cap) {
			memcpy(names + *n, p, len);
			names[*n + len] = '\0';
		}
		*n += len + 1;
	}
	if (rc)
		return rc;
	return cap && *n > cap ? -ERANGE : 0;
}

int xattr_list(struct meta *m, uint64_t ino, char *names, size_t cap, size_t *n)
{
	return TX_READ(m, list_step(m, ino, names, cap, n));
}

static int any_step(struct meta *m, uint64_t ino)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_XATTR_ANY);
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	rc = tx_step(m, st);
	if (rc > 0)
		tx_done(st);
	return rc;
}

int xattr_any(struct meta *m, uint64_t ino)
{
	return TX_READ(m, any_step(m, ino));
}
