#include "tests/unit/contract.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"

#define SOON (20 * NS_PER_S)

void flight_init(struct flight *f)
{
	pthread_mutex_init(&f->lock, NULL);
	cond_init_mono(&f->cond);
	f->ended = 0;
}

void flight_release(struct flight *f)
{
	pthread_cond_destroy(&f->cond);
	pthread_mutex_destroy(&f->lock);
}

static void flight_done(struct backend_req *req)
{
	struct flight_req *r = container_of(req, struct flight_req, req);
	struct flight *f = r->flight;

	SCOPE_LOCK(&f->lock);
	r->dones++;
	r->result = req->result;
	f->ended++;
	pthread_cond_broadcast(&f->cond);
}

void flight_req_init(struct flight_req *r, struct flight *f, enum backend_op op, const char *key,
		     void *p, size_t n)
{
	memset(r, 0, sizeof(*r));
	r->flight = f;
	r->result = 1;
	snprintf(r->key, sizeof(r->key), "%s", key);
	r->iov = (struct iovec){ p, n };
	r->req = (struct backend_req){
		.op = op,
		.key = r->key,
		.iov = &r->iov,
		.iovs = p ? 1 : 0,
		.deadline = clock_mono_ns() + SOON,
		.done = flight_done,
	};
}

int flight_try_wait(struct flight *f, int n)
{
	int64_t deadline = clock_mono_ns() + SOON;

	SCOPE_LOCK(&f->lock);
	while (f->ended < n && cond_wait_until(&f->cond, &f->lock, deadline) == 0)
		;
	return f->ended;
}

void flight_wait(struct flight *f, int n)
{
	ck_assert_int_eq(flight_try_wait(f, n), n);
}

int flight_ended(struct flight *f)
{
	SCOPE_LOCK(&f->lock);
	return f->ended;
}

void pattern_fill(uint8_t *p, size_t n, unsigned seed)
{
	uint32_t v = seed * 2654435761u + 1;

	for (size_t i = 0; i < n; i++) {
		v = v * 1664525u + 1013904223u;
		p[i] = (uint8_t)(v >> 24);
	}
}

