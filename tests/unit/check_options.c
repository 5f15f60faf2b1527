#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/buf.h"
#include "fs/base/clock.h"
#include "fs/base/options.h"
#include "fs/base/scope.h"

#define assert_has(text, part)                                                                     \
	ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)

struct target {
	int flag, on, choice;
	int64_t count, octal, wait;
	uint64_t size;
	char *text, *shorty;
};

static const char *const modes[] = { "slow", "fast", "safe", NULL };

static const struct option_def defs[] = {
	{ "flag", OPT_FLAG, offsetof(struct target, flag), .help = "Raises the flag." },
	{ "on", OPT_FLAG, offsetof(struct target, on), .dflt = "yes", .help = "Is on." },
	{ "mode", OPT_CHOICE, offsetof(struct target, choice), .choices = modes, .dflt = "safe",
	  .arg = "MODE", .help = "How it works." },
	{ "count", OPT_INT, offsetof(struct target, count), -5, 100, .dflt = "7", .arg = "N",
	  .help = "How many." },
	{ "umask", OPT_OCTAL, offsetof(struct target, octal), 0, 0777, .dflt = "022" },
	{ "wait_time", OPT_DURATION, offsetof(struct target, wait), 100 * NS_PER_MS,
	  2 * 3600 * NS_PER_S, .dflt = "30s" },
	{ "cache", OPT_SIZE, offsetof(struct target, size), 64 << 20, INT64_MAX, .dflt = "1G",
	  .arg = "SIZE",
	  .help = "How much of the disk the cache may take before the oldest entries have to go." },
	{ "text", OPT_STRING, offsetof(struct target, text), .arg = "TEXT" },
	{ "short", OPT_STRING, offsetof(struct target, shorty), .max = 3, .dflt = "abc" },
	{ "rw", OPT_IGNORE },
	{ 0 },
};

START_TEST(options_apply_defaults)
{
	struct target t;
	struct err e = { 0 };

	memset(&t, 0xee, sizeof(t));
	ck_assert_int_eq(options_defaults(defs, &t, &e), 0);
	ck_assert_int_eq(t.flag, 0);
	ck_assert_int_eq(t.on, 1);
	ck_assert_int_eq(t.choice, 2);
	ck_assert_int_eq(t.count, 7);
	ck_assert_int_eq(t.octal, 022);
	ck_assert_int_eq(t.wait, 30 * NS_PER_S);
	ck_assert_uint_eq(t.size, 1 << 30);
	ck_assert_ptr_null(t.text);
	ck_assert_str_eq(t.shorty, "abc");
	options_release(defs, &t);
	ck_assert_ptr_null(t.shorty);
	options_release(defs, &t);
}
END_TEST

START_TEST(options_bad_default_can_be_released)
{
	const struct option_def bad[] = {
		{ "n", OPT_INT, offsetof(struct target, count), 0, 1, .dflt = "2" },
		{ "text", OPT_STRING, offsetof(struct target, text), .dflt = "x" },
		{ 0 },
	};
	struct target t;
	struct err e = { 0 };

	memset(&t, 0xee, sizeof(t));
	ck_assert_int_eq(options_defaults(bad, &t, &e), -ERANGE);
	options_release(bad, &t);
}
END_TEST

