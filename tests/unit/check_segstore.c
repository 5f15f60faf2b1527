/* The segment store while all is well: appending, reading, rows, uploading, cache, dropping. What
 * goes wrong: check_segstore_fault.c. */
#include "tests/unit/segstore_fixture.h"

static struct rig r;

static void teardown(void)
{
	rig_release(&r);
	failpoint_load("");
}

START_TEST(test_append_read)
{
	static const uint32_t lens[] = { 1, 15, 16, 4096, 5000, 65536, 131071, 131072 };

	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	ck_assert_int_eq(rig_append(&r, 5, 5), 0);
	ck_assert_uint_gt(segstore_unsynced(r.st), 0);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(rig_append(&r, lens[i % 8], (uint64_t)i), 0);
	rig_check_all(&r); /* out of memory */
	ck_assert_int_eq(segstore_sync(r.st), 0);
	ck_assert_uint_eq(segstore_unsynced(r.st), 0);
	rig_check_all(&r);
	ck_assert_int_eq(rig_commit(&r), 0);
	rig_check_all(&r);
	segstore_flush(r.st);
	ck_assert_int_eq(rig_commit(&r), 0);
	rig_check_all(&r); /* out of files */
	struct segstore_state s;
	segstore_state(r.st, &s);
	ck_assert_uint_eq(s.open, 0);
	ck_assert_uint_ge(s.closed, 3);
	ck_assert_int_eq(s.losses_survivable, 2);
}
END_TEST

/* Several pieces at once, reads across extents from any position, and their arithmetic. */
START_TEST(test_spans)
{
	uint8_t *data = malloc(64 * 7000), *got = malloc(64 * 7000);
	struct seg_piece p[64];
	struct seg_loc loc;
	struct seg_miss miss;

	rig_init(&r, 3, 1);
	rig_up(&r, 1);
	fill(data, 64 * 7000, 7);
	for (int i = 0; i < 64; i++)
		p[i] = (struct seg_piece){ .data = data + i * 7000, .len = 7000 };
	ck_assert_int_eq(segstore_append(r.st, NULL, p, 64, &loc), 0);
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t first = 0; first < 64; first += 9) {
			for (uint64_t skip = 0; skip < 30000; skip += 4999) {
				uint64_t at = first * 7000ull + skip;
				for (size_t len = 1; at + len <= 64 * 7000; len = len * 3 + 11) {
					int rc = segstore_read(r.st, loc.seg, loc.first + first,
							       skip, got, len, &miss);
					ck_assert_int_eq(rc, 0);
					ck_assert_mem_eq(got, data + at, len);
				}
			}
		}
		segstore_flush(r.st);
		ck_assert_int_eq(segstore_sync(r.st), 0);
	}
	ck_assert_int_eq(segstore_read(r.st, loc.seg, 64, 0, got, 1, &miss), -EINVAL);
	ck_assert_int_eq(segstore_read(r.st, loc.seg, 63, 6999, got, 2, &miss), -EINVAL);
	ck_assert_int_eq(segstore_read(r.st, 9999, 0, 0, got, 1, &miss), -EINVAL);
	ck_assert_int_eq(segstore_continues(r.st, loc.seg, 3, 7000, 4, 0), 1);
	ck_assert_int_eq(segstore_continues(r.st, loc.seg, 3, 14005, 4, 7005), 1);
	ck_assert_int_eq(segstore_continues(r.st, loc.seg, 3, 14005, 5, 5), 1);
	ck_assert_int_eq(segstore_continues(r.st, loc.seg, 3, 14005, 5, 6), 0);
	ck_assert_int_eq(segstore_continues(r.st, loc.seg, 3, 5, 3, 5), 1);
	p[0].len = r.extent_max + 1;
	ck_assert_int_eq(segstore_append(r.st, NULL, p, 1, &loc), -EINVAL);
	p[0].len = 0;
	ck_assert_int_eq(segstore_append(r.st, NULL, p, 1, &loc), -EINVAL);
	free(data);
	free(got);
}
END_TEST

