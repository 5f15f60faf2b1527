#include "crypto/aead.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>
#include "crypto/secmem.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

/* Setting a key costs as much as sealing 2 KiB (measured: 491 ns against 216 for a new nonce only),
 * and a thread goes round a few keys: up to four open segments, and the n fragment keys of one
 * coding. So each thread keeps the schedules of its last KEPT keys, replaced in turn. AES-GCM uses
 * one schedule for both directions. */
#define KEPT 16

struct kept {
	EVP_CIPHER_CTX *ctx;
	int keyed;    /* ctx is set to key */
	uint8_t *key; /* AEAD_KEY_LEN bytes of aead_thread.keys */
};
struct aead_thread {
	unsigned next; /* the entry that the next unknown key replaces */
	uint8_t *keys; /* secmem */
	struct kept kept[KEPT];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_end; /* only for its destructor */
static EVP_CIPHER *cipher;       /* fetched once: a fetch takes a global lock (openssl#20286) */
static int ready;
static __thread struct aead_thread *self;

static void thread_release(void *p)
{
	struct aead_thread *t = p;

	for (int i = 0; i < KEPT; i++)
		EVP_CIPHER_CTX_free(t->kept[i].ctx); /* wipes its schedule */
	secmem_free(t->keys);
	free(t);
	self = NULL;
}

static void init(void)
{
	cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	ready = cipher && pthread_key_create(&thread_end, thread_release) == 0;
	if (!ready)
		log_error("this OpenSSL offers no AES-256-GCM; check its configuration file");
}

static struct aead_thread *thread_get(void)
{
	if (self)
		return self;
	pthread_once(&once, init);
	if (!ready)
		return NULL;
	struct aead_thread *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->keys = secmem_alloc(KEPT * AEAD_KEY_LEN);
	if (!t->keys || pthread_setspecific(thread_end, t)) {
		secmem_free(t->keys);
		free(t);
		return NULL;
	}
	for (int i = 0; i < KEPT; i++)
		t->kept[i].key = t->keys + i * AEAD_KEY_LEN;
	return self = t;
}

/* The entry that holds key, or the one to be overwritten (keyed is then 0). */
static struct kept *kept_find(struct aead_thread *t, const uint8_t *key)
{
	for (int i = 0; i < KEPT; i++) {
		struct kept *e = &t->kept[i];
		/* The first bytes rule out nearly every other key; keys are HKDF output. */
		if (e->keyed && !memcmp(e->key, key, 8) && secmem_equal(e->key, key, AEAD_KEY_LEN))
			return e;
	}
	struct kept *e = &t->kept[t->next++ % KEPT];
	e->keyed = 0;
	return e;
}

/* An entry ready for one message, or NULL. */
static struct kept *begin(const uint8_t *key, const uint8_t *nonce, int encrypt)
{
	struct aead_thread *t = thread_get();
	struct kept *e = t ? kept_find(t, key) : NULL;

