#include "fs/data/overlay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/scope.h"

#define PIECES_MAX 64

/* Memory of one or more dirty pieces of one file; by the inode's lock. */
struct dbuf {
	uint32_t refs, cap;
	uint8_t data[];
};

static struct dbuf *dbuf_create(struct overlay_env *env, uint32_t cap)
{
	struct dbuf *d = malloc(sizeof(*d) + cap);

	if (!d)
		return NULL;
	d->refs = 1, d->cap = cap;
	atomic_fetch_add_explicit(&env->buf_bytes, cap, memory_order_relaxed);
	return d;
}

static void dbuf_unref(struct overlay_env *env, struct dbuf *d)
{
	if (--d->refs)
		return;
	atomic_fetch_sub_explicit(&env->buf_bytes, d->cap, memory_order_relaxed);
	free(d);
}

static void count(struct overlay *o, int64_t dirty, int64_t data)
{
	o->dirty += (uint64_t)dirty;
	o->data += (uint64_t)data;
	if (dirty)
		atomic_fetch_add_explicit(&o->env->dirty_bytes, (uint64_t)dirty,
					  memory_order_relaxed);
	if (data)
		atomic_fetch_add_explicit(&o->env->data_bytes, (uint64_t)data,
					  memory_order_relaxed);
}

static void count_pieces(struct overlay *o)
{
	if (o->counted == o->map.count)
		return;
	atomic_fetch_add_explicit(&o->env->pieces, (long long)o->map.count - (long long)o->counted,
				  memory_order_relaxed);
	o->counted = o->map.count;
}

static void on_ref(void *arg, const struct piece *p)
{
	struct overlay *o = arg;

	if (p->kind == PIECE_DIRTY)
		((struct dbuf *)p->buf)->refs++;
	else if (p->kind == PIECE_SEALED)
		segstore_ref(o->env->st, p->seg);
}

static void on_unref(void *arg, const struct piece *p)
{
	struct overlay *o = arg;

	if (p->kind == PIECE_DIRTY)
		dbuf_unref(o->env, p->buf);
	else if (p->kind == PIECE_SEALED && o->env->st) /* the store may be gone at the end */
		segstore_unref(o->env->st, p->seg);
}

static void on_gone(void *arg, const struct piece *p, uint64_t bytes)
{
	if (p->kind == PIECE_HOLE)
		return;
	count(arg, p->kind == PIECE_DIRTY ? -(int64_t)bytes : 0, -(int64_t)bytes);
}

static const struct runmap_ops overlay_ops = { .ref = on_ref, .unref = on_unref, .gone = on_gone };

void overlay_init(struct overlay *o, struct overlay_env *env)
{
	*o = (struct overlay){ .env = env };
	runmap_init(&o->map, &overlay_ops, o);
}

void overlay_release(struct overlay *o)
{
	runmap_release(&o->map);
	count_pieces(o);
}

/* right continues left in file and segment, and no snapshot has one without the other. */
static int continues(const struct piece *left, const struct piece *right)
{
	return left->kind == PIECE_SEALED && right->kind == PIECE_SEALED &&
	       left->end == right->off && left->seg == right->seg && left->next &&
	       left->next == right->first && right->pos == 0 && !left->mark && !right->mark;
}

/* Puts a sealed piece, joined with what it continues. Takes a reference on seg. Two spares. */
static void put_sealed(struct overlay *o, const struct piece *p, struct runmap_spare *s)
{
	struct piece *left;

	runmap_clear(&o->map, p->off, p->end, s);
	count(o, 0, (int64_t)(p->end - p->off));
	left = runmap_before(&o->map, p->off);
	if (left && continues(left, p)) {
		left->end = p->end;
		left->next = p->next;
		segstore_unref(o->env->st, p->seg);
	} else {
		runmap_set(&o->map, p, s);
	}
}

/* --- writing --- */

/* The dirty piece of off's block that contains off or ends there. */
static struct piece *dirty_at(struct overlay *o, uint64_t off)
{
	struct piece *p = runmap_before(&o->map, off + 1);