/* Segments end when they are full, at 8,192 extents, when old; a lane has one of its own. */
START_TEST(test_closing)
{
	struct seg_piece p = { .data = "x", .len = 1 };
	struct seg_lane *lane[5];
	struct seg_loc loc, other;

	rig_init(&r, 2, 1);
	r.segment_size = 4 << 20;
	r.flush_idle = 300 * NS_PER_MS;
	rig_up(&r, 1);
	ck_assert_int_eq(segstore_append(r.st, NULL, &p, 1, &loc), 0);
	for (int i = 1; i < 8192; i++)
		ck_assert_int_eq(segstore_append(r.st, NULL, &p, 1, &other), 0);
	ck_assert_uint_eq(other.seg, loc.seg);
	ck_assert_uint_eq(other.first, 8191);
	ck_assert_int_eq(segstore_append(r.st, NULL, &p, 1, &other), 0);
	ck_assert_uint_ne(other.seg, loc.seg);
	ck_assert_uint_eq(other.first, 0);
	for (int i = 0; i < 4; i++)
		ck_assert_ptr_nonnull(lane[i] = segstore_lane_take(r.st));
	ck_assert_ptr_null(segstore_lane_take(r.st));
	ck_assert_int_eq(segstore_append(r.st, lane[1], &p, 1, &loc), 0);
	ck_assert_uint_ne(other.seg, loc.seg);
	segstore_lane_give(r.st, lane[1]);
	ck_assert_ptr_nonnull(segstore_lane_take(r.st));
	struct segstore_state s;
	WAIT_FOR((segstore_state(r.st, &s), s.open == 0)); /* idle */
}
END_TEST

START_TEST(test_reopen)
{
	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	for (int i = 0; i < 60; i++)
		ck_assert_int_eq(rig_append(&r, 50000, (uint64_t)i), 0);
	ck_assert_int_eq(rig_commit(&r), 0);
	rig_down(&r);
	rig_up(&r, 0);
	rig_check_all(&r);
	ck_assert_int_eq(rig_commit(&r), 0);
	rig_down(&r);
	rig_up(&r, 0); /* now by the index in the database */
	rig_check_all(&r);
	rig_start(&r);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_check_all(&r);
}
END_TEST

static void upload_and_read(int k, int m, int compress)
{
	rig_init(&r, k, m);
	r.compress = compress;
	rig_up(&r, 1);
	rig_start(&r);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(rig_append(&r, 30000 + (uint32_t)i * 997, (uint64_t)i), 0);
	rig_sync_all(&r, SEG_DISPERSED);
	struct segstore_state s;
	segstore_state(r.st, &s);
	ck_assert_uint_eq(s.below_n, 0);
	ck_assert_uint_gt(s.dispersed, 0);
	ck_assert_uint_eq(s.to_upload_bytes + s.heal_bytes, 0);
	for (int i = 0; i < r.n; i++)
		ck_assert_uint_eq(mem_store_count(r.store[i]), s.dispersed);
	WAIT_FOR(files_in(rig_path(&r, "staging"), ".seg") == 0);
	WAIT_FOR(files_in(rig_path(&r, "cache"), ".seg") == (int)s.dispersed);
	struct seg_where w;
	ck_assert_int_eq(segstore_where(r.st, r.pieces[0].loc.seg, &w), 0);
	ck_assert_int_eq(w.level, SEG_DISPERSED);
	ck_assert_uint_eq(w.present, (1u << r.n) - 1);
	rig_check_all(&r);
	rig_down(&r);
	rig_wipe_cache(&r);
	rig_up(&r, 0);
	rig_start(&r);
	ck_assert_int_eq(segstore_where(r.st, r.pieces[0].loc.seg, &w), 0);
	ck_assert_int_eq(w.cached, 0);
	rig_check_all(&r); /* out of the backends */
	segstore_state(r.st, &s);
	ck_assert_uint_gt(s.cached_bytes, 0);
}

