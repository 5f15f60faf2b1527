/* fs/drive/header: what must work. Tampering is in check_header_hostile. */
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "fs/base/file.h"
#include "tests/unit/header_fixture.h"

extern char **environ;

START_TEST(every_subset)
{
	static const int codes[][2] = {
		{ 1, 1 }, { 2, 1 }, { 2, 2 }, { 3, 2 }, { 4, 2 }, { 2, 0 }
	};

	for (size_t c = 0; c < ARRAY_LEN(codes); c++) {
		struct fixture f = fix_make(codes[c][0], codes[c][1], 7, 3, NULL, NULL);
		for (unsigned set = 0; set < 1u << f.n; set++) {
			struct header_blob *some[6];
			struct header_unlocked u;
			struct err e = { 0 };
			int count = 0;
			for (int i = f.n - 1; i >= 0; i--)
				if (set >> i & 1)
					some[count++] = f.blob[i];
			int rc = fix_unlock(some, count, &u, &e);
			ck_assert_uint_eq(u.liars, 0);
			if (count >= f.mf.k) {
				ck_assert_int_eq(rc, 0);
				fix_assert_same(&f, &u);
			} else {
				ck_assert_int_eq(rc, -ENOKEY);
				ck_assert_ptr_null(u.keys);
				ck_assert(strstr(e.text, count ? "Too few" : "No header") != NULL);
			}
			header_unlocked_release(&u);
		}
		fix_free(&f, 0);
	}
}
END_TEST

START_TEST(widest)
{
	struct fixture f = fix_make(20, 12, UINT64_MAX, 2, NULL, NULL);
	struct header_unlocked u;

	ck_assert_int_eq(fix_unlock(f.blob + 12, 20, &u, NULL), 0);
	fix_assert_same(&f, &u);
	header_unlocked_release(&u);
	ck_assert_int_eq(fix_unlock(f.blob + 12, 19, &u, NULL), -ENOKEY);
	ck_assert_int_eq(fix_unlock(f.blob, 65, &u, NULL), -EINVAL);
	fix_free(&f, 0);
}
END_TEST

START_TEST(manifest_whole)
{
	struct fixture f = fix_make(2, 1, 3, 7, NULL, NULL);
	struct header_unlocked u;

	ck_assert_int_eq(keyring_add(f.keys), 0);
	header_set_release(&f.hs);
	for (int i = 0; i <= f.n; i++)
		header_free(f.blob[i]);
	ck_assert_int_eq(header_build(&f.mf, f.keys, f.slots, 3, 1, &f.hs), 0);
	fix_parse(&f);
	ck_assert_int_eq(fix_unlock(f.blob, 3, &u, NULL), 0);
	fix_assert_same(&f, &u);
	const struct manifest *a = &u.manifest, *b = &f.mf;
	ck_assert_uint_eq(a->extent_max, b->extent_max);
	ck_assert_uint_eq(a->compress, b->compress);
	ck_assert_uint_eq(a->quota, b->quota);
	ck_assert_uint_eq(a->segment_size, b->segment_size);
	ck_assert_int_eq(a->created, b->created);
	ck_assert_str_eq(a->label, b->label);
	ck_assert_int_eq(a->nbackends, 3);
	for (int i = 0; i < 3; i++) {
		ck_assert_str_eq(a->backends[i].url, b->backends[i].url);
		ck_assert_str_eq(a->backends[i].provider, b->backends[i].provider);
		ck_assert_str_eq(a->backends[i].location, i ? "eu" : "");
		ck_assert_mem_eq(a->backends[i].uuid, b->backends[i].uuid, ID_LEN);
	}
	ck_assert_int_eq(u.nslots, 3);
	ck_assert_int_eq(u.slot, 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_str_eq(u.slots[i].label, f.slots[i].label);
		ck_assert_mem_eq(u.slots[i].sealed_root, f.slots[i].sealed_root, 48);
	}
	ck_assert_uint_eq(keyring_current(u.keys), 2);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(header_shard(f.blob[i]), i);
		ck_assert_int_eq(header_threshold(f.blob[i]), 2);
		ck_assert_int_eq(header_count(f.blob[i]), 3);
		ck_assert_uint_eq(header_generation(f.blob[i]), 3);
		ck_assert_mem_eq(header_drive(f.blob[i]), fix_drive, ID_LEN);
	}
	ck_assert_int_eq(header_shard(f.blob[3]), -1);
	char key[32];
	header_key(key, 0x1234567890abcdef);
	ck_assert_str_eq(key, "h/1234567890abcdef");
	header_unlocked_release(&u);
	fix_free(&f, 0);
}
END_TEST

