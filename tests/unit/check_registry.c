/* URLs of backends, and which backends go together. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/placement.h"
#include "backends/registry.h"
#include "tests/unit/contract.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

static struct backend_url parsed(const char *url)
{
	struct backend_url u;
	struct err e = { 0 };

	ck_assert_msg(backend_url_parse(url, &u, &e) == 0, "%s", e.text);
	return u;
}

START_TEST(parse_good)
{
	struct backend_url u = parsed("file:///srv/a%20b%25?provider=acme&location=DE-FRA");

	ck_assert_str_eq(u.scheme, "file");
	ck_assert_str_eq(u.path, "/srv/a b%");
	ck_assert_str_eq(u.provider, "acme");
	ck_assert_str_eq(u.location, "DE-FRA");
	ck_assert_int_eq(u.nparams, 0);
	backend_url_release(&u);
	u = parsed("file:///srv/a");
	ck_assert_str_eq(u.provider, "local:/srv/a");
	ck_assert_str_eq(u.location, "");
	backend_url_release(&u);
	u = parsed("mem://x?threads=2&latency=20ms&location=here");
	ck_assert_str_eq(backend_url_param(&u, "threads"), "2");
	ck_assert_str_eq(backend_url_param(&u, "latency"), "20ms");
	ck_assert_ptr_null(backend_url_param(&u, "location"));
	backend_url_release(&u);
}
END_TEST

START_TEST(parse_bad)
{
	static const struct {
		const char *url, *says;
	} t[] = {
		{ "", "SCHEME://" },
		{ "/srv/a", "SCHEME://" },
		{ "ftp://x", "known: file" },
		{ "file://", "no place" },
		{ "file://srv/a", "absolute" },
		{ "file:///srv/../etc", "\"..\"" },
		{ "file:///srv/./a", "\".\"" },
		{ "file:///srv/a?colour=red", "known: provider, location" },
		{ "file:///srv/a?provider", "name=value" },
		{ "file:///srv/a?=x", "name=value" },
		{ "file:///srv/a?provider=", "empty" },
		{ "file:///srv/a?provider=a&provider=b", "twice" },
		{ "file:///srv/%", "escape" },
		{ "file:///srv/%4", "escape" },
		{ "file:///srv/%zz", "escape" },
		{ "file:///srv/a%00b", "control" },
		{ "file:///srv/a\nb", "control" },
		{ "file:///a?provider=%0a", "control" },
		{ "mem://x?threads=many", "threads" },
		{ "mem://x?threads=2&threads=3", "twice" },
		{ "mem://x?latency=1s", "latency" },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct backend_url u;
		struct err e = { 0 };

		ck_assert_int_eq(backend_url_parse(t[i].url, &u, &e), -EINVAL);
		ck_assert_msg(strstr(e.text, t[i].says) != NULL, "%s: %s", t[i].url, e.text);
		ck_assert_ptr_null(u.scheme);
		backend_url_release(&u);
	}
}
END_TEST

START_TEST(parse_long)
{
	char *url = malloc(6000);
	struct backend_url u;
	struct err e = { 0 };

	memset(url, 'a', 5999);
	url[5999] = 0;
	memcpy(url, "file:///", 8);
	ck_assert_int_eq(backend_url_parse(url, &u, &e), -EINVAL);
	memcpy(url, "file:///x?provider=", 19);
	url[19 + 64] = 0;
	ck_assert_int_eq(backend_url_parse(url, &u, &e), -EINVAL);
	url[19 + 63] = 0;
	ck_assert_int_eq(backend_url_parse(url, &u, &e), 0);
	backend_url_release(&u);
	free(url);
}
END_TEST

static char *place(const char *url)
{
	struct backend_url u = parsed(url);
	char *p = backend_url_place(&u);

	ck_assert_ptr_nonnull(p);
	backend_url_release(&u);
	return p;
}

static void expect_place(const char *url, const char *want)
{
	AUTO_FREE char *got = place(url);

	ck_assert_str_eq(got, want);
}

START_TEST(places)
{
	static const char *const forms[] = { "/real/sub/x", "/real//sub/x/", "/link/sub/x",
					     "/link/sub//x//" };
	char root[64];
	AUTO_FREE char *real = NULL;
	AUTO_FREE char *link = NULL;
	AUTO_FREE char *want = NULL;

	tmp_folder(root);
	real = str_printf("%s/real", root);
	link = str_printf("%s/link", root);
	ck_assert_int_eq(mkdir(real, 0700), 0);
	ck_assert_int_eq(symlink("real", link), 0);
	/* Also where the end of the path is not there (yet). */
	want = str_printf("file:%s/real/sub/x", root);
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		AUTO_FREE char *url = str_printf("file://%s%s", root, forms[i]);

		expect_place(url, want);
	}
	tmp_folder_remove(root);
	expect_place("file:///", "file:/");
	expect_place("file:///no-such-folder-here/a", "file:/no-such-folder-here/a");
}
END_TEST