START_TEST(test_upload_4_2)
{
	upload_and_read(4, 2, 0);
}
END_TEST
START_TEST(test_upload_zstd)
{
	upload_and_read(4, 2, 1);
}
END_TEST
START_TEST(test_upload_1_2)
{
	upload_and_read(1, 2, 0);
}
END_TEST
START_TEST(test_upload_3_0)
{
	upload_and_read(3, 0, 0);
}
END_TEST
START_TEST(test_upload_5_3)
{
	upload_and_read(5, 3, 1);
}
END_TEST

/* Any m backends gone: all reads go on. One more: EIO, at once or at the deadline. */
START_TEST(test_any_m_gone)
{
	rig_init(&r, 4, 2);
	r.timeout = 2 * NS_PER_S;
	rig_up(&r, 1);
	rig_start(&r);
	for (int i = 0; i < 40; i++)
		ck_assert_int_eq(rig_append(&r, 60000 + (uint32_t)i * 101, (uint64_t)i), 0);
	rig_sync_all(&r, SEG_DISPERSED);
	for (int a = 0; a < 6; a++) {
		for (int b = a + 1; b < 6; b++) {
			rig_down(&r);
			rig_wipe_cache(&r);
			rig_up(&r, 0);
			rig_fault(&r, a, FAULT_RESULT, -ENODEV);
			rig_fault(&r, b, a % 2 ? FAULT_HANG : FAULT_RESULT, -EAGAIN);
			rig_check_all(&r);
		}
	}
	rig_down(&r);
	rig_wipe_cache(&r);
	rig_up(&r, 0);
	for (int i = 0; i < 3; i++)
		rig_fault(&r, i, FAULT_RESULT, -ENODEV);
	int64_t begin = clock_mono_ns();
	ck_assert_int_eq(rig_check(&r, 0), -EIO);
	ck_assert_int_lt(clock_mono_ns() - begin, 4 * NS_PER_S);
}
END_TEST

/* Gets of shards, over all backends, since the last call of count_gets. */
static void count_gets(void)
{
	for (int i = 0; i < r.n; i++) {
		r.rule[i][0] =
		    (struct fault_rule){ .op = BACKEND_GET, .prefix = "s/", .times = UINT32_MAX };
		layer_fault_set(r.fault[i], r.rule[i], 1);
	}
}

static unsigned asked(void)
{
	unsigned sum = 0;

	for (int i = 0; i < r.n; i++)
		sum += (unsigned)__atomic_load_n(&r.rule[i][0].inner, __ATOMIC_RELAXED);
	return sum;
}

/* One segment of 16 extents of 64 KiB on all backends, nothing of it here. */
static void one_cold_segment(void)
{
	for (int i = 0; i < 16; i++)
		ck_assert_int_eq(rig_append(&r, 65536, (uint64_t)i), 0);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_down(&r);
	rig_wipe_cache(&r);
	rig_up(&r, 0);
	rig_start(&r);
	count_gets();
}

/* What reads cost in requests: k + 1 of one extent, k of many adjacent ones, whatever their number;
 * and nothing the second time. */
START_TEST(test_requests)
{
	uint8_t *got = malloc(16 * 65536);

	rig_init(&r, 4, 2);
	r.segment_size = 8 << 20;
	rig_up(&r, 1);
	rig_start(&r);
	one_cold_segment();
	struct seg_loc at = r.pieces[0].loc;
	ck_assert_int_eq(rig_read(&r, at.seg, at.first + 2, 0, got, 65536), 0);
	ck_assert_uint_eq(asked(), 5);
	ck_assert_int_eq(rig_read(&r, at.seg, at.first + 2, 0, got, 65536), 0);
	ck_assert_uint_eq(asked(), 5);
	rig_down(&r);
	rig_wipe_cache(&r);
	rig_up(&r, 0);
	rig_start(&r);
	count_gets();
	ck_assert_int_eq(rig_read(&r, at.seg, at.first, 0, got, 16 * 65536), 0);
	ck_assert_uint_eq(asked(), 4);
	rig_check_all(&r);
	ck_assert_uint_eq(asked(), 4);
	free(got);
}
END_TEST

