/* The contract over mem, file and every layer; and the whole stack. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/layers.h"
#include "backends/health.h"
#include "backends/mem.h"
#include "backends/registry.h"
#include "backends/stack.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "tests/unit/contract.h"

/* A server whose listing has no end: ascending keys, and always another page. */
struct endless {
	struct backend b;
	unsigned pages;
	int64_t clock; /* ns that a page takes */
};

static void endless_submit(struct backend *b, struct backend_req *req)
{
	struct endless *s = container_of(b, struct endless, b);

	ck_assert_uint_lt(++s->pages, 2000);
	req->nentries = s->clock ? 1 : 1000;
	req->entries = calloc(req->nentries, sizeof(*req->entries));
	for (size_t i = 0; i < req->nentries; i++)
		snprintf(req->entries[i].key, sizeof(req->entries[i].key), "h/%08u%04zu", s->pages,
			 i);
	req->next_token = strdup("more");
	if (s->clock)
		nanosleep(&(struct timespec){ .tv_nsec = (long)s->clock }, NULL);
	req->result = 0;
	req->done(req);
}

START_TEST(a_listing_without_end)
{
	static const struct backend_ops ops = { .name = "endless", .submit = endless_submit };
	struct endless s = { .b = { .ops = &ops } };
	struct backend_entry *e;
	size_t n;

	ck_assert_int_eq(backend_list_few_wait(&s.b, "h/", 10000, &e, &n, 60 * NS_PER_S), -EFBIG);
	ck_assert_uint_eq(s.pages, 11);
	ck_assert_ptr_null(e);
	s = (struct endless){ .b = { .ops = &ops }, .clock = NS_PER_MS };
	ck_assert_int_eq(backend_list_few_wait(&s.b, "h/", 10000, &e, &n, 50 * NS_PER_MS),
			 -ETIMEDOUT);
	ck_assert_ptr_null(e);
}
END_TEST

static void close_plain(struct contract_place *p)
{
	backend_destroy(p->b);
}

static const char *opened(struct contract_place *p, struct backend *b)
{
	ck_assert_ptr_nonnull(b);
	p->b = b;
	return NULL;
}

static const char *open_mem(struct contract_place *p)
{
	return opened(p, mem_open(NULL, 0, 0));
}

static const char *open_mem_threads(struct contract_place *p)
{
	return opened(p, mem_open(NULL, 3, 0));
}

static const char *open_mem_late(struct contract_place *p)
{
	return opened(p, mem_open(NULL, 2, 200000));
}

static struct backend *file_open(const char *path, const struct backend_env *env)
{
	struct backend_url u;
	struct backend *b;
	struct err e = { 0 };
	char url[128];

	snprintf(url, sizeof(url), "file://%s", path);
	ck_assert_msg(backend_url_parse(url, &u, &e) == 0, "%s", e.text);
	ck_assert_msg(backend_open(&u, env, &b, &e) == 0, "%s", e.text);
	backend_url_release(&u);
	return b;
}

static const char *open_file(struct contract_place *p)
{
	struct backend_env env = { 0 };

	p->state = malloc(64);
	tmp_folder(p->state);
	return opened(p, file_open(p->state, &env));
}

static const char *open_file_bound(struct contract_place *p)
{
	static const uint8_t drive[16] = "0123456789abcde", uuid[16] = "backend's uuid.";
	struct backend_env env = { .drive = drive, .uuid = uuid };
	struct err e = { 0 };
	struct backend *b;

	p->state = malloc(64);
	tmp_folder(p->state);
	b = file_open(p->state, &env);
	ck_assert_msg(backend_claim(b, drive, uuid, &e) == 0, "%s", e.text);
	return opened(p, b);
}

static void close_file(struct contract_place *p)
{
	backend_destroy(p->b);
	tmp_folder_remove(p->state);
	free(p->state);
}

static const char *open_retry(struct contract_place *p)
{
	return opened(p, layer_retry(mem_open(NULL, 3, 0), 4));
}

static const char *open_limit(struct contract_place *p)
{
	return opened(p, layer_limit(mem_open(NULL, 3, 0), 2, NULL));
}

static const char *open_limit_sync(struct contract_place *p)
{
	static struct bandwidth *bw; /* of all tests, like a drive's of its backends */

	if (!bw)
		bw = bandwidth_create(1ull << 32, 1ull << 32);
	return opened(p, layer_limit(mem_open(NULL, 0, 0), 1, bw));
}

static const char *open_stats(struct contract_place *p)
{
	return opened(p, layer_stats(mem_open(NULL, 3, 0)));
}

static const char *open_fault(struct contract_place *p)
{
	return opened(p, layer_fault(mem_open(NULL, 3, 0), NULL, 0));
}

static const char *open_health(struct contract_place *p)
{
	return opened(p, layer_health(mem_open(NULL, 3, 0), NULL, NULL));
}

static const char *open_stack(struct contract_place *p)
{
	struct backend_stack_opts o = { .in_flight = 4, .fault = 1 };
	struct backend_stack_handles h;

	return opened(p, backend_stack(mem_open(NULL, 3, 0), &o, &h));
}

static const char *open_stack_file(struct contract_place *p)
{
	struct backend_stack_opts o = { .in_flight = 16 };
	struct backend_stack_handles h;
	const char *why = open_file_bound(p);

	p->b = backend_stack(p->b, &o, &h);
	ck_assert_ptr_nonnull(p->b);
	ck_assert_ptr_eq(p->b, h.health);
	return why;
}

/* Faults that repetitions overcome do not show. */
static const char *open_flaky(struct contract_place *p)
{
	static struct fault_rule rules[] = {
		{ .op = -1,
		  .prefix = "",
		  .skip = 2,
		  .times = 1,
		  .action = FAULT_RESULT,
		  .result = -EAGAIN },
		{ .op = BACKEND_GET,
		  .prefix = "",
		  .skip = 1,
		  .times = 1,
		  .action = FAULT_RESULT,
		  .result = -EBADMSG },
	};
	struct backend_stack_opts o = { .fault = 1, .rules = rules, .nrules = 2 };
	struct backend_stack_handles h;

	return opened(p, backend_stack(mem_open(NULL, 2, 0), &o, &h));
}

static const struct contract_factory factories[] = {
	{ "mem", open_mem, close_plain },
	{ "mem_threads", open_mem_threads, close_plain },
	{ "mem_late", open_mem_late, close_plain },
	{ "file", open_file, close_file },
	{ "file_bound", open_file_bound, close_file },
	{ "retry", open_retry, close_plain },
	{ "limit", open_limit, close_plain },
	{ "limit_sync", open_limit_sync, close_plain },
	{ "stats", open_stats, close_plain },
	{ "fault", open_fault, close_plain },
	{ "health", open_health, close_plain },
	{ "stack", open_stack, close_plain },
	{ "stack_file", open_stack_file, close_file },
	{ "flaky", open_flaky, close_plain },
};

START_TEST(test_contract_run)
{
	struct backend *b = mem_open(NULL, 0, 0);

	contract_run(b, "all/", 0);
	backend_destroy(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backends");
	TCase *tc = tcase_create("run");
	SRunner *r;
	int failed;

	contract_add(s, factories, (int)(sizeof(factories) / sizeof(factories[0])));
	tcase_add_test(tc, test_contract_run);
	tcase_add_test(tc, a_listing_without_end);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
