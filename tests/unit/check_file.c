/* file://: markers, hangs, faults, and what stands on the disk. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/registry.h"
#include "tests/unit/contract.h"
#include "fs/base/failpoint.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define SOON (20 * NS_PER_S)

static const uint8_t drive_a[16] = "drive A", drive_b[16] = "drive B", uuid_1[16] = "backend 1",
		     uuid_2[16] = "backend 2";
static char root[64];

static void setup(void)
{
	failpoint_load("");
	tmp_folder(root);
}

static void teardown(void)
{
	tmp_folder_remove(root);
}

static struct backend *open_at(const char *path, const uint8_t *drive, const uint8_t *uuid)
{
	struct backend_env env = { .drive = drive, .uuid = uuid };
	struct backend_url u;
	struct backend *b;
	struct err e = { 0 };
	AUTO_FREE char *url = str_printf("file://%s", path);

	ck_assert_msg(backend_url_parse(url, &u, &e) == 0, "%s", e.text);
	ck_assert_msg(backend_open(&u, &env, &b, &e) == 0, "%s", e.text);
	backend_url_release(&u);
	return b;
}

static int put(struct backend *b, const char *key)
{
	return backend_put_wait(b, key, "body", 4, 0, SOON);
}

static char *in_root(const char *name)
{
	char *s = str_printf("%s/%s", root, name);

	ck_assert_ptr_nonnull(s);
	return s;
}

static int exists(const char *name)
{
	AUTO_FREE char *path = in_root(name);

	return access(path, F_OK) == 0;
}

static int entries_of(const char *name)
{
	AUTO_FREE char *path = in_root(name);
	DIR *dir = opendir(path);
	int n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n - 2;
}

START_TEST(claim_marks)
{
	struct backend *b = open_at(root, NULL, NULL);
	AUTO_FREE char *marker = in_root(".skyflok/drive");
	AUTO_FREE uint8_t *text = NULL;
	struct err e = { 0 };
	uint64_t size;
	size_t n;

	ck_assert_msg(backend_claim(b, drive_a, uuid_1, &e) == 0, "%s", e.text);
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_1, &e), 0);
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_2, &e), -EEXIST);
	ck_assert_int_eq(backend_claim(b, drive_b, uuid_1, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.text, root));
	backend_destroy(b);
	ck_assert_int_eq(file_read_all(marker, 200, &text, &n), 0);
	ck_assert_str_eq((char *)text, "skyflok drive 64726976652041000000000000000000\n"
				       "backend 6261636b656e64203100000000000000\n");
	b = open_at(root, drive_a, uuid_1);
	ck_assert_int_eq(put(b, "s/ab/obj"), 0);
	ck_assert_int_eq(backend_head_wait(b, "s/ab/obj", &size, SOON), 0);
	/* Putting it back when the drive has objects is no conflict. */
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_1, &e), 0);
	backend_destroy(b);
}
END_TEST

START_TEST(claim_refuses)
{
	AUTO_FREE char *other = in_root("holiday.jpg");
	AUTO_FREE char *lost = in_root("lost+found");
	AUTO_FREE char *absent = in_root("absent");
	struct backend *b = open_at(root, NULL, NULL);
	struct err e = { 0 };

	ck_assert_int_eq(mkdir(lost, 0700), 0);
	ck_assert_int_eq(file_replace(other, "x", 1, 0600), 0);
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_1, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.text, "holiday.jpg"));
	ck_assert(!exists(".skyflok/drive"));
	ck_assert_int_eq(unlink(other), 0);
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_1, &e), 0);
	backend_destroy(b);
	b = open_at(absent, NULL, NULL);
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_1, &e), -ENODEV);
	backend_destroy(b);
	ck_assert(!exists("absent"));
}
END_TEST

