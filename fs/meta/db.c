#include "fs/meta/db.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "fs/base/log.h"

/* Kilobytes of page cache. The writer's holds a working set of some hundred thousand names; the
 * daemon as a whole is to stay below 200 MB. */
#define CACHE_WRITER 16384
#define CACHE_OTHER  2048
#define BUSY_MS      2000

const char *db_vfs;

static pthread_once_t config_once = PTHREAD_ONCE_INIT;

/* SQLite knows the place and the system's errno: more than any of its result codes says. */
static void db_log(void *arg, int rc, const char *text)
{
	switch (rc & 0xff) {
	case SQLITE_SCHEMA:
	case SQLITE_CONSTRAINT:
	case SQLITE_FULL: /* told where it is met, once */
		return;
	case SQLITE_NOTICE:
		log_info("database: %s", text);
		return;
	default:
		log_warn("database: %s (SQLite code %d)", text, rc);
	}
}

/* Process-wide settings; too late (and harmless) when a library used SQLite before us. */
static void db_config(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_config(SQLITE_CONFIG_LOG, db_log, NULL);
}

int db_errno(int rc)
{
	switch (rc) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_IOERR_NOMEM:
		return -ENOMEM;
	case SQLITE_IOERR_SHMSIZE: /* the -shm file could not grow */
		return -ENOSPC;
	}
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

int db_exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

int db_query_int(sqlite3 *db, const char *sql, int64_t *v)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

	*v = 0;
	if (rc)
		return rc;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		*v = sqlite3_column_int64(st, 0);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(st);
	return rc;
}

int db_query_text(sqlite3 *db, const char *sql, char *out, size_t cap)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

	out[0] = '\0';
	if (rc)
		return rc;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const unsigned char *text = sqlite3_column_text(st, 0);

		snprintf(out, cap, "%s", text ? (const char *)text : "");
		rc = SQLITE_OK;
	}
	sqlite3_finalize(st);
	return rc;
}

const void *db_blob(sqlite3_stmt *st, int column, size_t *n)
{
	const void *p = sqlite3_column_blob(st, column);

	*n = (size_t)sqlite3_column_bytes(st, column);
	return p ? p : *n ? NULL : "";
}

/* The WAL outlives its connections, and nothing is copied out of it but by our own checkpoints: an
 * open descriptor on it stays valid, and after a failed sync its content stays where it is. */
static int keep_wal(sqlite3 *db)
{
	int on = 1;
	int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);

	if (!rc)
		rc = sqlite3_wal_autocheckpoint(db, 0);
	if (!rc)
		rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
	return rc;
}

/* page_size and journal_mode matter for a new file only. secure_delete off: Debian's library zeroes
 * what is deleted, which costs reads and writes and helps nobody here (the file is in clear
 * anyway). cache_spill off for the writer: pages reach the WAL at COMMIT only, so that no statement
 * but COMMIT meets a full disk, and an uncommittable transaction stays readable. */
static const char pragmas_all[] = "PRAGMA temp_store=MEMORY;"
				  "PRAGMA synchronous=NORMAL;"
				  "PRAGMA trusted_schema=OFF;"
				  "PRAGMA cell_size_check=ON;"
				  "PRAGMA mmap_size=0;";
static const char pragmas_writer[] = "PRAGMA page_size=4096;"
				     "PRAGMA locking_mode=NORMAL;"
				     "PRAGMA secure_delete=OFF;"
				     "PRAGMA cache_spill=OFF;"
				     "PRAGMA foreign_keys=OFF;";

int db_set_cache(sqlite3 *db, uint64_t bytes)
{
	char sql[64];

	snprintf(sql, sizeof(sql), "PRAGMA cache_size=-%llu", (unsigned long long)(bytes / 1024));
	return db_exec(db, sql);
}

static int set_up(sqlite3 *db, enum db_role role)
{
	int rc;

	sqlite3_extended_result_codes(db, 1);
	sqlite3_busy_timeout(db, BUSY_MS);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	rc = keep_wal(db);
	if (!rc)
		rc = db_exec(db, pragmas_all);
	if (!rc && role == DB_WRITER)
		rc = db_exec(db, pragmas_writer);
	if (rc)
		return rc;
	return db_set_cache(db, (role == DB_WRITER ? CACHE_WRITER : CACHE_OTHER) * 1024ull);
}

int db_open(const char *path, enum db_role role, sqlite3 **out, struct err *e)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
		    (role == DB_READER ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
	int rc;

	*out = NULL;
	/* The library may be built to take such a name for a URI. */
	if (!strncmp(path, "file:", 5))
		return err_set(e, -EINVAL, "%s: give the database's path without \"file:\"", path);
	pthread_once(&config_once, db_config);
	rc = sqlite3_open_v2(path, out, flags, db_vfs);
	if (!rc)
		rc = set_up(*out, role);
	if (rc) {
		err_set(e, db_errno(rc), "Cannot open the database %s: %s", path,
			*out ? sqlite3_errmsg(*out) : sqlite3_errstr(rc));
		db_close(*out);
		*out = NULL;
	}
	return db_errno(rc);
}

void db_close(sqlite3 *db)
{
	if (db && sqlite3_close(db) != SQLITE_OK)
		log_error("database: a statement was left open"); /* a bug: leaks, harms no data */
}
