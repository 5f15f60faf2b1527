/* AES-256-GCM (NIST SP 800-38D). Thread-safe: each thread keeps contexts of its own for the last 16
 * keys that it used.
 *
 * Volume per key, said here because the callers' nonces depend on it: a segment key seals at most
 * 8,193 extents of at most 1 MiB with nonces that differ in their first 4 bytes (the extent number)
 * by construction; 2^33 bytes is far below GCM's limits. */
#ifndef CRYPTO_AEAD_H
#define CRYPTO_AEAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define AEAD_KEY_LEN   32
#define AEAD_NONCE_LEN 12
#define AEAD_TAG_LEN   16

/* Seals n bytes of in into out[n + 16] (ciphertext ‖ tag). in == out is allowed. 0, -ENOMEM or
 * -EIO.
 */
int aead_seal(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN], const void *aad,
	      size_t aad_len, const void *in, size_t n, void *out);
/* The same for gathered input followed by `zeros` zero bytes: out[sum + zeros + 16]. */
int aead_sealv(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN],
	       const void *aad, size_t aad_len, const struct iovec *in, int iovs, size_t zeros,
	       void *out);
/* Opens n bytes (ciphertext ‖ tag, n >= 16) into out[n - 16]. 0; -EBADMSG when the tag is wrong,
 * and only then: out is wiped; -ENOMEM and -EIO say nothing of the bytes. in == out allowed. */
int aead_open(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN], const void *aad,
	      size_t aad_len, const void *in, size_t n, void *out);
/* GMAC: the tag of aad ‖ data with nothing encrypted (SP 800-38D section 3). */
int gmac(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN],
	 const struct iovec *in, int iovs, uint8_t tag[AEAD_TAG_LEN]);

#endif
