/* Bytes: big-endian fields, a growing buffer, a bounded reader, CRC32C. Everything on disk and wire
 * goes through these, never through a raw struct. */
#ifndef FS_BASE_BUF_H
#define FS_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

static inline void be16_put(void *p, uint16_t v)
{
	uint8_t *b = p;
	b[0] = (uint8_t)(v >> 8), b[1] = (uint8_t)v;
}
static inline void be32_put(void *p, uint32_t v)
{
	be16_put(p, (uint16_t)(v >> 16)), be16_put((uint8_t *)p + 2, (uint16_t)v);
}
static inline void be64_put(void *p, uint64_t v)
{
	be32_put(p, (uint32_t)(v >> 32)), be32_put((uint8_t *)p + 4, (uint32_t)v);
}
static inline uint16_t be16_get(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] << 8 | b[1]);
}
static inline uint32_t be32_get(const void *p)
{
	return (uint32_t)be16_get(p) << 16 | be16_get((const uint8_t *)p + 2);
}
static inline uint64_t be64_get(const void *p)
{
	return (uint64_t)be32_get(p) << 32 | be32_get((const uint8_t *)p + 4);
}

/* A growing buffer. Start with `struct buf b = { 0 }`. After a failed allocation `failed` stays 1
 * and further puts do nothing, so that a writer checks once, at the end. */
struct buf {
	uint8_t *p;
	size_t len, cap;
	int failed;
};
void buf_release(struct buf *b); /* frees; the buffer is empty and usable again */
void buf_reset(struct buf *b);   /* len = 0, failed = 0, keeps the memory */
uint8_t *buf_extend(struct buf *b,
		    size_t n); /* n more bytes, uninitialised; NULL when out of memory */
void buf_put(struct buf *b, const void *p, size_t n);
void buf_put8(struct buf *b, uint8_t v);
void buf_put16(struct buf *b, uint16_t v);
void buf_put32(struct buf *b, uint32_t v);
void buf_put64(struct buf *b, uint64_t v);
void buf_put_bytes32(struct buf *b, const void *p, size_t n); /* u32 length, then the bytes */
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* without the NUL */
char *buf_cstr(struct buf *b); /* NUL behind the bytes (not counted); NULL when failed. Valid until
				  the next change */

/* A bounded reader. A read beyond the end yields zeros and sets `bad`, so that a parser checks
 * once, at the end. */
struct rd {
	const uint8_t *p;
	size_t left;
	int bad;
};
static inline struct rd rd_of(const void *p, size_t n)
{
	return (struct rd){ .p = p, .left = n };
}
uint8_t rd_get8(struct rd *r);
uint16_t rd_get16(struct rd *r);
uint32_t rd_get32(struct rd *r);
uint64_t rd_get64(struct rd *r);
const uint8_t *rd_get(struct rd *r,
		      size_t n); /* borrowed pointer into the input; NULL and bad when short */
const uint8_t *rd_get_bytes32(struct rd *r, size_t max,
			      size_t *n); /* u32 length <= max, then bytes */

/* CRC-32C (Castagnoli, RFC 3720 B.4), of more bytes after crc (0 to start). SSE4.2 where there is.
 */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
uint32_t crc32c_portable(uint32_t crc, const void *p,
			 size_t n); /* what crc32c falls back to; for its test */

/* Lower-case hex of n bytes into out[2 n + 1]; and back (either case, hexlen exactly 2 n): 0 or
 * -EINVAL. */
void hex_put(char *out, const void *p, size_t n);
int hex_get(void *out, size_t n, const char *hex, size_t hexlen);

#endif
