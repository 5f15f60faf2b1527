/* Where a file's content is: its distinct segments, and the state that they add up to. */
#include <stdio.h>

#include "fs/data/volume_internal.h"

/* A set of segment numbers (never 0): open addressing. */
struct seg_set {
	uint32_t *slots;
	size_t mask, n;
};

static int set_add(struct seg_set *s, uint32_t seg)
{
	size_t at;

	if (2 * (s->n + 1) > s->mask) {
		struct seg_set bigger = { .mask = s->mask ? s->mask * 2 + 1 : 63 };

		bigger.slots = calloc(bigger.mask + 1, sizeof(*bigger.slots));
		if (!bigger.slots)
			return -ENOMEM;
		for (size_t k = 0; s->slots && k <= s->mask; k++)
			if (s->slots[k])
				(void)set_add(&bigger, s->slots[k]); /* has room */
		free(s->slots);
		*s = bigger;
	}
	for (at = hash_mix(seg) & s->mask; s->slots[at]; at = (at + 1) & s->mask)
		if (s->slots[at] == seg)
			return 0;
	s->slots[at] = seg;
	s->n++;
	return 0;
}

static int collect(struct volume *v, struct inode *i, struct seg_set *set, uint64_t *dirty,
		   int *uncommitted)
{
	uint64_t off = 0;
	int rc = 0;

	*dirty = 0, *uncommitted = 0;
	for (;;) {
		struct map_piece p;

		pthread_mutex_lock(&i->lock);
		*uncommitted |= i->data_dirty || i->inflight;
		if (off >= i->n.size) {
			pthread_mutex_unlock(&i->lock);
			return 0;
		}
		rc = file_map_next(i, off, i->n.size, &p);
		pthread_mutex_unlock(&i->lock);
		if (rc == -EAGAIN)
			rc = file_map_load(v, i, off);
		else if (!rc && p.kind == MAP_SEALED)
			rc = set_add(set, p.seg), off = p.end;
		else if (!rc)
			*dirty += p.kind == MAP_DIRTY ? p.end - p.off : 0, off = p.end;
		if (rc)
			return rc;
	}
}

int volume_where(struct volume *v, uint64_t ino, uint32_t *segs, int max, uint64_t *dirty)
{
	struct seg_set set = { 0 };
	struct inode *i;
	int rc = inode_get(v, ino, &i), n = 0, uncommitted;

	if (rc)
		return rc;
	rc = collect(v, i, &set, dirty, &uncommitted);
	for (size_t k = 0; !rc && set.slots && k <= set.mask && n < max; k++)
		if (set.slots[k])
			segs[n++] = set.slots[k];
	free(set.slots);
	inode_put(v, i);
	return rc ? rc : n;
}

int volume_state_xattr(struct volume *v, struct inode *i, char *out, size_t cap)
{
	static const char *const words[] = { "staged", "stored", "dispersed" };
	enum seg_level level = SEG_DISPERSED;
	struct seg_set set = { 0 };
	uint64_t dirty;
	int rc, uncommitted, present = 0, of = 0;

	rc = collect(v, i, &set, &dirty, &uncommitted);
	for (size_t k = 0; !rc && set.slots && k <= set.mask; k++) {
		struct seg_where w;
		int here;

		if (!set.slots[k])
			continue;
		rc = segstore_where(v->st, set.slots[k], &w);
		if (rc == -ENOENT) { /* dropped meanwhile: the file changed */
			rc = 0;
			continue;
		}
		if (rc)
			break;
		here = __builtin_popcount(w.present);
		if (!of || here * (w.k + w.m) < present * of || w.level < level)
			present = here, of = w.k + w.m;
		level = MIN(level, w.level);
	}
	if (rc) {
		;
	} else if (uncommitted || dirty) {
		snprintf(out, cap, "dirty");
	} else if (!set.n) {
		snprintf(out, cap, "empty");
	} else if (level == SEG_STAGED) {
		snprintf(out, cap, "staged");
	} else {
		snprintf(out, cap, "%s %d/%d", words[level], present, of);
	}
	free(set.slots);
	return rc;
}
