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

/* Shards 0..k-1 are the content itself, and every sound read takes them; the others are read when
 * something is missing. So the places that are cheapest to read, and among equals fastest, come
 * first: order[j] is the URL that gets shard j. Prices by cost= (a folder without one is free, a
 * cloud without one as dear as the dearest); folders before clouds; latency[i] in ns, 0 where it is
 * not known, told apart by powers of two from 10 ms on; what is equal stays in the order given. */
void placement_order(const struct backend_url *urls, const int64_t *latency, int n, uint8_t *order);

#endif
