/* crypto/: published vectors first, then what must not work. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/aead.h"
#include "crypto/digest.h"
#include "crypto/kdf.h"
#include "crypto/key.h"
#include "crypto/secmem.h"
#include "crypto/secret_share.h"
#include "fs/base/buf.h"
#include "fs/base/scope.h"

/* Hex into a buffer of the caller; returns the length. */
static size_t unhex(uint8_t *out, size_t cap, const char *hex)
{
	size_t n = strlen(hex) / 2;

	ck_assert_uint_le(n, cap);
	ck_assert_int_eq(hex_get(out, n, hex, n * 2), 0);
	return n;
}

static void assert_hex(const void *p, size_t n, const char *hex)
{
	char *got = malloc(2 * n + 1);

	hex_put(got, p, n);
	ck_assert_str_eq(got, hex);
	free(got);
}

/* ---- AES-256-GCM ---- */

struct gcm_case {
	const char *name, *key, *nonce, *plain, *aad, *cipher, *tag;
};
#define MV_KEY "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define MV_TEXT                                                                                    \
	"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"                         \
	"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define MV_CIPHER                                                                                  \
	"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"                         \
	"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
#define ZERO_KEY "0000000000000000000000000000000000000000000000000000000000000000"
/* McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, cases 13 to 16 (SP 800-38D
 * refers to them); then the first vectors of gcmEncryptExtIV256.rsp of NIST's CAVP with a 96-bit IV
 * and a 128-bit tag. */
static const struct gcm_case gcm_cases[] = {
	{ "MV 13", ZERO_KEY, "000000000000000000000000", "", "", "",
	  "530f8afbc74536b9a963b4f1c4cb738b" },
	{ "MV 14", ZERO_KEY, "000000000000000000000000", "00000000000000000000000000000000", "",
	  "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919" },
	{ "MV 15", MV_KEY, "cafebabefacedbaddecaf888", MV_TEXT "1aafd255", "", MV_CIPHER "898015ad",
	  "b094dac5d93471bdec1a502270e3cc6c" },
	{ "MV 16", MV_KEY, "cafebabefacedbaddecaf888", MV_TEXT,
	  "feedfacedeadbeeffeedfacedeadbeefabaddad2", MV_CIPHER,
	  "76fc6ece0f4e1768cddf8853bb2d551b" },
	{ "CAVP pt 0 aad 0", "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
	  "516c33929df5a3284ff463d7", "", "", "", "bdc1ac884d332457a1d2664f168c76f0" },
	{ "CAVP pt 0 aad 128", "78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223",
	  "d79cf22d504cc793c3fb6c8a", "", "b96baa8c1c75a671bfb2d08d06be5f36", "",
	  "3e5d486aa2e30b22e040b85723a06e76" },
	{ "CAVP pt 128 aad 0", "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
	  "0d18e06c7c725ac9e362e1ce", "2db5168e932556f8089a0622981d017d", "",
	  "fa4362189661d163fcd6a56d8bf0405a", "d636ac1bbedd5cc3ee727dc2ab4a9489" },
	{ "CAVP pt 128 aad 128", "92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b",
	  "ac93a1a6145299bde902f21a", "2d71bcfa914e4ac045b2aa60955fad24",
	  "1e0889016f67601c8ebea4943bc23ad6", "8995ae2e6df3dbf96fac7b7137bae67f",
	  "eca5aa77d51d4a0a14d9c51e1da474ab" },
};

