#include "fs/meta/rows.h"

#include <errno.h>
#include <string.h>
#include "fs/base/buf.h"
#include "fs/base/scope.h"
#include "fs/meta/change.h"

void node_encode(const struct node *n, uint8_t row[NODE_ROW])
{
	const uint32_t small[6] = { n->mode, n->nlink, n->uid, n->gid, n->rdev, n->flags };
	const uint64_t big[7] = { n->size,
				  n->bytes,
				  n->parent,
				  (uint64_t)n->atime,
				  (uint64_t)n->mtime,
				  (uint64_t)n->ctime,
				  (uint64_t)n->btime };

	_Static_assert(sizeof(small) + sizeof(big) == NODE_ROW, "layout of a node row");
	for (size_t i = 0; i < ARRAY_LEN(small); i++)
		be32_put(row + 4 * i, small[i]);
	for (size_t i = 0; i < ARRAY_LEN(big); i++)
		be64_put(row + sizeof(small) + 8 * i, big[i]);
}

void node_decode(const uint8_t key[NODE_KEY], const uint8_t row[NODE_ROW], struct node *n)
{
	const uint8_t *big = row + 24;

	*n = (struct node){
		.ino = be64_get(key),
		.mode = be32_get(row),
		.nlink = be32_get(row + 4),
		.uid = be32_get(row + 8),
		.gid = be32_get(row + 12),
		.rdev = be32_get(row + 16),
		.flags = be32_get(row + 20),
		.size = be64_get(big),
		.bytes = be64_get(big + 8),
		.parent = be64_get(big + 16),
		.atime = (int64_t)be64_get(big + 24),
		.mtime = (int64_t)be64_get(big + 32),
		.ctime = (int64_t)be64_get(big + 40),
		.btime = (int64_t)be64_get(big + 48),
	};
}

size_t name_key(uint8_t *key, uint64_t parent, const void *name, size_t n)
{
	be64_put(key, parent);
	memcpy(key + 8, name, n);
	return 8 + n;
}

void name_encode(const struct dirent_row *d, uint8_t row[NAME_ROW])
{
	be64_put(row, d->ino);
	be64_put(row + 8, d->cookie);
	be32_put(row + 16, d->type);
}

void name_decode(const uint8_t *key, size_t key_len, const uint8_t row[NAME_ROW],
		 struct dirent_row *d)
{
	d->parent = be64_get(key);
	d->name_len = (uint16_t)(key_len - 8);
	memcpy(d->name, key + 8, d->name_len);
	d->name[d->name_len] = '\0';
	d->ino = be64_get(row);
	d->cookie = be64_get(row + 8);
	d->type = be32_get(row + 16);
}

void run_encode(uint64_t ino, const struct run *r, uint8_t key[RUN_KEY], uint8_t row[RUN_ROW])
{
	be64_put(key, ino);
	be64_put(key + 8, r->off);
	be64_put(row, r->len);
	be64_put(row + 8, r->skip);
	be32_put(row + 16, r->seg);
	be32_put(row + 20, r->first);
}

void run_decode(const uint8_t key[RUN_KEY], const uint8_t row[RUN_ROW], uint64_t *ino,
		struct run *r)
{
	*ino = be64_get(key);
	*r = (struct run){
		.off = be64_get(key + 8),
		.len = be64_get(row),
		.skip = be64_get(row + 8),
		.seg = be32_get(row + 16),
		.first = be32_get(row + 20),
	};
}

void segment_encode(const struct segment_row *s, uint8_t row[SEGMENT_ROW])
{
	memcpy(row, s->id, 16);
	be32_put(row + 16, s->keyno);
	row[20] = s->code_k;
	row[21] = s->state;
	be32_put(row + 22, s->extents);
	be64_put(row + 26, s->length);
	be64_put(row + 34, s->live);
	be64_put(row + 42, (uint64_t)s->created);
	be64_put(row + 50, s->born);
	be64_put(row + 58, s->died);
}

void segment_decode(const uint8_t key[SEGMENT_KEY], const uint8_t row[SEGMENT_ROW],
		    struct segment_row *s)
{
	*s = (struct segment_row){
		.num = be32_get(key),
		.keyno = be32_get(row + 16),
		.code_k = row[20],
		.state = row[21],
		.extents = be32_get(row + 22),
		.length = be64_get(row + 26),
		.live = be64_get(row + 34),
		.created = (int64_t)be64_get(row + 42),
		.born = be64_get(row + 50),
		.died = be64_get(row + 58),
	};
	memcpy(s->id, row, 16);
}

void coding_encode(const struct coding_row *c, uint64_t order, uint8_t row[CODING_ROW])
{
	be32_put(row, c->seg);
	row[4] = c->k;
	row[5] = c->m;
	row[6] = c->state;
	be64_put(row + 7, order);
}

void coding_decode(const uint8_t key[CODING_KEY], const uint8_t row[CODING_ROW],
		   struct coding_row *c, uint64_t *order)
{
	*c = (struct coding_row){
		.seg = be32_get(row),
		.k = row[4],
		.m = row[5],
		.state = row[6],
	};
	memcpy(c->set, key, sizeof(c->set));
	*order = be64_get(row + 7);
}

/* ---- Bounds (I8): what SQLite can hold and what the readers of the rows rely on ---- */

static int fits(uint64_t v)
{
	return v <= META_INT_MAX;
}

static int number(uint64_t v)
{
	return v > 0 && fits(v);
}

