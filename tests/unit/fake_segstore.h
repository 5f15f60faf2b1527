/* A segment store in memory (and, so that a kill can be simulated, in one append-only file), for
 * tests of what stands above segstore.h: same functions, no crypto, no backends, faults on demand.
 */
#ifndef TESTS_UNIT_FAKE_SEGSTORE_H
#define TESTS_UNIT_FAKE_SEGSTORE_H

#include "fs/data/segstore.h"

struct fake_opts {
	struct meta *meta;
	const char *path;      /* what was synced; NULL: memory only */
	uint32_t segment_size; /* bytes until the common segment is closed; 0: 256 KiB */
	uint64_t cap;          /* staging cap; 0: none */
};

struct segstore *fake_create(const struct fake_opts *o);
/* Frees it. Returns the references that were left. */
long fake_destroy(struct segstore *st);

/* The next n appends (n < 0: all) fail with rc; likewise syncs. */
void fake_fail_append(struct segstore *st, int rc, int n);
void fake_fail_sync(struct segstore *st, int rc, int n);
/* Reads of synced extents need a fetch, which takes delay_ns and ends with result (0: works). */
void fake_remote(struct segstore *st, int on, int64_t delay_ns, int result);
/* What segstore_unsynced says besides the truth; room is given by fake_give_room. */
void fake_unsynced(struct segstore *st, uint64_t bytes);
void fake_give_room(struct segstore *st);
void fake_present(struct segstore *st, enum seg_level level, uint32_t present);
/* What is below the level asked for: uploads go on without an end, instead of failing. */
void fake_uploads_hang(struct segstore *st, int on);

struct fake_stats {
	uint64_t appends, extents, bytes, syncs, reads, fetches, prefetches, segments, dropped,
	    staged;
	long refs, lanes;
};
void fake_stats(struct segstore *st, struct fake_stats *out);

#endif
