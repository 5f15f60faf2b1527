/* Paths, the ini file, and where secrets come from. */
#include "tests/unit/drive_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "crypto/secmem.h"
#include "fs/base/scope.h"

/* ---- paths ---- */

START_TEST(drive_names)
{
	static const char *const good[] = { "a", "photos", "2024-x_y.z", "A1" };
	static const char *const bad[] = { "", ".a", "-a", "_a", "a/b", "a b", "\xc3\xa4", "a:b" };
	char longest[DRIVE_NAME_MAX + 2];
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ck_assert_int_eq(paths_check_name(good[i], &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_int_eq(paths_check_name(bad[i], &e), -EINVAL);
	memset(longest, 'a', sizeof(longest));
	longest[DRIVE_NAME_MAX + 1] = '\0';
	ck_assert_int_eq(paths_check_name(longest, &e), -EINVAL);
	longest[DRIVE_NAME_MAX] = '\0';
	ck_assert_int_eq(paths_check_name(longest, &e), 0);
}
END_TEST

START_TEST(homes)
{
	struct paths_base b;
	struct err e = { 0 };

	ck_assert_str_eq(paths.config, at("home/config/t.conf"));
	ck_assert_str_eq(paths.staging, at("home/state/t/staging"));
	ck_assert_str_eq(paths.cache, at("home/cache/t"));
	setenv("SKYFLOK_HOME", "relative", 1);
	ck_assert_int_eq(paths_base_init(&b, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "absolute"));
	unsetenv("SKYFLOK_HOME");
	ck_assert_int_eq(paths_base_init(&b, &e), 0);
	if (geteuid() == 0)
		ck_assert_str_eq(b.state, "/var/lib/skyflok");
	paths_base_release(&b);
}
END_TEST

START_TEST(listing)
{
	struct err e = { 0 };
	char **names;
	int count;

	ck_assert_int_eq(paths_list(&names, &count, &e), 0);
	ck_assert_int_eq(count, 0);
	paths_list_free(names, count);
	ck_assert_int_eq(paths_make(&paths, &e), 0);
	ck_assert_int_eq(file_replace(at("home/config/zz.conf"), "", 0, 0600), 0);
	ck_assert_int_eq(file_replace(at("home/config/aa.conf"), "", 0, 0600), 0);
	ck_assert_int_eq(file_replace(at("home/config/aa.cred"), "", 0, 0600), 0);
	ck_assert_int_eq(file_replace(at("home/config/.x.conf"), "", 0, 0600), 0);
	ck_assert_int_eq(paths_list(&names, &count, &e), 0);
	ck_assert_int_eq(count, 2);
	ck_assert_str_eq(names[0], "aa");
	ck_assert_str_eq(names[1], "zz");
	paths_list_free(names, count);
}
END_TEST

/* ---- configuration ---- */

#define ID    "00112233445566778899aabbccddeeff"
#define DRIVE "[drive]\nuuid=" ID "\ndata=1\nparity=1\n"
#define B0    "[backend \"0\"]\nurl=file:///a\nuuid=" ID "\n"
#define B1    "[backend \"1\"]\nurl=file:///b\nuuid=" ID "\n"

static const struct bad {
	const char *text, *says;
} bad_configs[] = {
	{ "", "\"uuid = ...\" is missing" },
	{ "[drive]\nuuid=" ID "\ndata=1\n", "\"parity = ...\" is missing" },
	{ DRIVE "color=red\n" B0 B1, "x.conf, line 5: [drive] knows" },
	{ DRIVE "data=2\n" B0 B1, "x.conf, line 5: given twice: \"data\"" },
	{ "[drive]\nuuid=12\ndata=1\nparity=1\n" B0 B1, "uuid must be 32 hex" },
	{ "[drive]\nuuid=" ID "\ndata=0\nparity=2\n", "line 3: data=0 is out of range; allowed: " },
	{ "[drive]\nuuid=" ID "\ndata=33\nparity=2\n", "line 3: data=33 is out of range" },
	{ "[drive]\nuuid=" ID "\ndata=20\nparity=20\n", "data + parity is 40" },
	{ "[drive]\nuuid=" ID "\ndata=x\nparity=2\n", "line 3: data=x is not valid" },
	{ DRIVE "extent=100K\n" B0 B1, "power of two" },
	{ DRIVE "extent=2M\n" B0 B1, "out of range" },
	{ DRIVE "compress=rar\n" B0 B1, "allowed: one of none, zstd" },
	{ DRIVE B0, "[backend \"1\"] has no url" },
	{ DRIVE B0 "[backend \"1\"]\nurl=file:///b\n", "[backend \"1\"] has no uuid" },
	{ DRIVE B0 B1 "[backend \"2\"]\nurl=file:///c\n", "[backend \"2\"] is one too many" },
	{ DRIVE B0 B1 "[backend \"32\"]\nurl=file:///c\n", "line 12: sections are" },
	{ DRIVE B0 B1 "[backend \"1\" ]\nurl=file:///c\n", "sections are" },
	{ DRIVE B0 B1 "[backends]\nurl=file:///c\n", "sections are" },
	{ DRIVE B0 "[backend \"1\"]\nurl=gopher://x\nuuid=" ID "\n", "line 9: " },
	{ DRIVE B0 "[backend \"1\"]\npath=/x\n", "a [backend] has url and uuid" },
	{ DRIVE B0 "[backend \"1\"]\nurl=file:///b\nurl=file:///c\n", "given twice: \"url\"" },
	{ DRIVE B0 "[backend \"1\"]\nuuid=zz\n", "uuid must be 32 hex" },
	{ DRIVE B0 B1 "junk\n", "line 11: neither" },
	{ "x=1\n" DRIVE B0 B1, "line 1: sections are" },
	{ DRIVE B0 B1 "[backend \"0\n", "line 11: neither" },
};

START_TEST(config_errors)
{
	const struct bad *b = &bad_configs[_i];
	struct config c;
	struct err e = { 0 };

	ck_assert_int_eq(config_parse(b->text, "x.conf", &c, &e), -EINVAL);
	ck_assert_msg(strstr(e.text, b->says) != NULL, "\"%s\" does not say \"%s\"", e.text,
		      b->says);
	ck_assert_ptr_null(c.backends[0].url);
}
END_TEST

START_TEST(config_good)
{
	struct config c, again;
	struct err e = { 0 };
	char longest[3000];
	AUTO_FREE char *text = NULL;

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	text = str_printf(
	    "# c\n; c\n" DRIVE "quota = 10G\ncompress = zstd\n[mount]\ncache-size = 20G\n"
	    "passfile=/a,b\n" B0 "\n[backend \"1\"]\r\n  url = file:///%s?provider=a;b\r\n"
	    "uuid = " ID,
	    longest);
	ck_assert_msg(!config_parse(text, "x.conf", &c, &e), "%s", e.text);
	ck_assert_int_eq(c.k, 1);
	ck_assert_int_eq(c.n, 2);
	ck_assert_uint_eq(c.quota, 10ull << 30);
	ck_assert_int_eq(c.compress, 1);
	ck_assert_uint_eq(c.extent_max, 128 << 10);
	ck_assert_str_eq(c.mount_options, "cache-size=20G,passfile=/a\\,b");
	ck_assert_str_eq(c.backends[1].parsed.provider, "a;b");
	ck_assert_uint_eq(strlen(c.backends[1].parsed.path), sizeof(longest));
	ck_assert_int_eq(paths_make(&paths, &e), 0);
	ck_assert_int_eq(config_write(paths.config, "t", &c, &e), 0);
	ck_assert_msg(!config_read(paths.config, "t", &again, &e), "%s", e.text);
	ck_assert_str_eq(again.backends[1].url, c.backends[1].url);
	ck_assert_uint_eq(again.quota, c.quota);
	ck_assert_mem_eq(again.drive, c.drive, ID_LEN);
	config_release(&c);
	config_release(&again);
}
END_TEST

START_TEST(config_file)
{
	struct config c;
	struct err e = { 0 };
	char line[20000];

	ck_assert_int_eq(config_read(paths.config, "t", &c, &e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(e.text, "skyflok create t"));
	ck_assert_int_eq(paths_make(&paths, &e), 0);
	ck_assert_int_eq(file_replace(at("home/config/other.conf"), "", 0, 0600), 0);
	ck_assert_int_eq(config_read(paths.config, "t", &c, &e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(e.text, "there is: other"));
	ck_assert_int_eq(file_replace(paths.config, "[drive]\n\0x", 10, 0600), 0);
	ck_assert_int_eq(config_read(paths.config, "t", &c, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "damaged"));
	memset(line, 'x', sizeof(line));
	ck_assert_int_eq(file_replace(paths.config, line, sizeof(line), 0600), 0);
	ck_assert_int_eq(config_read(paths.config, "t", &c, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "line 1: longer than"));
}
END_TEST

/* ---- secrets ---- */

static void write_secret(const char *name, const char *text, size_t n, mode_t mode)
{
	ck_assert_int_eq(file_replace(at(name), text, n, 0600), 0);
	ck_assert_int_eq(chmod(at(name), mode), 0);
}

static int get(const char *file, struct secret *s, struct err *e)
{
	struct secret_source src = { .passfile = at(file), .passfd = -1, .name = "t" };

	return secret_get(&src, s, e);
}

START_TEST(secret_files)
{
	static char big[SECRET_MAX + 10];
	struct secret s;
	struct err e = { 0 };

	memset(big, 'x', sizeof(big));
	write_secret("p", "hello\n", 6, 0600);
	ck_assert_int_eq(get("p", &s, &e), 0);
	ck_assert_uint_eq(s.len, 5);
	ck_assert_str_eq(s.p, "hello");
	secret_release(&s);
	write_secret("p", "hello \r\n", 8, 0400);
	ck_assert_int_eq(get("p", &s, &e), 0);
	ck_assert_str_eq(s.p, "hello ");
	secret_release(&s);
	write_secret("p", "two\nlines\n\n", 11, 0600);
	ck_assert_int_eq(get("p", &s, &e), 0);
	ck_assert_str_eq(s.p, "two\nlines\n");
	secret_release(&s);
	for (mode_t bit = 1; bit <= 040; bit <<= 1) {
		write_secret("p", "hello\n", 6, 0600 | bit);
		ck_assert_int_eq(get("p", &s, &e), -EACCES);
		ck_assert_ptr_nonnull(strstr(e.text, "chmod 600"));
		ck_assert_ptr_null(s.p);
	}
	write_secret("p", "\n", 1, 0600);
	ck_assert_int_eq(get("p", &s, &e), -EINVAL);
	write_secret("p", big, 1025, 0600);
	ck_assert_int_eq(get("p", &s, &e), -EINVAL);
	write_secret("p", big, 1024, 0600);
	ck_assert_int_eq(get("p", &s, &e), 0);
	secret_release(&s);
	write_secret("p", big, sizeof(big), 0600);
	ck_assert_int_eq(get("p", &s, &e), -EINVAL);
	ck_assert_int_eq(get("b0", &s, &e), -EISDIR);
	ck_assert_int_eq(get("missing", &s, &e), -ENOENT);
}
END_TEST

START_TEST(secret_keyfile)
{
	struct secret_source src = { .keyfile = at("k"), .passfd = -1, .name = "t" };
	struct secret s;
	struct err e = { 0 };

	write_secret("k", "a\0b\n", 4, 0600);
	ck_assert_int_eq(secret_get(&src, &s, &e), 0);
	ck_assert_int_eq(s.kind, KEYSLOT_KEYFILE);
	ck_assert_uint_eq(s.len, 4); /* every byte counts */
	secret_release(&s);
	write_secret("k", "", 0, 0600);
	ck_assert_int_eq(secret_get(&src, &s, &e), -EINVAL);
}
END_TEST

START_TEST(secret_fd)
{
	struct secret_source src = { .name = "t" };
	struct secret s;
	struct err e = { 0 };
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(write(fds[1], "from a pipe\n", 12), 12);
	close(fds[1]);
	src.passfd = fds[0];
	ck_assert_int_eq(secret_get(&src, &s, &e), 0);
	ck_assert_str_eq(s.p, "from a pipe");
	secret_release(&s);
	close(fds[0]);
	ck_assert_int_eq(secret_get(&src, &s, &e), -EBADF);
}
END_TEST

START_TEST(secret_credentials)
{
	struct secret_source src = { .passfd = -1, .name = "t", .no_prompt = 1 };
	struct secret s;
	struct err e = { 0 };

	ck_assert_int_eq(secret_get(&src, &s, &e), -ENOTTY);
	ck_assert_ptr_nonnull(strstr(e.text, "--passfile"));
	setenv("CREDENTIALS_DIRECTORY", scratch, 1);
	ck_assert_int_eq(secret_get(&src, &s, &e), -ENOTTY);
	write_secret("passphrase", "common\n", 7, 0440);
	ck_assert_int_eq(secret_get(&src, &s, &e), 0);
	ck_assert_str_eq(s.p, "common");
	secret_release(&s);
	write_secret("skyflok-t", "own\n", 4, 0440);
	ck_assert_int_eq(secret_get(&src, &s, &e), 0);
	ck_assert_str_eq(s.p, "own");
	secret_release(&s);
	src.no_credentials = 1;
	ck_assert_int_eq(secret_get(&src, &s, &e), -ENOTTY);
}
END_TEST

START_TEST(secret_recovery_key)
{
	char text[RECOVERY_TEXT_LEN];
	uint8_t key[32], back[32];
	struct secret s;

	ck_assert_int_eq(recovery_key_make(key, text), 0);
	s = fixture_secret(text);
	ck_assert_int_eq(secret_recovery(&s, back), 1);
	ck_assert_mem_eq(key, back, 32);
	s.kind = KEYSLOT_KEYFILE;
	ck_assert_int_eq(secret_recovery(&s, back), 0);
	s = fixture_secret("correct horse");
	ck_assert_int_eq(secret_recovery(&s, back), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("config");
	TCase *tc = tcase_create("config");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, fixture_setup, fixture_teardown);
	tcase_add_test(tc, drive_names);
	tcase_add_test(tc, homes);
	tcase_add_test(tc, listing);
	tcase_add_loop_test(tc, config_errors, 0, (int)ARRAY_LEN(bad_configs));
	tcase_add_test(tc, config_good);
	tcase_add_test(tc, config_file);
	tcase_add_test(tc, secret_files);
	tcase_add_test(tc, secret_keyfile);
	tcase_add_test(tc, secret_fd);
	tcase_add_test(tc, secret_credentials);
	tcase_add_test(tc, secret_recovery_key);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
