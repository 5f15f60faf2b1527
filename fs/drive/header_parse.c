#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/secmem.h"
#include "fs/base/scope.h"
#include "fs/drive/header_impl.h"

/* Everything is bounded before anything is allocated, and nothing is interpreted beyond lengths:
 * who wrote these bytes is known only after the vault opened and the MAC was checked (keeps I8). */
static int parse_clear(struct rd *r, struct header_blob *b)
{
	const uint8_t *magic = rd_get(r, 8);

	if (!magic || memcmp(magic, HEADER_MAGIC, 8))
		return -EBADMSG;
	uint32_t version = rd_get32(r);
	uint64_t features = rd_get64(r);
	if (r->bad || version < 1)
		return -EBADMSG;
	if (version > HEADER_VERSION || features & ~HEADER_FEATURES)
		return -ENOTSUP;
	rd_get(r, ID_LEN);
	b->generation = rd_get64(r);
	b->k = rd_get8(r);
	b->n = rd_get8(r);
	if (r->bad || b->generation < 1 || b->k < 1 || b->n < 2 || b->k > b->n ||
	    b->n > DRIVE_MAX_BACKENDS)
		return -EBADMSG;
	rd_get(r, (size_t)b->n * SHA256_LEN);
	b->common_len = HEADER_FIXED + (size_t)b->n * SHA256_LEN;
	b->x = rd_get8(r);
	b->share = rd_get(r, SHARE_LEN);
	if (r->bad || (b->x > b->n && b->x != HEADER_X_NONE))
		return -EBADMSG;
	return 0;
}

static int parse_all(const uint8_t *p, size_t n, struct header_blob *b)
{
	struct rd r = rd_of(p, n);
	int rc = parse_clear(&r, b);

	if (rc)
		return rc;
	b->sealed = r.p;
	b->vault = rd_get_bytes32(&r, HEADER_VAULT_MAX, &b->vault_len);
	b->manifest = rd_get_bytes32(&r, HEADER_MANIFEST_MAX, &b->manifest_len);
	b->sealed_len = 8 + b->vault_len + b->manifest_len;
	b->mac = rd_get(&r, SHA256_LEN);
	if (r.bad || r.left || b->vault_len < AEAD_TAG_LEN ||
	    b->manifest_len < AEAD_NONCE_LEN + AEAD_TAG_LEN)
		return -EBADMSG;
	return 0;
}

int header_parse(const void *p, size_t n, struct header_blob **out)
{
	struct header_blob probe = { 0 };
	int rc = parse_all(p, n, &probe);

	*out = NULL;
	if (rc)
		return rc;
	struct header_blob *b = malloc(sizeof(*b) + n);
	if (!b)
		return -ENOMEM;
	*b = (struct header_blob){ .len = n };
	memcpy(b->bytes, p, n);
	/* Once more, so that the pointers are into the copy. */
	rc = parse_all(b->bytes, n, b);
	if (rc) {
		header_free(b);
		return rc;
	}
	*out = b;
	return 0;
}

int header_why(const void *p, size_t n, struct err *e)
{
	struct header_blob probe = { 0 };
	int rc = parse_all(p, n, &probe);

	if (!rc)
		return 0;
	if (n < 8 || memcmp(p, HEADER_MAGIC, 8))
		return err_set(e, rc, "This is not a skyflok header object.");
	if (rc != -ENOTSUP)
		return err_set(e, rc, "This header object is damaged: its lengths do not fit.");
	struct rd r = rd_of((const uint8_t *)p + 8, n - 8);
	uint32_t version = rd_get32(&r);
	uint64_t features = rd_get64(&r) & ~HEADER_FEATURES;
	if (version > HEADER_VERSION)
		return err_set(e, rc,
			       "The drive was written in format version %" PRIu32
			       ", this program reads up to %d. Use a newer skyflok.",
			       version, HEADER_VERSION);
	return err_set(e, rc,
		       "The drive needs feature bit %d (all unknown bits: 0x%" PRIx64
		       "), which this program does not know. Use a newer skyflok.",
		       __builtin_ctzll(features), features);
}

void header_free(struct header_blob *b)
{
	if (!b)
		return;
	secmem_wipe(b->bytes, b->len); /* a share, or the drive secret itself */
	free(b);
}

uint64_t header_generation(const struct header_blob *b)
{
	return b->generation;
}

const uint8_t *header_drive(const struct header_blob *b)
{
	return b->bytes + 20;
}

int header_shard(const struct header_blob *b)
{
	return b->x == HEADER_X_SECRET || b->x == HEADER_X_NONE ? -1 : b->x - 1;
}

int header_threshold(const struct header_blob *b)
{
	return b->k;
}

int header_count(const struct header_blob *b)
{
	return b->n;
}

void manifest_release(struct manifest *mf)
{
	for (int i = 0; i < DRIVE_MAX_BACKENDS; i++) {
		free(mf->backends[i].url);
		free(mf->backends[i].provider);
		free(mf->backends[i].location);
	}
	*mf = (struct manifest){ 0 };
}

/* -EBADMSG for a NUL inside: two different byte strings must not look alike. */
static int get_string(struct rd *r, char **out)
{
	size_t n;
	const uint8_t *p = rd_get_bytes32(r, MANIFEST_STRING_MAX, &n);

	if (!p || memchr(p, 0, n))
		return -EBADMSG;
	*out = malloc(n + 1);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, p, n);
	(*out)[n] = 0;
	return 0;
}

static int get_backends(struct rd *r, struct manifest *mf)
{
	int rc = 0;

	mf->nbackends = rd_get8(r);
	if (r->bad || mf->nbackends > DRIVE_MAX_BACKENDS)
		return -EBADMSG;
	for (int i = 0; i < mf->nbackends && !rc; i++) {
		struct header_backend *b = &mf->backends[i];
		rc = get_string(r, &b->url);
		if (!rc)
			rc = get_string(r, &b->provider);
		if (!rc)
			rc = get_string(r, &b->location);
		const uint8_t *uuid = rd_get(r, ID_LEN);
		if (!rc && !uuid)
			rc = -EBADMSG;
		if (!rc)
			memcpy(b->uuid, uuid, ID_LEN);
	}
	return rc;
}

int manifest_get(const void *p, size_t n, struct manifest *mf, const uint8_t **table,
		 size_t *table_len)
{
	struct rd r = rd_of(p, n);
	size_t len;

	*mf = (struct manifest){ 0 };
	*table = rd_get_bytes32(&r, n, table_len);
	const uint8_t *drive = rd_get(&r, ID_LEN);
	if (!*table || !drive)
		return -EBADMSG;
	memcpy(mf->drive, drive, ID_LEN);
	mf->generation = rd_get64(&r);
	mf->k = rd_get8(&r);
	mf->m = rd_get8(&r);
	mf->extent_max = rd_get32(&r);
	mf->compress = rd_get32(&r);
	mf->quota = rd_get64(&r);
	mf->segment_size = rd_get64(&r);
	mf->created = (int64_t)rd_get64(&r);
	const uint8_t *label = rd_get_bytes32(&r, sizeof(mf->label) - 1, &len);
	if (!label || memchr(label, 0, len))
		return -EBADMSG;
	memcpy(mf->label, label, len);
	int rc = get_backends(&r, mf);
	rd_get_bytes32(&r, n, &len); /* extensions of later versions that need no feature bit */
	if (!rc && (r.bad || r.left || manifest_check(mf)))
		rc = -EBADMSG;
	if (rc)
		manifest_release(mf);
	return rc;
}
