/* fs/meta when the process or the power go, and when several threads use it. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include "fs/base/file.h"
#include "tests/unit/meta_fixture.h"

static unsigned rnd;

static unsigned next_random(unsigned below)
{
	rnd = rnd * 1103515245u + 12345u;
	return (rnd >> 8) % below;
}

/* ---- Kills ---- */

/* Creates "f0", "f1", ... with a commit each few, tells through fd what is synced. Never returns.
 */
static void write_until_killed(int fd)
{
	open_ok(db_path, 0, &m);
	meta_lock(m);
	m->park_pages = m->park_at = 80; /* checkpoints, and logs begun anew, all the time */
	m->step_pages = 20;
	meta_unlock(m);
	for (int i = 0;; i++) {
		char name[32];

		snprintf(name, sizeof(name), "f%d", i);
		meta_lock(m);
		if (put_file(m, 100 + (uint64_t)i, name) ||
		    put_run(m, 100 + (uint64_t)i, 0, 10, 1, (uint32_t)i))
			_exit(1);
		if (i % 5 == 0 && meta_commit(m))
			_exit(2);
		meta_unlock(m);
		if (i % 20 == 0) {
			if (meta_wal_sync(m) || write(fd, &i, sizeof(i)) != sizeof(i))
				_exit(3);
		}
	}
}

/* The names are f0 .. f(n-1) without a gap, each with its node and its run. Returns n. */
static int count_prefix(void)
{
	struct dirent_row d;
	struct meta_totals t;
	struct segment_row s;
	char name[32];
	int n = 0;

	for (;; n++) {
		struct node node;
		struct run r;
		int len = snprintf(name, sizeof(name), "f%d", n);

		if (dirent_get(m, 1, name, (size_t)len, &d))
			break;
		ck_ok(node_get(m, 100 + (uint64_t)n, &node));
		ck_assert_int_eq(run_page(m, d.ino, 0, UINT64_MAX, &r, 1, NULL), 1);
	}
	meta_totals(m, &t);
	ck_assert_uint_eq(t.inodes, (unsigned)n + 1);
	ck_assert_uint_eq(t.bytes, (unsigned)n * 10);
	if (n) {
		ck_ok(segment_get(m, 1, &s));
		ck_assert_uint_eq(s.live, (unsigned)n * 10);
	}
	return n;
}

