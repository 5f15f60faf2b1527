/* Locked, wiped memory for keys, and the kernel's random bytes. */
#ifndef CRYPTO_SECMEM_H
#define CRYPTO_SECMEM_H

#include <stddef.h>
#include <stdint.h>

/* n zeroed bytes, locked into RAM where the limit allows, left out of core dumps. NULL when out of
 * memory. */
void *secmem_alloc(size_t n);
/* Wipes and frees. NULL is fine. */
void secmem_free(void *p);
/* Overwrites so that the compiler cannot leave it out. */
void secmem_wipe(void *p, size_t n);
/* 1 when equal; takes the same time wherever they differ. */
int secmem_equal(const void *a, const void *b, size_t n);
/* n bytes from getrandom(2) directly: the kernel reseeds when a VM is cloned, a user-space
 * generator does not. Aborts the process on failure: nothing may ever be sealed with predictable
 * bytes. */
void random_bytes(void *p, size_t n);

#endif
