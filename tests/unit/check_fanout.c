/* Fan-out over n backends: every subset down, in every way of being down. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/fanout_fixture.h"

static int bits(uint32_t v)
{
	return __builtin_popcount(v);
}

enum way { DOWN, MISSING, CORRUPT, SHORT, HANGS, WAYS };

static struct fault_rule rule_of(enum way way)
{
	static const struct fault_rule rules[] = {
		[DOWN] = { .op = -1, .prefix = "", .action = FAULT_RESULT, .result = -ENODEV },
		[MISSING] = { .op = -1, .prefix = "", .action = FAULT_RESULT, .result = -ENOENT },
		[CORRUPT] = { .op = -1, .prefix = "", .action = FAULT_CORRUPT },
		[SHORT] = { .op = -1, .prefix = "", .action = FAULT_TRUNCATE },
		[HANGS] = { .op = -1, .prefix = "", .action = FAULT_HANG },
	};

	return rules[way];
}

static const int reason[] = { -EIO, -ENOENT, -EBADMSG, -EBADMSG, -ETIMEDOUT };

static void one_subset(struct cluster *c, int k, uint32_t mask, enum way way)
{
	struct get *g = get_new(c, k);
	uint32_t all = (1u << c->n) - 1, up = all & ~mask;

	if (way == HANGS) {
		get_hedge_after(g, 2 * NS_PER_MS);
		/* Only when it can end well is there time for it. */
		if (bits(up) < k)
			g->f.deadline = clock_mono_ns() + 30 * NS_PER_MS;
	}
	fanout_get(&g->f);
	get_finish(g);
	if (bits(up) >= k) {
		ck_assert_int_eq(g->f.result, 0);
		ck_assert_int_eq(bits(g->f.good), k);
		ck_assert_uint_eq(g->f.good & mask, 0);
	} else {
		ck_assert_int_eq(g->f.result, reason[way]);
		/* Given up as soon as it was clear, but everything good that came is told. */
		ck_assert_uint_eq(g->f.good & mask, 0);
	}
	ck_assert_uint_eq(g->f.bad & up, 0);
	ck_assert_uint_eq(g->f.missing & up, 0);
	if (way != CORRUPT && way != SHORT)
		ck_assert_uint_eq(g->f.bad, 0);
	if (way != MISSING)
		ck_assert_uint_eq(g->f.missing, 0);
	get_free(g);
}

/* The breaker would open after three rounds, which is another test. */
static void subsets(int threads, enum way way, int nmax)
{
	for (int n = 1; n <= nmax; n++)
		for (int k = 1; k <= n; k++)
			for (uint32_t mask = 0; mask < 1u << n; mask++) {
				struct cluster c;

				cluster_init(&c, n, threads);
				cluster_fill(&c);
				cluster_fault(&c, mask, rule_of(way));
				one_subset(&c, k, mask, way);
				cluster_release(&c);
			}
}

START_TEST(get_all_subsets)
{
	subsets(0, (enum way)_i, _i == HANGS ? 4 : 5);
}
END_TEST

START_TEST(get_all_subsets_threads)
{
	subsets(1, (enum way)_i, _i == HANGS ? 3 : 4);
}
END_TEST

/* No more are asked than needed; extra ones at once; failures one by one. */
START_TEST(get_asks)
{
	struct fault_rule never = { .op = -1, .prefix = "nothing", .action = FAULT_RESULT };
	struct cluster c;
	struct get *g;
	int asked = 0;

	cluster_init(&c, 6, 0);
	cluster_fill(&c);
	/* Counted by a rule that matches, but is used up. */
	never.prefix = "";
	never.times = UINT32_MAX;
	cluster_fault(&c, 0x3f, never);
	for (int i = 0; i < 6; i++)
		c.order[i] = (uint8_t)(5 - i);
	g = get_new(&c, 3);
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_uint_eq(g->f.good, 0x38);
	for (int i = 0; i < 6; i++)
		asked += (int)READ(c.rule[i], inner);
	ck_assert_int_eq(asked, 3);
	ck_assert_int_eq(g->checks, 3);
	get_free(g);
	/* Skipped ones are never asked, and count as missing. */
	g = get_new(&c, 3);
	g->f.skip = 0x38;
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, 0);
	ck_assert_uint_eq(g->f.good, 0x07);
	ck_assert_uint_eq(READ(c.rule[5], inner), 1);
	get_free(g);
	g = get_new(&c, 4);
	g->f.skip = 0x38;
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, -ENOENT);
	get_free(g);
	cluster_release(&c);
}
END_TEST