static void start_over(void)
{
	char *const argv[] = { (char *)"rm", (char *)"-rf", scratch, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execv("/bin/rm", argv);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
	ck_ok(mkdir(scratch, 0700));
	open_ok(db_path, 1, &m);
	meta_lock(m);
}

START_TEST(kill_leaves_a_prefix)
{
	for (int round = 0; round < 6; round++) {
		int fds[2], synced = -1, got, status, n;
		pid_t pid;

		close_db();
		ck_ok(pipe(fds));
		pid = fork();
		if (!pid)
			write_until_killed(fds[1]);
		close(fds[1]);
		/* Some syncs in, then at whatever it is doing. */
		for (int i = 0; i < 3 + round * 7; i++)
			ck_assert_int_eq(read(fds[0], &synced, sizeof(synced)), sizeof(synced));
		ck_ok(kill(pid, SIGKILL));
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		while (read(fds[0], &got, sizeof(got)) == sizeof(got))
			synced = got;
		close(fds[0]);
		open_ok(db_path, 0, &m);
		meta_lock(m);
		n = count_prefix();
		ck_assert_int_gt(n, synced);
		assert_consistent(NULL);
		meta_unlock(m);
		ck_ok(meta_close(m));
		start_over();
	}
}
END_TEST

/* The first `keep` bytes (or all), then as much noise. */
static void copy_file(const char *from, const char *to, uint64_t keep, uint64_t noise)
{
	uint8_t *p;
	size_t n;
	int fd;

	ck_ok(file_read_all(from, 1 << 28, &p, &n));
	keep = MIN(keep, n);
	noise = MIN(noise, n - keep);
	for (uint64_t i = 0; i < noise; i++)
		p[keep + i] = (uint8_t)next_random(256);
	fd = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
	ck_ok(file_pwrite(fd, p, keep + noise, 0));
	close(fd);
	free(p);
}

/* Where the frames of the last COMMIT end; the file goes on with zeros. Meta lock held. */
static uint64_t log_end(void)
{
	return 32 + (uint64_t)m->wal_pages * (24 + 4096);
}

/* A power cut loses any part of what was written after the last sync. The log up to there is what
 * counts: cut it anywhere behind, or put noise there, and all that was synced is found. */
START_TEST(power_cut_keeps_what_was_synced)
{
	char wal[128], cut[128], cut_wal[160];
	uint64_t synced = 0, tail;
	struct meta *whole;
	struct stat st;

	snprintf(wal, sizeof(wal), "%s-wal", db_path);
	snprintf(cut, sizeof(cut), "%s/cut.db", scratch);
	snprintf(cut_wal, sizeof(cut_wal), "%s-wal", cut);
	rnd = 77;
	for (int i = 0; i < 60; i++) {
		char name[32];

		snprintf(name, sizeof(name), "f%d", i);
		ck_ok(put_file(m, 100 + (uint64_t)i, name));
		ck_ok(put_run(m, 100 + (uint64_t)i, 0, 10, 1, (uint32_t)i));
		if (i == 40) {
			ck_ok(meta_commit(m));
			meta_unlock(m);
			ck_ok(meta_wal_sync(m));
			meta_lock(m);
			synced = log_end();
		} else if (i % 4 == 0) {
			ck_ok(meta_commit(m));
		}
	}
	ck_ok(meta_commit(m));
	whole = m;
	tail = log_end() - synced;
	ck_assert_uint_gt(tail, 8192);
	ck_ok(stat(wal, &st));
	ck_assert_uint_gt((uint64_t)st.st_size, log_end()); /* zeros ahead of the frames */
	for (uint64_t kept = 0; kept < tail; kept += 1 + next_random(3000)) {
		copy_file(db_path, cut, UINT64_MAX, 0);
		copy_file(wal, cut_wal, synced + kept, next_random(2) ? tail - kept : 0);
		open_ok(cut, 0, &m);
		meta_lock(m);
		ck_assert_int_ge(count_prefix(), 41);
		meta_unlock(m);
		ck_ok(meta_close(m));
	}
	m = whole;
}
END_TEST

START_TEST(crash_before_each_commit)
{
	for (int at = 1; at < 12; at++) {
		char spec[64];
		int status;
		pid_t pid;

		close_db();
		snprintf(spec, sizeof(spec), "meta.commit=crash@%d", at + 1); /* 1: meta_open's */
		pid = fork();
		if (!pid) {
			failpoint_load(spec);
			write_until_killed(open("/dev/null", O_WRONLY));
		}
		waitpid(pid, &status, 0);
		ck_assert(WIFSIGNALED(status));
		open_ok(db_path, 0, &m);
		meta_lock(m);
		/* Commits after f0, f5, f10, ...: the at-th did not happen. */
		ck_assert_int_eq(count_prefix(), at == 1 ? 0 : (at - 2) * 5 + 1);
		meta_unlock(m);
		ck_ok(meta_close(m));
		start_over();
	}
}
END_TEST

/* ---- Threads ---- */

static atomic_int stop;

static void *sync_again_and_again(void *arg)
{
	while (!atomic_load(&stop))
		ck_ok(meta_wal_sync(m));
	return NULL;
}

static void *read_snapshots(void *arg)
{
	struct buf b = { 0 };

	while (!atomic_load(&stop)) {
		struct outbox_snapshot *s;
		uint64_t seq;

		ck_ok(outbox_snapshot_open(m, &s, &seq));
		while (outbox_snapshot_next(s, 1 << 16, &b) > 0)
			if (atomic_load(&stop))
				break;
		outbox_snapshot_close(s);
		usleep(1000);
	}
	buf_release(&b);
	return NULL;
}

static void *write_files(void *arg)
{
	uint64_t base = (uint64_t)(uintptr_t)arg;

	for (unsigned i = 0; i < 6000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%u-%u", (unsigned)base, i * 2654435761u);
		meta_lock(m);
		ck_ok(put_file(m, base + i, name));
		if (i % 3 == 0)
			ck_ok(meta_commit(m));
		meta_unlock(m);
	}
	return NULL;
}

static void run_threads(void *(*reader)(void *))
{
	pthread_t writers[2], syncer, other;

	atomic_store(&stop, 0);
	ck_ok(pthread_create(&syncer, NULL, sync_again_and_again, NULL));
	if (reader)
		ck_ok(pthread_create(&other, NULL, reader, NULL));
	for (uintptr_t i = 0; i < 2; i++)
		ck_ok(pthread_create(&writers[i], NULL, write_files, (void *)(100000 * (i + 1))));
	for (int i = 0; i < 2; i++)
		ck_ok(pthread_join(writers[i], NULL));
	atomic_store(&stop, 1);
	ck_ok(pthread_join(syncer, NULL));
	if (reader)
		ck_ok(pthread_join(other, NULL));
}

START_TEST(the_log_stays_small)
{
	char path[128];
	struct stat st;

	/* There is always a transaction open, or nearly so; without parking the log would only grow
	 * (some 100 MiB here). */
	m->park_pages = m->park_at = 1000;
	m->step_pages = 250;
	meta_unlock(m);
	run_threads(NULL);
	meta_lock(m);
	ck_ok(meta_commit(m));
	snprintf(path, sizeof(path), "%s-wal", db_path);
	ck_ok(stat(path, &st));
	ck_assert_int_lt(st.st_size, 3000 * 4120);
	{
		struct meta_totals t;

		meta_totals(m, &t);
		ck_assert_uint_eq(t.inodes, 12001);
	}
	reopen();
	assert_consistent(NULL);
}
END_TEST

START_TEST(threads_do_not_disturb_each_other)
{
	m->park_pages = m->park_at = 2000;
	m->step_pages = 500;
	meta_unlock(m);
	run_threads(read_snapshots);
	meta_lock(m);
	ck_ok(meta_commit(m));
	assert_consistent(NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("meta_crash");
	TCase *crash = tcase_create("crash"), *threads = tcase_create("threads");

	tcase_add_checked_fixture(crash, set_up, tear_down);
	tcase_add_checked_fixture(threads, set_up, tear_down);
	tcase_set_timeout(crash, 100);
	tcase_set_timeout(threads, 100);
	tcase_add_test(crash, kill_leaves_a_prefix);
	tcase_add_test(crash, power_cut_keeps_what_was_synced);
	tcase_add_test(crash, crash_before_each_commit);
	tcase_add_test(threads, the_log_stays_small);
	tcase_add_test(threads, threads_do_not_disturb_each_other);
	suite_add_tcase(s, crash);
	suite_add_tcase(s, threads);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
