/* A header generation on its way: from the local commit to all backends, and the old ones away.
 *
 * Steps, each of which may be the last before a crash; at every moment any k backends unlock:
 *   1. STATE/NAME/header.next is written and synced: all n objects and the local copy
 *   2. STATE/NAME/header becomes the new local copy
 *   3. h/<generation> is put on every backend that is there (written once; the same bytes when
 *      repeated, I4)
 *   4. only when all n have it: older h/... are deleted, everywhere
 *   5. header.next is removed
 * As long as header.next exists the generation is pending; generation_finish goes on from any step,
 * without any secret, as often as needed. Failpoints: header.local (before 1), header.copy (before
 * 2), header.put.N, header.delete.N (before N is touched), header.done (before 5).
 */
#ifndef FS_DRIVE_GENERATION_H
#define FS_DRIVE_GENERATION_H

#include <stdint.h>
#include "backends/backend.h"
#include "fs/base/err.h"
#include "fs/drive/header.h"
#include "fs/drive/paths.h"

/* What one backend holds, or why it did not answer. */
struct generation_found {
	int result; /* 0, or the negative errno of listing or reading */
	int count;  /* header objects read, newest first; older ones are not read */
	uint64_t numbers[4];
	struct header_blob *blobs[4];
};

/* The headers on all backends, at the same time. Blocks up to timeout (ns) per request. */
void generation_fetch(struct backend *const *backends, int n, int64_t timeout,
		      struct generation_found *found);
void generation_found_release(struct generation_found *found, int n);

struct generation_report {
	uint64_t generation;
	uint32_t stored;                /* bit i: backend i has it */
	uint32_t cleaned;               /* bit i: backend i has no older one any more */
	int pending;                    /* 1: not finished; another call goes on */
	int result[DRIVE_MAX_BACKENDS]; /* of backend i; 0 done */
};

/* Steps 1 to 5 for a built generation. A -ESTALE put (other bytes under that number) means that
 * another machine wrote a generation. 0 also when it stays pending because backends are away, as
 * long as it is stored on at least one (else nothing but the local files changed: still pending);
 * the errno of steps 1, 2. The caller holds the lock. */
int generation_commit(const struct paths *p, struct backend *const *backends, int n,
		      const struct header_set *hs, struct generation_report *r, struct err *e);
/* Steps 2 to 5 for what header.next holds. -ENOENT nothing is pending; -EBADMSG header.next is
 * damaged. The caller holds the lock. */
int generation_finish(const struct paths *p, struct backend *const *backends, int n,
		      struct generation_report *r, struct err *e);
/* --now: deletes the older ones from n-k+1 backends that have the new one, so that no k of them
 * unlock any more. -EAGAIN when fewer than k have the new one, or fewer than n-k+1 can be cleaned.
 */
int generation_revoke(struct backend *const *backends, int n, int k, struct generation_report *r,
		      struct err *e);

/* Number of the pending generation, 0 when none. */
uint64_t generation_pending(const struct paths *p);

/* Only one process writes generations: *fd is the lock, close() releases it. wait 0: -EBUSY at
 * once. */
int generation_lock(const struct paths *p, int wait, int *fd, struct err *e);

#endif
