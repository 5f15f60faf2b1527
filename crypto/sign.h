/* RS256: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2, RFC 7518 section 3.3), for service
 * accounts that sign their own tokens. A key may be used by several threads at once. */
#ifndef CRYPTO_SIGN_H
#define CRYPTO_SIGN_H

#include <stddef.h>
#include <stdint.h>

#define RSA_SIG_MAX 1024 /* bytes: an 8192-bit key */

struct rsa_key;

/* From a PEM private key (PKCS #1 or #8, not encrypted) of n bytes. 0; -EINVAL not such a key, or
 * shorter than 2048 or longer than 8192 bits; -ENOMEM. *out is NULL on failure. Never asks anybody
 * for a passphrase. */
int rsa_key_load(const void *pem, size_t n, struct rsa_key **out);
void rsa_key_free(struct rsa_key *k);

/* Signs n bytes; *len is the signature's length. 0 or -EIO. */
int rsa_sign_sha256(const struct rsa_key *k, const void *p, size_t n, uint8_t sig[RSA_SIG_MAX],
		    size_t *len);

#endif
