#include "crypto/keyslot.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include "crypto/aead.h"
#include "crypto/digest.h"
#include "crypto/kdf.h"
#include "crypto/secmem.h"

/* RFC 9106 section 4 recommends 2 GiB at t = 1 or 64 MiB at t = 3 where memory is scarce; this lies
 * between, about half a second on two cores, and fits every machine that could run a drive. */
static const struct keyslot_cost cost_default = { .mem_kib = 256 * 1024, .passes = 3, .lanes = 4 };

#define KEYSLOT_WIRE_MIN (4 + 1 + 1 + 8 + 12 + 32 + 12 + KEY_LEN + 16 + 32)

/* What stands before the nonce: the slot's clear description, and the AAD of the sealed root key,
 * so that nobody moves a slot to another number or makes it look cheaper. */
static void put_description(struct buf *out, const struct keyslot *s)
{
	size_t label = strnlen(s->label, KEYSLOT_LABEL_MAX);

	buf_put32(out, s->number);
	buf_put8(out, (uint8_t)s->kind);
	buf_put8(out, (uint8_t)label);
	buf_put(out, s->label, label);
	buf_put64(out, (uint64_t)s->created);
	buf_put32(out, s->cost.mem_kib);
	buf_put32(out, s->cost.passes);
	buf_put32(out, s->cost.lanes);
	buf_put(out, s->salt, sizeof(s->salt));
}

/* 0 or -EINVAL: everything that is checked before memory is spent on a slot. */
static int slot_check(const struct keyslot *s)
{
	struct kdf_cost c = { s->cost.mem_kib, s->cost.passes, s->cost.lanes };

	if (strnlen(s->label, sizeof(s->label)) > KEYSLOT_LABEL_MAX)
		return -EINVAL;
	switch (s->kind) {
	case KEYSLOT_PASSPHRASE:
	case KEYSLOT_KEYFILE:
		return kdf_cost_check(&c);
	case KEYSLOT_RECOVERY:
		/* 256 random bits need no stretching; a cost there would be a lie. */
		return c.mem_kib || c.passes || c.lanes ? -EINVAL : 0;
	}
	return -EINVAL;
}

/* keys[0] seals the root key, keys[1] is the check value. Both come out of one HKDF: its second
 * block is an HMAC over the first under the same PRK, so that the check value commits to the
 * sealing key. */
static int slot_keys(const struct keyslot *s, const uint8_t drive[ID_LEN], const void *secret,
		     size_t secret_len, uint8_t keys[2][KEY_LEN])
{
	static const char purpose[] = "skyflok1/slot";
	struct kdf_cost c = { s->cost.mem_kib, s->cost.passes, s->cost.lanes };
	uint8_t info[sizeof(purpose) - 1 + ID_LEN + 5], stretched[KEY_LEN];
	int rc = 0;

	memcpy(info, purpose, sizeof(purpose) - 1);
	memcpy(info + sizeof(purpose) - 1, drive, ID_LEN);
	be32_put(info + sizeof(info) - 5, s->number);
	info[sizeof(info) - 1] = (uint8_t)s->kind;
	if (s->kind == KEYSLOT_RECOVERY) {
		if (secret_len != KEY_LEN)
			return -EINVAL;
		memcpy(stretched, secret, KEY_LEN);
	} else {
		rc = kdf_argon2id(&c, secret, secret_len, s->salt, sizeof(s->salt), NULL, 0, NULL,
				  0, stretched, sizeof(stretched));
	}
	if (!rc)
		rc = hkdf_sha256(stretched, sizeof(stretched), s->salt, sizeof(s->salt), info,
				 sizeof(info), keys, 2 * KEY_LEN);
	secmem_wipe(stretched, sizeof(stretched));
	return rc;
}

