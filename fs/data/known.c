#include "fs/data/known.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/base/hash.h"
#include "fs/base/scope.h"

#define SLOTS_MIN 1024

int known_init(struct known *k)
{
	k->slots = calloc(SLOTS_MIN, sizeof(*k->slots));
	k->mask = SLOTS_MIN - 1, k->used = 0;
	pthread_mutex_init(&k->lock, NULL);
	return k->slots ? 0 : -ENOMEM;
}

void known_release(struct known *k)
{
	free(k->slots);
	k->slots = NULL;
	pthread_mutex_destroy(&k->lock);
}

/* The slot of ino, or the free one where it belongs. */
static size_t find_locked(const struct known *k, uint64_t ino)
{
	size_t i = hash_mix(ino) & k->mask;

	while (k->slots[i].ino && k->slots[i].ino != ino)
		i = (i + 1) & k->mask;
	return i;
}

static int resize_locked(struct known *k, size_t slots)
{
	struct known old = *k;

	k->slots = calloc(slots, sizeof(*k->slots));
	if (!k->slots) {
		k->slots = old.slots;
		return -ENOMEM;
	}
	k->mask = slots - 1;
	for (size_t i = 0; i <= old.mask; i++)
		if (old.slots[i].ino)
			k->slots[find_locked(k, old.slots[i].ino)] = old.slots[i];
	free(old.slots);
	return 0;
}

int known_add(struct known *k, uint64_t ino)
{
	SCOPE_LOCK(&k->lock);
	size_t i;

	/* At most 7/8 full; a growth that fails matters only when the table would be full. */
	if (k->used + 1 > (k->mask + 1) / 8 * 7 && resize_locked(k, (k->mask + 1) * 2) &&
	    k->used + 2 > k->mask)
		return -ENOMEM;
	i = find_locked(k, ino);
	if (!k->slots[i].ino) {
		k->slots[i].ino = ino;
		k->used++;
	}
	k->slots[i].count++;
	return 0;
}

/* Closes the gap at i (Knuth, vol. 3, 6.4, algorithm R). */
static void remove_locked(struct known *k, size_t i)
{
	size_t j = i;

	for (;;) {
		size_t home;

		j = (j + 1) & k->mask;
		if (!k->slots[j].ino)
			break;
		home = hash_mix(k->slots[j].ino) & k->mask;
		if (((j - home) & k->mask) < ((j - i) & k->mask))
			continue;
		k->slots[i] = k->slots[j];
		i = j;
	}
	k->slots[i] = (struct known_slot){ 0 };
	k->used--;
	if (k->mask + 1 > SLOTS_MIN && k->used < (k->mask + 1) / 8)
		(void)resize_locked(k, (k->mask + 1) / 2);
}

uint64_t known_sub(struct known *k, uint64_t ino, uint64_t n)
{
	SCOPE_LOCK(&k->lock);
	size_t i = find_locked(k, ino);

	if (!k->slots[i].ino)
		return 0;
	if (k->slots[i].count > n)
		return k->slots[i].count -= n;
	remove_locked(k, i);
	return 0;
}

uint64_t known_get(struct known *k, uint64_t ino)
{
	SCOPE_LOCK(&k->lock);

	return k->slots[find_locked(k, ino)].count;
}

size_t known_count(struct known *k)
{
	SCOPE_LOCK(&k->lock);

	return k->used;
}