void tmp_folder(char path[64])
{
	const char *tmp = getenv("TMPDIR");

	ck_assert_int_lt(
	    snprintf(path, 64, "%s/skyflok-check-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp"),
	    64);
	ck_assert_ptr_nonnull(mkdtemp(path));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void tmp_folder_remove(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* The cases. */

static const char *key_of(const struct contract_place *p, char out[BACKEND_KEY_MAX + 1],
			  const char *name)
{
	ck_assert_int_le(snprintf(out, BACKEND_KEY_MAX + 1, "%s%s", p->prefix, name),
			 BACKEND_KEY_MAX);
	return out;
}
#define KEY(p, name) key_of(p, (char[BACKEND_KEY_MAX + 1]){ 0 }, name)

static void put(struct contract_place *p, const char *name, const void *bytes, size_t n)
{
	ck_assert_int_eq(backend_put_wait(p->b, KEY(p, name), bytes, n, 0, SOON), 0);
}

static void check_content(struct contract_place *p, const char *name, const void *bytes, size_t n)
{
	uint8_t *got;
	size_t len;

	ck_assert_int_eq(backend_read_wait(p->b, KEY(p, name), n + 1, &got, &len, SOON), 0);
	ck_assert_uint_eq(len, n);
	ck_assert(n == 0 || memcmp(got, bytes, n) == 0);
	free(got);
}

static void case_put_get(struct contract_place *p)
{
	static const size_t sizes[] = { 0, 1, 4095, 65536, 1024 * 1024, 3 * 1024 * 1024 + 17 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint8_t *bytes = malloc(sizes[i] + 1);
		uint64_t size = 1;

		pattern_fill(bytes, sizes[i], (unsigned)i);
		put(p, "pg/obj", bytes, sizes[i]);
		ck_assert_int_eq(backend_head_wait(p->b, KEY(p, "pg/obj"), &size, SOON), 0);
		ck_assert_uint_eq(size, sizes[i]);
		check_content(p, "pg/obj", bytes, sizes[i]);
		free(bytes);
	}
}

static void case_vectors(struct contract_place *p)
{
	uint8_t in[1000], out[1000] = { 0 };
	struct flight f;
	struct flight_req r;
	struct iovec pieces[4] = { { in, 1 }, { in + 1, 0 }, { in + 1, 700 }, { in + 701, 299 } };

	pattern_fill(in, sizeof(in), 7);
	flight_init(&f);
	flight_req_init(&r, &f, BACKEND_PUT, KEY(p, "v"), in, 0);
	r.req.iov = pieces;
	r.req.iovs = 4;
	backend_submit(p->b, &r.req);
	flight_wait(&f, 1);
	ck_assert_int_eq(r.result, 0);
	for (int i = 0; i < 4; i++)
		pieces[i].iov_base = out + ((uint8_t *)pieces[i].iov_base - in);
	flight_req_init(&r, &f, BACKEND_GET, KEY(p, "v"), in, 0);
	r.req.iov = pieces;
	r.req.iovs = 4;
	backend_submit(p->b, &r.req);
	flight_wait(&f, 2);
	ck_assert_int_eq(r.result, 0);
	ck_assert_uint_eq(r.req.size, 1000);
	ck_assert(memcmp(in, out, sizeof(in)) == 0);
	flight_release(&f);
}

static void case_ranges(struct contract_place *p)
{
	static const struct {
		uint64_t offset;
		size_t n, got;
	} t[] = { { 0, 10, 10 }, { 1, 1, 1 },     { 500, 500, 500 }, { 500, 501, 500 },
		  { 999, 1, 1 }, { 999, 100, 1 }, { 1000, 1, 0 },    { 5000, 10, 0 } };
	uint8_t in[1000], out[1000];
	size_t got;

	pattern_fill(in, sizeof(in), 3);
	put(p, "r", in, sizeof(in));
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		memset(out, 0xee, sizeof(out));
		ck_assert_int_eq(
		    backend_get_wait(p->b, KEY(p, "r"), t[i].offset, out, t[i].n, &got, SOON), 0);
		ck_assert_uint_eq(got, t[i].got);
		ck_assert(got == 0 || memcmp(out, in + t[i].offset, got) == 0);
		for (size_t j = t[i].n; j < sizeof(out); j++)
			ck_assert_uint_eq(out[j], 0xee);
	}
}

static void case_absent(struct contract_place *p)
{
	uint64_t size;
	uint8_t byte;
	size_t got;

	ck_assert_int_eq(backend_head_wait(p->b, KEY(p, "no/such"), &size, SOON), -ENOENT);
	ck_assert_int_eq(backend_get_wait(p->b, KEY(p, "no/such"), 0, &byte, 1, &got, SOON),
			 -ENOENT);
	ck_assert_int_eq(backend_delete_wait(p->b, KEY(p, "no/such"), SOON), 0);
	put(p, "no/other", "x", 1);
	ck_assert_int_eq(backend_head_wait(p->b, KEY(p, "no/such"), &size, SOON), -ENOENT);
	ck_assert_int_eq(backend_delete_wait(p->b, KEY(p, "no/such"), SOON), 0);
	check_content(p, "no/other", "x", 1);
}

static void case_replace(struct contract_place *p)
{
	put(p, "o", "first", 5);
	put(p, "o", "first", 5);
	check_content(p, "o", "first", 5);
	put(p, "o", "2nd", 3);
	check_content(p, "o", "2nd", 3);
}

static void case_delete(struct contract_place *p)
{
	uint64_t size;

	put(p, "d/1", "one", 3);
	put(p, "d/2", "two", 3);
	ck_assert_int_eq(backend_delete_wait(p->b, KEY(p, "d/1"), SOON), 0);
	ck_assert_int_eq(backend_head_wait(p->b, KEY(p, "d/1"), &size, SOON), -ENOENT);
	check_content(p, "d/2", "two", 3);
	ck_assert_int_eq(backend_delete_wait(p->b, KEY(p, "d/2"), SOON), 0);
	put(p, "d/1", "again", 5);
	check_content(p, "d/1", "again", 5);
}

static void case_if_absent(struct contract_place *p)
{
	enum { N = 8 };
	struct flight_req r[N];
	uint8_t bytes[N][64];
	struct flight f;
	int winner = -1;

	if (p->flags & CONTRACT_NO_ABSENT_IF)
		return;
	ck_assert_int_eq(backend_put_wait(p->b, KEY(p, "ia/1"), "mine", 4, BACKEND_IF_ABSENT, SOON),
			 0);
	ck_assert_int_eq(backend_put_wait(p->b, KEY(p, "ia/1"), "mine", 4, BACKEND_IF_ABSENT, SOON),
			 -EEXIST);
	ck_assert_int_eq(
	    backend_put_wait(p->b, KEY(p, "ia/1"), "yours", 5, BACKEND_IF_ABSENT, SOON), -EEXIST);
	check_content(p, "ia/1", "mine", 4);
	/* Of several at the same time exactly one wins, and it is its bytes that are there. */
	flight_init(&f);
	for (int i = 0; i < N; i++) {
		memset(bytes[i], 'a' + i, sizeof(bytes[i]));
		flight_req_init(&r[i], &f, BACKEND_PUT, KEY(p, "ia/race"), bytes[i],
				sizeof(bytes[i]));
		r[i].req.flags = BACKEND_IF_ABSENT;
		backend_submit(p->b, &r[i].req);
	}
	flight_wait(&f, N);
	for (int i = 0; i < N; i++) {
		ck_assert(r[i].result == 0 || r[i].result == -EEXIST);
		if (r[i].result == 0) {
			ck_assert_int_eq(winner, -1);
			winner = i;
		}
	}
	ck_assert_int_ge(winner, 0);
	check_content(p, "ia/race", bytes[winner], sizeof(bytes[winner]));
	flight_release(&f);
}

static void expect_list(struct contract_place *p, const char *prefix, const char *const *names)
{
	struct backend_entry *e;
	size_t n, i = 0;

	ck_assert_int_eq(backend_list_wait(p->b, KEY(p, prefix), &e, &n, SOON), 0);
	for (; names[i]; i++) {
		ck_assert_uint_lt(i, n);
		ck_assert_str_eq(e[i].key, KEY(p, names[i]));
		ck_assert_uint_eq(e[i].size, i + 1);
	}
	ck_assert_uint_eq(n, i);
	free(e);
}

static void case_list(struct contract_place *p)
{
	/* In the order of their bytes: '-' '.' '/' '0' 'A' '_' 'a'. */
	static const char *const all[] = { "l/a-b", "l/a.b", "l/a/A", "l/a/b/c", "l/a/b0",
					   "l/a0",  "l/aB",  "l/a_",  "l/b",     NULL };
	static const char *const none[] = { NULL };
	uint8_t bytes[16] = { 0 };
	struct backend_entry *e;
	size_t n;

	expect_list(p, "l/", none);
	for (int i = 8; i >= 0; i--)
		put(p, all[i], bytes, (size_t)i + 1);
	put(p, "m", bytes, 1);
	put(p, "k/l", bytes, 1);
	expect_list(p, "l/", all);
	expect_list(p, "l", all);
	expect_list(p, "l/zzz", none);
	expect_list(p, "l/a-b/", none);
	ck_assert_int_eq(backend_list_wait(p->b, KEY(p, "l/a/b"), &e, &n, SOON), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_str_eq(e[0].key, KEY(p, "l/a/b/c"));
	ck_assert_str_eq(e[1].key, KEY(p, "l/a/b0"));
	free(e);
}

static void case_list_pages(struct contract_place *p)
{
	enum { N = 1203 };
	struct flight_req *r = calloc(N, sizeof(*r));
	struct flight f;
	struct backend_entry *e;
	char name[32];
	uint8_t byte = 1;
	size_t n;

	if (p->flags & CONTRACT_FEW)
		goto out;
	flight_init(&f);
	for (int i = 0; i < N; i++) {
		/* Some in folders, so that a page ends inside one. */
		snprintf(name, sizeof(name), i % 3 ? "p/%02x/%04d" : "p/%02x.%04d", i % 7, i);
		flight_req_init(&r[i], &f, BACKEND_PUT, KEY(p, name), &byte, 1);
		backend_submit(p->b, &r[i].req);
	}
	flight_wait(&f, N);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(r[i].result, 0);
	flight_release(&f);
	ck_assert_int_eq(backend_list_wait(p->b, KEY(p, "p/"), &e, &n, SOON), 0);
	ck_assert_uint_eq(n, N);
	for (size_t i = 1; i < n; i++)
		ck_assert_int_lt(strcmp(e[i - 1].key, e[i].key), 0);
	free(e);
	ck_assert_int_eq(backend_list_wait(p->b, KEY(p, "p/03"), &e, &n, SOON), 0);
	ck_assert_uint_eq(n, N / 7 + (N % 7 > 3));
	free(e);
out:
	free(r);
}

static void case_bad_keys(struct contract_place *p)
{
	static const char *const bad[] = { "",       "/a",       "a/",    "a//b", "..",
					   "a/../b", "a..b",     ".a",    "a/.b", "a b",
					   "a\\b",   "\xc3\xa9", "a%2fb", "a\n" };
	char longest[BACKEND_KEY_MAX + 2];
	struct flight f;
	struct flight_req r;
	uint8_t byte = 0;
	int n = 0;

	flight_init(&f);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		for (int op = BACKEND_PUT; op <= BACKEND_DELETE; op++) {
			flight_req_init(&r, &f, op, bad[i], &byte, 1);
			backend_submit(p->b, &r.req);
			flight_wait(&f, ++n);
			ck_assert_int_eq(r.result, -EINVAL);
			ck_assert_int_eq(r.dones, 1);
		}
	memset(longest, 'k', sizeof(longest));
	longest[BACKEND_KEY_MAX + 1] = 0;
	ck_assert_int_eq(backend_put_wait(p->b, longest, &byte, 1, 0, SOON), -EINVAL);
	/* A long one in parts of 100, the longest that some places take, works. */
	memset(longest, 'k', sizeof(longest));
	memcpy(longest, p->prefix, strlen(p->prefix));
	longest[120] = '/';
	longest[BACKEND_KEY_MAX] = 0;
	ck_assert_int_eq(backend_put_wait(p->b, longest, &byte, 1, 0, SOON), 0);
	ck_assert_int_eq(backend_delete_wait(p->b, longest, SOON), 0);
	flight_release(&f);
}

static void case_many(struct contract_place *p)
{
	enum { SIZE = 9000 };
	int n = p->flags & CONTRACT_FEW ? 12 : 64;
	struct flight_req *r = calloc((size_t)n * 2, sizeof(*r));
	uint8_t *in = malloc((size_t)n * SIZE), *out = calloc((size_t)n, SIZE);
	struct flight f;
	char name[32];

	flight_init(&f);
	pattern_fill(in, (size_t)n * SIZE, 11);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		flight_req_init(&r[i], &f, BACKEND_PUT, KEY(p, name), in + i * SIZE, SIZE);
		backend_submit(p->b, &r[i].req);
	}
	flight_wait(&f, n);
	for (int i = 0; i < n; i++) {
		flight_req_init(&r[n + i], &f, BACKEND_GET, r[i].key, out + i * SIZE, SIZE);
		backend_submit(p->b, &r[n + i].req);
	}
	flight_wait(&f, 2 * n);
	for (int i = 0; i < 2 * n; i++) {
		ck_assert_int_eq(r[i].dones, 1);
		ck_assert_int_eq(r[i].result, 0);
	}
	ck_assert(memcmp(in, out, (size_t)n * SIZE) == 0);
	flight_release(&f);
	free(r);
	free(in);
	free(out);
}

static void case_cancel(struct contract_place *p)
{
	int n = p->flags & CONTRACT_FEW ? 6 : 50;
	struct flight_req *r = calloc((size_t)n, sizeof(*r));
	uint8_t *out = malloc((size_t)n * 5000), in[5000];
	struct flight f;

	pattern_fill(in, sizeof(in), 5);
	put(p, "c/obj", in, sizeof(in));
	flight_init(&f);
	for (int i = 0; i < n; i++) {
		flight_req_init(&r[i], &f, i % 2 ? BACKEND_GET : BACKEND_PUT, KEY(p, "c/obj"),
				i % 2 ? out + i * 5000 : in, 5000);
		backend_submit(p->b, &r[i].req);
		if (i % 3)
			backend_cancel(p->b, &r[i].req);
	}
	for (int i = 0; i < n; i += 3)
		backend_cancel(p->b, &r[i].req);
	flight_wait(&f, n);
	for (int i = 0; i < n; i++) {
		ck_assert_int_eq(r[i].dones, 1);
		ck_assert_msg(r[i].result == 0 || r[i].result == -ECANCELED, "%d", r[i].result);
		if (i % 2 && r[i].result == 0)
			ck_assert(memcmp(out + i * 5000, in, 5000) == 0);
	}
	/* Late ones do nothing. */
	for (int i = 0; i < n; i++)
		backend_cancel(p->b, &r[i].req);
	ck_assert_int_eq(flight_ended(&f), n);
	/* What was cancelled is there in whole or not at all; here it was there before. */
	check_content(p, "c/obj", in, sizeof(in));
	flight_release(&f);
	free(r);
	free(out);
}

static void case_deadline(struct contract_place *p)
{
	struct flight f;
	struct flight_req r;
	uint8_t byte = 0;
	int64_t begun = clock_mono_ns();

	flight_init(&f);
	for (int op = BACKEND_PUT; op <= BACKEND_LIST; op++) {
		flight_req_init(&r, &f, op, KEY(p, "dl"), &byte, 1);
		r.req.deadline = begun - NS_PER_S;
		backend_submit(p->b, &r.req);
		flight_wait(&f, op + 1);
		ck_assert_int_eq(r.result, -ETIMEDOUT);
		ck_assert_ptr_null(r.req.entries);
	}
	ck_assert_int_lt(clock_mono_ns() - begun, 5 * NS_PER_S);
	flight_release(&f);
	put(p, "dl", "works", 5);
}

/* done() submits the next one, and the last one says so. */
struct chain {
	struct backend_req req;
	struct backend *b;
	struct flight f;
	int left, failed;
};

static void chain_done(struct backend_req *req)
{
	struct chain *c = container_of(req, struct chain, req);

	c->failed |= req->result;
	if (c->left-- > 0) {
		req->deadline = clock_mono_ns() + SOON;
		backend_submit(c->b, req);
		return;
	}
	SCOPE_LOCK(&c->f.lock);
	c->f.ended = 1;
	pthread_cond_broadcast(&c->f.cond);
}

static void case_resubmit(struct contract_place *p)
{
	struct chain c = { .b = p->b, .left = p->flags & CONTRACT_FEW ? 3 : 100 };

	put(p, "chain", "x", 1);
	flight_init(&c.f);
	c.req =
	    (struct backend_req){ .op = BACKEND_HEAD, .key = KEY(p, "chain"), .done = chain_done };
	backend_submit(p->b, &c.req);
	flight_wait(&c.f, 1);
	ck_assert_int_eq(c.failed, 0);
	flight_release(&c.f);
}

static const struct {
	const char *name;
	void (*run)(struct contract_place *p);
} cases[] = {
	{ "put_get", case_put_get },
	{ "vectors", case_vectors },
	{ "ranges", case_ranges },
	{ "absent", case_absent },
	{ "replace", case_replace },
	{ "delete", case_delete },
	{ "if_absent", case_if_absent },
	{ "list", case_list },
	{ "list_pages", case_list_pages },
	{ "bad_keys", case_bad_keys },
	{ "many", case_many },
	{ "cancel", case_cancel },
	{ "deadline", case_deadline },
	{ "resubmit", case_resubmit },
};

void contract_run(struct backend *b, const char *prefix, unsigned flags)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct contract_place p = { .b = b, .flags = flags };

		ck_assert_int_lt(
		    snprintf(p.prefix, sizeof(p.prefix), "%s%s/", prefix, cases[i].name),
		    (int)sizeof(p.prefix));
		cases[i].run(&p);
	}
}

