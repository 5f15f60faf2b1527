#include "crypto/key.h"

#include <errno.h>
#include <string.h>
#include "crypto/digest.h"
#include "crypto/secmem.h"
#include "fs/base/scope.h"

#define MASTERS_MAX 4096
#define TABLE_ENTRY (4 + KEY_LEN)
#define INFO_MAX    64

/* One master key and what is derived from it once. */
struct master {
	uint32_t number;
	uint8_t key[KEY_LEN];
	uint8_t data[KEY_LEN], mac[KEY_LEN], log[KEY_LEN];
	uint8_t shard[KEY_LEN]; /* from mac */
};
struct keyring {
	uint8_t drive[ID_LEN];
	uint8_t root[KEY_LEN];
	struct master *masters; /* secmem, ascending numbers */
	size_t count;
};

/* HKDF with info = "skyflok1/" ‖ purpose ‖ fixed-width fields. No purpose is the beginning of
 * another one under the same key with fields that could make up the difference, so the infos are
 * unambiguous. */
static int derive(const uint8_t key[KEY_LEN], const uint8_t *salt, const char *purpose,
		  const void *fields, size_t n, uint8_t out[KEY_LEN])
{
	static const char prefix[] = "skyflok1/";
	uint8_t info[INFO_MAX];
	size_t plen = strlen(purpose), len = sizeof(prefix) - 1;

	if (len + plen + n > sizeof(info))
		return -EINVAL;
	memcpy(info, prefix, len);
	memcpy(info + len, purpose, plen);
	len += plen;
	if (n)
		memcpy(info + len, fields, n);
	return hkdf_sha256(key, KEY_LEN, salt, salt ? ID_LEN : 0, info, len + n, out, KEY_LEN);
}

static int master_derive(const struct keyring *k, struct master *m)
{
	int rc = derive(m->key, NULL, "data", k->drive, ID_LEN, m->data);
	if (!rc)
		rc = derive(m->key, NULL, "mac", k->drive, ID_LEN, m->mac);
	if (!rc)
		rc = derive(m->key, NULL, "log", k->drive, ID_LEN, m->log);
	if (!rc)
		rc = derive(m->mac, NULL, "shard", NULL, 0, m->shard);
	return rc;
}

static struct keyring *keyring_new(const uint8_t drive[ID_LEN], size_t masters)
{
	struct keyring *k = secmem_alloc(sizeof(*k));

	if (!k)
		return NULL;
	memcpy(k->drive, drive, ID_LEN);
	k->masters = secmem_alloc(masters * sizeof(*k->masters));
	if (!k->masters) {
		secmem_free(k);
		return NULL;
	}
	return k;
}

struct keyring *keyring_create(const uint8_t drive[ID_LEN])
{
	struct keyring *k = keyring_new(drive, 1);

	if (!k)
		return NULL;
	random_bytes(k->root, KEY_LEN);
	k->masters[0].number = 1;
	random_bytes(k->masters[0].key, KEY_LEN);
	k->count = 1;
	if (master_derive(k, &k->masters[0])) {
		keyring_destroy(k);
		return NULL;
	}
	return k;
}

/* -EBADMSG unless the table is whole, ascending and bounded; then *count of entries. */
static int table_check(const void *table, size_t n, uint32_t *count)
{
	struct rd r = rd_of(table, n);
	uint32_t last = 0;

	*count = rd_get32(&r);
	if (r.bad || *count < 1 || *count > MASTERS_MAX || r.left != *count * (size_t)TABLE_ENTRY)
		return -EBADMSG;
	for (uint32_t i = 0; i < *count; i++) {
		uint32_t number = rd_get32(&r);
		rd_get(&r, KEY_LEN);
		if (number <= last)
			return -EBADMSG;
		last = number;
	}
	return 0;
}