START_TEST(secrets_of_each_kind)
{
	struct fixture f = fix_make(2, 1, 1, 7, NULL, NULL), g = fix_make(2, 1, 1, 1, NULL, NULL);
	struct header_unlocked u;
	struct err e;

	for (int kind = KEYSLOT_PASSPHRASE; kind <= KEYSLOT_KEYFILE; kind++) {
		ck_assert_int_eq(header_unlock(f.blob, 2, (enum keyslot_kind)kind, FIX_PASS,
					       strlen(FIX_PASS), &u, &e),
				 0);
		fix_assert_same(&f, &u);
		ck_assert_uint_eq(u.slots[u.slot].kind, (unsigned)kind);
		header_unlocked_release(&u);
		ck_assert_int_eq(
		    header_unlock(f.blob, 3, (enum keyslot_kind)kind, "nope", 4, &u, &e), -EACCES);
		ck_assert_str_eq(e.text, kind == KEYSLOT_PASSPHRASE ? "wrong passphrase"
								    : "wrong key file");
		ck_assert_ptr_null(u.keys);
		ck_assert_uint_eq(u.liars, 0);
	}
	/* Too few headers are said before the passphrase is looked at. */
	ck_assert_int_eq(header_unlock(f.blob, 1, KEYSLOT_PASSPHRASE, "nope", 4, &u, &e), -ENOKEY);
	ck_assert(strstr(e.text, "1 of the 2") != NULL);
	ck_assert_int_eq(header_unlock(g.blob, 3, KEYSLOT_KEYFILE, "x", 1, &u, &e), -EACCES);
	ck_assert_str_eq(e.text, "The drive has no slot for a key file.");
	fix_free(&f, 0);
	fix_free(&g, 0);
}
END_TEST

START_TEST(local_copy)
{
	struct fixture f = fix_make(2, 1, 4, 3, NULL, NULL);
	struct header_unlocked u;
	struct header_set bare;
	struct header_blob *local, *mixed[3];

	ck_assert_int_eq(fix_unlock(&f.blob[3], 1, &u, NULL), 0);
	fix_assert_same(&f, &u);
	header_unlocked_release(&u);
	ck_assert_int_eq(header_unlock(&f.blob[3], 1, KEYSLOT_PASSPHRASE, "nope", 4, &u, NULL),
			 -EACCES);
	/* --no-local-secret: the local copy opens nothing, and k backends are needed. */
	ck_assert_int_eq(header_build(&f.mf, f.keys, f.slots, 2, 0, &bare), 0);
	ck_assert_int_eq(header_parse(bare.local.p, bare.local.len, &local), 0);
	ck_assert_int_eq(header_shard(local), -1);
	ck_assert_int_eq(fix_unlock(&local, 1, &u, NULL), -ENOKEY);
	mixed[0] = local;
	ck_assert_int_eq(header_parse(bare.object[0].p, bare.object[0].len, &mixed[1]), 0);
	ck_assert_int_eq(fix_unlock(mixed, 2, &u, NULL), -ENOKEY);
	ck_assert_int_eq(header_parse(bare.object[2].p, bare.object[2].len, &mixed[2]), 0);
	ck_assert_int_eq(fix_unlock(mixed, 3, &u, NULL), 0);
	fix_assert_same(&f, &u);
	ck_assert_uint_eq(u.liars, 0);
	header_unlocked_release(&u);
	for (int i = 0; i < 3; i++)
		header_free(mixed[i]);
	header_set_release(&bare);
	fix_free(&f, 0);
}
END_TEST