int keyslot_seal(struct keyslot *s, const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN],
		 const void *secret, size_t secret_len)
{
	uint8_t keys[2][KEY_LEN];
	struct buf aad = { 0 };

	if (s->kind != KEYSLOT_RECOVERY && !s->cost.mem_kib && !s->cost.passes && !s->cost.lanes)
		s->cost = cost_default;
	if (!secret_len || slot_check(s))
		return -EINVAL;
	if (!s->created)
		s->created = time(NULL);
	random_bytes(s->salt, sizeof(s->salt));
	random_bytes(s->nonce, sizeof(s->nonce));
	int rc = slot_keys(s, drive, secret, secret_len, keys);
	if (!rc) {
		put_description(&aad, s);
		rc = aad.failed ? -ENOMEM
				: aead_seal(keys[0], s->nonce, aad.p, aad.len, root, KEY_LEN,
					    s->sealed_root);
		memcpy(s->check, keys[1], sizeof(s->check));
	}
	buf_release(&aad);
	secmem_wipe(keys, sizeof(keys));
	return rc;
}

int keyslot_open(const struct keyslot *s, const uint8_t drive[ID_LEN], const void *secret,
		 size_t secret_len, uint8_t root[KEY_LEN])
{
	uint8_t keys[2][KEY_LEN];
	struct buf aad = { 0 };

	memset(root, 0, KEY_LEN);
	if (slot_check(s))
		return -EBADMSG;
	if (!secret_len || (s->kind == KEYSLOT_RECOVERY && secret_len != KEY_LEN))
		return -EACCES;
	int rc = slot_keys(s, drive, secret, secret_len, keys);
	if (!rc && !secmem_equal(keys[1], s->check, sizeof(s->check)))
		rc = -EACCES;
	if (!rc) {
		put_description(&aad, s);
		rc = aad.failed ? -ENOMEM
				: aead_open(keys[0], s->nonce, aad.p, aad.len, s->sealed_root,
					    sizeof(s->sealed_root), root);
	}
	buf_release(&aad);
	secmem_wipe(keys, sizeof(keys));
	return rc;
}

void keyslots_put(struct buf *out, const struct keyslot *slots, int count)
{
	buf_put8(out, (uint8_t)count);
	for (int i = 0; i < count; i++) {
		put_description(out, &slots[i]);
		buf_put(out, slots[i].nonce, sizeof(slots[i].nonce));
		buf_put(out, slots[i].sealed_root, sizeof(slots[i].sealed_root));
		buf_put(out, slots[i].check, sizeof(slots[i].check));
	}
}

static int slot_get(struct rd *r, struct keyslot *s)
{
	/* So that the pointers below are never NULL: a slot that is too short is refused as a
	 * whole. */
	if (r->left < KEYSLOT_WIRE_MIN)
		return -EBADMSG;
	*s = (struct keyslot){ .number = rd_get32(r) };
	s->kind = rd_get8(r);
	size_t len = rd_get8(r);
	const uint8_t *label = len <= KEYSLOT_LABEL_MAX ? rd_get(r, len) : NULL;
	/* A NUL inside would make two slots with different bytes look alike. */
	if (!label || memchr(label, 0, len) || r->left < KEYSLOT_WIRE_MIN - 6)
		return -EBADMSG;
	memcpy(s->label, label, len);
	s->created = (int64_t)rd_get64(r);
	s->cost.mem_kib = rd_get32(r);
	s->cost.passes = rd_get32(r);
	s->cost.lanes = rd_get32(r);
	memcpy(s->salt, rd_get(r, sizeof(s->salt)), sizeof(s->salt));
	memcpy(s->nonce, rd_get(r, sizeof(s->nonce)), sizeof(s->nonce));
	memcpy(s->sealed_root, rd_get(r, sizeof(s->sealed_root)), sizeof(s->sealed_root));
	memcpy(s->check, rd_get(r, sizeof(s->check)), sizeof(s->check));
	return slot_check(s) ? -EBADMSG : 0;
}

