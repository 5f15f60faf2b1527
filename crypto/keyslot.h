/* Key slots: each protects the same root key under one passphrase, key file or recovery key. */
#ifndef CRYPTO_KEYSLOT_H
#define CRYPTO_KEYSLOT_H

#include <stddef.h>
#include <stdint.h>
#include "crypto/key.h"
#include "fs/base/buf.h"

#define KEYSLOT_MAX       16
#define KEYSLOT_LABEL_MAX 64

enum keyslot_kind { KEYSLOT_PASSPHRASE = 1, KEYSLOT_KEYFILE = 2, KEYSLOT_RECOVERY = 3 };

struct keyslot_cost {
	uint32_t mem_kib, passes, lanes; /* Argon2id; {0} means the default 256 MiB, t 3, p 4.
					    Refused above 1 GiB, 16, 8 before allocating */
};

struct keyslot {
	uint32_t number; /* never reused within a drive */
	enum keyslot_kind kind;
	char label[KEYSLOT_LABEL_MAX + 1];
	int64_t created; /* unix seconds */
	struct keyslot_cost cost;
	uint8_t salt[32];
	uint8_t nonce[12];
	uint8_t sealed_root[KEY_LEN + 16];
	uint8_t
	    check[32]; /* key commitment: GCM alone would let one ciphertext open under two keys */
};

/* The caller sets number, kind, label, cost ({0}: the default; must stay {0} for a recovery key),
 * and created (0: now). Fills in the rest: new salt and nonce, root sealed under the secret.
 * Passphrases and key files go through Argon2id (a person may choose any file as key file); a
 * recovery key is its 32 bytes. 0, -ENOMEM, -EINVAL (cost out of range, label too long, empty
 * secret), -EIO. Blocks about half a second for the first two. drive is bound in. */
int keyslot_seal(struct keyslot *s, const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN],
		 const void *secret, size_t secret_len);
/* 0; -EACCES when this is not the slot's secret; -EBADMSG malformed or cost refused; -ENOMEM. */
int keyslot_open(const struct keyslot *s, const uint8_t drive[ID_LEN], const void *secret,
		 size_t secret_len, uint8_t root[KEY_LEN]);

/* A slot list on the wire (inside the vault). Parsing bounds everything before anything is
 * allocated or computed. */
void keyslots_put(struct buf *out, const struct keyslot *slots, int count);
int keyslots_get(const void *p, size_t n, struct keyslot slots[KEYSLOT_MAX],
		 int *count); /* 0 or -EBADMSG */

/* Recovery key: 256 random bits as checksummed Base32 in groups of 4, e.g. "ABCD-EFGH-...". out
 * holds RECOVERY_TEXT_LEN. */
#define RECOVERY_TEXT_LEN 96
int recovery_key_make(uint8_t key[32], char out[RECOVERY_TEXT_LEN]); /* 0 or -EIO */
int recovery_key_text(const uint8_t key[32],
		      char out[RECOVERY_TEXT_LEN]); /* the text of a given key */
/* Accepts lower case, missing or extra separators (blank - _ . :), O for 0, I and L for 1
 * (Crockford's alphabet has neither). 0; -EINVAL when the checksum, the length or a character is
 * wrong. */
int recovery_key_parse(const char *text, uint8_t key[32]);

#endif
