/* Encoded rows into tables: for a transaction that is applied again, and for records of other
 * machines. Each table's key and row are as in rows.c. */
#include "fs/meta/impl.h"

#include <errno.h>
#include <stdlib.h>
#include "fs/base/log.h"

/* ---- Deleting by key ---- */

static int erase_number(struct meta *m, enum sql_id id, uint64_t num)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, num);
	return tx_exec(m, st);
}

static int erase_blob(struct meta *m, enum sql_id id, const uint8_t *key, size_t key_len)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 1, key, key_len);
	return tx_exec(m, st);
}

static int erase_named(struct meta *m, enum sql_id id, const uint8_t *key, size_t key_len)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, be64_get(key));
	db_bind_blob(st, 2, key + 8, key_len - 8);
	return tx_exec(m, st);
}

static int erase_run(struct meta *m, const uint8_t *key, struct row_delta *d)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_TAKE);
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, be64_get(key));
	db_bind(st, 2, be64_get(key + 8));
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc;
	d->bytes -= sqlite3_column_int64(st, 0);
	/* With RETURNING all rows are gone before the first is returned. */
	tx_done(st);
	return 1;
}

int row_erase(struct meta *m, uint8_t table, const uint8_t *key, size_t key_len,
	      struct row_delta *d)
{
	int rc;

	switch (table) {
	case OUTBOX_NODE:
		rc = erase_number(m, SQL_NODE_DELETE, be64_get(key));
		d->inodes -= rc > 0;
		return rc;
	case OUTBOX_LINK:
		return erase_number(m, SQL_LINK_DELETE, be64_get(key));
	case OUTBOX_NAME:
		return erase_named(m, SQL_NAME_DELETE, key, key_len);
	case OUTBOX_XATTR:
		return erase_named(m, SQL_XATTR_DELETE, key, key_len);
	case OUTBOX_RUN:
		return erase_run(m, key, d);
	case OUTBOX_SEGMENT:
		return erase_number(m, SQL_SEGMENT_DELETE, be32_get(key));
	case OUTBOX_INDEX:
		return erase_number(m, SQL_INDEX_DELETE, be32_get(key));
	case OUTBOX_CODING:
		return erase_blob(m, SQL_CODING_DELETE, key, key_len);
	case OUTBOX_DRIVE:
		return erase_blob(m, SQL_DRIVE_DELETE, key, key_len);
	case LOCAL_VALUE:
		return erase_blob(m, SQL_LOCAL_DELETE, key, key_len);
	case LOCAL_SHARD:
		return erase_blob(m, SQL_SHARD_DELETE, key, key_len);
	default:
		abort();
	}
}

/* ---- Inserting ---- */

static int insert_named(struct meta *m, const uint8_t *key, size_t key_len, const uint8_t *row,
			size_t row_len, int name)
{
	sqlite3_stmt *st = tx_stmt(m, name ? SQL_NAME_INSERT : SQL_XATTR_PUT);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, be64_get(key));
	db_bind_blob(st, 2, key + 8, key_len - 8);
	if (name) {
		db_bind(st, 3, be64_get(row));
		db_bind(st, 4, be64_get(row + 8));
		db_bind(st, 5, be32_get(row + 16));
	} else {
		db_bind_blob(st, 3, row, row_len);
	}
	return tx_exec(m, st);
}

static int insert_run(struct meta *m, const uint8_t *key, const uint8_t *row, struct row_delta *d)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_INSERT);
	uint64_t ino;
	struct run r;
	int rc;

	if (!st)
		return tx_error(m);
	run_decode(key, row, &ino, &r);
	db_bind(st, 1, ino);
	db_bind(st, 2, r.off);
	db_bind(st, 3, r.len);
	db_bind(st, 4, r.skip);
	db_bind(st, 5, r.seg);
	db_bind(st, 6, r.first);
	rc = tx_exec(m, st);
	if (rc > 0)
		d->bytes += (int64_t)r.len;
	return rc;
}

static int insert_numbered_blob(struct meta *m, enum sql_id id, uint64_t num, const uint8_t *row,
				size_t row_len)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, num);
	db_bind_blob(st, 2, row, row_len);
	return tx_exec(m, st);
}

static int insert_value(struct meta *m, enum sql_id id, const uint8_t *key, size_t key_len,
			const uint8_t *row, size_t row_len)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 1, key, key_len);
	db_bind_blob(st, 2, row, row_len);
	return tx_exec(m, st);
}

static int insert_coding(struct meta *m, const uint8_t *key, const uint8_t *row)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_CODING_INSERT);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 1, key, CODING_KEY);
	db_bind(st, 2, be32_get(row));
	db_bind(st, 3, row[4]);
	db_bind(st, 4, row[5]);
	db_bind(st, 5, row[6]);
	db_bind(st, 6, be64_get(row + 7));
	return tx_exec(m, st);
}