START_TEST(gcm_published)
{
	const struct gcm_case *c = &gcm_cases[_i];
	uint8_t key[32], nonce[12], in[64], aad[32], want[96], out[96];

	unhex(key, sizeof(key), c->key);
	unhex(nonce, sizeof(nonce), c->nonce);
	size_t n = unhex(in, sizeof(in), c->plain), a = unhex(aad, sizeof(aad), c->aad);
	ck_assert_uint_eq(unhex(want, sizeof(want), c->cipher), n);
	unhex(want + n, 16, c->tag);

	ck_assert_int_eq(aead_seal(key, nonce, aad, a, in, n, out), 0);
	ck_assert_msg(!memcmp(out, want, n + 16), "%s", c->name);
	ck_assert_int_eq(aead_open(key, nonce, aad, a, out, n + 16, out), 0); /* in place */
	ck_assert_mem_eq(out, in, n);
	/* Gathered from three uneven pieces: the same bytes. */
	struct iovec iov[3] = { { in, n / 3 }, { in + n / 3, 0 }, { in + n / 3, n - n / 3 } };
	ck_assert_int_eq(aead_sealv(key, nonce, aad, a, iov, 3, 0, out), 0);
	ck_assert_mem_eq(out, want, n + 16);
	if (!n) { /* SP 800-38D section 3: GMAC is GCM with nothing encrypted */
		struct iovec data[2] = { { aad, a / 2 }, { aad + a / 2, a - a / 2 } };
		ck_assert_int_eq(gmac(key, nonce, data, 2, out), 0);
		ck_assert_mem_eq(out, want, 16);
	}
}
END_TEST

START_TEST(gcm_zeros)
{
	uint8_t key[32], nonce[12] = { 7 }, in[5000] = { 1, 2, 3 }, a[5016], b[5016];
	struct iovec iov = { in, 3 };

	random_bytes(key, sizeof(key));
	ck_assert_int_eq(aead_sealv(key, nonce, NULL, 0, &iov, 1, sizeof(in) - 3, a), 0);
	ck_assert_int_eq(aead_seal(key, nonce, NULL, 0, in, sizeof(in), b), 0);
	ck_assert_mem_eq(a, b, sizeof(a));
}
END_TEST

/* Every byte of nonce, additional data, ciphertext and tag counts, and nothing of the text comes
 * out. */
START_TEST(gcm_tampered)
{
	uint8_t key[32], nonce[12], aad[20], in[40], sealed[56], out[56], zero[40] = { 0 };

	random_bytes(key, sizeof(key));
	random_bytes(nonce, sizeof(nonce));
	random_bytes(aad, sizeof(aad));
	random_bytes(in, sizeof(in));
	ck_assert_int_eq(aead_seal(key, nonce, aad, sizeof(aad), in, sizeof(in), sealed), 0);
	uint8_t *parts[] = { key, nonce, aad, sealed };
	size_t lens[] = { sizeof(key), sizeof(nonce), sizeof(aad), sizeof(sealed) };
	for (int p = 0; p < 4; p++)
		for (size_t i = 0; i < lens[p] * 8; i++) {
			parts[p][i / 8] ^= (uint8_t)(1 << i % 8);
			memset(out, 0xaa, sizeof(out));
			ck_assert_int_eq(
			    aead_open(key, nonce, aad, sizeof(aad), sealed, sizeof(sealed), out),
			    -EBADMSG);
			ck_assert_mem_eq(out, zero, sizeof(zero));
			parts[p][i / 8] ^= (uint8_t)(1 << i % 8);
		}
	/* A byte moved from the text to the additional data, or left off. */
	ck_assert_int_eq(aead_open(key, nonce, aad, sizeof(aad) - 1, sealed, sizeof(sealed), out),
			 -EBADMSG);
	for (size_t n = 0; n < sizeof(sealed); n++)
		ck_assert_int_eq(aead_open(key, nonce, aad, sizeof(aad), sealed, n, out), -EBADMSG);
	/* And after all these failures the kept key schedule still works. */
	ck_assert_int_eq(aead_open(key, nonce, aad, sizeof(aad), sealed, sizeof(sealed), out), 0);
	ck_assert_mem_eq(out, in, sizeof(in));
}
END_TEST

/* More keys than a thread keeps, both directions and GMAC in between, on several threads at once:
 * every result must be that of a fresh context. */
