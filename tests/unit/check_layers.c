/* What each layer does besides keeping the contract. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/layers.h"
#include "backends/mem.h"
#include "backends/timer.h"
#include "tests/unit/contract.h"
#include "fs/base/scope.h"

#define SOON              (20 * NS_PER_S)
#define READ(rule, field) __atomic_load_n(&(rule).field, __ATOMIC_RELAXED)

/* mem with faults, and something on top. */
static struct backend *faulty(struct fault_rule *rules, int n)
{
	return layer_fault(mem_open(NULL, 0, 0), rules, n);
}

static int put(struct backend *b, const char *key, int64_t timeout)
{
	return backend_put_wait(b, key, "body", 4, 0, timeout);
}

START_TEST(retry_repeats)
{
	static const int results[] = { -EAGAIN, -EBADMSG, -ETIMEDOUT };
	struct fault_rule r = {
		.op = BACKEND_PUT, .prefix = "", .times = 3, .action = FAULT_RESULT
	};
	struct backend *b;

	r.result = results[_i];
	b = layer_retry(faulty(&r, 1), 6);
	ck_assert_int_eq(put(b, "k", SOON), 0);
	ck_assert_uint_eq(READ(r, fired), 3);
	ck_assert_uint_eq(READ(r, inner), 1);
	backend_destroy(b);
}
END_TEST

START_TEST(retry_leaves_alone)
{
	static const int results[] = {
		-ENOENT, -EEXIST, -ENODEV, -EACCES, -ENOSPC, -EIO, -ECANCELED
	};
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_RESULT };
	struct backend *b;

	r.result = results[_i];
	b = layer_retry(faulty(&r, 1), 6);
	ck_assert_int_eq(put(b, "k", SOON), r.result);
	ck_assert_uint_eq(READ(r, fired), 1);
	backend_destroy(b);
}
END_TEST

START_TEST(retry_gives_up)
{
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_RESULT, .result = -EAGAIN };
	struct backend *b = layer_retry(faulty(&r, 1), 3);

	ck_assert_int_eq(put(b, "k", SOON), -EAGAIN);
	ck_assert_uint_eq(READ(r, fired), 3);
	backend_destroy(b);
}
END_TEST

START_TEST(retry_keeps_deadline)
{
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct backend *b = layer_retry(faulty(&r, 1), 100);
	int64_t begun = clock_mono_ns();

	ck_assert_int_eq(put(b, "k", 300 * NS_PER_MS), -ETIMEDOUT);
	ck_assert_int_ge(clock_mono_ns() - begun, 299 * NS_PER_MS);
	ck_assert_int_lt(clock_mono_ns() - begun, 3 * NS_PER_S);
	backend_destroy(b);
}
END_TEST

/* A single try that hangs is given up long before the deadline. */
START_TEST(retry_patience)
{
	struct fault_rule r = { .op = -1, .prefix = "", .times = 1, .action = FAULT_HANG };
	struct backend *b = layer_retry(layer_limit(faulty(&r, 1), 4, NULL), 3);
	int64_t begun = clock_mono_ns();

	ck_assert_int_eq(put(b, "k", 60 * NS_PER_S), 0);
	ck_assert_int_ge(clock_mono_ns() - begun, 2 * NS_PER_S);
	ck_assert_int_lt(clock_mono_ns() - begun, 10 * NS_PER_S);
	ck_assert_uint_eq(READ(r, inner), 1);
	backend_destroy(b);
}
END_TEST

/* An outage does not become a storm: the budget ends the repetitions. */
START_TEST(retry_budget)
{
	enum { N = 200 };
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_RESULT, .result = -EAGAIN };
	struct backend *b = layer_retry(faulty(&r, 1), 4);
	struct flight_req *q = calloc(N, sizeof(*q));
	struct flight f;

	flight_init(&f);
	for (int i = 0; i < N; i++) {
		flight_req_init(&q[i], &f, BACKEND_HEAD, "k", NULL, 0);
		backend_submit(b, &q[i].req);
	}
	flight_wait(&f, N);
	/* 10 % of them, and the 10 that there are to begin with. */
	ck_assert_uint_ge(READ(r, fired), N + 10);
	ck_assert_uint_le(READ(r, fired), N + N / 10 + 10);
	backend_destroy(b);
	flight_release(&f);
	free(q);
}
END_TEST

