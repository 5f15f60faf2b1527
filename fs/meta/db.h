/* SQLite, as the rest of the folder sees it: opening (the one place), stepping, and the one
 * translator of its errors. */
#ifndef FS_META_DB_H
#define FS_META_DB_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>
#include "fs/base/err.h"

/* The one hook through which SQLite files are opened, so that an encrypting VFS can follow; tests
 * put a failing one here. NULL: the default VFS. Set before anything is opened. */
extern const char *db_vfs;

enum db_role {
	DB_WRITER,       /* the connection that changes rows */
	DB_CHECKPOINTER, /* writes the main file only */
	DB_READER,       /* read-only */
};

/* Opens an existing file (may be empty for DB_WRITER). 0, or a negative errno with *e filled. The
 * connection has no mutex: one thread at a time. Never checkpoints or deletes the WAL by itself. */
int db_open(const char *path, enum db_role role, sqlite3 **out, struct err *e);
int db_set_cache(sqlite3 *db, uint64_t bytes); /* of pages kept in memory */
void db_close(sqlite3 *db);                    /* NULL is fine; all statements must be finalized */

/* 0, or the negative errno for an SQLite result code (extended or not): SQLITE_OK, ROW and DONE are
 * 0, -ENOSPC, -ENOMEM, -EBUSY, -EBADMSG (damaged, not a database), else -EIO. */
int db_errno(int rc);

/* Runs statements without results. An SQLite result code. */
int db_exec(sqlite3 *db, const char *sql);
/* The first column of the first row of a query as a number or text (copied, cut to cap). An SQLite
 * result code; SQLITE_DONE when there is no row. */
int db_query_int(sqlite3 *db, const char *sql, int64_t *v);
int db_query_text(sqlite3 *db, const char *sql, char *out, size_t cap);

/* Inline helpers; binding a number to an existing parameter cannot fail. Blobs are borrowed until
 * the statement is stepped; an empty one is an empty blob, not NULL. */
static inline void db_bind(sqlite3_stmt *st, int at, uint64_t v)
{
	sqlite3_bind_int64(st, at, (sqlite3_int64)v);
}
static inline int db_bind_blob(sqlite3_stmt *st, int at, const void *p, size_t n)
{
	return sqlite3_bind_blob64(st, at, n ? p : "", n, SQLITE_STATIC);
}
static inline uint64_t db_u64(sqlite3_stmt *st, int column)
{
	return (uint64_t)sqlite3_column_int64(st, column);
}
static inline uint32_t db_u32(sqlite3_stmt *st, int column)
{
	return (uint32_t)sqlite3_column_int64(st, column);
}
/* Valid until the next step. Never NULL unless memory ran out. */
const void *db_blob(sqlite3_stmt *st, int column, size_t *n);

#endif
