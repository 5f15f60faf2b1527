#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/hash.h"
#include "fs/base/scope.h"
#include "fs/base/workq.h"

static atomic_int ran;
static int order[100];
static struct workq *pool;

static void note(void *arg)
{
	order[atomic_fetch_add(&ran, 1)] = (int)(intptr_t)arg;
}

static void pool_make(void)
{
	atomic_store(&ran, 0);
	pool = NULL;
}

START_TEST(workq_runs_in_order)
{
	pool = workq_create("a name that is too long", 1);
	for (int i = 0; i < 100; i++)
		workq_submit(pool, note, (void *)(intptr_t)i);
	workq_drain(pool);
	ck_assert_int_eq(atomic_load(&ran), 100);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(order[i], i);
	workq_destroy(pool);
	workq_destroy(NULL);
}
END_TEST

static void chain(void *arg)
{
	intptr_t left = (intptr_t)arg;

	atomic_fetch_add(&ran, 1);
	if (left % 2)
		workq_submit(pool, chain, (void *)(left - 1));
	else if (left)
		workq_submit_at(pool, clock_mono_ns() + NS_PER_MS, chain, (void *)(left - 1));
}

START_TEST(workq_drain_waits_for_jobs_of_jobs)
{
	pool = workq_create("pool", 3);
	workq_drain(pool); /* nothing to wait for */
	workq_submit(pool, chain, (void *)(intptr_t)20);
	workq_submit(pool, chain, (void *)(intptr_t)19);
	workq_drain(pool);
	ck_assert_int_eq(atomic_load(&ran), 41);
	workq_destroy(pool);
}
END_TEST

struct due {
	int64_t at;
	int early;
};

static void check_due(void *arg)
{
	struct due *d = arg;

	d->early = clock_mono_ns() < d->at;
	atomic_fetch_add(&ran, 1);
}

static atomic_int no_memory;
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return atomic_load(&no_memory) ? NULL : __real_malloc(n);
}

/* Jobs have their place without memory too, and more than once. */
START_TEST(workq_without_memory)
{
	pool = workq_create("pool", 2);
	atomic_store(&no_memory, 1);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 50; i++)
			workq_submit(pool, chain, (void *)(intptr_t)0);
		for (int i = 0; i < 50; i++)
			workq_submit_at(pool, clock_mono_ns() + i, chain, (void *)(intptr_t)0);
		workq_drain(pool);
	}
	atomic_store(&no_memory, 0);
	ck_assert_int_eq(atomic_load(&ran), 2000);
	workq_destroy(pool);
}
END_TEST

START_TEST(workq_delays)
{
	struct due due[300];
	int64_t start = clock_mono_ns();

	pool = workq_create("pool", 4);
	for (size_t i = 0; i < ARRAY_LEN(due); i++) {
		due[i].at = start + (int64_t)(hash_mix(i) % 50) * NS_PER_MS;
		due[i].early = -1;
		workq_submit_at(pool, due[i].at, check_due, &due[i]);
	}
	workq_drain(pool);
	ck_assert_int_eq(atomic_load(&ran), 300);
	for (size_t i = 0; i < ARRAY_LEN(due); i++)
		ck_assert_int_eq(due[i].early, 0);
	workq_destroy(pool);
}
END_TEST

/* One thread: due times decide, not the order of submission; and a job that comes due earlier
 * shortens the wait. */
START_TEST(workq_delayed_by_due_time)
{
	int64_t now = clock_mono_ns();

	pool = workq_create("pool", 1);
	for (int i = 49; i >= 0; i--)
		workq_submit_at(pool, now + (20 + 2 * i) * NS_PER_MS, note, (void *)(intptr_t)i);
	workq_submit(pool, note, (void *)(intptr_t)-2);
	workq_submit_at(pool, 0, note, (void *)(intptr_t)-1);
	workq_drain(pool);
	ck_assert_int_eq(atomic_load(&ran), 52);
	for (int i = 0; i < 52; i++)
		ck_assert_int_eq(order[i], i - 2);
	workq_destroy(pool);
}
END_TEST

START_TEST(workq_destroy_runs_delayed_at_once)
{
	int64_t start = clock_mono_ns();

	pool = workq_create("pool", 2);
	for (int i = 0; i < 10; i++)
		workq_submit_at(pool, start + 3600 * NS_PER_S, note, NULL);
	workq_destroy(pool);
	ck_assert_int_eq(atomic_load(&ran), 10);
	ck_assert_int_lt(clock_mono_ns() - start, 60 * NS_PER_S);
}
END_TEST

/* Two jobs that need each other: a wake-up lost between submit and an idle thread would hang here.
 */
static pthread_barrier_t meeting;

static void meet(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&meeting);
	atomic_fetch_add(&ran, 1);
}

START_TEST(workq_uses_all_threads)
{
	pool = workq_create("pool", 4);
	pthread_barrier_init(&meeting, NULL, 4);
	for (int round = 0; round < 500; round++) {
		for (int i = 0; i < 3; i++)
			workq_submit(pool, meet, NULL);
		workq_submit_at(pool, clock_mono_ns() + (round % 3) * NS_PER_MS / 4, meet, NULL);
		if (round % 5 == 0)
			workq_drain(pool);
	}
	workq_drain(pool);
	ck_assert_int_eq(atomic_load(&ran), 2000);
	workq_destroy(pool);
	pthread_barrier_destroy(&meeting);
}
END_TEST