/* Where bandwidth is limited there is no request too many, and none that takes longer than about a
 * second; readers get their bytes although all of them together take longer than the time that one
 * has. */
START_TEST(test_limited)
{
	enum { RATE = 400000 };
	uint8_t *got = malloc(16 * 65536);

	rig_init(&r, 4, 2);
	r.segment_size = 8 << 20;
	r.timeout = NS_PER_S;
	r.bandwidth = bandwidth_create(0, RATE);
	rig_up(&r, 1);
	rig_start(&r);
	one_cold_segment();
	struct seg_loc at = r.pieces[0].loc;
	int64_t begun = clock_mono_ns();
	ck_assert_int_eq(rig_read(&r, at.seg, at.first, 0, got, 16 * 65536), 0);
	/* 1 MiB: three pieces or a little more, of k requests each */
	ck_assert_uint_ge(asked(), 12);
	ck_assert_uint_le(asked(), 16);
	ck_assert_int_ge(clock_mono_ns() - begun, 1500 * NS_PER_MS);
	for (int i = 0; i < r.n; i++) {
		struct health_info h;

		/* The queue is ours: no backend is slow for it. */
		health_get(r.health[i], &h);
		ck_assert_int_lt(h.latency_get, NS_PER_S / 4);
	}
	rig_check_all(&r);
	free(got);
	rig_down(&r);
	bandwidth_destroy(r.bandwidth);
	r.bandwidth = NULL;
}
END_TEST

/* Eight segments wait, and every put hangs. Returns how many are on their way at the first backend.
 */
static unsigned puts_at_once(unsigned expected)
{
	struct fault_rule *rule = &r.rule[0][0];

	for (int i = 0; i < r.n; i++)
		rig_fault(&r, i, FAULT_HANG, 0);
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(rig_append(&r, 65536, 100 + (uint64_t)i), 0);
		segstore_flush(r.st);
	}
	ck_assert_int_eq(rig_commit(&r), 0);
	WAIT_FOR(__atomic_load_n(&rule->fired, __ATOMIC_RELAXED) >= expected);
	ck_assert_int_eq(rig_commit(&r), 0); /* whatever else would start, starts */
	ck_assert_int_eq(rig_commit(&r), 0);
	return (unsigned)__atomic_load_n(&rule->fired, __ATOMIC_RELAXED);
}

/* Two segments are uploaded at once; four where the last one showed that the way is fast. */
START_TEST(test_uploads_at_once)
{
	int fast = _i;

	rig_init(&r, 4, 2);
	r.segment_size = 8 << 20;
	rig_up(&r, 1);
	rig_start(&r);
	if (fast) {
		/* Big, so that what goes by for other reasons does not count. */
		for (int i = 0; i < 100; i++)
			ck_assert_int_eq(rig_append(&r, 65536, (uint64_t)i), 0);
		rig_sync_all(&r, SEG_DISPERSED);
	}
	ck_assert_uint_eq(puts_at_once(fast ? 4 : 2), fast ? 4 : 2);
	rig_down(&r);
}
END_TEST

