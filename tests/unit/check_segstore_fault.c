/* The segment store over backends that lie, hang, are absent, full or emptied. */
#include "tests/unit/segstore_fixture.h"
#include "coding/shard.h"
#include "crypto/digest.h"
#include "fs/base/buf.h"

static struct rig r;

static void teardown(void)
{
	rig_release(&r);
	failpoint_load("");
}

static void disperse(int pieces, uint32_t len)
{
	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	rig_start(&r);
	for (int i = 0; i < pieces; i++)
		ck_assert_int_eq(rig_append(&r, len + (uint32_t)i, (uint64_t)i), 0);
	rig_sync_all(&r, SEG_DISPERSED);
}

static void fresh(void)
{
	rig_down(&r);
	rig_wipe_cache(&r);
	rig_up(&r, 0);
}

static void key_of(char key[SHARD_KEY_MAX], uint32_t seg, int shard)
{
	struct seg_where w;
	ck_assert_int_eq(segstore_where(r.st, seg, &w), 0);
	shard_key(key, w.set, shard);
}

static uint8_t *object(int backend, uint32_t seg, size_t *n)
{
	char key[SHARD_KEY_MAX];
	uint8_t *p = NULL;
	key_of(key, seg, backend);
	struct backend *b = mem_open(r.store[backend], 0, 0);
	int rc = backend_read_wait(b, key, 1 << 26, &p, n, 0);
	backend_destroy(b);
	return rc ? NULL : p;
}

/* Each region of the shards of m backends damaged: right data; where a fragment was read the liar
 * is named and its shard made good again; of m + 1: an error, never other bytes. */
START_TEST(test_tamper)
{
	disperse(12, 50000);
	uint32_t seg = r.pieces[0].loc.seg;
	size_t len = 0;
	uint8_t *good[6];
	for (int i = 0; i < 6; i++)
		ck_assert_ptr_nonnull(good[i] = object(i, seg, &len));
	ck_assert_uint_eq(len % 4096, 0);
	uint64_t at[] = { 0, 40, 100, 230, 256, 300, 256 + 12512 / 1, len / 2, len - 100, len - 1 };
	for (size_t a = 0; a < ARRAY_LEN(at); a++) {
		fresh();
		char key[SHARD_KEY_MAX];
		int bad[] = { 0, 3 };
		for (int b = 0; b < 2; b++) {
			key_of(key, seg, bad[b]);
			ck_assert_int_eq(mem_store_flip(r.store[bad[b]], key, at[a], 0x20), 0);
		}
		rig_check_all(&r);
		rig_start(&r);
		struct seg_where w;
		WAIT_FOR((segstore_where(r.st, seg, &w), w.present == 0x3f));
		int healed = 0;
		for (int b = 0; b < 2; b++) {
			size_t n;
			uint8_t *p;
			/* Seen and replaced, with the right bytes; or not read at all: by hand. */
			WAIT_FOR((p = object(bad[b], seg, &n)) != NULL);
			key_of(key, seg, bad[b]);
			if (!memcmp(p, good[bad[b]], len))
				healed++;
			else
				ck_assert_int_eq(mem_store_flip(r.store[bad[b]], key, at[a], 0x20),
						 0);
			free(p);
		}
		/* Of two wrong fragments at least one was in the way of the first k. */
		ck_assert_int_eq(healed > 0, at[a] >= 256 && at[a] < len - 4096);
	}
	fresh();
	for (int b = 0; b < 3; b++) {
		char key[SHARD_KEY_MAX];
		key_of(key, seg, b);
		mem_store_flip(r.store[b], key, 300, 1);
	}
	ck_assert_int_lt(rig_check(&r, 0), 0);
	struct health_info h;
	health_get(r.health[0], &h);
	ck_assert_int_eq(h.state, HEALTH_CORRUPT);
	for (int i = 0; i < 6; i++)
		free(good[i]);
}
END_TEST

/* A stranger's view of one shard: header MAC, lengths, fragment MACs. */
START_TEST(test_shard_format)
{
	uint8_t key[KEY_LEN], mac[32];
	struct shard_header h;
	size_t len;
	int feature;

	disperse(3, 70000);
	for (int i = 0; i < 6; i++) {
		uint8_t *p = object(i, r.pieces[0].loc.seg, &len);
		ck_assert_int_eq(keyring_shard_key(r.keys, keyring_current(r.keys), key), 0);
		hmac_sha256(key, 32, p, SHARD_HEADER_LEN - 32, mac);
		ck_assert_mem_eq(mac, p + SHARD_HEADER_LEN - 32, 32);
		ck_assert_int_eq(shard_header_get(p, &h, &feature), 0);
		ck_assert_int_eq(h.shard, i);
		ck_assert_uint_eq(h.extents, 3);
		ck_assert_uint_eq(h.length, len);
		ck_assert_uint_eq(len % 4096, 0);
		ck_assert_mem_eq(h.drive, r.drive, 16);
		free(p);
	}
}
END_TEST

