/* Shared by header_build.c, header_parse.c and header_unlock.c. The bytes are described in
 * coding/FORMAT.md, "Header object". */
#ifndef FS_DRIVE_HEADER_IMPL_H
#define FS_DRIVE_HEADER_IMPL_H

#include "crypto/aead.h"
#include "crypto/digest.h"
#include "crypto/secret_share.h"
#include "fs/drive/header.h"

#define HEADER_MAGIC    "SKYFLOKH"
#define HEADER_VERSION  1
#define HEADER_FEATURES 0ull /* the required-feature bits that this program knows */

#define HEADER_FIXED        46 /* magic 8, version 4, features 8, drive 16, generation 8, k 1, n 1 */
#define HEADER_X_SECRET     0  /* of a local copy: the share is f(0), the drive secret itself */
#define HEADER_X_NONE       255  /* of a local copy without it: 32 zeros */
#define HEADER_VAULT_MAX    8192 /* 16 slots of 214 bytes, a count and a tag are 3,441 */
#define HEADER_MANIFEST_MAX (1u << 20)
#define MANIFEST_STRING_MAX 4096
#define EXTENT_MAX_LOW      (64u << 10)
#define EXTENT_MAX_HIGH     (1u << 20)

struct header_blob {
	uint64_t generation;
	int k, n;
	uint8_t x;
	size_t common_len;       /* bytes[0..common_len) */
	const uint8_t *share;    /* the rest points into bytes */
	const uint8_t *vault;    /* ciphertext ‖ tag */
	const uint8_t *manifest; /* nonce ‖ ciphertext ‖ tag */
	size_t vault_len, manifest_len;
	const uint8_t
	    *sealed; /* both with their length fields: what the MAC covers beside the common part */
	size_t sealed_len;
	const uint8_t *mac;
	size_t len;
	uint8_t bytes[];
};

/* SHA-256("skyflok1/share" ‖ drive ‖ generation ‖ x ‖ share). 0 or -EIO. */
int header_commitment(const uint8_t drive[ID_LEN], uint64_t generation, uint8_t x,
		      const uint8_t share[SHARE_LEN], uint8_t out[SHA256_LEN]);
/* HKDF(drive secret, "skyflok1/vault" ‖ drive ‖ generation). The secret is new with every
 * generation, so this key seals once, with a nonce of zeros (keeps I3). */
int header_vault_key(const uint8_t drive[ID_LEN], uint64_t generation,
		     const uint8_t secret[SHARE_LEN], uint8_t out[KEY_LEN]);
extern const uint8_t header_vault_nonce[AEAD_NONCE_LEN];
/* HMAC-SHA256 under the root key's "header-mac" over common ‖ vault ‖ manifest, the latter two with
 * their lengths. */
int header_mac(const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN], const void *common,
	       size_t common_len, const void *sealed, size_t sealed_len, uint8_t out[SHA256_LEN]);

/* The manifest's clear bytes. manifest_put wants room of manifest_bound reserved, so that no secret
 * is left behind in moved memory. manifest_get: 0, -EBADMSG, -ENOMEM; *table is borrowed from p;
 * *mf is empty on failure. It compares nothing with the header. */
size_t manifest_bound(const struct manifest *mf, size_t table_len);
void manifest_put(struct buf *out, const struct manifest *mf, const struct keyring *keys);
int manifest_get(const void *p, size_t n, struct manifest *mf, const uint8_t **table,
		 size_t *table_len);
/* 0 or -EINVAL: the ranges that header_build documents. */
int manifest_check(const struct manifest *mf);

#endif
