#include "crypto/base64.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t encode(const char *alphabet, int pad, char *out, const void *p, size_t n)
{
	const uint8_t *in = p;
	char *to = out;

	for (; n >= 3; in += 3, n -= 3) {
		uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
		for (int shift = 18; shift >= 0; shift -= 6)
			*to++ = alphabet[v >> shift & 63];
	}
	if (n) {
		uint32_t v = (uint32_t)in[0] << 16 | (n == 2 ? (uint32_t)in[1] << 8 : 0);
		*to++ = alphabet[v >> 18 & 63];
		*to++ = alphabet[v >> 12 & 63];
		if (n == 2)
			*to++ = alphabet[v >> 6 & 63];
		for (size_t i = n; pad && i < 3; i++)
			*to++ = '=';
	}
	*to = 0;
	return (size_t)(to - out);
}

static int decode(const char *alphabet, const char *text, size_t n, void *out, size_t *len)
{
	uint8_t *to = out;
	uint32_t v = 0;
	unsigned bits = 0;

	*len = 0;
	if (n % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;
		if (!at)
			return -EINVAL;
		v = v << 6 | (uint32_t)(at - alphabet);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			*to++ = (uint8_t)(v >> bits);
		}
	}
	/* Two texts for the same bytes would let a signed token be changed unseen. */
	if (v & ((1u << bits) - 1))
		return -EINVAL;
	*len = (size_t)(to - (uint8_t *)out);
	return 0;
}

size_t base64_encode(char *out, const void *p, size_t n)
{
	return encode(plain, 1, out, p, n);
}

size_t base64url_encode(char *out, const void *p, size_t n)
{
	return encode(url, 0, out, p, n);
}

int base64_decode(const char *text, size_t n, void *out, size_t *len)
{
	*len = 0;
	if (n % 4)
		return -EINVAL;
	for (int i = 0; i < 2 && n && text[n - 1] == '='; i++)
		n--;
	return decode(plain, text, n, out, len);
}

int base64url_decode(const char *text, size_t n, void *out, size_t *len)
{
	return decode(url, text, n, out, len);
}
