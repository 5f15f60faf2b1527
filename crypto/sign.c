#include "crypto/sign.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

struct rsa_key {
	EVP_PKEY *pkey;
};

/* OpenSSL's default would ask on the terminal, and hang a daemon. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	return -1;
}

int rsa_key_load(const void *pem, size_t n, struct rsa_key **out)
{
	*out = NULL;
	if (n > INT_MAX)
		return -EINVAL;
	BIO *bio = BIO_new_mem_buf(pem, (int)n);
	struct rsa_key *k = calloc(1, sizeof(*k));
	if (!bio || !k) {
		BIO_free(bio);
		free(k);
		return -ENOMEM;
	}
	k->pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	/* The error queue belongs to the thread; what is left there would surface in a later,
	 * unrelated call. */
	ERR_clear_error();
	int bits = k->pkey && EVP_PKEY_is_a(k->pkey, "RSA") ? EVP_PKEY_get_bits(k->pkey) : 0;
	if (bits < 2048 || bits > RSA_SIG_MAX * 8) {
		rsa_key_free(k);
		return -EINVAL;
	}
	*out = k;
	return 0;
}

void rsa_key_free(struct rsa_key *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->pkey);
	free(k);
}

int rsa_sign_sha256(const struct rsa_key *k, const void *p, size_t n, uint8_t sig[RSA_SIG_MAX],
		    size_t *len)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int rc = -EIO;

	*len = RSA_SIG_MAX;
	/* PKCS #1 v1.5 is the default padding of a plain RSA key. */
	if (c && EVP_DigestSignInit_ex(c, NULL, "SHA256", NULL, NULL, k->pkey, NULL) == 1 &&
	    EVP_DigestSign(c, sig, len, p, n) == 1)
		rc = 0;
	else
		*len = 0;
	EVP_MD_CTX_free(c);
	ERR_clear_error();
	return rc;
}
