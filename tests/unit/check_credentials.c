/* Credentials: where they are found, what is refused, and the ini text they stand in. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "backends/credentials.h"
#include "backends/ini.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

static char dir[64], path[128];

static void write_file(const char *name, const char *text, mode_t mode)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ck_assert_int_eq(file_replace(path, text, strlen(text), mode), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static void setup(void)
{
	static const char *const names[] = { "AWS_ACCESS_KEY_ID",
					     "AWS_SECRET_ACCESS_KEY",
					     "AWS_SESSION_TOKEN",
					     "AWS_PROFILE",
					     "AWS_SHARED_CREDENTIALS_FILE",
					     "AWS_CONFIG_FILE",
					     "AWS_REGION",
					     "AWS_DEFAULT_REGION",
					     "AZURE_STORAGE_CONNECTION_STRING",
					     "AZURE_STORAGE_KEY",
					     "AZURE_STORAGE_SAS_TOKEN",
					     "GOOGLE_APPLICATION_CREDENTIALS",
					     "STORAGE_EMULATOR_HOST" };
	char aws[128];

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	snprintf(dir, sizeof(dir), "/tmp/check_clouds.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	setenv("HOME", dir, 1);
	snprintf(aws, sizeof(aws), "%s/.aws", dir);
	ck_assert_int_eq(mkdir(aws, 0700), 0);
}

static void teardown(void)
{
	static const char *const names[] = { ".aws/credentials", ".aws/config", "d.cred",
					     "sa.json",          ".aws",        "" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (unlink(path))
			rmdir(path);
	}
}

START_TEST(cred_s3)
{
	struct credentials_query q = { .backend = "s3://b" },
				 named = { .backend = "s3://b", .name = "work" };
	struct credentials c, d;
	struct err e;

	ck_assert_int_eq(credentials_s3(&q, &c, &e), -EACCES);
	ck_assert_ptr_nonnull(strstr(e.text, "AWS_ACCESS_KEY_ID"));
	write_file(".aws/credentials",
		   "# mine\n[default]\naws_access_key_id=A1\n  aws_secret_access_key = S1 \n"
		   "[work]\naws_access_key_id = A2\naws_secret_access_key = "
		   "S=2\n[half]\naws_access_key_id=x\n",
		   0600);
	write_file(
	    ".aws/config",
	    "[default]\nregion = eu-west-1\ns3 =\n  max = 3\n[profile work]\nregion = eu-north-1\n"
	    "[profile role]\nrole_arn = arn\n",
	    0600);
	ck_assert_int_eq(credentials_s3(&q, &c, &e), 0);
	ck_assert_str_eq(c.access_key_id, "A1");
	ck_assert_str_eq(c.secret_access_key, "S1");
	ck_assert_str_eq(c.region, "eu-west-1");
	ck_assert_ptr_nonnull(strstr(c.source, "profile default"));
	ck_assert_int_eq(credentials_s3(&named, &d, &e), 0);
	ck_assert_str_eq(d.secret_access_key, "S=2");
	ck_assert_str_eq(d.region, "eu-north-1");
	ck_assert(!credentials_equal(&c, &d) && credentials_equal(&c, &c));
	credentials_release(&d), credentials_release(&c);
	named.name = "half";
	ck_assert_int_eq(credentials_s3(&named, &d, &e), -EACCES);
	named.name = "role";
	ck_assert_int_eq(credentials_s3(&named, &d, &e), -EACCES);
	ck_assert_ptr_nonnull(strstr(e.text, "role_arn"));
	named.name = "nowhere";
	ck_assert_int_eq(credentials_s3(&named, &d, &e), -EACCES);
	named.name = "none";
	ck_assert_int_eq(credentials_s3(&named, &d, &e), 0);
	ck_assert(d.none && !d.access_key_id);
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	ck_assert_int_eq(credentials_s3(&q, &c, &e), -EACCES);
	setenv("AWS_SECRET_ACCESS_KEY", "hush", 1);
	setenv("AWS_SESSION_TOKEN", "ET", 1);
	ck_assert_int_eq(credentials_s3(&q, &c, &e), 0);
	ck_assert_str_eq(c.session_token, "ET");
	ck_assert_ptr_null(strstr(c.source, "hush"));
	credentials_release(&c);
}
END_TEST

START_TEST(cred_file)
{
	struct credentials_query q = { .backend = "x", .name = "acme" };
	struct credentials c;
	char file[128], text[2600];
	struct err e;

	memset(text, 0, sizeof(text));
	snprintf(text, sizeof(text),
		 "[acme]\naccess_key_id = A\nsecret_access_key = S\nsession_token = ");
	memset(text + strlen(text), 't', 2000); /* longer than libinih takes */
	snprintf(text + strlen(text), 300,
		 "\n[az]\naccount_key = a2V5\n[g]\nservice_account_file = sa.json\n"
		 "[typo]\naccess_key = 1\n[cs]\nconnection_string = "
		 "AccountName=acc;AccountKey=bXk=;x=1\n");
	write_file("d.cred", text, 0644);
	snprintf(file, sizeof(file), "%s", path);
	q.file = file;
	ck_assert_int_eq(credentials_s3(&q, &c, &e), -EACCES);
	ck_assert_ptr_nonnull(strstr(e.text, "chmod 600"));
	ck_assert_int_eq(chmod(file, 0600), 0);
	ck_assert_int_eq(credentials_s3(&q, &c, &e), 0);
	ck_assert_uint_eq(strlen(c.session_token), 2000);
	credentials_release(&c);
	q.name = "typo";
	ck_assert_int_eq(credentials_s3(&q, &c, &e), -EACCES);
	ck_assert_ptr_nonnull(strstr(e.text, "access_key"));
	q.name = "az";
	ck_assert_int_eq(credentials_azure(&q, &c, &e), 0);
	ck_assert_str_eq(c.account_key, "a2V5");
	credentials_release(&c);
	q.name = "cs", q.account = "acc";
	ck_assert_int_eq(credentials_azure(&q, &c, &e), 0);
	ck_assert_str_eq(c.account_key, "bXk=");
	credentials_release(&c);
	q.account = "other";
	ck_assert_int_eq(credentials_azure(&q, &c, &e), -EACCES);
	q.name = "g";
	ck_assert_int_eq(credentials_gcs(&q, &c, &e), -EACCES);
	write_file("sa.json", "{}", 0600);
	ck_assert_int_eq(credentials_gcs(&q, &c, &e), 0);
	ck_assert_str_eq(c.service_account, "{}");
	credentials_release(&c);
	q.name = "acme";
	ck_assert_int_eq(credentials_gcs(&q, &c, &e), 0); /* HMAC keys */
	ck_assert_str_eq(c.access_key_id, "A");
	credentials_release(&c);
	q.name = "missing";
	ck_assert_int_eq(credentials_gcs(&q, &c, &e), -EACCES);
	ck_assert_ptr_nonnull(strstr(e.text, "[missing]"));
	q.name = "metadata";
	ck_assert_int_eq(credentials_gcs(&q, &c, &e), 0);
	ck_assert(c.metadata);
}
END_TEST