int keyring_from_root(const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN], const void *table,
		      size_t n, struct keyring **out)
{
	uint32_t count;

	*out = NULL;
	int rc = table_check(table, n, &count);
	if (rc)
		return rc;
	struct keyring *k = keyring_new(drive, count);
	if (!k)
		return -ENOMEM;
	memcpy(k->root, root, KEY_LEN);
	struct rd r = rd_of((const uint8_t *)table + 4, n - 4);
	for (; k->count < count && !rc; k->count++) {
		struct master *m = &k->masters[k->count];
		m->number = rd_get32(&r);
		memcpy(m->key, rd_get(&r, KEY_LEN), KEY_LEN);
		rc = master_derive(k, m);
	}
	if (rc) {
		keyring_destroy(k);
		return rc;
	}
	*out = k;
	return 0;
}

void keyring_destroy(struct keyring *k)
{
	if (!k)
		return;
	secmem_free(k->masters);
	secmem_free(k);
}

int keyring_add(struct keyring *k)
{
	if (k->count >= MASTERS_MAX || keyring_current(k) == UINT32_MAX)
		return -ENOSPC;
	struct master *more = secmem_alloc((k->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	memcpy(more, k->masters, k->count * sizeof(*more));
	struct master *m = &more[k->count];
	m->number = keyring_current(k) + 1;
	random_bytes(m->key, KEY_LEN);
	int rc = master_derive(k, m);
	if (rc) {
		secmem_free(more);
		return rc;
	}
	secmem_free(k->masters);
	k->masters = more;
	k->count++;
	return 0;
}

const uint8_t *keyring_drive(const struct keyring *k)
{
	return k->drive;
}

const uint8_t *keyring_root(const struct keyring *k)
{
	return k->root;
}

uint32_t keyring_current(const struct keyring *k)
{
	return k->masters[k->count - 1].number;
}

void keyring_table(const struct keyring *k, struct buf *out)
{
	buf_put32(out, (uint32_t)k->count);
	for (size_t i = 0; i < k->count; i++) {
		buf_put32(out, k->masters[i].number);
		buf_put(out, k->masters[i].key, KEY_LEN);
	}
}

static const struct master *master_find(const struct keyring *k, uint32_t keyno)
{
	size_t lo = 0, hi = k->count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (k->masters[mid].number == keyno)
			return &k->masters[mid];
		if (k->masters[mid].number < keyno)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

int keyring_segment_key(const struct keyring *k, uint32_t keyno, const uint8_t segment[ID_LEN],
			uint8_t out[KEY_LEN])
{
	const struct master *m = master_find(k, keyno);
	return m ? derive(m->data, NULL, "segment", segment, ID_LEN, out) : -ENOKEY;
}

int keyring_fragment_key(const struct keyring *k, uint32_t keyno, const uint8_t set[ID_LEN],
			 const uint8_t segment[ID_LEN], uint8_t code_k, uint8_t code_m,
			 uint8_t shard, uint8_t out[KEY_LEN])
{
	const struct master *m = master_find(k, keyno);
	uint8_t fields[ID_LEN + 3];

	memcpy(fields, segment, ID_LEN);
	fields[ID_LEN] = code_k;
	fields[ID_LEN + 1] = code_m;
	fields[ID_LEN + 2] = shard;
	return m ? derive(m->mac, set, "fragment", fields, sizeof(fields), out) : -ENOKEY;
}

int keyring_shard_key(const struct keyring *k, uint32_t keyno, uint8_t out[KEY_LEN])
{
	const struct master *m = master_find(k, keyno);

	if (!m)
		return -ENOKEY;
	memcpy(out, m->shard, KEY_LEN);
	return 0;
}

int keyring_log_key(const struct keyring *k, uint32_t keyno, uint8_t out[KEY_LEN])
{
	const struct master *m = master_find(k, keyno);

	if (!m)
		return -ENOKEY;
	memcpy(out, m->log, KEY_LEN);
	return 0;
}

int root_key_derive(const uint8_t drive[ID_LEN], const uint8_t root[KEY_LEN], const char *purpose,
		    uint8_t out[KEY_LEN])
{
	return derive(root, NULL, purpose, drive, ID_LEN, out);
}

int keyring_root_key(const struct keyring *k, const char *purpose, uint8_t out[KEY_LEN])
{
	return root_key_derive(k->drive, k->root, purpose, out);
}
