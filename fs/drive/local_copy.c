#include "fs/drive/local_copy.h"

#include <errno.h>
#include <string.h>

#include "crypto/secmem.h"
#include "fs/drive/header_impl.h"

/* 1 when the blob's share is what its common part committed to. */
static int keeps_commitment(const struct header_blob *b)
{
	uint8_t want[SHA256_LEN];

	return header_shard(b) >= 0 &&
	       !header_commitment(header_drive(b), b->generation, b->x, b->share, want) &&
	       !memcmp(want, b->bytes + HEADER_FIXED + (size_t)(b->x - 1) * SHA256_LEN, SHA256_LEN);
}

static int same_common(const struct header_blob *a, const struct header_blob *b)
{
	return a->common_len == b->common_len && !memcmp(a->bytes, b->bytes, a->common_len) &&
	       a->sealed_len == b->sealed_len && !memcmp(a->sealed, b->sealed, a->sealed_len) &&
	       !memcmp(a->mac, b->mac, SHA256_LEN);
}

struct combined {
	uint8_t x[DRIVE_MAX_BACKENDS];
	uint8_t shares[DRIVE_MAX_BACKENDS][SHARE_LEN];
	uint8_t secret[SHARE_LEN];
};

/* k shares that belong to the same bytes as `model`. */
static int collect(struct header_blob *const *blobs, int count, const struct header_blob *model,
		   struct combined *c)
{
	uint32_t seen = 0;
	int have = 0;

	for (int i = 0; i < count && have < model->k; i++) {
		const struct header_blob *b = blobs[i];

		if (!keeps_commitment(b) || !same_common(b, model) || seen >> (b->x - 1) & 1)
			continue;
		seen |= 1u << (b->x - 1);
		c->x[have] = b->x;
		memcpy(c->shares[have++], b->share, SHARE_LEN);
	}
	return have == model->k ? 0 : -ENOKEY;
}

int local_copy_make(struct header_blob *const *blobs, int count, uint64_t generation,
		    struct buf *out)
{
	struct combined *c = secmem_alloc(sizeof(*c));
	const struct header_blob *model = NULL;
	int rc = c ? -ENOKEY : -ENOMEM;

	for (int i = 0; i < count && rc == -ENOKEY; i++) {
		if (blobs[i]->generation != generation)
			continue;
		model = blobs[i];
		rc = collect(blobs, count, model, c);
	}
	if (!rc)
		rc = secret_share_combine(c->x, c->shares, model->k, c->secret);
	if (!rc) {
		size_t n = model->common_len + 1 + SHARE_LEN + model->sealed_len + SHA256_LEN;

		/* One allocation: moved memory would leave the secret behind. */
		if (buf_extend(out, n))
			out->len -= n;
		buf_put(out, model->bytes, model->common_len);
		buf_put8(out, HEADER_X_SECRET);
		buf_put(out, c->secret, SHARE_LEN);
		buf_put(out, model->sealed, model->sealed_len);
		buf_put(out, model->mac, SHA256_LEN);
		if (out->failed)
			rc = -ENOMEM;
	}
	secmem_free(c);
	return rc;
}
