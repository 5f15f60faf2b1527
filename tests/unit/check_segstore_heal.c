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

/* Nor does it where the memory is too small for two segments: what it still holds of one that is
 * stored must not keep the next one from being uploaded until its put's time is over. */
START_TEST(test_straggler_in_little_memory)
{
	rig_init(&r, 4, 2);
	r.memory = 1 << 20;
	rig_up(&r, 1);
	rig_start(&r);
	r.rule[3][0] = (struct fault_rule){ .op = BACKEND_PUT, .prefix = "", .action = FAULT_HANG };
	layer_fault_set(r.fault[3], r.rule[3], 1);
	for (uint64_t i = 0; i < 2; i++)
		one_segment(i + 1);
	ck_assert_int_eq(segstore_wait(r.st, SEG_STORED, clock_mono_ns() + 40 * NS_PER_S), 0);
	rig_check_all(&r);
}
END_TEST

static int append_to(struct rig *rig, int i)
{
	for (int t = 0; t < 100; t++) {
		int rc = rig_append(rig, 100000, (uint64_t)i);
		if (rc != -ENOSPC)
			return rc;
		ck_assert_int_eq(rig_commit(rig), 0);
		usleep(50000);
	}
	return -ENOSPC;
}

/* One backend away for long: what k + 1 others have may go from here, so writing goes on beyond the
 * cap. And one that lost everything does not turn a full cache into content that has to stay. */
START_TEST(test_one_away)
{
	struct segstore_state s;

	rig_init(&r, 2, 2);
	r.cap = 8 << 20;
	rig_up(&r, 1);
	rig_start(&r);
	rig_fault(&r, 3, FAULT_RESULT, -ENODEV);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(append_to(&r, i), 0);
	rig_sync_all(&r, SEG_STORED);
	WAIT_FOR((rig_commit(&r), segstore_state(r.st, &s),
		  s.staged_bytes + s.cached_bytes <= r.cap &&
		      s.staged_bytes - s.yield_bytes < r.cap / 4));
	ck_assert_uint_gt(s.staged_bytes, r.cap / 2);
	rig_no_fault(&r, 3);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_check_all(&r); /* the cache is full now */
	segstore_state(r.st, &s);
	ck_assert_uint_gt(s.cached_bytes, r.cap / 2);
	rig_down(&r);
	mem_store_destroy(r.store[3]);
	r.store[3] = mem_store_create();
	r.heal_rate = 1 << 10; /* does not get far */
	rig_up(&r, 0);
	rig_start(&r);
	WAIT_FOR((segstore_state(r.st, &s), s.below_n > 10));
	ck_assert_uint_gt(s.staged_bytes, r.cap / 2);
	ck_assert_uint_lt(s.staged_bytes - s.yield_bytes, r.cap / 4);
	for (int i = 200; i < 300; i++)
		ck_assert_int_eq(append_to(&r, i), 0);
	rig_check_all(&r);
}
END_TEST

/* A segment that is healed out of the others, slowly because bandwidth is limited, has neither the
 * memory nor the bandwidth that a reader needs. */
START_TEST(test_reader_beside_heal)
{
	struct segstore_state s;

	rig_init(&r, 4, 2);
	r.segment_size = 8 << 20;
	r.memory = 8 << 20;
	r.timeout = 3 * NS_PER_S;
	r.bandwidth = bandwidth_create(0, 0);
	rig_up(&r, 1);
	rig_start(&r);
	rig_fault(&r, 1, FAULT_RESULT, -ENODEV);
	for (uint64_t i = 0; i < 40; i++)
		ck_assert_int_eq(rig_append(&r, 90000, i), 0);
	rig_sync_all(&r, SEG_STORED);
	ck_assert_int_eq(rig_append(&r, 5000, 99), 0);
	rig_sync_all(&r, SEG_STORED);
	rig_down(&r);
	rig_wipe_cache(&r);
	rm_tree(rig_path(&r, "staging"));
	mkdir(rig_path(&r, "staging"), 0700);
	bandwidth_set(r.bandwidth, 0, 400000); /* 3.6 MB: 9 s */
	rig_up(&r, 0);
	rig_start(&r);
	/* Healing has begun: it has taken all that there is. */
	WAIT_FOR(bandwidth_when(r.bandwidth, BANDWIDTH_DOWN, 1, clock_mono_ns()) > 0);
	int64_t begin = clock_mono_ns();
	ck_assert_int_eq(rig_check(&r, 40), 0);
	ck_assert_int_lt(clock_mono_ns() - begin, 2 * NS_PER_S);
	/* Nor does it hold up what is nowhere yet. */
	begin = clock_mono_ns();
	ck_assert_int_eq(rig_append(&r, 5000, 100), 0);
	rig_sync_all(&r, SEG_STORED);
	ck_assert_int_lt(clock_mono_ns() - begin, 4 * NS_PER_S);
	segstore_state(r.st, &s);
	ck_assert_uint_ge(s.below_n, 1);
	bandwidth_set(r.bandwidth, 0, 0);
	WAIT_FOR((segstore_state(r.st, &s), s.below_n == 0));
	rig_check_all(&r);
	rig_down(&r);
	bandwidth_destroy(r.bandwidth);
	r.bandwidth = NULL;
}
END_TEST

