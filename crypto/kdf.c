#include "crypto/kdf.h"

#include <argon2.h>
#include <errno.h>
#include <sys/mman.h>

int kdf_cost_check(const struct kdf_cost *c)
{
	if (c->lanes < 1 || c->lanes > KDF_LANES_MAX || c->passes < 1 ||
	    c->passes > KDF_PASSES_MAX || c->mem_kib < ARGON2_MIN_MEMORY * c->lanes ||
	    c->mem_kib > KDF_MEM_MAX)
		return -EINVAL;
	return 0;
}

/* Far more than may be locked, and written in random order: huge pages are a fifth faster, and a
 * core dump leaves it out. */
static int work_alloc(uint8_t **p, size_t n)
{
	void *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*p = NULL;
	if (m == MAP_FAILED)
		return ARGON2_MEMORY_ALLOCATION_ERROR;
	(void)madvise(m, n, MADV_DONTDUMP);
	(void)madvise(m, n, MADV_HUGEPAGE);
	*p = m;
	return 0;
}

/* libargon2 has wiped it by then (FLAG_clear_internal_memory is on by default). */
static void work_free(uint8_t *p, size_t n)
{
	munmap(p, n);
}

static int errno_of(int rc)
{
	switch (rc) {
	case ARGON2_OK:
		return 0;
	case ARGON2_MEMORY_ALLOCATION_ERROR:
		return -ENOMEM;
	case ARGON2_THREAD_FAIL:
		return -EIO;
	default: /* the rest are complaints about parameters */
		return -EINVAL;
	}
}

int kdf_argon2id(const struct kdf_cost *c, const void *password, size_t password_len,
		 const void *salt, size_t salt_len, const void *key, size_t key_len, const void *ad,
		 size_t ad_len, void *out, size_t out_len)
{
	if (kdf_cost_check(c) || password_len > UINT32_MAX || salt_len > UINT32_MAX ||
	    key_len > UINT32_MAX || ad_len > UINT32_MAX || salt_len < KDF_SALT_MIN ||
	    out_len < ARGON2_MIN_OUTLEN || out_len > 1024)
		return -EINVAL;
	argon2_context ctx = {
		.out = out,
		.outlen = (uint32_t)out_len,
		.pwd = (uint8_t *)password, /* not written: flags ask for no wiping */
		.pwdlen = (uint32_t)password_len,
		.salt = (uint8_t *)salt,
		.saltlen = (uint32_t)salt_len,
		.secret = (uint8_t *)key,
		.secretlen = (uint32_t)key_len,
		.ad = (uint8_t *)ad,
		.adlen = (uint32_t)ad_len,
		.t_cost = c->passes,
		.m_cost = c->mem_kib,
		.lanes = c->lanes,
		.threads = c->lanes,
		.version = ARGON2_VERSION_13,
		.allocate_cbk = work_alloc,
		.free_cbk = work_free,
		.flags = ARGON2_DEFAULT_FLAGS,
	};
	int rc = argon2_ctx(&ctx, Argon2_id);
	if (rc == ARGON2_THREAD_FAIL) { /* a container's thread limit; the result does not depend on
					   threads */
		ctx.threads = 1;
		rc = argon2_ctx(&ctx, Argon2_id);
	}
	return errno_of(rc);
}