START_TEST(retry_cancel_in_backoff)
{
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_RESULT, .result = -EAGAIN };
	struct backend *b = layer_retry(faulty(&r, 1), 1000);
	struct flight_req q;
	struct flight f;
	int64_t begun = clock_mono_ns();

	flight_init(&f);
	flight_req_init(&q, &f, BACKEND_HEAD, "k", NULL, 0);
	backend_submit(b, &q.req);
	backend_cancel(b, &q.req);
	flight_wait(&f, 1);
	ck_assert_int_eq(q.dones, 1);
	ck_assert_int_eq(q.result, -ECANCELED);
	ck_assert_int_lt(clock_mono_ns() - begun, 5 * NS_PER_S);
	backend_destroy(b);
	flight_release(&f);
}
END_TEST

/* The answer of a conditional put got lost: the repetition finds it there, and says so. */
START_TEST(retry_conditional)
{
	struct fault_rule r = {
		.op = BACKEND_PUT, .prefix = "", .times = 1, .action = FAULT_ANSWER_LOST
	};
	struct backend *b = layer_retry(faulty(&r, 1), 4);

	ck_assert_int_eq(backend_put_wait(b, "k", "body", 4, BACKEND_IF_ABSENT, SOON), -EEXIST);
	ck_assert_uint_eq(READ(r, inner), 2);
	backend_destroy(b);
}
END_TEST

START_TEST(limit_in_flight)
{
	enum { N = 10 };
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct backend *fault = faulty(&r, 1);
	struct backend *b = layer_limit(fault, 3, NULL);
	struct flight_req q[N];
	struct flight f;

	flight_init(&f);
	for (int i = 0; i < N; i++) {
		flight_req_init(&q[i], &f, BACKEND_HEAD, "k", NULL, 0);
		backend_submit(b, &q[i].req);
	}
	ck_assert_uint_eq(READ(r, fired), 3);
	/* One that waits leaves the queue; one that flies makes room. */
	backend_cancel(b, &q[9].req);
	flight_wait(&f, 1);
	ck_assert_int_eq(q[9].result, -ECANCELED);
	ck_assert_int_eq(q[9].req.unasked, 1);
	ck_assert_uint_eq(READ(r, fired), 3);
	backend_cancel(b, &q[0].req);
	flight_wait(&f, 2);
	ck_assert_uint_eq(READ(r, fired), 4);
	/* First come, first served: those in flight are 1, 2, 3 now. */
	layer_fault_set(fault, NULL, 0);
	for (int i = 1; i < 4; i++)
		backend_cancel(b, &q[i].req);
	flight_wait(&f, N);
	for (int i = 4; i < 9; i++)
		ck_assert_int_eq(q[i].result, -ENOENT);
	backend_destroy(b);
	flight_release(&f);
}
END_TEST

START_TEST(limit_queue_deadline)
{
	struct fault_rule r = { .op = -1, .prefix = "", .action = FAULT_HANG };
	struct backend *b = layer_limit(faulty(&r, 1), 1, NULL);
	struct flight_req q[2];
	struct flight f;

	flight_init(&f);
	for (int i = 0; i < 2; i++) {
		flight_req_init(&q[i], &f, BACKEND_HEAD, "k", NULL, 0);
		q[i].req.deadline = clock_mono_ns() + (i ? 100 : 2000) * NS_PER_MS;
		backend_submit(b, &q[i].req);
	}
	flight_wait(&f, 1);
	ck_assert_int_eq(q[1].result, -ETIMEDOUT);
	ck_assert_int_eq(q[1].req.unasked, 1);
	ck_assert_uint_eq(READ(r, fired), 1);
	backend_cancel(b, &q[0].req);
	flight_wait(&f, 2);
	backend_destroy(b);
	flight_release(&f);
}
END_TEST