START_TEST(generations)
{
	struct fixture a = fix_make(2, 2, 1, 3, NULL, NULL);
	struct fixture b = fix_make(2, 2, 2, 3, a.keys, "another one");
	struct header_unlocked u;
	struct err e;

	/* The old one everywhere, the new one on one backend: the old one, and nobody lies. */
	struct header_blob *all[9] = { b.blob[0], a.blob[0], a.blob[1], a.blob[2], a.blob[3] };
	ck_assert_int_eq(fix_unlock(all, 5, &u, &e), 0);
	fix_assert_same(&a, &u);
	ck_assert_uint_eq(u.liars, 0);
	header_unlocked_release(&u);
	/* On k: the new one, with fewer copies than the old one. */
	all[5] = b.blob[3];
	ck_assert_int_eq(fix_unlock(all, 6, &u, &e), 0);
	fix_assert_same(&b, &u);
	ck_assert_uint_eq(u.liars, 0);
	header_unlocked_release(&u);
	/* A local copy that is older does not win, a newer one does. */
	all[6] = a.blob[4];
	ck_assert_int_eq(fix_unlock(all, 7, &u, &e), 0);
	fix_assert_same(&b, &u);
	header_unlocked_release(&u);
	struct header_blob *newer[] = { a.blob[0], a.blob[1], b.blob[4] };
	ck_assert_int_eq(fix_unlock(newer, 3, &u, &e), 0);
	fix_assert_same(&b, &u);
	header_unlocked_release(&u);
	/* The passphrase chooses: the highest generation that *it* unlocks. */
	ck_assert_int_eq(
	    header_unlock(all, 6, KEYSLOT_PASSPHRASE, FIX_PASS, strlen(FIX_PASS), &u, &e), 0);
	fix_assert_same(&a, &u);
	header_unlocked_release(&u);
	ck_assert_int_eq(header_unlock(all, 6, KEYSLOT_PASSPHRASE, "another one", 11, &u, &e), 0);
	fix_assert_same(&b, &u);
	header_unlocked_release(&u);
	/* Shares of different generations never combine. */
	struct header_blob *two[2] = { a.blob[0], b.blob[1] };
	ck_assert_int_eq(fix_unlock(two, 2, &u, &e), -ENOKEY);
	fix_free(&b, 1);
	fix_free(&a, 0);
}
END_TEST

START_TEST(slots_listed)
{
	struct fixture a = fix_make(2, 1, 1, 3, NULL, NULL), b = fix_make(2, 1, 2, 7, a.keys, NULL);
	struct keyslot slots[KEYSLOT_MAX];
	struct header_blob *both[] = { b.blob[0], a.blob[1], a.blob[2], b.blob[2] };
	int n;

	ck_assert_int_eq(header_slots(&a.blob[3], 1, slots, &n), 0);
	ck_assert_int_eq(n, 2);
	ck_assert_str_eq(slots[1].label, "slot 2");
	ck_assert_int_eq(header_slots(both, 4, slots, &n), 0);
	ck_assert_int_eq(n, 3);
	ck_assert_int_eq(header_slots(both, 3, slots, &n), 0);
	ck_assert_int_eq(n, 2);
	ck_assert_int_eq(header_slots(both, 1, slots, &n), -ENOKEY);
	ck_assert_int_eq(n, 0);
	fix_free(&b, 1);
	fix_free(&a, 0);
}
END_TEST

START_TEST(open_with_keys)
{
	struct fixture a = fix_make(2, 1, 1, 3, NULL, NULL), b = fix_make(2, 1, 2, 7, a.keys, NULL);
	struct fixture other = fix_make(2, 1, 9, 3, NULL, NULL);
	struct header_blob *some[] = { a.blob[0], other.blob[0], b.blob[2], a.blob[1] };
	struct manifest mf;

	/* One header is enough: the MAC tells, no share is needed. */
	ck_assert_int_eq(header_open_with(some, 4, a.keys, &mf), 0);
	ck_assert_uint_eq(mf.generation, 2);
	ck_assert_str_eq(mf.backends[2].url, "file:///srv/cloud2");
	manifest_release(&mf);
	ck_assert_int_eq(header_open_with(&some[1], 1, a.keys, &mf), -EBADMSG);
	ck_assert_int_eq(header_open_with(some, 0, a.keys, &mf), -EBADMSG);
	fix_free(&b, 1);
	fix_free(&a, 0);
	fix_free(&other, 0);
}
END_TEST