/* Backends that are away, then come back: stored at once, dispersed soon after. */
START_TEST(test_heal)
{
	struct segstore_state s;
	struct seg_where w;

	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	rig_start(&r);
	rig_fault(&r, 1, FAULT_RESULT, -ENODEV);
	rig_fault(&r, 5, FAULT_RESULT, -EACCES);
	for (int i = 0; i < 30; i++)
		ck_assert_int_eq(rig_append(&r, 90000, (uint64_t)i), 0);
	rig_sync_all(&r, SEG_STORED);
	segstore_state(r.st, &s);
	ck_assert_uint_gt(s.below_n, 0);
	ck_assert_uint_gt(s.heal_bytes, 0);
	ck_assert_int_eq(s.losses_survivable, 0);
	ck_assert_uint_gt(s.staged_bytes, 0); /* kept: not on all n */
	ck_assert_int_eq(segstore_wait(r.st, SEG_DISPERSED, clock_mono_ns() + 30 * NS_PER_S), -EIO);
	ck_assert_int_eq(segstore_where(r.st, r.pieces[0].loc.seg, &w), 0);
	ck_assert_int_eq(w.level, SEG_STORED);
	ck_assert_uint_eq(w.present, 0x3f & ~0x22u);
	/* Also across a restart. */
	rig_down(&r);
	rig_up(&r, 0);
	rig_fault(&r, 1, FAULT_RESULT, -ENODEV);
	rig_start(&r);
	WAIT_FOR((segstore_where(r.st, r.pieces[0].loc.seg, &w), w.present == 0x3d));
	rig_no_fault(&r, 1);
	WAIT_FOR((segstore_state(r.st, &s), s.below_n == 0));
	ck_assert_int_eq(segstore_wait(r.st, SEG_DISPERSED, clock_mono_ns() + 20 * NS_PER_S), 0);
	for (int i = 0; i < 6; i++)
		ck_assert_uint_eq(mem_store_count(r.store[i]), s.dispersed);
	rig_check_all(&r);
}
END_TEST

/* Fewer than a quorum: nothing is called stored, nothing is lost; with it, it goes on. */
START_TEST(test_below_quorum)
{
	struct segstore_state s;

	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	rig_start(&r);
	for (int i = 0; i < 3; i++)
		rig_fault(&r, i, FAULT_RESULT, -ENODEV);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(rig_append(&r, 90000, (uint64_t)i), 0);
	segstore_flush(r.st);
	ck_assert_int_eq(rig_commit(&r), 0);
	ck_assert_int_eq(segstore_wait(r.st, SEG_STORED, clock_mono_ns() + 30 * NS_PER_S), -EIO);
	segstore_state(r.st, &s);
	ck_assert_uint_eq(s.stored + s.dispersed, 0);
	rig_check_all(&r);
	rig_no_fault(&r, 0);
	WAIT_FOR((segstore_state(r.st, &s), s.stored > 0 && !s.uploading));
	rig_no_fault(&r, 1);
	rig_no_fault(&r, 2);
	/* As drive_flush does: a wait gives up after 3 s without movement, breakers probe later. */
	health_retry(r.health[1]);
	health_retry(r.health[2]);
	ck_assert_int_eq(segstore_wait(r.st, SEG_DISPERSED, clock_mono_ns() + 40 * NS_PER_S), 0);
}
END_TEST

static void empty(int backend)
{
	struct backend_entry *e;
	size_t n;
	struct backend *b = mem_open(r.store[backend], 0, 0);
	ck_assert_int_eq(backend_list_wait(b, "", &e, &n, 0), 0);
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(backend_delete_wait(b, e[i].key, 0), 0);
	free(e);
	backend_destroy(b);
}

/* A backend that was emptied: found after mounting, after having been absent, and by reading.
 * Healing works without the local files as well. */
