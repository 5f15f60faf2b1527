/* Shamir sharing of the 32-byte drive secret over GF(256) (libgfshare), threshold k, x = shard + 1
 * (1..32). k = 1: every share is the secret itself. Wrong shares pass silently here: FORMATS.md's
 * commitments catch them. */
#ifndef CRYPTO_SECRET_SHARE_H
#define CRYPTO_SECRET_SHARE_H

#include <stdint.h>

#define SHARE_LEN 32

/* shares[n][32] for x = 1..n. 1 <= k <= n <= 32, else -EINVAL. */
int secret_share_split(const uint8_t secret[SHARE_LEN], int k, int n, uint8_t (*shares)[SHARE_LEN]);
/* From k shares with distinct x in 1..32. -EINVAL otherwise; -ENOMEM (both). */
int secret_share_combine(const uint8_t *x, uint8_t (*const shares)[SHARE_LEN], int k,
			 uint8_t secret[SHARE_LEN]);

#endif
