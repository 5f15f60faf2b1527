#include "fs/data/seg_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <zstd.h>
#include "crypto/aead.h"
#include "crypto/secmem.h"
#include "fs/base/buf.h"

/* coding/FORMAT.md, "Segment file" and "Index". */
static const char file_magic[8] = "SKYSEGM1", record_magic[4] = "SKYR", index_magic[4] = "SKYI";
#define FILE_VERSION  1
#define INDEX_VERSION 1
#define INDEX_HEAD    20
#define INDEX_ENTRY   33
#define BLOB_VERSION  1
#define NONCE_RANDOM  8
static_assert(SEG_INDEX_ROOM > INDEX_HEAD + INDEX_ENTRY * SEG_EXTENTS_MAX + 32 * 4096 + 1024,
	      "the index fits behind the last extent");

enum {
	FILE_VERSION_AT = 8,
	FILE_FEATURES_AT = 10,
	FILE_KEYNO_AT = 12,
	FILE_DRIVE_AT = 16,
	FILE_ID_AT = 32,
	FILE_K_AT = 48,
	FILE_CRC_AT = SEG_FILE_HEADER - 4,
};
enum {
	REC_NUMBER_AT = 4,
	REC_FILE_LEN_AT = 8,
	REC_STORED_AT = 12,
	REC_SEALED_AT = 16,
	REC_FLAGS_AT = 20, /* and three zero bytes */
	REC_NONCE_AT = 24,
	REC_INO_AT = 32,
	REC_OFF_AT = 40,
	REC_CRC_AT = SEG_RECORD_HEADER - 4,
};

void segio_file_header_put(uint8_t out[SEG_FILE_HEADER], const struct seg_cipher *c)
{
	memset(out, 0, SEG_FILE_HEADER);
	memcpy(out, file_magic, sizeof(file_magic));
	be16_put(out + FILE_VERSION_AT, FILE_VERSION);
	be32_put(out + FILE_KEYNO_AT, c->keyno);
	memcpy(out + FILE_DRIVE_AT, c->drive, 16);
	memcpy(out + FILE_ID_AT, c->id, 16);
	out[FILE_K_AT] = (uint8_t)c->k;
	be32_put(out + FILE_CRC_AT, crc32c(0, out, FILE_CRC_AT));
}

int segio_file_header_check(const uint8_t in[SEG_FILE_HEADER], const struct seg_cipher *c)
{
	uint8_t want[SEG_FILE_HEADER];

	if (!memcmp(in, file_magic, sizeof(file_magic)) &&
	    be32_get(in + FILE_CRC_AT) == crc32c(0, in, FILE_CRC_AT) &&
	    (be16_get(in + FILE_VERSION_AT) != FILE_VERSION || be16_get(in + FILE_FEATURES_AT)))
		return -ENOTSUP;
	segio_file_header_put(want, c);
	return memcmp(in, want, sizeof(want)) ? -EBADMSG : 0;
}

static uint32_t record_crc(const uint8_t *rec, const uint8_t id[16])
{
	return crc32c(crc32c(0, id, 16), rec, REC_CRC_AT);
}

void segio_record_put(uint8_t out[SEG_RECORD_HEADER], const struct seg_cipher *c, uint32_t number,
		      const struct seg_ext *x, const struct seg_hint *hint)
{
	memset(out, 0, SEG_RECORD_HEADER);
	memcpy(out, record_magic, sizeof(record_magic));
	be32_put(out + REC_NUMBER_AT, number);
	be32_put(out + REC_FILE_LEN_AT, x->file_len);
	be32_put(out + REC_STORED_AT, x->stored);
	be32_put(out + REC_SEALED_AT, ext_sealed(x, c->k));
	out[REC_FLAGS_AT] = x->flags;
	memcpy(out + REC_NONCE_AT, x->nonce, NONCE_RANDOM);
	if (hint) {
		be64_put(out + REC_INO_AT, hint->ino);
		be64_put(out + REC_OFF_AT, hint->off);
	}
	be32_put(out + REC_CRC_AT, record_crc(out, c->id));
}

