#include "fs/meta/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fs/base/file.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

/* ---- Files ---- */

static int sync_folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

	return folder ? file_sync_dir(folder) : -ENOMEM;
}

static int take_lock(struct meta *m, struct err *e)
{
	AUTO_FREE char *path = str_printf("%s.lock", m->path);
	int rc;

	if (!path)
		return err_set(e, -ENOMEM, "Out of memory");
	m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (m->lock_fd < 0)
		return err_set(e, -errno, "Cannot open %s: %s", path, strerror(errno));
	/* flock: belongs to the open file, so that nothing else in this process can drop it. */
	if (!flock(m->lock_fd, LOCK_EX | LOCK_NB))
		return 0;
	rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	return err_set(e, rc,
		       rc == -EBUSY ? "This drive is mounted already (%s is locked by a running "
				      "skyflok). Unmount it there first"
				    : "Cannot lock %s",
		       path);
}

/* Creates the empty file, for SQLite would give everybody the right to read it (the other files
 * take over its mode). */
static int make_file(struct meta *m, struct err *e)
{
	int fd = open(m->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_set(e, -errno,
			       errno == EEXIST ? "The database %s exists already"
					       : "Cannot create the database %s",
			       m->path);
	close(fd);
	return 0;
}

static void remove_files(const char *path)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal", ".ballast", ".lock" };

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		AUTO_FREE char *p = str_printf("%s%s", path, ends[i]);

		if (p)
			unlink(p);
	}
}

static int check_file(struct meta *m, struct err *e)
{
	struct stat st;

	/* stat only: closing a descriptor of this file would drop SQLite's locks on it, if this
	 * process has it open elsewhere. */
	if (stat(m->path, &st))
		return err_set(e, -errno, "There is no database %s (%s)", m->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a file", m->path);
	return 0;
}

/* ---- Open ---- */

static struct meta *meta_new(const char *path, int read_only)
{
	struct meta *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->lock_fd = m->wal_fd = -1;
	atomic_init(&m->ballast_gone, 1);
	m->read_only = read_only;
	m->path = strdup(path);
	m->ballast = str_printf("%s.ballast", path);
	if (!m->path || !m->ballast || changes_init(&m->changes) || hash_init(&m->lives, 256)) {
		free(m->path);
		free(m->ballast);
		changes_release(&m->changes);
		free(m);
		return NULL;
	}
	pthread_mutex_init(&m->lock, NULL);
	cond_init_mono(&m->work);
	pthread_cond_init(&m->unparked, NULL);
	return m;
}

static void meta_free(struct meta *m)
{
	wal_stop(m);
	tx_finalize(m);
	db_close(m->db);
	if (m->wal_fd >= 0)
		close(m->wal_fd);
	if (m->lock_fd >= 0)
		close(m->lock_fd);
	live_release(m);
	changes_release(&m->changes);
	buf_release(&m->blob);
	pthread_cond_destroy(&m->unparked);
	pthread_cond_destroy(&m->work);
	pthread_mutex_destroy(&m->lock);
	free(m->ballast);
	free(m->path);
	free(m);
}

static int load_max_ino(struct meta *m)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_MAX_INO);
	int rc;

	if (!st)
		return tx_error(m);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -EBADMSG;
	m->max_ino = db_u64(st, 0);
	tx_done(st);
	return 0;
}

/* What stands in memory; and, for a writer, notes durably that the database is in use before
 * anything else changes. */
static int load(struct meta *m)
{
	int rc = load_max_ino(m);

	if (!rc)
		rc = alloc_load(m);
	if (rc || m->read_only)
		return rc;
	rc = meta_local_delete(m, SCHEMA_KEY_CLEAN);
	if (!rc || rc == -ENOENT)
		rc = meta_commit(m);
	return rc ? rc : meta_wal_sync(m);
}

static int open_locked(struct meta *m, const struct meta_opts *opts, struct err *e)
{
	int rc = db_open(m->path, m->read_only ? DB_READER : DB_WRITER, &m->db, e);

	if (rc == -EBADMSG)
		return schema_damaged(m, e, "its first page cannot be read");
	if (rc)
		return rc;
	rc = opts->create ? schema_create(m, opts, e) : schema_check(m, opts, e);
	if (rc)
		return rc;
	if (opts->cache && db_set_cache(m->db, opts->cache))
		log_warn("database: the size of its cache cannot be set");
	if (!m->read_only) {
		rc = wal_start(m, e);
		if (rc)
			return rc;
		ballast_make(m);
	}
	rc = load(m);
	if (!rc && !m->read_only)
		rc = sync_folder_of(m->path);
	if (rc)
		return err_set(e, rc, "Cannot use the database %s: %s", m->path, strerror(-rc));
	tx_end_read(m);
	return m->read_only ? 0 : wal_run(m, e);
}