START_TEST(opening)
{
	static const struct {
		const char *url, *name;
	} t[] = {
		{ "mem://x", "mem:x" },
		{ "file:///no/such/folder", "file:/no/such/folder" },
		{ "file:///a?provider=acme", "acme" },
		{ "file:///a?provider=acme&location=DE", "acme DE" },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct backend_env env = { .timeout = 7 };
		struct backend_url u = parsed(t[i].url);
		struct backend *b;
		struct err e = { 0 };

		ck_assert_int_eq(backend_open(&u, &env, &b, &e), 0);
		ck_assert_str_eq(b->name, t[i].name);
		ck_assert_int_eq(b->timeout, 7);
		backend_destroy(b);
		backend_url_release(&u);
	}
	backend_destroy(NULL);
}
END_TEST

/* A layout as letters of providers: "abc" are three backends of three providers. */
static int layout(const char *providers, int k, int insist, struct err *e)
{
	struct backend_url u[40] = { 0 };
	size_t n = strlen(providers);
	int rc;

	memset(e, 0, sizeof(*e));
	for (size_t i = 0; i < n; i++) {
		char url[64];

		snprintf(url, sizeof(url), "mem://%zu?provider=%c", i, providers[i]);
		u[i] = parsed(url);
	}
	rc = placement_check(u, k, (int)n - k, insist, e);
	for (size_t i = 0; i < n; i++)
		backend_url_release(&u[i]);
	return rc;
}

