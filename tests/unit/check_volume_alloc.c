/* The n-th allocation fails: an operation that says so has changed nothing, and a commit is only
 * late. */
#include <linux/falloc.h>

#include "tests/unit/alloc_fault.h"
#include "tests/unit/volume_fixture.h"

#define SIZE (96u << 10)

static uint8_t bytes[2][SIZE];
static uint64_t size[2], ino[2], seed = 88172645463325252ull;
static int fired;

static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed % n;
}

/* rc of call with the n-th allocation failing; anything but 0 and -ENOMEM is wrong. */
#define with_fault(n, call)                                                                        \
	({                                                                                         \
		int rc_;                                                                           \
		alloc_fault_arm((int)(n));                                                         \
		rc_ = (call);                                                                      \
		fired += alloc_fault_disarm();                                                     \
		ck_assert_msg(rc_ == 0 || rc_ == -ENOMEM, "line %d: %s", __LINE__,                 \
			      strerror(-rc_));                                                     \
		rc_;                                                                               \
	})

static void compare(int f)
{
	static uint8_t back[SIZE];
	size_t got;

	ck_ok(do_read(ino[f], 0, back, SIZE, &got));
	ck_assert_uint_eq(got, size[f]);
	ck_assert_int_eq(memcmp(back, bytes[f], got), 0);
}

static void change(int n)
{
	static uint8_t buf[30000];
	int f = (int)rnd(2);
	uint64_t off = rnd(SIZE - 1), len = 1 + rnd(MIN(SIZE - off, sizeof(buf))), copied;

	switch (rnd(8)) {
	case 0:
		if (!with_fault(n, do_truncate(ino[f], off))) {
			if (off < size[f])
				memset(bytes[f] + off, 0, size[f] - off);
			size[f] = off;
		}
		break;
	case 1:
		if (!with_fault(n, volume_fallocate(v, ino[f], 3, off, len, NULL)) && off < size[f])
			memset(bytes[f] + off, 0, MIN(off + len, size[f]) - off);
		break;
	case 2:
		copied = 0;
		(void)with_fault(
		    n, volume_copy_range(v, ino[f], off, ino[!f], off, len, &copied, &root_cred));
		if (copied) {
			memcpy(bytes[!f] + off, bytes[f] + off, copied);
			size[!f] = MAX(size[!f], off + copied);
		}
		break;
	case 3:
		(void)with_fault(n, do_fsync(ino[f]));
		break;
	default:
		memset(buf, (int)rnd(256), len);
		if (!with_fault(n, do_write(ino[f], off, buf, len))) {
			memcpy(bytes[f] + off, buf, len);
			size[f] = MAX(size[f], off + len);
		}
	}
}

START_TEST(content)
{
	int n = 1;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	ino[0] = do_create(1, "a"), ino[1] = do_create(1, "b");
	for (int step = 0; step < 4000; step++) {
		change(n);
		n = n % 12 + 1;
		if (step % 20 == 0) {
			compare(0);
			compare(1);
		}
		if (step % 500 == 0)
			ck_ok(do_fsync(0));
	}
	ck_assert_int_gt(fired, 500);
	ck_ok(do_fsync(0));
	compare(0);
	compare(1);
	down();
}
END_TEST

static int emit(void *arg, const struct volume_dirent *d)
{
	(void)arg;
	if (d->cookie > 2)
		volume_forget(v, d->ino, 1);
	return 0;
}

/* Made and removed, or not at all. */
START_TEST(names)
{
	struct volume_state s;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	for (int step = 0; step < 1500; step++) {
		int n = step % 15 + 1, rc;
		struct entry e;
		char name[16];
		uint64_t found;

		snprintf(name, sizeof(name), "n%d", step);
		if (step % 3 == 0)
			rc = with_fault(n, volume_mkdir(v, 1, name, 0755, &root_cred, &e));
		else if (step % 3 == 1)
			rc = with_fault(n, volume_symlink(v, 1, name, "target", &root_cred, &e));
		else
			rc = with_fault(n, volume_mknod(v, 1, name, S_IFREG, 0, &root_cred, &e));
		if (rc) {
			ck_err(do_lookup(1, name, &found), ENOENT);
			continue;
		}
		rc =
		    with_fault(n, volume_setxattr(v, e.st.st_ino, "user.x", "1", 1, 0, &root_cred));
		(void)with_fault(n, volume_readdir(v, 1, 0, 1, emit, NULL));
		(void)with_fault(n, do_fsync(0));
		if (step % 3 == 0)
			rc = with_fault(n, volume_rmdir(v, 1, name));
		else
			rc = with_fault(n, volume_unlink(v, 1, name));
		if (rc) {
			ck_ok(do_lookup(1, name, &found));
			volume_forget(v, found, 1);
			ck_ok(step % 3 ? volume_unlink(v, 1, name) : volume_rmdir(v, 1, name));
		}
		volume_forget(v, e.st.st_ino, 1);
	}
	ck_assert_int_gt(fired, 100);
	for (int k = 0; k < 3; k++)
		ck_ok(do_fsync(0));
	volume_state(v, &s);
	ck_assert_uint_eq(s.totals.inodes, 1);
	ck_assert_uint_eq(s.known_inodes, 0);
	down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume without memory");
	TCase *t = tcase_create("alloc");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 100);
	tcase_add_test(t, content);
	tcase_add_test(t, names);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
