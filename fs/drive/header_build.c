#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/secmem.h"
#include "fs/base/scope.h"
#include "fs/drive/header_impl.h"

const uint8_t header_vault_nonce[AEAD_NONCE_LEN];

int header_commitment(const uint8_t drive[ID_LEN], uint64_t generation, uint8_t x,
		      const uint8_t share[SHARE_LEN], uint8_t out[SHA256_LEN])
{
	static const char label[] = "skyflok1/share";
	uint8_t fixed[ID_LEN + 9];
	struct iovec in[3] = {
		{ .iov_base = (void *)label, .iov_len = sizeof(label) - 1 },
		{ .iov_base = fixed, .iov_len = sizeof(fixed) },
		{ .iov_base = (void *)share, .iov_len = SHARE_LEN },
	};

	memcpy(fixed, drive, ID_LEN);
	be64_put(fixed + ID_LEN, generation);
	fixed[ID_LEN + 8] = x;
	return sha256v(in, 3, out);
}

int header_vault_key(const uint8_t drive[ID_LEN], uint64_t generation,
		     const uint8_t secret[SHARE_LEN], uint8_t out[KEY_LEN])
{
	static const char label[] = "skyflok1/vault";
	uint8_t info[sizeof(label) - 1 + ID_LEN + 8];

	memcpy(info, label, sizeof(label) - 1);
	memcpy(info + sizeof(label) - 1, drive, ID_LEN);
	be64_put(info + sizeof(info) - 8, generation);
	return hkdf_sha256(secret, SHARE_LEN, NULL, 0, info, sizeof(info), out, KEY_LEN);
}

int header_mac(const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN], const void *common,
	       size_t common_len, const void *sealed, size_t sealed_len, uint8_t out[SHA256_LEN])
{
	uint8_t key[KEY_LEN];
	struct iovec in[2] = {
		{ .iov_base = (void *)common, .iov_len = common_len },
		{ .iov_base = (void *)sealed, .iov_len = sealed_len },
	};
	int rc = root_key_derive(drive, root, "header-mac", key);

	if (!rc)
		rc = hmac_sha256v(key, sizeof(key), in, 2, out);
	secmem_wipe(key, sizeof(key));
	return rc;
}

void header_key(char out[32], uint64_t generation)
{
	uint8_t be[8];

	be64_put(be, generation);
	out[0] = 'h', out[1] = '/';
	hex_put(out + 2, be, sizeof(be));
}

void header_set_release(struct header_set *hs)
{
	for (int i = 0; i < DRIVE_MAX_BACKENDS; i++)
		buf_release(&hs->object[i]);
	if (hs->local.p)
		secmem_wipe(hs->local.p, hs->local.cap); /* it holds the drive secret */
	buf_release(&hs->local);
	*hs = (struct header_set){ 0 };
}

static size_t string_len(const char *s)
{
	return s ? strnlen(s, MANIFEST_STRING_MAX + 1) : 0;
}

int manifest_check(const struct manifest *mf)
{
	if (mf->generation < 1 || mf->k < 1 || mf->k > DRIVE_MAX_BACKENDS || mf->m < 0 ||
	    mf->m > DRIVE_MAX_BACKENDS)
		return -EINVAL;
	int n = mf->k + mf->m;
	if (n < 2 || n > DRIVE_MAX_BACKENDS || mf->nbackends != n)
		return -EINVAL;
	if (mf->extent_max < EXTENT_MAX_LOW || mf->extent_max > EXTENT_MAX_HIGH ||
	    mf->extent_max & (mf->extent_max - 1) || mf->compress > 1 || !mf->segment_size)
		return -EINVAL;
	if (strnlen(mf->label, sizeof(mf->label)) == sizeof(mf->label))
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		const struct header_backend *b = &mf->backends[i];
		if (!b->url || string_len(b->url) > MANIFEST_STRING_MAX ||
		    string_len(b->provider) > MANIFEST_STRING_MAX ||
		    string_len(b->location) > MANIFEST_STRING_MAX)
			return -EINVAL;
	}
	return 0;
}

size_t manifest_bound(const struct manifest *mf, size_t table_len)
{
	size_t n = 4 + table_len + 128 + sizeof(mf->label);

	for (int i = 0; i < mf->nbackends; i++)
		n += 12 + ID_LEN + string_len(mf->backends[i].url) +
		     string_len(mf->backends[i].provider) + string_len(mf->backends[i].location);
	return n;
}

static void put_string(struct buf *out, const char *s)
{
	buf_put_bytes32(out, s, string_len(s));
}

