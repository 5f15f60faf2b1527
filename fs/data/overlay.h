/* What changed in one file and is not in rows yet: dirty bytes, sealed extents, holes, above the
 * committed runs. The inode's lock is held by the caller of every function.
 *
 * A dirty piece never crosses a multiple of extent_max in the file and owns (a part of) one buffer;
 * a sealed piece holds one reference on its segment. */
#ifndef FS_DATA_OVERLAY_H
#define FS_DATA_OVERLAY_H

#include <stdatomic.h>
#include <stdint.h>
#include "fs/data/runmap.h"
#include "fs/data/segstore.h"

/* What all overlays of a volume share. */
struct overlay_env {
	struct segstore *st;
	uint32_t extent_max;
	atomic_ullong buf_bytes;   /* memory of dirty buffers */
	atomic_ullong dirty_bytes; /* bytes of dirty pieces */
	atomic_ullong data_bytes;  /* bytes of dirty and sealed pieces */
	atomic_llong pieces;       /* entries of all maps */
};

struct overlay {
	struct runmap map;
	struct overlay_env *env;
	uint64_t dirty; /* bytes of dirty pieces */
	uint64_t data;  /* bytes of dirty and sealed pieces */
	size_t counted; /* part of env->pieces that is ours */
};

void overlay_init(struct overlay *o, struct overlay_env *env);
void overlay_release(struct overlay *o); /* drops everything */

/* The memory of byte off of a dirty piece. */
const uint8_t *overlay_bytes(const struct piece *p, uint64_t off);

/* One call takes at most this many bytes. */
#define OVERLAY_WRITE_MAX(extent_max) (62ull * (extent_max))

/* Full extents are sealed straight from buf, the rest is copied into dirty memory. All or nothing:
 * -ENOSPC, -EIO, -ENOMEM leave the file as it was. */
int overlay_write(struct overlay *o, uint64_t ino, struct seg_lane *lane, uint64_t off,
		  const void *buf, size_t len);
/* [off, end) reads as zeros. With mask = 0 the range is only forgotten (no rows lie below). 0 or
 * -ENOMEM. */
int overlay_hole(struct overlay *o, uint64_t off, uint64_t end, int mask);
/* The bytes of consecutive extents that exist already; takes the caller's reference on seg, also on
 * failure. */
int overlay_put_extents(struct overlay *o, uint64_t off, uint64_t end, uint32_t seg, uint32_t first,
			uint64_t pos);
/* Seals all dirty bytes. -ENOSPC, -EIO, -ENOMEM: some may stay dirty. */
int overlay_seal(struct overlay *o, uint64_t ino, struct seg_lane *lane);

/* One change of a snapshot. */
struct snap_ent {
	uint64_t off, end;
	uint64_t pos;
	uint32_t seg, first; /* seg 0: a hole. A reference is held on seg */
};
/* Everything that is in no snapshot yet, marked with `mark` (not 0). Nothing may be dirty. *out
 * (malloc'ed, or `one` when a single entry; NULL when none); n or -ENOMEM. */
int overlay_snapshot(struct overlay *o, uint32_t mark, struct snap_ent *one, struct snap_ent **out);
/* Snapshots up to mark are committed: drops what they hold and nobody changed since. */
void overlay_committed(struct overlay *o, uint32_t mark);

#endif