/* The cap: what is dispersed is evicted, what is not fills up to ENOSPC. */
START_TEST(test_cap)
{
	int rc = 0;

	rig_init(&r, 2, 1);
	r.cap = 6 << 20;
	rig_up(&r, 1);
	for (int i = 0; i < 200 && !rc; i++)
		rc = rig_append(&r, 100000, (uint64_t)i);
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_int_ge(r.npieces, 55);
	rig_check_all(&r);
	rig_start(&r);
	rig_sync_all(&r, SEG_DISPERSED);
	/* All of it may go now: three times the cap passes through. */
	for (int i = 0; i < 180; i++) {
		for (int t = 0;
		     (rc = rig_append(&r, 100000, 1000 + (uint64_t)i)) == -ENOSPC && t < 50; t++)
			rig_sync_all(&r, SEG_DISPERSED);
		ck_assert_int_eq(rc, 0);
	}
	rig_sync_all(&r, SEG_DISPERSED);
	struct segstore_state s;
	WAIT_FOR((segstore_state(r.st, &s), s.cached_bytes + s.staged_bytes <= r.cap));
	rig_check_all(&r); /* evicted ones are fetched, and evict others */
	segstore_state(r.st, &s);
	ck_assert_uint_le(s.cached_bytes + s.staged_bytes, r.cap + (1 << 20));
}
END_TEST

/* No row names it any more: file gone; its objects stay for whoever publishes. */
START_TEST(test_drop)
{
	struct segstore_state s;
	uint64_t freed;

	rig_init(&r, 2, 1);
	rig_up(&r, 1);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(rig_append(&r, 100000, (uint64_t)i), 0);
	segstore_flush(r.st);
	ck_assert_int_eq(rig_commit(&r), 0);
	ck_assert_int_eq(files_in(rig_path(&r, "staging"), ".seg"), 1);
	meta_lock(r.meta);
	while (run_clear(r.meta, 1000, 0, INT64_MAX, 1000, &freed) == -EAGAIN)
		;
	meta_unlock(r.meta);
	segstore_ref(r.st, r.pieces[0].loc.seg); /* somebody reads it */
	ck_assert_int_eq(rig_commit(&r), 0);
	ck_assert_int_eq(rig_commit(&r), 0);
	ck_assert_int_eq(rig_check(&r, 0), 0);
	segstore_unref(r.st, r.pieces[0].loc.seg);
	ck_assert_int_eq(rig_commit(&r), 0);
	WAIT_FOR((segstore_state(r.st, &s), !rig_files(&r) && !s.staged_bytes));
	ck_assert_int_eq(rig_check(&r, 0), -EINVAL);
	/* The same with objects. */
	r.npieces = 0;
	rig_start(&r);
	ck_assert_int_eq(rig_append(&r, 100000, 77), 0);
	rig_sync_all(&r, SEG_DISPERSED);
	meta_lock(r.meta);
	ck_assert_int_eq(run_clear(r.meta, 1000, 0, INT64_MAX, 1000, &freed), 0);
	meta_unlock(r.meta);
	WAIT_FOR((rig_commit(&r), rig_files(&r) == 0));
	WAIT_FOR((segstore_state(r.st, &s), s.dropped == 1));
	ck_assert_uint_eq(mem_store_count(r.store[0]), 1);
	rig_down(&r);
	rig_up(&r, 0);
	segstore_state(r.st, &s);
	ck_assert_uint_eq(s.dropped, 1);
}
END_TEST

/* Threads that append, read, flush, and a cap that evicts meanwhile. */
static atomic_int stop_all, appended;

static void *appender(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg << 32;
	struct seg_lane *lane = segstore_lane_take(r.st);
	uint8_t *data = malloc(4 * 20000), *got = malloc(4 * 20000);

	for (int i = 0; i < 300; i++) {
		struct seg_piece p[4];
		struct seg_loc loc;
		struct seg_miss miss;
		fill(data, 4 * 20000, ++seed);
		for (int j = 0; j < 4; j++)
			p[j] = (struct seg_piece){ .data = data + j * 20000, .len = 20000 };
		int rc = segstore_append(r.st, i % 3 ? lane : NULL, p, 4, &loc);
		if (rc == -ENOSPC) {
			usleep(5000);
			continue;
		}
		ck_assert_int_eq(rc, 0);
		rc = segstore_read(r.st, loc.seg, loc.first, 0, got, 4 * 20000, &miss);
		ck_assert_int_eq(rc, 0);
		ck_assert_mem_eq(got, data, 4 * 20000);
		pthread_mutex_lock(&r.lock);
		struct piece *q = &r.pieces[r.npieces++];
		*q = (struct piece){ .loc = loc, .len = 4 * 20000, .seed = seed };
		pthread_mutex_unlock(&r.lock);
		atomic_fetch_add(&appended, 1);
	}
	segstore_lane_give(r.st, lane);
	free(data);
	free(got);
	return NULL;
}