struct many {
	uint8_t keys[40][32], sealed[40][32 + 16], tag[40][16];
};
static void *many_run(void *arg)
{
	const struct many *m = arg;
	static const uint8_t nonce[12] = { 1 }, text[32] = { 9 };
	uint8_t out[48];
	unsigned seed = (unsigned)(uintptr_t)pthread_self();

	for (int i = 0; i < 4000; i++) {
		int k = rand_r(&seed) % 40, op = rand_r(&seed) % 3;
		struct iovec iov = { (void *)text, sizeof(text) };
		if (op == 0 && (aead_seal(m->keys[k], nonce, NULL, 0, text, 32, out) ||
				memcmp(out, m->sealed[k], 48)))
			return arg;
		if (op == 1 && (aead_open(m->keys[k], nonce, NULL, 0, m->sealed[k], 48, out) ||
				memcmp(out, text, 32)))
			return arg;
		if (op == 2 &&
		    (gmac(m->keys[k], nonce, &iov, 1, out) || memcmp(out, m->tag[k], 16)))
			return arg;
	}
	return NULL;
}

static void *fresh_make(void *arg)
{
	struct many *m = ((void **)arg)[0];
	int k = *(int *)((void **)arg)[1];
	static const uint8_t nonce[12] = { 1 }, text[32] = { 9 };
	struct iovec iov = { (void *)text, sizeof(text) };

	random_bytes(m->keys[k], 32);
	aead_seal(m->keys[k], nonce, NULL, 0, text, 32, m->sealed[k]);
	gmac(m->keys[k], nonce, &iov, 1, m->tag[k]);
	return NULL;
}

START_TEST(gcm_many_keys)
{
	struct many *m = malloc(sizeof(*m));
	pthread_t t[4];
	void *bad;

	for (int k = 0; k < 40;
	     k++) { /* each on a thread of its own, so with contexts of its own */
		void *arg[2] = { m, &k };
		pthread_create(&t[0], NULL, fresh_make, arg);
		pthread_join(t[0], NULL);
	}
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, many_run, m), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &bad);
		ck_assert_ptr_null(bad);
	}
	free(m);
}
END_TEST

/* ---- SHA-256, HMAC, HKDF ---- */