/* The first `times` gets of each backend hang; 0: all. */
static void gets_hang(unsigned times)
{
	for (int i = 0; i < r.n; i++) {
		r.rule[i][0] = (struct fault_rule){
			.op = BACKEND_GET, .prefix = "", .times = times, .action = FAULT_HANG
		};
		layer_fault_set(r.fault[i], r.rule[i], 1);
	}
}

static uint64_t gets_that_hung(void)
{
	uint64_t n = 0;

	for (int i = 0; i < r.n; i++)
		n += __atomic_load_n(&r.rule[i][0].fired, __ATOMIC_RELAXED);
	return n;
}

/* Nor has what it fetches all of a small memory, which a backend that hangs would let it keep for
 * as long as its requests have time. */
START_TEST(test_reader_beside_heal_that_hangs)
{
	struct segstore_state s;

	rig_init(&r, 4, 2);
	r.segment_size = 8 << 20;
	r.memory = 8 << 20;
	r.timeout = 4 * NS_PER_S;
	rig_up(&r, 1);
	rig_start(&r);
	rig_fault(&r, 1, FAULT_RESULT, -ENODEV);
	for (uint64_t i = 0; i < 40; i++)
		ck_assert_int_eq(rig_append(&r, 90000, i), 0);
	rig_sync_all(&r, SEG_STORED);
	ck_assert_int_eq(rig_append(&r, 5000, 99), 0);
	rig_sync_all(&r, SEG_STORED);
	rig_down(&r);
	rig_wipe_cache(&r);
	rm_tree(rig_path(&r, "staging"));
	mkdir(rig_path(&r, "staging"), 0700);
	rig_up(&r, 0);
	gets_hang(1);
	rig_start(&r);
	/* k of the heal's first requests hang; nobody else's do. */
	WAIT_FOR(gets_that_hung() >= 4);
	int64_t begin = clock_mono_ns();
	ck_assert_int_eq(rig_check(&r, 40), 0);
	ck_assert_int_lt(clock_mono_ns() - begin, 2 * NS_PER_S);
	WAIT_FOR((segstore_state(r.st, &s), s.below_n == 0));
	rig_check_all(&r);
}
END_TEST

/* Nor does read-ahead take all of it. */
START_TEST(test_reader_beside_read_ahead)
{
	rig_init(&r, 4, 2);
	r.segment_size = 8 << 20;
	r.memory = 8000000; /* two transfers of half a quarter, and not one extent more */
	r.timeout = 4 * NS_PER_S;
	rig_up(&r, 1);
	rig_start(&r);
	for (uint64_t i = 0; i < 40; i++)
		ck_assert_int_eq(rig_append(&r, 90000, 5 * i), 0);
	rig_sync_all(&r, SEG_DISPERSED);
	ck_assert_int_eq(rig_append(&r, 90000, 99), 0);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_down(&r);
	rig_wipe_cache(&r);
	rm_tree(rig_path(&r, "staging"));
	mkdir(rig_path(&r, "staging"), 0700);
	rig_up(&r, 0);
	gets_hang(0);
	rig_start(&r);
	segstore_prefetch(r.st, r.pieces[0].loc.seg, 0, 40);
	ck_assert_uint_ge(gets_that_hung(), 4);
	for (int i = 0; i < r.n; i++)
		rig_no_fault(&r, i); /* for those that come */
	int64_t begin = clock_mono_ns();
	ck_assert_int_eq(rig_check(&r, 40), 0);
	ck_assert_int_lt(clock_mono_ns() - begin, 2 * NS_PER_S);
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
	tcase_add_test(c, test_straggler_in_little_memory);
	tcase_add_test(c, test_one_away);
	tcase_add_test(c, test_reader_beside_heal);
	tcase_add_test(c, test_reader_beside_heal_that_hangs);
	tcase_add_test(c, test_reader_beside_read_ahead);
	suite_add_tcase(s, c);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
