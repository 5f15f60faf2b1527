/* What stands on disk and on clouds about a segment: headers of file, records and shards, the index
 * blob of the database, a compressed extent.
 * fuzz-sources: fs/data/segment_io.c coding/shard.c coding/code.c crypto/aead.c crypto/digest.c
 * crypto/kdf.c crypto/key.c crypto/secmem.c fs/base/buf.c fs/base/clock.c fs/base/err.c
 * fs/base/failpoint.c fs/base/file.c fs/base/log.c
 * fuzz-libs: -lcrypto -largon2 -lzstd -lJerasure -lgf_complete -lpthread */
#include <stdlib.h>
#include <string.h>
#include "coding/shard.h"
#include "fs/data/seg_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void headers(const uint8_t *data, size_t size, const struct seg_cipher *c)
{
	uint8_t in[256] = { 0 }, out[SHARD_HEADER_LEN];
	struct shard_header h;
	struct seg_hint hint;
	struct seg_ext x;
	uint32_t number;
	int feature;

	memcpy(in, data, MIN(size, sizeof(in)));
	segio_file_header_check(in, c);
	if (!segio_record_get(in, c, &number, &x, &hint) && ext_sealed(&x, c->k) > SEG_LENGTH_MAX)
		abort();
	if (shard_header_get(in, &h, &feature))
		return;
	if (h.k < 1 || h.k + h.m > 32 || h.shard >= h.k + h.m || h.index_offset > h.length)
		abort();
	shard_header_put(out, &h);
}

static void blob(const uint8_t *data, size_t size, int k)
{
	struct seg_ext *x;
	uint32_t count;
	uint8_t *again;
	size_t n;

	if (segio_blob_get(data, size, k, &x, &count))
		return;
	if (count > SEG_EXTENTS_MAX || ext_end(&x[count], k) > SEG_LENGTH_MAX)
		abort();
	segio_slots(x, count, k);
	/* It has one form only. */
	if (!segio_blob_put(x, count, &again, &n)) {
		if (n != size || memcmp(again, data, n))
			abort();
		free(again);
	}
	free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seg_cipher c = { .keyno = 1, .k = 4 };
	uint8_t plain[1024];

	if (size < 3)
		return 0;
	switch (data[0] % 3) {
	case 0:
		headers(data + 1, size - 1, &c);
		break;
	case 1:
		blob(data + 2, size - 2, 1 + data[1] % 8);
		break;
	case 2:
		segio_decompress(data + 3, size - 3, plain, 1 + (data[1] | data[2] << 8) % 1024);
		break;
	}
	return 0;
}