static int check_node(const struct outbox_entry *e)
{
	struct node n;

	if (e->key_len != NODE_KEY || !number(be64_get(e->key)))
		return 0;
	if (e->op == OUTBOX_DELETE)
		return 1;
	if (e->row_len != NODE_ROW)
		return 0;
	node_decode(e->key, e->row, &n);
	return fits(n.size) && fits(n.bytes) && fits(n.parent);
}

static int check_link(const struct outbox_entry *e)
{
	return e->key_len == NODE_KEY && number(be64_get(e->key)) &&
	       (e->op == OUTBOX_DELETE || e->row_len <= META_LINK_MAX);
}

/* Inode number and name, as in names and xattrs. */
static int check_named_key(const struct outbox_entry *e)
{
	return e->key_len > 8 && e->key_len <= 8 + META_NAME_MAX && number(be64_get(e->key)) &&
	       !memchr(e->key + 8, '\0', e->key_len - 8);
}

static int check_name(const struct outbox_entry *e)
{
	const uint8_t *name = e->key + 8;
	size_t n;

	if (!check_named_key(e))
		return 0;
	n = e->key_len - 8u;
	if (memchr(name, '/', n) || (n <= 2 && !memcmp(name, "..", n)))
		return 0;
	if (e->op == OUTBOX_DELETE)
		return 1;
	return e->row_len == NAME_ROW && number(be64_get(e->row)) && fits(be64_get(e->row + 8));
}

static int check_xattr(const struct outbox_entry *e)
{
	return check_named_key(e) && (e->op == OUTBOX_DELETE || e->row_len <= META_XATTR_MAX);
}

static int check_run(const struct outbox_entry *e)
{
	uint64_t ino;
	struct run r;

	if (e->key_len != RUN_KEY || !number(be64_get(e->key)) || !fits(be64_get(e->key + 8)))
		return 0;
	if (e->op == OUTBOX_DELETE)
		return 1;
	if (e->row_len != RUN_ROW)
		return 0;
	run_decode(e->key, e->row, &ino, &r);
	return r.len > 0 && fits(r.len) && r.off <= META_INT_MAX - r.len && fits(r.skip) &&
	       r.skip <= META_INT_MAX - r.len && r.seg > 0;
}

static int check_segment(const struct outbox_entry *e)
{
	struct segment_row s;

	if (e->key_len != SEGMENT_KEY || !be32_get(e->key))
		return 0;
	if (e->op == OUTBOX_DELETE)
		return 1;
	if (e->row_len != SEGMENT_ROW)
		return 0;
	segment_decode(e->key, e->row, &s);
	return s.state >= SEGMENT_OPEN && s.state <= SEGMENT_DROPPED && fits(s.length) &&
	       fits(s.live) && fits(s.born) && fits(s.died);
}

static int check_index(const struct outbox_entry *e)
{
	return e->key_len == SEGMENT_KEY && be32_get(e->key) &&
	       (e->op == OUTBOX_DELETE || e->row_len <= META_INDEX_MAX);
}

static int check_coding(const struct outbox_entry *e)
{
	struct coding_row c;
	uint64_t order;

	if (e->key_len != CODING_KEY)
		return 0;
	if (e->op == OUTBOX_DELETE)
		return 1;
	if (e->row_len != CODING_ROW)
		return 0;
	coding_decode(e->key, e->row, &c, &order);
	return c.seg > 0 && c.k > 0 && c.k + c.m <= 32 && c.state >= CODING_UPLOADING &&
	       c.state <= CODING_STORED && fits(order);
}

static int check_drive(const struct outbox_entry *e)
{
	return e->key_len > 0 && e->key_len <= META_NAME_MAX && !memchr(e->key, '\0', e->key_len) &&
	       (e->op == OUTBOX_DELETE || e->row_len <= META_VALUE_MAX);
}

static int (*const checks[])(const struct outbox_entry *e) = {
	[OUTBOX_NODE] = check_node,   [OUTBOX_LINK] = check_link,
	[OUTBOX_NAME] = check_name,   [OUTBOX_XATTR] = check_xattr,
	[OUTBOX_RUN] = check_run,     [OUTBOX_SEGMENT] = check_segment,
	[OUTBOX_INDEX] = check_index, [OUTBOX_CODING] = check_coding,
	[OUTBOX_DRIVE] = check_drive,
};

int blob_begin(const void *blob, size_t n, struct rd *r)
{
	*r = rd_of(blob, n);
	return rd_get8(r) == CHANGE_BLOB_FORMAT ? 0 : -EBADMSG;
}

int blob_next(struct rd *r, struct outbox_entry *e)
{
	static const uint8_t empty;

	if (!r->left)
		return 0;
	e->table = rd_get8(r);
	e->op = rd_get8(r);
	e->key_len = rd_get16(r);
	e->row_len = rd_get32(r);
	e->key = rd_get(r, e->key_len);
	e->row = e->row_len ? rd_get(r, e->row_len) : &empty;
	if (r->bad || !e->key || !e->row)
		return -EBADMSG;
	if (!e->table || e->table >= ARRAY_LEN(checks))
		return -EBADMSG;
	if (e->op != OUTBOX_UPSERT && (e->op != OUTBOX_DELETE || e->row_len))
		return -EBADMSG;
	return checks[e->table](e) ? 1 : -EBADMSG;
}

int blob_check(const void *blob, size_t n, size_t *entries, size_t *bytes)
{
	struct outbox_entry e;
	struct rd r;
	int rc = blob_begin(blob, n, &r);

	*entries = *bytes = 0;
	if (rc)
		return rc;
	while ((rc = blob_next(&r, &e)) > 0) {
		(*entries)++;
		*bytes += (size_t)e.key_len + e.row_len;
	}
	return rc;
}
