/* Layout of a shard object: clear header, then per extent (index last) fragment ‖ 16-byte MAC.
 * Bytes only: MACs are computed by the caller, who has the keys.
 *
 * Everything here is pure arithmetic over the lengths of the extents; bounded and checked (I8). */
#ifndef CODING_SHARD_H
#define CODING_SHARD_H

#include <stddef.h>
#include <stdint.h>

#define SHARD_MAC_LEN    16
#define SHARD_HEADER_LEN 256 /* fixed, padded with zeros, HMAC in the last 32 bytes */
#define SHARD_KEY_MAX    64

struct shard_header {
	uint8_t drive[16];
	uint32_t keyno;
	uint8_t segment[16];
	uint8_t set[16];
	uint8_t k, m, shard;
	uint32_t extents;        /* without the index extent */
	uint64_t index_offset;   /* of the index extent's fragment in this object */
	uint32_t index_fragment; /* its length; sealed length = k times that */
	uint8_t index_nonce[8];  /* random part of the index extent's nonce */
	uint64_t length;         /* of the whole object, a multiple of 4,096 */
};

/* Object name s/<2 hex of set id>/<set id>.<shard>, the set id as 32 lower-case hex digits, the
 * shard in decimal. */
void shard_key(char out[SHARD_KEY_MAX], const uint8_t set[16], int shard);

/* Writes the header without its MAC (last 32 bytes zero): the caller puts HMAC-SHA256 over the
 * first SHARD_HEADER_LEN - 32 there. */
void shard_header_put(uint8_t out[SHARD_HEADER_LEN], const struct shard_header *h);
/* Reads a header whose MAC was verified. -EBADMSG; -ENOTSUP for a future version or an unknown
 * required feature (*feature names the bit). */
int shard_header_get(const uint8_t in[SHARD_HEADER_LEN], struct shard_header *h, int *feature);

/* Sealed length of an extent that stores `stored` bytes: the smallest multiple of 16 k that holds
 * stored + 16 (tag). */
uint32_t shard_sealed_len(uint32_t stored, int k);
/* Bytes of one fragment with its MAC. */
static inline uint32_t shard_slot_len(uint32_t sealed, int k)
{
	return sealed / (uint32_t)k + SHARD_MAC_LEN;
}

#endif