START_TEST(get_extra)
{
	struct fault_rule hang = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct cluster c;
	struct get *g;
	int64_t begun = clock_mono_ns();

	cluster_init(&c, 5, 0);
	cluster_fill(&c);
	cluster_fault(&c, 0x01, hang);
	g = get_new(&c, 3);
	g->f.extra = 1;
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, 0);
	ck_assert_uint_eq(g->f.good, 0x0e);
	ck_assert_uint_eq(READ(c.rule[0], fired), 1);
	ck_assert_int_lt(clock_mono_ns() - begun, 5 * NS_PER_S);
	get_free(g);
	cluster_release(&c);
}
END_TEST

/* Without a hedge, failures still bring in the next one; the deadline ends what hangs. */
START_TEST(get_deadline)
{
	struct fault_rule hang = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct cluster c;
	struct get *g;

	cluster_init(&c, 3, 0);
	cluster_fill(&c);
	cluster_fault(&c, 0x07, hang);
	g = get_new(&c, 2);
	g->f.deadline = clock_mono_ns() + 50 * NS_PER_MS;
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, -ETIMEDOUT);
	get_free(g);
	g = get_new(&c, 2);
	g->f.deadline = 1;
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, -ETIMEDOUT);
	get_free(g);
	cluster_release(&c);
}
END_TEST

START_TEST(get_cancel)
{
	struct fault_rule hang = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct cluster c;
	struct get *g;

	cluster_init(&c, 4, 0);
	cluster_fill(&c);
	cluster_fault(&c, 0x0f, hang);
	g = get_new(&c, 2);
	fanout_get(&g->f);
	ck_assert_int_eq(g->dones, 0);
	fanout_get_cancel(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, -ECANCELED);
	fanout_get_cancel(&g->f);
	ck_assert_int_eq(g->dones, 1);
	get_free(g);
	cluster_release(&c);
}
END_TEST

/* Cancels that race with completions of every kind. */
START_TEST(get_cancel_storm)
{
	struct fault_rule delay = {
		.op = -1, .prefix = "", .action = FAULT_DELAY, .delay = 300000
	};
	struct fanout_budget budget;
	struct cluster c;
	int cancelled = 0;

	fanout_budget_init(&budget, 100);

	cluster_init(&c, 5, 2);
	cluster_fill(&c);
	cluster_fault(&c, 0x15, delay);
	for (int i = 0; i < 300; i++) {
		struct get *g = get_new(&c, 3);
		struct timespec pause = { .tv_nsec = (i % 30) * 20000 };

		get_hedge_after(g, i % 3 ? 200000 : 0);
		g->f.rescue = i % 5 ? 0 : 300000;
		g->f.budget = i % 7 ? &budget : NULL;
		g->f.extra = i % 2;
		fanout_get(&g->f);
		nanosleep(&pause, NULL);
		fanout_get_cancel(&g->f);
		get_finish(g);
		ck_assert(g->f.result == 0 || g->f.result == -ECANCELED);
		cancelled += g->f.result == -ECANCELED;
		get_free(g);
	}
	ck_assert_int_gt(cancelled, 0);
	ck_assert_int_eq(budget.running, 0);
	cluster_release(&c);
}
END_TEST