	if (!p || p->kind != PIECE_DIRTY || p->end < off || p->off < off - off % o->env->extent_max)
		return NULL;
	return p;
}

static uint8_t *dirty_bytes(const struct piece *p, uint64_t off)
{
	return ((struct dbuf *)p->buf)->data + p->pos + (off - p->off);
}

const uint8_t *overlay_bytes(const struct piece *p, uint64_t off)
{
	return dirty_bytes(p, off);
}

/* The bytes behind the last full block: into a piece that is there, as far as it reaches or can
 * grow, and into a fresh one. */
struct tail {
	struct piece *p;    /* NULL: none */
	struct dbuf *fresh; /* for [split, end), or NULL: p grows */
	uint64_t off, split, end;
};

static uint32_t tail_cap(const struct overlay *o, uint64_t off, uint64_t need, uint64_t before)
{
	uint64_t room = o->env->extent_max - off % o->env->extent_max;
	uint64_t cap = MAX(round_up_u64(need, 64), before * 2);

	return (uint32_t)MIN(cap, MAX(room, need));
}

static int tail_prepare(struct overlay *o, struct tail *t)
{
	struct piece *p;
	struct dbuf *d;
	uint64_t need;

	t->p = NULL, t->fresh = NULL, t->split = t->off;
	if (t->off == t->end)
		return 0;
	p = t->p = dirty_at(o, t->off);
	if (p)
		t->split = MIN(t->end, p->end);
	if (t->split == t->end)
		return 0;
	if (!p || ((struct dbuf *)p->buf)->refs > 1) {
		t->fresh = dbuf_create(o->env, tail_cap(o, t->split, t->end - t->split, 0));
		return t->fresh ? 0 : -ENOMEM;
	}
	d = p->buf;
	need = p->pos + (t->end - p->off);
	if (need > d->cap) {
		uint32_t cap = (uint32_t)(p->pos + tail_cap(o, p->off, t->end - p->off, d->cap));
		struct dbuf *bigger = realloc(d, sizeof(*d) + cap);

		if (!bigger)
			return -ENOMEM;
		atomic_fetch_add_explicit(&o->env->buf_bytes, cap - bigger->cap,
					  memory_order_relaxed);
		bigger->cap = cap;
		p->buf = bigger;
	}
	return 0;
}

static void tail_put(struct overlay *o, struct tail *t, const uint8_t *src, struct runmap_spare *s)
{
	uint64_t inside = t->split - t->off, grow = t->end - t->split;

	if (inside)
		memcpy(dirty_bytes(t->p, t->off), src, inside);
	if (!grow)
		return;
	if (t->fresh) {
		struct piece p = {
			.off = t->split, .end = t->end, .buf = t->fresh, .kind = PIECE_DIRTY
		};

		memcpy(t->fresh->data, src + inside, grow);
		runmap_set(&o->map, &p, s);
	} else {
		runmap_clear(&o->map, t->split, t->end, s);
		memcpy(dirty_bytes(t->p, t->split), src + inside, grow);
		t->p->end = t->end;
	}
	count(o, (int64_t)grow, (int64_t)grow);
}

/* A dirty piece that fills its block is sealed at once; a failure leaves it dirty for the commit.
 */
static void seal_if_full(struct overlay *o, uint64_t ino, struct seg_lane *lane, uint64_t off)
{
	struct piece *p = dirty_at(o, off);

	if (p && p->end - p->off == o->env->extent_max)
		(void)overlay_seal(o, ino, lane);
}

/* Seals [first, to), to a multiple of extent_max: what precedes `off` there is dirty and
 * contiguous, the rest is src. */
