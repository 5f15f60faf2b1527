#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/secmem.h"
#include "fs/base/scope.h"
#include "fs/drive/header_impl.h"

/* Headers whose clear common part is byte for byte the same. A forged or damaged common part makes
 * a group of its own. */
struct group {
	const struct header_blob *first;
	uint64_t members; /* bits of blobs */
	uint64_t matched; /* of these, the ones whose share matches its commitment */
	int distinct;     /* how many different x those have */
	int local;        /* a local copy with the drive secret is among them */
	int opened;       /* the vault opened, slots are valid */
	int nslots;
	struct keyslot slots[KEYSLOT_MAX];
};

/* Argon2id runs are slow, and two generations mostly hold the same slots: each is tried once. */
struct tried {
	uint8_t id[SHA256_LEN];
	int rc;
};

/* One call of header_unlock or header_slots. Lives in secmem. */
struct unlock {
	struct header_blob *const *blobs;
	int count;
	uint64_t liars;
	int ngroups;
	struct group *group[HEADER_BLOBS_MAX];
	int ntried;
	struct tried tried[HEADER_BLOBS_MAX];
	int have_root;
	uint8_t root[KEY_LEN];
	/* scratch of group_open_vault */
	uint8_t x[DRIVE_MAX_BACKENDS];
	uint8_t shares[DRIVE_MAX_BACKENDS][SHARE_LEN];
	uint8_t secret[SHARE_LEN], key[KEY_LEN];
	uint8_t clear[HEADER_VAULT_MAX];
};

static int bit(uint64_t set, int i)
{
	return set >> i & 1;
}

static void unlock_free(struct unlock *u)
{
	for (int i = 0; u && i < u->ngroups; i++)
		secmem_free(u->group[i]);
	secmem_free(u);
}

static int same_common(const struct header_blob *a, const struct header_blob *b)
{
	return a->common_len == b->common_len && !memcmp(a->bytes, b->bytes, a->common_len);
}

static int share_matches(const struct header_blob *b)
{
	uint8_t hash[SHA256_LEN];

	if (header_commitment(header_drive(b), b->generation, b->x, b->share, hash))
		return 0;
	return !memcmp(hash, b->bytes + HEADER_FIXED + (size_t)(b->x - 1) * SHA256_LEN, SHA256_LEN);
}

static int group_add(struct unlock *u, int i)
{
	const struct header_blob *b = u->blobs[i];
	int g = 0;

	while (g < u->ngroups && !same_common(u->group[g]->first, b))
		g++;
	if (g == u->ngroups) {
		u->group[g] = secmem_alloc(sizeof(struct group));
		if (!u->group[g])
			return -ENOMEM;
		u->group[g]->first = b;
		u->ngroups++;
	}
	struct group *grp = u->group[g];
	grp->members |= 1ull << i;
	if (header_shard(b) < 0) {
		grp->local |= b->x == HEADER_X_SECRET;
		return 0;
	}
	if (!share_matches(b)) {
		u->liars |= 1ull << i;
		return 0;
	}
	int known = 0;
	for (int j = 0; j < i; j++)
		known |= bit(grp->matched, j) && u->blobs[j]->x == b->x;
	grp->distinct += !known;
	grp->matched |= 1ull << i;
	return 0;
}

/* Our own local copy first, then the group with most agreeing shares, then the newer one: a lone
 * provider that forges a header for itself cannot make us spend passphrase work on its slots before
 * the drive's own are opened; and once a root key is known, a forged group is told by its MAC
 * alone. */
static int by_support(const void *a, const void *b)
{
	const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;

	if (x->local != y->local)
		return y->local - x->local;
	if (x->distinct != y->distinct)
		return x->distinct > y->distinct ? -1 : 1;
	if (x->first->generation != y->first->generation)
		return x->first->generation > y->first->generation ? -1 : 1;
	return 0;
}