START_TEST(test_emptied)
{
	disperse(40, 80000);
	uint64_t count = mem_store_count(r.store[2]);
	ck_assert_uint_gt(count, 1);
	for (int how = 0; how < 3; how++) {
		fresh();
		if (how == 0) { /* found by the list that each mount makes */
			empty(2);
			rig_start(&r);
		} else if (how == 1) { /* absent, back, empty; the cache is empty, too */
			rig_fault(&r, 2, FAULT_RESULT, -ENODEV);
			rig_start(&r);
			rig_check_all(&r);
			empty(2);
			rig_no_fault(&r, 2);
		} else { /* a read finds it: all of it is looked at */
			rig_start(&r);
			usleep(4500000); /* the list of this mount is over */
			empty(2);
			rig_check_all(&r);
		}
		WAIT_FOR(mem_store_count(r.store[2]) == count);
		struct segstore_state s;
		WAIT_FOR((segstore_state(r.st, &s), s.below_n == 0));
		rig_check_all(&r);
		if (how == 2)
			break;
	}
	/* What was put again is right: it alone with three others gives the data. */
	fresh();
	rig_fault(&r, 0, FAULT_RESULT, -ENODEV);
	rig_fault(&r, 1, FAULT_RESULT, -ENODEV);
	rig_check_all(&r);
}
END_TEST

/* Backends that say "not found" to everything for a while, more than m of them: an error then, but
 * nothing is forgotten. */
START_TEST(test_false_absence)
{
	disperse(20, 80000);
	for (int healing = 0; healing < 2; healing++) {
		fresh();
		for (int i = 0; i < 4; i++) {
			r.rule[i][0] = (struct fault_rule){
				.op = -1, .prefix = "s/", .action = FAULT_RESULT, .result = -ENOENT
			};
			layer_fault_set(r.fault[i], r.rule[i], 1);
		}
		/* Not earlier: healing what the first round put in doubt brings bytes here. */
		if (healing)
			rig_start(&r);
		ck_assert_int_lt(rig_check(&r, 0), 0);
		ck_assert_int_lt(rig_check(&r, 19), 0);
		if (healing)
			usleep(1500000);
		rig_down(&r);
		rig_up(&r, 0);
		rig_check_all(&r);
	}
	rig_start(&r);
	struct segstore_state s;
	WAIT_FOR((segstore_state(r.st, &s), s.below_n == 0 && s.losses_survivable == 2));
}
END_TEST

/* The answer to a put is lost, or the process dies behind it: the same bytes again, compared. */
START_TEST(test_answer_lost)
{
	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	for (int i = 0; i < 6; i++) {
		r.rule[i][0] = (struct fault_rule){
			.op = BACKEND_PUT, .prefix = "s/", .times = 2, .action = FAULT_ANSWER_LOST
		};
		layer_fault_set(r.fault[i], r.rule[i], 1);
	}
	rig_start(&r);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(rig_append(&r, 90000, (uint64_t)i), 0);
	rig_sync_all(&r, SEG_DISPERSED);
	struct segstore_state s;
	segstore_state(r.st, &s);
	for (int i = 0; i < 6; i++) {
		ck_assert_uint_ge(r.rule[i][0].fired, 1);
		ck_assert_uint_eq(mem_store_count(r.store[i]), s.dispersed);
	}
	fresh();
	rig_check_all(&r);
}
END_TEST

/* Somebody else's bytes under our key: replaced, and all is readable from there. */
START_TEST(test_other_bytes)
{
	disperse(5, 80000);
	uint32_t seg = r.pieces[0].loc.seg;
	char key[SHARD_KEY_MAX];
	size_t len, n;
	uint8_t *good = object(1, seg, &len);
	uint8_t *junk = malloc(len);
	fill(junk, len, 99);
	key_of(key, seg, 1);
	fresh();
	struct backend *b = mem_open(r.store[1], 0, 0);
	ck_assert_int_eq(backend_delete_wait(b, key, 0), 0);
	ck_assert_int_eq(backend_put_wait(b, key, junk, len / 2, 0, 0), 0);
	rig_start(&r);
	rig_check_all(&r);
	WAIT_FOR(({
		uint8_t *p = object(1, seg, &n);
		int same = p && n == len && !memcmp(p, good, len);
		free(p);
		same;
	}));
	backend_destroy(b);
	free(good);
	free(junk);
}
END_TEST

