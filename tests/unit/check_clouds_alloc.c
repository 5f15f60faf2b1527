/* Every allocation of the clouds fails once: an error that says so, nothing lost or leaked (run it
 * under ASan), and the next one works. No server: requests end with a refused connection. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/page.h"
#include "backends/registry.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "tests/unit/alloc_fault.h"

static const char *const urls[] = {
	"s3://bkt/p?endpoint=http://127.0.0.1:1&storage-class=STANDARD_IA",
	"s3://bkt/p?endpoint=http://127.0.0.1:1&payload=signed&style=virtual&region=eu-west-1",
	"azure://acc1/con/p?endpoint=http://127.0.0.1:1&tier=Cool",
	"gs://bkt/p?endpoint=http://127.0.0.1:1&credentials=none&storage-class=NEARLINE",
	"gs://bkt/p?endpoint=http://127.0.0.1:1",
};

static char key_file[64];

static void setup(void)
{
	static const char user[] =
	    "{\"type\":\"authorized_user\",\"client_id\":\"a\",\"client_secret\":\"b\","
	    "\"refresh_token\":\"c\",\"token_uri\":\"http://127.0.0.1:1/token\"}";
	FILE *f;

	log_set_level(LOG_LV_ERROR);
	snprintf(key_file, sizeof(key_file), "/tmp/check_clouds_alloc.%d", (int)getpid());
	f = fopen(key_file, "w");
	ck_assert_ptr_nonnull(f);
	fputs(user, f);
	fclose(f);
	setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file, 1);
	setenv("AWS_ACCESS_KEY_ID", "AK", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SK", 1);
	setenv("AZURE_STORAGE_CONNECTION_STRING",
	       "AccountName=acc1;AccountKey=a2V5;EndpointSuffix=x.test", 1);
	unsetenv("AWS_SESSION_TOKEN");
	unsetenv("STORAGE_EMULATOR_HOST");
}

static void teardown(void)
{
	alloc_fault_disarm();
	unlink(key_file);
}

/* Asserts nothing: libcheck allocates, too. */
static int open_url(const char *url, struct backend **b)
{
	struct backend_env env = { 0 };
	struct backend_url u;
	struct err e = { 0 };
	int r = backend_url_parse(url, &u, &e);

	*b = NULL;
	if (r)
		return r;
	r = backend_open(&u, &env, b, &e);
	backend_url_release(&u);
	return r;
}

START_TEST(opening)
{
	struct backend *b;
	int fired = 1, r;

	for (int n = 1; fired && n < 500; n++) {
		alloc_fault_arm(n);
		r = open_url(urls[_i], &b);
		fired = alloc_fault_disarm();
		if (r)
			ck_assert_msg(fired && !b && (r == -ENOMEM || r == -EINVAL || r == -EACCES),
				      "%s, allocation %d: %d", urls[_i], n, r);
		else
			ck_assert_ptr_nonnull(b);
		backend_destroy(b);
	}
	ck_assert(!fired);
}
END_TEST

static int ask(struct backend *b, enum backend_op op)
{
	struct backend_entry *entries = NULL;
	uint64_t size;
	size_t n;
	char body[100] = { 0 };
	int r;

	switch (op) {
	case BACKEND_PUT:
		return backend_put_wait(b, "k", body, sizeof(body), BACKEND_IF_ABSENT,
					5 * NS_PER_S);
	case BACKEND_GET:
		return backend_get_wait(b, "k", 5, body, sizeof(body), &n, 5 * NS_PER_S);
	case BACKEND_HEAD:
		return backend_head_wait(b, "k", &size, 5 * NS_PER_S);
	case BACKEND_DELETE:
		return backend_delete_wait(b, "k", 5 * NS_PER_S);
	default:
		r = backend_list_wait(b, "k", &entries, &n, 5 * NS_PER_S);
		free(entries);
		return r;
	}
}

START_TEST(asking)
{
	struct backend *b;

	ck_assert_int_eq(open_url(urls[_i], &b), 0);
	for (int op = 0; op < BACKEND_OPS; op++) {
		int fired = 1, r = 0;
		for (int n = 1; fired && n < 500; n++) {
			alloc_fault_arm(n);
			r = ask(b, (enum backend_op)op);
			fired = alloc_fault_disarm();
			ck_assert_msg(r == -EAGAIN || (fired && (r == -ENOMEM || r == -EIO)),
				      "%s, operation %d, allocation %d: %d", urls[_i], op, n, r);
		}
		ck_assert(!fired);
		ck_assert_int_eq(r, -EAGAIN);
	}
	backend_destroy(b);
}
END_TEST

START_TEST(listing)
{
	static const struct {
		int (*parse)(const char *, size_t, const char *, struct page *);
		const char *text;
	} lists[] = {
		{ s3_list_parse,
		  "<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents>"
		  "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
		  "</ListBucketResult>" },
		{ azure_list_parse,
		  "<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Content-Length>1"
		  "</Content-Length></Properties></Blob></Blobs><NextMarker>t</NextMarker>"
		  "</EnumerationResults>" },
		{ gcs_list_parse,
		  "{\"items\":[{\"name\":\"a\",\"size\":\"1\"}],\"nextPageToken\":\"t\"}" },
	};
	struct page p;
	int fired = 1, r;

	for (int n = 1; fired && n < 100; n++) {
		alloc_fault_arm(n);
		r = lists[_i].parse(lists[_i].text, strlen(lists[_i].text), "", &p);
		fired = alloc_fault_disarm();
		ck_assert_int_eq(r, fired ? -ENOMEM : 0);
		ck_assert(r ? !p.entries && !p.next : p.n == 1 && !strcmp(p.next, "t"));
		page_release(&p);
	}
	ck_assert(!fired);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("clouds, out of memory");
	TCase *t = tcase_create("allocations");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, opening, 0, (int)ARRAY_LEN(urls));
	tcase_add_loop_test(t, asking, 0, (int)ARRAY_LEN(urls));
	tcase_add_loop_test(t, listing, 0, 3);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
