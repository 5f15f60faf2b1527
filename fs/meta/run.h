/* Runs: a piece of a file, mapped to consecutive extents of one segment. Lock of meta.h held.
 *
 * The bytes of a run are `len` bytes of the concatenated file bytes of extents first, first+1, ...
 * of segment seg, starting `skip` bytes in. skip may exceed the first extent (a cut needs no
 * index); readers normalise. Runs of one node never overlap. A gap is a hole.
 *
 * Every change moves meta_totals.bytes and the `live` of the segments named (segment.h) by itself;
 * node.bytes is the caller's. A segment's row may be inserted after runs name it, within the same
 * transaction: meta_commit refuses with -EINVAL as long as one is missing. */
#ifndef FS_META_RUN_H
#define FS_META_RUN_H

#include "fs/meta/meta.h"

struct run {
	uint64_t off; /* in the file */
	uint64_t len; /* > 0 */
	uint64_t skip;
	uint32_t seg; /* number of the segment, > 0 */
	uint32_t first;
};

/* Runs that touch [from, to), in order, whole (not clipped). Up to max; returns how many or a
 * negative errno; *more (may be NULL) when there are further ones. */
int run_page(struct meta *m, uint64_t ino, uint64_t from, uint64_t to, struct run *out, int max,
	     int *more);

/* Makes [off, off+len) a hole: removes, clips and splits rows; len UINT64_MAX - off for "to the
 * end". At most max_rows (> 0) rows are touched, from the end of the range backwards: -EAGAIN when
 * there is more to do (each step is a valid state: call again with the same range). *freed (may be
 * NULL): bytes of runs gone, in this call; right also with an error. */
int run_clear(struct meta *m, uint64_t ino, uint64_t off, uint64_t len, int max_rows,
	      uint64_t *freed);

/* Inserts a run into a hole (the caller cleared it: -EEXIST when it overlaps a row). `continues`:
 * the caller, who knows the index, says that if the previous row ends where r begins and names the
 * same segment, then r's bytes follow on that row's in the concatenated extents; the rows become
 * one then. When no such row is there it is a plain insert. -EINVAL for len 0 or seg 0, -EFBIG. */
int run_insert(struct meta *m, uint64_t ino, const struct run *r, int continues);

int run_any(struct meta *m, uint64_t ino); /* 1, 0 or negative errno */

/* For the cleaner: rows that name extents of a segment, ascending by (first, ino, off), those after
 * the triple given (0, 0, 0: from the start). Returns how many or a negative errno. */
struct run_ref {
	uint64_t ino;
	struct run run;
};
int run_page_of_segment(struct meta *m, uint32_t seg, uint32_t first_after, uint64_t ino_after,
			uint64_t off_after, struct run_ref *out, int max);

#endif
