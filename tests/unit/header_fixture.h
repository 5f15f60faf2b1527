/* A small drive for the header suites: three slots, cheap Argon2id, random bytes and allocations
 * under the test's control. Linked with --wrap for random_bytes, secmem_alloc, malloc, calloc and
 * realloc (fs/drive/meson.build). */
#ifndef TESTS_HEADER_FIXTURE_H
#define TESTS_HEADER_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/digest.h"
#include "crypto/secmem.h"
#include "fs/base/scope.h"
#include "fs/drive/header.h"

void __real_random_bytes(void *p, size_t n);
void *__real_secmem_alloc(size_t n);
void *__real_malloc(size_t n);
void *__real_calloc(size_t a, size_t b);
void *__real_realloc(void *p, size_t n);
void __wrap_random_bytes(void *p, size_t n);
void *__wrap_secmem_alloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t a, size_t b);
void *__wrap_realloc(void *p, size_t n);

/* 0: the kernel's. Else the next block number of SHA-256("skyflok test" ‖ u32 number), bytes that
 * are left over dropped. */
static uint32_t fixed_random;

void __wrap_random_bytes(void *p, size_t n)
{
	uint8_t *to = p, block[SHA256_LEN], in[16] = "skyflok test";

	if (!fixed_random) {
		__real_random_bytes(p, n);
		return;
	}
	while (n) {
		size_t len = MIN(n, sizeof(block));
		be32_put(in + 12, fixed_random++);
		sha256(in, sizeof(in), block);
		memcpy(to, block, len);
		to += len, n -= len;
	}
}

/* The n-th allocation from now fails, and all after it; -1: none. */
static int alloc_left = -1;

static int alloc_fails(void)
{
	if (alloc_left < 0)
		return 0;
	if (alloc_left == 0)
		return 1;
	alloc_left--;
	return 0;
}
void *__wrap_secmem_alloc(size_t n)
{
	return alloc_fails() ? NULL : __real_secmem_alloc(n);
}
void *__wrap_malloc(size_t n)
{
	return alloc_fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t a, size_t b)
{
	return alloc_fails() ? NULL : __real_calloc(a, b);
}
void *__wrap_realloc(void *p, size_t n)
{
	return alloc_fails() ? NULL : __real_realloc(p, n);
}

static const uint8_t fix_drive[ID_LEN] = "a drive's uuid!";
static const uint8_t fix_recovery[32] = "thirty-two bytes of recovery key";
#define FIX_PASS "open sesame"

struct fixture {
	struct keyring *keys;
	struct manifest mf;
	struct keyslot slots[3];
	struct header_set hs;
	struct header_blob *blob[DRIVE_MAX_BACKENDS + 1]; /* parsed objects, then the local copy */
	int n;
};

static inline struct manifest fix_manifest(int k, int m, uint64_t generation)
{
	struct manifest mf = {
		.generation = generation,
		.k = k,
		.m = m,
		.extent_max = 128 << 10,
		.compress = 1,
		.quota = 5ull << 30,
		.segment_size = 16 << 20,
		.created = 1700000000,
		.label = "photos",
		.nbackends = k + m,
	};

	memcpy(mf.drive, fix_drive, ID_LEN);
	for (int i = 0; i < k + m; i++) {
		char url[64];
		snprintf(url, sizeof(url), "file:///srv/cloud%d", i);
		mf.backends[i].url = strdup(url);
		mf.backends[i].provider = strdup(i % 2 ? "east" : "");
		mf.backends[i].location = i == 0 ? NULL : strdup("eu");
		memset(mf.backends[i].uuid, 0x40 + i, ID_LEN);
	}
	return mf;
}

/* slots: bit 0 passphrase, bit 1 recovery key, bit 2 key file. pass NULL: FIX_PASS. */
static inline int fix_slots(struct keyslot *slots, unsigned which, const struct keyring *keys,
			    const char *pass)
{
	static const enum keyslot_kind kinds[] = { KEYSLOT_PASSPHRASE, KEYSLOT_RECOVERY,
						   KEYSLOT_KEYFILE };
	int n = 0;

	if (!pass)
		pass = FIX_PASS;
	for (unsigned i = 0; i < 3; i++) {
		if (!(which >> i & 1))
			continue;
		struct keyslot s = { .number = i + 1, .kind = kinds[i], .created = 1700000001 };
		const void *secret = i == 1 ? (const void *)fix_recovery : pass;
		snprintf(s.label, sizeof(s.label), "slot %u", i + 1);
		if (i != 1)
			s.cost = (struct keyslot_cost){ .mem_kib = 64, .passes = 1, .lanes = 1 };
		ck_assert_int_eq(keyslot_seal(&s, fix_drive, keyring_root(keys), secret,
					      i == 1 ? 32 : strlen(pass)),
				 0);
		slots[n++] = s;
	}
	return n;
}

static inline void fix_parse(struct fixture *f)
{
	f->n = f->hs.n;
	for (int i = 0; i <= f->n; i++) {
		struct buf *b = i < f->n ? &f->hs.object[i] : &f->hs.local;
		ck_assert_int_eq(header_parse(b->p, b->len, &f->blob[i]), 0);
	}
}

/* A drive with these slots; keys NULL: new ones. Owned by the fixture. */
static inline struct fixture fix_make(int k, int m, uint64_t generation, unsigned which,
				      struct keyring *keys, const char *pass)
{
	struct fixture f = { .keys = keys ? keys : keyring_create(fix_drive) };

	f.mf = fix_manifest(k, m, generation);
	int n = fix_slots(f.slots, which, f.keys, pass);
	ck_assert_int_eq(header_build(&f.mf, f.keys, f.slots, n, 1, &f.hs), 0);
	fix_parse(&f);
	return f;
}

/* keep_keys: they belong to another fixture. */
static inline void fix_free(struct fixture *f, int keep_keys)
{
	for (int i = 0; i <= f->n; i++)
		header_free(f->blob[i]);
	header_set_release(&f->hs);
	manifest_release(&f->mf);
	if (!keep_keys)
		keyring_destroy(f->keys);
}

/* Unlocks with the recovery key, which costs nothing. */
static inline int fix_unlock(struct header_blob *const *blobs, int count, struct header_unlocked *u,
			     struct err *e)
{
	return header_unlock(blobs, count, KEYSLOT_RECOVERY, fix_recovery, 32, u, e);
}

/* What came out is what went in. */
static inline void fix_assert_same(const struct fixture *f, const struct header_unlocked *u)
{
	struct buf a = { 0 }, b = { 0 };

	ck_assert_uint_eq(u->manifest.generation, f->mf.generation);
	ck_assert_int_eq(u->manifest.k, f->mf.k);
	ck_assert_int_eq(u->manifest.m, f->mf.m);
	ck_assert_mem_eq(u->manifest.drive, f->mf.drive, ID_LEN);
	ck_assert_mem_eq(keyring_root(u->keys), keyring_root(f->keys), KEY_LEN);
	keyring_table(u->keys, &a);
	keyring_table(f->keys, &b);
	ck_assert_uint_eq(a.len, b.len);
	ck_assert_mem_eq(a.p, b.p, a.len);
	buf_release(&a);
	buf_release(&b);
}

#endif
