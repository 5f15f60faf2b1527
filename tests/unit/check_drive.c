/* Making a drive (all or nothing), unlocking it, and header generations: whatever is cut off or
 * away, any k backends unlock. */
#include "tests/unit/drive_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/wait.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"

#define TIMEOUT (5 * NS_PER_S)

/* ---- helpers ---- */

static char listing[65536];

static int list_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	size_t n = strlen(listing);

	snprintf(listing + n, sizeof(listing) - n, "%s\n", path);
	return 0;
}

/* Every path below the scratch folder but the empty folders of SKYFLOK_HOME, which may stay. */
static const char *list_all(void)
{
	listing[0] = '\0';
	for (int i = 0; i < N; i++)
		nftw(backend_dir(i), list_one, 16, FTW_PHYS);
	if (!access(paths.config, F_OK) || !access(paths.state, F_OK) || !access(paths.cache, F_OK))
		list_one("local files", NULL, 0, NULL);
	return listing;
}

static void must_create(void)
{
	struct err e = { 0 };

	ck_assert_msg(!fixture_create(&e), "%s", e.text);
}

static struct config read_config(void)
{
	struct config c;
	struct err e = { 0 };

	ck_assert_msg(!config_read(paths.config, "t", &c, &e), "%s", e.text);
	return c;
}

static void away(int i)
{
	AUTO_FREE char *to = str_printf("%s/away%d", scratch, i);

	ck_assert_int_eq(rename(backend_dir(i), to), 0);
}

static void back(int i)
{
	AUTO_FREE char *from = str_printf("%s/away%d", scratch, i);

	ck_assert_int_eq(rename(from, backend_dir(i)), 0);
}

static int unlock(const char *pass, struct err *e)
{
	struct config c = read_config();
	struct secret s = fixture_secret(pass);
	struct header_unlocked u;
	int rc = unlock_drive(&paths, &c, &s, TIMEOUT, &u, e);

	if (!rc)
		header_unlocked_release(&u);
	config_release(&c);
	return rc;
}

/* first -> second by `key change`; r says what came of it. */
static int change(int now, struct generation_report *r, struct err *e)
{
	struct config c = read_config();
	struct secret s = fixture_secret("first");
	struct keys k;
	int rc = keys_begin(&k, &paths, &c, &s, TIMEOUT, e);

	if (!rc)
		rc = keys_change(&k, "second", 6, &cheap, e);
	if (!rc)
		rc = keys_store(&k, now, r, e);
	keys_end(&k);
	config_release(&c);
	return rc;
}