static void *reader(void *arg)
{
	unsigned x = (unsigned)(uintptr_t)arg;

	while (!atomic_load(&stop_all)) {
		pthread_mutex_lock(&r.lock);
		int n = r.npieces;
		pthread_mutex_unlock(&r.lock);
		if (!n)
			continue;
		pthread_mutex_lock(&r.lock);
		struct piece p = r.pieces[rand_r(&x) % (unsigned)n];
		pthread_mutex_unlock(&r.lock);
		uint8_t want[4 * 20000], got[4 * 20000];
		fill(want, p.len, p.seed);
		uint32_t from = (uint32_t)rand_r(&x) % p.len;
		uint32_t len = 1 + (uint32_t)rand_r(&x) % (p.len - from);
		int rc = rig_read(&r, p.loc.seg, p.loc.first, from, got, len);
		ck_assert_msg(!rc, "%s", strerror(-rc));
		ck_assert_mem_eq(got, want + from, len);
	}
	return NULL;
}

static void *committer(void *arg)
{
	(void)arg;
	for (int i = 0; !atomic_load(&stop_all); i++) {
		if (i % 4 == 0)
			segstore_flush(r.st);
		ck_assert_int_eq(rig_commit(&r), 0);
		usleep(10000);
	}
	return NULL;
}

START_TEST(test_threads)
{
	pthread_t t[6];

	rig_init(&r, 4, 2);
	r.cap = 20 << 20;
	rig_up(&r, 1);
	rig_start(&r);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, appender, (void *)(uintptr_t)(i + 1));
	for (int i = 3; i < 5; i++)
		pthread_create(&t[i], NULL, reader, (void *)(uintptr_t)(i + 1));
	pthread_create(&t[5], NULL, committer, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	atomic_store(&stop_all, 1);
	for (int i = 3; i < 6; i++)
		pthread_join(t[i], NULL);
	ck_assert_int_gt(atomic_load(&appended), 100);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_check_all(&r);
}
END_TEST

/* SEGSTORE_ONLY=part of a name runs these alone. */
#define ADD(t)                                                                                     \
	if (!only || strstr(#t, only))                                                             \
	tcase_add_test(c, t)

int main(void)
{
	const char *only = getenv("SEGSTORE_ONLY");
	Suite *s = suite_create("segstore");
	TCase *c = tcase_create("all");

	if (!getenv("SEGSTORE_LOG"))
		log_set_level(LOG_LV_ERROR);
	tcase_add_checked_fixture(c, NULL, teardown);
	tcase_set_timeout(c, 110);
	ADD(test_append_read);
	ADD(test_spans);
	ADD(test_closing);
	ADD(test_reopen);
	ADD(test_upload_4_2);
	ADD(test_upload_zstd);
	ADD(test_upload_1_2);
	ADD(test_upload_3_0);
	ADD(test_upload_5_3);
	ADD(test_any_m_gone);
	ADD(test_requests);
	ADD(test_limited);
	if (!only || strstr("test_uploads_at_once", only))
		tcase_add_loop_test(c, test_uploads_at_once, 0, 2);
	ADD(test_cap);
	ADD(test_drop);
	ADD(test_threads);
	suite_add_tcase(s, c);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
