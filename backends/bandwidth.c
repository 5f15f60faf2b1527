/* Lock order: users_lock, then a layer's, then lock (a leaf). */
#include "backends/bandwidth.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"

/* What is saved up is at most a quarter of a second's worth, or one small object. */
#define BURST_MIN 65536.0
/* Of the rate, what the foreground leaves to a background that waits. */
#define BACKGROUND_SHARE (1.0 / 8)

struct bucket {
	double rate;       /* bytes per second, 0: no limit */
	double all, front; /* tokens: after all bytes, and after those of the foreground alone */
	int64_t at;        /* when they were right; 0: never */
	int64_t wanted;    /* until then a background request is taken to wait */
};

struct bandwidth {
	pthread_mutex_t lock; /* guards bucket */
	struct bucket bucket[BANDWIDTH_DIRECTIONS];
	pthread_mutex_t users_lock;
	struct list users; /* by users_lock */
};

struct bandwidth *bandwidth_create(uint64_t up, uint64_t down)
{
	struct bandwidth *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->users_lock, NULL);
	list_init(&w->users);
	w->bucket[BANDWIDTH_UP].rate = (double)up;
	w->bucket[BANDWIDTH_DOWN].rate = (double)down;
	return w;
}

void bandwidth_destroy(struct bandwidth *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->users_lock);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void bandwidth_set(struct bandwidth *w, uint64_t up, uint64_t down)
{
	pthread_mutex_lock(&w->lock);
	/* A debt made at the old rate is forgiven: at a much lower new one it would last for
	 * minutes. */
	w->bucket[BANDWIDTH_UP] = (struct bucket){ .rate = (double)up };
	w->bucket[BANDWIDTH_DOWN] = (struct bucket){ .rate = (double)down };
	pthread_mutex_unlock(&w->lock);
	SCOPE_LOCK(&w->users_lock);
	list_for_each (l, &w->users) {
		struct bandwidth_user *u = list_entry(l, struct bandwidth_user, link);

		u->changed(u);
	}
}

uint64_t bandwidth_rate(struct bandwidth *w, enum bandwidth_direction d)
{
	if (!w)
		return 0;
	SCOPE_LOCK(&w->lock);
	return (uint64_t)w->bucket[d].rate;
}

void bandwidth_join(struct bandwidth *w, struct bandwidth_user *u)
{
	SCOPE_LOCK(&w->users_lock);
	list_push_back(&w->users, &u->link);
}

void bandwidth_leave(struct bandwidth *w, struct bandwidth_user *u)
{
	SCOPE_LOCK(&w->users_lock);
	list_remove(&u->link);
}

static void fill_locked(struct bucket *b, int64_t now)
{
	double burst = MAX(b->rate / 4, BURST_MIN), seconds = 0;
	double front = b->rate;

	if (b->at && now > b->at)
		seconds = (double)(now - b->at) / NS_PER_S;
	if (now < b->wanted)
		front -= b->rate * BACKGROUND_SHARE;
	b->all = MIN(b->all + b->rate * seconds, burst);
	b->front = MIN(b->front + front * seconds, burst);
	b->at = now;
}

int64_t bandwidth_when(struct bandwidth *w, enum bandwidth_direction d, int background, int64_t now)
{
	struct bucket *b = &w->bucket[d];
	double tokens;
	int64_t at;

	SCOPE_LOCK(&w->lock);
	if (b->rate <= 0)
		return 0;
	fill_locked(b, now);
	tokens = background ? b->all : b->front;
	if (tokens >= 0)
		return 0;
	at = now + (int64_t)(-tokens / b->rate * NS_PER_S) + 1;
	/* It asks again then; until a little later it counts as one that waits. */
	if (background)
		b->wanted = MAX(b->wanted, at + NS_PER_S / 4);
	return at;
}

uint64_t bandwidth_take(struct bandwidth *w, enum bandwidth_direction d, int background,
			uint64_t bytes)
{
	struct bucket *b = &w->bucket[d];

	SCOPE_LOCK(&w->lock);
	if (b->rate <= 0)
		return 0;
	b->all -= (double)bytes;
	if (!background)
		b->front -= (double)bytes;
	return (uint64_t)b->rate;
}

void bandwidth_give_back(struct bandwidth *w, enum bandwidth_direction d, int background,
			 uint64_t bytes)
{
	struct bucket *b = &w->bucket[d];

	SCOPE_LOCK(&w->lock);
	if (b->rate <= 0)
		return;
	b->all += (double)bytes;
	if (!background)
		b->front += (double)bytes;
}