/* A database that came from the clouds knows nothing of who has what: it is asked, then known. */
START_TEST(test_unknown_presence)
{
	struct seg_where w;

	disperse(10, 80000);
	ck_assert_int_eq(segstore_where(r.st, r.pieces[0].loc.seg, &w), 0);
	rig_down(&r);
	rig_wipe_cache(&r);
	struct meta_opts mo = { .drive = r.drive };
	struct err e;
	ck_assert_int_eq(meta_open(rig_path(&r, "drive.db"), &mo, &r.meta, &e), 0);
	meta_lock(r.meta);
	ck_assert_int_eq(coding_set_present(r.meta, w.set, 0, 0), 0);
	ck_assert_int_eq(meta_commit(r.meta), 0);
	meta_unlock(r.meta);
	ck_assert_int_eq(meta_close(r.meta), 0);
	rig_up(&r, 0);
	rig_check_all(&r);
	rig_start(&r);
	WAIT_FOR((segstore_where(r.st, r.pieces[0].loc.seg, &w), w.present == 0x3f));
}
END_TEST

/* Hanging backends: reading is bounded, closing as well. */
START_TEST(test_hang)
{
	disperse(20, 80000);
	fresh();
	r.timeout = NS_PER_S;
	rig_down(&r);
	rig_up(&r, 0);
	rig_start(&r);
	for (int i = 0; i < 3; i++)
		rig_fault(&r, i, FAULT_HANG, 0);
	int64_t begin = clock_mono_ns();
	int rc = rig_check(&r, 0);
	ck_assert(rc == -ETIMEDOUT || rc == -EIO);
	ck_assert_int_lt(clock_mono_ns() - begin, 3 * NS_PER_S);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(rig_append(&r, 80000, 500 + (uint64_t)i), 0);
	segstore_flush(r.st);
	ck_assert_int_eq(rig_commit(&r), 0);
	usleep(300000); /* puts hang */
	segstore_prefetch(r.st, r.pieces[0].loc.seg, 0, 1000);
	struct seg_miss miss = { .seg = r.pieces[3].loc.seg,
				 .first = r.pieces[3].loc.first,
				 .count = 1 };
	struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER };
	cond_init_mono(&w.cond);
	struct seg_fetch *f = segstore_fetch(r.st, &miss, waiter_done, &w, &rc);
	if (f) {
		segstore_fetch_cancel(r.st, f);
		begin = clock_mono_ns();
		WAIT_FOR(waiter_ended(&w));
		ck_assert_int_lt(clock_mono_ns() - begin, NS_PER_S / 2);
		segstore_fetch_release(r.st, f);
	}
	begin = clock_mono_ns();
	rig_down(&r);
	ck_assert_int_lt(clock_mono_ns() - begin, 3 * NS_PER_S);
	rig_up(&r, 0);
	rig_start(&r);
	ck_assert_int_eq(segstore_wait(r.st, SEG_DISPERSED, clock_mono_ns() + 20 * NS_PER_S), 0);
	rig_check_all(&r);
}
END_TEST

