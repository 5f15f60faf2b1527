#include "crypto/secmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "fs/base/log.h"
#include "fs/base/scope.h"

/* Every allocation has pages of its own: mlock and munlock work on whole pages and do not nest, so
 * two secrets that share a page would unlock each other. Secrets are few (keyrings, one table per
 * thread), the waste is small. */
struct secmem_head {
	size_t mapped;
	size_t pad; /* keeps what follows aligned to 16 */
};

void *secmem_alloc(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct secmem_head *h;

	if (n > SIZE_MAX / 2)
		return NULL;
	size_t mapped = (size_t)round_up_u64(n + sizeof(*h), page);
	h = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h == MAP_FAILED)
		return NULL;
	/* Both are best effort: RLIMIT_MEMLOCK is 8 MiB for most users, and a drive must mount
	 * without it too. */
	(void)mlock(h, mapped);
	(void)madvise(h, mapped, MADV_DONTDUMP);
	h->mapped = mapped;
	return h + 1;
}

void secmem_free(void *p)
{
	if (!p)
		return;
	struct secmem_head *h = (struct secmem_head *)p - 1;
	size_t mapped = h->mapped;
	secmem_wipe(h, mapped);
	munmap(h, mapped);
}

void secmem_wipe(void *p, size_t n)
{
	if (n)
		explicit_bzero(p, n);
}

int secmem_equal(const void *a, const void *b, size_t n)
{
	return CRYPTO_memcmp(a, b, n) == 0;
}

void random_bytes(void *p, size_t n)
{
	uint8_t *at = p;

	while (n) {
		ssize_t got = getrandom(at, n, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			log_error("getrandom: %s. Nothing may be sealed with predictable bytes, so "
				  "the program ends here.",
				  strerror(errno));
			abort();
		}
		at += got;
		n -= (size_t)got;
	}
}
