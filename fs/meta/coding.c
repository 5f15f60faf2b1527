/* Codings of segments, and the local facts about their shards. */
#include <errno.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

static int read_row(sqlite3_stmt *st, struct coding_row *c, uint64_t *order)
{
	size_t n;
	const void *set = db_blob(st, 0, &n);

	*c = (struct coding_row){
		.seg = db_u32(st, 1),
		.k = (uint8_t)db_u32(st, 2),
		.m = (uint8_t)db_u32(st, 3),
		.state = (uint8_t)db_u32(st, 4),
		.present = db_u32(st, 6),
		.suspect = db_u32(st, 7),
	};
	*order = db_u64(st, 5);
	if (!set || n != sizeof(c->set))
		return set ? -EIO : -ENOMEM;
	memcpy(c->set, set, sizeof(c->set));
	return 0;
}

/* The statement with the set id bound. */
static sqlite3_stmt *stmt_of(struct meta *m, enum sql_id id, const uint8_t set[16])
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (st)
		db_bind_blob(st, 1, set, CODING_KEY);
	return st;
}

static int get_step(struct meta *m, const uint8_t set[16], struct coding_row *c, uint64_t *order)
{
	sqlite3_stmt *st = stmt_of(m, SQL_CODING_GET, set);
	int rc;

	if (!st)
		return tx_error(m);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	rc = read_row(st, c, order);
	tx_done(st);
	return rc;
}

int coding_get(struct meta *m, const uint8_t set[16], struct coding_row *out)
{
	uint64_t order;

	return TX_READ(m, get_step(m, set, out, &order));
}

static void note(struct meta *m, const struct coding_row *c, uint64_t order, int is_new)
{
	uint8_t row[CODING_ROW];

	coding_encode(c, order, row);
	tx_put(m, OUTBOX_CODING, c->set, sizeof(c->set), row, sizeof(row), is_new, 0);
}

static int insert_step(struct meta *m, const struct coding_row *c, uint64_t order)
{
	sqlite3_stmt *st = stmt_of(m, SQL_CODING_INSERT, c->set);

	if (!st)
		return tx_error(m);
	db_bind(st, 2, c->seg);
	db_bind(st, 3, c->k);
	db_bind(st, 4, c->m);
	db_bind(st, 5, c->state);
	db_bind(st, 6, order);
	return tx_exec(m, st);
}

int coding_insert(struct meta *m, const struct coding_row *c)
{
	/* Any number that grows and is never given twice says which coding is newer. */
	uint64_t order = meta_next_cookie(m);
	int rc;

	if (!c->seg || !c->k || c->k + c->m > 32 || c->state < CODING_UPLOADING ||
	    c->state > CODING_STORED)
		return -EINVAL;
	rc = tx_reserve(m, 1, CODING_KEY + CODING_ROW);
	if (rc)
		return rc;
	rc = TX_WRITE(m, insert_step(m, c, order));
	if (rc <= 0)
		return rc ? rc : -EEXIST;
	note(m, c, order, 1);
	if (c->present || c->suspect)
		return coding_set_present(m, c->set, c->present, c->suspect);
	return 0;
}

static int state_step(struct meta *m, const struct coding_row *c)
{
	sqlite3_stmt *st = stmt_of(m, SQL_CODING_STATE, c->set);

	if (!st)
		return tx_error(m);
	db_bind(st, 2, c->state);
	return tx_exec(m, st);
}

int coding_set_state(struct meta *m, const uint8_t set[16], enum coding_state state)
{
	struct coding_row c;
	uint64_t order;
	int rc = TX_READ(m, get_step(m, set, &c, &order));

	if (!rc)
		rc = tx_reserve(m, 1, CODING_KEY + CODING_ROW);
	if (rc)
		return rc;
	c.state = (uint8_t)state;
	rc = TX_WRITE(m, state_step(m, &c));
	if (rc < 0)
		return rc;
	note(m, &c, order, 0);
	return 0;
}

static int present_step(struct meta *m, const uint8_t set[16], uint32_t present, uint32_t suspect)
{
	sqlite3_stmt *st = stmt_of(m, SQL_SHARD_PUT, set);

	if (!st)
		return tx_error(m);
	db_bind(st, 2, present);
	db_bind(st, 3, suspect);
	return tx_exec(m, st);
}

int coding_set_present(struct meta *m, const uint8_t set[16], uint32_t present, uint32_t suspect)
{
	uint8_t row[SHARD_ROW];
	struct coding_row c;
	int rc = coding_get(m, set, &c);

	if (!rc)
		rc = tx_reserve(m, 1, CODING_KEY + SHARD_ROW);
	if (rc)
		return rc;
	rc = TX_WRITE(m, present_step(m, set, present, suspect));
	if (rc < 0)
		return rc;
	be32_put(row, present);
	be32_put(row + 4, suspect);
	tx_put(m, LOCAL_SHARD, set, CODING_KEY, row, sizeof(row), 0, CHANGE_LOCAL);
	return 0;
}

static int delete_step(struct meta *m, const uint8_t set[16])
{
	sqlite3_stmt *st = stmt_of(m, SQL_SHARD_DELETE, set);
	int rc = st ? tx_exec(m, st) : tx_error(m);

	if (rc < 0)
		return rc;
	st = stmt_of(m, SQL_CODING_DELETE, set);
	return st ? tx_exec(m, st) : tx_error(m);
}

int coding_delete(struct meta *m, const uint8_t set[16])
{
	int rc = tx_reserve(m, 2, (size_t)2 * CODING_KEY);

	if (rc)
		return rc;
	rc = TX_WRITE(m, delete_step(m, set));
	if (rc < 0)
		return rc;
	tx_delete(m, LOCAL_SHARD, set, CODING_KEY, CHANGE_LOCAL);
	if (!rc)
		return -ENOENT;
	tx_delete(m, OUTBOX_CODING, set, CODING_KEY, 0);
	return 0;
}

static int of_segment_step(struct meta *m, uint32_t seg, struct coding_row *out, int max)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_CODING_OF_SEGMENT);
	uint64_t order;
	int rc, n = 0;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, seg);
	while ((rc = tx_step(m, st)) > 0) {
		/* The newest are the ones wanted when there is no room for all. */
		if (n == max) {
			memmove(out, out + 1, (size_t)(max - 1) * sizeof(*out));
			n--;
		}
		rc = read_row(st, &out[n++], &order);
		if (rc) {
			tx_done(st);
			return rc;
		}
	}
	return rc ? rc : n;
}

int coding_of_segment(struct meta *m, uint32_t seg, struct coding_row *out, int max)
{
	if (max <= 0)
		return -EINVAL;
	return TX_READ(m, of_segment_step(m, seg, out, max));
}

int coding_each(struct meta *m, int (*fn)(void *arg, const struct coding_row *c), void *arg)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_CODING_EACH);
	int rc = st ? 0 : tx_error(m);

	while (!rc && (rc = tx_step(m, st)) > 0) {
		struct coding_row c;
		uint64_t order;

		rc = read_row(st, &c, &order);
		if (!rc)
			rc = fn(arg, &c);
		if (rc)
			tx_done(st);
	}
	tx_recover(m, 0);
	return rc;
}
