/* Healing and hanging: how fast a backend gets what it lacks, and how long it may hold others up.
 */
#include "tests/unit/segstore_fixture.h"

static struct rig r;

static void teardown(void)
{
	rig_release(&r);
}

static void one_segment(uint64_t seed)
{
	for (uint64_t i = 0; i < 11; i++)
		ck_assert_int_eq(rig_append(&r, 90000, 100 * seed + i), 0);
	segstore_flush(r.st);
	ck_assert_int_eq(rig_commit(&r), 0);
}

/* Healing moves so many bytes per second, and no more; faster when somebody waits for it. */
START_TEST(test_heal_rate)
{
	struct segstore_state s;

	rig_init(&r, 4, 2);
	r.heal_rate = 1 << 20;
	for (int hurry = 0; hurry < 2; hurry++) {
		rig_up(&r, 0 == hurry);
		rig_start(&r);
		rig_fault(&r, 1, FAULT_RESULT, -ENODEV);
		for (uint64_t i = 0; i < 12; i++)
			one_segment(i + 1);
		ck_assert_int_eq(segstore_wait(r.st, SEG_STORED, clock_mono_ns() + 20 * NS_PER_S),
				 0);
		segstore_state(r.st, &s);
		ck_assert_uint_eq(s.below_n, 12);
		ck_assert_uint_gt(s.heal_bytes, 12 * 240000);
		rig_no_fault(&r, 1);
		WAIT_FOR((segstore_state(r.st, &s), s.below_n < 12));
		int64_t begin = clock_mono_ns();
		if (hurry)
			ck_assert_int_eq(segstore_wait(r.st, SEG_DISPERSED, begin + 20 * NS_PER_S),
					 0);
		WAIT_FOR((segstore_state(r.st, &s), s.below_n == 0));
		int64_t took = clock_mono_ns() - begin;
		/* 11 x 250 KB: 2.6 s; not in lumps of the clock's 0.5 s either. */
		if (!hurry)
			ck_assert_int_gt(took, 2200 * NS_PER_MS);
		ck_assert_int_lt(took, (hurry ? 2 : 5) * NS_PER_S);
		rig_down(&r);
	}
	rig_up(&r, 0);
	rig_start(&r);
	rig_check_all(&r);
}
END_TEST

/* One that takes puts and never answers holds nobody up for long, and is named. */
START_TEST(test_straggler)
{
	struct segstore_state s;
	struct health_info h;

	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	rig_start(&r);
	r.rule[3][0] = (struct fault_rule){ .op = BACKEND_PUT, .prefix = "", .action = FAULT_HANG };
	layer_fault_set(r.fault[3], r.rule[3], 1);
	for (uint64_t i = 0; i < 6; i++)
		one_segment(i + 1);
	int64_t begin = clock_mono_ns();
	ck_assert_int_eq(segstore_wait(r.st, SEG_STORED, begin + 40 * NS_PER_S), 0);
	health_get(r.health[3], &h);
	ck_assert_int_eq(h.state, HEALTH_DOWN);
	for (int i = 0; i < 6; i++) {
		health_get(r.health[i], &h);
		ck_assert(i == 3 || h.state == HEALTH_OK);
	}
	segstore_state(r.st, &s);
	ck_assert_uint_eq(s.stored, 6);
	rig_no_fault(&r, 3);
	/* What hangs ends when the store is closed; it goes on afterwards. */
	rig_down(&r);
	rig_up(&r, 0);
	rig_start(&r);
	ck_assert_int_eq(segstore_wait(r.st, SEG_DISPERSED, clock_mono_ns() + 20 * NS_PER_S), 0);
	rig_check_all(&r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("segstore healing");
	TCase *c = tcase_create("all");

	if (!getenv("SEGSTORE_LOG"))
		log_set_level(LOG_LV_ERROR);
	tcase_add_checked_fixture(c, NULL, teardown);
	tcase_set_timeout(c, 110);
	tcase_add_test(c, test_heal_rate);
	tcase_add_test(c, test_straggler);
	suite_add_tcase(s, c);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