static int unlock_start(struct header_blob *const *blobs, int count, struct unlock **out)
{
	*out = NULL;
	if (count < 0 || count > HEADER_BLOBS_MAX)
		return -EINVAL;
	struct unlock *u = secmem_alloc(sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->blobs = blobs;
	u->count = count;
	for (int i = 0; i < count; i++) {
		if (group_add(u, i)) {
			unlock_free(u);
			return -ENOMEM;
		}
	}
	qsort(u->group, (size_t)u->ngroups, sizeof(u->group[0]), by_support);
	*out = u;
	return 0;
}

/* Opens blob's own copy of the vault under u->secret into g->slots. 0, -EBADMSG, -EIO. */
static int vault_open(struct unlock *u, struct group *g, const struct header_blob *b)
{
	int rc = header_vault_key(header_drive(b), b->generation, u->secret, u->key);

	if (!rc)
		rc = aead_open(u->key, header_vault_nonce, b->bytes, b->common_len, b->vault,
			       b->vault_len, u->clear);
	if (!rc)
		rc = keyslots_get(u->clear, b->vault_len - AEAD_TAG_LEN, g->slots, &g->nslots);
	return rc;
}

/* Tries u->secret on every member's vault; on success those that it does not open are liars. */
static int group_try_secret(struct unlock *u, struct group *g)
{
	uint64_t wrong = 0;

	for (int i = 0; i < u->count; i++) {
		struct group probe;
		if (!bit(g->members, i))
			continue;
		int rc = vault_open(u, g->opened ? &probe : g, u->blobs[i]);
		if (rc == 0)
			g->opened = 1;
		else if (rc == -EBADMSG)
			wrong |= 1ull << i;
		else
			return rc;
	}
	if (!g->opened)
		return -EBADMSG;
	u->liars |= wrong;
	return 0;
}

/* 0; -ENOKEY too few shares; -EBADMSG enough of them, and no vault opens. */
static int group_open_vault(struct unlock *u, struct group *g)
{
	uint64_t seen = 0;
	int have = 0, rc;

	for (int i = 0; i < u->count; i++) {
		if (!bit(g->members, i) || u->blobs[i]->x != HEADER_X_SECRET)
			continue;
		memcpy(u->secret, u->blobs[i]->share, SHARE_LEN);
		rc = group_try_secret(u, g);
		if (rc != -EBADMSG)
			return rc;
		u->liars |=
		    1ull << i; /* a local copy that does not open its own vault is damaged */
	}
	if (g->distinct < g->first->k)
		return g->local ? -EBADMSG : -ENOKEY;
	for (int i = 0; i < u->count && have < g->first->k; i++) {
		const struct header_blob *b = u->blobs[i];
		if (!bit(g->matched, i) || bit(seen, b->x))
			continue;
		seen |= 1ull << b->x;
		u->x[have] = b->x;
		memcpy(u->shares[have++], b->share, SHARE_LEN);
	}
	rc = secret_share_combine(u->x, u->shares, have, u->secret);
	if (!rc)
		rc = group_try_secret(u, g);
	if (rc == -EBADMSG) /* the commitments hold and no vault opens: whoever wrote this did not
			       write a drive */
		u->liars |= g->members;
	return rc;
}

/* Members whose MAC is right under u->root. */
static uint64_t group_authentic(struct unlock *u, const struct group *g)
{
	uint64_t good = 0;
	uint8_t mac[SHA256_LEN];

	for (int i = 0; i < u->count; i++) {
		const struct header_blob *b = u->blobs[i];
		if (bit(g->members, i) &&
		    !header_mac(header_drive(b), u->root, b->bytes, b->common_len, b->sealed,
				b->sealed_len, mac) &&
		    secmem_equal(mac, b->mac, SHA256_LEN))
			good |= 1ull << i;
	}
	return good;
}

static int slot_id(const struct keyslot *s, const uint8_t drive[ID_LEN], uint8_t id[SHA256_LEN])
{
	struct buf b = { 0 };

	buf_put(&b, drive, ID_LEN);
	keyslots_put(&b, s, 1);
	int rc = b.failed ? -ENOMEM : sha256(b.p, b.len, id);
	buf_release(&b);
	return rc;
}

/* keyslot_open, once per distinct slot. On 0 u->root is set. */
static int slot_try(struct unlock *u, const struct keyslot *s, const uint8_t drive[ID_LEN],
		    const void *secret, size_t secret_len)
{
	struct tried *t = &u->tried[u->ntried];
	uint8_t root[KEY_LEN];
	int rc = slot_id(s, drive, t->id);

	if (rc)
		return rc;
	for (int i = 0; i < u->ntried; i++)
		if (!memcmp(u->tried[i].id, t->id, SHA256_LEN))
			return u->tried[i].rc;
	/* Sixteen slots times a few generations fit; what does not is simply tried again. */
	t->rc = rc = keyslot_open(s, drive, secret, secret_len, root);
	if (u->ntried < HEADER_BLOBS_MAX - 1)
		u->ntried++;
	if (!rc && !u->have_root) {
		memcpy(u->root, root, KEY_LEN);
		u->have_root = 1;
	}
	secmem_wipe(root, sizeof(root));
	return rc;
}

/* Index of the slot that opens, or -EACCES, -ENOMEM, -EIO. */
static int group_try_slots(struct unlock *u, const struct group *g, enum keyslot_kind kind,
			   const void *secret, size_t secret_len)
{
	int rc;

	for (int i = 0; i < g->nslots; i++) {
		if (g->slots[i].kind != kind)
			continue;
		rc = slot_try(u, &g->slots[i], header_drive(g->first), secret, secret_len);
		if (rc == 0)
			return i;
		if (rc != -EACCES && rc != -EBADMSG)
			return rc;
	}
	return -EACCES;
}

/* The manifest of the first authentic member that opens; *keys NULL: the keyring is made from it.
 */
static int open_manifest(const struct header_blob *b, const uint8_t root[KEY_LEN],
			 struct manifest *mf, struct keyring **keys)
{
	size_t n = b->manifest_len - AEAD_NONCE_LEN - AEAD_TAG_LEN, table_len;
	uint8_t key[KEY_LEN], *clear = secmem_alloc(n);
	const uint8_t *table;

	*mf = (struct manifest){ 0 };
	if (!clear)
		return -ENOMEM;
	int rc = root_key_derive(header_drive(b), root, "manifest", key);
	if (!rc)
		rc = aead_open(key, b->manifest, b->bytes, b->common_len,
			       b->manifest + AEAD_NONCE_LEN, b->manifest_len - AEAD_NONCE_LEN,
			       clear);
	if (!rc)
		rc = manifest_get(clear, n, mf, &table, &table_len);
	/* The manifest says again what stands in clear: a header of one generation with the
	 * manifest of another is none. */
	if (!rc && (mf->generation != b->generation || mf->k != b->k || mf->k + mf->m != b->n ||
		    memcmp(mf->drive, header_drive(b), ID_LEN)))
		rc = -EBADMSG;
	if (!rc && keys)
		rc = keyring_from_root(mf->drive, root, table, table_len, keys);
	if (rc)
		manifest_release(mf);
	secmem_wipe(key, sizeof(key));
	secmem_free(clear);
	return rc;
}

/* Vault, slots, MAC, manifest of one group. Fills *out when it opens. */
static int group_unlock(struct unlock *u, struct group *g, enum keyslot_kind kind,
			const void *secret, size_t secret_len, struct header_unlocked *out)
{
	/* With a root key known, what it did not write is not worth passphrase work. */
	if (u->have_root && !group_authentic(u, g))
		return -ESTALE;
	int rc = group_open_vault(u, g);
	if (rc)
		return rc;
	int slot = group_try_slots(u, g, kind, secret, secret_len);
	if (slot < 0)
		return slot;
	uint64_t good = group_authentic(u, g);
	rc = -EBADMSG;
	for (int i = 0; i < u->count && rc == -EBADMSG; i++)
		if (bit(good, i))
			rc = open_manifest(u->blobs[i], u->root, &out->manifest, &out->keys);
	if (rc)
		return rc;
	memcpy(out->slots, g->slots, sizeof(out->slots));
	out->nslots = g->nslots;
	out->slot = slot;
	return 0;
}

static const char *kind_name(enum keyslot_kind kind)
{
	return kind == KEYSLOT_KEYFILE    ? "key file"
	       : kind == KEYSLOT_RECOVERY ? "recovery key"
					  : "passphrase";
}

static int has_kind(const struct unlock *u, enum keyslot_kind kind)
{
	for (int i = 0; i < u->ngroups; i++)
		for (int j = 0; u->group[i]->opened && j < u->group[i]->nslots; j++)
			if (u->group[i]->slots[j].kind == kind)
				return 1;
	return 0;
}

/* Some headers with right shares could not be tried. */
static int closed_group(const struct unlock *u)
{
	for (int i = 0; i < u->ngroups; i++)
		if (u->group[i]->distinct && !u->group[i]->opened)
			return 1;
	return 0;
}

/* The group that came nearest to its threshold, for the message. */
static int explain_too_few(const struct unlock *u, struct err *e)
{
	const struct group *best = NULL;

	for (int i = 0; i < u->ngroups; i++)
		if (!best || u->group[i]->distinct > best->distinct)
			best = u->group[i];
	if (!best)
		return err_set(e, -ENOKEY, "No header of the drive was found.");
	return err_set(e, -ENOKEY,
		       "Too few headers: %d of the %d that are needed fit together (generation "
		       "%" PRIu64 ", %d backends, %d headers read, %d of them wrong). Make more "
		       "backends reachable.",
		       best->distinct, best->first->k, best->first->generation, best->first->n,
		       u->count, __builtin_popcountll(u->liars));
}

static int explain(const struct unlock *u, int rc, enum keyslot_kind kind, struct err *e)
{
	switch (rc) {
	case -EACCES:
		if (!has_kind(u, kind))
			return err_set(e, rc, "The drive has no slot for a %s.", kind_name(kind));
		err_set(e, rc, "wrong %s", kind_name(kind));
		if (!closed_group(u))
			return rc;
		/* One provider can forge a header that opens by itself; then the passphrase may be
		 * right. */
		return err_set(e, rc,
			       "wrong %s; but other headers were found too, and too few of them "
			       "to be opened. Make more backends reachable to be sure.",
			       kind_name(kind));
	case -ENOKEY:
		return explain_too_few(u, e);
	case -EBADMSG:
		return err_set(e, rc,
			       "The headers are damaged or were tampered with: none of them "
			       "carries the drive's own seal.");
	case -ENOMEM:
		return err_set(e, rc,
			       "Not enough memory to unlock; a slot of default strength needs "
			       "256 MiB for a moment.");
	}
	return err_set(e, rc, "The cryptographic library failed (%s).", strerror(-rc));
}

/* Which of two failures says more: a seal that is wrong, then the passphrase, then too few. */
static int worse(int a, int b)
{
	static const int order[] = { -EBADMSG, -EACCES, -ENOKEY };

	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		if (a == order[i] || b == order[i])
			return order[i];
	return a;
}

/* Every group, for the highest generation that opens is not always the one with most headers. 0
 * when out holds something; else why not. */
static int unlock_all(struct unlock *u, enum keyslot_kind kind, const void *secret,
		      size_t secret_len, struct header_unlocked *out)
{
	int failure = -ENOKEY;

	for (int i = 0; i < u->ngroups; i++) {
		struct header_unlocked *got = calloc(1, sizeof(*got));
		if (!got)
			return -ENOMEM;
		int rc = group_unlock(u, u->group[i], kind, secret, secret_len, got);
		if (!rc && got->manifest.generation > out->manifest.generation) {
			header_unlocked_release(out);
			*out = *got;
		} else {
			header_unlocked_release(got);
		}
		free(got);
		if (rc == -EBADMSG || rc == -EACCES || rc == -ENOKEY)
			failure = worse(failure, rc);
		else if (rc && rc != -ESTALE)
			return rc; /* not the headers' fault: never fall back to an older one for it
				    */
	}
	return out->keys ? 0 : failure;
}

int header_unlock(struct header_blob *const *blobs, int count, enum keyslot_kind kind,
		  const void *secret, size_t secret_len, struct header_unlocked *out, struct err *e)
{
	struct unlock *u;

	*out = (struct header_unlocked){ 0 };
	int rc = unlock_start(blobs, count, &u);
	if (rc)
		return err_set(e, rc,
			       rc == -EINVAL ? "Too many headers at once." : "Out of memory.");
	rc = unlock_all(u, kind, secret, secret_len, out);
	/* The root key names every liar, also among headers that were not needed. */
	for (int i = 0; u->have_root && i < u->ngroups; i++)
		u->liars |= u->group[i]->members & ~group_authentic(u, u->group[i]);
	if (rc) {
		header_unlocked_release(out);
		explain(u, rc, kind, e);
	}
	out->liars = u->liars;
	unlock_free(u);
	return rc;
}

void header_unlocked_release(struct header_unlocked *u)
{
	keyring_destroy(u->keys);
	manifest_release(&u->manifest);
	*u = (struct header_unlocked){ 0 };
}

int header_slots(struct header_blob *const *blobs, int count, struct keyslot slots[KEYSLOT_MAX],
		 int *nslots)
{
	struct unlock *u;
	uint64_t newest = 0;
	int rc, failure = -ENOKEY;

	*nslots = 0;
	rc = unlock_start(blobs, count, &u);
	if (rc)
		return rc;
	for (int i = 0; i < u->ngroups; i++) {
		struct group *g = u->group[i];
		rc = group_open_vault(u, g);
		if (rc == -EBADMSG)
			failure = rc;
		else if (rc && rc != -ENOKEY) {
			unlock_free(u);
			*nslots = 0;
			return rc;
		}
		if (!rc && g->first->generation > newest) {
			newest = g->first->generation;
			memcpy(slots, g->slots, sizeof(g->slots));
			*nslots = g->nslots;
		}
	}
	unlock_free(u);
	return newest ? 0 : failure;
}

int header_open_with(struct header_blob *const *blobs, int count, const struct keyring *keys,
		     struct manifest *mf)
{
	uint8_t mac[SHA256_LEN];
	int rc = -EBADMSG;

	*mf = (struct manifest){ 0 };
	for (int i = 0; i < count; i++) {
		const struct header_blob *b = blobs[i];
		struct manifest got;
		if (b->generation <= mf->generation ||
		    memcmp(header_drive(b), keyring_drive(keys), ID_LEN))
			continue;
		int one = header_mac(header_drive(b), keyring_root(keys), b->bytes, b->common_len,
				     b->sealed, b->sealed_len, mac);
		if (!one && !secmem_equal(mac, b->mac, SHA256_LEN))
			one = -EBADMSG;
		if (!one)
			one = open_manifest(b, keyring_root(keys), &got, NULL);
		if (one && one != -EBADMSG) {
			manifest_release(mf);
			return one;
		}
		if (one)
			continue;
		manifest_release(mf);
		*mf = got;
		rc = 0;
	}
	return rc;
}