/* 10 x 100 kB at 1 MB/s over three backends: the first is on credit, so nine are paid for. */
START_TEST(limit_bandwidth)
{
	enum { N = 10, SIZE = 100000, BACKENDS = 3 };
	struct bandwidth *bw = bandwidth_create(1000000, 1000000);
	static uint8_t bytes[SIZE];
	struct backend *b[BACKENDS];
	struct flight_req q[N], head;
	int64_t begun, took;
	struct flight f;

	flight_init(&f);
	for (int i = 0; i < BACKENDS; i++) {
		struct backend *mem = mem_open(NULL, 0, 0);

		ck_assert_int_eq(backend_put_wait(mem, "k", bytes, SIZE, 0, SOON), 0);
		b[i] = layer_limit(mem, 0, bw);
	}
	begun = clock_mono_ns();
	for (int i = 0; i < N; i++) {
		flight_req_init(&q[i], &f, _i ? BACKEND_GET : BACKEND_PUT, "k", bytes, SIZE);
		backend_submit(b[i % BACKENDS], &q[i].req);
	}
	/* What needs no bandwidth does not wait for it. */
	flight_req_init(&head, &f, BACKEND_HEAD, "other", NULL, 0);
	backend_submit(b[0], &head.req);
	ck_assert_int_eq(head.dones, 1);
	flight_wait(&f, N + 1);
	took = clock_mono_ns() - begun;
	ck_assert_int_ge(took, 850 * NS_PER_MS);
	ck_assert_int_lt(took, 4 * NS_PER_S);
	/* The wait is told, so that nobody takes the backend for slow. */
	ck_assert_int_eq(q[0].req.waited, 0);
	ck_assert_int_gt(q[N - 1].req.waited, 200 * NS_PER_MS);
	for (int i = 0; i < BACKENDS; i++)
		backend_destroy(b[i]);
	bandwidth_destroy(bw);
	flight_release(&f);
}
END_TEST

START_TEST(limit_change)
{
	enum { N = 3, SIZE = 100000 };
	struct bandwidth *bw = bandwidth_create(10, 0);
	struct backend *b[] = { layer_limit(mem_open(NULL, 0, 0), 0, bw),
				layer_limit(mem_open(NULL, 0, 0), 0, bw) };
	static uint8_t bytes[SIZE];
	struct flight_req q[N];
	struct flight f;

	flight_init(&f);
	for (int i = 0; i < N; i++) {
		flight_req_init(&q[i], &f, BACKEND_PUT, "k", bytes, SIZE);
		backend_submit(b[i % 2], &q[i].req);
	}
	ck_assert_int_eq(flight_ended(&f), 1);
	bandwidth_set(bw, 0, 1 << 20);
	flight_wait(&f, N);
	ck_assert_uint_eq(bandwidth_rate(bw, BANDWIDTH_UP), 0);
	ck_assert_uint_eq(bandwidth_rate(bw, BANDWIDTH_DOWN), 1 << 20);
	for (int i = 0; i < 2; i++)
		backend_destroy(b[i]);
	bandwidth_destroy(bw);
	flight_release(&f);
}
END_TEST

/* A reader does not wait for what healing owes, on the same backend or another; healing waits for
 * both, and is not forgotten. */
START_TEST(limit_background)
{
	enum { SIZE = 1000000, SMALL = 1000, READS = 20 };
	struct bandwidth *bw = bandwidth_create(0, 500000); /* a large one is 2 s */
	struct backend *b[2];
	static uint8_t bytes[SIZE];
	struct flight_req heal[2], read[READS];
	int64_t begun = clock_mono_ns();
	struct flight f;

	flight_init(&f);
	for (int i = 0; i < 2; i++) {
		b[i] = mem_open(NULL, 0, 0);
		ck_assert_int_eq(backend_put_wait(b[i], "k", bytes, SIZE, 0, SOON), 0);
		b[i] = layer_limit(b[i], 0, bw);
	}
	for (int i = 0; i < 2; i++) {
		flight_req_init(&heal[i], &f, BACKEND_GET, "k", bytes, SIZE);
		heal[i].req.flags = BACKEND_BACKGROUND;
		backend_submit(b[i], &heal[i].req);
	}
	ck_assert_int_eq(heal[0].dones, 1);
	for (int i = 0; i < READS; i++) {
		flight_req_init(&read[i], &f, BACKEND_GET, "k", bytes, SMALL);
		backend_submit(b[i % 2], &read[i].req);
	}
	flight_wait(&f, 1 + READS);
	ck_assert_int_lt(clock_mono_ns() - begun, NS_PER_S);
	ck_assert_int_eq(heal[1].dones, 0);
	flight_wait(&f, 2 + READS);
	ck_assert_int_ge(clock_mono_ns() - begun, 1800 * NS_PER_MS);
	for (int i = 0; i < 2; i++)
		backend_destroy(b[i]);
	bandwidth_destroy(bw);
	flight_release(&f);
}
END_TEST