static int count(void *arg, const char *section, const char *name, const char *value)
{
	++*(int *)arg;
	return strcmp(name, "stop") ? 0 : 7;
}

START_TEST(ini)
{
	char good[] = "\xef\xbb\xbf; c\r\n[ a ]\r\nx = 1\r\n\ny=\n  nested = 2\nz = a=b\n",
	     bad[] = "[a]\nx=1\nfoo\n";
	char stop[] = "a=1\nstop=1\nb=1", nul[] = "a=1\nb\0=2\n", open[] = "[a\n", none[] = "";
	int n = 0, line;

	ck_assert_int_eq(ini_parse_text(good, sizeof(good) - 1, count, &n, &line), 0);
	ck_assert_int_eq(n, 3);
	ck_assert_int_eq(ini_parse_text(bad, sizeof(bad) - 1, count, &n, &line), -EINVAL);
	ck_assert_int_eq(line, 3);
	n = 0;
	ck_assert_int_eq(ini_parse_text(stop, sizeof(stop) - 1, count, &n, &line), 7);
	ck_assert_int_eq(n, 2);
	ck_assert_int_eq(ini_parse_text(nul, sizeof(nul) - 1, count, &n, &line), -EINVAL);
	ck_assert_int_eq(ini_parse_text(open, sizeof(open) - 1, count, &n, &line), -EINVAL);
	ck_assert_int_eq(ini_parse_text(none, 0, count, &n, &line), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("credentials");
	TCase *c = tcase_create("credentials");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, cred_s3);
	tcase_add_test(c, cred_file);
	tcase_add_test(c, ini);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
