/* Open segments: numbers and room are reserved under the lock, sealing happens outside of it, in
 * the region. Disks are the business of seg_sync.c. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "crypto/secmem.h"

#define SPARE_REGIONS 2
#define COMPRESS_MIN  4096

/* --- regions --- */

static struct seg_region *region_take(struct segstore *st)
{
	struct seg_region *r;

	pthread_mutex_lock(&st->lock);
	struct list *l = list_first(&st->regions);
	if (l) {
		list_remove(l);
		st->nregions--;
	}
	pthread_mutex_unlock(&st->lock);
	if (l)
		return list_entry(l, struct seg_region, link);
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	list_init(&r->link);
	r->len = st->region_len;
	/* Far more than is used: pages come with the first touch. */
	r->p = mmap(NULL, r->len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->p == MAP_FAILED) {
		free(r);
		return NULL;
	}
	return r;
}

static void region_free(struct seg_region *r)
{
	munmap(r->p, r->len);
	free(r);
}

/* A region that was used is worth keeping: its pages need not be zeroed again. */
static void region_give_locked(struct segstore *st, struct seg_region *r, int keep)
{
	if (keep && st->nregions < SPARE_REGIONS) {
		list_push_back(&st->regions, &r->link);
		st->nregions++;
		return;
	}
	region_free(r);
}

void seg_regions_free(struct segstore *st)
{
	list_for_each_safe (l, &st->regions)
		region_free(list_entry(l, struct seg_region, link));
	list_init(&st->regions);
	st->nregions = 0;
}

/* --- open segments --- */

void seg_open_free_locked(struct segstore *st, struct seg *s)
{
	struct seg_open *o = s->open;

	if (!o)
		return;
	s->open = NULL;
	st->kept -= o->kept;
	list_remove(&o->link);
	if (o->region)
		region_give_locked(st, o->region,
				   (uint64_t)(st->nregions + 1) * st->target <= st->max.resident);
	free(o->done);
	free(o->hints);
	free(o);
}

/* A new open segment that nobody knows yet. Not the meta lock: an appending writer holds its
 * inode's lock, which comes after that one, and the committer takes them in that order. None of
 * ours is held either. */
static struct seg *open_create(struct segstore *st)
{
	uint8_t id[16];

	uint32_t num = meta_next_segment(st->meta);
	if (!num)
		return NULL;
	random_bytes(id, sizeof(id));
	struct seg *s = seg_new(st, num, id, keyring_current(st->keys));
	struct seg_open *o = calloc(1, sizeof(*o));
	if (!s || !o)
		goto fail;
	list_init(&o->link);
	s->open = o;
	o->seg = s;
	s->phase = SEG_OPEN;
	s->created = clock_real_ns() / NS_PER_S;
	o->pos = o->finished_pos = SEG_FILE_HEADER;
	o->done = calloc(SEG_EXTENTS_MAX, 1);
	o->hints = calloc(SEG_EXTENTS_MAX, sizeof(*o->hints));
	o->region = region_take(st);
	s->body = seg_body_new(st, s);
	if (!o->done || !o->hints || !o->region || !s->body)
		goto fail;
	/* Untouched parts cost no memory. */
	s->body->ext = calloc(SEG_EXTENTS_MAX + 1, sizeof(*s->body->ext));
	if (!s->body->ext)
		goto fail;
	segio_file_header_put(o->region->p, &s->body->cipher);
	return s;
fail:
	if (s) {
		pthread_mutex_lock(&st->lock);
		seg_open_free_locked(st, s);
		pthread_mutex_unlock(&st->lock);
		seg_free(st, s);
	} else {
		free(o);
	}
	return NULL;
}

void seg_begin_close_locked(struct segstore *st, struct seg *s)
{
	if (s->phase != SEG_OPEN)
		return;
	if (st->common == s)
		st->common = NULL;
	for (int i = 0; i < SEG_LANES; i++)
		if (st->lanes[i].seg == s)
			st->lanes[i].seg = NULL;
	seg_account_begin_locked(st, s);
	seg_set_phase_locked(st, s, SEG_CLOSING);
	seg_account_end_locked(st, s);
	s->close_seq = ++st->close_seq;
	seg_work_add_locked(st, s);
	pthread_cond_signal(&st->flush_cv);
}

/* Segments that stand in `opens` have records: they are put there for an append. */
void seg_close_all_locked(struct segstore *st)
{
	list_for_each_safe (l, &st->opens)
		seg_begin_close_locked(st, list_entry(l, struct seg_open, link)->seg);
}

/* --- appending --- */

struct append {
	struct seg_ext x[SEG_PIECES_MAX];
	const void *data[SEG_PIECES_MAX]; /* what is stored: the piece, or its zstd frame */
	uint64_t need;                    /* bytes of the records */
	int n;
};