/* Reads that take all they get leave an eighth of the rate to healing. */
START_TEST(bandwidth_share)
{
	struct bandwidth *bw = bandwidth_create(0, 1000000);
	int64_t now = clock_mono_ns(), end = now + 8 * NS_PER_S;
	uint64_t front = 0, back = 0;

	for (; now < end; now += NS_PER_MS) {
		while (!bandwidth_when(bw, BANDWIDTH_DOWN, 0, now)) {
			ck_assert_uint_eq(bandwidth_take(bw, BANDWIDTH_DOWN, 0, 10000), 1000000);
			front += 10000;
		}
		if (!bandwidth_when(bw, BANDWIDTH_DOWN, 1, now)) {
			bandwidth_take(bw, BANDWIDTH_DOWN, 1, 10000);
			back += 10000;
		}
	}
	/* 8 MB, and what may be saved up */
	ck_assert_uint_le(front + back, 8000000 + 3 * 250000);
	ck_assert_uint_ge(front + back, 7900000);
	ck_assert_uint_ge(back, 700000);
	ck_assert_uint_le(back, 1300000);
	/* What did not come is paid back. */
	bandwidth_take(bw, BANDWIDTH_DOWN, 0, 5000000);
	ck_assert_int_ne(bandwidth_when(bw, BANDWIDTH_DOWN, 0, now), 0);
	bandwidth_give_back(bw, BANDWIDTH_DOWN, 0, 5000000);
	ck_assert_int_lt(bandwidth_when(bw, BANDWIDTH_DOWN, 0, now), now + NS_PER_S);
	bandwidth_destroy(bw);
}
END_TEST

START_TEST(stats_counts)
{
	struct fault_rule r[] = {
		{ .op = BACKEND_HEAD, .prefix = "bad", .action = FAULT_RESULT, .result = -EACCES },
		{ .op = BACKEND_HEAD,
		  .prefix = "late",
		  .action = FAULT_DELAY,
		  .delay = 20 * NS_PER_MS },
	};
	struct backend *b = layer_stats(faulty(r, 2));
	struct backend_stats s;
	uint8_t bytes[100];
	uint64_t size;
	size_t got;

	layer_stats_get(b, &s);
	ck_assert_int_eq(s.p50[BACKEND_PUT], 0);
	ck_assert_int_eq(put(b, "k", SOON), 0);
	ck_assert_int_eq(put(b, "late", SOON), 0);
	ck_assert_int_eq(backend_get_wait(b, "k", 1, bytes, 100, &got, SOON), 0);
	ck_assert_int_eq(backend_head_wait(b, "none", &size, SOON), -ENOENT);
	ck_assert_int_eq(backend_head_wait(b, "bad", &size, SOON), -EACCES);
	for (int i = 0; i < 9; i++)
		ck_assert_int_eq(backend_head_wait(b, i < 7 ? "k" : "late", &size, SOON), 0);
	layer_stats_get(b, &s);
	ck_assert_uint_eq(s.requests[BACKEND_PUT], 2);
	ck_assert_uint_eq(s.bytes_up, 8);
	ck_assert_uint_eq(s.bytes_down, 3);
	ck_assert_uint_eq(s.requests[BACKEND_HEAD], 11);
	ck_assert_uint_eq(s.errors[BACKEND_HEAD], 1);
	ck_assert_uint_eq(s.by_error[1], 1);
	ck_assert_int_gt(s.p50[BACKEND_HEAD], 0);
	ck_assert_int_lt(s.p50[BACKEND_HEAD], 15 * NS_PER_MS);
	ck_assert_int_ge(s.p90[BACKEND_HEAD], 18 * NS_PER_MS);
	ck_assert_int_ge(s.p99[BACKEND_HEAD], s.p90[BACKEND_HEAD]);
	ck_assert_int_eq(s.p50[BACKEND_DELETE], 0);
	backend_destroy(b);
}
END_TEST