int meta_open(const char *path, const struct meta_opts *opts, struct meta **out, struct err *e)
{
	struct meta *m;
	int rc, made = 0;

	*out = NULL;
	if (opts->create && (opts->read_only || !opts->drive))
		return err_set(e, -EINVAL,
			       "A new database needs its drive and cannot be read-only");
	m = meta_new(path, opts->read_only);
	if (!m)
		return err_set(e, -ENOMEM, "Out of memory");
	rc = opts->create ? 0 : check_file(m, e);
	if (!rc && !m->read_only)
		rc = take_lock(m, e);
	if (!rc && opts->create) {
		rc = make_file(m, e);
		made = !rc;
	}
	if (!rc)
		rc = open_locked(m, opts, e);
	if (rc) {
		meta_free(m);
		if (made)
			remove_files(path);
		return rc;
	}
	*out = m;
	return 0;
}

static int mark_clean(struct meta *m)
{
	int rc = alloc_exact(m);

	return rc ? rc : meta_local_put(m, SCHEMA_KEY_CLEAN, "", 0);
}

int meta_close(struct meta *m)
{
	int rc = 0;

	if (!m)
		return 0;
	if (!m->read_only) {
		meta_lock(m);
		rc = meta_commit(m);
		if (!rc)
			rc = mark_clean(m);
		if (!rc)
			rc = meta_commit(m);
		meta_unlock(m);
		if (!rc)
			rc = meta_wal_sync(m);
		if (meta_failed(m))
			rc = -EIO;
	}
	wal_stop(m);
	if (m->dirty && !sqlite3_get_autocommit(m->db))
		db_exec(m->db, "ROLLBACK");
	else
		tx_end_read(m);
	if (!rc && !m->read_only)
		rc = wal_checkpoint_all(m);
	meta_free(m);
	return rc;
}

/* ---- Sums and small values ---- */

void meta_totals(struct meta *m, struct meta_totals *out)
{
	/* Another process changes them; on an error the last ones known. */
	if (m->read_only)
		tx_load_sums(m);
	*out = m->totals;
}

static int check_key(const char *key, size_t n)
{
	size_t len = strlen(key);

	return !len || len > META_NAME_MAX || n > META_VALUE_MAX ? -EINVAL : 0;
}

static int value_get_step(struct meta *m, enum sql_id id, const char *key, uint8_t **value,
			  size_t *n)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 1, key, strlen(key));
	return tx_get_blob(m, st, value, n);
}

static int value_put_step(struct meta *m, enum sql_id id, const char *key, const void *value,
			  size_t n)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 1, key, strlen(key));
	db_bind_blob(st, 2, value, n);
	return tx_exec(m, st);
}

static int value_put(struct meta *m, int local, const char *key, const void *value, size_t n)
{
	size_t key_len = strlen(key);
	int rc = check_key(key, n);

	if (!rc)
		rc = tx_reserve(m, 1, key_len + n);
	if (rc)
		return rc;
	rc = TX_WRITE(m, value_put_step(m, local ? SQL_LOCAL_PUT : SQL_DRIVE_PUT, key, value, n));
	if (rc < 0)
		return rc;
	tx_put(m, local ? LOCAL_VALUE : OUTBOX_DRIVE, key, key_len, value, n, 0,
	       local ? CHANGE_LOCAL : 0);
	return 0;
}

int meta_local_get(struct meta *m, const char *key, uint8_t **value, size_t *n)
{
	*value = NULL;
	*n = 0;
	return TX_READ(m, value_get_step(m, SQL_LOCAL_GET, key, value, n));
}

int meta_local_put(struct meta *m, const char *key, const void *value, size_t n)
{
	return value_put(m, 1, key, value, n);
}

static int local_delete_step(struct meta *m, const char *key)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_LOCAL_DELETE);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 1, key, strlen(key));
	return tx_exec(m, st);
}

int meta_local_delete(struct meta *m, const char *key)
{
	int rc = check_key(key, 0);

	if (!rc)
		rc = tx_reserve(m, 1, strlen(key));
	if (rc)
		return rc;
	rc = TX_WRITE(m, local_delete_step(m, key));
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	tx_delete(m, LOCAL_VALUE, key, strlen(key), CHANGE_LOCAL);
	return 0;
}

int meta_drive_get(struct meta *m, const char *key, uint8_t **value, size_t *n)
{
	*value = NULL;
	*n = 0;
	return TX_READ(m, value_get_step(m, SQL_DRIVE_GET, key, value, n));
}

int meta_drive_put(struct meta *m, const char *key, const void *value, size_t n)
{
	return value_put(m, 0, key, value, n);
}

/* ---- Copy ---- */

static int backup_into(sqlite3 *db, const char *path)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &st, NULL);

	if (rc)
		return rc;
	sqlite3_bind_text(st, 1, path, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int meta_backup(struct meta *m, const char *path, struct err *e)
{
	sqlite3 *db;
	int fd, rc = db_open(m->path, DB_READER, &db, e);

	if (rc)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		rc = err_set(e, -errno, "Cannot create %s: %s", path, strerror(errno));
		goto close_db;
	}
	rc = backup_into(db, path);
	if (rc)
		rc = err_set(e, db_errno(rc), "Cannot copy %s to %s: %s", m->path, path,
			     sqlite3_errmsg(db));
	else if (fsync(fd) || sync_folder_of(path))
		rc = err_set(e, -EIO, "Cannot sync %s", path);
	close(fd);
	if (rc)
		unlink(path);
close_db:
	db_close(db);
	return rc;
}
