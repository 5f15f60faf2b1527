/* All replicated rows as blobs, out of one read transaction. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

#define TABLES (OUTBOX_DRIVE + 1)

struct outbox_snapshot {
	sqlite3 *db;
	sqlite3_stmt *st; /* of the current table; NULL: none yet, or the end */
	int table;
};

int outbox_snapshot_open(struct meta *m, struct outbox_snapshot **out, uint64_t *seq)
{
	struct outbox_snapshot *s = calloc(1, sizeof(*s));
	int64_t v = 0;
	int rc;

	*out = NULL;
	*seq = 0;
	if (!s)
		return -ENOMEM;
	rc = db_open(m->path, DB_READER, &s->db, NULL);
	if (!rc)
		rc = db_errno(db_exec(s->db, "BEGIN"));
	/* The first read pins the state. */
	if (!rc)
		rc = db_errno(db_query_int(s->db, "SELECT seq FROM sums WHERE one=1", &v));
	if (rc) {
		outbox_snapshot_close(s);
		return rc;
	}
	*seq = (uint64_t)v;
	*out = s;
	return 0;
}

void outbox_snapshot_close(struct outbox_snapshot *s)
{
	if (!s)
		return;
	sqlite3_finalize(s->st);
	if (s->db && !sqlite3_get_autocommit(s->db))
		db_exec(s->db, "COMMIT");
	db_close(s->db);
	free(s);
}

static void put_entry(struct buf *b, int table, const void *key, size_t key_len, const void *row,
		      size_t row_len)
{
	uint8_t head[CHANGE_HEAD];

	if (!b->len)
		buf_put8(b, CHANGE_BLOB_FORMAT);
	change_head_put(head, (uint8_t)table, OUTBOX_UPSERT, key_len, row_len);
	buf_put(b, head, sizeof(head));
	buf_put(b, key, key_len);
	buf_put(b, row, row_len);
}

/* Columns of integers, big-endian, of the widths given (one digit each). */
static size_t put_numbers(uint8_t *to, sqlite3_stmt *st, int column, const char *widths)
{
	uint8_t *p = to;

	for (; *widths; widths++, column++) {
		uint64_t v = db_u64(st, column);

		if (*widths == '1')
			*p = (uint8_t)v;
		else if (*widths == '4')
			be32_put(p, (uint32_t)v);
		else
			be64_put(p, v);
		p += *widths - '0';
	}
	return (size_t)(p - to);
}

/* How rows stand in the blob, as in rows.c. Kinds of key: 'n' a number of 4, 'N' of 8 bytes, 'b' a
 * blob, 'm' a number of 8 bytes and a blob, 'r' two numbers of 8 bytes. Then an optional blob
 * column of fixed size in front of the numbers ('i'), or a blob that is the row ('v'), then the
 * widths. */
static const struct {
	char key;
	char blob;
	const char *widths;
} shapes[TABLES] = {
	[OUTBOX_NODE] = { 'N', 0, "4444448888888" }, [OUTBOX_LINK] = { 'N', 'v', "" },
	[OUTBOX_NAME] = { 'm', 0, "884" },           [OUTBOX_XATTR] = { 'm', 'v', "" },
	[OUTBOX_RUN] = { 'r', 0, "8844" },           [OUTBOX_SEGMENT] = { 'n', 'i', "411488888" },
	[OUTBOX_INDEX] = { 'n', 'v', "" },           [OUTBOX_CODING] = { 'b', 0, "41118" },
	[OUTBOX_DRIVE] = { 'b', 'v', "" },
};

/* Returns the number of columns taken, or a negative errno. */
static int read_key(sqlite3_stmt *st, char kind, uint8_t *key, size_t *key_len)
{
	const void *p;
	size_t n;

	switch (kind) {
	case 'n':
		*key_len = put_numbers(key, st, 0, "4");
		return 1;
	case 'N':
		*key_len = put_numbers(key, st, 0, "8");
		return 1;
	case 'r':
		*key_len = put_numbers(key, st, 0, "88");
		return 2;
	}
	*key_len = kind == 'm' ? put_numbers(key, st, 0, "8") : 0;
	p = db_blob(st, kind == 'm', &n);
	if (!p || n > META_NAME_MAX)
		return p ? -EIO : -ENOMEM;
	memcpy(key + *key_len, p, n);
	*key_len += n;
	return 1 + (kind == 'm');
}

static int put_row(struct outbox_snapshot *s, struct buf *b)
{
	uint8_t key[CHANGE_KEY_MAX], row[NODE_ROW];
	size_t key_len, n = 0, row_len = 0;
	int column = read_key(s->st, shapes[s->table].key, key, &key_len);
	const void *p;

	if (column < 0)
		return column;
	if (shapes[s->table].blob) {
		p = db_blob(s->st, column++, &n);
		if (!p)
			return -ENOMEM;
		if (shapes[s->table].blob == 'v') {
			put_entry(b, s->table, key, key_len, p, n);
			return 0;
		}
		if (n != 16)
			return -EIO;
		memcpy(row, p, n);
		row_len = n;
	}
	row_len += put_numbers(row + row_len, s->st, column, shapes[s->table].widths);
	put_entry(b, s->table, key, key_len, row, row_len);
	return 0;
}

int outbox_snapshot_next(struct outbox_snapshot *s, size_t target, struct buf *blob)
{
	int rc = SQLITE_OK;

	buf_reset(blob);
	while (blob->len < MAX(target, 1) && s->table < TABLES) {
		if (!s->st) {
			if (++s->table == TABLES)
				break;
			rc = sqlite3_prepare_v2(s->db, sql_snapshot[s->table], -1, &s->st, NULL);
			if (rc)
				return db_errno(rc);
		}
		rc = sqlite3_step(s->st);
		if (rc == SQLITE_ROW) {
			rc = put_row(s, blob);
			if (rc || blob->failed)
				return rc ? rc : -ENOMEM;
			continue;
		}
		sqlite3_finalize(s->st);
		s->st = NULL;
		if (rc != SQLITE_DONE)
			return db_errno(rc);
	}
	return blob->len > 0;
}
