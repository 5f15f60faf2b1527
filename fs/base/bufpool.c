#include "fs/base/bufpool.h"

#include <pthread.h>
#include <stdlib.h>

#include "fs/base/clock.h"
#include "fs/base/list.h"
#include "fs/base/scope.h"

#define GRAIN   ((size_t)64 << 10) /* sizes are multiples of it, so that similar ones fit */
#define KEEP_AT GRAIN              /* what is smaller malloc keeps by itself */

/* In front of the bytes. */
struct buffer {
	_Alignas(64) struct list link; /* of p->spare while unused; the last used is first */
	size_t size;
	int64_t used;
};

struct bufpool {
	pthread_mutex_t lock;
	size_t keep;
	/* By lock. */
	size_t kept;
	struct list spare;
};

static struct buffer *buffer_of(void *p)
{
	return (struct buffer *)p - 1;
}

struct bufpool *bufpool_create(size_t keep)
{
	struct bufpool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	list_init(&p->spare);
#ifdef __SANITIZE_ADDRESS__
	keep = 0; /* a use after put shall be found */
#endif
	p->keep = keep;
	return p;
}

void bufpool_destroy(struct bufpool *p)
{
	if (!p)
		return;
	bufpool_trim(p, INT64_MAX);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* One that is large enough, and not more than a quarter too large. */
static struct buffer *take_locked(struct bufpool *p, size_t n)
{
	list_for_each (l, &p->spare) {
		struct buffer *b = list_entry(l, struct buffer, link);
		if (b->size < n || b->size > n + n / 4 + GRAIN)
			continue;
		list_remove(&b->link);
		p->kept -= b->size;
		return b;
	}
	return NULL;
}

void *bufpool_get(struct bufpool *p, size_t n)
{
	struct buffer *b = NULL;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = (n + 63) / 64 * 64;
	if (n >= KEEP_AT) {
		n = (n + GRAIN - 1) / GRAIN * GRAIN;
		SCOPE_LOCK(&p->lock);
		b = take_locked(p, n);
	}
	if (!b) {
		b = aligned_alloc(64, sizeof(*b) + n);
		if (!b)
			return NULL;
		b->size = n;
		list_init(&b->link);
	}
	return b + 1;
}

void bufpool_put(struct bufpool *p, void *buf)
{
	struct buffer *b;

	if (!buf)
		return;
	b = buffer_of(buf);
	if (b->size >= KEEP_AT) {
		SCOPE_LOCK(&p->lock);
		if (p->kept + b->size <= p->keep) {
			b->used = clock_mono_ns();
			list_push_front(&p->spare, &b->link);
			p->kept += b->size;
			return;
		}
	}
	free(b);
}

void bufpool_trim(struct bufpool *p, int64_t since)
{
	struct list old, *l;

	list_init(&old);
	pthread_mutex_lock(&p->lock);
	list_for_each_safe (it, &p->spare) {
		struct buffer *b = list_entry(it, struct buffer, link);
		if (b->used > since)
			continue;
		list_remove(&b->link);
		list_push_back(&old, &b->link);
		p->kept -= b->size;
	}
	pthread_mutex_unlock(&p->lock);
	while ((l = list_first(&old))) {
		list_remove(l);
		free(list_entry(l, struct buffer, link));
	}
}

size_t bufpool_kept(struct bufpool *p)
{
	SCOPE_LOCK(&p->lock);
	return p->kept;
}
