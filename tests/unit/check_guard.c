/* Backends that lack credentials, and the drive's credential file. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/drive/cred.h"
#include "fs/drive/guard.h"

static char dir[] = "/tmp/check_guard-XXXXXX";
static char from[64], to[64];

static void setup(void)
{
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(from, sizeof(from), "%s/from.ini", dir);
	snprintf(to, sizeof(to), "%s/t.cred", dir);
	log_set_level(LOG_LV_ERROR);
}

static void teardown(void)
{
	unlink(from);
	unlink(to);
	rmdir(dir);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	ck_assert_int_eq(file_replace(path, text, strlen(text), mode), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static void expect_file(const char *path, const char *text)
{
	AUTO_FREE uint8_t *p = NULL;
	struct stat st;
	size_t n;

	ck_assert_int_eq(file_read_all(path, 65536, &p, &n), 0);
	ck_assert_str_eq((char *)p, text);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
}

START_TEST(credentials_are_taken_over)
{
	char want[256];
	struct err e = { 0 };

	/* the last line has no end; "service_account_files" is another setting */
	write_file(from,
		   "# mine\n[a]\naccess_key_id = x\n[g]\n service_account_file = sa.json\r\n"
		   "[h]\nservice_account_file=/abs.json\n[i]\nservice_account_files = y\n"
		   "[j]\nservice_account_file = ~/z.json",
		   0600);
	ck_assert_int_eq(cred_check(from, to, &e), 0);
	ck_assert_int_ne(access(to, F_OK), 0);
	ck_assert_int_eq(cred_take(from, to, &e), 1);
	snprintf(want, sizeof(want),
		 "# mine\n[a]\naccess_key_id = x\n[g]\n service_account_file = %s/sa.json\r\n"
		 "[h]\nservice_account_file=/abs.json\n[i]\nservice_account_files = y\n"
		 "[j]\nservice_account_file = ~/z.json",
		 dir);
	expect_file(to, want);
	/* Once more changes nothing; another one is refused and nothing is overwritten. */
	ck_assert_int_eq(cred_take(from, to, &e), 0);
	write_file(from, "[a]\naccess_key_id = other\n", 0600);
	ck_assert_int_eq(cred_take(from, to, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.text, "differs"));
	expect_file(to, want);
}
END_TEST

START_TEST(credentials_are_refused)
{
	static const mode_t loose[] = { 0644, 0640, 0620, 0601 };
	struct err e = { 0 };

	ck_assert_int_eq(cred_check(from, to, &e), -EACCES);
	for (size_t i = 0; i < ARRAY_LEN(loose); i++) {
		write_file(from, "[a]\nx = y\n", loose[i]);
		ck_assert_int_eq(cred_take(from, to, &e), -EACCES);
		ck_assert_ptr_nonnull(strstr(e.text, "chmod 600"));
	}
	write_file(from, "[a]\nx = y\nno setting, but hunter2\n", 0600);
	ck_assert_int_eq(cred_take(from, to, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "line 3"));
	ck_assert_ptr_null(strstr(e.text, "hunter2"));
	ck_assert_int_eq(cred_take(dir, to, &e), -EACCES);
	ck_assert_int_ne(access(to, F_OK), 0);
}
END_TEST

/* Nobody listens on port 9: a request that gets out ends with "worth repeating". */
#define URL "s3://bucket?endpoint=http://127.0.0.1:9&credentials=a&provider=acme&location=DE"
static const uint8_t id[16] = { 1 };

START_TEST(a_backend_without_credentials_is_denied)
{
	struct backend_env env = { .drive = id, .uuid = id, .credentials_file = to };
	struct backend *b, *strict;
	struct backend_url u;
	struct err e = { 0 };
	char words[400];
	uint64_t size;

	ck_assert_int_eq(setenv("HOME", dir, 1), 0);
	ck_assert_int_eq(backend_url_parse(URL, &u, &e), 0);
	ck_assert_int_eq(backend_open(&u, &env, &strict, &e), -EACCES);
	ck_assert_int_eq(guard_open(&u, &env, &b, &e), 0);
	ck_assert_str_eq(b->name, "acme DE");
	ck_assert_int_eq(backend_head_wait(b, "a", &size, NS_PER_S), -EACCES);
	ck_assert_int_eq(backend_claim(b, id, id, &e), -EACCES);
	ck_assert_int_eq(backend_unclaim(b, id, &e), -EACCES);
	ck_assert_int_eq(guard_verify(b, 1, NS_PER_S), 0);
	guard_words(b, words, sizeof(words));
	ck_assert_ptr_nonnull(strstr(words, "credentials=a"));
	backend_destroy(b);

	/* They come while it is open: it looks again a few seconds later. */
	ck_assert_int_eq(guard_open(&u, &env, &b, &e), 0);
	write_file(to, "[a]\naccess_key_id = x\nsecret_access_key = y\n", 0600);
	ck_assert_int_eq(backend_head_wait(b, "a", &size, NS_PER_S), -EACCES);
	for (int64_t end = clock_mono_ns() + 20 * NS_PER_S; clock_mono_ns() < end;) {
		if (backend_head_wait(b, "a", &size, NS_PER_S) != -EACCES)
			break;
		usleep(100000);
	}
	ck_assert_int_eq(backend_head_wait(b, "a", &size, NS_PER_S), -EAGAIN);
	ck_assert_int_eq(guard_verify(b, 1, NS_PER_S), 0);
	backend_destroy(b);
	backend_url_release(&u);
}
END_TEST

START_TEST(other_kinds_and_errors_pass)
{
	struct backend_env env = { .drive = id, .uuid = id };
	struct backend *b;
	struct backend_url u;
	struct err e = { 0 };
	char words[400], url[128];

	snprintf(url, sizeof(url), "file://%s", dir);
	ck_assert_int_eq(backend_url_parse(url, &u, &e), 0);
	ck_assert_int_eq(guard_open(&u, &env, &b, &e), 0);
	ck_assert_str_eq(b->ops->name, "file");
	ck_assert_int_eq(guard_verify(b, 1, NS_PER_S), 1);
	guard_words(b, words, sizeof(words));
	ck_assert_str_eq(words, "");
	backend_destroy(b);
	backend_url_release(&u);
	ck_assert_int_eq(backend_url_parse("gs://bucket?ca=/absent&credentials=none", &u, &e), 0);
	ck_assert_int_ne(guard_open(&u, &env, &b, &e), 0);
	ck_assert_ptr_null(b);
	ck_assert_ptr_nonnull(strstr(e.text, "/absent"));
	backend_url_release(&u);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guard");
	TCase *t = tcase_create("guard");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, credentials_are_taken_over);
	tcase_add_test(t, credentials_are_refused);
	tcase_add_test(t, a_backend_without_credentials_is_denied);
	tcase_add_test(t, other_kinds_and_errors_pass);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
