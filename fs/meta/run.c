/* Runs: which bytes of which segment a file is made of. */
#include "fs/meta/run.h"

#include <errno.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

#define PAGE_ROWS 32

static uint64_t end_of(const struct run *r)
{
	return r->off + r->len;
}

static void read_run(sqlite3_stmt *st, struct run *r)
{
	*r = (struct run){
		.off = db_u64(st, 0),
		.len = db_u64(st, 1),
		.skip = db_u64(st, 2),
		.seg = db_u32(st, 3),
		.first = db_u32(st, 4),
	};
}

/* ---- Reading ---- */

static int page_step(struct meta *m, uint64_t ino, uint64_t from, uint64_t to, struct run *out,
		     int max, int *more)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_PAGE);
	int rc, n = 0;

	*more = 0;
	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	db_bind(st, 2, from);
	db_bind(st, 3, to);
	db_bind(st, 4, (uint64_t)max + 2); /* one that ends before `from`, one for *more */
	while ((rc = tx_step(m, st)) > 0) {
		struct run r;

		read_run(st, &r);
		if (end_of(&r) <= from)
			continue;
		if (n == max) {
			*more = 1;
			tx_done(st);
			return n;
		}
		out[n++] = r;
	}
	return rc ? rc : n;
}

int run_page(struct meta *m, uint64_t ino, uint64_t from, uint64_t to, struct run *out, int max,
	     int *more)
{
	int unused;

	if (!more)
		more = &unused;
	*more = 0;
	if (max <= 0)
		return -EINVAL;
	to = MIN(to, META_INT_MAX);
	if (from >= to)
		return 0;
	return TX_READ(m, page_step(m, ino, from, to, out, max, more));
}

/* Rows that begin before `to`, the last first, as long as they end after `from`. */
static int before_step(struct meta *m, uint64_t ino, uint64_t from, uint64_t to, struct run *out,
		       int max)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_BEFORE);
	int rc, n = 0;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	db_bind(st, 2, to);
	db_bind(st, 3, (uint64_t)max);
	while ((rc = tx_step(m, st)) > 0) {
		read_run(st, &out[n]);
		if (end_of(&out[n]) <= from) {
			tx_done(st);
			return n;
		}
		n++;
	}
	return rc ? rc : n;
}

static int any_step(struct meta *m, uint64_t ino)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_ANY);
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	rc = tx_step(m, st);
	if (rc > 0)
		tx_done(st);
	return rc;
}

int run_any(struct meta *m, uint64_t ino)
{
	return TX_READ(m, any_step(m, ino));
}

static int of_segment_step(struct meta *m, uint32_t seg, const struct run_ref *after,
			   struct run_ref *out, int max)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_OF_SEGMENT);
	int rc, n = 0;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, seg);
	db_bind(st, 2, after->run.first);
	db_bind(st, 3, after->ino);
	db_bind(st, 4, after->run.off);
	db_bind(st, 5, (uint64_t)max);
	while ((rc = tx_step(m, st)) > 0) {
		out[n].ino = db_u64(st, 0);
		out[n].run = (struct run){
			.off = db_u64(st, 1),
			.len = db_u64(st, 2),
			.skip = db_u64(st, 3),
			.seg = seg,
			.first = db_u32(st, 4),
		};
		n++;
	}
	return rc ? rc : n;
}

int run_page_of_segment(struct meta *m, uint32_t seg, uint32_t first_after, uint64_t ino_after,
			uint64_t off_after, struct run_ref *out, int max)
{
	struct run_ref after = { .ino = ino_after,
				 .run = { .off = off_after, .first = first_after } };

	if (max <= 0)
		return -EINVAL;
	return TX_READ(m, of_segment_step(m, seg, &after, out, max));
}

/* ---- One row ---- */

static int insert_step(struct meta *m, uint64_t ino, const struct run *r)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_INSERT);
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	db_bind(st, 2, r->off);
	db_bind(st, 3, r->len);
	db_bind(st, 4, r->skip);
	db_bind(st, 5, r->seg);
	db_bind(st, 6, r->first);
	rc = tx_exec(m, st);
	/* Where it goes there is no row, as the caller has just seen. */
	return rc > 0 ? 0 : rc ? rc : tx_set_error(m, SQLITE_CORRUPT);
}

static int resize_step(struct meta *m, uint64_t ino, uint64_t off, uint64_t len)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_RESIZE);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	db_bind(st, 2, off);
	db_bind(st, 3, len);
	return tx_exec(m, st);
}

static int delete_step(struct meta *m, uint64_t ino, uint64_t off)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_RUN_DELETE);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, ino);
	db_bind(st, 2, off);
	return tx_exec(m, st);
}

static void note(struct meta *m, uint64_t ino, const struct run *r, int is_new)
{
	uint8_t key[RUN_KEY], row[RUN_ROW];

	run_encode(ino, r, key, row);
	tx_put(m, OUTBOX_RUN, key, sizeof(key), row, sizeof(row), is_new, 0);
}

