/* How often the kernel knows an inode (lookup count): 16 bytes each, however many it knows.
 * Thread-safe by its own lock, a leaf. */
#ifndef FS_DATA_KNOWN_H
#define FS_DATA_KNOWN_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct known_slot {
	uint64_t ino, count; /* ino 0: free */
};
struct known {
	pthread_mutex_t lock;
	struct known_slot *slots; /* by lock: open addressing, linear probing, a power of two */
	size_t mask, used;
};
int known_init(struct known *k); /* 0 or -ENOMEM */
void known_release(struct known *k);
int known_add(struct known *k, uint64_t ino); /* 0 or -ENOMEM: then nothing was counted */
/* Takes up to n off; what remains. Unknown ones remain 0. */
uint64_t known_sub(struct known *k, uint64_t ino, uint64_t n);
uint64_t known_get(struct known *k, uint64_t ino);
size_t known_count(struct known *k);

#endif
