/* The file as a whole: is it ours, of which version, of which drive, undamaged. */
#include "fs/meta/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define APPLICATION_ID 0x534b464dll /* "SKFM" */

#define KEY_DRIVE "meta.drive"

int schema_damaged(struct meta *m, struct err *e, const char *what)
{
	return err_set(
	    e, -EBADMSG,
	    "The database %s is damaged (%s). Delete nothing: keep a copy of it and of "
	    "%s-wal, look at their disk, and put back a backup of both or what sqlite3's "
	    "\".recover\" makes of the copy; this release cannot rebuild it from the "
	    "clouds",
	    m->path, what, m->path);
}

/* Explains a failed statement of meta_open. */
static int explain(struct meta *m, struct err *e, int rc)
{
	int err = db_errno(rc);

	if (err == -EBADMSG)
		return schema_damaged(m, e, sqlite3_errstr(rc));
	return err_set(e, err, "Cannot read the database %s: %s", m->path, sqlite3_errmsg(m->db));
}

/* Takes the file from one version to the next, in one transaction. */
static int migrate_step(struct meta *m, int64_t version)
{
	char sql[64];
	int rc = db_exec(m->db, "BEGIN IMMEDIATE");

	if (!rc)
		rc = db_exec(m->db, sql_schema[version]);
	snprintf(sql, sizeof(sql), "PRAGMA user_version=%d", (int)version + 1);
	if (!rc)
		rc = db_exec(m->db, sql);
	if (!rc)
		rc = db_exec(m->db, "COMMIT");
	if (rc && !sqlite3_get_autocommit(m->db))
		db_exec(m->db, "ROLLBACK");
	return rc;
}

static int migrate(struct meta *m, int64_t version, struct err *e)
{
	for (; version < META_SCHEMA_VERSION; version++) {
		int rc = migrate_step(m, version);

		if (rc)
			return err_set(e, db_errno(rc),
				       "Cannot bring the database %s from version %d to %d: %s",
				       m->path, (int)version, (int)version + 1,
				       sqlite3_errmsg(m->db));
	}
	return 0;
}

static int set_wal_mode(struct meta *m, struct err *e)
{
	char mode[16];
	int rc = db_query_text(m->db, "PRAGMA journal_mode=WAL", mode, sizeof(mode));

	if (rc)
		return explain(m, e, rc);
	if (strcmp(mode, "wal"))
		return err_set(e, -ENOTSUP,
			       "%s: this filesystem cannot hold the database (no shared memory "
			       "maps); keep the state folder on a local disk",
			       m->path);
	return 0;
}

static int make_root(struct meta *m, const struct meta_opts *opts)
{
	int64_t now = clock_real_ns();
	struct node root = {
		.ino = META_ROOT_INO,
		.mode = opts->root_mode,
		.nlink = 2,
		.uid = opts->root_uid,
		.gid = opts->root_gid,
		.parent = META_ROOT_INO,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
	};

	return node_put(m, &root, 0);
}

int schema_create(struct meta *m, const struct meta_opts *opts, struct err *e)
{
	char sql[64];
	int rc;

	snprintf(sql, sizeof(sql), "PRAGMA application_id=%lld", APPLICATION_ID);
	rc = db_exec(m->db, sql);
	if (rc)
		return explain(m, e, rc);
	rc = set_wal_mode(m, e);
	if (!rc)
		rc = migrate(m, 0, e);
	if (rc)
		return rc;
	rc = tx_load_sums(m);
	if (!rc)
		rc = meta_local_put(m, KEY_DRIVE, opts->drive, 16);
	if (!rc)
		rc = make_root(m, opts);
	return rc ? err_set(e, rc, "Cannot create the database %s: %s", m->path, strerror(-rc)) : 0;
}

static int check_version(struct meta *m, int64_t *version, struct err *e)
{
	int64_t id;
	int rc = db_query_int(m->db, "PRAGMA application_id", &id);

	if (!rc)
		rc = db_query_int(m->db, "PRAGMA user_version", version);
	if (rc)
		return explain(m, e, rc);
	if (!id && !*version)
		return schema_damaged(m, e, "it is empty: creating it was interrupted");
	if (id != APPLICATION_ID)
		return err_set(e, -EBADMSG, "%s is a database of another program", m->path);
	if (!*version)
		return schema_damaged(m, e, "creating it was interrupted");
	if (*version > META_SCHEMA_VERSION)
		return err_set(e, -EPROTONOSUPPORT,
			       "The database %s has format %lld; this skyflok (%s) knows up to %d. "
			       "Use the newer skyflok that wrote it",
			       m->path, (long long)*version, SKYFLOK_VERSION, META_SCHEMA_VERSION);
	return 0;
}

static int check_drive(struct meta *m, const uint8_t *drive, struct err *e)
{
	AUTO_FREE uint8_t *stored = NULL;
	size_t n;
	int rc = meta_local_get(m, KEY_DRIVE, &stored, &n);

	if (rc == -ENOENT || (!rc && n != 16))
		return schema_damaged(m, e, "it does not say which drive it belongs to");
	if (rc)
		return schema_damaged(m, e, strerror(-rc));
	if (drive && memcmp(drive, stored, 16)) {
		char is[33], wanted[33];

		hex_put(is, stored, 16);
		hex_put(wanted, drive, 16);
		return err_set(e, -EXDEV, "The database %s belongs to drive %s, not to %s", m->path,
			       is, wanted);
	}
	return 0;
}

static int check_pages(struct meta *m, struct err *e)
{
	int64_t start = clock_mono_ns();
	char text[256];
	int rc = db_query_text(m->db, "PRAGMA quick_check(1)", text, sizeof(text));

	if (rc)
		return explain(m, e, rc);
	if (strcmp(text, "ok"))
		return schema_damaged(m, e, text);
	log_info("%s was not closed; checked in %.1f s", m->path,
		 (double)(clock_mono_ns() - start) / (double)NS_PER_S);
	return 0;
}

int schema_check(struct meta *m, const struct meta_opts *opts, struct err *e)
{
	AUTO_FREE uint8_t *clean = NULL;
	int64_t version;
	size_t n;
	int rc = check_version(m, &version, e);

	if (!rc && m->read_only && version < META_SCHEMA_VERSION)
		return err_set(e, -EPROTONOSUPPORT, "%s has an older format; mount the drive once",
			       m->path);
	if (!rc && !m->read_only)
		rc = set_wal_mode(m, e);
	if (!rc)
		rc = migrate(m, version, e);
	if (!rc)
		rc = check_drive(m, opts->drive, e);
	if (rc)
		return rc;
	rc = meta_local_get(m, SCHEMA_KEY_CLEAN, &clean, &n);
	if (rc && rc != -ENOENT)
		return schema_damaged(m, e, strerror(-rc));
	if (rc == -ENOENT && !m->read_only) {
		rc = check_pages(m, e);
		if (rc)
			return rc;
	}
	rc = tx_load_sums(m);
	if (rc)
		return schema_damaged(m, e, strerror(-rc));
	return 0;
}
