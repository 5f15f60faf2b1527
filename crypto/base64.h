/* Base64 (RFC 4648 section 4, padded) and base64url (section 5, without padding, as JWT wants it).
 */
#ifndef CRYPTO_BASE64_H
#define CRYPTO_BASE64_H

#include <stddef.h>

/* Room for n encoded bytes, padding and NUL included. */
#define BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)

/* Encodes n bytes into out, which holds BASE64_SIZE(n), and ends it with a NUL. Returns the length
 * without it. */
size_t base64_encode(char *out, const void *p, size_t n);
size_t base64url_encode(char *out, const void *p, size_t n);

/* Decodes n characters into out, which holds n / 4 * 3 + 2 bytes. Strict: no white space, no
 * foreign characters, spare bits zero; padding must be whole (base64) or absent (base64url). 0;
 * -EINVAL, then *len is 0. */
int base64_decode(const char *text, size_t n, void *out, size_t *len);
int base64url_decode(const char *text, size_t n, void *out, size_t *len);

#endif
