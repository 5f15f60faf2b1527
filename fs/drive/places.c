#include "fs/drive/places.h"

#include <errno.h>
#include <string.h>

#include "backends/placement.h"
#include "fs/base/buf.h"
#include "fs/base/clock.h"
#include "fs/drive/each.h"

#define TRIES       3
#define TRY_TIMEOUT (10 * NS_PER_S)
#define TRY_KEY     "t/" /* "t/UUID", deleted again; purge would find what a crash leaves */

struct places {
	const struct config *c;
	struct backend **backends;
	struct create_report *r;
};

static int is_folder(const struct config *c, int i)
{
	return !strcmp(c->backends[i].parsed.scheme, "file");
}

static void try_key(const struct config *c, int i, char out[sizeof(TRY_KEY) + 32])
{
	memcpy(out, TRY_KEY, sizeof(TRY_KEY) - 1);
	hex_put(out + sizeof(TRY_KEY) - 1, c->backends[i].uuid, ID_LEN);
}

/* The fastest of a few: the first one also connects and fetches tokens. */
static void measure_one(void *arg, int i)
{
	struct places *p = arg;
	char key[sizeof(TRY_KEY) + 32];
	int64_t best = 0;

	if (is_folder(p->c, i))
		return;
	try_key(p->c, i, key);
	for (int t = 0; t < TRIES + 1; t++) {
		int64_t begun = clock_mono_ns();
		uint64_t size;
		int rc = backend_head_wait(p->backends[i], key, &size, TRY_TIMEOUT);

		if (rc && rc != -ENOENT)
			return;
		if (t && (!best || clock_mono_ns() - begun < best))
			best = clock_mono_ns() - begun;
	}
	p->r->latency[i] = best;
}

void places_arrange(struct config *c, struct backend **backends, struct create_report *r)
{
	struct backend_url urls[DRIVE_MAX_BACKENDS];
	struct backend *opened[DRIVE_MAX_BACKENDS];
	struct config was = *c;
	struct create_report found = { 0 };
	struct places p = { .c = c, .backends = backends, .r = &found };
	uint8_t order[DRIVE_MAX_BACKENDS];

	each_backend(c->n, measure_one, &p);
	for (int i = 0; i < c->n; i++) {
		urls[i] = c->backends[i].parsed; /* borrowed */
		opened[i] = backends[i];
	}
	placement_order(urls, found.latency, c->n, order);
	for (int i = 0; i < c->n; i++) {
		c->backends[i] = was.backends[order[i]];
		backends[i] = opened[order[i]];
		r->latency[i] = found.latency[order[i]];
		r->moved |= order[i] != i;
	}
}

static void try_condition(void *arg, int i)
{
	struct places *p = arg;
	const char *given = backend_url_param(&p->c->backends[i].parsed, "conditional");
	char key[sizeof(TRY_KEY) + 32];
	struct backend *b = p->backends[i];

	if (is_folder(p->c, i) || given)
		return;
	try_key(p->c, i, key);
	/* A failure here is no answer; the header, which is put next, will say what is wrong. */
	if (!backend_put_wait(b, key, key, sizeof(key), BACKEND_IF_ABSENT, TRY_TIMEOUT) &&
	    !backend_put_wait(b, key, key, sizeof(key), BACKEND_IF_ABSENT, TRY_TIMEOUT))
		__atomic_or_fetch(&p->r->unconditional, 1u << i, __ATOMIC_RELAXED);
	backend_delete_wait(b, key, TRY_TIMEOUT);
}

void places_try_conditions(const struct config *c, struct backend **backends,
			   struct create_report *r)
{
	struct places p = { .c = c, .backends = backends, .r = r };

	each_backend(c->n, try_condition, &p);
}
