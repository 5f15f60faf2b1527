/* n backends with faults, and gets over them. */
#ifndef TESTS_UNIT_FANOUT_FIXTURE_H
#define TESTS_UNIT_FANOUT_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/fanout.h"
#include "backends/layers.h"
#include "backends/mem.h"
#include "tests/unit/contract.h"
#include "fs/base/scope.h"

#define SOON              (20 * NS_PER_S)
#define LEN               600
#define READ(rule, field) __atomic_load_n(&(rule).field, __ATOMIC_RELAXED)

/* n backends, each: health on fault on mem; rule[i] is in force when used has bit i. */
struct cluster {
	int n;
	struct mem_store *store[FANOUT_MAX];
	struct backend *fault[FANOUT_MAX], *b[FANOUT_MAX];
	struct fault_rule rule[FANOUT_MAX];
	const char *keys[FANOUT_MAX];
	char key_text[FANOUT_MAX][16];
	uint8_t bytes[FANOUT_MAX][LEN];
	uint8_t order[FANOUT_MAX];
};

static inline void cluster_init(struct cluster *c, int n, int threads)
{
	memset(c, 0, sizeof(*c));
	c->n = n;
	for (int i = 0; i < n; i++) {
		c->store[i] = mem_store_create();
		c->fault[i] = layer_fault(mem_open(c->store[i], threads, 0), NULL, 0);
		c->b[i] = layer_health(c->fault[i], NULL, NULL);
		ck_assert_ptr_nonnull(c->b[i]);
		snprintf(c->key_text[i], sizeof(c->key_text[i]), "s/obj.%d", i);
		c->keys[i] = c->key_text[i];
		c->order[i] = (uint8_t)i;
		pattern_fill(c->bytes[i], LEN, (unsigned)i + 1);
	}
}

static inline void cluster_fill(struct cluster *c)
{
	for (int i = 0; i < c->n; i++)
		ck_assert_int_eq(backend_put_wait(c->b[i], c->keys[i], c->bytes[i], LEN, 0, SOON),
				 0);
}

/* The rule for backends in mask, none for the others. */
static inline void cluster_fault(struct cluster *c, uint32_t mask, struct fault_rule rule)
{
	for (int i = 0; i < c->n; i++) {
		c->rule[i] = rule;
		layer_fault_set(c->fault[i], &c->rule[i], mask >> i & 1);
	}
}

static inline void cluster_release(struct cluster *c)
{
	for (int i = 0; i < c->n; i++) {
		backend_destroy(c->b[i]);
		mem_store_destroy(c->store[i]);
	}
}

/* One get, and what was seen of it. */
struct get {
	struct fanout_get f;
	struct cluster *c;
	struct flight flight; /* ended: released */
	int dones, releases;  /* by flight.lock */
	int checks;
	uint8_t bytes[FANOUT_MAX][LEN];
};

static inline int get_check(struct fanout_get *f, int i)
{
	struct get *g = f->user;

	__atomic_fetch_add(&g->checks, 1, __ATOMIC_RELAXED);
	return memcmp(f->buf[i], g->c->bytes[i], LEN) ? -EBADMSG : 0;
}

static inline void get_done(struct fanout_get *f)
{
	struct get *g = f->user;

	/* Buffers that count are right and stay so. */
	for (int i = 0; i < MIN(f->n, FANOUT_MAX); i++)
		if (f->good >> i & 1)
			ck_assert(memcmp(f->buf[i], g->c->bytes[i], LEN) == 0);
	SCOPE_LOCK(&g->flight.lock);
	ck_assert_int_eq(g->releases, 0);
	g->dones++;
}

static inline void get_released(struct fanout_get *f)
{
	struct get *g = f->user;

	SCOPE_LOCK(&g->flight.lock);
	ck_assert_int_eq(g->dones, 1);
	g->releases++;
	g->flight.ended = 1;
	pthread_cond_broadcast(&g->flight.cond);
}

static inline struct get *get_new(struct cluster *c, int k)
{
	struct get *g = calloc(1, sizeof(*g));

	flight_init(&g->flight);
	g->c = c;
	g->f = (struct fanout_get){
		.backends = c->b,
		.n = c->n,
		.k = k,
		.order = c->order,
		.keys = c->keys,
		.len = LEN,
		.deadline = clock_mono_ns() + SOON,
		.check = get_check,
		.done = get_done,
		.released = get_released,
		.user = g,
	};
	for (int i = 0; i < c->n; i++)
		g->f.buf[i] = g->bytes[i];
	return g;
}

static inline void get_hedge_after(struct get *g, int64_t ns)
{
	for (int i = 0; i < g->f.n; i++)
		g->f.hedge[i] = ns;
}

static inline void get_finish(struct get *g)
{
	flight_wait(&g->flight, 1);
	ck_assert_int_eq(g->dones, 1);
	ck_assert_int_eq(g->releases, 1);
}

static inline void get_free(struct get *g)
{
	flight_release(&g->flight);
	free(g);
}

/* Counts what reaches the backends: a rule that matches, but is used up. */
static inline void cluster_count(struct cluster *c)
{
	cluster_fault(c, (1u << c->n) - 1,
		      (struct fault_rule){ .op = -1, .prefix = "", .times = UINT32_MAX });
}

static inline uint64_t cluster_asked(struct cluster *c)
{
	uint64_t n = 0;

	for (int i = 0; i < c->n; i++)
		n += MAX(READ(c->rule[i], inner), READ(c->rule[i], fired));
	return n;
}

#endif