START_TEST(bounds)
{
	struct fixture f = fix_make(2, 1, 1, 2, NULL, NULL);
	struct header_set hs;
	struct keyslot twice[2] = { f.slots[0], f.slots[0] };
	uint8_t other[ID_LEN] = { 9 };
	struct keyring *foreign = keyring_create(other);

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		struct manifest mf = f.mf;                                                         \
		change;                                                                            \
		ck_assert_int_eq(header_build(&mf, f.keys, f.slots, 1, 1, &hs), -EINVAL);          \
		ck_assert_ptr_null(hs.object[0].p);                                                \
	} while (0)
	REFUSED(mf.generation = 0);
	REFUSED(mf.k = 0; mf.m = 3);
	REFUSED(mf.k = 4; mf.m = -1);
	REFUSED(mf.nbackends = 2);
	REFUSED(mf.k = 20; mf.m = 13; mf.nbackends = 33);
	REFUSED(mf.k = INT32_MAX; mf.m = 1);
	REFUSED(mf.extent_max = 32 << 10);
	REFUSED(mf.extent_max = 2 << 20);
	REFUSED(mf.extent_max = 100 << 10);
	REFUSED(mf.compress = 2);
	REFUSED(mf.segment_size = 0);
	REFUSED(memset(mf.label, 'x', sizeof(mf.label)));
	REFUSED(mf.backends[2].url = NULL);
	char *longer = malloc(4098);
	memset(longer, 'u', 4097), longer[4097] = 0;
	REFUSED(mf.backends[1].url = longer);
	free(longer);
	ck_assert_int_eq(header_build(&f.mf, f.keys, f.slots, 0, 1, &hs), -EINVAL);
	ck_assert_int_eq(header_build(&f.mf, f.keys, f.slots, 17, 1, &hs), -EINVAL);
	ck_assert_int_eq(header_build(&f.mf, f.keys, twice, 2, 1, &hs), -EINVAL);
	ck_assert_int_eq(header_build(&f.mf, foreign, f.slots, 1, 1, &hs), -EINVAL);
	keyring_destroy(foreign);
	fix_free(&f, 0);
}
END_TEST

/* The vector of coding/FORMAT.md: version 1 stays readable for ever. */
#include "tests/unit/header_vector.h"

/* Backends 0 and 2 of a drive whose random bytes are fixed. SKYFLOK_PRINT_VECTOR=1 writes
 * header_vector.h anew. */
START_TEST(frozen_vector)
{
	char root[65], *text[2];

	fixed_random = 1;
	struct fixture f = fix_make(2, 1, 5, 3, NULL, NULL);
	fixed_random = 0;
	hex_put(root, keyring_root(f.keys), 32);
	for (int i = 0; i < 2; i++) {
		struct buf *o = &f.hs.object[2 * i];
		text[i] = malloc(2 * o->len + 1);
		hex_put(text[i], o->p, o->len);
	}
	fix_free(&f, 0);
	if (getenv("SKYFLOK_PRINT_VECTOR")) {
		printf("static const char *const header_vector[2] = {\n\t\"%s\",\n\t\"%s\"\n};\n"
		       "static const char header_vector_root[] = \"%s\";\n",
		       text[0], text[1], root);
	} else {
		ck_assert_str_eq(root, header_vector_root);
		ck_assert_str_eq(text[0], header_vector[0]);
		ck_assert_str_eq(text[1], header_vector[1]);
	}
	free(text[0]);
	free(text[1]);
}
END_TEST

START_TEST(frozen_vector_opens)
{
	uint8_t raw[2048];
	struct header_blob *b[2];
	struct header_unlocked u;
	char root[65];

	for (int i = 0; i < 2; i++) {
		size_t n = strlen(header_vector[i]) / 2;
		ck_assert_uint_le(n, sizeof(raw));
		ck_assert_int_eq(hex_get(raw, n, header_vector[i], 2 * n), 0);
		ck_assert_int_eq(header_parse(raw, n, &b[i]), 0);
	}
	ck_assert_int_eq(fix_unlock(b, 2, &u, NULL), 0);
	ck_assert_uint_eq(u.liars, 0);
	ck_assert_str_eq(u.manifest.label, "photos");
	hex_put(root, keyring_root(u.keys), 32);
	ck_assert_str_eq(root, header_vector_root);
	header_unlocked_release(&u);
	ck_assert_int_eq(
	    header_unlock(b, 2, KEYSLOT_PASSPHRASE, FIX_PASS, strlen(FIX_PASS), &u, NULL), 0);
	header_unlocked_release(&u);
	header_free(b[0]);
	header_free(b[1]);
}
END_TEST

/* Runs tests/system/reader.py, which shares no code with us, on folders as file:// backends hold
 * them. */
