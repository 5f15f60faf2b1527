/* Rules about which backend holds which shard. */
#ifndef BACKENDS_PLACEMENT_H
#define BACKENDS_PLACEMENT_H

#include "backends/registry.h"

/* Checks a layout of n = k + m URLs: 1 <= k, 0 <= m, 2 <= n <= 32, no place twice, one provider
 * holds at most m shards (its loss would lose the drive) and fewer than k (it could rebuild the
 * ciphertext); k = 1 (replication, no threshold protection) and over-loaded providers only when
 * `insist`. 0, -EINVAL, -EEXIST (place twice), -EPERM (needs insist; the sentence names the flag
 * --provider-limit-override). */
int placement_check(const struct backend_url *urls, int k, int m, int insist, struct err *e);

#endif
