/* What limits a volume: the room for staged content, the quota, memory. */
#include "tests/unit/volume_fixture.h"

START_TEST(space_limits)
{
	AUTO_FREE uint8_t *buf = calloc(1, 1 << 20);
	struct entry e;
	uint64_t a;
	int rc = 0, n;

	fopts.cap = 16 << 20;
	vopts.extent_max = 64 << 10;
	up();
	a = do_create(1, "a");
	for (n = 0; n < 64 && !rc; n++)
		rc = do_write(a, (uint64_t)n << 20, buf, 1 << 20);
	ck_err(rc, ENOSPC);
	ck_assert_int_ge(n, 14);
	for (rc = 0; n < 256 && !rc; n++) /* up to the last odds and ends */
		rc = do_write(a, (uint64_t)n << 20, buf, 64 << 10);
	ck_err(rc, ENOSPC);
	ck_err(volume_mknod(v, 1, "b", S_IFREG, 0, &root_cred, &e), ENOSPC);
	ck_err(volume_open(v, a, O_RDWR), ENOSPC);
	ck_err(do_truncate(a, 1ull << 30), ENOSPC);
	ck_ok(do_fsync(0));
	ck_ok(volume_open(v, a, O_RDONLY));
	volume_release(v, a);
	ck_ok(do_truncate(a, 0));
	ck_ok(do_fsync(0));
	ck_ok(do_fsync(0));
	down();
}
END_TEST

START_TEST(quota)
{
	AUTO_FREE uint8_t *buf = calloc(1, 1 << 20);
	struct statvfs f;
	uint64_t a;

	vopts.quota = 2 << 20;
	vopts.extent_max = 64 << 10;
	up();
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, buf, 1 << 20));
	ck_ok(do_write(a, 1 << 20, buf, (1 << 20) - 4096));
	ck_err(do_write(a, 3 << 20, buf, 8192), ENOSPC);
	ck_ok(do_write(a, 0, buf, 1 << 20)); /* over what is there */
	ck_ok(do_fsync(0));
	{
		uint64_t b = do_create(1, "b"), n;

		ck_err(volume_copy_range(v, a, 0, b, 0, 1 << 20, &n, &root_cred), ENOSPC);
		ck_ok(volume_copy_range(v, a, 0, b, 0, 4096, &n, &root_cred));
		ck_ok(do_truncate(b, 0));
	}
	ck_ok(do_fsync(0));
	ck_ok(volume_statfs(v, &f));
	ck_assert_uint_eq(f.f_blocks, 512);
	ck_assert_uint_eq(f.f_bavail, 1);
	ck_ok(do_truncate(a, 1000));
	ck_ok(do_fsync(0));
	ck_ok(volume_statfs(v, &f));
	ck_assert_uint_eq(f.f_bavail, 511);
	/* What is deleted makes room at once, not with the next commit. */
	ck_ok(do_write(a, 0, buf, 1 << 20));
	ck_ok(do_write(a, 1 << 20, buf, 1 << 20));
	ck_ok(do_fsync(0));
	ck_ok(do_truncate(a, 0));
	ck_ok(do_write(a, 0, buf, 1 << 20));
	ck_ok(do_write(a, 1 << 20, buf, 1 << 20));
	ck_err(do_write(a, 2 << 20, buf, 8192), ENOSPC);
	down();
}
END_TEST

START_TEST(back_pressure)
{
	struct volume_state s;
	struct wait w;
	uint64_t a;
	int rc;

	up();
	a = do_create(1, "a");
	fake_unsynced(st, 1 << 30);
	wait_init(&w);
	rc = volume_write(v, a, 0, "x", 1, 0, &root_cred, wait_done, &w);
	ck_err(rc, EINPROGRESS);
	ck_assert_int_eq(w.done, 0);
	fake_give_room(st);
	ck_ok(wait_for(&w, rc));
	/* dirty memory is bounded by commits that come early */
	vopts.dirty_max = 0;
	for (int k = 0; k < 3000; k++) {
		char name[16];
		uint8_t buf[EXTENT - 1];

		memset(buf, k, sizeof(buf));
		snprintf(name, sizeof(name), "n%d", k);
		ck_ok(do_write(do_create(1, name), 0, buf, sizeof(buf)));
	}
	volume_state(v, &s);
	ck_assert_uint_le(s.dirty_bytes, 64 << 20);
	down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume space");
	TCase *t = tcase_create("space");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 110);
	tcase_add_test(t, space_limits);
	tcase_add_test(t, quota);
	tcase_add_test(t, back_pressure);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