START_TEST(placement)
{
	static const struct {
		const char *providers;
		int k, rc, insisting;
	} t[] = {
		{ "abc", 2, 0, 0 },
		{ "abcdef", 4, 0, 0 },
		{ "aabbcc", 4, 0, 0 },
		{ "aaabcd", 4, -EPERM, 0 }, /* 3 > m = 2 */
		{ "aabb", 2, -EPERM, 0 },   /* 2 >= k = 2 */
		{ "aabbcc", 3, 0, 0 },
		{ "aaabbc", 3, -EPERM, 0 },
		{ "ab", 1, -EPERM, 0 }, /* replication */
		{ "ab", 2, -EPERM, 0 }, /* m = 0 */
		{ "a", 1, -EINVAL, -EINVAL },
		{ "abc", 0, -EINVAL, -EINVAL },
		{ "abc", 4, -EINVAL, -EINVAL },
		{ "abcdefghijklmnopqrstuvwxyzABCDEF", 20, 0, 0 },
		{ "abcdefghijklmnopqrstuvwxyzABCDEFG", 20, -EINVAL, -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct err e;

		ck_assert_msg(layout(t[i].providers, t[i].k, 0, &e) == t[i].rc, "%s, %d: %s",
			      t[i].providers, t[i].k, e.text);
		ck_assert(t[i].rc == 0 || e.text[0]);
		if (t[i].rc == -EPERM)
			ck_assert_ptr_nonnull(strstr(e.text, "--provider-limit-override"));
		ck_assert_int_eq(layout(t[i].providers, t[i].k, 1, &e), t[i].insisting);
	}
}
END_TEST

/* Letters of URLs in the order of their shards. */
static void order_is(const char *const *urls, const int64_t *ms, const char *want)
{
	struct backend_url u[8] = { 0 };
	int64_t latency[8] = { 0 };
	uint8_t order[8];
	int n = (int)strlen(want);

	for (int i = 0; i < n; i++) {
		u[i] = parsed(urls[i]);
		latency[i] = ms ? ms[i] * NS_PER_MS : 0;
	}
	placement_order(u, latency, n, order);
	for (int i = 0; i < n; i++)
		ck_assert_msg(order[i] == want[i] - 'a', "shard %d is at %c, not %c (%s)", i,
			      'a' + order[i], want[i], want);
	for (int i = 0; i < n; i++)
		backend_url_release(&u[i]);
}

START_TEST(placement_in_order)
{
	static const char *const folders[] = { "file:///c", "file:///a", "file:///b" };
	static const char *const plain[] = { "s3://aaa", "s3://bbb", "file:///c", "s3://ddd" };
	static const char *const priced[] = { "s3://aaa?cost=0.09", "s3://bbb?cost=0",
					      "s3://ccc?cost=0.01", "file:///d", "s3://eee" };
	static const char *const dear_folder[] = { "file:///a?cost=1", "s3://bbb?cost=0.5" };

	order_is(folders, NULL, "abc");
	order_is(plain, (int64_t[]){ 30, 30, 0, 30 }, "cabd");
	/* less than a factor of two is noise, and so is all below 10 ms */
	order_is(plain, (int64_t[]){ 9, 2, 0, 5 }, "cabd");
	order_is(plain, (int64_t[]){ 200, 30, 0, 38 }, "cbda");
	/* who does not answer comes last */
	order_is(plain, (int64_t[]){ 0, 900, 0, 30 }, "cdba");
	/* price before speed; one that is not told is taken for the dearest */
	order_is(priced, (int64_t[]){ 30, 300, 300, 0, 25 }, "dbcae");
	order_is(priced, (int64_t[]){ 300, 300, 300, 0, 30 }, "dbcea");
	order_is(dear_folder, (int64_t[]){ 0, 500 }, "ba");
}
END_TEST

START_TEST(cost)
{
	static const char *const bad[] = { "",      "x",   "-1",
					   "1.2.3", "inf", "nan",
					   "0x10",  "1e3", "00000000000000000000" };
	struct backend_url u = parsed("s3://aaa?cost=0.085&provider=p");
	struct err e;

	ck_assert(u.cost > 0.0849 && u.cost < 0.0851);
	backend_url_release(&u);
	u = parsed("file:///a");
	ck_assert(u.cost < 0);
	backend_url_release(&u);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char url[64];

		snprintf(url, sizeof(url), "s3://aaa?cost=%s", bad[i]);
		ck_assert_msg(backend_url_parse(url, &u, &e) == -EINVAL, "%s", url);
		ck_assert_ptr_nonnull(strstr(e.text, "cost="));
	}
	ck_assert_int_eq(backend_url_parse("s3://aaa?cost=1&cost=2", &u, &e), -EINVAL);
}
END_TEST

START_TEST(placement_same_place)
{
	struct backend_url u[3] = { parsed("file:///no-such/a"), parsed("file:///no-such/b"),
				    parsed("file:///no-such//a/") };
	struct err e = { 0 };

	ck_assert_int_eq(placement_check(u, 2, 1, 0, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.text, "1 and 3"));
	ck_assert_int_eq(placement_check(u, 2, 1, 1, &e), -EEXIST);
	for (int i = 0; i < 3; i++)
		backend_url_release(&u[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("registry");
	TCase *tc = tcase_create("registry");
	SRunner *r;
	int failed;

	tcase_add_test(tc, parse_good);
	tcase_add_test(tc, parse_bad);
	tcase_add_test(tc, parse_long);
	tcase_add_test(tc, places);
	tcase_add_test(tc, opening);
	tcase_add_test(tc, placement);
	tcase_add_test(tc, placement_same_place);
	tcase_add_test(tc, placement_in_order);
	tcase_add_test(tc, cost);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