/* Local damage of what the backends have is made good by reading. */
START_TEST(test_local_damage)
{
	char from[600];
	struct seg_where w;

	disperse(10, 80000);
	segstore_where(r.st, r.pieces[0].loc.seg, &w);
	rig_down(&r);
	char hex[33];
	hex_put(hex, w.id, 16);
	snprintf(from, sizeof(from), "%s/%s.seg", rig_path(&r, "cache"), hex);
	int fd = open(from, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	for (uint64_t at = 300; at < 400000; at += 90000)
		ck_assert_int_eq(file_pwrite(fd, "x", 1, at), 0);
	close(fd);
	rig_up(&r, 0);
	rig_check_all(&r);
	/* Staged and nowhere else: an error, not other bytes. */
	int first = r.npieces;
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(rig_append(&r, 80000, (uint64_t)i), 0);
	segstore_flush(r.st);
	ck_assert_int_eq(rig_commit(&r), 0);
	segstore_where(r.st, r.pieces[first].loc.seg, &w);
	hex_put(hex, w.id, 16);
	rig_down(&r);
	snprintf(from, sizeof(from), "%s/%s.seg", rig_path(&r, "staging"), hex);
	fd = open(from, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(file_pwrite(fd, "x", 1, 1000), 0);
	close(fd);
	rig_up(&r, 0);
	ck_assert_int_eq(rig_check(&r, first), -EBADMSG);
	ck_assert_int_eq(rig_check(&r, first + 1), 0);
}
END_TEST

/* Under pressure what is at quorum on k + 1 may go; it heals from those. */
START_TEST(test_pressure)
{
	struct segstore_state s;

	rig_init(&r, 2, 2);
	r.cap = 4 << 20;
	rig_up(&r, 1);
	rig_start(&r);
	rig_fault(&r, 3, FAULT_RESULT, -ENODEV);
	for (int i = 0; i < 30; i++)
		ck_assert_int_eq(rig_append(&r, 100000, (uint64_t)i), 0);
	rig_sync_all(&r, SEG_STORED);
	for (int i = 30; i < 38; i++)
		ck_assert_int_eq(rig_append(&r, 100000, (uint64_t)i), 0);
	ck_assert_int_eq(rig_commit(&r), 0);
	WAIT_FOR(
	    (rig_commit(&r), segstore_state(r.st, &s), s.staged_bytes + s.cached_bytes <= r.cap));
	rig_check_all(&r);
	rig_no_fault(&r, 3);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_check_all(&r);
	/* The healed shard is a good one. */
	fresh();
	rig_fault(&r, 0, FAULT_RESULT, -ENODEV);
	rig_fault(&r, 1, FAULT_RESULT, -ENODEV);
	rig_check_all(&r);
}
END_TEST

/* With a backend away for long writing goes on beyond the cap: what the others have makes room. */
START_TEST(test_goes_on)
{
	struct segstore_state s;
	int rc = 0;

	rig_init(&r, 2, 2);
	r.cap = 4 << 20;
	rig_up(&r, 1);
	rig_start(&r);
	rig_fault(&r, 3, FAULT_RESULT, -ENODEV);
	for (int round = 0; round < 5; round++) { /* 8 MB in all, and room for 4 MiB */
		for (int i = 0; i < 16; i++) {
			rc = rig_append(&r, 100000, (uint64_t)(round * 16 + i));
			ck_assert_msg(!rc, "append %d of round %d: %s", i, round, strerror(-rc));
		}
		rig_sync_all(&r, SEG_STORED);
		WAIT_FOR((rig_commit(&r), segstore_state(r.st, &s),
			  s.staged_bytes + s.cached_bytes <= r.cap && s.yield_bytes));
	}
	rig_no_fault(&r, 3);
	rig_sync_all(&r, SEG_DISPERSED);
	segstore_state(r.st, &s);
	ck_assert_uint_eq(s.yield_bytes, 0);
	rig_check_all(&r);
}
END_TEST

/* Whoever waits for the backends while nothing can be committed any more is told so. */
START_TEST(test_commits_fail)
{
	rig_init(&r, 2, 2);
	rig_up(&r, 1);
	ck_assert_int_eq(rig_append(&r, 100000, 1), 0);
	segstore_flush(r.st);
	ck_assert_int_eq(rig_commit(&r), 0);
	/* Its row is committed, its set id cannot be. */
	atomic_store(&r.no_commit, -EIO);
	rig_start(&r);
	int64_t begin = clock_mono_ns();
	ck_assert_int_eq(segstore_wait(r.st, SEG_STORED, begin + 60 * NS_PER_S), -EIO);
	ck_assert_int_eq(rig_append(&r, 100000, 2), 0);
	segstore_flush(r.st);
	/* Not even its row is. */
	ck_assert_int_eq(segstore_wait(r.st, SEG_STAGED, begin + 60 * NS_PER_S), -EIO);
	ck_assert_int_lt(clock_mono_ns() - begin, 50 * NS_PER_S);
	atomic_store(&r.no_commit, 0);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_check_all(&r);
}
END_TEST

#define ADD(t)                                                                                     \
	if (!only || strstr(#t, only))                                                             \
	tcase_add_test(c, t)

int main(void)
{
	Suite *s = suite_create("segstore faults");
	TCase *c = tcase_create("all");
	const char *only = getenv("SEGSTORE_ONLY");

	if (!getenv("SEGSTORE_LOG"))
		log_set_level(LOG_LV_ERROR);
	tcase_add_checked_fixture(c, NULL, teardown);
	tcase_set_timeout(c, 110);
	ADD(test_tamper);
	ADD(test_shard_format);
	ADD(test_heal);
	ADD(test_below_quorum);
	ADD(test_emptied);
	ADD(test_false_absence);
	ADD(test_answer_lost);
	ADD(test_other_bytes);
	ADD(test_unknown_presence);
	ADD(test_hang);
	ADD(test_local_damage);
	ADD(test_pressure);
	ADD(test_goes_on);
	ADD(test_commits_fail);
	suite_add_tcase(s, c);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
