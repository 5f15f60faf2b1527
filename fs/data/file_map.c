/* Where a file's bytes come from: the overlay first, then the committed rows, else zeros. */
#include "fs/data/volume_internal.h"

static int rows_next(struct inode *i, uint64_t off, uint64_t end, struct map_piece *out)
{
	const struct run *r;

	*out = (struct map_piece){ .off = off, .end = end, .kind = MAP_HOLE, .committed = 1 };
	if (!i->row_bytes || off >= i->row_end)
		return 0;
	if (!baserows_knows(&i->base, off))
		return -EAGAIN;
	out->end = MIN(end, i->base.to);
	r = baserows_find(&i->base, off);
	if (!r || r->off >= out->end)
		return 0;
	if (r->off > off) {
		out->end = r->off;
		return 0;
	}
	out->end = MIN(out->end, r->off + r->len);
	out->kind = MAP_SEALED;
	out->seg = r->seg, out->first = r->first;
	out->pos = r->skip + (off - r->off);
	return 0;
}

int file_map_next(struct inode *i, uint64_t off, uint64_t end, struct map_piece *out)
{
	const struct piece *p = runmap_find(&i->over.map, off);

	if (!p || p->off >= end)
		return rows_next(i, off, end, out);
	if (p->off > off)
		return rows_next(i, off, p->off, out);
	*out = (struct map_piece){ .off = off,
				   .end = MIN(end, p->end),
				   .pos = p->pos + (off - p->off) };
	if (p->kind == PIECE_HOLE) {
		out->kind = MAP_HOLE;
	} else if (p->kind == PIECE_SEALED) {
		out->kind = MAP_SEALED;
		out->seg = p->seg, out->first = p->first;
		out->next = out->end == p->end ? p->next : 0;
	} else {
		out->kind = MAP_DIRTY;
		out->mem = overlay_bytes(p, off);
	}
	return 0;
}

int file_map_load_locked(struct volume *v, struct inode *i, uint64_t off)
{
	uint32_t before = i->base.n;
	int rc;

	if (i->dead || !i->row_bytes || baserows_knows(&i->base, off))
		return 0;
	rc = baserows_load(&i->base, v->m, i->n.ino, off);
	atomic_fetch_add_explicit(&v->table.base_rows, (long long)i->base.n - before,
				  memory_order_relaxed);
	return rc;
}

int file_map_load(struct volume *v, struct inode *i, uint64_t off)
{
	int rc;

	meta_lock(v->m);
	pthread_mutex_lock(&i->lock);
	rc = file_map_load_locked(v, i, off);
	pthread_mutex_unlock(&i->lock);
	meta_unlock(v->m);
	return rc;
}

void volume_rows_changed(struct volume *v, uint64_t ino)
{
	struct inode *i = inode_peek(v, ino);

	if (!i)
		return;
	/* A reader that has resolved an old row holds its segment; the next one loads. */
	pthread_mutex_lock(&i->lock);
	if (i->row_bytes) {
		atomic_fetch_sub_explicit(&v->table.base_rows, i->base.n, memory_order_relaxed);
		baserows_release(&i->base);
	}
	pthread_mutex_unlock(&i->lock);
	inode_put(v, i);
}

/* st_blocks is exact while both layers are short, as they are but for files that are being written
 * in many places; then it is at most what stands in both. */
#define EXACT_PIECES 256

uint64_t file_map_bytes(struct inode *i)
{
	uint64_t sum = 0, off = 0;

	if (!i->over.map.count)
		return i->row_bytes;
	if (i->over.map.count > EXACT_PIECES || i->base.n > EXACT_PIECES)
		return MIN(i->row_bytes + i->over.data, round_up_u64(i->n.size, 4096));
	while (off < i->n.size) {
		struct map_piece p;

		if (file_map_next(i, off, i->n.size, &p))
			return MIN(i->row_bytes + i->over.data, round_up_u64(i->n.size, 4096));
		sum += p.kind == MAP_HOLE ? 0 : p.end - p.off;
		off = p.end;
	}
	return sum;
}