void manifest_put(struct buf *out, const struct manifest *mf, const struct keyring *keys)
{
	size_t at = out->len;

	buf_put32(out, 0);
	keyring_table(keys, out);
	if (!out->failed)
		be32_put(out->p + at, (uint32_t)(out->len - at - 4));
	buf_put(out, mf->drive, ID_LEN);
	buf_put64(out, mf->generation);
	buf_put8(out, (uint8_t)mf->k);
	buf_put8(out, (uint8_t)mf->m);
	buf_put32(out, mf->extent_max);
	buf_put32(out, mf->compress);
	buf_put64(out, mf->quota);
	buf_put64(out, mf->segment_size);
	buf_put64(out, (uint64_t)mf->created);
	buf_put_bytes32(out, mf->label, strnlen(mf->label, sizeof(mf->label)));
	buf_put8(out, (uint8_t)mf->nbackends);
	for (int i = 0; i < mf->nbackends; i++) {
		put_string(out, mf->backends[i].url);
		put_string(out, mf->backends[i].provider);
		put_string(out, mf->backends[i].location);
		buf_put(out, mf->backends[i].uuid, ID_LEN);
	}
	buf_put32(out, 0); /* extensions: none in version 1 */
}

/* What is being built; everything here is wiped at the end. */
struct draft {
	uint8_t secret[SHARE_LEN];
	uint8_t shares[DRIVE_MAX_BACKENDS][SHARE_LEN];
	uint8_t key[KEY_LEN];
};

static int build_common(struct buf *out, const struct manifest *mf, const struct draft *d)
{
	int n = mf->k + mf->m, rc = 0;
	uint8_t hash[SHA256_LEN];

	buf_put(out, HEADER_MAGIC, 8);
	buf_put32(out, HEADER_VERSION);
	buf_put64(out, HEADER_FEATURES);
	buf_put(out, mf->drive, ID_LEN);
	buf_put64(out, mf->generation);
	buf_put8(out, (uint8_t)mf->k);
	buf_put8(out, (uint8_t)n);
	for (int i = 0; i < n && !rc; i++) {
		rc = header_commitment(mf->drive, mf->generation, (uint8_t)(i + 1), d->shares[i],
				       hash);
		buf_put(out, hash, sizeof(hash));
	}
	return rc ? rc : out->failed ? -ENOMEM : 0;
}

/* u32 length ‖ slots sealed under the drive secret. */
static int build_vault(struct buf *out, const struct buf *common, const struct manifest *mf,
		       const struct keyslot *slots, int nslots, struct draft *d)
{
	struct keyslot parsed[KEYSLOT_MAX];
	struct buf clear = { 0 };
	int count, rc;

	if (nslots < 1 || nslots > KEYSLOT_MAX)
		return -EINVAL;
	keyslots_put(&clear, slots, nslots);
	rc = clear.failed ? -ENOMEM : 0;
	/* Never write what would not be read: slots with one number, a refused cost. */
	if (!rc && keyslots_get(clear.p, clear.len, parsed, &count))
		rc = -EINVAL;
	if (!rc)
		rc = header_vault_key(mf->drive, mf->generation, d->secret, d->key);
	if (!rc) {
		buf_put32(out, (uint32_t)(clear.len + AEAD_TAG_LEN));
		uint8_t *to = buf_extend(out, clear.len + AEAD_TAG_LEN);
		rc = to ? aead_seal(d->key, header_vault_nonce, common->p, common->len, clear.p,
				    clear.len, to)
			: -ENOMEM;
	}
	buf_release(&clear);
	return rc;
}

/* u32 length ‖ nonce ‖ manifest sealed under the root key. */
static int build_manifest(struct buf *out, const struct buf *common, const struct manifest *mf,
			  const struct keyring *keys, struct draft *d)
{
	struct buf clear = { 0 }, table = { 0 };
	uint8_t nonce[AEAD_NONCE_LEN];

	/* Once only for its length; the copy is wiped like the other. */
	keyring_table(keys, &table);
	int rc = table.failed ? -ENOMEM : 0;
	size_t bound = manifest_bound(mf, table.len);
	if (!rc && bound > HEADER_MANIFEST_MAX - AEAD_NONCE_LEN - AEAD_TAG_LEN)
		rc = -EINVAL;
	if (!rc && !buf_extend(&clear, bound))
		rc = -ENOMEM;
	if (!rc) {
		buf_reset(&clear);
		manifest_put(&clear, mf, keys);
		rc = clear.failed ? -ENOMEM : keyring_root_key(keys, "manifest", d->key);
	}
	if (!rc) {
		random_bytes(nonce, sizeof(nonce));
		buf_put32(out, (uint32_t)(sizeof(nonce) + clear.len + AEAD_TAG_LEN));
		buf_put(out, nonce, sizeof(nonce));
		uint8_t *to = buf_extend(out, clear.len + AEAD_TAG_LEN);
		rc = to ? aead_seal(d->key, nonce, common->p, common->len, clear.p, clear.len, to)
			: -ENOMEM;
	}
	if (table.p)
		secmem_wipe(table.p, table.cap);
	if (clear.p)
		secmem_wipe(clear.p, clear.cap);
	buf_release(&table);
	buf_release(&clear);
	return rc;
}

