/* Segments, and how many bytes of each are alive.
 *
 * live is kept in memory since a segment was first touched and written by meta_commit, once per
 * segment and commit, not once per run. Between commits memory is right and the row is late;
 * segment_get and segment_each say what memory says. */
#include "fs/meta/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

#define LIVES_KEPT 65536 /* 4 MiB of memory, 1 TiB of segments */

/* ---- Rows ---- */

static int read_row(sqlite3_stmt *st, struct segment_row *s)
{
	size_t n;
	const void *id = db_blob(st, 1, &n);

	*s = (struct segment_row){
		.num = db_u32(st, 0),
		.keyno = db_u32(st, 2),
		.code_k = (uint8_t)db_u32(st, 3),
		.state = (uint8_t)db_u32(st, 4),
		.extents = db_u32(st, 5),
		.length = db_u64(st, 6),
		.live = db_u64(st, 7),
		.created = sqlite3_column_int64(st, 8),
		.born = db_u64(st, 9),
		.died = db_u64(st, 10),
	};
	if (!id || n != sizeof(s->id))
		return id ? -EIO : -ENOMEM;
	memcpy(s->id, id, sizeof(s->id));
	return 0;
}

static int get_step(struct meta *m, uint32_t num, struct segment_row *out)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_SEGMENT_GET);
	int rc;

	if (!st)
		return tx_error(m);
	db_bind(st, 1, num);
	rc = tx_step(m, st);
	if (rc <= 0)
		return rc ? rc : -ENOENT;
	rc = read_row(st, out);
	tx_done(st);
	return rc;
}

int segment_bind_step(struct meta *m, enum sql_id id, const struct segment_row *s)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, s->num);
	db_bind_blob(st, 2, s->id, sizeof(s->id));
	db_bind(st, 3, s->keyno);
	db_bind(st, 4, s->code_k);
	db_bind(st, 5, s->state);
	db_bind(st, 6, s->extents);
	db_bind(st, 7, s->length);
	db_bind(st, 8, s->live);
	db_bind(st, 9, (uint64_t)s->created);
	db_bind(st, 10, s->born);
	db_bind(st, 11, s->died);
	return tx_exec(m, st);
}

static void note(struct meta *m, const struct segment_row *s, int is_new)
{
	uint8_t key[SEGMENT_KEY], row[SEGMENT_ROW];

	be32_put(key, s->num);
	segment_encode(s, row);
	tx_put(m, OUTBOX_SEGMENT, key, sizeof(key), row, sizeof(row), is_new, 0);
}

/* ---- Live bytes ---- */

static struct seg_live *live_find(struct meta *m, uint32_t num)
{
	struct hash_node *n = hash_find(&m->lives, num);

	return n ? container_of(n, struct seg_live, node) : NULL;
}

struct seg_live *live_get(struct meta *m, uint32_t num, int *rc)
{
	struct seg_live *l = live_find(m, num);
	struct segment_row s;

	if (l)
		return l;
	*rc = TX_READ(m, get_step(m, num, &s));
	if (*rc && *rc != -ENOENT)
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l) {
		*rc = -ENOMEM;
		return NULL;
	}
	l->exists = !*rc;
	l->live = *rc ? 0 : s.live;
	*rc = 0;
	hash_insert(&m->lives, &l->node, num);
	return l;
}

void live_move(struct meta *m, struct seg_live *l, int64_t delta)
{
	if (delta < 0 && (uint64_t)-delta > l->live) {
		/* Cannot be, unless the database is wrong; then nothing may be thought dead early.
		 */
		log_error("%s: segment %u has fewer live bytes than its runs; run a scrub", m->path,
			  (unsigned)l->node.key);
		delta = -(int64_t)l->live;
	}
	l->live += (uint64_t)delta;
	if (!l->dirty) {
		l->dirty = 1;
		l->dirty_next = m->dirty_lives;
		m->dirty_lives = l;
	}
	if (!l->live && delta < 0 && !l->dead) {
		l->dead = 1;
		l->dead_next = m->dead_lives;
		m->dead_lives = l;
	}
}

void live_set(struct meta *m, uint32_t num, int exists, uint64_t live)
{
	struct seg_live *l = live_find(m, num);

	if (!l)
		return;
	l->exists = (uint8_t)exists;
	l->live = live;
}

static int flush_one(struct meta *m, struct seg_live *l)
{
	struct segment_row s;
	int rc;

	if (!l->exists && !l->live)
		return 0; /* filled and emptied, or deleted, within the transaction */
	if (!l->exists) {
		log_error("%s: runs name segment %u, which has no row", m->path,
			  (unsigned)l->node.key);
		return -EINVAL;
	}
	rc = TX_READ(m, get_step(m, (uint32_t)l->node.key, &s));
	if (rc)
		return rc;
	if (s.live == l->live)
		return 0;
	s.live = l->live;
	rc = tx_reserve(m, 1, SEGMENT_KEY + SEGMENT_ROW);
	if (!rc)
		rc = TX_WRITE(m, segment_bind_step(m, SQL_SEGMENT_UPDATE, &s));
	if (rc < 0)
		return rc;
	note(m, &s, 0);
	return 0;
}

int live_flush(struct meta *m)
{
	while (m->dirty_lives) {
		struct seg_live *l = m->dirty_lives;
		int rc = flush_one(m, l);

		if (rc)
			return rc;
		m->dirty_lives = l->dirty_next;
		l->dirty = 0;
	}
	return 0;
}

static void forget_clean(struct hash_node *n, void *arg)
{
	struct meta *m = arg;
	struct seg_live *l = container_of(n, struct seg_live, node);

	if (l->dirty || l->dead)
		return;
	hash_remove(&m->lives, n);
	free(l);
}

