/* The bare backend of a drive that goes on when one of its clouds lacks something.
 *
 * Without credentials it is there all the same and answers every request with -EACCES, so that
 * health calls it "denied" and the drive works with the others; as soon as the credentials are
 * found (they are looked for again every few seconds that it is asked) it opens. With another
 * drive's marker on it, it answers -ENODEV as a folder of another drive does. */
#ifndef FS_DRIVE_GUARD_H
#define FS_DRIVE_GUARD_H

#include "backends/registry.h"

/* As backend_open, but credentials that cannot be had are no error. A kind that needs no guard
 * comes bare. u and what env points to are borrowed until backend_destroy. */
int guard_open(const struct backend_url *u, const struct backend_env *env, struct backend **out,
	       struct err *e);

/* Looks at the marker, up to timeout (ns); blocks, for the care thread. An empty place that lost
 * its marker is marked again when `may_claim`. 1 when it is settled, 0 to ask again later. What is
 * found is logged. Any backend may be given. Another drive's marker is never settled: answers can
 * be wrong, and places be put right. */
int guard_verify(struct backend *b, int may_claim, int64_t timeout);
/* 1: the last look found another drive's marker. */
int guard_foreign(struct backend *b);

/* Why it does not work, in words for the user; "" when there is nothing to say. Any backend may be
 * given. */
void guard_words(struct backend *b, char *out, size_t size);

#endif
