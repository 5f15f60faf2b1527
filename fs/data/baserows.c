#include "fs/data/baserows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/scope.h"

/* Loaded around a place in a long list: what a 1 MiB read needs, or a random one wastes. */
#define NEAR_ROWS 64

void baserows_release(struct baserows *b)
{
	free(b->runs);
	*b = (struct baserows){ 0 };
}

void baserows_set_empty(struct baserows *b)
{
	baserows_release(b);
	b->to = UINT64_MAX;
}

int baserows_load(struct baserows *b, struct meta *m, uint64_t ino, uint64_t off)
{
	/* The first load takes the whole file when it is small; random access in a long list
	 * reads fewer rows around each place. */
	int first = b->from == b->to && !b->runs, max = first ? BASEROWS_MAX : NEAR_ROWS;
	AUTO_FREE struct run *page = malloc(BASEROWS_MAX * sizeof(*page));
	uint64_t from = first ? 0 : off, to;
	int n, more = 0;

	baserows_release(b);
	if (!page)
		return -ENOMEM;
	n = run_page(m, ino, from, UINT64_MAX, page, max, &more);
	if (n < 0)
		return n;
	to = more && n ? page[n - 1].off + page[n - 1].len : UINT64_MAX;
	if (off >= to) {
		from = off;
		n = run_page(m, ino, from, UINT64_MAX, page, NEAR_ROWS, &more);
		if (n < 0)
			return n;
		to = more && n ? page[n - 1].off + page[n - 1].len : UINT64_MAX;
	}
	if (n) {
		b->runs = malloc((size_t)n * sizeof(*b->runs));
		if (!b->runs)
			return -ENOMEM;
		memcpy(b->runs, page, (size_t)n * sizeof(*b->runs));
	}
	b->n = b->cap = (uint32_t)n;
	b->from = from, b->to = to;
	return 0;
}

/* Index of the first row that ends behind off. */
static uint32_t index_of(const struct baserows *b, uint64_t off)
{
	uint32_t lo = 0, hi = b->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (b->runs[mid].off + b->runs[mid].len > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

const struct run *baserows_find(const struct baserows *b, uint64_t off)
{
	uint32_t i = index_of(b, off);

	return i < b->n ? &b->runs[i] : NULL;
}

static int make_room(struct baserows *b, uint32_t at, uint32_t more)
{
	if (b->n + more > b->cap) {
		uint32_t cap = b->cap ? b->cap * 2 : 2;
		struct run *r;

		if (b->n + more > 2 * BASEROWS_MAX)
			return -E2BIG;
		r = realloc(b->runs, MAX(cap, b->n + more) * sizeof(*r));
		if (!r)
			return -ENOMEM;
		b->runs = r, b->cap = MAX(cap, b->n + more);
	}
	memmove(&b->runs[at + more], &b->runs[at], (b->n - at) * sizeof(*b->runs));
	b->n += more;
	return 0;
}

static void cut_front(struct run *r, uint64_t to)
{
	r->skip += to - r->off;
	r->len -= to - r->off;
	r->off = to;
}

void baserows_clear(struct baserows *b, uint64_t off, uint64_t end)
{
	uint32_t i, j;

	if (b->from == b->to || off >= end)
		return;
	i = index_of(b, off);
	if (i < b->n && b->runs[i].off < off) {
		struct run *r = &b->runs[i], right = *r;

		if (r->off + r->len > end) {
			if (make_room(b, i + 1, 1)) {
				baserows_release(b);
				return;
			}
			cut_front(&right, end);
			b->runs[i + 1] = right;
			r = &b->runs[i];
		}
		r->len = off - r->off;
		i++;
	}
	for (j = i; j < b->n && b->runs[j].off + b->runs[j].len <= end; j++)
		;
	if (j < b->n && b->runs[j].off < end)
		cut_front(&b->runs[j], end);
	memmove(&b->runs[i], &b->runs[j], (b->n - j) * sizeof(*b->runs));
	b->n -= j - i;
}

void baserows_insert(struct baserows *b, const struct run *r, int continues)
{
	uint64_t end = r->off + r->len;
	uint32_t i;

	if (b->from == b->to || end <= b->from || r->off >= b->to)
		return;
	i = index_of(b, r->off);
	if (continues && i && b->runs[i - 1].off + b->runs[i - 1].len == r->off) {
		b->runs[i - 1].len += r->len;
		return;
	}
	if (make_room(b, i, 1)) {
		baserows_release(b);
		return;
	}
	b->runs[i] = *r;
}