START_TEST(unclaim_takes_back)
{
	AUTO_FREE char *other = in_root("mine.txt");
	struct backend *b = open_at(root, NULL, NULL);
	struct err e = { 0 };

	ck_assert_int_eq(backend_unclaim(b, drive_a, &e), 0);
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_1, &e), 0);
	ck_assert_int_eq(put(b, "s/ab/obj"), 0);
	ck_assert_int_eq(put(b, "s/cd/obj"), 0);
	ck_assert_int_eq(backend_delete_wait(b, "s/ab/obj", SOON), 0);
	ck_assert_int_eq(file_replace(other, "x", 1, 0600), 0);
	ck_assert_int_eq(backend_unclaim(b, drive_b, &e), -EEXIST);
	ck_assert(exists(".skyflok/drive"));
	ck_assert_msg(backend_unclaim(b, drive_a, &e) == 0, "%s", e.text);
	ck_assert(!exists(".skyflok"));
	ck_assert(!exists("s/ab"));
	ck_assert(exists("s/cd/obj") && exists("mine.txt"));
	backend_destroy(b);
}
END_TEST

static void expect_absent(struct backend *b)
{
	struct backend_entry *e;
	uint64_t size;
	uint8_t byte;
	size_t n;

	ck_assert_int_eq(put(b, "s/ab/new"), -ENODEV);
	ck_assert_int_eq(backend_put_wait(b, "s/ab/new", "x", 1, BACKEND_IF_ABSENT, SOON), -ENODEV);
	ck_assert_int_eq(backend_head_wait(b, "s/ab/obj", &size, SOON), -ENODEV);
	ck_assert_int_eq(backend_get_wait(b, "s/ab/obj", 0, &byte, 1, &n, SOON), -ENODEV);
	ck_assert_int_eq(backend_delete_wait(b, "s/ab/obj", SOON), -ENODEV);
	ck_assert_int_eq(backend_list_wait(b, "", &e, &n, SOON), -ENODEV);
}

/* An unmounted disk, an exchanged folder, another drive's: absent, never "no such object", and
 * nothing is written there. */
START_TEST(absent_root)
{
	AUTO_FREE char *mnt = in_root("mnt");
	AUTO_FREE char *away = in_root("away");
	AUTO_FREE char *marker = in_root("mnt/.skyflok/drive");
	struct backend *b, *c;
	struct err e = { 0 };
	uint64_t size;

	ck_assert_int_eq(mkdir(mnt, 0700), 0);
	b = open_at(mnt, drive_a, uuid_1);
	ck_assert_int_eq(backend_claim(b, drive_a, uuid_1, &e), 0);
	ck_assert_int_eq(put(b, "s/ab/obj"), 0);
	ck_assert_int_eq(rename(mnt, away), 0);
	expect_absent(b);
	ck_assert(!exists("mnt"));
	/* The empty mount point below. */
	ck_assert_int_eq(mkdir(mnt, 0700), 0);
	expect_absent(b);
	ck_assert_int_eq(entries_of("mnt"), 0);
	/* Another backend of the same drive, and another drive. */
	c = open_at(mnt, NULL, NULL);
	ck_assert_int_eq(backend_claim(c, drive_a, uuid_2, &e), 0);
	expect_absent(b);
	ck_assert_int_eq(unlink(marker), 0);
	ck_assert_int_eq(backend_claim(c, drive_b, uuid_1, &e), 0);
	expect_absent(b);
	ck_assert(!exists("mnt/s"));
	backend_destroy(c);
	tmp_folder_remove(mnt);
	ck_assert_int_eq(rename(away, mnt), 0);
	ck_assert_int_eq(backend_head_wait(b, "s/ab/obj", &size, SOON), 0);
	ck_assert_int_eq(put(b, "s/ef/obj"), 0);
	backend_destroy(b);
}
END_TEST