/* Decides what is stored of each piece. Before anything is reserved, for reservations need the
 * lengths. */
static int append_prepare(struct segstore *st, const struct seg_piece *pieces, int n,
			  struct append *a)
{
	uint8_t *pack = NULL, nonces[SEG_PIECES_MAX][8];
	uint64_t total = 0;

	if (n < 1 || n > SEG_PIECES_MAX)
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		if (!pieces[i].len || pieces[i].len > st->extent_max)
			return -EINVAL;
		total += pieces[i].len;
	}
	random_bytes(nonces, (size_t)n * sizeof(nonces[0]));
	if (st->compress)
		pack = segio_scratch(SCRATCH_PACK, total);
	for (int i = 0; i < n; i++) {
		struct seg_ext *x = &a->x[i];
		size_t len = 0, want = pieces[i].len - pieces[i].len / 16;
		x->flags = 0;
		if (pack && pieces[i].len >= COMPRESS_MIN)
			len = segio_compress(pieces[i].data, pieces[i].len, pack, want);
		x->file_len = x->stored = pieces[i].len;
		a->data[i] = pieces[i].data;
		if (len) {
			x->flags = EXT_ZSTD;
			x->stored = (uint32_t)len;
			a->data[i] = pack;
			pack += len;
		}
		memcpy(x->nonce, nonces[i], sizeof(x->nonce));
		a->need += SEG_RECORD_HEADER + ext_sealed(x, st->k);
	}
	a->n = n;
	return 0;
}

static int fits(const struct segstore *st, const struct seg *s, const struct append *a)
{
	const struct seg_open *o = s->open;

	if (s->body->count + (uint32_t)a->n > SEG_EXTENTS_MAX)
		return 0;
	return o->pos == SEG_FILE_HEADER || (o->pos < st->target && o->pos + a->need <= st->limit);
}

/* The segment that takes the append, made when there is none; the lock is let go meanwhile. */
static struct seg *open_for_locked(struct segstore *st, struct seg_lane *lane,
				   const struct append *a)
{
	for (;;) {
		struct seg **slot = lane ? &lane->seg : &st->common, *s = *slot;
		if (s && fits(st, s, a))
			return s;
		if (s) /* clears the slot */
			seg_begin_close_locked(st, s);
		s = st->spare;
		st->spare = NULL;
		if (!s) {
			pthread_mutex_unlock(&st->lock);
			s = open_create(st);
			pthread_mutex_lock(&st->lock);
			if (!s)
				return NULL;
		}
		if (*slot) { /* somebody was faster */
			if (st->spare) {
				seg_open_free_locked(st, s);
				seg_free(st, s);
			} else {
				st->spare = s;
			}
			continue;
		}
		*slot = s;
		hash_insert(&st->segs, &s->node, s->num);
		list_push_back(&st->opens, &s->open->link);
		list_push_back(&st->rows, &s->rows);
		s->created = clock_real_ns() / NS_PER_S;
		s->open->born_ns = clock_mono_ns();
		seg_account_end_locked(st, s);
		pthread_cond_signal(&st->flush_cv);
	}
}

/* Hands out numbers and room (I3: from here on the numbers are consumed). */
static void reserve_locked(struct segstore *st, struct seg *s, const struct seg_piece *pieces,
			   struct append *a)
{
	struct seg_open *o = s->open;
	struct seg_body *b = s->body;
	uint64_t file_pos = 0;

	if (b->count)
		file_pos = b->ext[b->count - 1].file_pos + b->ext[b->count - 1].file_len;
	seg_account_begin_locked(st, s);
	for (int i = 0; i < a->n; i++) {
		struct seg_ext *x = &a->x[i];
		x->pos = o->pos;
		x->file_pos = file_pos;
		b->ext[b->count] = *x;
		o->hints[b->count] = (struct seg_hint){ pieces[i].ino, pieces[i].off };
		b->count++;
		file_pos += x->file_len;
		o->pos = ext_end(x, st->k);
	}
	s->disk = o->pos;
	seg_account_end_locked(st, s);
	o->pending++;
	o->touched_ns = clock_mono_ns();
	st->unsynced += a->need;
	s->refs++; /* the caller's */
	s->pins++;
}

