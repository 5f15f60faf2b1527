#include "fs/base/buf.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAP_MIN 64

void buf_release(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ 0 };
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = 0;
}

/* Room for n more bytes: 0, or -ENOMEM and failed. */
static int reserve(struct buf *b, size_t n)
{
	size_t need, cap;
	uint8_t *p;

	if (b->failed)
		return -ENOMEM;
	if (__builtin_add_overflow(b->len, n, &need) || need > SIZE_MAX / 2)
		goto failed;
	if (b->p && need <= b->cap)
		return 0;
	/* By half, so that appending is linear in total and freed blocks can be joined and used
	 * again. */
	cap = b->cap + b->cap / 2;
	if (cap < need)
		cap = need;
	if (cap < CAP_MIN)
		cap = CAP_MIN;
	p = realloc(b->p, cap);
	if (!p)
		goto failed;
	b->p = p;
	b->cap = cap;
	return 0;
failed:
	b->failed = 1;
	return -ENOMEM;
}

uint8_t *buf_extend(struct buf *b, size_t n)
{
	uint8_t *p;

	if (reserve(b, n))
		return NULL;
	p = b->p + b->len;
	b->len += n;
	return p;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
	uint8_t *to = buf_extend(b, n);

	if (to && n)
		memcpy(to, p, n);
}

void buf_put8(struct buf *b, uint8_t v)
{
	buf_put(b, &v, 1);
}

void buf_put16(struct buf *b, uint16_t v)
{
	uint8_t *to = buf_extend(b, 2);

	if (to)
		be16_put(to, v);
}

void buf_put32(struct buf *b, uint32_t v)
{
	uint8_t *to = buf_extend(b, 4);

	if (to)
		be32_put(to, v);
}

void buf_put64(struct buf *b, uint64_t v)
{
	uint8_t *to = buf_extend(b, 8);

	if (to)
		be64_put(to, v);
}

void buf_put_bytes32(struct buf *b, const void *p, size_t n)
{
	if (n > UINT32_MAX) {
		b->failed = 1;
		return;
	}
	buf_put32(b, (uint32_t)n);
	buf_put(b, p, n);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = 1;
		return;
	}
	if (reserve(b, (size_t)n + 1))
		return;
	va_start(ap, fmt);
	vsnprintf((char *)b->p + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

char *buf_cstr(struct buf *b)
{
	if (reserve(b, 1))
		return NULL;
	b->p[b->len] = '\0';
	return (char *)b->p;
}

const uint8_t *rd_get(struct rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || n > r->left) {
		r->bad = 1;
		r->left = 0;
		return NULL;
	}
	if (n == 0)
		return p ? p : (const uint8_t *)"";
	r->p += n;
	r->left -= n;
	return p;
}

uint8_t rd_get8(struct rd *r)
{
	const uint8_t *p = rd_get(r, 1);

	return p ? *p : 0;
}

uint16_t rd_get16(struct rd *r)
{
	const uint8_t *p = rd_get(r, 2);

	return p ? be16_get(p) : 0;
}

uint32_t rd_get32(struct rd *r)
{
	const uint8_t *p = rd_get(r, 4);

	return p ? be32_get(p) : 0;
}

uint64_t rd_get64(struct rd *r)
{
	const uint8_t *p = rd_get(r, 8);

	return p ? be64_get(p) : 0;
}

const uint8_t *rd_get_bytes32(struct rd *r, size_t max, size_t *n)
{
	uint32_t len = rd_get32(r);
	const uint8_t *p;

	*n = 0;
	if (len > max) {
		r->bad = 1;
		r->left = 0;
		return NULL;
	}
	p = rd_get(r, len);
	if (p)
		*n = len;
	return p;
}

/* ---- CRC-32C ---- */

#define POLY 0x82f63b78u /* 0x1edc6f41, bits reversed */

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* table[k][b]: what byte b contributes when k more bytes follow it ("slicing by 8", Kounavis and
 * Berry 2005). */
static void table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ POLY : c >> 1;
		table[0][i] = c;
	}
	for (int k = 1; k < 8; k++)
		for (int i = 0; i < 256; i++)
			table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
}

uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n)
{
	const uint8_t *b = p;

	pthread_once(&table_once, table_fill);
	crc = ~crc;
	for (; n >= 8; b += 8, n -= 8) {
		crc ^= (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
		       (uint32_t)b[3] << 24;
		crc = table[7][crc & 0xff] ^ table[6][crc >> 8 & 0xff] ^
		      table[5][crc >> 16 & 0xff] ^ table[4][crc >> 24] ^ table[3][b[4]] ^
		      table[2][b[5]] ^ table[1][b[6]] ^ table[0][b[7]];
	}
	for (; n; b++, n--)
		crc = crc >> 8 ^ table[0][(crc ^ *b) & 0xff];
	return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *b,
							       size_t n)
{
	uint64_t c = (uint32_t)~crc;

	for (; n && ((uintptr_t)b & 7); b++, n--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *b);
	for (; n >= 8; b += 8, n -= 8) {
		uint64_t v;

		memcpy(&v, b, 8);
		c = __builtin_ia32_crc32di(c, v);
	}
	for (; n; b++, n--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *b);
	return ~(uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_sse42(crc, p, n);
#endif
	return crc32c_portable(crc, p, n);
}

/* ---- hex ---- */

void hex_put(char *out, const void *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[b[i] >> 4];
		*out++ = digits[b[i] & 15];
	}
	*out = '\0';
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_get(void *out, size_t n, const char *hex, size_t hexlen)
{
	uint8_t *b = out;

	if (n > SIZE_MAX / 2 || hexlen != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int hi = nibble(hex[2 * i]), lo = nibble(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		b[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}
