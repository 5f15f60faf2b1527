/* The segment store when its process or its disk fails: crashes, torn tails, failing syncs, and
 * each step of an upload. */
#include <sys/wait.h>
#include "tests/unit/segstore_fixture.h"
#include "coding/shard.h"

static struct rig r;

static void teardown(void)
{
	rig_release(&r);
	failpoint_load("");
}

static int copy_one(const char *from, const char *to)
{
	uint8_t *p;
	size_t n;
	int rc = file_read_all(from, 1 << 30, &p, &n);
	if (rc)
		return rc;
	int fd = open(to, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	rc = fd < 0 ? -errno : file_pwrite(fd, p, n, 0);
	if (fd >= 0)
		close(fd);
	free(p);
	return rc;
}

static void copy_dir(const char *from, const char *to)
{
	DIR *d = opendir(from);
	struct dirent *e;
	mkdir(to, 0700);
	while ((e = readdir(d))) {
		char a[600], b[600];
		struct stat sb;
		snprintf(a, sizeof(a), "%s/%s", from, e->d_name);
		snprintf(b, sizeof(b), "%s/%s", to, e->d_name);
		if (e->d_name[0] == '.' || stat(a, &sb))
			continue;
		if (S_ISDIR(sb.st_mode))
			copy_dir(a, b);
		else
			ck_assert_int_eq(copy_one(a, b), 0);
	}
	closedir(d);
}

/* kill -9 in the middle: what was committed is there, whatever came after. */
START_TEST(test_kill)
{
	rig_init(&r, 4, 2);
	for (int round = 0; round < 6; round++) {
		int pipefd[2];
		ck_assert_int_eq(pipe(pipefd), 0);
		pid_t pid = fork();
		if (!pid) {
			rig_up(&r, round == 0);
			rig_start(&r);
			for (int i = 0; i < 40; i++) {
				rig_append(&r, 40000, (uint64_t)(round * 1000 + i));
				if (i % 8 == 7) {
					int rc = rig_commit(&r);
					if (rc) {
						log_error("commit: %s", strerror(-rc));
						_exit(1);
					}
					struct piece p[8];
					pthread_mutex_lock(&r.lock);
					memcpy(p, &r.pieces[r.npieces - 8], sizeof(p));
					pthread_mutex_unlock(&r.lock);
					if (write(pipefd[1], p, sizeof(p)) < 0)
						_exit(1);
				}
				if (round % 2 && i == 20)
					segstore_flush(r.st);
			}
			for (int i = 0; i < round * 3; i++) { /* nobody commits these */
				uint8_t data[30000] = { 5 };
				struct seg_piece one = { .data = data, .len = sizeof(data) };
				struct seg_loc loc;
				segstore_append(r.st, NULL, &one, 1, &loc);
			}
			kill(getpid(), SIGKILL);
		}
		close(pipefd[1]);
		struct piece p[8];
		while (read(pipefd[0], p, sizeof(p)) == sizeof(p))
			for (int i = 0; i < 8; i++)
				r.pieces[r.npieces++] = p[i];
		close(pipefd[0]);
		int status;
		waitpid(pid, &status, 0);
		ck_assert_msg(WIFSIGNALED(status), "the child ended with status %x", status);
		ck_assert_int_eq(r.npieces, (round + 1) * 40);
		rig_up(&r, 0);
		rig_check_all(&r);
		rig_down(&r);
	}
	/* Every memory backend died with its process: all of it is uploaded anew. */
	rig_up(&r, 0);
	rig_start(&r);
	for (int i = 0; i < r.npieces; i++)
		r.pieces[i].has_run = 2;
	rig_sync_all(&r, SEG_DISPERSED);
	rig_check_all(&r);
}
END_TEST

static uint8_t byte_at(const char *path, uint32_t at)
{
	int fd = open(path, O_RDONLY);
	uint8_t b = 0;

	ck_assert_int_eq(file_pread(fd, &b, 1, at), 0);
	close(fd);
	return b;
}

/* A staging file that ends anywhere: the whole extents before that are there. */
START_TEST(test_torn_tail)
{
	static const uint32_t lens[] = { 1000, 1, 5000, 64, 40000 };
	enum { N = 5 };
	uint32_t end[N];
	char name[300] = "";

	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(rig_append(&r, lens[i], (uint64_t)i), 0);
	ck_assert_int_eq(rig_commit(&r), 0);
	/* Names of this run's own: what a killed run left must not be taken for ours. */
	char keep[64], torn[80], torn_staging[96];
	snprintf(keep, sizeof(keep), "%s", r.dir);
	snprintf(torn, sizeof(torn), "%s.torn", keep);
	snprintf(torn_staging, sizeof(torn_staging), "%s/staging", torn);
	copy_dir(r.dir, torn);
	DIR *d = opendir(torn_staging);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			snprintf(name, sizeof(name), "%s", e->d_name);
	closedir(d);
	rig_down(&r);
	/* Around every boundary, and in the middle of each header, data and tag. */
	uint32_t pos = 128, cuts[100];
	int ncuts = 0;
	cuts[ncuts++] = 0, cuts[ncuts++] = 60, cuts[ncuts++] = 127;
	for (int i = 0; i < N; i++) {
		uint32_t sealed = shard_sealed_len(lens[i], 4);
		uint32_t at[] = {
			0, 1, 30, 63, 64, 65, 64 + sealed / 2, 64 + sealed - 16, 64 + sealed - 1
		};
		for (size_t j = 0; j < ARRAY_LEN(at); j++)
			cuts[ncuts++] = pos + at[j];
		end[i] = pos += 64 + sealed;
	}
	cuts[ncuts++] = pos, cuts[ncuts++] = pos + 1, cuts[ncuts++] = pos + 64;
	cuts[ncuts++] = pos + 100;
	for (int c = 0; c < ncuts; c++) {
		uint32_t cut = cuts[c];
		for (int garbage = 0; garbage < 2; garbage++) {
			snprintf(r.dir, sizeof(r.dir), "%.48s.cut", keep);
			rm_tree(r.dir);
			copy_dir(torn, r.dir);
			char path[600];
			snprintf(path, sizeof(path), "%s/staging/%s", r.dir, name);
			uint8_t was = byte_at(path, cut);
			ck_assert_int_eq(truncate(path, cut), 0);
			if (garbage) { /* as a page that reached the disk in part */
				int fd = open(path, O_WRONLY);
				uint8_t junk[300];
				fill(junk, sizeof(junk), cut);
				/* one time in 256 it would be the tag's own last byte */
				junk[0] = (uint8_t)~was;
				ck_assert_int_eq(file_pwrite(fd, junk, sizeof(junk), cut), 0);
				close(fd);
			}
			rig_up(&r, 0);
			for (int i = 0; i < N; i++) {
				int rc = rig_check(&r, i);
				ck_assert_msg(!rc == (end[i] <= cut), "cut %u piece %d: %s", cut, i,
					      strerror(-rc));
			}
			rig_down(&r);
			rm_tree(r.dir);
		}
	}
	snprintf(r.dir, sizeof(r.dir), "%s", keep);
	rm_tree(torn);
}
END_TEST

/* Damage within what was synced is no torn tail: later extents stay. */
START_TEST(test_rot_in_open)
{
	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(rig_append(&r, 4096, (uint64_t)i), 0);
	ck_assert_int_eq(rig_commit(&r), 0);
	copy_dir(rig_path(&r, "staging"), rig_path(&r, "copy")); /* before it is closed */
	rig_down(&r);
	rm_tree(rig_path(&r, "staging"));
	copy_dir(rig_path(&r, "copy"), rig_path(&r, "staging"));
	DIR *d = opendir(rig_path(&r, "staging"));
	for (struct dirent *e; (e = readdir(d));) {
		uint8_t b = 0x5a;
		if (e->d_name[0] == '.')
			continue;
		int fd = openat(dirfd(d), e->d_name, O_WRONLY);
		ck_assert_int_eq(file_pwrite(fd, &b, 1, 128 + 3 * (64 + 4160) + 64 + 100), 0);
		close(fd);
	}
	closedir(d);
	rig_up(&r, 0);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(rig_check(&r, i), i == 3 ? -EBADMSG : 0);
	rig_start(&r);
	rig_sync_all(&r, SEG_DISPERSED); /* the others are dispersed all the same */
}
END_TEST

/* fdatasync fails: the same bytes go to a new file; nothing is lost, also after a crash. */
START_TEST(test_sync_fails)
{
	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(rig_append(&r, 9000, (uint64_t)i), 0);
	ck_assert_int_eq(rig_commit(&r), 0);
	for (int i = 20; i < 40; i++)
		ck_assert_int_eq(rig_append(&r, 9000, (uint64_t)i), 0);
	failpoint_load("stage.sync=EIO@1");
	ck_assert_int_eq(rig_commit(&r), 0);
	ck_assert_uint_ge(failpoint_count("stage.sync"), 1);
	rig_check_all(&r);
	/* The disk is gone for good: EIO, the bytes stay readable. */
	failpoint_load("stage.sync=EIO*0,stage.rewrite=EIO*0");
	for (int i = 40; i < 60; i++)
		ck_assert_int_eq(rig_append(&r, 9000, (uint64_t)i), 0);
	ck_assert_int_eq(segstore_sync(r.st), -EIO);
	ck_assert_uint_gt(segstore_unsynced(r.st), 0);
	rig_check_all(&r);
	/* It comes back. */
	failpoint_load("");
	ck_assert_int_eq(rig_commit(&r), 0);
	ck_assert_uint_eq(segstore_unsynced(r.st), 0);
	rig_check_all(&r);
	rig_down(&r);
	rig_up(&r, 0);
	rig_check_all(&r);
}
END_TEST

/* Large segments give memory back after a sync; rewriting then reads the old file. */
START_TEST(test_sync_fails_released)
{
	rig_init(&r, 4, 2);
	r.segment_size = 32 << 20;
	rig_up(&r, 1);
	for (int i = 0; i < 40; i++)
		ck_assert_int_eq(rig_append(&r, 120000, (uint64_t)i), 0);
	ck_assert_int_eq(rig_commit(&r), 0);
	rig_check_all(&r);
	for (int i = 40; i < 50; i++)
		ck_assert_int_eq(rig_append(&r, 120000, (uint64_t)i), 0);
	failpoint_load("stage.sync=EIO@1");
	ck_assert_int_eq(rig_commit(&r), 0);
	rig_check_all(&r);
	rig_down(&r);
	rig_up(&r, 0);
	rig_check_all(&r);
}
END_TEST

/* Each step of going to disk fails once, at each time it is reached. */
START_TEST(test_nth_fault)
{
	static const char *const points[] = { "stage.create",  "stage.write",   "stage.sync",
					      "stage.dirsync", "segment.index", "stage.seal" };
	static const char *const codes[] = { "EIO", "ENOSPC" };

	rig_init(&r, 4, 2);
	rig_up(&r, 1);
	for (size_t p = 0; p < ARRAY_LEN(points); p++) {
		for (int code = 0; code < 2; code++) {
			for (int n = 1; n <= 5; n++) {
				char spec[100];
				snprintf(spec, sizeof(spec), "%s=%s@%d", points[p], codes[code], n);
				failpoint_load(spec);
				for (int i = 0; i < 3; i++) {
					for (int j = 0; j < 3; j++)
						(void)rig_append(&r, 3000, (uint64_t)(r.npieces));
					segstore_flush(r.st);
					(void)rig_commit(&r);
				}
				rig_check_all(&r);
				failpoint_load("");
				ck_assert_int_eq(rig_commit(&r), 0);
			}
		}
	}
	rig_down(&r);
	rig_up(&r, 0);
	rig_check_all(&r);
	rig_start(&r);
	rig_sync_all(&r, SEG_DISPERSED);
	rig_check_all(&r);
}
END_TEST

static void fresh(void)
{
	rig_down(&r);
	rig_wipe_cache(&r);
	rig_up(&r, 0);
}

/* A crash at each point of an upload; the next mount finishes it. */
START_TEST(test_upload_crash)
{
	static const char *const points[] = { "upload.set",         "upload.commit",
					      "upload.put=crash@1", "upload.put=crash@3",
					      "upload.done",        "cache.move",
					      "cache.moved" };

	for (size_t p = 0; p < ARRAY_LEN(points); p++) {
		rig_init(&r, 2, 1);
		pid_t pid = fork();
		if (!pid) {
			char spec[64];
			snprintf(spec, sizeof(spec), strchr(points[p], '=') ? "%s" : "%s=crash",
				 points[p]);
			failpoint_load(spec);
			rig_up(&r, 1);
			rig_start(&r);
			for (int i = 0; i < 10; i++)
				rig_append(&r, 50000, (uint64_t)i);
			segstore_flush(r.st);
			rig_commit(&r);
			sleep(20);
			_exit(0);
		}
		int status;
		waitpid(pid, &status, 0);
		ck_assert_msg(WIFSIGNALED(status), "%s was not reached", points[p]);
		rig_up(&r, 0);
		/* The child's pieces: one segment, numbers 0 to 9. */
		for (int i = 0; i < 10; i++)
			r.pieces[r.npieces++] = (struct piece){ .loc = { 1, (uint32_t)i },
								.len = 50000,
								.seed = (uint64_t)i,
								.has_run = 2 };
		rig_check_all(&r);
		rig_start(&r);
		/* The memory backends forgot; who had "dispersed" hears so by the list. */
		WAIT_FOR(mem_store_count(r.store[0]) == 1 && mem_store_count(r.store[1]) == 1 &&
			 mem_store_count(r.store[2]) == 1);
		fresh();
		rig_check_all(&r);
		rig_release(&r);
	}
	rig_init(&r, 2, 1);
}
END_TEST

#define ADD(t)                                                                                     \
	if (!only || strstr(#t, only))                                                             \
	tcase_add_test(c, t)

int main(void)
{
	Suite *s = suite_create("segstore crashes");
	TCase *c = tcase_create("all");
	const char *only = getenv("SEGSTORE_ONLY");

	if (!getenv("SEGSTORE_LOG"))
		log_set_level(LOG_LV_ERROR);
	tcase_add_checked_fixture(c, NULL, teardown);
	tcase_set_timeout(c, 110);
	ADD(test_kill);
	ADD(test_torn_tail);
	ADD(test_rot_in_open);
	ADD(test_sync_fails);
	ADD(test_sync_fails_released);
	ADD(test_nth_fault);
	ADD(test_upload_crash);
	suite_add_tcase(s, c);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
