#include "crypto/secret_share.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <libgfshare.h>
#include "crypto/secmem.h"

#define SHARES_MAX 32

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(unsigned char *p, unsigned int n)
{
	random_bytes(p, n);
}

/* gfshare calls through a global that starts NULL; its tables are constants. */
static void init(void)
{
	gfshare_fill_rand = fill;
}

int secret_share_split(const uint8_t secret[SHARE_LEN], int k, int n, uint8_t (*shares)[SHARE_LEN])
{
	uint8_t x[SHARES_MAX], copy[SHARE_LEN];

	if (k < 1 || k > n || n > SHARES_MAX)
		return -EINVAL;
	if (k ==
	    1) { /* a constant polynomial; gfshare would ask malloc and getrandom for nothing */
		for (int i = 0; i < n; i++)
			memcpy(shares[i], secret, SHARE_LEN);
		return 0;
	}
	pthread_once(&once, init);
	for (int i = 0; i < n; i++)
		x[i] = (uint8_t)(i + 1);
	gfshare_ctx *ctx = gfshare_ctx_init_enc(x, (unsigned)n, (unsigned char)k, SHARE_LEN);
	if (!ctx)
		return -ENOMEM;
	memcpy(copy, secret, SHARE_LEN); /* its parameter is not const */
	gfshare_ctx_enc_setsecret(ctx, copy);
	for (int i = 0; i < n; i++)
		gfshare_ctx_enc_getshare(ctx, (unsigned char)i, shares[i]);
	gfshare_ctx_free(ctx); /* overwrites its buffer first */
	secmem_wipe(copy, sizeof(copy));
	return 0;
}

int secret_share_combine(const uint8_t *x, uint8_t (*const shares)[SHARE_LEN], int k,
			 uint8_t secret[SHARE_LEN])
{
	uint8_t nrs[SHARES_MAX];
	uint64_t seen = 0;

	if (k < 1 || k > SHARES_MAX)
		return -EINVAL;
	for (int i = 0; i < k; i++) {
		/* Equal x would make gfshare divide by zero and return rubbish; x = 0 is the
		 * secret's own place. */
		if (x[i] < 1 || x[i] > SHARES_MAX || seen & 1ull << x[i])
			return -EINVAL;
		seen |= 1ull << x[i];
		nrs[i] = x[i];
	}
	pthread_once(&once, init);
	gfshare_ctx *ctx = gfshare_ctx_init_dec(nrs, (unsigned)k, SHARE_LEN);
	if (!ctx)
		return -ENOMEM;
	for (int i = 0; i < k; i++)
		gfshare_ctx_dec_giveshare(ctx, (unsigned char)i, shares[i]);
	gfshare_ctx_dec_extract(ctx, secret);
	gfshare_ctx_free(ctx);
	return 0;
}