START_TEST(folder_removed_under_us)
{
	AUTO_FREE char *folder = in_root("s");
	struct backend *b = open_at(root, NULL, NULL);
	uint64_t size;

	ck_assert_int_eq(put(b, "s/ab/obj"), 0);
	tmp_folder_remove(folder);
	ck_assert_int_eq(backend_head_wait(b, "s/ab/obj", &size, SOON), -ENOENT);
	ck_assert_int_eq(put(b, "s/ab/obj"), 0);
	ck_assert_int_eq(backend_head_wait(b, "s/ab/obj", &size, SOON), 0);
	backend_destroy(b);
}
END_TEST

/* Links below the root lead out of it: not followed, for reading or writing. */
START_TEST(links)
{
	AUTO_FREE char *outside = in_root("outside");
	AUTO_FREE char *inside = in_root("inside");
	AUTO_FREE char *link_dir = in_root("inside/s");
	AUTO_FREE char *link_file = in_root("inside/f");
	AUTO_FREE char *secret = in_root("outside/secret");
	struct backend_entry *e;
	struct backend *b;
	uint64_t size;
	size_t n;

	ck_assert_int_eq(mkdir(outside, 0700), 0);
	ck_assert_int_eq(mkdir(inside, 0700), 0);
	ck_assert_int_eq(file_replace(secret, "x", 1, 0600), 0);
	ck_assert_int_eq(symlink(outside, link_dir), 0);
	ck_assert_int_eq(symlink(secret, link_file), 0);
	b = open_at(inside, NULL, NULL);
	ck_assert_int_eq(backend_head_wait(b, "s/secret", &size, SOON), -ENOENT);
	ck_assert_int_eq(backend_head_wait(b, "f", &size, SOON), -ENOENT);
	ck_assert_int_eq(put(b, "s/new"), -EINVAL);
	ck_assert_int_eq(backend_list_wait(b, "", &e, &n, SOON), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert(!exists("outside/new"));
	backend_destroy(b);
}
END_TEST

START_TEST(old_temporary_files)
{
	AUTO_FREE char *old = in_root(".skyflok/tmp/0123");
	AUTO_FREE char *young = in_root(".skyflok/tmp/4567");
	struct timespec past[2] = { { .tv_sec = time(NULL) - 2 * 86400 },
				    { .tv_sec = time(NULL) - 2 * 86400 } };
	struct backend *b = open_at(root, NULL, NULL);
	struct backend_entry *e;
	size_t n;

	ck_assert_int_eq(put(b, "a"), 0);
	ck_assert_int_eq(entries_of(".skyflok/tmp"), 0);
	backend_destroy(b);
	ck_assert_int_eq(file_replace(old, "x", 1, 0600), 0);
	ck_assert_int_eq(file_replace(young, "x", 1, 0600), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, old, past, 0), 0);
	b = open_at(root, NULL, NULL);
	ck_assert_int_eq(backend_list_wait(b, "", &e, &n, SOON), 0);
	ck_assert_uint_eq(n, 1);
	free(e);
	ck_assert_int_eq(put(b, "b"), 0);
	ck_assert(!exists(".skyflok/tmp/0123") && exists(".skyflok/tmp/4567"));
	backend_destroy(b);
}
END_TEST

/* Every fault of a put, at every place where it can strike: an error, nothing half done, and the
 * repetition works. */
START_TEST(put_faults)
{
	static const char *const points[] = { "file.write", "file.sync", "file.sync_dir" };
	static const int codes[] = { ENOSPC, EIO };
	struct backend *b;
	char spec[64];

	for (int n = 1;; n++) {
		int rc;
		uint64_t size;

		snprintf(spec, sizeof(spec), "%s=%s@%d", points[_i / 2], _i % 2 ? "EIO" : "ENOSPC",
			 n);
		failpoint_load("");
		tmp_folder_remove(root);
		ck_assert_int_eq(mkdir(root, 0700), 0);
		b = open_at(root, NULL, NULL);
		failpoint_load(spec);
		rc = put(b, "s/ab/obj");
		if (failpoint_count(points[_i / 2]) < (uint64_t)n) {
			ck_assert_int_eq(rc, 0);
			backend_destroy(b);
			ck_assert_int_gt(n, 1);
			break;
		}
		ck_assert_int_eq(rc, -codes[_i % 2]);
		ck_assert_int_eq(entries_of(".skyflok/tmp"), exists(".skyflok/tmp") ? 0 : -2);
		ck_assert_int_eq(put(b, "s/ab/obj"), 0);
		ck_assert_int_eq(backend_head_wait(b, "s/ab/obj", &size, SOON), 0);
		ck_assert_uint_eq(size, 4);
		backend_destroy(b);
	}
}
END_TEST

