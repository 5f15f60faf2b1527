/* Blobs that wait to be published; reading and coalescing them. */
#include "fs/meta/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

#define TRIM_BYTES ((uint64_t)4 << 20) /* per call: freeing reads every page of a blob */

uint64_t outbox_count(struct meta *m)
{
	if (m->read_only)
		tx_load_sums(m);
	return m->blobs;
}

uint64_t outbox_bytes(struct meta *m)
{
	if (m->read_only)
		tx_load_sums(m);
	return m->blob_bytes;
}

uint64_t outbox_last(struct meta *m)
{
	if (m->read_only)
		tx_load_sums(m);
	return m->seq;
}

int outbox_each(struct meta *m, uint64_t after,
		int (*fn)(void *arg, uint64_t seq, const void *blob, size_t n), void *arg)
{
	sqlite3_stmt *st;
	int rc;

	if (after >= META_INT_MAX)
		return 0;
	st = tx_stmt(m, SQL_OUTBOX_EACH);
	rc = st ? 0 : tx_error(m);
	if (st)
		db_bind(st, 1, after);
	while (!rc && (rc = tx_step(m, st)) > 0) {
		size_t n;
		const void *p = db_blob(st, 1, &n);

		rc = p ? fn(arg, db_u64(st, 0), p, n) : -ENOMEM;
		if (rc)
			tx_done(st);
	}
	tx_recover(m, 0);
	return rc;
}

/* Which blobs one call of outbox_trim forgets: those up to `upto`. */
struct trim {
	uint64_t upto, blobs, bytes;
	int more;
};

static int sum_step(struct meta *m, uint64_t seq, struct trim *t)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_OUTBOX_SUM);
	int rc;

	*t = (struct trim){ 0 };
	if (!st)
		return tx_error(m);
	db_bind(st, 1, seq);
	while ((rc = tx_step(m, st)) > 0) {
		if (t->bytes >= TRIM_BYTES) {
			t->more = 1;
			tx_done(st);
			return 0;
		}
		t->upto = db_u64(st, 0);
		t->blobs++;
		t->bytes += db_u64(st, 1);
	}
	return rc;
}

static int trim_step(struct meta *m, uint64_t seq)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_OUTBOX_TRIM);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, seq);
	return tx_exec(m, st);
}

int outbox_trim(struct meta *m, uint64_t seq)
{
	struct trim t;
	int rc = tx_reserve(m, 0, 0);

	if (rc)
		return rc;
	/* Nothing beyond the last blob there is: the transaction's own is not published. */
	seq = MIN(seq, m->seq);
	rc = TX_READ(m, sum_step(m, seq, &t));
	if (rc || !t.blobs)
		return rc;
	rc = TX_WRITE(m, trim_step(m, t.upto));
	if (rc < 0)
		return rc;
	m->trim_seq = MAX(m->trim_seq, t.upto);
	m->dirty = 1;
	m->blobs -= t.blobs;
	m->blob_bytes -= t.bytes;
	return t.more ? -EAGAIN : 0;
}

int outbox_parse(const void *blob, size_t n, int (*fn)(void *arg, const struct outbox_entry *entry),
		 void *arg)
{
	size_t entries, bytes;
	struct outbox_entry e;
	struct rd r;
	int rc = blob_check(blob, n, &entries, &bytes);

	if (rc)
		return rc;
	blob_begin(blob, n, &r);
	while (blob_next(&r, &e) > 0) {
		rc = fn(arg, &e);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- Coalescing: the same map as for one transaction ---- */

struct outbox_merge {
	struct changes changes;
};

struct outbox_merge *outbox_merge_create(void)
{
	struct outbox_merge *om = calloc(1, sizeof(*om));

	if (om && changes_init(&om->changes)) {
		free(om);
		om = NULL;
	}
	return om;
}

static int merge_entry(void *arg, const struct outbox_entry *e)
{
	struct outbox_merge *om = arg;
	int rc = changes_reserve(&om->changes, 1, (size_t)e->key_len + e->row_len);

	if (rc)
		return rc;
	if (e->op == OUTBOX_UPSERT)
		changes_put(&om->changes, e->table, e->key, e->key_len, e->row, e->row_len, 0, 0);
	else
		changes_delete(&om->changes, e->table, e->key, e->key_len, 0);
	return 0;
}

int outbox_merge_add(struct outbox_merge *om, const void *blob, size_t n)
{
	return outbox_parse(blob, n, merge_entry, om);
}

int outbox_merge_finish(struct outbox_merge *om, struct buf *blob)
{
	int rc = changes_blob(&om->changes, blob);

	return rc < 0 ? rc : 0;
}

void outbox_merge_destroy(struct outbox_merge *om)
{
	if (!om)
		return;
	changes_release(&om->changes);
	free(om);
}