START_TEST(fault_actions)
{
	struct fault_rule r[] = {
		{ .op = BACKEND_GET, .prefix = "corrupt", .action = FAULT_CORRUPT },
		{ .op = BACKEND_GET, .prefix = "short", .action = FAULT_TRUNCATE },
		{ .op = BACKEND_PUT, .prefix = "badput", .action = FAULT_CORRUPT },
		{ .op = BACKEND_PUT, .prefix = "halfput", .action = FAULT_TRUNCATE },
		{ .op = BACKEND_PUT, .prefix = "lost", .action = FAULT_LOSE },
		{ .op = BACKEND_PUT,
		  .prefix = "unheard",
		  .action = FAULT_ANSWER_LOST,
		  .result = -EAGAIN },
		{ .op = BACKEND_HEAD,
		  .prefix = "second",
		  .skip = 1,
		  .times = 2,
		  .action = FAULT_RESULT,
		  .result = -EIO },
	};
	struct backend *b = faulty(r, (int)ARRAY_LEN(r));
	char got[5] = { 0 };
	uint64_t size;
	size_t n;

	ck_assert_int_eq(put(b, "corrupt", SOON), 0);
	ck_assert_int_eq(backend_get_wait(b, "corrupt", 0, got, 4, &n, SOON), 0);
	ck_assert_uint_eq(n, 4);
	ck_assert_str_ne(got, "body");
	ck_assert_int_eq(put(b, "short", SOON), 0);
	ck_assert_int_eq(backend_get_wait(b, "short", 0, got, 4, &n, SOON), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(put(b, "badput", SOON), 0);
	ck_assert_int_eq(backend_get_wait(b, "badput", 0, got, 4, &n, SOON), 0);
	ck_assert_uint_eq(n, 4);
	ck_assert_str_ne(got, "body");
	ck_assert_int_eq(put(b, "halfput", SOON), 0);
	ck_assert_int_eq(backend_head_wait(b, "halfput", &size, SOON), 0);
	ck_assert_uint_eq(size, 2);
	ck_assert_int_eq(put(b, "lost", SOON), 0);
	ck_assert_int_eq(backend_head_wait(b, "lost", &size, SOON), -ENOENT);
	ck_assert_uint_eq(READ(r[4], inner), 0);
	ck_assert_int_eq(put(b, "unheard", SOON), -EAGAIN);
	ck_assert_int_eq(backend_head_wait(b, "unheard", &size, SOON), 0);
	ck_assert_uint_eq(READ(r[5], inner), 1);
	ck_assert_int_eq(put(b, "second", SOON), 0);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(backend_head_wait(b, "second", &size, SOON),
				 i == 1 || i == 2 ? -EIO : 0);
	ck_assert_uint_eq(READ(r[6], fired), 2);
	ck_assert_uint_eq(READ(r[6], inner), 3);
	backend_destroy(b);
}
END_TEST

/* A storm of cancels against requests in every state of every layer. */
START_TEST(cancel_storm)
{
	enum { N = 400 };
	struct fault_rule r[] = {
		{ .op = BACKEND_HEAD, .prefix = "", .action = FAULT_DELAY, .delay = NS_PER_MS },
		{ .op = BACKEND_PUT,
		  .prefix = "",
		  .skip = 5,
		  .action = FAULT_RESULT,
		  .result = -EAGAIN },
		{ .op = BACKEND_DELETE, .prefix = "", .action = FAULT_HANG },
	};
	struct backend *b = layer_stats(
	    layer_retry(layer_limit(layer_fault(mem_open(NULL, 3, 100000), r, 3), 8, NULL), 5));
	struct flight_req *q = calloc(N, sizeof(*q));
	uint8_t *bytes = calloc(N, 1); /* one each: gets write what puts would read */
	struct flight f;

	flight_init(&f);
	for (int i = 0; i < N; i++) {
		flight_req_init(&q[i], &f, i % 4 == 3 ? BACKEND_DELETE : i % 3, "k", bytes + i, 1);
		backend_submit(b, &q[i].req);
		if (i % 7 == 0)
			backend_cancel(b, &q[i / 2].req);
	}
	for (int i = N - 1; i >= 0; i--)
		backend_cancel(b, &q[i].req);
	flight_wait(&f, N);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(q[i].dones, 1);
	backend_destroy(b);
	flight_release(&f);
	free(bytes);
	free(q);
}
END_TEST

/* Timers: in order, and taken back from anywhere in the heap. */
struct tick {
	struct timer t;
	struct flight *f;
	int number, order;
};
static int tick_order; /* by the flight's lock */

static void tick(struct timer *t)
{
	struct tick *k = container_of(t, struct tick, t);

	SCOPE_LOCK(&k->f->lock);
	k->order = ++tick_order;
	k->f->ended++;
	pthread_cond_broadcast(&k->f->cond);
}

START_TEST(timers_order)
{
	enum { N = 200 };
	struct timers *ts = timers_acquire();
	struct tick k[N];
	struct flight f;
	int64_t at = clock_mono_ns() + 50 * NS_PER_MS;
	int left = N;

	ck_assert_ptr_nonnull(ts);
	ck_assert_ptr_eq(ts, timers_acquire());
	timers_release(ts);
	flight_init(&f);
	memset(k, 0, sizeof(k));
	for (int i = 0; i < N; i++) {
		k[i].f = &f;
		k[i].number = (i * 73) % N;
		timer_set(ts, &k[i].t, at + k[i].number * 10000, tick);
	}
	for (int i = 0; i < N; i++)
		if (k[i].number % 3 == 0)
			left -= timer_cancel(ts, &k[i].t);
	flight_wait(&f, left);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(timer_cancel(ts, &k[i].t), 0);
		if (k[i].number % 3)
			ck_assert_int_eq(k[i].order, k[i].number - k[i].number / 3);
		timer_cancel_wait(ts, &k[i].t);
	}
	timers_release(ts);
	flight_release(&f);
}
END_TEST