/* How many threads of file backends there are. */
static int threads_now(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *ent;
	int n = 0;

	while ((ent = readdir(dir))) {
		AUTO_FREE char *path = str_printf("/proc/self/task/%s/comm", ent->d_name);
		AUTO_FREE uint8_t *name = NULL;
		size_t len;

		if (file_read_all(path, 100, &name, &len) == 0)
			n += strcmp((char *)name, "sk-file\n") == 0;
	}
	closedir(dir);
	return n;
}

/* The disk hangs: requests end by their deadline or by cancel, their buffers are left alone, and
 * others go on. */
START_TEST(hang)
{
	enum { N = 6, SIZE = 3 * 1024 * 1024 };
	struct backend *b = open_at(root, NULL, NULL);
	uint8_t *in = malloc(SIZE), *out = malloc(N * 1000);
	struct flight_req q[N];
	struct flight f;
	int64_t begun;

	pattern_fill(in, SIZE, 1);
	ck_assert_int_eq(backend_put_wait(b, "obj", in, SIZE, 0, SOON), 0);
	failpoint_load(_i ? "file.write=sleep:1500@1*6" : "file.read=sleep:1500@1*6");
	flight_init(&f);
	begun = clock_mono_ns();
	memset(out, 0xee, N * 1000);
	for (int i = 0; i < N; i++) {
		flight_req_init(&q[i], &f, _i ? BACKEND_PUT : BACKEND_GET, _i ? "new" : "obj",
				out + i * 1000, 1000);
		q[i].req.deadline = begun + (i == 0 ? 10000 : 200) * NS_PER_MS;
		backend_submit(b, &q[i].req);
	}
	/* The first one is hanging by now, and is cancelled. */
	while (!failpoint_count(_i ? "file.write" : "file.read"))
		ck_assert_int_lt(clock_mono_ns() - begun, 5 * NS_PER_S);
	backend_cancel(b, &q[0].req);
	flight_wait(&f, N);
	ck_assert_int_lt(clock_mono_ns() - begun, 1200 * NS_PER_MS);
	ck_assert_int_eq(q[0].result, -ECANCELED);
	for (int i = 1; i < N; i++)
		ck_assert_int_eq(q[i].result, -ETIMEDOUT);
	/* Theirs again: whoever touches them now is caught by the comparison, or by a sanitizer. */
	memset(out, 0x55, N * 1000);
	free(out);
	out = malloc(SIZE);
	/* Threads that hang have been replaced. */
	{
		size_t got;

		ck_assert_int_eq(backend_get_wait(b, "obj", 0, out, 10, &got, SOON), 0);
	}
	backend_destroy(b);
	/* The last one to come back frees what is left behind. */
	begun = clock_mono_ns();
	while (threads_now() > 0)
		ck_assert_int_lt(clock_mono_ns() - begun, SOON);
	/* A put that nobody waited for any more did not appear. */
	ck_assert(!exists("new"));
	ck_assert_int_eq(entries_of(".skyflok/tmp"), 0);
	flight_release(&f);
	free(in);
	free(out);
}
END_TEST

/* A mount namespace of our own: what is mounted goes with the process, however it ends. 0, or why
 * not. */
static const char *own_mounts(void)
{
	if (unshare(CLONE_NEWNS))
		return "needs root (a mount namespace)";
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ? "cannot make mounts private"
								 : NULL;
}