static int write_extents(struct overlay *o, uint64_t ino, struct seg_lane *lane, uint64_t off,
			 uint64_t to, const uint8_t *src, struct runmap_spare *s)
{
	uint64_t e = o->env->extent_max, first = off, at = off;
	struct seg_piece pieces[PIECES_MAX];
	struct piece *before = off % e ? dirty_at(o, off) : NULL, put;
	AUTO_FREE uint8_t *scratch = NULL;
	struct seg_loc loc;
	int n = 0, rc;

	if (before && before->off < off) {
		uint64_t head = off - before->off, len = off - off % e + e - off;

		first = before->off;
		scratch = malloc(head + len);
		if (!scratch)
			return -ENOMEM;
		memcpy(scratch, dirty_bytes(before, first), head);
		memcpy(scratch + head, src, len);
		pieces[n++] = (struct seg_piece){ scratch, (uint32_t)(head + len), ino, first };
		at = off + len;
	}
	for (; at < to; n++) {
		uint64_t len = e - at % e;

		pieces[n] = (struct seg_piece){ src + (at - off), (uint32_t)len, ino, at };
		at += len;
	}
	rc = segstore_append(o->env->st, lane, pieces, n, &loc);
	if (rc)
		return rc;
	put = (struct piece){ .off = first,
			      .end = to,
			      .seg = loc.seg,
			      .first = loc.first,
			      .next = loc.first + (uint32_t)n,
			      .kind = PIECE_SEALED };
	put_sealed(o, &put, s);
	return 0;
}

int overlay_write(struct overlay *o, uint64_t ino, struct seg_lane *lane, uint64_t off,
		  const void *buf, size_t len)
{
	uint64_t end = off + len, to = MAX(off, end - end % o->env->extent_max);
	struct runmap_spare mid = { 0 }, last = { 0 };
	struct tail t = { .off = to, .end = end };
	int rc;

	if (!len)
		return 0;
	assert(len <= OVERLAY_WRITE_MAX(o->env->extent_max));
	rc = runmap_spare_get(&last, 2);
	if (!rc && to > off)
		rc = runmap_spare_get(&mid, 2);
	if (!rc)
		rc = tail_prepare(o, &t);
	if (!rc && to > off)
		rc = write_extents(o, ino, lane, off, to, buf, &mid);
	if (!rc) {
		tail_put(o, &t, (const uint8_t *)buf + (to - off), &last);
		if (end > to)
			seal_if_full(o, ino, lane, end - 1);
	} else if (t.fresh) {
		dbuf_unref(o->env, t.fresh);
	}
	runmap_spare_release(&mid);
	runmap_spare_release(&last);
	count_pieces(o);
	return rc;
}

int overlay_hole(struct overlay *o, uint64_t off, uint64_t end, int mask)
{
	struct piece p = { .off = off, .end = end, .kind = PIECE_HOLE };
	struct runmap_spare s;

	if (off >= end)
		return 0;
	if (runmap_spare_get(&s, 2))
		return -ENOMEM;
	if (mask)
		runmap_set(&o->map, &p, &s);
	else
		runmap_clear(&o->map, off, end, &s);
	runmap_spare_release(&s);
	count_pieces(o);
	return 0;
}

int overlay_put_extents(struct overlay *o, uint64_t off, uint64_t end, uint32_t seg, uint32_t first,
			uint64_t pos)
{
	struct piece p = {
		.off = off, .end = end, .pos = pos, .seg = seg, .first = first, .kind = PIECE_SEALED
	};
	struct runmap_spare s;

	if (runmap_spare_get(&s, 2)) {
		segstore_unref(o->env->st, seg);
		return -ENOMEM;
	}
	put_sealed(o, &p, &s);
	runmap_spare_release(&s);
	count_pieces(o);
	return 0;
}

/* --- sealing --- */

/* The end of the dirty pieces that touch p one after the other inside its block. */
static uint64_t group_end(struct overlay *o, const struct piece *p, int *several)
{
	uint64_t block_end = p->off - p->off % o->env->extent_max + o->env->extent_max;
	uint64_t end = p->end;

	*several = 0;
	while (end < block_end) {
		const struct piece *q = runmap_find(&o->map, end);

		if (!q || q->off != end || q->kind != PIECE_DIRTY)
			break;
		end = q->end;
		*several = 1;
	}
	return end;
}

static uint8_t *gather(struct overlay *o, uint64_t off, uint64_t end)
{
	uint8_t *mem = malloc(end - off);

	for (uint64_t at = off; mem && at < end;) {
		const struct piece *p = runmap_find(&o->map, at);

		memcpy(mem + (at - off), dirty_bytes(p, p->off), p->end - p->off);
		at = p->end;
	}
	return mem;
}

