/* Intrusive chained hash table keyed by 64-bit values; grows itself. Not thread-safe. Keys need not
 * be well mixed. */
#ifndef FS_BASE_HASH_H
#define FS_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_node {
	struct hash_node *next;
	uint64_t key;
};
struct hash {
	struct hash_node **slots;
	size_t mask, count;
};
int hash_init(struct hash *h, size_t expected); /* 0 or -ENOMEM */
void hash_release(struct hash *h);              /* the table only, not the entries */
struct hash_node *hash_find(const struct hash *h, uint64_t key); /* first with that key, or NULL */
void hash_insert(struct hash *h, struct hash_node *n,
		 uint64_t key); /* never fails: a growth that fails leaves longer chains */
void hash_remove(struct hash *h, struct hash_node *n);
/* Calls fn on each entry; fn may free or remove the entry it is given, nothing else. */
void hash_each(struct hash *h, void (*fn)(struct hash_node *n, void *arg), void *arg);
/* 64-bit mix (splitmix64 finaliser) and a hash of bytes with a per-process random seed, for keys
 * that outsiders choose. */
uint64_t hash_mix(uint64_t v);
uint64_t hash_bytes(const void *p, size_t n);

#endif