/* Check gives a looping test only its number: factory and case in one. */
static const struct contract_factory *all_factories;

static int open_place(int i, struct contract_place *p, const char *name)
{
	const struct contract_factory *f = &all_factories[i / (int)(ARRAY_LEN(cases) + 1)];
	const char *why = f->open(p);

	if (why) {
		printf("%s, %s: skipped: %s\n", f->name, name, why);
		return 0;
	}
	return 1;
}

START_TEST(contract_case)
{
	const size_t c = (size_t)_i % (ARRAY_LEN(cases) + 1);
	struct contract_place p = { .b = NULL };

	if (c == ARRAY_LEN(cases) || !open_place(_i, &p, cases[c].name))
		return;
	cases[c].run(&p);
	all_factories[(size_t)_i / (ARRAY_LEN(cases) + 1)].close(&p);
}
END_TEST

/* destroy waits: every done() has been called when it returns. */
START_TEST(contract_destroy)
{
	enum { N = 20 };
	struct contract_place p = { .b = NULL };
	struct flight_req r[N];
	struct flight f;
	uint8_t bytes[N][1000] = { { 0 } };

	if ((size_t)_i % (ARRAY_LEN(cases) + 1) != ARRAY_LEN(cases) ||
	    !open_place(_i, &p, "destroy"))
		return;
	flight_init(&f);
	for (int i = 0; i < N; i++) {
		flight_req_init(&r[i], &f, i % 2 ? BACKEND_PUT : BACKEND_GET, KEY(&p, "x/y"),
				bytes[i], sizeof(bytes[i]));
		backend_submit(p.b, &r[i].req);
	}
	all_factories[(size_t)_i / (ARRAY_LEN(cases) + 1)].close(&p);
	ck_assert_int_eq(flight_ended(&f), N);
	flight_release(&f);
}
END_TEST

void contract_add(Suite *s, const struct contract_factory *factories, int n)
{
	const int per = (int)ARRAY_LEN(cases) + 1;

	all_factories = factories;
	for (int i = 0; i < n; i++) {
		TCase *tc = tcase_create(factories[i].name);

		tcase_set_timeout(tc, 60);
		tcase_add_loop_test(tc, contract_case, i * per, (i + 1) * per - 1);
		tcase_add_loop_test(tc, contract_destroy, (i + 1) * per - 1, (i + 1) * per);
		suite_add_tcase(s, tc);
	}
}