START_TEST(options_take_lists)
{
	struct target t;
	struct err e = { 0 };

	ck_assert_int_eq(options_defaults(defs, &t, &e), 0);
	ck_assert_int_eq(options_parse_list(defs, &t,
					    "rw,,flag,no_on,mode=fast,count=-5,umask=077,"
					    "wait-time=2h,cache=1.5GiB,text=a\\,b=c\\d,short=,",
					    "-o", &e),
			 0);
	ck_assert_int_eq(t.flag, 1);
	ck_assert_int_eq(t.on, 0);
	ck_assert_int_eq(t.choice, 1);
	ck_assert_int_eq(t.count, -5);
	ck_assert_int_eq(t.octal, 077);
	ck_assert_int_eq(t.wait, 7200 * NS_PER_S);
	ck_assert_uint_eq(t.size, 3 << 29);
	ck_assert_str_eq(t.text, "a,b=c\\d");
	ck_assert_str_eq(t.shorty, "");
	ck_assert_int_eq(options_parse_list(defs, &t, "", "-o", &e), 0);
	ck_assert_int_eq(options_parse_list(defs, &t, "rw=1,on=true,flag=0,text=again", "-o", &e),
			 0);
	ck_assert_int_eq(t.on, 1);
	ck_assert_int_eq(t.flag, 0);
	ck_assert_str_eq(t.text, "again");
	ck_assert_int_eq(e.code, 0);
	options_release(defs, &t);
}
END_TEST

static const struct {
	const char *name, *value;
	int code;
	const char *says;
} mistakes[] = {
	{ "count", "101", -ERANGE, "-5 to 100" },
	{ "count", "-6", -ERANGE, "-5 to 100" },
	{ "count", "99999999999999999999", -ERANGE, "-5 to 100" },
	{ "count", "7x", -EINVAL, "a whole number, -5 to 100" },
	{ "count", " 7", -EINVAL, "-5 to 100" },
	{ "count", "+7", -EINVAL, "-5 to 100" },
	{ "count", "", -EINVAL, "-5 to 100" },
	{ "count", NULL, -EINVAL, "needs a value" },
	{ "umask", "01000", -ERANGE, "0 to 0777" },
	{ "umask", "8", -EINVAL, "an octal number" },
	{ "wait_time", "99ms", -ERANGE, "100ms to 2h" },
	{ "wait_time", "1d", -ERANGE, "100ms to 2h" },
	{ "wait_time", "1w", -EINVAL, "100ms to 2h" },
	{ "wait_time", NULL, -EINVAL, "100ms to 2h" },
	{ "cache", "63M", -ERANGE, "at least 64M" },
	{ "cache", "-1", -EINVAL, "at least 64M" },
	{ "cache", "100E", -EINVAL, "at least 64M" },
	{ "mode", "quick", -EINVAL, "slow, fast, safe" },
	{ "mode", NULL, -EINVAL, "slow, fast, safe" },
	{ "flag", "maybe", -EINVAL, "yes or no" },
	{ "no_flag", "yes", -EINVAL, "takes no value" },
	{ "text", NULL, -EINVAL, "TEXT" },
	{ "short", "hush", -ERANGE, "up to 3 bytes" },
	{ "chache", "1", -ENOENT, "chache" },
	{ "no_count", NULL, -ENOENT, "no_count" },
	{ "", NULL, -ENOENT, "no option" },
};

START_TEST(options_errors_name_the_range)
{
	struct target t, before;
	struct err e = { 0 };

	ck_assert_int_eq(options_defaults(defs, &t, &e), 0);
	before = t;
	e.text[0] = '\0';
	ck_assert_int_eq(
	    options_set(defs, &t, mistakes[_i].name, mistakes[_i].value, "photos.conf, line 7", &e),
	    mistakes[_i].code);
	ck_assert_int_eq(e.code, mistakes[_i].code);
	assert_has(e.text, "photos.conf, line 7: ");
	assert_has(e.text, mistakes[_i].name);
	assert_has(e.text, mistakes[_i].says);
	ck_assert_ptr_null(strstr(e.text, "hush")); /* a string may be a secret */
	ck_assert_mem_eq(&t, &before, sizeof(t));
	options_release(defs, &t);
}
END_TEST

START_TEST(options_help_fits_the_terminal)
{
	struct buf b = { 0 };
	const char *text, *line;

	options_help(defs, "-o ", &b);
	text = buf_cstr(&b);
	assert_has(text, "  -o cache=SIZE");
	assert_has(text, "(at least 64M; default");
	assert_has(text, "-5 to 100; default 7");
	assert_has(text, "slow, fast, safe; default safe");
	assert_has(text, "no_on");
	ck_assert_ptr_null(strstr(text, "-o rw"));
	for (line = text; *line; line += strcspn(line, "\n") + 1)
		ck_assert_uint_le(strcspn(line, "\n"), 80);
	buf_release(&b);
}
END_TEST