static struct timers *to_release;

static void release_self(struct timer *t)
{
	timers_release(to_release);
	tick(t);
}

START_TEST(timers_last_reference_in_callback)
{
	struct tick k = { 0 };
	struct flight f;

	flight_init(&f);
	to_release = timers_acquire();
	k.f = &f;
	timer_set(to_release, &k.t, 1, release_self);
	flight_wait(&f, 1);
	flight_release(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("layers");
	TCase *tc = tcase_create("layers");
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, retry_repeats, 0, 3);
	tcase_add_loop_test(tc, retry_leaves_alone, 0, 7);
	tcase_add_test(tc, retry_gives_up);
	tcase_add_test(tc, retry_keeps_deadline);
	tcase_add_test(tc, retry_patience);
	tcase_add_test(tc, retry_budget);
	tcase_add_test(tc, retry_cancel_in_backoff);
	tcase_add_test(tc, retry_conditional);
	tcase_add_test(tc, limit_in_flight);
	tcase_add_test(tc, limit_queue_deadline);
	tcase_add_loop_test(tc, limit_bandwidth, 0, 2);
	tcase_add_test(tc, limit_change);
	tcase_add_test(tc, limit_background);
	tcase_add_test(tc, bandwidth_share);
	tcase_add_test(tc, stats_counts);
	tcase_add_test(tc, fault_actions);
	tcase_add_test(tc, cancel_storm);
	tcase_add_test(tc, timers_order);
	tcase_add_test(tc, timers_last_reference_in_callback);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