/* Lengths that this version can have written. */
static int ext_plausible(const struct seg_ext *x)
{
	if (x->flags & ~(EXT_ZSTD | EXT_INDEX | EXT_VOID))
		return 0;
	if (x->flags & EXT_INDEX)
		return x->flags == EXT_INDEX && x->stored && x->stored == x->file_len &&
		       x->stored < SEG_INDEX_ROOM;
	return x->stored && x->file_len && x->file_len <= 1u << 20 &&
	       (x->flags & EXT_ZSTD ? x->stored < x->file_len : x->stored == x->file_len);
}

int segio_record_get(const uint8_t in[SEG_RECORD_HEADER], const struct seg_cipher *c,
		     uint32_t *number, struct seg_ext *x, struct seg_hint *hint)
{
	if (memcmp(in, record_magic, sizeof(record_magic)) ||
	    be32_get(in + REC_CRC_AT) != record_crc(in, c->id))
		return -EBADMSG;
	*number = be32_get(in + REC_NUMBER_AT);
	x->file_len = be32_get(in + REC_FILE_LEN_AT);
	x->stored = be32_get(in + REC_STORED_AT);
	x->flags = in[REC_FLAGS_AT];
	memcpy(x->nonce, in + REC_NONCE_AT, NONCE_RANDOM);
	hint->ino = be64_get(in + REC_INO_AT);
	hint->off = be64_get(in + REC_OFF_AT);
	if (!ext_plausible(x) || be32_get(in + REC_SEALED_AT) != ext_sealed(x, c->k) ||
	    (*number == SEG_INDEX_NUMBER) != !!(x->flags & EXT_INDEX) || *number > SEG_INDEX_NUMBER)
		return -EBADMSG;
	return 0;
}

struct bound { /* nonce and additional data of an extent */
	uint8_t nonce[AEAD_NONCE_LEN];
	uint8_t aad[16 + 4 + 16 + 4 * 4 + 1];
};

static void bind_ext(struct bound *b, const struct seg_cipher *c, uint32_t number,
		     const struct seg_ext *x)
{
	uint8_t *a = b->aad;

	be32_put(b->nonce, number);
	memcpy(b->nonce + 4, x->nonce, NONCE_RANDOM);
	memcpy(a, c->drive, 16);
	be32_put(a + 16, c->keyno);
	memcpy(a + 20, c->id, 16);
	be32_put(a + 36, number);
	be32_put(a + 40, x->file_len);
	be32_put(a + 44, x->stored);
	be32_put(a + 48, ext_sealed(x, c->k));
	a[52] = x->flags;
}

int segio_seal(const struct seg_cipher *c, uint32_t number, const struct seg_ext *x,
	       const void *data, void *out)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = x->stored };
	struct bound b;

	bind_ext(&b, c, number, x);
	return aead_sealv(c->key, b.nonce, b.aad, sizeof(b.aad), &iov, 1,
			  ext_sealed(x, c->k) - AEAD_TAG_LEN - x->stored, out);
}

int segio_open(const struct seg_cipher *c, uint32_t number, const struct seg_ext *x,
	       const void *sealed, void *out)
{
	uint32_t len = ext_sealed(x, c->k);
	const uint8_t *p = out;
	struct bound b;

	bind_ext(&b, c, number, x);
	int rc = aead_open(c->key, b.nonce, b.aad, sizeof(b.aad), sealed, len, out);
	for (uint32_t i = x->stored; !rc && i < len - AEAD_TAG_LEN; i++)
		if (p[i])
			rc = -EBADMSG;
	return rc;
}

/* The key belongs to one shard of one set id, so a number MACs once in it; making a lost shard
 * again MACs the same bytes (I3, I4). */
