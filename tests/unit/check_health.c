/* Breaker, probes, and the word that status shows. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/health.h"
#include "backends/layers.h"
#include "backends/mem.h"
#include "tests/unit/contract.h"
#include "fs/base/scope.h"

#define SOON              (20 * NS_PER_S)
#define READ(rule, field) __atomic_load_n(&(rule).field, __ATOMIC_RELAXED)

static struct backend *fault, *b;
static int changes;

static void on_change(void *arg, struct backend *health)
{
	__atomic_fetch_add((int *)arg, 1, __ATOMIC_SEQ_CST);
}

static void setup(void)
{
	fault = layer_fault(mem_open(NULL, 0, 0), NULL, 0);
	changes = 0;
	b = layer_health(fault, on_change, &changes);
	ck_assert_ptr_nonnull(b);
}

static void teardown(void)
{
	backend_destroy(b);
}

static int head(const char *key)
{
	uint64_t size;

	return backend_head_wait(b, key, &size, SOON);
}

static int put(const char *key)
{
	return backend_put_wait(b, key, "x", 1, 0, SOON);
}

static struct health_info info(void)
{
	struct health_info i;

	health_get(b, &i);
	return i;
}

static void wait_state(enum health_state s)
{
	int64_t deadline = clock_mono_ns() + SOON;
	struct timespec pause = { .tv_nsec = 2000000 };

	while (info().state != s || (s == HEALTH_OK && info().open)) {
		ck_assert_int_lt(clock_mono_ns(), deadline);
		nanosleep(&pause, NULL);
	}
}

START_TEST(breaker_opens)
{
	static const struct {
		int result;
		enum health_state state;
	} t[] = {
		{ -EAGAIN, HEALTH_DOWN },  { -ETIMEDOUT, HEALTH_DOWN }, { -EIO, HEALTH_DOWN },
		{ -EBADMSG, HEALTH_DOWN }, { -ENODEV, HEALTH_ABSENT },  { -EACCES, HEALTH_DENIED }
	};
	struct fault_rule r = {
		.op = -1, .prefix = "", .action = FAULT_RESULT, .result = t[_i].result
	};
	struct flight_req q;
	struct flight f;

	ck_assert_int_eq(info().state, HEALTH_OK);
	layer_fault_set(fault, &r, 1);
	for (int i = 0; i < 3; i++) {
		ck_assert(health_usable(b, 0));
		ck_assert_int_eq(info().open, 0);
		ck_assert_int_eq(head("k"), r.result);
	}
	ck_assert_int_eq(info().open, 1);
	ck_assert_int_eq(info().state, t[_i].state);
	ck_assert_int_eq(info().last_error, r.result);
	ck_assert(!health_usable(b, 0) && !health_usable(b, 1));
	ck_assert_int_ge(__atomic_load_n(&changes, __ATOMIC_SEQ_CST), 1);
	/* At once, without asking. */
	flight_init(&f);
	flight_req_init(&q, &f, BACKEND_HEAD, "k", NULL, 0);
	backend_submit(b, &q.req);
	ck_assert_int_eq(q.dones, 1);
	ck_assert_int_eq(q.result, r.result);
	ck_assert_int_eq(q.req.unasked, 1);
	ck_assert_uint_eq(READ(r, fired), 3);
	flight_release(&f);
	/* A probe of its own notices that it is back. */
	layer_fault_set(fault, NULL, 0);
	wait_state(HEALTH_OK);
	ck_assert(health_usable(b, 1));
	ck_assert_int_eq(head("k"), -ENOENT);
}
END_TEST

START_TEST(breaker_ignores)
{
	static const int results[] = { -ENOENT, -EEXIST, -ECANCELED, -EINVAL, -ENOMEM };
	struct fault_rule r = {
		.op = -1, .prefix = "", .action = FAULT_RESULT, .result = results[_i]
	};

	layer_fault_set(fault, &r, 1);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(head("k"), r.result);
	ck_assert_int_eq(info().state, HEALTH_OK);
	ck_assert_uint_eq(READ(r, fired), 10);
	ck_assert_int_eq(__atomic_load_n(&changes, __ATOMIC_SEQ_CST), 0);
}
END_TEST

START_TEST(breaker_counts_in_a_row)
{
	struct fault_rule r = { .op = -1, .prefix = "bad", .action = FAULT_RESULT, .result = -EIO };

	layer_fault_set(fault, &r, 1);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(head(i % 3 == 2 ? "good" : "bad"), i % 3 == 2 ? -ENOENT : -EIO);
	ck_assert_int_eq(info().open, 0);
}
END_TEST

