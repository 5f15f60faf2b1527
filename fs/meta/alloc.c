/* Allocators of inode numbers, cookies and segment numbers.
 *
 * Two persistent marks each. The local one ("meta.*", not replicated) is kept at least half a step
 * ahead of use and raised with a commit: a crash loses numbers, and can give one twice only if more
 * than half a step was given since the last commit that is durable, and then to rows that never
 * were. A clean close writes the exact value. The other mark is replicated, only grows, and says
 * where a machine that has nothing but the published rows has to go on. Both are written by
 * meta_commit, so that giving a number never fails. */
#include "fs/meta/impl.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "fs/base/scope.h"

static const struct {
	const char *local, *drive;
	uint64_t first, step;
} kinds[ALLOC_KINDS] = {
	[ALLOC_INO] = { "meta.ino", "alloc.ino", META_ROOT_INO + 1, 1 << 20 },
	[ALLOC_COOKIE] = { "meta.cookie", "alloc.cookie", 16, 1 << 20 },
	[ALLOC_SEGMENT] = { "meta.segment", "alloc.segment", 1, 8192 },
};

static int put_mark(struct meta *m, const char *key, uint64_t v, int local)
{
	uint8_t b[8];

	be64_put(b, v);
	return local ? meta_local_put(m, key, b, sizeof(b)) : meta_drive_put(m, key, b, sizeof(b));
}

static int get_mark(struct meta *m, const char *key, int local, uint64_t *v)
{
	uint8_t *p = NULL;
	size_t n;
	int rc = local ? meta_local_get(m, key, &p, &n) : meta_drive_get(m, key, &p, &n);

	if (rc == -ENOENT)
		return 0;
	if (!rc && n != 8)
		rc = -EBADMSG;
	if (!rc)
		*v = be64_get(p);
	free(p);
	return rc;
}

int alloc_load(struct meta *m)
{
	int rc = 0;

	for (int i = 0; i < ALLOC_KINDS && !rc; i++) {
		struct alloc *a = &m->alloc[i];

		uint64_t next = kinds[i].first;

		a->drive_high = 0;
		rc = get_mark(m, kinds[i].local, 1, &next);
		if (!rc)
			rc = get_mark(m, kinds[i].drive, 0, &a->drive_high);
		a->next = a->local_high = a->start = next;
		if (!rc && !m->read_only) {
			a->local_high += kinds[i].step;
			rc = put_mark(m, kinds[i].local, a->local_high, 1);
		}
	}
	return rc;
}

int alloc_flush(struct meta *m)
{
	for (int i = 0; i < ALLOC_KINDS; i++) {
		struct alloc *a = &m->alloc[i];
		uint64_t high = a->next + kinds[i].step;
		int rc = 0;

		if (a->next + kinds[i].step / 2 > a->local_high) {
			rc = put_mark(m, kinds[i].local, high, 1);
			if (!rc)
				a->local_high = high;
		}
		/* An idle mount publishes nothing, also when a crash made it skip numbers. */
		if (!rc && a->next > MAX(a->drive_high, a->start)) {
			rc = put_mark(m, kinds[i].drive, high, 0);
			if (!rc)
				a->drive_high = high;
		}
		if (rc)
			return rc;
	}
	return 0;
}

int alloc_exact(struct meta *m)
{
	int rc = 0;

	for (int i = 0; i < ALLOC_KINDS && !rc; i++)
		rc = put_mark(m, kinds[i].local, m->alloc[i].next, 1);
	return rc;
}

void alloc_seen(struct meta *m, const uint8_t *key, size_t key_len, const uint8_t *row,
		size_t row_len)
{
	for (int i = 0; i < ALLOC_KINDS; i++) {
		struct alloc *a = &m->alloc[i];
		uint64_t high;

		if (row_len != 8 || key_len != strlen(kinds[i].drive) ||
		    memcmp(key, kinds[i].drive, key_len))
			continue;
		/* Below where the numbers end, so that no record, however odd, makes them wrap. */
		high = MIN(be64_get(row), i == ALLOC_SEGMENT ? UINT32_MAX : META_INT_MAX / 2);
		a->drive_high = high;
		a->next = a->start = MAX(a->next, high);
	}
}

static uint64_t take(struct meta *m, enum alloc_kind kind)
{
	return atomic_fetch_add(&m->alloc[kind].next, 1);
}

uint64_t meta_next_ino(struct meta *m)
{
	return take(m, ALLOC_INO);
}

uint64_t meta_next_cookie(struct meta *m)
{
	return take(m, ALLOC_COOKIE);
}

uint32_t meta_next_segment(struct meta *m)
{
	uint64_t n = UINT32_MAX + 1ull;

	if (m->alloc[ALLOC_SEGMENT].next <= UINT32_MAX)
		n = take(m, ALLOC_SEGMENT);
	return n > UINT32_MAX ? 0 : (uint32_t)n;
}