static sigset_t mask_in_job;

static void get_mask(void *arg)
{
	(void)arg;
	pthread_sigmask(SIG_SETMASK, NULL, &mask_in_job);
}

START_TEST(workq_blocks_signals)
{
	sigset_t mine;

	pool = workq_create("pool", 1);
	workq_submit(pool, get_mask, NULL);
	workq_destroy(pool);
	ck_assert_int_eq(sigismember(&mask_in_job, SIGTERM), 1);
	ck_assert_int_eq(sigismember(&mask_in_job, SIGINT), 1);
	ck_assert_int_eq(sigismember(&mask_in_job, SIGHUP), 1);
	pthread_sigmask(SIG_SETMASK, NULL, &mine);
	ck_assert_int_eq(sigismember(&mine, SIGTERM), 0);
}
END_TEST

/* ---- failpoint ---- */

/* Runs fn in a child; its wait status. */
static int status_of_child(void (*fn)(void))
{
	pid_t pid = fork();
	int status = -1;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		fn();
		_exit(99);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

START_TEST(failpoint_counts_down_then_fires)
{
	failpoint_load("a=EIO@3,b=ENOSPC*2,c=EAGAIN@2*0,d=sleep:1");
	ck_assert_int_eq(failpoint("a"), 0);
	ck_assert_int_eq(failpoint("a"), 0);
	ck_assert_int_eq(failpoint("a"), -EIO);
	ck_assert_int_eq(failpoint("a"), 0);
	ck_assert_uint_eq(failpoint_count("a"), 4);
	ck_assert_int_eq(failpoint("b"), -ENOSPC);
	ck_assert_int_eq(failpoint("b"), -ENOSPC);
	ck_assert_int_eq(failpoint("b"), 0);
	ck_assert_int_eq(failpoint("c"), 0);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(failpoint("c"), -EAGAIN);
	ck_assert_int_eq(failpoint("d"), 0);
	ck_assert_int_eq(failpoint("unnamed"), 0);
	ck_assert_uint_eq(failpoint_count("unnamed"), 0);
	failpoint_load("");
	ck_assert_int_eq(failpoint_active, 0);
	ck_assert_int_eq(failpoint("c"), 0);
}
END_TEST

START_TEST(failpoint_two_on_one_name)
{
	failpoint_load("a=EIO@1,a=EACCES@3");
	ck_assert_int_eq(failpoint("a"), -EIO);
	ck_assert_int_eq(failpoint("a"), 0);
	ck_assert_int_eq(failpoint("a"), -EACCES);
	ck_assert_uint_eq(failpoint_count("a"), 3);
	setenv("SKYFLOK_FAIL", "env=EBADMSG", 1);
	failpoint_load(NULL);
	unsetenv("SKYFLOK_FAIL");
	ck_assert_int_eq(failpoint("env"), -EBADMSG);
	failpoint_load(NULL);
	ck_assert_int_eq(failpoint_active, 0);
}
END_TEST

START_TEST(failpoint_says_what_fired)
{
	char path[] = "/tmp/check_workq.XXXXXX", text[64] = "";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	setenv("SKYFLOK_FAIL_LOG", path, 1);
	failpoint_load("a=EIO@2,b=EIO*2,c=EIO");
	unsetenv("SKYFLOK_FAIL_LOG");
	for (int i = 0; i < 3; i++) {
		(void)failpoint("a");
		(void)failpoint("b");
	}
	failpoint_load("");
	ck_assert_int_eq((int)read(fd, text, sizeof(text) - 1), 6);
	ck_assert_str_eq(text, "b\na\nb\n");
	close(fd);
	unlink(path);
}
END_TEST

static const char *bad_spec;

static void load_bad(void)
{
	failpoint_load(bad_spec);
}

static void crash(void)
{
	failpoint_load("x=crash@2");
	if (failpoint("x"))
		_exit(1);
	_exit(failpoint("x") ? 2 : 3);
}

START_TEST(failpoint_malformed_ends_the_program)
{
	static const char *const specs[] = { "a",        "=EIO",     "a=",       "a=EIOX",
					     "a=EI",     "a=EIO@",   "a=EIO@0",  "a=EIO@1x",
					     "a=EIO*",   "a=sleep",  "a=sleep:", "a=EIO*1@2",
					     "ok=EIO,a", "a=EIO@-1", "a=crash:1" };

	for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
		int status;

		bad_spec = specs[i];
		status = status_of_child(load_bad);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 2, "\"%s\": status %d",
			      specs[i], status);
	}
}
END_TEST

START_TEST(failpoint_crash_is_sigkill)
{
	int status = status_of_child(crash);

	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		workq_runs_in_order,
		workq_drain_waits_for_jobs_of_jobs,
		workq_without_memory,
		workq_delays,
		workq_delayed_by_due_time,
		workq_destroy_runs_delayed_at_once,
		workq_uses_all_threads,
		workq_blocks_signals,
		failpoint_counts_down_then_fires,
		failpoint_two_on_one_name,
		failpoint_says_what_fired,
		failpoint_malformed_ends_the_program,
		failpoint_crash_is_sigkill,
	};
	Suite *s = suite_create("workq and failpoint");
	TCase *tc = tcase_create("workq and failpoint");
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, pool_make, NULL);
	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
