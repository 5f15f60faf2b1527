/* Every allocation of the backends fails once: an error, exactly once, nothing lost or leaked (run
 * it under ASan), and it works again afterwards. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/alloc_fault.h"
#include "backends/fanout.h"
#include "backends/mem.h"
#include "backends/placement.h"
#include "backends/stack.h"
#include "tests/unit/contract.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define SOON (20 * NS_PER_S)

static char root[64];

static void setup(void)
{
	tmp_folder(root);
	log_set_level(LOG_LV_ERROR);
}

static void teardown(void)
{
	alloc_fault_disarm();
	tmp_folder_remove(root);
}

/* Asserts nothing: libcheck allocates too. */
static struct backend *open_url(const char *url, int *rc)
{
	struct backend_env env = { 0 };
	struct backend_url u;
	struct backend *b = NULL;
	struct err e = { 0 };

	*rc = backend_url_parse(url, &u, &e);
	if (*rc)
		return NULL;
	*rc = backend_open(&u, &env, &b, &e);
	backend_url_release(&u);
	return b;
}

static const char *url_of(int i)
{
	static char url[128];

	snprintf(url, sizeof(url), i ? "file://%s?provider=a&location=b" : "mem://x?provider=a",
		 root);
	return url;
}

/* Creation of everything, for each n until it does not fail any more. */
START_TEST(creation)
{
	struct backend_stack_opts o = { .fault = 1 };
	struct backend_stack_handles h;
	int n = 0, fired;

	do {
		const char *url = url_of(_i);
		struct backend *b;
		int rc;

		alloc_fault_arm(++n);
		b = open_url(url, &rc);
		if (b)
			b = backend_stack(b, &o, &h);
		fired = alloc_fault_disarm();
		ck_assert(rc == 0 || (rc == -ENOMEM && !b));
		ck_assert(b || fired);
		backend_destroy(b);
	} while (fired);
	ck_assert_int_gt(n, 6);
}
END_TEST

/* Each operation through the whole stack. */
START_TEST(operations)
{
	struct backend_stack_opts o = { .fault = 1, .tries = 1 };
	struct backend_stack_handles h;
	int rc;
	struct backend *b = backend_stack(open_url(url_of(_i), &rc), &o, &h);
	uint8_t bytes[100] = { 1 };
	struct flight f;
	int ended = 0;

	flight_init(&f);
	ck_assert_int_eq(backend_put_wait(b, "s/ab/obj", bytes, 100, 0, SOON), 0);
	for (int op = BACKEND_PUT; op < BACKEND_OPS; op++) {
		int n = 0, fired;

		do {
			struct flight_req q;

			flight_req_init(&q, &f, op,
					op == BACKEND_LIST     ? "s/"
					: op == BACKEND_DELETE ? "s/x"
							       : "s/ab/obj",
					bytes, 100);
			if (op == BACKEND_LIST)
				q.req.token = "s/a";
			alloc_fault_arm(++n);
			backend_submit(b, &q.req);
			flight_try_wait(&f, ++ended);
			fired = alloc_fault_disarm();
			ck_assert_int_eq(q.dones, 1);
			ck_assert_msg(q.result == 0 || (fired && q.result == -ENOMEM),
				      "op %d n %d: %d", op, n, q.result);
			ck_assert_uint_eq(q.req.nentries, op == BACKEND_LIST && q.result == 0);
			free(q.req.entries);
			free(q.req.next_token);
		} while (fired);
		ck_assert_int_gt(n, 4);
	}
	backend_destroy(b);
	flight_release(&f);
}
END_TEST

struct fan {
	struct flight flight;
	int dones, released;
};

static void get_done(struct fanout_get *f)
{
	((struct fan *)f->user)->dones++;
}

static void get_released(struct fanout_get *f)
{
	struct fan *n = f->user;

	SCOPE_LOCK(&n->flight.lock);
	n->released++;
	n->flight.ended = 1;
	pthread_cond_broadcast(&n->flight.cond);
}

static void put_done(struct fanout_put *f)
{
	struct fan *n = f->user;

	SCOPE_LOCK(&n->flight.lock);
	n->dones++;
	n->flight.ended = 1;
	pthread_cond_broadcast(&n->flight.cond);
}

START_TEST(fanning)
{
	enum { N = 3 };
	struct backend *b[N];
	const char *keys[N] = { "k/0", "k/1", "k/2" };
	uint8_t bytes[N][50] = { { 0 } }, in[50] = { 7 }, order[N] = { 0, 1, 2 };
	const struct iovec iov = { in, sizeof(in) }, *iovs[N] = { &iov, &iov, &iov };
	int n = 0, fired;

	for (int i = 0; i < N; i++)
		b[i] = layer_health(mem_open(NULL, 0, 0), NULL, NULL);
	do {
		struct fan p = { .dones = 0 }, g = { .dones = 0 };
		struct fanout_put put = { .backends = b,
					  .n = N,
					  .todo = 7,
					  .keys = keys,
					  .iov = iovs,
					  .iovs = 1,
					  .flags = BACKEND_IF_ABSENT,
					  .done = put_done,
					  .user = &p };
		struct fanout_get get = { .backends = b,
					  .n = N,
					  .k = 2,
					  .order = order,
					  .keys = keys,
					  .len = 50,
					  .done = get_done,
					  .released = get_released,
					  .user = &g };

		for (int i = 0; i < N; i++) {
			get.buf[i] = bytes[i];
			backend_delete_wait(b[i], i ? keys[i] : "other",
					    SOON); /* the first one is there already */
		}
		flight_init(&p.flight);
		flight_init(&g.flight);
		alloc_fault_arm(++n);
		fanout_put(&put);
		flight_try_wait(&p.flight, 1);
		fired = alloc_fault_disarm();
		for (int i = 0; i < N; i++)
			ck_assert(put.result[i] == 0 || (fired && put.result[i] == -ENOMEM));
		alloc_fault_arm(n);
		fanout_get(&get);
		flight_try_wait(&g.flight, 1);
		fired |= alloc_fault_disarm();
		ck_assert(get.result == 0 || fired);
		ck_assert(p.dones == 1 && g.dones == 1 && g.released == 1);
		flight_release(&p.flight);
		flight_release(&g.flight);
	} while (fired);
	ck_assert_int_gt(n, 8);
	for (int i = 0; i < N; i++)
		backend_destroy(b[i]);
}
END_TEST

START_TEST(urls)
{
	int n = 0, fired;

	do {
		static const char *const text[] = { "file:///no-such/a/b?provider=x",
						    "mem://b?threads=1&latency=1ms&location=y",
						    "file:///no-such/c" };
		struct backend_url u[3];
		struct err e = { 0 };
		int rc = 0, have = 0;

		alloc_fault_arm(++n);
		while (!rc && have < 3) {
			rc = backend_url_parse(text[have], &u[have], &e);
			have += rc == 0;
		}
		if (!rc)
			rc = placement_check(u, 2, 1, 0, &e);
		fired = alloc_fault_disarm();
		if (n > 1000)
			ck_abort_msg("never ends: %s", e.text);
		ck_assert_msg(rc == (fired ? -ENOMEM : 0) || (fired && rc == 0), "%d: %s", rc,
			      e.text);
		while (have > 0)
			backend_url_release(&u[--have]);
	} while (fired);
	ck_assert_int_gt(n, 10);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backends_alloc");
	TCase *tc = tcase_create("alloc");
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, creation, 0, 2);
	tcase_add_loop_test(tc, operations, 0, 2);
	tcase_add_test(tc, fanning);
	tcase_add_test(tc, urls);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
