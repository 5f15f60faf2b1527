/* A scratch folder with SKYFLOK_HOME and six backend folders, for the suites of fs/drive. */
#ifndef TESTS_UNIT_DRIVE_FIXTURE_H
#define TESTS_UNIT_DRIVE_FIXTURE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/failpoint.h"
#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/drive/create.h"
#include "fs/drive/keys.h"
#include "fs/drive/purge.h"
#include "fs/drive/unlock.h"

#define N 6
#define K 4

static char scratch[128];
static char url_text[N][256];
static const char *urls[N];
static struct paths paths;

/* Freed by the teardown. */
static char *kept[4096];
static int nkept;

static char *keep(char *p)
{
	ck_assert_ptr_nonnull(p);
	ck_assert_int_lt(nkept, 4096);
	return kept[nkept++] = p;
}

static inline char *at(const char *rest)
{
	return keep(str_printf("%s/%s", scratch, rest));
}

static inline char *backend_dir(int i)
{
	return keep(str_printf("%s/b%d", scratch, i));
}

static void fixture_setup(void)
{
	struct err e = { 0 };

	snprintf(scratch, sizeof(scratch), "%s/check_drive.XXXXXX", getenv("TMPDIR") ?: "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(scratch));
	setenv("SKYFLOK_HOME", at("home"), 1);
	unsetenv("CREDENTIALS_DIRECTORY");
	umask(077);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(mkdir(backend_dir(i), 0700), 0);
		snprintf(url_text[i], sizeof(url_text[i]), "file://%s/b%d?provider=p%d", scratch, i,
			 i);
		urls[i] = url_text[i];
	}
	ck_assert_msg(!paths_init(&paths, "t", &e), "%s", e.text);
	log_set_level(LOG_LV_ERROR);
}

static void fixture_teardown(void)
{
	failpoint_load("");
	paths_release(&paths);
	purge_folder(scratch);
	while (nkept)
		free(kept[--nkept]);
}

/* The cheapest Argon2id: these suites try hundreds of passphrases. */
static const struct keyslot_cost cheap = { .mem_kib = 8, .passes = 1, .lanes = 1 };

static inline struct create_opts fixture_opts(void)
{
	return (struct create_opts){
		.k = K, .m = N - K, .urls = urls, .n = N, .extent_max = 128 << 10, .cost = cheap
	};
}

static inline struct secret fixture_secret(const char *text)
{
	return (
	    struct secret){ .p = (void *)text, .len = strlen(text), .kind = KEYSLOT_PASSPHRASE };
}

static inline int fixture_create(struct err *e)
{
	struct create_opts o = fixture_opts();
	struct secret s = fixture_secret("first");
	struct create_report r;
	struct config c;
	int rc = create_check(&paths, &o, &c, e);

	if (rc)
		return rc;
	rc = create_drive(&paths, &o, &c, &s, &r, e);
	config_release(&c);
	return rc;
}

#endif
