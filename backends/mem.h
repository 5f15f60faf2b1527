/* The in-memory backend: reference of the contract, and what tests use instead of a cloud. */
#ifndef BACKENDS_MEM_H
#define BACKENDS_MEM_H

#include "backends/backend.h"

/* What is stored outlives the backends that show it, so that a test can close a drive and open it
 * again. */
struct mem_store;
struct mem_store *mem_store_create(void);      /* NULL: out of memory */
void mem_store_destroy(struct mem_store *s);   /* after the backends on it; NULL is fine */
uint64_t mem_store_count(struct mem_store *s); /* objects */
/* For tests of damage: a copy of the object is not made, the bytes change in place. -ENOENT,
 * -ERANGE. */
int mem_store_flip(struct mem_store *s, const char *key, uint64_t offset, uint8_t bits);

/* threads 0: everything happens inside backend_submit; else on so many threads, latency ns after it
 * was asked. store NULL: one of its own. NULL: out of memory or threads. */
struct backend *mem_open(struct mem_store *store, int threads, int64_t latency);

#endif