/* Those whose breaker is open are asked last; wrong bytes are reported to their backend's health.
 */
START_TEST(get_health)
{
	struct fault_rule down = {
		.op = -1, .prefix = "", .action = FAULT_RESULT, .result = -EAGAIN
	};
	struct health_info info;
	struct cluster c;
	struct get *g;
	uint64_t size;

	cluster_init(&c, 4, 0);
	cluster_fill(&c);
	cluster_fault(&c, 0x01, down);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(backend_head_wait(c.b[0], "x", &size, SOON), -EAGAIN);
	ck_assert(!health_usable(c.b[0], 0));
	ck_assert_uint_eq(READ(c.rule[0], fired), 3);
	mem_store_flip(c.store[1], c.keys[1], 77, 1);
	g = get_new(&c, 2);
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, 0);
	ck_assert_uint_eq(g->f.good, 0x0c);
	ck_assert_uint_eq(g->f.bad, 0x02);
	ck_assert_uint_eq(READ(c.rule[0], fired), 3);
	health_get(c.b[1], &info);
	ck_assert_uint_eq(info.corrupt, 1);
	ck_assert_int_eq(info.state, HEALTH_CORRUPT);
	ck_assert(health_usable(c.b[1], 0));
	get_free(g);
	cluster_release(&c);
}
END_TEST

START_TEST(get_bad_arguments)
{
	struct cluster c;

	cluster_init(&c, 3, 0);
	for (int i = 0; i < 5; i++) {
		struct get *g = get_new(&c, i == 0 ? 0 : i == 1 ? 4 : 2);

		if (i == 2)
			g->f.len = 0;
		if (i == 3)
			g->f.n = 33;
		if (i == 4)
			c.order[1] = c.order[0];
		fanout_get(&g->f);
		get_finish(g);
		ck_assert_int_eq(g->f.result, -EINVAL);
		get_free(g);
	}
	cluster_release(&c);
}
END_TEST

/* Puts. */

struct put {
	struct fanout_put f;
	struct flight flight;
	int progress[FANOUT_MAX], dones, inside;
	struct iovec iov[FANOUT_MAX][2];
	const struct iovec *iovs[FANOUT_MAX];
};

static void put_progress(struct fanout_put *f, int i, int result)
{
	struct put *p = f->user;

	/* Never two at the same time, nor with done. */
	ck_assert_int_eq(__atomic_exchange_n(&p->inside, 1, __ATOMIC_SEQ_CST), 0);
	ck_assert_int_eq(p->dones, 0);
	p->progress[i]++;
	ck_assert_int_eq(f->result[i], result);
	__atomic_store_n(&p->inside, 0, __ATOMIC_SEQ_CST);
}

static void put_done(struct fanout_put *f)
{
	struct put *p = f->user;

	ck_assert_int_eq(__atomic_exchange_n(&p->inside, 1, __ATOMIC_SEQ_CST), 0);
	p->dones++;
	__atomic_store_n(&p->inside, 0, __ATOMIC_SEQ_CST);
	SCOPE_LOCK(&p->flight.lock);
	p->flight.ended = 1;
	pthread_cond_broadcast(&p->flight.cond);
}

static struct put *put_new(struct cluster *c, uint32_t todo)
{
	struct put *p = calloc(1, sizeof(*p));

	flight_init(&p->flight);
	for (int i = 0; i < c->n; i++) {
		p->iov[i][0] = (struct iovec){ c->bytes[i], 100 };
		p->iov[i][1] = (struct iovec){ c->bytes[i] + 100, LEN - 100 };
		p->iovs[i] = p->iov[i];
	}
	p->f = (struct fanout_put){
		.backends = c->b,
		.n = c->n,
		.todo = todo,
		.keys = c->keys,
		.iov = p->iovs,
		.iovs = 2,
		.flags = BACKEND_IF_ABSENT,
		.deadline = clock_mono_ns() + SOON,
		.progress = put_progress,
		.done = put_done,
		.user = p,
	};
	return p;
}