/* Runs fn in a child with that failpoint. 1 when the point killed it. */
static int crashes_at(const char *point, void (*fn)(void))
{
	AUTO_FREE char *spec = str_printf("%s=crash", point);
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		failpoint_load(spec);
		fn();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Do the headers of every K-subset of the backends that are there unlock? 1: with this passphrase.
 */
static int opens_with(struct header_blob **blobs, int count, const char *pass)
{
	struct header_unlocked u;
	int rc = header_unlock(blobs, count, KEYSLOT_PASSPHRASE, pass, strlen(pass), &u, NULL);

	if (!rc)
		header_unlocked_release(&u);
	return !rc;
}

static void any_k_unlock(const char *when, const char *pass1, const char *pass2)
{
	struct backend *backends[N];
	struct generation_found found[N];
	struct config c = read_config();
	struct err e = { 0 };

	ck_assert_int_eq(backends_open(&paths, &c, TIMEOUT, backends, &e), 0);
	generation_fetch(backends, N, TIMEOUT, found);
	for (unsigned set = 0; set < 1u << N; set++) {
		struct header_blob *blobs[N * 4];
		int count = 0, there = 0;

		if (__builtin_popcount(set) != K)
			continue;
		for (int i = 0; i < N; i++)
			if (set >> i & 1) {
				there += found[i].count > 0;
				for (int j = 0; j < found[i].count; j++)
					blobs[count++] = found[i].blobs[j];
			}
		if (there < K)
			continue; /* a backend that is away */
		ck_assert_msg(opens_with(blobs, count, pass1) ||
				  (pass2 && opens_with(blobs, count, pass2)),
			      "%s: backends %#x do not unlock", when, set);
	}
	generation_found_release(found, N);
	backends_close(backends, N);
	config_release(&c);
}

static int finish(void)
{
	struct backend *backends[N];
	struct config c = read_config();
	struct err e = { 0 };
	int rc = backends_open(&paths, &c, TIMEOUT, backends, &e);

	ck_assert_int_eq(rc, 0);
	rc = keys_finish_pending(&paths, backends, N, &e);
	ck_assert_msg(rc >= 0, "%s", e.text);
	backends_close(backends, N);
	config_release(&c);
	return rc;
}

/* ---- create ---- */

START_TEST(create_works)
{
	struct err e = { 0 };
	struct stat st;

	must_create();
	ck_assert_int_eq(unlock("first", &e), 0);
	ck_assert_int_eq(unlock("other", &e), -EACCES);
	ck_assert_ptr_nonnull(strstr(e.text, "wrong passphrase"));
	ck_assert_int_eq(stat(paths.header, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(stat(paths.state, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0700);
	ck_assert_int_ne(access(paths.creating, F_OK), 0);
	ck_assert_int_ne(access(paths.header_next, F_OK), 0);
	ck_assert_int_eq(fixture_create(&e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.text, "already"));
	any_k_unlock("after create", "first", NULL);
}
END_TEST

static const char *const create_points[] = {
	"create.claim.0",  "create.claim.3", "create.claim.5",  "header.local",
	"header.copy",     "header.put.0",   "header.put.4",    "header.put.5",
	"header.delete.2", "header.done",    "create.database", "create.config",
};

START_TEST(create_undoes)
{
	AUTO_FREE char *spec = str_printf("%s=EIO", create_points[_i]);
	AUTO_FREE char *before = strdup(list_all());
	struct err e = { 0 };

	failpoint_load(spec);
	ck_assert_int_ne(fixture_create(&e), 0);
	failpoint_load("");
	ck_assert_msg(e.text[0], "%s: no sentence", create_points[_i]);
	ck_assert_str_eq(list_all(), before);
	must_create();
}
END_TEST

static void create_in_child(void)
{
	fixture_create(NULL);
}

START_TEST(create_crashes)
{
	ck_assert_msg(crashes_at(create_points[_i], create_in_child), "%s was not reached",
		      create_points[_i]);
	must_create(); /* removes what the crash left */
	any_k_unlock(create_points[_i], "first", NULL);
}
END_TEST

START_TEST(create_foreign_folder)
{
	AUTO_FREE char *file = str_printf("%s/mine.txt", backend_dir(_i));
	struct err e = { 0 };
	char before[sizeof(listing)];

	ck_assert_int_eq(file_replace(file, "x", 1, 0600), 0);
	memcpy(before, list_all(), sizeof(before));
	ck_assert_int_eq(fixture_create(&e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.text, backend_dir(_i)));
	ck_assert_str_eq(list_all(), before);
}
END_TEST

START_TEST(create_other_drives_folder)
{
	struct paths other;
	struct create_opts o = fixture_opts();
	struct secret s = fixture_secret("x");
	struct create_report r;
	struct config c;
	struct err e = { 0 };
	char before[sizeof(listing)];

	must_create();
	memcpy(before, list_all(), sizeof(before));
	ck_assert_int_eq(paths_init(&other, "u", &e), 0);
	ck_assert_int_eq(create_check(&other, &o, &c, &e), 0);
	ck_assert_int_eq(create_drive(&other, &o, &c, &s, &r, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.text, "another drive"));
	ck_assert_str_eq(list_all(), before);
	ck_assert_int_ne(access(other.state, F_OK), 0);
	ck_assert_int_eq(unlock("first", &e), 0);
	config_release(&c);
	paths_release(&other);
}
END_TEST

START_TEST(create_missing_folder)
{
	struct err e = { 0 };
	char before[sizeof(listing)];

	ck_assert_int_eq(rmdir(backend_dir(2)), 0);
	memcpy(before, list_all(), sizeof(before));
	ck_assert_int_eq(fixture_create(&e), -ENODEV);
	ck_assert_ptr_nonnull(strstr(e.text, "b2"));
	ck_assert_str_eq(list_all(), before);
}
END_TEST

START_TEST(create_layout)
{
	struct create_opts o = fixture_opts();
	struct config c;
	struct err e = { 0 };
	const char *twice[N];

	o.k = 0;
	ck_assert_int_eq(create_check(&paths, &o, &c, &e), -EINVAL);
	o.k = 30, o.m = 3;
	ck_assert_int_eq(create_check(&paths, &o, &c, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "2 to 32"));
	o.k = 4, o.m = 3;
	ck_assert_int_eq(create_check(&paths, &o, &c, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "7 backends, but 6 URLs"));
	o = fixture_opts();
	memcpy(twice, urls, sizeof(twice));
	twice[3] = urls[1];
	o.urls = twice;
	ck_assert_int_eq(create_check(&paths, &o, &c, &e), -EEXIST);
	o = fixture_opts();
	o.extent_max = 100 << 10;
	ck_assert_int_eq(create_check(&paths, &o, &c, &e), -EINVAL);
	o = fixture_opts();
	for (int i = 0; i < N; i++)
		twice[i] = keep(str_printf("file://%s?provider=one", backend_dir(i)));
	o.urls = twice;
	ck_assert_int_eq(create_check(&paths, &o, &c, &e), -EPERM);
	ck_assert_ptr_nonnull(strstr(e.text, "--provider-limit-override"));
	o.insist = 1;
	ck_assert_int_eq(create_check(&paths, &o, &c, &e), 0);
	config_release(&c);
}
END_TEST

START_TEST(destroy_all)
{
	AUTO_FREE char *before = strdup(list_all());
	struct destroy_report r;
	struct config c;
	struct err e = { 0 };

	must_create();
	c = read_config();
	away(2);
	ck_assert_int_eq(destroy_drive(&paths, &c, 0, NULL, NULL, &r, &e), -EAGAIN);
	ck_assert_int_eq(destroy_drive(&paths, &c, 0, NULL, NULL, &r, &e), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(e.text, "b2"));
	ck_assert_int_eq(access(paths.config, F_OK), 0);
	back(2);
	ck_assert_msg(!destroy_drive(&paths, &c, 0, NULL, NULL, &r, &e), "%s", e.text);
	ck_assert_str_eq(list_all(), before);
	config_release(&c);
	must_create();
}
END_TEST

/* ---- unlocking ---- */

START_TEST(unlock_without_local)
{
	struct err e = { 0 };

	must_create();
	ck_assert_int_eq(unlink(paths.header), 0);
	away(1);
	away(4);
	ck_assert_int_eq(unlock("wrong", &e), -EACCES);
	ck_assert_msg(!unlock("first", &e), "%s", e.text);
	ck_assert_int_eq(access(paths.header, F_OK), 0); /* the local copy is there again */
	away(0);
	ck_assert_int_eq(unlock("first", &e), 0); /* offline now */
	ck_assert_int_eq(unlock("wrong", &e), -EACCES);
	ck_assert_int_eq(unlink(paths.header), 0);
	ck_assert_int_eq(unlock("first", &e), -ENOKEY);
	ck_assert_ptr_nonnull(strstr(e.text, "3 of its 6 backends, 4 are needed"));
	ck_assert_ptr_nonnull(strstr(e.text, "backend 4 (p4)"));
	back(0);
	ck_assert_int_eq(unlock("first", &e), 0);
}
END_TEST

START_TEST(unlock_damaged)
{
	struct err e = { 0 };

	must_create();
	ck_assert_int_eq(file_replace(paths.header, "garbage", 7, 0600), 0);
	for (int i = 0; i < N - K; i++) {
		AUTO_FREE char *h = str_printf("%s/h/%016x", backend_dir(i), 1);
		AUTO_FREE uint8_t *p = NULL;
		size_t n;

		ck_assert_int_eq(file_read_all(h, 1 << 20, &p, &n), 0);
		p[i ? 60 : n / 2] ^= 1;
		ck_assert_int_eq(file_replace(h, p, n, 0600), 0);
	}
	ck_assert_msg(!unlock("first", &e), "%s", e.text);
	away(5);
	ck_assert_int_eq(unlock("first", &e), 0); /* the local copy was repaired */
}
END_TEST

START_TEST(unlock_other_config)
{
	struct err e = { 0 };
	struct config c;

	must_create();
	c = read_config();
	c.extent_max *= 2;
	ck_assert_int_eq(config_write(paths.config, "t", &c, &e), 0);
	ck_assert_int_eq(unlock("first", &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "\"extent\""));
	c.extent_max /= 2;
	c.backends[1].uuid[3] ^= 1;
	ck_assert_int_eq(config_write(paths.config, "t", &c, &e), 0);
	ck_assert_int_eq(unlock("first", &e), -EINVAL);
	config_release(&c);
}
END_TEST

/* ---- generations ---- */

static const char *const change_points[] = {
	"header.local",    "header.copy",     "header.put.0",    "header.put.1",
	"header.put.2",    "header.put.3",    "header.put.4",    "header.put.5",
	"header.delete.0", "header.delete.1", "header.delete.2", "header.delete.3",
	"header.delete.4", "header.delete.5", "header.done",
};

static void change_in_child(void)
{
	struct generation_report r;

	change(0, &r, NULL);
}

/* The change is cut off at every step; then the next command finishes it, and exactly the new
 * passphrase counts. */
START_TEST(change_crashes)
{
	const char *point = change_points[_i];
	struct err e = { 0 };

	must_create();
	ck_assert_msg(crashes_at(point, change_in_child), "%s was not reached", point);
	any_k_unlock(point, "first", "second");
	if (!strcmp(point, "header.local")) {
		ck_assert_int_eq(unlock("first", &e), 0);
		ck_assert_int_eq(finish(), 0);
		return;
	}
	ck_assert_uint_eq(generation_pending(&paths), 2);
	ck_assert_int_eq(finish(), 1);
	ck_assert_uint_eq(generation_pending(&paths), 0);
	any_k_unlock(point, "second", NULL);
	ck_assert_int_eq(unlock("second", &e), 0);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
	ck_assert_int_eq(unlink(paths.header), 0);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
	ck_assert_int_eq(unlock("second", &e), 0);
}
END_TEST

/* The same with n-k backends away meanwhile, which come back afterwards. */
START_TEST(change_crashes_with_absent)
{
	const char *point = change_points[_i];
	struct err e = { 0 };

	must_create();
	away(1);
	away(4);
	/* Nothing is deleted while two are away, so those points are not reached. */
	if (!crashes_at(point, change_in_child))
		ck_assert_ptr_nonnull(strstr("header.delete.0 header.delete.1 header.delete.2 "
					     "header.delete.3 header.delete.4 header.delete.5 "
					     "header.done",
					     point));
	any_k_unlock(point, "first", "second");
	back(1);
	back(4);
	any_k_unlock(point, "first", "second");
	if (!strcmp(point, "header.local"))
		return;
	ck_assert_int_eq(finish(), 1);
	any_k_unlock(point, "second", NULL);
	ck_assert_int_eq(unlock("second", &e), 0);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
}
END_TEST

START_TEST(change_pending)
{
	struct generation_report r;
	struct err e = { 0 };

	must_create();
	away(3);
	ck_assert_int_eq(change(0, &r, &e), 0);
	ck_assert_int_eq(r.pending, 1);
	ck_assert_uint_eq(r.stored, 0x37);
	ck_assert_int_eq(r.result[3], -ENODEV);
	ck_assert_int_eq(finish(), 0); /* still away */
	ck_assert_int_eq(unlock("second", &e), 0);
	ck_assert_int_eq(unlock("first", &e), 0); /* not removed yet */
	back(3);
	ck_assert_int_eq(finish(), 1);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
	ck_assert_int_eq(finish(), 0);
}
END_TEST

/* A second change while the first is pending takes its place. */
START_TEST(change_superseded)
{
	struct generation_report r;
	struct config c;
	struct secret s = fixture_secret("second");
	struct err e = { 0 };
	struct keys k;

	must_create();
	away(3);
	ck_assert_int_eq(change(0, &r, &e), 0);
	c = read_config();
	ck_assert_msg(!keys_begin(&k, &paths, &c, &s, TIMEOUT, &e), "%s", e.text);
	ck_assert_int_eq(keys_change(&k, "third", 5, &cheap, &e), 0);
	ck_assert_int_eq(keys_store(&k, 0, &r, &e), 0);
	ck_assert_uint_eq(r.generation, 3);
	keys_end(&k);
	any_k_unlock("two pending", "third", "first");
	back(3);
	ck_assert_int_eq(finish(), 1);
	any_k_unlock("both done", "third", NULL);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
	ck_assert_int_eq(unlock("second", &e), -EACCES);
	config_release(&c);
}
END_TEST

START_TEST(change_now)
{
	struct generation_report r;
	struct err e = { 0 };

	must_create();
	away(3);
	ck_assert_msg(!change(1, &r, &e), "%s", e.text);
	ck_assert_int_eq(r.pending, 1);
	ck_assert_int_ge(__builtin_popcount(r.cleaned), N - K + 1);
	back(3);
	ck_assert_int_eq(unlink(paths.header), 0);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
	ck_assert_int_eq(unlock("second", &e), 0);
	away(0);
	away(1);
	ck_assert_int_eq(unlink(paths.header), 0);
	ck_assert_int_eq(unlock("second", &e), -ENOKEY); /* 2, 3, 4, 5: what --now says */
	back(0);
	back(1);
	ck_assert_int_eq(finish(), 1);
}
END_TEST

START_TEST(change_now_too_few)
{
	struct generation_report r;
	struct err e = { 0 };

	must_create();
	away(1);
	away(2);
	away(3);
	ck_assert_int_eq(change(1, &r, &e), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(e.text, "Until then the old key works"));
	back(1);
	back(2);
	back(3);
	any_k_unlock("now, too few", "first", "second");
}
END_TEST

START_TEST(slots)
{
	struct generation_report r;
	struct secret s = fixture_secret("first");
	struct config c;
	struct keyslot list[KEYSLOT_MAX];
	struct err e = { 0 };
	struct keys k;
	uint32_t number;
	int n;

	must_create();
	c = read_config();
	ck_assert_int_eq(keys_begin(&k, &paths, &c, &s, TIMEOUT, &e), 0);
	ck_assert_int_eq(keys_remove(&k, 1, &e), -EPERM);
	ck_assert_ptr_nonnull(strstr(e.text, "last key"));
	ck_assert_int_eq(keys_remove(&k, 7, &e), -ENOENT);
	ck_assert_int_eq(keys_add(&k, KEYSLOT_PASSPHRASE, "two", "second", 6, &cheap, &number, &e),
			 0);
	ck_assert_uint_eq(number, 2);
	ck_assert_int_eq(keys_add(&k, KEYSLOT_PASSPHRASE, "two", "second", 6, &cheap, &number, &e),
			 -EEXIST);
	ck_assert_int_eq(keys_store(&k, 0, &r, &e), 0);
	keys_end(&k);
	ck_assert_int_eq(unlock("first", &e), 0);
	ck_assert_int_eq(unlock("second", &e), 0);
	ck_assert_int_eq(unlink(paths.header), 0);
	ck_assert_int_eq(unlock_slots(&paths, &c, TIMEOUT, list, &n, &e), 0);
	ck_assert_int_eq(n, 2);
	ck_assert_str_eq(list[1].label, "two");
	ck_assert_int_eq(keys_begin(&k, &paths, &c, &s, TIMEOUT, &e), 0);
	ck_assert_int_eq(keys_remove(&k, 1, &e), 0);
	ck_assert_int_eq(keys_store(&k, 0, &r, &e), 0);
	keys_end(&k);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
	ck_assert_int_eq(unlock("second", &e), 0);
	config_release(&c);
}
END_TEST

/* Another machine wrote a newer generation: it counts, and replaces the local copy. */
START_TEST(newer_elsewhere)
{
	AUTO_FREE char *old = str_printf("%s/old", scratch);
	struct generation_report r;
	struct err e = { 0 };
	uint8_t *p = NULL;
	size_t n;

	must_create();
	ck_assert_int_eq(file_read_all(paths.header, 1 << 20, &p, &n), 0);
	ck_assert_int_eq(change(0, &r, &e), 0);
	ck_assert_int_eq(file_replace(paths.header, p, n, 0600), 0); /* as if it were there */
	free(p);
	ck_assert_int_eq(unlock("second", &e), 0);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
}
END_TEST

START_TEST(damaged_next)
{
	struct generation_report r;
	struct err e = { 0 };

	must_create();
	ck_assert_int_eq(file_replace(paths.header_next, "SKFNEXT1junk", 12, 0600), 0);
	ck_assert_int_eq(unlock("first", &e), 0);
	ck_assert_msg(!change(0, &r, &e), "%s", e.text); /* replaces it */
	ck_assert_int_eq(unlock("second", &e), 0);
	ck_assert_int_eq(unlock("first", &e), -EACCES);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("drive");
	TCase *tc = tcase_create("drive");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, fixture_setup, fixture_teardown);
	tcase_add_test(tc, create_works);
	tcase_add_loop_test(tc, create_undoes, 0, (int)ARRAY_LEN(create_points));
	tcase_add_loop_test(tc, create_crashes, 0, (int)ARRAY_LEN(create_points));
	tcase_add_loop_test(tc, create_foreign_folder, 0, N);
	tcase_add_test(tc, create_other_drives_folder);
	tcase_add_test(tc, create_missing_folder);
	tcase_add_test(tc, create_layout);
	tcase_add_test(tc, destroy_all);
	tcase_add_test(tc, unlock_without_local);
	tcase_add_test(tc, unlock_damaged);
	tcase_add_test(tc, unlock_other_config);
	tcase_add_loop_test(tc, change_crashes, 0, (int)ARRAY_LEN(change_points));
	tcase_add_loop_test(tc, change_crashes_with_absent, 0, (int)ARRAY_LEN(change_points));
	tcase_add_test(tc, change_pending);
	tcase_add_test(tc, change_superseded);
	tcase_add_test(tc, change_now);
	tcase_add_test(tc, change_now_too_few);
	tcase_add_test(tc, slots);
	tcase_add_test(tc, newer_elsewhere);
	tcase_add_test(tc, damaged_next);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
