/* Who else is asked when some are slow, and what that costs. */
#include "tests/unit/fanout_fixture.h"

/* One of the first k hangs: another is asked after the hedge, and the loser is cancelled. */
START_TEST(get_hedge)
{
	struct fault_rule hang = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct cluster c;
	struct get *g;
	int64_t begun, took;

	cluster_init(&c, 4, 1);
	cluster_fill(&c);
	cluster_fault(&c, 0x02, hang);
	g = get_new(&c, 2);
	get_hedge_after(g, 30 * NS_PER_MS);
	begun = clock_mono_ns();
	fanout_get(&g->f);
	get_finish(g);
	took = clock_mono_ns() - begun;
	ck_assert_int_eq(g->f.result, 0);
	ck_assert_uint_eq(g->f.good, 0x05);
	ck_assert_int_ge(took, 29 * NS_PER_MS);
	ck_assert_int_lt(took, 5 * NS_PER_S);
	get_free(g);
	cluster_release(&c);
}
END_TEST

/* Each backend has a hedge of its own: the one that is known to be slow is given its time. */
START_TEST(get_hedge_own)
{
	struct fault_rule delay = {
		.op = -1, .prefix = "", .action = FAULT_DELAY, .delay = 150 * NS_PER_MS
	};
	struct cluster c;
	struct get *g;

	cluster_init(&c, 4, 1);
	cluster_fill(&c);
	cluster_count(&c);
	c.rule[1] = delay;
	g = get_new(&c, 2);
	get_hedge_after(g, 20 * NS_PER_MS);
	g->f.hedge[1] = 10 * NS_PER_S;
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, 0);
	ck_assert_uint_eq(g->f.good, 0x03);
	ck_assert_uint_eq(cluster_asked(&c), 2);
	get_free(g);
	cluster_release(&c);
}
END_TEST

/* An extra one that was asked from the start is the hedge of the first that is slow. */
START_TEST(get_extra_is_hedge)
{
	struct fault_rule hang = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct cluster c;

	for (int hanging = 1; hanging < 3; hanging++) {
		struct get *g;

		cluster_init(&c, 6, 1);
		cluster_fill(&c);
		cluster_count(&c);
		for (int i = 0; i < hanging; i++)
			c.rule[i] = hang;
		g = get_new(&c, 3);
		g->f.extra = 1;
		get_hedge_after(g, 20 * NS_PER_MS);
		fanout_get(&g->f);
		get_finish(g);
		ck_assert_int_eq(g->f.result, 0);
		ck_assert_uint_eq(cluster_asked(&c), 3u + (unsigned)hanging);
		get_free(g);
		cluster_release(&c);
	}
}
END_TEST

/* All are slow, always: hedges are 5 % of the requests and no more; what is slower than `rescue` is
 * replaced in any case. */
START_TEST(get_hedge_budget)
{
	enum { GETS = 200, K = 2 };
	struct fault_rule delay = {
		.op = -1, .prefix = "", .action = FAULT_DELAY, .delay = 3 * NS_PER_MS
	};
	struct fault_rule hang = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct fanout_budget budget;
	struct cluster c;
	struct get *g;
	uint64_t asked;

	fanout_budget_init(&budget, 16);
	cluster_init(&c, 4, 1);
	cluster_fill(&c);
	cluster_fault(&c, 0x0f, delay);
	for (int i = 0; i < GETS; i++) {
		g = get_new(&c, K);
		get_hedge_after(g, NS_PER_MS / 2);
		g->f.budget = &budget;
		fanout_get(&g->f);
		get_finish(g);
		ck_assert_int_eq(g->f.result, 0);
		get_free(g);
	}
	asked = cluster_asked(&c);
	ck_assert_uint_gt(asked, GETS * K + GETS * K / 40);
	ck_assert_uint_le(asked, GETS * K + GETS * K / 19 + 1);
	ck_assert_int_eq(budget.running, 0);
	/* Nothing left for a hedge; hanging ones are replaced all the same. */
	budget.tokens = 0;
	cluster_fault(&c, 0x01, hang);
	g = get_new(&c, K);
	get_hedge_after(g, NS_PER_MS);
	g->f.rescue = 50 * NS_PER_MS;
	g->f.budget = &budget;
	fanout_get(&g->f);
	get_finish(g);
	ck_assert_int_eq(g->f.result, 0);
	ck_assert_uint_eq(g->f.good, 0x06);
	get_free(g);
	cluster_release(&c);
}
END_TEST

/* Where many gets are under way it is the queue that is slow: no hedge, however much was saved. */
START_TEST(get_hedge_busy)
{
	struct fault_rule delay = {
		.op = -1, .prefix = "", .action = FAULT_DELAY, .delay = 60 * NS_PER_MS
	};
	struct fanout_budget budget;
	struct cluster c;
	struct get *g[4];

	fanout_budget_init(&budget, 3);
	budget.tokens = 1000;
	cluster_init(&c, 4, 1);
	cluster_fill(&c);
	cluster_fault(&c, 0x0f, delay);
	for (int i = 0; i < 4; i++) {
		g[i] = get_new(&c, 2);
		get_hedge_after(g[i], 5 * NS_PER_MS);
		g[i]->f.budget = &budget;
		/* The last one makes it too many; the first three have not come to their hedge by
		 * then. */
		fanout_get(&g[i]->f);
	}
	for (int i = 0; i < 4; i++) {
		get_finish(g[i]);
		ck_assert_int_eq(g[i]->f.result, 0);
		get_free(g[i]);
	}
	ck_assert_int_ge(budget.tokens, 1000 - 20);
	cluster_release(&c);
}
END_TEST

/* The slowest is cancelled every time, so it never succeeds: it is known for slow all the same. */
START_TEST(get_loser_is_known)
{
	struct fault_rule delay = {
		.op = BACKEND_GET, .prefix = "", .action = FAULT_DELAY, .delay = 5 * NS_PER_S
	};
	struct fault_rule some = {
		.op = BACKEND_GET, .prefix = "", .action = FAULT_DELAY, .delay = 5 * NS_PER_MS
	};
	struct health_info info;
	struct cluster c;

	cluster_init(&c, 3, 1);
	cluster_fill(&c);
	cluster_fault(&c, 0x07, some);
	c.rule[0] = delay;
	for (int i = 0; i < 20; i++) {
		struct get *g = get_new(&c, 2);

		g->f.extra = 1;
		fanout_get(&g->f);
		get_finish(g);
		ck_assert_uint_eq(g->f.good, 0x06);
		get_free(g);
	}
	health_get(c.b[0], &info);
	ck_assert_int_ge(info.latency_get, 4 * NS_PER_MS);
	ck_assert_int_ge(health_get_p90(c.b[1], LEN), 4 * NS_PER_MS);
	ck_assert_int_lt(health_get_p90(c.b[1], LEN), NS_PER_S);
	ck_assert_int_eq(health_get_p90(c.b[1], 1 << 20), 0); /* of another size nothing is known */
	cluster_release(&c);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hedge");
	TCase *tc = tcase_create("hedge");
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 100);
	tcase_add_test(tc, get_hedge);
	tcase_add_test(tc, get_hedge_own);
	tcase_add_test(tc, get_extra_is_hedge);
	tcase_add_test(tc, get_hedge_budget);
	tcase_add_test(tc, get_hedge_busy);
	tcase_add_test(tc, get_loser_is_known);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