static void put_finish(struct put *p)
{
	flight_wait(&p->flight, 1);
	ck_assert_int_eq(p->dones, 1);
	for (int i = 0; i < p->f.n; i++)
		ck_assert_int_eq(p->progress[i], (int)(p->f.todo >> i & 1));
}

static void put_free(struct put *p)
{
	flight_release(&p->flight);
	free(p);
}

START_TEST(put_all_subsets)
{
	struct fault_rule down = {
		.op = -1, .prefix = "", .action = FAULT_RESULT, .result = -ENOSPC
	};

	for (uint32_t mask = 0; mask < 32; mask++)
		for (uint32_t todo = 0; todo < 32; todo++) {
			struct cluster c;
			struct put *p;

			cluster_init(&c, 5, _i);
			cluster_fault(&c, mask, down);
			p = put_new(&c, todo);
			fanout_put(&p->f);
			put_finish(p);
			for (int i = 0; i < 5; i++) {
				int asked = todo >> i & 1, broken = mask >> i & 1;

				ck_assert_int_eq(p->f.result[i], asked && broken ? -ENOSPC : 0);
				ck_assert_uint_eq(mem_store_count(c.store[i]), asked && !broken);
			}
			put_free(p);
			cluster_release(&c);
		}
}
END_TEST

/* keeps I4: what is there already is compared. */
START_TEST(put_exists)
{
	struct fault_rule lost = { .op = BACKEND_PUT,
				   .prefix = "",
				   .times = 1,
				   .action = FAULT_ANSWER_LOST,
				   .result = -EEXIST };
	struct fault_rule unreadable = {
		.op = BACKEND_GET, .prefix = "", .action = FAULT_RESULT, .result = -EIO
	};
	struct fault_rule gone = {
		.op = BACKEND_PUT, .prefix = "", .action = FAULT_RESULT, .result = -EEXIST
	};
	struct cluster c;
	struct put *p;

	cluster_init(&c, 8, _i);
	ck_assert_int_eq(backend_put_wait(c.b[1], c.keys[1], c.bytes[1], LEN, 0, SOON), 0);
	ck_assert_int_eq(backend_put_wait(c.b[2], c.keys[2], c.bytes[1], LEN, 0, SOON), 0);
	ck_assert_int_eq(backend_put_wait(c.b[3], c.keys[3], c.bytes[3], LEN - 1, 0, SOON), 0);
	ck_assert_int_eq(backend_put_wait(c.b[4], c.keys[4], c.bytes[3], LEN, 0, SOON), 0);
	ck_assert_int_eq(backend_put_wait(c.b[5], c.keys[5], c.bytes[5], LEN, 0, SOON), 0);
	layer_fault_set(c.fault[5], &unreadable, 1);
	layer_fault_set(c.fault[6], &lost, 1);
	layer_fault_set(c.fault[7], &gone, 1);
	p = put_new(&c, 0xff);
	/* Of object 4, what is there is longer. */
	p->iov[4][0].iov_base = c.bytes[3];
	p->iov[4][1].iov_base = c.bytes[3] + 100;
	p->iov[4][1].iov_len--;
	fanout_put(&p->f);
	put_finish(p);
	ck_assert_int_eq(p->f.result[0], 0);
	ck_assert_int_eq(p->f.result[1], 0);
	ck_assert_int_eq(p->f.result[2], -ESTALE);
	ck_assert_int_eq(p->f.result[3], -ESTALE);
	ck_assert_int_eq(p->f.result[4], -ESTALE);
	ck_assert_int_eq(p->f.result[5], -EIO);
	ck_assert_int_eq(p->f.result[6], 0);
	ck_assert_int_eq(p->f.result[7], -EAGAIN);
	put_free(p);
	cluster_release(&c);
}
END_TEST

