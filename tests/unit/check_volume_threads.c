/* Many threads on one volume while commits run all the time. For ThreadSanitizer as much as for
 * results. */
#include "tests/unit/volume_fixture.h"

#define THREADS 6
#define ROUNDS  400
#define SHARED  8
#define BYTES   (40u << 10)

static uint64_t shared_ino[SHARED], common;

struct worker {
	pthread_t id;
	int number;
	uint64_t seed, dir;
};

static uint64_t rnd(struct worker *w, uint64_t n)
{
	w->seed ^= w->seed << 13, w->seed ^= w->seed >> 7, w->seed ^= w->seed << 17;
	return w->seed % n;
}

/* Blocks of a shared file always hold one byte value each, whoever wrote last. */
static void write_shared(struct worker *w)
{
	uint8_t buf[2048];
	uint64_t block = rnd(w, BYTES / sizeof(buf));

	memset(buf, (int)rnd(w, 256), sizeof(buf));
	ck_ok(do_write(shared_ino[rnd(w, SHARED)], block * sizeof(buf), buf, sizeof(buf)));
}

static void read_shared(struct worker *w)
{
	uint8_t buf[2048];
	uint64_t ino = shared_ino[rnd(w, SHARED)];
	size_t got;

	ck_ok(do_read(ino, rnd(w, BYTES / sizeof(buf)) * sizeof(buf), buf, sizeof(buf), &got));
	for (size_t k = 1; k < got; k++)
		if (buf[k] != buf[0])
			ck_abort_msg("a torn block");
}

static void own_file(struct worker *w, int round)
{
	char name[32], back[64] = "";
	uint64_t ino, again;
	size_t got;

	snprintf(name, sizeof(name), "w%d-%d", w->number, round);
	ino = do_create(w->dir, name);
	ck_ok(do_write(ino, 0, name, strlen(name)));
	if (round % 16 == 0)
		ck_ok(do_fsync(ino));
	if (round % 3 == 0) {
		ck_ok(do_rename(w->dir, name, common, "target", 0));
	} else {
		ck_ok(do_read(ino, 0, back, sizeof(back), &got));
		ck_assert_str_eq(back, name);
		if (round % 3 == 1)
			ck_ok(volume_unlink(v, w->dir, name));
	}
	volume_forget(v, ino, 1);
	if (do_lookup(common, "target", &again) == 0) {
		memset(back, 0, sizeof(back));
		/* it may be replaced and gone by now, but never be half a file */
		if (do_read(again, 0, back, sizeof(back), &got) == 0)
			ck_assert_uint_eq(back[0], 'w');
		volume_forget(v, again, 1);
	}
}

static int skip_entry(void *arg, const struct volume_dirent *d)
{
	if (d->cookie > 2)
		volume_forget(v, d->ino, 1);
	++*(int *)arg;
	return 0;
}

static void misc(struct worker *w, int round)
{
	uint64_t a = rnd(w, SHARED), b = rnd(w, SHARED), n, at;
	struct stat s = { .st_mode = 0600 + (mode_t)rnd(w, 64) };
	char value[16];
	size_t len;
	int entries = 0;

	switch (round % 8) {
	case 0:
		ck_ok(volume_readdir(v, common, 0, 1, skip_entry, &entries));
		ck_assert_int_ge(entries, 2);
		break;
	case 1:
		ck_ok(volume_setxattr(v, shared_ino[a], "user.x", "value", 5, 0, &root_cred));
		break;
	case 2:
		len = 0;
		if (!volume_getxattr(v, shared_ino[a], "user.x", value, sizeof(value), &len))
			ck_assert_uint_eq(len, 5);
		break;
	case 3:
		if (a != b)
			ck_ok(volume_copy_range(v, shared_ino[a], 0, shared_ino[b], 0, BYTES, &n,
						&root_cred));
		break;
	case 4:
		ck_ok(volume_setattr(v, shared_ino[a], &s, VOL_SET_MODE | VOL_SET_MTIME_NOW,
				     &root_cred, &s));
		break;
	case 5:
		(void)volume_lseek(v, shared_ino[a], 0, SEEK_HOLE, &at);
		break;
	case 6:
		ck_ok(do_truncate(shared_ino[a], rnd(w, BYTES / 2048) * 2048));
		break;
	default:
		ck_ok(
		    volume_fallocate(v, shared_ino[a], 3, rnd(w, BYTES / 2048) * 2048, 2048, NULL));
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int round = 0; round < ROUNDS; round++) {
		write_shared(w);
		read_shared(w);
		own_file(w, round);
		misc(w, (int)rnd(w, 8));
		if (round % 50 == 0)
			ck_ok(do_fsync(0));
	}
	return NULL;
}

