/* The contract suite over backends that are given as URLs: contract URL..., each over a prefix of
 * its own, which is removed afterwards. Exit 0 when all keep it. Used by tests/system/test_clouds
 * over real servers. CONTRACT_FLAGS=few,no_absent_if in the environment; CONTRACT_CREDENTIALS is
 * the credential file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backends/layers.h"
#include "backends/registry.h"
#include "fs/base/log.h"
#include "tests/unit/contract.h"

static struct backend *the_backend;
static char the_prefix[64];

static unsigned flags_of_env(void)
{
	const char *s = getenv("CONTRACT_FLAGS");

	return (s && strstr(s, "few") ? CONTRACT_FEW : 0u) |
	       (s && strstr(s, "no_absent_if") ? CONTRACT_NO_ABSENT_IF : 0u);
}

START_TEST(whole)
{
	contract_run(the_backend, the_prefix, flags_of_env());
}
END_TEST

static int run_suite(const char *url)
{
	Suite *s = suite_create(url);
	TCase *t = tcase_create("contract");
	SRunner *r;
	int failed;

	tcase_add_test(t, whole);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	/* No fork: the network thread would not be in the child. */
	srunner_set_fork_status(r, CK_NOFORK);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed;
}

static void clean_up(struct backend *b, const char *prefix)
{
	struct backend_entry *entries = NULL;
	size_t n = 0;

	if (backend_list_wait(b, prefix, &entries, &n, 0))
		return;
	for (size_t i = 0; i < n; i++)
		backend_delete_wait(b, entries[i].key, 0);
	free(entries);
}

static int run_url(const char *url)
{
	struct backend_env env = { .credentials_file = getenv("CONTRACT_CREDENTIALS") };
	struct backend_url u;
	struct err e = { 0 };
	int r = backend_url_parse(url, &u, &e);

	if (!r) {
		r = backend_open(&u, &env, &the_backend, &e);
		backend_url_release(&u);
	}
	/* As in a drive: a real server answers 500 now and then (Ceph RGW after a cancelled
	 * request), which is worth repeating. */
	if (!r && !(the_backend = layer_retry(the_backend, 4)))
		r = -ENOMEM;
	if (r) {
		fprintf(stderr, "%s: %s\n", url, err_text(&e, r));
		return 1;
	}
	snprintf(the_prefix, sizeof(the_prefix), "contract-%ld-%ld/", (long)getpid(), random());
	r = run_suite(url);
	clean_up(the_backend, the_prefix);
	backend_destroy(the_backend);
	return r;
}

int main(int argc, char **argv)
{
	int failed = 0;

	srandom((unsigned)clock_real_ns());
	if (getenv("CONTRACT_VERBOSE"))
		log_set_level(LOG_LV_DEBUG);
	if (argc < 2) {
		fprintf(stderr, "usage: contract URL...\n");
		return 2;
	}
	for (int i = 1; i < argc; i++)
		failed += run_url(argv[i]);
	return failed ? 1 : 0;
}