/* Probes at 1, 3, 7 s...; they ask for an object that was there. */
START_TEST(probe_delay_doubles)
{
	struct fault_rule r = {
		.op = -1, .prefix = "s/known", .action = FAULT_RESULT, .result = -EAGAIN
	};
	struct timespec pause = { .tv_nsec = 5000000 };
	int64_t opened;

	ck_assert_int_eq(put("s/known"), 0);
	ck_assert_int_eq(head("s/known"), 0);
	layer_fault_set(fault, &r, 1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(head("s/known"), -EAGAIN);
	opened = clock_mono_ns();
	while (READ(r, fired) < 5) {
		ck_assert_int_lt(clock_mono_ns() - opened, SOON);
		nanosleep(&pause, NULL);
	}
	ck_assert_int_ge(clock_mono_ns() - opened, 2900 * NS_PER_MS);
	ck_assert_int_eq(info().open, 1);
}
END_TEST

/* Who asks again and again while it is down does not make it be found later. */
START_TEST(asked_probes)
{
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_RESULT, .result = -EIO };
	struct timespec pause = { .tv_nsec = 2000000 };
	int64_t begin;

	layer_fault_set(fault, &r, 1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(head("k"), r.result);
	begin = clock_mono_ns();
	for (uint64_t i = 0; i < 8; i++) {
		uint64_t fired = READ(r, fired);

		health_retry(b);
		while (READ(r, fired) == fired) {
			ck_assert_int_lt(clock_mono_ns(), begin + SOON);
			nanosleep(&pause, NULL);
		}
		while (!info().open)
			nanosleep(&pause, NULL);
	}
	layer_fault_set(fault, NULL, 0);
	begin = clock_mono_ns();
	wait_state(HEALTH_OK);
	ck_assert_int_lt(clock_mono_ns() - begin, 5 * NS_PER_S); /* 1 s or 2 */
}
END_TEST

START_TEST(full)
{
	struct fault_rule r = {
		.op = BACKEND_PUT, .prefix = "", .action = FAULT_RESULT, .result = -ENOSPC
	};
	int64_t begun;

	ck_assert_int_eq(put("old"), 0);
	layer_fault_set(fault, &r, 1);
	begun = clock_mono_ns();
	ck_assert_int_eq(put("new"), -ENOSPC);
	ck_assert_int_eq(info().state, HEALTH_FULL);
	ck_assert_int_eq(info().open, 0);
	ck_assert(health_usable(b, 0) && !health_usable(b, 1));
	ck_assert_int_eq(put("new"), -ENOSPC);
	ck_assert_uint_eq(READ(r, fired), 1);
	ck_assert_int_eq(head("old"), 0);
	ck_assert_int_eq(info().state, HEALTH_FULL);
	/* One put after a second as a probe. */
	while (!health_usable(b, 1))
		ck_assert_int_lt(clock_mono_ns() - begun, SOON);
	ck_assert_int_ge(clock_mono_ns() - begun, NS_PER_S);
	ck_assert_int_eq(put("new"), -ENOSPC);
	ck_assert_uint_eq(READ(r, fired), 2);
	ck_assert(!health_usable(b, 1));
	/* What was deleted may have made room. */
	layer_fault_set(fault, NULL, 0);
	ck_assert_int_eq(put("new"), -ENOSPC);
	ck_assert_int_eq(backend_delete_wait(b, "old", SOON), 0);
	ck_assert(health_usable(b, 1));
	ck_assert_int_eq(put("new"), 0);
	ck_assert_int_eq(info().state, HEALTH_OK);
}
END_TEST

/* A read-only place: reads go on. */
START_TEST(read_only)
{
	struct fault_rule r = {
		.op = BACKEND_PUT, .prefix = "", .action = FAULT_RESULT, .result = -EACCES
	};

	ck_assert_int_eq(put("old"), 0);
	layer_fault_set(fault, &r, 1);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(put("new"), -EACCES);
	ck_assert_uint_eq(READ(r, fired), 1);
	ck_assert_int_eq(info().state, HEALTH_DENIED);
	ck_assert_int_eq(info().open, 0);
	ck_assert_int_eq(head("old"), 0);
	ck_assert(health_usable(b, 0) && !health_usable(b, 1));
}
END_TEST

START_TEST(definite_at_once)
{
	struct fault_rule r = {
		.op = -1, .prefix = "", .times = 1, .action = FAULT_RESULT, .result = -ENODEV
	};

	layer_fault_set(fault, &r, 1);
	ck_assert_int_eq(head("k"), -ENODEV);
	ck_assert_int_eq(info().state, HEALTH_ABSENT);
	ck_assert_int_eq(info().open, 0);
	ck_assert_int_eq(head("k"), -ENOENT);
	ck_assert_int_eq(info().state, HEALTH_OK);
	ck_assert_int_eq(__atomic_load_n(&changes, __ATOMIC_SEQ_CST), 2);
	ck_assert_str_eq(health_word(HEALTH_ABSENT), "absent");
	ck_assert_str_eq(health_word(HEALTH_CORRUPT), "corrupt");
}
END_TEST

/* ... and it does not stay there when nobody asks any more. */
START_TEST(definite_is_probed)
{
	struct fault_rule r = {
		.op = -1, .prefix = "", .times = 2, .action = FAULT_RESULT, .result = -ENODEV
	};
	int64_t begin = clock_mono_ns();

	layer_fault_set(fault, &r, 1);
	ck_assert_int_eq(head("k"), -ENODEV);
	ck_assert_int_eq(info().state, HEALTH_ABSENT);
	wait_state(HEALTH_OK);
	ck_assert_uint_eq(READ(r, fired), 2);
	ck_assert_int_lt(clock_mono_ns() - begin, 10 * NS_PER_S);
}
END_TEST

START_TEST(corrupt)
{
	health_report_corrupt(b);
	health_report_corrupt(b);
	ck_assert_int_eq(info().state, HEALTH_CORRUPT);
	ck_assert_uint_eq(info().corrupt, 2);
	ck_assert(health_usable(b, 0) && health_usable(b, 1));
	ck_assert_int_eq(head("k"), -ENOENT);
	ck_assert_int_eq(info().state, HEALTH_CORRUPT);
	/* What is no health layer is usable. */
	health_report_corrupt(fault);
	ck_assert(health_usable(fault, 1));
}
END_TEST

START_TEST(slow)
{
	struct fault_rule r = {
		.op = BACKEND_GET, .prefix = "", .action = FAULT_DELAY, .delay = 700 * NS_PER_MS
	};
	struct flight_req q[6];
	struct flight f;
	uint8_t byte;
	size_t n;

	ck_assert_int_eq(put("k"), 0);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(backend_get_wait(b, "k", 0, &byte, 1, &n, SOON), 0);
	ck_assert_int_eq(info().state, HEALTH_OK);
	ck_assert_int_gt(info().latency_get, 0);
	ck_assert_int_lt(info().latency_get, 100 * NS_PER_MS);
	layer_fault_set(fault, &r, 1);
	flight_init(&f);
	for (int i = 0; i < 6; i++) {
		flight_req_init(&q[i], &f, BACKEND_GET, "k", &byte, 1);
		backend_submit(b, &q[i].req);
	}
	flight_wait(&f, 6);
	ck_assert_int_eq(info().state, HEALTH_SLOW);
	ck_assert(health_usable(b, 0));
	layer_fault_set(fault, NULL, 0);
	for (int i = 0; i < 100 && info().state == HEALTH_SLOW; i++)
		ck_assert_int_eq(backend_get_wait(b, "k", 0, &byte, 1, &n, SOON), 0);
	ck_assert_int_eq(info().state, HEALTH_OK);
	flight_release(&f);
}
END_TEST

/* Requests that wait in a queue of ours until their deadline are not the backend's fault. */
START_TEST(queue_is_not_the_backend)
{
	struct fault_rule r = { .op = -1, .prefix = "", .times = 1, .action = FAULT_HANG };
	struct backend *h = layer_health(
	    layer_limit(layer_fault(mem_open(NULL, 0, 0), &r, 1), 1, NULL), NULL, NULL);
	struct flight_req q[6];
	struct health_info i;
	struct flight f;

	flight_init(&f);
	for (int j = 0; j < 6; j++) {
		flight_req_init(&q[j], &f, BACKEND_HEAD, "k", NULL, 0);
		q[j].req.deadline = clock_mono_ns() + (j ? 30 * NS_PER_MS : SOON);
		backend_submit(h, &q[j].req);
	}
	flight_wait(&f, 5);
	for (int j = 1; j < 6; j++)
		ck_assert_int_eq(q[j].result, -ETIMEDOUT);
	health_get(h, &i);
	ck_assert_int_eq(i.state, HEALTH_OK);
	backend_cancel(h, &q[0].req);
	flight_wait(&f, 6);
	backend_destroy(h);
	flight_release(&f);
}
END_TEST

/* destroy does not wait for a probe that hangs. */
START_TEST(destroy_with_probe)
{
	struct fault_rule r[] = {
		{ .op = -1, .prefix = "", .times = 3, .action = FAULT_RESULT, .result = -EIO },
		{ .op = -1, .prefix = "", .action = FAULT_HANG },
	};
	struct timespec pause = { .tv_nsec = 5000000 };
	int64_t begun = clock_mono_ns();

	layer_fault_set(fault, r, 2);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(head("k"), -EIO);
	while (READ(r[1], fired) == 0) {
		ck_assert_int_lt(clock_mono_ns() - begun, SOON);
		nanosleep(&pause, NULL);
	}
	begun = clock_mono_ns();
	backend_destroy(b);
	ck_assert_int_lt(clock_mono_ns() - begun, 5 * NS_PER_S);
	setup();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("health");
	TCase *tc = tcase_create("health");
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, breaker_opens, 0, 6);
	tcase_add_loop_test(tc, breaker_ignores, 0, 5);
	tcase_add_test(tc, breaker_counts_in_a_row);
	tcase_add_test(tc, probe_delay_doubles);
	tcase_add_test(tc, asked_probes);
	tcase_add_test(tc, full);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, definite_at_once);
	tcase_add_test(tc, definite_is_probed);
	tcase_add_test(tc, corrupt);
	tcase_add_test(tc, slow);
	tcase_add_test(tc, queue_is_not_the_backend);
	tcase_add_test(tc, destroy_with_probe);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