static int insert_shard(struct meta *m, const uint8_t *key, const uint8_t *row)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_SHARD_PUT);

	if (!st)
		return tx_error(m);
	db_bind_blob(st, 1, key, CODING_KEY);
	db_bind(st, 2, be32_get(row));
	db_bind(st, 3, be32_get(row + 4));
	return tx_exec(m, st);
}

static int insert_row(struct meta *m, uint8_t table, const uint8_t *key, size_t key_len,
		      const uint8_t *row, size_t row_len, struct row_delta *d)
{
	struct segment_row s;
	struct node n;
	int rc;

	switch (table) {
	case OUTBOX_NODE:
		node_decode(key, row, &n);
		rc = node_bind_step(m, SQL_NODE_INSERT, &n);
		d->inodes += rc > 0;
		return rc;
	case OUTBOX_LINK:
		return insert_numbered_blob(m, SQL_LINK_PUT, be64_get(key), row, row_len);
	case OUTBOX_NAME:
		return insert_named(m, key, key_len, row, row_len, 1);
	case OUTBOX_XATTR:
		return insert_named(m, key, key_len, row, row_len, 0);
	case OUTBOX_RUN:
		return insert_run(m, key, row, d);
	case OUTBOX_SEGMENT:
		segment_decode(key, row, &s);
		return segment_bind_step(m, SQL_SEGMENT_INSERT, &s);
	case OUTBOX_INDEX:
		return insert_numbered_blob(m, SQL_INDEX_PUT, be32_get(key), row, row_len);
	case OUTBOX_CODING:
		return insert_coding(m, key, row);
	case OUTBOX_DRIVE:
		return insert_value(m, SQL_DRIVE_PUT, key, key_len, row, row_len);
	case LOCAL_VALUE:
		return insert_value(m, SQL_LOCAL_PUT, key, key_len, row, row_len);
	case LOCAL_SHARD:
		return insert_shard(m, key, row);
	default:
		abort();
	}
}

int row_insert(struct meta *m, uint8_t table, const uint8_t *key, size_t key_len,
	       const uint8_t *row, size_t row_len, struct row_delta *d)
{
	int rc = insert_row(m, table, key, key_len, row, row_len, d);

	return rc > 0 ? 0 : rc ? rc : -EEXIST;
}

/* ---- Blobs ---- */

/* Deletes and then inserts, so that neither the order in the blob matters nor what was there. */
static int apply_rows(struct meta *m, const void *blob, size_t n, struct row_delta *d)
{
	struct outbox_entry e;
	struct rd r;
	int rc;

	*d = (struct row_delta){ 0 };
	blob_begin(blob, n, &r);
	while ((rc = blob_next(&r, &e)) > 0) {
		rc = row_erase(m, e.table, e.key, e.key_len, d);
		if (rc < 0)
			return rc;
	}
	blob_begin(blob, n, &r);
	while ((rc = blob_next(&r, &e)) > 0) {
		if (e.op != OUTBOX_UPSERT)
			continue;
		rc = row_insert(m, e.table, e.key, e.key_len, e.row, e.row_len, d);
		if (rc < 0)
			return rc == -EEXIST ? -EBADMSG : rc; /* a key twice */
	}
	return 0;
}

/* What memory knows of a row that came from outside. */
static void seen(struct meta *m, const struct outbox_entry *e)
{
	int upsert = e->op == OUTBOX_UPSERT;

	switch (e->table) {
	case OUTBOX_NODE:
		if (upsert && be64_get(e->key) > m->max_ino)
			m->max_ino = be64_get(e->key);
		break;
	case OUTBOX_SEGMENT:
		live_set(m, be32_get(e->key), upsert, upsert ? be64_get(e->row + 34) : 0);
		break;
	case OUTBOX_DRIVE:
		if (upsert)
			alloc_seen(m, e->key, e->key_len, e->row, e->row_len);
		break;
	}
}

int outbox_apply(struct meta *m, const void *blob, size_t n)
{
	size_t entries, bytes;
	struct outbox_entry e;
	struct row_delta d;
	struct rd r;
	int rc = blob_check(blob, n, &entries, &bytes);

	if (!rc)
		rc = entries > INT32_MAX ? -EBADMSG : tx_reserve(m, (int)entries, bytes);
	if (!rc)
		rc = TX_WRITE(m, apply_rows(m, blob, n, &d));
	if (rc < 0) {
		/* Half of it may stand in the transaction. */
		if (rc == -EBADMSG)
			tx_recover(m, 1);
		return rc;
	}
	blob_begin(blob, n, &r);
	while (blob_next(&r, &e) > 0) {
		if (e.op == OUTBOX_UPSERT)
			tx_put(m, e.table, e.key, e.key_len, e.row, e.row_len, 0, CHANGE_LOCAL);
		else
			tx_delete(m, e.table, e.key, e.key_len, CHANGE_LOCAL);
		seen(m, &e);
	}
	m->totals.bytes += (uint64_t)d.bytes;
	m->totals.inodes += (uint64_t)d.inodes;
	return 0;
}