static void note_gone(struct meta *m, uint64_t ino, uint64_t off)
{
	uint8_t key[RUN_KEY];

	be64_put(key, ino);
	be64_put(key + 8, off);
	tx_delete(m, OUTBOX_RUN, key, sizeof(key), 0);
}

/* ---- Clearing ---- */

/* What is left of a row: at most one piece on either side of the hole. len 0: none. The left one
 * keeps the row's key. */
struct cut {
	struct run left, right;
	uint64_t gone;
};

static struct cut cut_of(const struct run *r, uint64_t from, uint64_t to)
{
	struct cut c = { .left = *r, .right = *r };
	uint64_t end = end_of(r);

	c.left.len = r->off < from ? from - r->off : 0;
	c.right.len = end > to ? end - to : 0;
	if (c.right.len) {
		c.right.off = to;
		c.right.skip += to - r->off;
	}
	c.gone = r->len - c.left.len - c.right.len;
	return c;
}

static int cut_step(struct meta *m, uint64_t ino, const struct run *r, const struct cut *c)
{
	int rc =
	    c->left.len ? resize_step(m, ino, r->off, c->left.len) : delete_step(m, ino, r->off);

	if (rc >= 0 && c->right.len)
		rc = insert_step(m, ino, &c->right);
	return rc < 0 ? rc : 0;
}

static int cut_row(struct meta *m, uint64_t ino, const struct run *r, uint64_t from, uint64_t to,
		   uint64_t *freed)
{
	struct cut c = cut_of(r, from, to);
	struct seg_live *l;
	int rc = tx_reserve(m, 2, (size_t)2 * (RUN_KEY + RUN_ROW));

	if (rc)
		return rc;
	l = live_get(m, r->seg, &rc);
	if (!l)
		return rc;
	rc = TX_WRITE(m, cut_step(m, ino, r, &c));
	if (rc < 0)
		return rc;
	if (c.left.len)
		note(m, ino, &c.left, 0);
	else
		note_gone(m, ino, r->off);
	if (c.right.len)
		note(m, ino, &c.right, 1);
	live_move(m, l, -(int64_t)c.gone);
	m->totals.bytes -= c.gone;
	*freed += c.gone;
	return 0;
}

int run_clear(struct meta *m, uint64_t ino, uint64_t off, uint64_t len, int max_rows,
	      uint64_t *freed)
{
	struct run rows[PAGE_ROWS];
	uint64_t to, upper, unused;
	int n, rc, left = max_rows;

	if (!freed)
		freed = &unused;
	*freed = 0;
	if (max_rows <= 0)
		return -EINVAL;
	if (__builtin_add_overflow(off, len, &to) || to > META_INT_MAX)
		to = META_INT_MAX;
	if (off >= to)
		return 0;
	upper = to;
	do {
		n = TX_READ(m, before_step(m, ino, off, upper, rows, PAGE_ROWS));
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			if (!left--)
				return -EAGAIN;
			rc = cut_row(m, ino, &rows[i], off, to, freed);
			if (rc)
				return rc;
			upper = rows[i].off;
		}
	} while (n == PAGE_ROWS);
	return 0;
}

/* ---- Inserting ---- */

static int check(uint64_t ino, const struct run *r)
{
	if (!ino || ino > META_INT_MAX || !r->len || !r->seg)
		return -EINVAL;
	if (r->len > META_INT_MAX || r->off > META_INT_MAX - r->len ||
	    r->skip > META_INT_MAX - r->len)
		return -EFBIG;
	return 0;
}

int run_insert(struct meta *m, uint64_t ino, const struct run *r, int continues)
{
	struct run row = *r, prev;
	struct seg_live *l;
	int rc = check(ino, r), merge;

	if (rc)
		return rc;
	/* One search answers both: does anything overlap, and is there a neighbour to grow. */
	rc = TX_READ(m, before_step(m, ino, r->off ? r->off - 1 : 0, end_of(r), &prev, 1));
	if (rc < 0)
		return rc;
	if (rc && end_of(&prev) > r->off)
		return -EEXIST;
	merge = rc && continues && end_of(&prev) == r->off && prev.seg == r->seg &&
		prev.skip <= META_INT_MAX - prev.len - r->len;
	if (merge) {
		row = prev;
		row.len += r->len;
	}
	rc = tx_reserve(m, 1, RUN_KEY + RUN_ROW);
	if (rc)
		return rc;
	l = live_get(m, r->seg, &rc);
	if (!l)
		return rc;
	rc = merge ? TX_WRITE(m, resize_step(m, ino, row.off, row.len))
		   : TX_WRITE(m, insert_step(m, ino, &row));
	if (rc < 0)
		return rc;
	note(m, ino, &row, !merge);
	live_move(m, l, (int64_t)r->len);
	m->totals.bytes += r->len;
	return 0;
}