START_TEST(parse_sizes)
{
	uint64_t v;

	ck_assert_int_eq(parse_size("0", &v), 0);
	ck_assert_uint_eq(v, 0);
	ck_assert_int_eq(parse_size("64m", &v), 0);
	ck_assert_uint_eq(v, 64 << 20);
	ck_assert_int_eq(parse_size("1.5 GiB", &v), 0);
	ck_assert_uint_eq(v, 3 << 29);
	ck_assert_int_eq(parse_size("312 B", &v), 0);
	ck_assert_uint_eq(v, 312);
	ck_assert_int_eq(parse_size("2TB", &v), 0);
	ck_assert_uint_eq(v, 2ull << 40);
	ck_assert_int_eq(parse_size("18446744073709551615", &v), 0);
	ck_assert_uint_eq(v, UINT64_MAX);
	ck_assert_int_eq(parse_size("18446744073709551616", &v), -ERANGE);
	ck_assert_int_eq(parse_size("16384P", &v), -ERANGE);
	ck_assert_int_eq(parse_size("1.5", &v), -EINVAL);
	ck_assert_int_eq(parse_size("1iB", &v), -EINVAL);
	ck_assert_int_eq(parse_size("1KX", &v), -EINVAL);
	ck_assert_int_eq(parse_size("", &v), -EINVAL);
	ck_assert_int_eq(parse_size("-1", &v), -EINVAL);
	ck_assert_int_eq(parse_size("1.K", &v), -EINVAL);
}
END_TEST

START_TEST(parse_durations)
{
	int64_t v;

	ck_assert_int_eq(parse_duration("30", &v), 0);
	ck_assert_int_eq(v, 30 * NS_PER_S);
	ck_assert_int_eq(parse_duration("500ms", &v), 0);
	ck_assert_int_eq(v, 500 * NS_PER_MS);
	ck_assert_int_eq(parse_duration("1.5m", &v), 0);
	ck_assert_int_eq(v, 90 * NS_PER_S);
	ck_assert_int_eq(parse_duration("2d", &v), 0);
	ck_assert_int_eq(v, 2 * 86400 * NS_PER_S);
	ck_assert_int_eq(parse_duration("200000d", &v), -ERANGE);
	ck_assert_int_eq(parse_duration("9999999999999", &v), -ERANGE);
	ck_assert_int_eq(parse_duration("1M", &v), -EINVAL);
	ck_assert_int_eq(parse_duration("1 week", &v), -EINVAL);
	ck_assert_int_eq(parse_duration("s", &v), -EINVAL);
}
END_TEST

START_TEST(format_sizes)
{
	char out[32];

	ck_assert_str_eq(format_size(out, 0), "0 B");
	ck_assert_str_eq(format_size(out, 312), "312 B");
	ck_assert_str_eq(format_size(out, 1023), "1023 B");
	ck_assert_str_eq(format_size(out, 1024), "1.0 KiB");
	ck_assert_str_eq(format_size(out, 3 << 29), "1.5 GiB");
	ck_assert_str_eq(format_size(out, (1 << 20) - 1), "1.0 MiB");
	ck_assert_str_eq(format_size(out, UINT64_MAX), "16.0 EiB");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		options_apply_defaults,
		options_bad_default_can_be_released,
		options_take_lists,
		options_help_fits_the_terminal,
		parse_sizes,
		parse_durations,
		format_sizes,
	};
	Suite *s = suite_create("options");
	TCase *tc = tcase_create("options"), *loop = tcase_create("mistakes");
	SRunner *r;
	int failed;

	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(s, tc);
	tcase_add_loop_test(loop, options_errors_name_the_range, 0, (int)ARRAY_LEN(mistakes));
	suite_add_tcase(s, loop);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