START_TEST(sha256_fips)
{
	uint8_t out[32];
	char *million = malloc(1000000);

	sha256("", 0, out);
	assert_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256("abc", 3, out);
	assert_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, out);
	assert_hex(out, 32, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	memset(million, 'a', 1000000);
	struct iovec iov[2] = { { million, 333333 }, { million, 666667 } };
	sha256v(iov, 2, out);
	assert_hex(out, 32, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}
END_TEST

static const struct {
	const char *key, *data, *mac;
} hmac_cases[] = {
	/* RFC 4231 sections 4.2, 4.3, 4.4, 4.5, 4.7, 4.8 (4.6 is the truncated one) */
	{ "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
	  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
	{ "4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
	  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
	{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	  "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
	  "dddddddddddddddddddddddddddddddd",
	  "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
	{ "0102030405060708090a0b0c0d0e0f10111213141516171819",
	  "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
	  "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
	  "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b" },
};

START_TEST(hmac_rfc4231)
{
	uint8_t key[131], data[152], out[32];

	for (size_t i = 0; i < ARRAY_LEN(hmac_cases); i++) {
		size_t k = unhex(key, sizeof(key), hmac_cases[i].key);
		size_t n = unhex(data, sizeof(data), hmac_cases[i].data);
		ck_assert_int_eq(hmac_sha256(key, k, data, n, out), 0);
		assert_hex(out, 32, hmac_cases[i].mac);
	}
	memset(key, 0xaa, sizeof(key)); /* longer than a block */
	static const char t6[] = "Test Using Larger Than Block-Size Key - Hash Key First";
	hmac_sha256(key, sizeof(key), t6, sizeof(t6) - 1, out);
	assert_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	static const char t7[] = "This is a test using a larger than block-size key and a larger "
				 "than block-size data. The key needs to be hashed before being "
				 "used by the HMAC algorithm.";
	hmac_sha256(key, sizeof(key), t7, sizeof(t7) - 1, out);
	assert_hex(out, 32, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}
END_TEST

START_TEST(hkdf_rfc5869)
{
	uint8_t ikm[80], salt[80], info[80], okm[82];

	memset(ikm, 0x0b, 22); /* A.1 */
	unhex(salt, sizeof(salt), "000102030405060708090a0b0c");
	unhex(info, sizeof(info), "f0f1f2f3f4f5f6f7f8f9");
	ck_assert_int_eq(hkdf_sha256(ikm, 22, salt, 13, info, 10, okm, 42), 0);
	assert_hex(okm, 42,
		   "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887"
		   "185865");
	for (int i = 0; i < 80; i++) /* A.2 */
		ikm[i] = (uint8_t)i, salt[i] = (uint8_t)(0x60 + i), info[i] = (uint8_t)(0xb0 + i);
	ck_assert_int_eq(hkdf_sha256(ikm, 80, salt, 80, info, 80, okm, 82), 0);
	assert_hex(okm, 82,
		   "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac782"
		   "7271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3"
		   "434f1d87");
	memset(ikm, 0x0b, 22); /* A.3 */
	ck_assert_int_eq(hkdf_sha256(ikm, 22, NULL, 0, NULL, 0, okm, 42), 0);
	assert_hex(okm, 42,
		   "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b6"
		   "1a96c8");
	uint8_t *big = malloc(255 * 32 + 1);
	ck_assert_int_eq(hkdf_sha256(ikm, 22, NULL, 0, NULL, 0, big, 255 * 32), 0);
	ck_assert_int_eq(hkdf_sha256(ikm, 22, NULL, 0, NULL, 0, big, 255 * 32 + 1), -EINVAL);
	free(big);
}
END_TEST

/* ---- Argon2id ---- */

START_TEST(argon2id_rfc9106)
{
	uint8_t pw[32], salt[16], key[8], ad[12], out[32];
	struct kdf_cost c = { .mem_kib = 32, .passes = 3, .lanes = 4 };

	memset(pw, 1, sizeof(pw)), memset(salt, 2, sizeof(salt)); /* section 5.3 */
	memset(key, 3, sizeof(key)), memset(ad, 4, sizeof(ad));
	ck_assert_int_eq(kdf_argon2id(&c, pw, 32, salt, 16, key, 8, ad, 12, out, 32), 0);
	assert_hex(out, 32, "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
}
END_TEST

START_TEST(argon2id_bounds)
{
	static const struct kdf_cost bad[] = {
		{ KDF_MEM_MAX + 1, 1, 1 },
		{ UINT32_MAX, 1, 1 },
		{ 64, 17, 1 },
		{ 64, 0, 1 },
		{ 64, UINT32_MAX, 1 },
		{ 128, 1, 9 },
		{ 64, 1, 0 },
		{ 31, 1, 4 },
		{ 0, 0, 0 },
	};
	uint8_t out[32], salt[16] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_int_eq(kdf_argon2id(&bad[i], "x", 1, salt, 16, NULL, 0, NULL, 0, out, 32),
				 -EINVAL);
	struct kdf_cost c = { 32, 1, 4 };
	ck_assert_int_eq(kdf_argon2id(&c, "x", 1, salt, 7, NULL, 0, NULL, 0, out, 32), -EINVAL);
	ck_assert_int_eq(kdf_argon2id(&c, "x", 1, salt, 8, NULL, 0, NULL, 0, out, 32), 0);
}
END_TEST

/* ---- secret memory ---- */

START_TEST(secmem_basics)
{
	static const size_t sizes[] = { 0, 1, 32, 4080, 4081, 100000 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint8_t *p = secmem_alloc(sizes[i]);
		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq((uintptr_t)p % 16, 0);
		for (size_t j = 0; j < sizes[i]; j++)
			ck_assert_uint_eq(p[j], 0);
		memset(p, 0xff, sizes[i]);
		secmem_free(p);
	}
	secmem_free(NULL);
	ck_assert_ptr_null(secmem_alloc(SIZE_MAX));
	ck_assert(secmem_equal("abc", "abc", 3));
	ck_assert(!secmem_equal("abc", "abd", 3));
	uint8_t a[64] = { 0 }, b[64] = { 0 };
	random_bytes(a, 64), random_bytes(b, 64);
	ck_assert_mem_ne(a, b, 64);
	secmem_wipe(a, 64), secmem_wipe(b, 64);
	ck_assert_mem_eq(a, b, 64);
}
END_TEST

/* ---- Shamir ---- */

/* GF(256) with x^8 + x^4 + x^3 + x^2 + 1, bit by bit: what a stranger's reader would write. */
static uint8_t gf_mul(uint8_t a, uint8_t b)
{
	uint8_t r = 0;

	for (; b; b >>= 1) {
		if (b & 1)
			r ^= a;
		a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1d : 0));
	}
	return r;
}
static uint8_t gf_inv(uint8_t a)
{
	uint8_t r = 1;

	for (int i = 0; i < 254; i++)
		r = gf_mul(r, a);
	return r;
}
static void lagrange(const uint8_t *x, uint8_t (*const y)[32], int k, uint8_t out[32])
{
	memset(out, 0, 32);
	for (int i = 0; i < k; i++) {
		uint8_t l = 1;
		for (int j = 0; j < k; j++)
			if (j != i)
				l = gf_mul(l, gf_mul(x[j], gf_inv(x[i] ^ x[j])));
		for (int b = 0; b < 32; b++)
			out[b] ^= gf_mul(l, y[i][b]);
	}
}

START_TEST(shamir_every_subset)
{
	uint8_t secret[32], shares[32][32], got[32], x[32], y[32][32];

	for (int n = 1; n <= 6; n++)
		for (int k = 1; k <= n; k++) {
			random_bytes(secret, 32);
			ck_assert_int_eq(secret_share_split(secret, k, n, shares), 0);
			for (unsigned set = 0; set < 1u << n; set++) {
				int have = 0;
				if (__builtin_popcount(set) != k)
					continue;
				for (int i = n - 1; i >= 0; i--) /* any order */
					if (set & 1u << i) {
						x[have] = (uint8_t)(i + 1);
						memcpy(y[have++], shares[i], 32);
					}
				ck_assert_int_eq(secret_share_combine(x, y, k, got), 0);
				ck_assert_mem_eq(got, secret, 32);
				lagrange(x, y, k, got);
				ck_assert_mem_eq(got, secret, 32);
				y[0][5] ^= 1; /* a wrong share passes, with a wrong secret */
				ck_assert_int_eq(secret_share_combine(x, y, k, got), 0);
				ck_assert_mem_ne(got, secret, 32);
			}
		}
	for (int k = 1; k <= 32; k += 31) { /* the widest */
		ck_assert_int_eq(secret_share_split(secret, k, 32, shares), 0);
		for (int i = 0; i < 32; i++)
			x[i] = (uint8_t)(i + 1);
		ck_assert_int_eq(secret_share_combine(x, shares, k, got), 0);
		ck_assert_mem_eq(got, secret, 32);
	}
}
END_TEST

START_TEST(shamir_bounds)
{
	uint8_t secret[32] = { 1 }, shares[33][32], got[32], again[33][32];
	uint8_t zero[] = { 0, 1 }, same[] = { 2, 2 }, big[] = { 1, 33 };

	ck_assert_int_eq(secret_share_split(secret, 0, 3, shares), -EINVAL);
	ck_assert_int_eq(secret_share_split(secret, 4, 3, shares), -EINVAL);
	ck_assert_int_eq(secret_share_split(secret, 2, 33, shares), -EINVAL);
	ck_assert_int_eq(secret_share_split(secret, 2, 3, shares), 0);
	ck_assert_int_eq(secret_share_combine(zero, shares, 2, got), -EINVAL);
	ck_assert_int_eq(secret_share_combine(same, shares, 2, got), -EINVAL);
	ck_assert_int_eq(secret_share_combine(big, shares, 2, got), -EINVAL);
	ck_assert_int_eq(secret_share_combine(same, shares, 0, got), -EINVAL);
	/* A new polynomial each time, and a share is not the secret. */
	ck_assert_int_eq(secret_share_split(secret, 2, 3, again), 0);
	ck_assert_mem_ne(shares[0], again[0], 32);
	ck_assert_mem_ne(shares[0], secret, 32);
}
END_TEST

/* ---- keys ---- */

START_TEST(keys_derived)
{
	uint8_t drive[16], root[32], seg[16], set[16], a[32], b[32], table[4 + 2 * 36];
	struct keyring *k;

	memset(drive, 0x11, 16), memset(root, 0x22, 32);
	memset(seg, 0x33, 16), memset(set, 0x44, 16);
	be32_put(table, 2);
	be32_put(table + 4, 1), memset(table + 8, 0x55, 32);
	be32_put(table + 40, 7), memset(table + 44, 0x66, 32);
	ck_assert_int_eq(keyring_from_root(drive, root, table, sizeof(table), &k), 0);
	ck_assert_uint_eq(keyring_current(k), 7);
	ck_assert_mem_eq(keyring_root(k), root, 32);
	struct buf out = { 0 };
	keyring_table(k, &out);
	ck_assert_uint_eq(out.len, sizeof(table));
	ck_assert_mem_eq(out.p, table, sizeof(table));
	buf_release(&out);

	/* Spelled out here once more: info = "skyflok1/<purpose>" ‖ fields. These vectors stand in
	 * coding/FORMAT.md. */
	uint8_t data[32], mac[32], info[64];
	memcpy(info, "skyflok1/data", 13), memcpy(info + 13, drive, 16);
	hkdf_sha256(table + 8, 32, NULL, 0, info, 29, data, 32);
	memcpy(info, "skyflok1/segment", 16), memcpy(info + 16, seg, 16);
	hkdf_sha256(data, 32, NULL, 0, info, 32, a, 32);
	ck_assert_int_eq(keyring_segment_key(k, 1, seg, b), 0);
	ck_assert_mem_eq(a, b, 32);
	assert_hex(b, 32, "9751a4e3286b6fc26a1519f426c473bca13d4c8ae504161aaadf7cbcb89e2885");
	memcpy(info, "skyflok1/mac", 12), memcpy(info + 12, drive, 16);
	hkdf_sha256(table + 8, 32, NULL, 0, info, 28, mac, 32);
	memcpy(info, "skyflok1/fragment", 17), memcpy(info + 17, seg, 16);
	info[33] = 4, info[34] = 2, info[35] = 5;
	hkdf_sha256(mac, 32, set, 16, info, 36, a, 32);
	ck_assert_int_eq(keyring_fragment_key(k, 1, set, seg, 4, 2, 5, b), 0);
	ck_assert_mem_eq(a, b, 32);
	assert_hex(b, 32, "401283ed9c8bd5d3e1b15a2ebc02e67082bab553736a0d54e47e1c7e709f673e");
	ck_assert_int_eq(keyring_shard_key(k, 1, b), 0);
	hkdf_sha256(mac, 32, NULL, 0, "skyflok1/shard", 14, a, 32);
	ck_assert_mem_eq(a, b, 32);
	assert_hex(b, 32, "8e51f39f2ab135cbf3489ea513486f53969ba032db2b83658a9492983aa79f58");
	ck_assert_int_eq(keyring_log_key(k, 1, b), 0);
	assert_hex(b, 32, "6cc49550c737f693bc0d50a50916e0a9553578dd2f68e705a97e1e6b94ca90a8");
	ck_assert_int_eq(keyring_root_key(k, "manifest", b), 0);
	assert_hex(b, 32, "d8cdd667d7faaf9a1483b640d7b6d9b2827a43985eca444bc27f9a8476ed99b7");
	ck_assert_int_eq(keyring_root_key(k, "header-mac", a), 0);
	assert_hex(a, 32, "32b2d6e573ff172b8042e858b36fc91ec910257eab03688ffce5cd819617ed49");
	keyring_destroy(k);
}
END_TEST

/* Whatever goes in changes the key: no two of these may be equal. */
START_TEST(keys_differ)
{
	uint8_t drive[16] = { 1 }, seg[16] = { 2 }, seg2[16] = { 3 }, set[16] = { 4 };
	uint8_t out[16][32];
	int n = 0;
	struct keyring *k = keyring_create(drive);

	ck_assert_uint_eq(keyring_current(k), 1);
	ck_assert_int_eq(keyring_add(k), 0);
	ck_assert_uint_eq(keyring_current(k), 2);
	for (uint32_t no = 1; no <= 2; no++) {
		keyring_segment_key(k, no, seg, out[n++]);
		keyring_shard_key(k, no, out[n++]);
		keyring_log_key(k, no, out[n++]);
	}
	keyring_segment_key(k, 1, seg2, out[n++]);
	keyring_fragment_key(k, 1, set, seg, 2, 1, 0, out[n++]);
	keyring_fragment_key(k, 1, seg2, seg, 2, 1, 0, out[n++]);
	keyring_fragment_key(k, 1, set, seg2, 2, 1, 0, out[n++]);
	keyring_fragment_key(k, 1, set, seg, 1, 2, 0, out[n++]);
	keyring_fragment_key(k, 1, set, seg, 2, 1, 1, out[n++]);
	keyring_fragment_key(k, 1, set, seg, 2, 2, 0, out[n++]);
	keyring_root_key(k, "manifest", out[n++]);
	keyring_root_key(k, "local-state", out[n++]);
	memcpy(out[n++], keyring_root(k), 32);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < i; j++)
			ck_assert_msg(memcmp(out[i], out[j], 32), "%d and %d", i, j);
	ck_assert_int_eq(keyring_segment_key(k, 0, seg, out[0]), -ENOKEY);
	ck_assert_int_eq(keyring_segment_key(k, 3, seg, out[0]), -ENOKEY);
	ck_assert_int_eq(keyring_fragment_key(k, 3, set, seg, 2, 1, 0, out[0]), -ENOKEY);
	ck_assert_int_eq(keyring_shard_key(k, 3, out[0]), -ENOKEY);
	ck_assert_int_eq(keyring_log_key(k, 3, out[0]), -ENOKEY);
	keyring_destroy(k);
	keyring_destroy(NULL);
}
END_TEST

START_TEST(keys_bad_table)
{
	uint8_t drive[16] = { 0 }, root[32] = { 0 }, t[4 + 3 * 36] = { 0 };
	struct keyring *k;
	static const struct {
		uint32_t count, a, b, c;
		size_t n;
	} bad[] = {
		{ 3, 1, 3, 2, sizeof(t) },
		{ 3, 1, 2, 2, sizeof(t) },
		{ 3, 0, 1, 2, sizeof(t) },
		{ 3, 1, 2, 3, sizeof(t) - 1 },
		{ 2, 1, 2, 3, sizeof(t) },
		{ 4, 1, 2, 3, sizeof(t) },
		{ 0, 1, 2, 3, 4 },
		{ UINT32_MAX, 1, 2, 3, sizeof(t) },
		{ 0x71c71c72, 1, 2, 3, 8 + 32 + 4 },
		{ 3, 1, 2, 3, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		be32_put(t, bad[i].count), be32_put(t + 4, bad[i].a);
		be32_put(t + 40, bad[i].b), be32_put(t + 76, bad[i].c);
		ck_assert_int_eq(keyring_from_root(drive, root, t, bad[i].n, &k), -EBADMSG);
		ck_assert_ptr_null(k);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("crypto");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, gcm_published, 0, ARRAY_LEN(gcm_cases));
	tcase_add_test(t, gcm_zeros);
	tcase_add_test(t, gcm_tampered);
	tcase_add_test(t, gcm_many_keys);
	tcase_add_test(t, sha256_fips);
	tcase_add_test(t, hmac_rfc4231);
	tcase_add_test(t, hkdf_rfc5869);
	tcase_add_test(t, argon2id_rfc9106);
	tcase_add_test(t, argon2id_bounds);
	tcase_add_test(t, secmem_basics);
	tcase_add_test(t, shamir_every_subset);
	tcase_add_test(t, shamir_bounds);
	tcase_add_test(t, keys_derived);
	tcase_add_test(t, keys_differ);
	tcase_add_test(t, keys_bad_table);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