	if (!e)
		return NULL;
	if (e->keyed) {
		/* cipher NULL: passing it again takes a lock each time (openssl#22191). */
		if (EVP_CipherInit_ex2(e->ctx, NULL, NULL, nonce, encrypt, NULL) == 1)
			return e;
		e->keyed = 0;
	}
	if (!e->ctx) {
		e->ctx = EVP_CIPHER_CTX_new();
		if (!e->ctx || EVP_CipherInit_ex2(e->ctx, cipher, NULL, NULL, 1, NULL) != 1) {
			EVP_CIPHER_CTX_free(e->ctx);
			e->ctx = NULL;
			return NULL;
		}
	}
	if (EVP_CipherInit_ex2(e->ctx, NULL, key, nonce, encrypt, NULL) != 1)
		return NULL;
	memcpy(e->key, key, AEAD_KEY_LEN);
	e->keyed = 1;
	return e;
}

/* Why begin() gave NULL. Told apart from a failing library, and never from bytes that are wrong:
 * whoever asks again later gets them. */
static int not_begun(void)
{
	return ready ? -ENOMEM : -EIO;
}

/* Lengths are int in OpenSSL, hence the pieces. out NULL: additional data. */
static int feed(struct kept *e, uint8_t *out, const void *in, size_t n)
{
	const uint8_t *p = in;

	while (n) {
		int len = (int)MIN(n, (size_t)1 << 30), done;
		if (EVP_CipherUpdate(e->ctx, out, &done, p, len) != 1)
			return -EIO;
		p += len, n -= (size_t)len;
		if (out)
			out += len;
	}
	return 0;
}

static int seal_end(struct kept *e, uint8_t tag[AEAD_TAG_LEN])
{
	uint8_t none[AEAD_TAG_LEN];
	int len;

	if (EVP_CipherFinal_ex(e->ctx, none, &len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(e->ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, tag) != 1)
		return -EIO;
	return 0;
}

/* After a failure the state of the context is unknown: the key is set anew next time. */
static int failed(struct kept *e, int code)
{
	e->keyed = 0;
	return code;
}

int aead_seal(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN], const void *aad,
	      size_t aad_len, const void *in, size_t n, void *out)
{
	struct kept *e = begin(key, nonce, 1);
	uint8_t *to = out;

	if (!e)
		return not_begun();
	if (feed(e, NULL, aad, aad_len) || feed(e, to, in, n) || seal_end(e, to + n))
		return failed(e, -EIO);
	return 0;
}

int aead_sealv(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN],
	       const void *aad, size_t aad_len, const struct iovec *in, int iovs, size_t zeros,
	       void *out)
{
	static const uint8_t zero[4096];
	struct kept *e = begin(key, nonce, 1);
	uint8_t *to = out;

	if (!e)
		return not_begun();
	if (feed(e, NULL, aad, aad_len))
		return failed(e, -EIO);
	for (int i = 0; i < iovs; i++) {
		if (feed(e, to, in[i].iov_base, in[i].iov_len))
			return failed(e, -EIO);
		to += in[i].iov_len;
	}
	while (zeros) {
		size_t len = MIN(zeros, sizeof(zero));
		if (feed(e, to, zero, len))
			return failed(e, -EIO);
		to += len, zeros -= len;
	}
	return seal_end(e, to) ? failed(e, -EIO) : 0;
}

int aead_open(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN], const void *aad,
	      size_t aad_len, const void *in, size_t n, void *out)
{
	if (n < AEAD_TAG_LEN)
		return -EBADMSG;
	uint8_t tag[AEAD_TAG_LEN], none[AEAD_TAG_LEN];
	struct kept *e = begin(key, nonce, 0);
	int len, good;

	if (!e)
		return not_begun();
	n -= AEAD_TAG_LEN;
	memcpy(tag, (const uint8_t *)in + n, AEAD_TAG_LEN);
	if (feed(e, NULL, aad, aad_len) || feed(e, out, in, n) ||
	    EVP_CIPHER_CTX_ctrl(e->ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LEN, tag) != 1) {
		secmem_wipe(out, n);
		return failed(e, -EIO);
	}
	good = EVP_CipherFinal_ex(e->ctx, none, &len) == 1;
	if (good)
		return 0;
	/* Unauthentic bytes must not be usable, not even by a caller that forgets to check. */
	secmem_wipe(out, n);
	return failed(e, -EBADMSG);
}

int gmac(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN],
	 const struct iovec *in, int iovs, uint8_t tag[AEAD_TAG_LEN])
{
	struct kept *e = begin(key, nonce, 1);

	if (!e)
		return not_begun();
	for (int i = 0; i < iovs; i++)
		if (feed(e, NULL, in[i].iov_base, in[i].iov_len))
			return failed(e, -EIO);
	return seal_end(e, tag) ? failed(e, -EIO) : 0;
}