/* Who gives way to others gives way with what is read back, too. */
START_TEST(put_exists_in_background)
{
	struct bandwidth *bw = bandwidth_create(0, 1 << 20);
	struct cluster c;
	struct put *p;

	cluster_init(&c, 1, _i);
	cluster_fill(&c);
	c.b[0] = layer_limit(c.b[0], 0, bw);
	/* An hour's debt of the background: others do not wait for it. */
	bandwidth_take(bw, BANDWIDTH_DOWN, 1, 3600ull << 20);
	for (int background = 0; background < 2; background++) {
		p = put_new(&c, 1);
		if (background) {
			p->f.flags |= BACKEND_BACKGROUND;
			p->f.deadline = clock_mono_ns() + NS_PER_S / 4;
		}
		fanout_put(&p->f);
		put_finish(p);
		ck_assert_int_eq(p->f.result[0], background ? -ETIMEDOUT : 0);
		put_free(p);
	}
	cluster_release(&c);
	bandwidth_destroy(bw);
}
END_TEST

START_TEST(put_cancel)
{
	struct fault_rule hang = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct cluster c;
	struct put *p;

	cluster_init(&c, 4, _i);
	cluster_fault(&c, 0x05, hang);
	p = put_new(&c, 0x0f);
	fanout_put(&p->f);
	ck_assert_int_eq(p->dones, 0);
	fanout_put_cancel(&p->f);
	put_finish(p);
	ck_assert_int_eq(p->f.result[0], -ECANCELED);
	ck_assert_int_eq(p->f.result[2], -ECANCELED);
	fanout_put_cancel(&p->f);
	ck_assert_int_eq(p->dones, 1);
	put_free(p);
	cluster_release(&c);
}
END_TEST

START_TEST(put_cancel_storm)
{
	struct fault_rule delay = {
		.op = -1, .prefix = "", .action = FAULT_DELAY, .delay = 200000
	};
	struct cluster c;

	cluster_init(&c, 5, 2);
	cluster_fault(&c, 0x0b, delay);
	for (int i = 0; i < 200; i++) {
		struct put *p = put_new(&c, 0x1f);
		struct timespec pause = { .tv_nsec = (i % 30) * 20000 };

		fanout_put(&p->f);
		nanosleep(&pause, NULL);
		fanout_put_cancel(&p->f);
		put_finish(p);
		for (int j = 0; j < 5; j++)
			ck_assert(p->f.result[j] == 0 || p->f.result[j] == -ECANCELED);
		put_free(p);
	}
	cluster_release(&c);
}
END_TEST

START_TEST(put_bad_arguments)
{
	struct cluster c;
	struct put *p;

	cluster_init(&c, 3, 0);
	p = put_new(&c, 0x0f);
	fanout_put(&p->f);
	flight_wait(&p->flight, 1);
	ck_assert_int_eq(p->f.result[0], -EINVAL);
	ck_assert_int_eq(p->dones, 1);
	put_free(p);
	cluster_release(&c);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fanout");
	TCase *tc = tcase_create("fanout");
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 100);
	tcase_add_loop_test(tc, get_all_subsets, 0, WAYS);
	tcase_add_loop_test(tc, get_all_subsets_threads, 0, WAYS);
	tcase_add_test(tc, get_asks);
	tcase_add_test(tc, get_extra);
	tcase_add_test(tc, get_deadline);
	tcase_add_test(tc, get_cancel);
	tcase_add_test(tc, get_cancel_storm);
	tcase_add_test(tc, get_health);
	tcase_add_test(tc, get_bad_arguments);
	tcase_add_loop_test(tc, put_all_subsets, 0, 2);
	tcase_add_loop_test(tc, put_exists, 0, 2);
	tcase_add_loop_test(tc, put_exists_in_background, 0, 2);
	tcase_add_loop_test(tc, put_cancel, 0, 2);
	tcase_add_test(tc, put_cancel_storm);
	tcase_add_test(tc, put_bad_arguments);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
