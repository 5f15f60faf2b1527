#include "coding/shard.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "coding/code.h"
#include "fs/base/buf.h"

/* Offsets in the clear header; FORMAT.md, "Shard object". */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_FEATURES = 10,
	AT_KEYNO = 12,
	AT_DRIVE = 16,
	AT_SEGMENT = 32,
	AT_SET = 48,
	AT_K = 64,
	AT_M = 65,
	AT_SHARD = 66,
	AT_EXTENTS = 68,
	AT_INDEX_OFFSET = 72,
	AT_INDEX_FRAGMENT = 80,
	AT_LENGTH = 88,
	AT_INDEX_NONCE = 96,
	AT_END = 104,
	AT_MAC = SHARD_HEADER_LEN - 32,
};
static_assert(AT_END <= AT_MAC, "the fields fit before the MAC");

static const char magic[8] = "SKYSHRD1";
#define VERSION      1
#define MAX_EXTENTS  8192
#define MAX_FRAGMENT (64u << 20)

void shard_key(char out[SHARD_KEY_MAX], const uint8_t set[16], int shard)
{
	char hex[33];

	hex_put(hex, set, 16);
	snprintf(out, SHARD_KEY_MAX, "s/%.2s/%s.%d", hex, hex, shard);
}

void shard_header_put(uint8_t out[SHARD_HEADER_LEN], const struct shard_header *h)
{
	memset(out, 0, SHARD_HEADER_LEN);
	memcpy(out + AT_MAGIC, magic, sizeof magic);
	be16_put(out + AT_VERSION, VERSION);
	be32_put(out + AT_KEYNO, h->keyno);
	memcpy(out + AT_DRIVE, h->drive, 16);
	memcpy(out + AT_SEGMENT, h->segment, 16);
	memcpy(out + AT_SET, h->set, 16);
	out[AT_K] = h->k, out[AT_M] = h->m, out[AT_SHARD] = h->shard;
	be32_put(out + AT_EXTENTS, h->extents);
	be64_put(out + AT_INDEX_OFFSET, h->index_offset);
	be32_put(out + AT_INDEX_FRAGMENT, h->index_fragment);
	be64_put(out + AT_LENGTH, h->length);
	memcpy(out + AT_INDEX_NONCE, h->index_nonce, sizeof h->index_nonce);
}

int shard_header_get(const uint8_t in[SHARD_HEADER_LEN], struct shard_header *h, int *feature)
{
	*feature = -1;
	if (memcmp(in + AT_MAGIC, magic, sizeof magic) != 0)
		return -EBADMSG;
	if (be16_get(in + AT_VERSION) != VERSION)
		return -ENOTSUP;
	uint16_t features = be16_get(in + AT_FEATURES);
	if (features) { /* none is known yet: all are required and unknown */
		for (*feature = 0; !(features >> *feature & 1);)
			++*feature;
		return -ENOTSUP;
	}
	h->keyno = be32_get(in + AT_KEYNO);
	memcpy(h->drive, in + AT_DRIVE, 16);
	memcpy(h->segment, in + AT_SEGMENT, 16);
	memcpy(h->set, in + AT_SET, 16);
	h->k = in[AT_K], h->m = in[AT_M], h->shard = in[AT_SHARD];
	h->extents = be32_get(in + AT_EXTENTS);
	h->index_offset = be64_get(in + AT_INDEX_OFFSET);
	h->index_fragment = be32_get(in + AT_INDEX_FRAGMENT);
	h->length = be64_get(in + AT_LENGTH);
	memcpy(h->index_nonce, in + AT_INDEX_NONCE, sizeof h->index_nonce);
	for (int i = AT_END; i < AT_MAC; i++)
		if (in[i])
			return -EBADMSG;
	if (h->k < 1 || h->k + h->m > CODE_MAX_N || h->shard >= h->k + h->m || in[AT_SHARD + 1] ||
	    be32_get(in + AT_INDEX_FRAGMENT + 4))
		return -EBADMSG;
	if (h->extents > MAX_EXTENTS || h->index_fragment == 0 || h->index_fragment % 16 ||
	    h->index_fragment > MAX_FRAGMENT)
		return -EBADMSG;
	if (h->length % 4096 || h->length > (uint64_t)1 << 40 ||
	    h->index_offset < SHARD_HEADER_LEN || h->index_offset > h->length ||
	    h->length - h->index_offset != (uint64_t)h->index_fragment + SHARD_MAC_LEN)
		return -EBADMSG;
	return 0;
}

uint32_t shard_sealed_len(uint32_t stored, int k)
{
	uint32_t unit = 16 * (uint32_t)k;

	return (stored + 16 + unit - 1) / unit * unit;
}