static void hammer(int remote)
{
	struct worker w[THREADS];
	struct volume_state s;

	vopts.commit_interval = NS_PER_MS;
	vopts.inode_cache = 20;
	vopts.dirty_max = 64 << 10;
	up();
	common = do_mkdir(1, "common");
	for (int k = 0; k < SHARED; k++) {
		char name[16];

		snprintf(name, sizeof(name), "shared%d", k);
		shared_ino[k] = do_create(1, name);
	}
	if (remote)
		fake_remote(st, 1, 20000, 0);
	for (int k = 0; k < THREADS; k++) {
		char name[16];

		snprintf(name, sizeof(name), "d%d", k);
		w[k] = (struct worker){ .number = k,
					.seed = 88172645463325252ull + (uint64_t)k,
					.dir = do_mkdir(1, name) };
		pthread_create(&w[k].id, NULL, work, &w[k]);
	}
	for (int k = 0; k < THREADS; k++)
		pthread_join(w[k].id, NULL);
	for (int k = 0; k < SHARED; k++)
		ck_ok(do_truncate(shared_ino[k], 0));
	volume_state(v, &s);
	ck_assert_uint_gt(s.commits, 10);
	eventually((volume_state(v, &s), s.dirty_bytes) == 0);
	fake_remote(st, 0, 0, 0);
	down();
}

START_TEST(local)
{
	hammer(0);
}
END_TEST

START_TEST(remote)
{
	hammer(1);
}
END_TEST

/* Stopping while everybody works: each call ends, and what was synced is there. */
static void *until_stopped(void *arg)
{
	struct worker *w = arg;

	for (int round = 0;; round++) {
		char name[32];
		struct entry e;
		int rc;

		snprintf(name, sizeof(name), "s%d-%d", w->number, round);
		if (volume_mknod(v, 1, name, S_IFREG | 0644, 0, &root_cred, &e))
			break;
		if (do_write(e.st.st_ino, 0, name, strlen(name)))
			break;
		rc = round % 4 ? 0 : do_fsync(e.st.st_ino);
		if (rc)
			break;
		if (round > 2000)
			break;
	}
	return NULL;
}

START_TEST(stop_under_load)
{
	struct worker w[THREADS];

	vopts.commit_interval = NS_PER_MS;
	up();
	for (int k = 0; k < THREADS; k++) {
		w[k] = (struct worker){ .number = k };
		pthread_create(&w[k].id, NULL, until_stopped, &w[k]);
	}
	usleep(100000);
	ck_ok(volume_stop(v));
	for (int k = 0; k < THREADS; k++)
		pthread_join(w[k].id, NULL);
	volume_destroy(v);
	v = NULL;
	down();
}
END_TEST

/* Clouds that accept everything and answer nothing: each fsync ends by its own deadline, however
 * many wait before it, and the end of the mount ends all. */
START_TEST(fsync_of_hanging_clouds)
{
	struct wait w[3];
	uint64_t a;
	int64_t begun[3];

	vopts.fsync_cloud = 1;
	vopts.fsync_timeout = NS_PER_S;
	up();
	fake_uploads_hang(st, 1);
	a = do_create(1, "a");
	for (int k = 0; k < 3; k++) {
		ck_ok(do_write(a, 0, "x", 1));
		wait_init(&w[k]);
		begun[k] = clock_mono_ns();
		ck_assert_int_eq(volume_fsync(v, a, 0, wait_done, &w[k]), -EINPROGRESS);
		usleep(300000); /* a commit, and so a wait, of its own */
	}
	for (int k = 0; k < 3; k++) {
		ck_assert_int_eq(wait_for(&w[k], -EINPROGRESS), -ETIMEDOUT);
		ck_assert_int_lt(clock_mono_ns() - begun[k], 3 * NS_PER_S / 2);
	}
	wait_init(&w[0]);
	begun[0] = clock_mono_ns();
	ck_assert_int_eq(volume_fsync(v, a, 0, wait_done, &w[0]), -EINPROGRESS);
	usleep(100000);
	volume_end_waits(v);
	ck_assert_int_eq(wait_for(&w[0], -EINPROGRESS), -EINTR);
	ck_assert_int_lt(clock_mono_ns() - begun[0], NS_PER_S * 9 / 10);
	fake_present(st, SEG_STORED, 0);
	down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume threads");
	TCase *t = tcase_create("threads");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 100);
	tcase_add_test(t, local);
	tcase_add_test(t, remote);
	tcase_add_test(t, stop_under_load);
	tcase_add_test(t, fsync_of_hanging_clouds);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