/* common ‖ x ‖ share ‖ sealed ‖ MAC. One allocation, for the local copy holds a secret. */
static void assemble(struct buf *out, const struct buf *common, uint8_t x, const uint8_t *share,
		     const struct buf *sealed, const uint8_t mac[SHA256_LEN])
{
	if (!buf_extend(out, common->len + 1 + SHARE_LEN + sealed->len + SHA256_LEN))
		return;
	buf_reset(out);
	buf_put(out, common->p, common->len);
	buf_put8(out, x);
	buf_put(out, share, SHARE_LEN);
	buf_put(out, sealed->p, sealed->len);
	buf_put(out, mac, SHA256_LEN);
}

static int assemble_all(struct header_set *out, const struct buf *common, const struct buf *sealed,
			const struct keyring *keys, int keep_secret, const struct draft *d)
{
	static const uint8_t none[SHARE_LEN];
	uint8_t mac[SHA256_LEN];
	int rc = header_mac(keyring_drive(keys), keyring_root(keys), common->p, common->len,
			    sealed->p, sealed->len, mac);

	if (rc)
		return rc;
	for (int i = 0; i < out->n; i++) {
		assemble(&out->object[i], common, (uint8_t)(i + 1), d->shares[i], sealed, mac);
		if (out->object[i].failed)
			return -ENOMEM;
	}
	assemble(&out->local, common, keep_secret ? HEADER_X_SECRET : HEADER_X_NONE,
		 keep_secret ? d->secret : none, sealed, mac);
	return out->local.failed ? -ENOMEM : 0;
}

/* The drive stands or falls with these bytes, so they are read back before anybody stores them:
 * every object parses and its MAC and manifest open, and shares from both ends give the secret. */
static int verify(const struct header_set *hs, const struct manifest *mf,
		  const struct keyring *keys, struct draft *d)
{
	uint8_t x[DRIVE_MAX_BACKENDS], got[SHARE_LEN];
	int rc = 0;

	for (int i = 0; i <= hs->n && !rc; i++) {
		const struct buf *o = i < hs->n ? &hs->object[i] : &hs->local;
		struct header_blob *b = NULL;
		struct manifest read = { 0 };
		rc = header_parse(o->p, o->len, &b);
		if (!rc)
			rc = header_open_with(&b, 1, keys, &read);
		if (!rc && (read.generation != mf->generation || read.k != mf->k ||
			    (i < hs->n && header_shard(b) != i)))
			rc = -EIO;
		manifest_release(&read);
		header_free(b);
	}
	for (int first = 0; first <= hs->n - mf->k && !rc; first += MAX(1, hs->n - mf->k)) {
		for (int i = 0; i < mf->k; i++)
			x[i] = (uint8_t)(first + i + 1);
		rc = secret_share_combine(x, d->shares + first, mf->k, got);
		if (!rc && !secmem_equal(got, d->secret, SHARE_LEN))
			rc = -EIO;
	}
	secmem_wipe(got, sizeof(got));
	return rc == -EBADMSG || rc == -ENOTSUP ? -EIO : rc;
}

int header_build(const struct manifest *mf, const struct keyring *keys, const struct keyslot *slots,
		 int nslots, int keep_secret, struct header_set *out)
{
	struct buf common = { 0 }, sealed = { 0 };

	*out = (struct header_set){ 0 };
	if (manifest_check(mf) || memcmp(keyring_drive(keys), mf->drive, ID_LEN))
		return -EINVAL;
	struct draft *d = secmem_alloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	out->generation = mf->generation;
	out->n = mf->k + mf->m;
	random_bytes(d->secret, SHARE_LEN);
	int rc = secret_share_split(d->secret, mf->k, out->n, d->shares);
	if (!rc)
		rc = build_common(&common, mf, d);
	if (!rc)
		rc = build_vault(&sealed, &common, mf, slots, nslots, d);
	if (!rc)
		rc = build_manifest(&sealed, &common, mf, keys, d);
	if (!rc)
		rc = assemble_all(out, &common, &sealed, keys, keep_secret, d);
	if (!rc)
		rc = verify(out, mf, keys, d);
	secmem_free(d);
	buf_release(&common);
	buf_release(&sealed);
	if (rc)
		header_set_release(out);
	return rc;
}