void live_prune(struct meta *m)
{
	if (m->lives.count > LIVES_KEPT)
		hash_each(&m->lives, forget_clean, m);
}

static void free_live(struct hash_node *n, void *arg)
{
	free(container_of(n, struct seg_live, node));
}

void live_release(struct meta *m)
{
	hash_each(&m->lives, free_live, NULL);
	hash_release(&m->lives);
}

int segment_take_dead(struct meta *m, uint32_t *nums, int max)
{
	int n = 0;

	while (n < max && m->dead_lives) {
		struct seg_live *l = m->dead_lives;

		m->dead_lives = l->dead_next;
		l->dead = 0;
		if (!l->live && l->exists)
			nums[n++] = (uint32_t)l->node.key;
	}
	return n;
}

/* ---- Segments ---- */

int segment_get(struct meta *m, uint32_t num, struct segment_row *out)
{
	int rc = TX_READ(m, get_step(m, num, out));
	struct seg_live *l = rc ? NULL : live_find(m, num);

	if (l)
		out->live = l->live;
	return rc;
}

static int check(const struct segment_row *s)
{
	return !s->num || s->state < SEGMENT_OPEN || s->state > SEGMENT_DROPPED ||
		       s->length > META_INT_MAX || s->born > META_INT_MAX || s->died > META_INT_MAX
		   ? -EINVAL
		   : 0;
}

int segment_insert(struct meta *m, const struct segment_row *s)
{
	struct segment_row row = *s;
	struct seg_live *l;
	int rc = check(s);

	if (!rc)
		rc = tx_reserve(m, 1, SEGMENT_KEY + SEGMENT_ROW);
	if (rc)
		return rc;
	l = live_get(m, s->num, &rc);
	if (!l)
		return rc;
	row.live = l->live;
	rc = TX_WRITE(m, segment_bind_step(m, SQL_SEGMENT_INSERT, &row));
	if (rc <= 0)
		return rc ? rc : -EEXIST;
	note(m, &row, 1);
	l->exists = 1;
	return 0;
}

int segment_update(struct meta *m, const struct segment_row *s)
{
	struct segment_row row;
	int rc = check(s);

	if (!rc)
		rc = segment_get(m, s->num, &row);
	if (!rc)
		rc = tx_reserve(m, 1, SEGMENT_KEY + SEGMENT_ROW);
	if (rc)
		return rc;
	{
		uint64_t live = row.live;

		row = *s;
		row.live = live;
	}
	rc = TX_WRITE(m, segment_bind_step(m, SQL_SEGMENT_UPDATE, &row));
	if (rc < 0)
		return rc;
	note(m, &row, 0);
	return 0;
}

static int delete_numbered(struct meta *m, enum sql_id id, uint32_t num)
{
	sqlite3_stmt *st = tx_stmt(m, id);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, num);
	return tx_exec(m, st);
}

int segment_delete(struct meta *m, uint32_t num)
{
	uint8_t key[SEGMENT_KEY];
	struct segment_row s;
	struct seg_live *l;
	int rc = segment_get(m, num, &s), index;

	if (rc)
		return rc;
	if (s.live)
		return -EBUSY;
	rc = tx_reserve(m, 2, sizeof(key) * 2);
	if (rc)
		return rc;
	be32_put(key, num);
	index = TX_WRITE(m, delete_numbered(m, SQL_INDEX_DELETE, num));
	if (index < 0)
		return index;
	if (index)
		tx_delete(m, OUTBOX_INDEX, key, sizeof(key), 0);
	rc = TX_WRITE(m, delete_numbered(m, SQL_SEGMENT_DELETE, num));
	if (rc < 0)
		return rc;
	tx_delete(m, OUTBOX_SEGMENT, key, sizeof(key), 0);
	l = live_find(m, num);
	if (l)
		l->exists = 0;
	return 0;
}

int segment_each(struct meta *m, int (*fn)(void *arg, const struct segment_row *s), void *arg)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_SEGMENT_EACH);
	int rc = st ? 0 : tx_error(m);

	while (!rc && (rc = tx_step(m, st)) > 0) {
		struct segment_row s;
		struct seg_live *l;

		rc = read_row(st, &s);
		l = live_find(m, s.num);
		if (l)
			s.live = l->live;
		if (!rc)
			rc = fn(arg, &s);
		if (rc)
			tx_done(st);
	}
	tx_recover(m, 0);
	return rc;
}

/* ---- Extent indexes ---- */

static int index_get_step(struct meta *m, uint32_t num, uint8_t **p, size_t *n)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_INDEX_GET);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, num);
	return tx_get_blob(m, st, p, n);
}

int segment_index_get(struct meta *m, uint32_t num, uint8_t **p, size_t *n)
{
	*p = NULL;
	*n = 0;
	return TX_READ(m, index_get_step(m, num, p, n));
}

static int index_put_step(struct meta *m, uint32_t num, const void *p, size_t n)
{
	sqlite3_stmt *st = tx_stmt(m, SQL_INDEX_PUT);

	if (!st)
		return tx_error(m);
	db_bind(st, 1, num);
	db_bind_blob(st, 2, p, n);
	return tx_exec(m, st);
}

int segment_index_put(struct meta *m, uint32_t num, const void *p, size_t n)
{
	uint8_t key[SEGMENT_KEY];
	int rc = !num || n > META_INDEX_MAX ? -EINVAL : tx_reserve(m, 1, sizeof(key) + n);

	if (rc)
		return rc;
	rc = TX_WRITE(m, index_put_step(m, num, p, n));
	if (rc < 0)
		return rc;
	be32_put(key, num);
	tx_put(m, OUTBOX_INDEX, key, sizeof(key), p, n, 0, 0);
	return 0;
}
