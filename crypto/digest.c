#include "crypto/digest.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <openssl/evp.h>
#include "crypto/secmem.h"
#include "fs/base/scope.h"

#define BLOCK_LEN 64 /* SHA-256's block, FIPS 180-4 section 1 */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *md; /* fetched once, see aead.c */

static void init(void)
{
	md = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static void scope_md(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}
#define AUTO_MD __attribute__((cleanup(scope_md)))

static EVP_MD_CTX *md_begin(void)
{
	pthread_once(&once, init);
	EVP_MD_CTX *c = md ? EVP_MD_CTX_new() : NULL;
	if (c && EVP_DigestInit_ex2(c, md, NULL) != 1) {
		EVP_MD_CTX_free(c);
		return NULL;
	}
	return c;
}

static int md_feed(EVP_MD_CTX *c, const struct iovec *in, int iovs)
{
	for (int i = 0; i < iovs; i++)
		if (in[i].iov_len && EVP_DigestUpdate(c, in[i].iov_base, in[i].iov_len) != 1)
			return -EIO;
	return 0;
}

static int md_end(EVP_MD_CTX *c, uint8_t out[SHA256_LEN])
{
	return EVP_DigestFinal_ex(c, out, NULL) == 1 ? 0 : -EIO;
}

int sha256v(const struct iovec *in, int iovs, uint8_t out[SHA256_LEN])
{
	AUTO_MD EVP_MD_CTX *c = md_begin();

	if (!c)
		return -EIO;
	int rc = md_feed(c, in, iovs);
	return rc ? rc : md_end(c, out);
}

int sha256(const void *p, size_t n, uint8_t out[SHA256_LEN])
{
	return sha256v(&(struct iovec){ .iov_base = (void *)p, .iov_len = n }, 1, out);
}

/* RFC 2104: H(K ^ opad ‖ H(K ^ ipad ‖ text)). Spelled out, because EVP_MAC costs several times the
 * two hashes. */
int hmac_sha256v(const void *key, size_t key_len, const struct iovec *in, int iovs,
		 uint8_t out[SHA256_LEN])
{
	uint8_t pad[BLOCK_LEN] = { 0 }, inner[SHA256_LEN];
	struct iovec block = { .iov_base = pad, .iov_len = BLOCK_LEN };
	AUTO_MD EVP_MD_CTX *c = md_begin();
	int rc = -EIO;

	if (!c)
		return -EIO;
	if (key_len > BLOCK_LEN) {
		if (sha256(key, key_len, pad))
			goto wipe;
	} else if (key_len) {
		memcpy(pad, key, key_len);
	}
	for (int i = 0; i < BLOCK_LEN; i++)
		pad[i] ^= 0x36;
	if (md_feed(c, &block, 1) || md_feed(c, in, iovs) || md_end(c, inner))
		goto wipe;
	for (int i = 0; i < BLOCK_LEN; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	struct iovec hash = { .iov_base = inner, .iov_len = SHA256_LEN };
	if (EVP_DigestInit_ex2(c, md, NULL) == 1 && !md_feed(c, &block, 1) && !md_feed(c, &hash, 1))
		rc = md_end(c, out);
wipe:
	secmem_wipe(pad, sizeof(pad));
	secmem_wipe(inner, sizeof(inner));
	return rc;
}

int hmac_sha256(const void *key, size_t key_len, const void *p, size_t n, uint8_t out[SHA256_LEN])
{
	return hmac_sha256v(key, key_len, &(struct iovec){ .iov_base = (void *)p, .iov_len = n }, 1,
			    out);
}

int hkdf_sha256(const void *ikm, size_t ikm_len, const void *salt, size_t salt_len,
		const void *info, size_t info_len, void *out, size_t out_len)
{
	uint8_t prk[SHA256_LEN], t[SHA256_LEN], counter = 0;
	uint8_t *to = out;

	if (out_len > 255 * SHA256_LEN)
		return -EINVAL;
	/* RFC 5869 section 2.2: no salt is a salt of zeros, and HMAC pads a short key with zeros
	 * itself. */
	int rc = hmac_sha256(salt, salt ? salt_len : 0, ikm, ikm_len, prk);
	while (!rc && out_len) {
		struct iovec in[3] = {
			{ .iov_base = t, .iov_len = counter ? SHA256_LEN : 0 },
			{ .iov_base = (void *)info, .iov_len = info_len },
			{ .iov_base = &counter, .iov_len = 1 },
		};
		size_t len = MIN(out_len, (size_t)SHA256_LEN);
		counter++;
		rc = hmac_sha256v(prk, sizeof(prk), in, 3, t);
		memcpy(to, t, len);
		to += len, out_len -= len;
	}
	secmem_wipe(prk, sizeof(prk));
	secmem_wipe(t, sizeof(t));
	return rc;
}