/* A real disk that is full, read-only, and then unmounted. */
START_TEST(real_disk)
{
	const char *why = own_mounts();
	AUTO_FREE char *mnt = in_root("mnt");
	AUTO_FREE uint8_t *bytes = calloc(1, 3 << 20);
	struct err e = { 0 };
	struct backend *b;
	uint64_t size;

	if (why) {
		printf("real_disk: skipped: %s\n", why);
		return;
	}
	ck_assert_int_eq(mkdir(mnt, 0700), 0);
	ck_assert_int_eq(mount("none", mnt, "tmpfs", 0, "size=2m"), 0);
	b = open_at(mnt, drive_a, uuid_1);
	ck_assert_msg(backend_claim(b, drive_a, uuid_1, &e) == 0, "%s", e.text);
	ck_assert_int_eq(backend_put_wait(b, "s/ab/big", bytes, 3 << 20, 0, SOON), -ENOSPC);
	ck_assert_int_eq(backend_head_wait(b, "s/ab/big", &size, SOON), -ENOENT);
	ck_assert_int_eq(entries_of("mnt/.skyflok/tmp"), 0);
	ck_assert_int_eq(backend_put_wait(b, "s/ab/fits", bytes, 1 << 20, BACKEND_IF_ABSENT, SOON),
			 0);
	ck_assert_int_eq(mount(NULL, mnt, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	ck_assert_int_eq(put(b, "s/ab/new"), -EACCES);
	ck_assert_int_eq(backend_head_wait(b, "s/ab/fits", &size, SOON), 0);
	/* No descriptor of ours keeps it busy. */
	ck_assert_int_eq(umount(mnt), 0);
	expect_absent(b);
	ck_assert_int_eq(entries_of("mnt"), 0);
	backend_destroy(b);
}
END_TEST

START_TEST(space)
{
	AUTO_FREE char *absent = in_root("absent");
	struct backend *b = open_at(root, NULL, NULL);
	uint64_t total, avail;

	ck_assert_int_eq(backend_space(b, &total, &avail), 0);
	ck_assert_uint_gt(total, 0);
	ck_assert_uint_le(avail, total);
	ck_assert_int_eq(backend_space(b, &total, &avail), 0);
	backend_destroy(b);
	b = open_at(absent, NULL, NULL);
	ck_assert_int_eq(backend_space(b, &total, &avail), -ENODEV);
	backend_destroy(b);
}
END_TEST

START_TEST(permissions)
{
	AUTO_FREE char *folder = in_root("s");
	struct backend *b = open_at(root, NULL, NULL);

	/* root may write anywhere: be somebody else. */
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(root, 65534, 65534), 0);
		ck_assert_int_eq(seteuid(65534), 0);
	}
	ck_assert_int_eq(put(b, "s/obj"), 0);
	ck_assert_int_eq(chmod(folder, 0500), 0);
	ck_assert_int_eq(put(b, "s/new"), -EACCES);
	ck_assert_int_eq(backend_delete_wait(b, "s/obj", SOON), -EACCES);
	ck_assert_int_eq(chmod(folder, 0700), 0);
	ck_assert_int_eq(put(b, "s/new"), 0);
	backend_destroy(b);
	if (getuid() == 0)
		ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("file");
	TCase *tc = tcase_create("file");
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, claim_marks);
	tcase_add_test(tc, claim_refuses);
	tcase_add_test(tc, unclaim_takes_back);
	tcase_add_test(tc, absent_root);
	tcase_add_test(tc, folder_removed_under_us);
	tcase_add_test(tc, links);
	tcase_add_test(tc, old_temporary_files);
	tcase_add_loop_test(tc, put_faults, 0, 6);
	tcase_add_loop_test(tc, hang, 0, 2);
	tcase_add_test(tc, real_disk);
	tcase_add_test(tc, space);
	tcase_add_test(tc, permissions);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