/* The dirty pieces of [off, end) become one sealed piece. Takes a reference on seg. */
static void turn_sealed(struct overlay *o, uint64_t off, uint64_t end, uint32_t seg, uint32_t num)
{
	struct runmap_spare none = { 0 };
	struct piece *p = runmap_find(&o->map, off), *left;

	runmap_clear(&o->map, p->end, end, &none); /* ends of pieces: needs no memory */
	count(o, -(int64_t)(p->end - p->off), (int64_t)(end - p->end));
	dbuf_unref(o->env, p->buf);
	p->end = end, p->pos = 0;
	p->seg = seg, p->first = num, p->next = num + 1;
	p->kind = PIECE_SEALED;
	left = runmap_before(&o->map, off);
	if (left && continues(left, p))
		runmap_join(&o->map, left, p);
}

int overlay_seal(struct overlay *o, uint64_t ino, struct seg_lane *lane)
{
	struct piece *p = runmap_find(&o->map, 0);
	int rc = 0;

	while (p && o->dirty && !rc) {
		struct seg_piece pieces[PIECES_MAX];
		uint8_t *scratch[PIECES_MAX];
		uint64_t at = 0;
		struct seg_loc loc;
		int n = 0;

		for (; p && n < PIECES_MAX;
		     p = at == RUNMAP_INF ? NULL : runmap_find(&o->map, at)) {
			int several;
			uint64_t end;

			at = p->end;
			if (p->kind != PIECE_DIRTY)
				continue;
			at = end = group_end(o, p, &several);
			scratch[n] = several ? gather(o, p->off, end) : NULL;
			if (several && !scratch[n]) {
				rc = -ENOMEM;
				break;
			}
			pieces[n] =
			    (struct seg_piece){ several ? scratch[n] : dirty_bytes(p, p->off),
						(uint32_t)(end - p->off), ino, p->off };
			n++;
		}
		if (n && !rc)
			rc = segstore_append_accepted(o->env->st, lane, pieces, n, &loc);
		for (int i = 0; i < n; i++) {
			if (!rc) {
				if (i)
					segstore_ref(o->env->st, loc.seg);
				turn_sealed(o, pieces[i].off, pieces[i].off + pieces[i].len,
					    loc.seg, loc.first + (uint32_t)i);
			}
			free(scratch[i]);
		}
		/* turn_sealed may have joined the piece that p points to */
		p = at && at != RUNMAP_INF ? runmap_find(&o->map, at) : NULL;
	}
	count_pieces(o);
	return rc;
}

/* --- snapshots --- */

int overlay_snapshot(struct overlay *o, uint32_t mark, struct snap_ent *one, struct snap_ent **out)
{
	struct snap_ent *e;
	size_t n = 0, i = 0;

	*out = NULL;
	for (struct piece *p = runmap_find(&o->map, 0); p; p = runmap_next(&o->map, p))
		n += !p->mark;
	if (!n)
		return 0;
	e = n == 1 ? one : malloc(n * sizeof(*e));
	if (!e)
		return -ENOMEM;
	for (struct piece *p = runmap_find(&o->map, 0); p; p = runmap_next(&o->map, p)) {
		if (p->mark)
			continue;
		assert(p->kind != PIECE_DIRTY);
		p->mark = mark;
		e[i] = (struct snap_ent){ .off = p->off, .end = p->end };
		if (p->kind == PIECE_SEALED) {
			e[i].pos = p->pos, e[i].seg = p->seg, e[i].first = p->first;
			segstore_ref(o->env->st, p->seg);
		}
		i++;
	}
	*out = e;
	return (int)n;
}

static int is_committed(void *arg, const struct piece *p)
{
	return p->mark && p->mark <= *(uint32_t *)arg;
}

void overlay_committed(struct overlay *o, uint32_t mark)
{
	runmap_drop_if(&o->map, is_committed, &mark);
	count_pieces(o);
}
