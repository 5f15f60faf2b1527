/* The keys of one drive, below its root key (FORMATS.md, "Keys"). All in secmem. Thread-safe after
 * creation, but for keyring_add. */
#ifndef CRYPTO_KEY_H
#define CRYPTO_KEY_H

#include <stddef.h>
#include <stdint.h>
#include "fs/base/buf.h"

#define KEY_LEN 32
#define ID_LEN  16

struct keyring;

/* A new drive: random root key and master key number 1. NULL when out of memory. */
struct keyring *keyring_create(const uint8_t drive[ID_LEN]);
/* From a root key and the master-key table as keyring_table wrote it (clear bytes out of an opened
 * manifest). NULL and -EBADMSG when the table is malformed (numbers ascending, at least one, no
 * duplicates, 1 to 4,096 entries). */
int keyring_from_root(const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN], const void *table,
		      size_t n, struct keyring **out);
void keyring_destroy(struct keyring *k);

/* Appends a new random master key and makes it the current one. Not while another thread uses the
 * keyring. 0; -ENOMEM; -ENOSPC after 4,096. The caller stores a new header generation before
 * anything is sealed under it. */
int keyring_add(struct keyring *k);

const uint8_t *keyring_drive(const struct keyring *k); /* borrowed, ID_LEN bytes */
const uint8_t *keyring_root(const struct keyring *k); /* borrowed; for slots and header MACs only */
uint32_t keyring_current(
    const struct keyring *k); /* number of the newest master key: what new segments use */
/* Appends the table: u32 count, then u32 number ‖ key each. The result is a secret: it goes under
 * the root key's seal only. */
void keyring_table(const struct keyring *k, struct buf *out);

/* Derivations. -ENOKEY when the master key number is unknown. Callers keep what they use often. */
int keyring_segment_key(const struct keyring *k, uint32_t keyno, const uint8_t segment[ID_LEN],
			uint8_t out[KEY_LEN]);
int keyring_fragment_key(const struct keyring *k, uint32_t keyno, const uint8_t set[ID_LEN],
			 const uint8_t segment[ID_LEN], uint8_t code_k, uint8_t code_m,
			 uint8_t shard, uint8_t out[KEY_LEN]);
int keyring_shard_key(const struct keyring *k, uint32_t keyno,
		      uint8_t out[KEY_LEN]); /* HMAC key of shard headers */
int keyring_log_key(const struct keyring *k, uint32_t keyno, uint8_t out[KEY_LEN]);
/* HKDF under the root key itself: "manifest", "header-mac", "local-state". purpose is a literal of
 * at most 39 characters. */
int keyring_root_key(const struct keyring *k, const char *purpose, uint8_t out[KEY_LEN]);
/* The same for a root key whose master-key table is not open yet. */
int root_key_derive(const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN], const char *purpose,
		    uint8_t out[KEY_LEN]);

#endif