int segio_fragment_mac(const uint8_t key[KEY_LEN], uint32_t number, const void *p, uint32_t len,
		       uint8_t mac[SHARD_MAC_LEN])
{
	uint8_t nonce[AEAD_NONCE_LEN] = { 0 }, head[8];
	struct iovec iov[2] = { { head, sizeof(head) }, { (void *)p, len } };

	be32_put(nonce, number);
	be32_put(head, number);
	be32_put(head + 4, len);
	return gmac(key, nonce, iov, 2, mac);
}

uint64_t segio_slots(const struct seg_ext *x, uint32_t count, int k)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += shard_slot_len(ext_sealed(&x[i], k), k);
	return sum;
}

uint32_t segio_index_stored(uint32_t count, uint64_t slots, int k)
{
	uint32_t need = shard_sealed_len(INDEX_HEAD + INDEX_ENTRY * count, k) / (uint32_t)k;
	uint64_t before = SHARD_HEADER_LEN + slots + SHARD_MAC_LEN;
	uint64_t fragment = round_up_u64(before + need, 4096) - before;

	/* All terms are multiples of 16, so this is one as well, and nothing is left to pad. */
	return (uint32_t)fragment * (uint32_t)k - AEAD_TAG_LEN;
}

void segio_index_put(uint8_t *out, uint32_t len, const struct seg_ext *x,
		     const struct seg_hint *hints, uint32_t count, int64_t created)
{
	uint8_t *p = out;

	memset(out, 0, len);
	memcpy(p, index_magic, sizeof(index_magic));
	be16_put(p + 4, INDEX_VERSION);
	be16_put(p + 6, INDEX_ENTRY);
	be32_put(p + 8, count);
	be64_put(p + 12, (uint64_t)created);
	p += INDEX_HEAD;
	for (uint32_t i = 0; i < count; i++, p += INDEX_ENTRY) {
		p[0] = x[i].flags;
		be32_put(p + 1, x[i].file_len);
		be32_put(p + 5, x[i].stored);
		memcpy(p + 9, x[i].nonce, NONCE_RANDOM);
		be64_put(p + 17, hints[i].ino);
		be64_put(p + 25, hints[i].off);
	}
}

int segio_index_seal(const struct seg_cipher *c, struct seg_ext *x, uint32_t count,
		     const struct seg_hint *hints, int64_t created, uint32_t pos, uint8_t *rec)
{
	struct seg_ext *index = &x[count];

	*index = (struct seg_ext){ .pos = pos, .flags = EXT_INDEX };
	index->stored = segio_index_stored(count, segio_slots(x, count, c->k), c->k);
	index->file_len = index->stored;
	if (count)
		index->file_pos = x[count - 1].file_pos + x[count - 1].file_len;
	random_bytes(index->nonce, sizeof(index->nonce));
	AUTO_FREE uint8_t *plain = malloc(index->stored);
	if (!plain)
		return -ENOMEM;
	segio_index_put(plain, index->stored, x, hints, count, created);
	segio_record_put(rec, c, SEG_INDEX_NUMBER, index, NULL);
	return segio_seal(c, SEG_INDEX_NUMBER, index, plain, rec + SEG_RECORD_HEADER);
}

int segio_blob_put(const struct seg_ext *x, uint32_t count, uint8_t **out, size_t *n)
{
	struct buf b = { 0 };

	buf_put8(&b, BLOB_VERSION);
	buf_put32(&b, count);
	buf_put32(&b, x[count].stored);
	buf_put(&b, x[count].nonce, NONCE_RANDOM);
	for (uint32_t i = 0; i < count; i++) {
		buf_put8(&b, x[i].flags);
		buf_put32(&b, x[i].file_len);
		if (x[i].flags & EXT_ZSTD)
			buf_put32(&b, x[i].stored);
		buf_put(&b, x[i].nonce, NONCE_RANDOM);
	}
	if (b.failed) {
		buf_release(&b);
		return -ENOMEM;
	}
	*out = b.p, *n = b.len;
	return 0;
}