static int reader_run(char *const *argv, char *out, size_t cap)
{
	int fd[2], status;
	size_t len = 0;
	pid_t pid;
	posix_spawn_file_actions_t fa;

	ck_assert_int_eq(pipe(fd), 0);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fd[1], 1);
	posix_spawn_file_actions_addclose(&fa, fd[0]);
	int rc = posix_spawn(&pid, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(fd[1]);
	if (rc) {
		close(fd[0]);
		return 77;
	}
	for (ssize_t got; len < cap - 1 && (got = read(fd[0], out + len, cap - 1 - len)) > 0;)
		len += (size_t)got;
	out[len] = 0;
	close(fd[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void put_file(const char *dir, const char *name, const void *p, size_t n)
{
	char *path = str_printf("%s/%s", dir, name);

	ck_assert_int_eq(file_replace(path, p, n, 0600), 0);
	free(path);
}

START_TEST(strangers_reader)
{
	char dir[] = "/tmp/check_header.XXXXXX", out[4096], key[32], uuid[2 * ID_LEN + 1];
	char *reader = (char *)SKYFLOK_SOURCE "/tests/system/reader.py";
	struct fixture f = fix_make(3, 2, 12, 7, NULL, NULL);
	struct fixture old = fix_make(3, 2, 11, 7, f.keys, NULL);
	char *folder[5], *pass, *probe[] = { "/usr/bin/python3", reader, "selftest", NULL };

	int rc = reader_run(probe, out, sizeof(out));
	if (rc == 77) {
		printf(
		    "skipped strangers_reader: no /usr/bin/python3 with cryptography and argon2\n");
		fix_free(&old, 1);
		fix_free(&f, 0);
		return;
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	put_file(dir, "pass", FIX_PASS "\n", strlen(FIX_PASS) + 1);
	pass = str_printf("%s/pass", dir);
	for (int i = 0; i < 5; i++) {
		folder[i] = str_printf("%s/cloud%d", dir, i);
		char *h = str_printf("%s/h", folder[i]);
		ck_assert_int_eq(file_mkdirs(h, 0700), 0);
		free(h);
		header_key(key, 11);
		put_file(folder[i], key, old.hs.object[i].p, old.hs.object[i].len);
		header_key(key, 12);
		put_file(folder[i], key, f.hs.object[i].p, f.hs.object[i].len);
	}
	hex_put(uuid, fix_drive, ID_LEN);
	char *want = str_printf("\"drive\": \"%s\"", uuid);
	/* Any three of the five, and a fourth whose share was changed is named. */
	header_key(key, 12);
	f.hs.object[1].p[46 + 5 * 32 + 7] ^= 1;
	put_file(folder[1], key, f.hs.object[1].p, f.hs.object[1].len);
	char *argv[] = { "/usr/bin/python3", reader,    "unlock",     folder[4], folder[1],
			 folder[0],          folder[2], "--passfile", pass,      NULL };
	ck_assert_int_eq(reader_run(argv, out, sizeof(out)), 0);
	ck_assert_msg(strstr(out, want) != NULL, "%s", out);
	ck_assert(strstr(out, "\"generation\": 12") != NULL);
	ck_assert(strstr(out, "\"k\": 3") != NULL && strstr(out, "\"m\": 2") != NULL);
	ck_assert(strstr(out, "cloud1") != NULL);
	/* Two are too few for generation 12 and the changed one does not count; 11 still opens. */
	char *fewer[] = { "/usr/bin/python3", reader,       "unlock", folder[4], folder[1],
			  folder[0],          "--passfile", pass,     NULL };
	ck_assert_int_eq(reader_run(fewer, out, sizeof(out)), 0);
	ck_assert(strstr(out, "\"generation\": 11") != NULL);
	char *few[] = { "/usr/bin/python3", reader,       "unlock", folder[4],
			folder[0],          "--passfile", pass,     NULL };
	ck_assert_int_eq(reader_run(few, out, sizeof(out)), 3);
	put_file(dir, "pass", "nope\n", 5);
	ck_assert_int_eq(reader_run(argv, out, sizeof(out)), 2);

	for (int i = 0; i < 5; i++) {
		for (uint64_t g = 11; g <= 12; g++) {
			header_key(key, g);
			char *path = str_printf("%s/%s", folder[i], key);
			unlink(path);
			free(path);
		}
		char *h = str_printf("%s/h", folder[i]);
		rmdir(h);
		rmdir(folder[i]);
		free(h);
		free(folder[i]);
	}
	unlink(pass);
	rmdir(dir);
	free(pass);
	free(want);
	fix_free(&old, 1);
	fix_free(&f, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("header");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_subset);
	tcase_add_test(t, widest);
	tcase_add_test(t, manifest_whole);
	tcase_add_test(t, secrets_of_each_kind);
	tcase_add_test(t, local_copy);
	tcase_add_test(t, generations);
	tcase_add_test(t, slots_listed);
	tcase_add_test(t, open_with_keys);
	tcase_add_test(t, bounds);
	tcase_add_test(t, frozen_vector);
	tcase_add_test(t, frozen_vector_opens);
	tcase_add_test(t, strangers_reader);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