int keyslots_get(const void *p, size_t n, struct keyslot slots[KEYSLOT_MAX], int *count)
{
	struct rd r = rd_of(p, n);
	int have = rd_get8(&r);

	*count = 0;
	if (r.bad || have < 1 || have > KEYSLOT_MAX)
		return -EBADMSG;
	for (int i = 0; i < have; i++) {
		int rc = slot_get(&r, &slots[i]);
		if (rc)
			return rc;
		for (int j = 0; j < i; j++)
			if (slots[j].number == slots[i].number)
				return -EBADMSG;
	}
	if (r.left)
		return -EBADMSG;
	*count = have;
	return 0;
}

/* Crockford's Base32: no I, L, O or U, and whoever writes I or L means 1, O means 0. 256 bits of
 * key and 24 bits of check are exactly 56 characters, 14 groups of 4. */
static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
#define RECOVERY_CHECK 3
#define RECOVERY_CHARS 56
_Static_assert((KEY_LEN + RECOVERY_CHECK) * 8 == RECOVERY_CHARS * 5, "no spare bits");
_Static_assert(RECOVERY_CHARS / 4 * 5 <= RECOVERY_TEXT_LEN, "groups fit");

/* The first bytes of SHA-256("skyflok1/recovery" ‖ key). */
static int recovery_check(const uint8_t key[32], uint8_t out[RECOVERY_CHECK])
{
	static const char label[] = "skyflok1/recovery";
	uint8_t hash[SHA256_LEN];
	struct iovec in[2] = {
		{ .iov_base = (void *)label, .iov_len = sizeof(label) - 1 },
		{ .iov_base = (void *)key, .iov_len = 32 },
	};
	int rc = sha256v(in, 2, hash);

	memcpy(out, hash, RECOVERY_CHECK);
	return rc;
}

int recovery_key_text(const uint8_t key[32], char out[RECOVERY_TEXT_LEN])
{
	uint8_t raw[KEY_LEN + RECOVERY_CHECK];
	unsigned v = 0, bits = 0, chars = 0;
	char *to = out;

	*to = 0;
	memcpy(raw, key, KEY_LEN);
	int rc = recovery_check(key, raw + KEY_LEN);
	for (size_t i = 0; i < sizeof(raw) && !rc; i++) {
		v = (v << 8 | raw[i]) & 0xfff;
		for (bits += 8; bits >= 5; bits -= 5) {
			if (chars && chars % 4 == 0)
				*to++ = '-';
			*to++ = alphabet[v >> (bits - 5) & 31];
			chars++;
		}
	}
	*to = 0;
	secmem_wipe(raw, sizeof(raw));
	return rc;
}

int recovery_key_make(uint8_t key[32], char out[RECOVERY_TEXT_LEN])
{
	random_bytes(key, 32);
	return recovery_key_text(key, out);
}

static int digit_of(char c)
{
	c = (char)toupper((unsigned char)c);
	if (c == 'O')
		return 0;
	if (c == 'I' || c == 'L')
		return 1;
	const char *at = c ? strchr(alphabet, c) : NULL;
	return at ? (int)(at - alphabet) : -1;
}

int recovery_key_parse(const char *text, uint8_t key[32])
{
	uint8_t raw[KEY_LEN + RECOVERY_CHECK], check[RECOVERY_CHECK];
	unsigned v = 0, bits = 0, chars = 0;
	size_t len = 0;
	int rc = -EINVAL;

	memset(key, 0, KEY_LEN);
	for (; *text; text++) {
		if (isspace((unsigned char)*text) || strchr("-_.:", *text))
			continue;
		int d = digit_of(*text);
		if (d < 0 || ++chars > RECOVERY_CHARS)
			goto wipe;
		v = (v << 5 | (unsigned)d) & 0xfff;
		bits += 5;
		if (bits >= 8)
			bits -= 8, raw[len++] = (uint8_t)(v >> bits);
	}
	if (chars == RECOVERY_CHARS && !recovery_check(raw, check) &&
	    secmem_equal(check, raw + KEY_LEN, sizeof(check))) {
		memcpy(key, raw, KEY_LEN);
		rc = 0;
	}
wipe:
	secmem_wipe(raw, sizeof(raw));
	return rc;
}
