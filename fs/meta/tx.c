#include "fs/meta/impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fs/base/failpoint.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define BLOB_KEPT ((size_t)8 << 20)

void tx_fail(struct meta *m, const char *why)
{
	if (atomic_exchange(&m->failed, 1) || !m->thread_runs)
		return; /* told already, or meta_open tells it */
	log_error("%s: %s. The drive is read-only from now on; unmount it, look at the disk that "
		  "holds this file, and mount again",
		  m->path, why);
}

int tx_set_error(struct meta *m, int rc)
{
	m->sql_error = rc;
	return tx_error(m);
}

int tx_error(struct meta *m)
{
	int rc = db_errno(m->sql_error);

	if (m->detached)
		return m->detached;
	/* A damaged page is no different from an unreadable one to who asked for a row. */
	return rc == -EBADMSG ? -EIO : rc == -EBUSY ? -EAGAIN : rc;
}

/* ---- Statements ---- */

static int begin(struct meta *m)
{
	/* Deferred, also for reads: taking and dropping WAL locks around each SELECT would cost
	 * more than the SELECT. The first write turns it into a write transaction; no other
	 * connection writes rows, so that cannot lose a race. */
	int rc = db_exec(m->db, "BEGIN");

	if (rc)
		m->sql_error = rc;
	return rc;
}

static int attach(struct meta *m);

sqlite3_stmt *tx_stmt(struct meta *m, enum sql_id id)
{
	sqlite3_stmt *st = m->st[id];
	int rc;

	if (m->sql_error || (m->detached && attach(m)))
		return NULL;
	if (sqlite3_get_autocommit(m->db) && begin(m))
		return NULL;
	if (st) {
		assert(!sqlite3_stmt_busy(st)); /* else a callback called what called it */
		return st;
	}
	rc = sqlite3_prepare_v3(m->db, sql_text[id], -1, SQLITE_PREPARE_PERSISTENT, &m->st[id],
				NULL);
	if (rc)
		m->sql_error = rc;
	return m->st[id];
}

int tx_step(struct meta *m, sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	sqlite3_reset(st);
	if (rc == SQLITE_DONE)
		return 0;
	return tx_set_error(m, rc);
}

int tx_exec(struct meta *m, sqlite3_stmt *st)
{
	int rc = tx_step(m, st);

	assert(rc <= 0);
	return rc ? rc : sqlite3_changes(m->db);
}

void tx_end_read(struct meta *m)
{
	if (m->dirty || sqlite3_get_autocommit(m->db))
		return;
	/* Nothing was written, so nothing can be refused. */
	if (db_exec(m->db, "COMMIT"))
		db_exec(m->db, "ROLLBACK");
}

void tx_finalize(struct meta *m)
{
	for (int i = 0; i < SQL_COUNT; i++) {
		sqlite3_finalize(m->st[i]);
		m->st[i] = NULL;
	}
}

int tx_get_blob(struct meta *m, sqlite3_stmt *st, uint8_t **out, size_t *n)
{
	int rc = tx_step(m, st);
	const void *p;

	if (rc <= 0)
		return rc ? rc : -ENOENT;
	p = db_blob(st, 0, n);
	*out = p ? malloc(*n + 1) : NULL;
	if (*out) {
		memcpy(*out, p, *n);
		(*out)[*n] = '\0';
	}
	tx_done(st);
	return *out ? 0 : -ENOMEM;
}

/* ---- Changed rows ---- */

int tx_reserve(struct meta *m, int entries, size_t bytes)
{
	int rc;

	if (m->read_only || atomic_load_explicit(&m->failed, memory_order_relaxed))
		return -EROFS;
	if (m->detached && attach(m))
		return m->detached;
	rc = failpoint("meta.reserve");
	return rc ? rc : changes_reserve(&m->changes, entries, bytes);
}

void tx_put(struct meta *m, uint8_t table, const void *key, size_t key_len, const void *row,
	    size_t row_len, int is_new, int flags)
{
	changes_put(&m->changes, table, key, key_len, row, row_len, is_new, flags);
	m->dirty = 1;
}

void tx_delete(struct meta *m, uint8_t table, const void *key, size_t key_len, int flags)
{
	changes_delete(&m->changes, table, key, key_len, flags);
	m->dirty = 1;
}

/* ---- Roll back and apply again ---- */

static int trim_rows(struct meta *m, uint64_t seq)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_OUTBOX_TRIM);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, seq);
	return tx_exec(m, st);
}

/* First every changed key out, then the last rows in: no order among them can matter then. */
static int replay(struct meta *m)
{
	struct row_delta unused = { 0 };
	const struct change *c;
	int rc;

	for (c = m->changes.first; c; c = c->next) {
		if (c->flags & CHANGE_VOID)
			continue;
		rc = row_erase(m, c->table, c->key, c->key_len, &unused);
		if (rc < 0)
			return rc;
	}
	for (c = m->changes.first; c; c = c->next) {
		if (c->op != OUTBOX_UPSERT)
			continue;
		rc = row_insert(m, c->table, c->key, c->key_len, c->row, c->row_len, &unused);
		if (rc < 0)
			return rc;
	}
	if (m->trim_seq)
		return trim_rows(m, m->trim_seq);
	return 0;
}

