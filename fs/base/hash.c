#include "fs/base/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SLOTS_MIN 16

int hash_init(struct hash *h, size_t expected)
{
	size_t n = SLOTS_MIN;

	*h = (struct hash){ 0 };
	while (n < expected && n <= SIZE_MAX / 4 / sizeof(*h->slots))
		n *= 2;
	h->slots = calloc(n, sizeof(*h->slots));
	if (!h->slots)
		return -ENOMEM;
	h->mask = n - 1;
	return 0;
}

void hash_release(struct hash *h)
{
	free(h->slots);
	*h = (struct hash){ 0 };
}

static struct hash_node **slot_of(const struct hash *h, uint64_t key)
{
	return &h->slots[hash_mix(key) & h->mask];
}

struct hash_node *hash_find(const struct hash *h, uint64_t key)
{
	struct hash_node *n;

	if (!h->slots)
		return NULL;
	for (n = *slot_of(h, key); n; n = n->next)
		if (n->key == key)
			return n;
	return NULL;
}

static void grow(struct hash *h)
{
	size_t n = (h->mask + 1) * 2;
	struct hash bigger = { .mask = n - 1, .count = h->count };

	bigger.slots = calloc(n, sizeof(*bigger.slots));
	if (!bigger.slots)
		return;
	for (size_t i = 0; i <= h->mask; i++) {
		struct hash_node *e, *next;

		for (e = h->slots[i]; e; e = next) {
			struct hash_node **to = slot_of(&bigger, e->key);

			next = e->next;
			e->next = *to;
			*to = e;
		}
	}
	free(h->slots);
	*h = bigger;
}

void hash_insert(struct hash *h, struct hash_node *n, uint64_t key)
{
	struct hash_node **slot;

	if (h->count > h->mask)
		grow(h);
	slot = slot_of(h, key);
	n->key = key;
	n->next = *slot;
	*slot = n;
	h->count++;
}

void hash_remove(struct hash *h, struct hash_node *n)
{
	struct hash_node **at = slot_of(h, n->key);

	for (; *at; at = &(*at)->next) {
		if (*at != n)
			continue;
		*at = n->next;
		n->next = NULL;
		h->count--;
		return;
	}
}

void hash_each(struct hash *h, void (*fn)(struct hash_node *n, void *arg), void *arg)
{
	if (!h->slots)
		return;
	for (size_t i = 0; i <= h->mask; i++) {
		struct hash_node *n, *next;

		for (n = h->slots[i]; n; n = next) {
			next = n->next;
			fn(n, arg);
		}
	}
}

uint64_t hash_mix(uint64_t v)
{
	v += 0x9e3779b97f4a7c15u;
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
	v = (v ^ v >> 27) * 0x94d049bb133111ebu;
	return v ^ v >> 31;
}

/* ---- SipHash-1-3 (Aumasson and Bernstein 2012; these rounds as in Rust and CPython): collisions
 * cannot be prepared by somebody who does not know the seed ---- */

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_fill(void)
{
	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed))
		return;
	/* Early in boot, or no such call: less good, and only the speed of a table depends on it.
	 */
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	seed[0] = hash_mix((uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec << 32);
	seed[1] = hash_mix((uint64_t)getpid() ^ (uint64_t)(uintptr_t)&t);
}

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = ROTL(v[1], 13) ^ v[0], v[0] = ROTL(v[0], 32);
	v[2] += v[3], v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = ROTL(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = ROTL(v[1], 17) ^ v[2], v[2] = ROTL(v[2], 32);
}

uint64_t hash_bytes(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t v[4], m, last = (uint64_t)n << 56;

	pthread_once(&seed_once, seed_fill);
	v[0] = seed[0] ^ 0x736f6d6570736575u;
	v[1] = seed[1] ^ 0x646f72616e646f6du;
	v[2] = seed[0] ^ 0x6c7967656e657261u;
	v[3] = seed[1] ^ 0x7465646279746573u;
	/* Byte order does not matter: the value never leaves the process. */
	for (; n >= 8; b += 8, n -= 8) {
		memcpy(&m, b, 8);
		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)b[i] << 8 * i;
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