static int seal_all(struct seg *s, uint32_t first, struct append *a)
{
	int bad = 0;

	for (int i = 0; i < a->n; i++) {
		struct seg_ext *x = &a->x[i];
		uint8_t *rec = s->open->region->p + x->pos;
		int rc = failpoint("stage.seal");
		if (!rc)
			rc = segio_seal(&s->body->cipher, first + (uint32_t)i, x, a->data[i],
					rec + SEG_RECORD_HEADER);
		if (!rc)
			rc = failpoint("stage.sealed");
		if (rc) { /* The number is consumed: a void record stands there (I3). */
			memset(rec + SEG_RECORD_HEADER, 0, ext_sealed(x, s->k));
			x->flags |= EXT_VOID;
			bad = rc;
		}
		segio_record_put(rec, &s->body->cipher, first + (uint32_t)i, x,
				 &s->open->hints[first + (uint32_t)i]);
	}
	return bad;
}

static void finish_locked(struct segstore *st, struct seg *s, uint32_t first,
			  const struct append *a, int failed)
{
	struct seg_open *o = s->open;
	struct seg_body *b = s->body;

	for (uint32_t i = first; i < first + (uint32_t)a->n; i++) {
		b->ext[i].flags = a->x[i - first].flags;
		o->done[i] = 1;
	}
	o->pending--;
	while (o->finished < b->count && o->done[o->finished])
		o->finished_pos = ext_end(&b->ext[o->finished++], st->k);
	if (failed)
		s->refs--;
	if (o->pos >= st->target || b->count == SEG_EXTENTS_MAX)
		seg_begin_close_locked(st, s);
	if (st->pass_running)
		pthread_cond_broadcast(&st->changed);
	if (st->unsynced >= st->max.unsynced_go)
		pthread_cond_signal(&st->flush_cv);
}

static int append(struct segstore *st, struct seg_lane *lane, const struct seg_piece *pieces, int n,
		  uint64_t cap, struct seg_loc *loc)
{
	struct append a = { 0 };

	int rc = append_prepare(st, pieces, n, &a);
	if (rc)
		return rc;
	pthread_mutex_lock(&st->lock);
	if (st->sums.staged_bytes - st->sums.yield_bytes + a.need > cap)
		rc = -ENOSPC;
	else if (st->sync_error && st->unsynced >= st->max.unsynced)
		rc = st->sync_error; /* the disk takes nothing: do not fill the memory */
	else if (st->stopping)
		rc = -EIO;
	struct seg *s = rc ? NULL : open_for_locked(st, lane, &a);
	if (!s) {
		pthread_mutex_unlock(&st->lock);
		return rc ? rc : -ENOMEM;
	}
	uint32_t first = s->body->count;
	reserve_locked(st, s, pieces, &a);
	pthread_mutex_unlock(&st->lock);

	rc = seal_all(s, first, &a);

	pthread_mutex_lock(&st->lock);
	finish_locked(st, s, first, &a, rc != 0);
	seg_unpin_locked(st, s);
	pthread_mutex_unlock(&st->lock);
	if (rc)
		return -EIO;
	*loc = (struct seg_loc){ .seg = s->num, .first = first };
	return 0;
}

int segstore_append(struct segstore *st, struct seg_lane *lane, const struct seg_piece *pieces,
		    int n, struct seg_loc *loc)
{
	return append(st, lane, pieces, n, st->cap, loc);
}

int segstore_append_accepted(struct segstore *st, struct seg_lane *lane,
			     const struct seg_piece *pieces, int n, struct seg_loc *loc)
{
	return append(st, lane, pieces, n, UINT64_MAX, loc);
}

/* --- lanes, room, flush --- */

struct seg_lane *segstore_lane_take(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);
	for (int i = 0; i < SEG_LANES; i++) {
		if (st->lanes[i].taken)
			continue;
		st->lanes[i].taken = 1;
		return &st->lanes[i];
	}
	return NULL;
}

void segstore_lane_give(struct segstore *st, struct seg_lane *lane)
{
	SCOPE_LOCK(&st->lock);
	struct seg *s = lane->seg, *c = st->common;

	lane->seg = NULL;
	lane->taken = 0;
	if (!s)
		return;
	st->common = s;
	if (!c)
		return;
	/* The emptier one goes on. */
	if (c->open->pos < s->open->pos)
		st->common = c, c = s;
	seg_begin_close_locked(st, c);
}

uint64_t segstore_unsynced(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);
	return st->unsynced;
}

void segstore_when_room(struct segstore *st, void (*fn)(void *arg), void *arg)
{
	struct room_wait *w = malloc(sizeof(*w));

	pthread_mutex_lock(&st->lock);
	/* With a failing disk there will be no room: append says so. */
	int now = !w || st->unsynced < st->max.unsynced || st->sync_error || st->stopping;
	if (!now) {
		w->fn = fn, w->arg = arg;
		list_push_back(&st->room, &w->link);
		pthread_cond_signal(&st->flush_cv);
	}
	pthread_mutex_unlock(&st->lock);
	if (now) {
		free(w);
		fn(arg);
	}
}

void segstore_flush(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);
	seg_close_all_locked(st);
}