int segio_blob_get(const uint8_t *p, size_t n, int k, struct seg_ext **out, uint32_t *count)
{
	struct rd r = rd_of(p, n);
	uint64_t pos = SEG_FILE_HEADER, file_pos = 0;
	const uint8_t *nonce;

	*out = NULL;
	if (rd_get8(&r) != BLOB_VERSION)
		return n ? -ENOTSUP : -EBADMSG;
	uint32_t c = rd_get32(&r), index_stored = rd_get32(&r);
	const uint8_t *index_nonce = rd_get(&r, NONCE_RANDOM);
	if (r.bad || c > SEG_EXTENTS_MAX)
		return -EBADMSG;
	struct seg_ext *x = calloc(c + 1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	for (uint32_t i = 0; i <= c; i++) {
		if (i < c) {
			x[i].flags = rd_get8(&r);
			x[i].file_len = rd_get32(&r);
			x[i].stored = x[i].flags & EXT_ZSTD ? rd_get32(&r) : x[i].file_len;
			nonce = rd_get(&r, NONCE_RANDOM);
		} else {
			x[i].flags = EXT_INDEX;
			x[i].file_len = x[i].stored = index_stored;
			nonce = index_nonce;
		}
		if (r.bad || !ext_plausible(&x[i]) || !(x[i].flags & EXT_INDEX) != (i < c) ||
		    pos > SEG_LENGTH_MAX) {
			free(x);
			return -EBADMSG;
		}
		memcpy(x[i].nonce, nonce, NONCE_RANDOM);
		x[i].pos = (uint32_t)pos;
		x[i].file_pos = file_pos;
		pos = ext_end(&x[i], k);
		file_pos += x[i].file_len;
	}
	if (r.left) {
		free(x);
		return -EBADMSG;
	}
	*out = x, *count = c;
	return 0;
}

/* --- memory of threads --- */

struct scratch {
	void *p[SCRATCH_COUNT];
	size_t len[SCRATCH_COUNT];
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
};
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_end; /* for its destructor */
static int scratch_ok;
static __thread struct scratch *mine;

static void scratch_release(void *arg)
{
	struct scratch *s = arg;

	for (int i = 0; i < SCRATCH_COUNT; i++)
		free(s->p[i]);
	ZSTD_freeCCtx(s->pack);
	ZSTD_freeDCtx(s->unpack);
	free(s);
	mine = NULL;
}

static void scratch_init(void)
{
	scratch_ok = !pthread_key_create(&scratch_end, scratch_release);
}

static struct scratch *scratch_get(void)
{
	if (mine)
		return mine;
	pthread_once(&scratch_once, scratch_init);
	struct scratch *s = scratch_ok ? calloc(1, sizeof(*s)) : NULL;
	if (s && pthread_setspecific(scratch_end, s)) {
		free(s);
		return NULL;
	}
	return mine = s;
}

void *segio_scratch(int which, size_t n)
{
	struct scratch *s = scratch_get();

	if (!s)
		return NULL;
	if (s->len[which] < n) {
		free(s->p[which]);
		s->len[which] = round_up_u64(n, 64 << 10);
		s->p[which] = aligned_alloc(64, s->len[which]);
		if (!s->p[which])
			s->len[which] = 0;
	}
	return s->p[which];
}

size_t segio_compress(const void *in, size_t n, void *out, size_t cap)
{
	struct scratch *s = scratch_get();

	if (s && !s->pack)
		s->pack = ZSTD_createCCtx();
	if (!s || !s->pack)
		return 0;
	size_t len = ZSTD_compressCCtx(s->pack, out, cap, in, n, 1);
	return ZSTD_isError(len) ? 0 : len;
}

int segio_decompress(const void *in, size_t n, void *out, size_t len)
{
	struct scratch *s = scratch_get();

	if (s && !s->unpack)
		s->unpack = ZSTD_createDCtx();
	if (!s || !s->unpack)
		return -ENOMEM;
	size_t got = ZSTD_decompressDCtx(s->unpack, out, len, in, n);
	return ZSTD_isError(got) || got != len ? -EBADMSG : 0;
}