/* Some errors have done it already. Itself it can fail for want of memory only. */
static int roll_back(struct meta *m)
{
	m->sql_error = 0;
	if (!sqlite3_get_autocommit(m->db))
		db_exec(m->db, "ROLLBACK");
	return sqlite3_get_autocommit(m->db) ? 0 : -ENOMEM;
}

/* Brings the database, whatever it holds, to what was committed and then to what the list of
 * changes says. Without memory it stays detached, and every later call tries again; anything else
 * is final. */
static int attach(struct meta *m)
{
	int rc;

	if (m->detached == -EIO)
		return -EIO;
	m->detached = 0;
	rc = roll_back(m);
	if (!rc && m->dirty)
		rc = replay(m);
	if (rc >= 0)
		return 0;
	roll_back(m);
	m->detached = rc == -ENOMEM || rc == -ENOSPC || rc == -EAGAIN ? rc : -EIO;
	if (m->detached == -EIO)
		tx_fail(m, "changes of the last second could not be applied again");
	return m->detached;
}

void tx_recover(struct meta *m, int force)
{
	int err = db_errno(m->sql_error);
	char why[128];

	if (!m->sql_error && !force)
		return;
	if (err == -EIO || err == -EBADMSG) {
		snprintf(why, sizeof(why), "%s (SQLite: %s)",
			 err == -EIO ? "the database cannot be read or written"
				     : "the database is damaged",
			 sqlite3_errstr(m->sql_error));
		tx_fail(m, why);
	}
	if (err == -ENOSPC)
		wal_disk_full(m);
	attach(m);
}

int tx_retry(struct meta *m, int write)
{
	if (!m->sql_error)
		return 0;
	tx_recover(m, 0);
	if (m->detached)
		return 0;
	return !write || !atomic_load(&m->failed);
}

/* ---- COMMIT ---- */

static int put_outbox(struct meta *m, size_t n)
{
	sqlite3_stmt *st;
	int rc;

	if (!n)
		return 0;
	st = tx_stmt(m, SQL_OUTBOX_PUT);
	if (!st)
		return tx_error(m);
	db_bind(st, 1, m->seq + 1);
	rc = db_bind_blob(st, 2, m->blob.p, n);
	if (rc)
		return tx_set_error(m, rc);
	return tx_exec(m, st);
}

static int put_sums(struct meta *m, size_t n)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_SUMS_PUT);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, m->totals.bytes);
	db_bind(st, 2, m->totals.inodes);
	db_bind(st, 3, m->seq + !!n);
	db_bind(st, 4, m->blobs + !!n);
	db_bind(st, 5, m->blob_bytes + n);
	return tx_exec(m, st);
}

/* What a test asked for instead of a COMMIT, as if SQLite had said it. */
static int commit_fault(struct meta *m)
{
	int rc = failpoint("meta.commit");

	if (!rc)
		return 0;
	return tx_set_error(m, rc == -ENOSPC   ? SQLITE_FULL
			       : rc == -ENOMEM ? SQLITE_NOMEM
					       : SQLITE_IOERR_WRITE);
}

static int commit_rows(struct meta *m, size_t n)
{
	int rc = put_outbox(m, n);

	if (rc >= 0)
		rc = put_sums(m, n);
	if (rc >= 0)
		rc = commit_fault(m);
	if (rc < 0)
		return rc;
	rc = db_exec(m->db, "COMMIT");
	return rc ? tx_set_error(m, rc) : 0;
}

static void committed(struct meta *m, size_t n)
{
	m->seq += !!n;
	m->blobs += !!n;
	m->blob_bytes += n;
	m->dirty = 0;
	m->trim_seq = 0;
	changes_reset(&m->changes);
	if (m->blob.cap > BLOB_KEPT)
		buf_release(&m->blob);
	live_prune(m);
	wal_committed(m);
}

int meta_commit(struct meta *m)
{
	int rc;

	if (!m->dirty)
		return 0;
	if (atomic_load(&m->failed))
		return -EROFS;
	rc = alloc_flush(m);
	if (!rc)
		rc = live_flush(m);
	if (rc)
		return rc;
	buf_reset(&m->blob);
	if (changes_blob(&m->changes, &m->blob) < 0)
		return -ENOMEM;
	rc = TX_WRITE(m, commit_rows(m, m->blob.len));
	if (!rc)
		committed(m, m->blob.len);
	return rc == -EROFS ? -EIO : rc;
}

int meta_dirty(struct meta *m)
{
	return m->dirty;
}

void meta_abandon(struct meta *m, const char *why)
{
	tx_fail(m, why);
}

int meta_failed(struct meta *m)
{
	return atomic_load(&m->failed);
}

int tx_load_sums(struct meta *m)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_SUMS_GET);
	int rc;

	if (!st)
		return tx_error(m);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -EBADMSG;
	m->totals.bytes = db_u64(st, 0);
	m->totals.inodes = db_u64(st, 1);
	m->seq = db_u64(st, 2);
	m->blobs = db_u64(st, 3);
	m->blob_bytes = db_u64(st, 4);
	tx_done(st);
	return 0;
}
