/* Argon2id (RFC 9106), version 0x13, for secrets that a person chose. */
#ifndef CRYPTO_KDF_H
#define CRYPTO_KDF_H

#include <stddef.h>
#include <stdint.h>

#define KDF_MEM_MAX    (1024u * 1024) /* KiB: 1 GiB */
#define KDF_PASSES_MAX 16
#define KDF_LANES_MAX  8
#define KDF_SALT_MIN   8 /* bytes, RFC 9106 section 3.1 */

struct kdf_cost {
	uint32_t mem_kib, passes, lanes;
};

/* 0, or -EINVAL when outside 8 KiB x lanes..KDF_MEM_MAX, 1..KDF_PASSES_MAX, 1..KDF_LANES_MAX.
 * Allocates nothing. */
int kdf_cost_check(const struct kdf_cost *c);

/* out_len (4..1024) bytes from a password. key and ad are Argon2's optional secret and associated
 * data: NULL and 0 for none. Blocks for as long as the cost says, on up to `lanes` threads of its
 * own that end with the call. 0; -EINVAL (cost, lengths); -ENOMEM; -EIO. The working memory is
 * wiped. */
int kdf_argon2id(const struct kdf_cost *c, const void *password, size_t password_len,
		 const void *salt, size_t salt_len, const void *key, size_t key_len, const void *ad,
		 size_t ad_len, void *out, size_t out_len);

#endif
