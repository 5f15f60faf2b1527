/* SHA-256 (FIPS 180-4), HMAC-SHA256 (RFC 2104), HKDF-SHA256 (RFC 5869). For headers, names and
 * signatures; never over file content. */
#ifndef CRYPTO_DIGEST_H
#define CRYPTO_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SHA256_LEN 32

int sha256(const void *p, size_t n, uint8_t out[SHA256_LEN]);
int sha256v(const struct iovec *in, int iovs, uint8_t out[SHA256_LEN]);
int hmac_sha256(const void *key, size_t key_len, const void *p, size_t n, uint8_t out[SHA256_LEN]);
int hmac_sha256v(const void *key, size_t key_len, const struct iovec *in, int iovs,
		 uint8_t out[SHA256_LEN]);
/* Extract-and-expand; salt may be NULL (n 0). out_len <= 255 * 32. */
int hkdf_sha256(const void *ikm, size_t ikm_len, const void *salt, size_t salt_len,
		const void *info, size_t info_len, void *out, size_t out_len);

#endif
