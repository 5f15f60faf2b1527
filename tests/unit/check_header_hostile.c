/* fs/drive/header against damaged bytes, liars, forgers and a machine without memory. */
#include "tests/unit/header_fixture.h"

/* The object of one backend with one byte changed. NULL when it no longer parses. */
static struct header_blob *flipped(const struct buf *o, size_t at, uint8_t mask)
{
	uint8_t *p = malloc(o->len);
	struct header_blob *b;

	memcpy(p, o->p, o->len);
	p[at] ^= mask;
	int rc = header_parse(p, o->len, &b);
	ck_assert(rc == 0 || rc == -EBADMSG || rc == -ENOTSUP);
	ck_assert((rc == 0) == (b != NULL));
	free(p);
	return b;
}

/* Every byte of one header among enough good ones: the drive opens, and the liar is named. */
START_TEST(every_byte_named)
{
	struct fixture f = fix_make(2, 2, 7, 2, NULL, NULL);
	struct header_unlocked u;
	int unparsed = 0;

	for (size_t at = 0; at < f.hs.object[0].len; at++) {
		int who = (int)(at % 4);
		struct header_blob *good = f.blob[who], *bad = flipped(&f.hs.object[who], at, 0x40);
		if (!bad) {
			unparsed++;
			continue;
		}
		f.blob[who] = bad;
		ck_assert_int_eq(fix_unlock(f.blob, 4, &u, NULL), 0);
		fix_assert_same(&f, &u);
		ck_assert_msg(u.liars == 1ull << who, "byte %zu: liars %llx", at,
			      (unsigned long long)u.liars);
		header_unlocked_release(&u);
		f.blob[who] = good;
		header_free(bad);
	}
	/* Magic, version, features, k, n, x and the two lengths are refused at once, and little
	 * else. */
	ck_assert_int_lt(unparsed, 8 + 4 + 8 + 1 + 1 + 1 + 8 + 1);
	fix_free(&f, 0);
}
END_TEST

/* The same with nothing to spare: it may open (a vault of another header serves), never with other
 * content. */
START_TEST(every_byte_of_the_last)
{
	struct fixture f = fix_make(2, 1, 7, 2, NULL, NULL);
	struct header_unlocked u;
	size_t share = 46 + 3 * 32 + 1;

	for (size_t at = 0; at < f.hs.object[2].len; at++) {
		struct header_blob *two[2] = { f.blob[0], flipped(&f.hs.object[2], at, 1) };
		if (!two[1])
			continue;
		int rc = fix_unlock(two, 2, &u, NULL);
		if (!rc) {
			fix_assert_same(&f, &u);
			ck_assert_uint_eq(u.liars, 2);
			ck_assert_uint_gt(at, share + 31);
		} else {
			ck_assert_int_eq(rc, -ENOKEY);
			ck_assert_uint_lt(at, share + 32);
			if (at >= share)
				ck_assert_uint_eq(u.liars, 2);
		}
		header_unlocked_release(&u);
		header_free(two[1]);
	}
	fix_free(&f, 0);
}
END_TEST

/* The same byte changed in all n headers at once: nothing may open. */
START_TEST(every_byte_in_all)
{
	struct fixture f = fix_make(2, 1, 7, 2, NULL, NULL);
	struct header_unlocked u;
	struct manifest mf;
	size_t vault = 46 + 3 * 32 + 33;

	for (size_t at = 0; at < f.hs.object[0].len; at++) {
		struct header_blob *all[3];
		int parsed = 1;
		for (int i = 0; i < 3; i++) {
			all[i] = flipped(&f.hs.object[i], at, 0x10);
			parsed &= all[i] != NULL;
		}
		if (parsed) {
			int rc = fix_unlock(all, 3, &u, NULL);
			ck_assert_msg(rc == (at < vault ? -ENOKEY : -EBADMSG) ||
					  (rc == -EBADMSG && at < vault),
				      "byte %zu: %d", at, rc);
			ck_assert_ptr_null(u.keys);
			header_unlocked_release(&u);
			rc = header_open_with(all, 3, f.keys, &mf);
			/* A share is not under the MAC; its commitment is. */
			if (at >= vault - 33 && at < vault) {
				ck_assert_int_eq(rc, 0);
				manifest_release(&mf);
			} else {
				ck_assert_int_eq(rc, -EBADMSG);
			}
		}
		for (int i = 0; i < 3; i++)
			header_free(all[i]);
	}
	fix_free(&f, 0);
}
END_TEST

START_TEST(local_copy_damaged)
{
	struct fixture f = fix_make(2, 1, 7, 2, NULL, NULL);
	struct header_unlocked u;

	for (size_t at = 0; at < f.hs.local.len; at++) {
		struct header_blob *bad = flipped(&f.hs.local, at, 0x80);
		if (!bad)
			continue;
		struct header_blob *with[3] = { bad, f.blob[0], f.blob[1] };
		ck_assert_int_ne(fix_unlock(&bad, 1, &u, NULL), 0);
		header_unlocked_release(&u);
		ck_assert_int_eq(fix_unlock(with, 3, &u, NULL), 0); /* the clouds still open it */
		fix_assert_same(&f, &u);
		ck_assert_msg(u.liars == 1, "byte %zu: %llx", at, (unsigned long long)u.liars);
		header_unlocked_release(&u);
		header_free(bad);
	}
	fix_free(&f, 0);
}
END_TEST

static void parse_refused(const void *p, size_t n, int want, const char *why)
{
	struct header_blob *b;
	struct err e = { 0 };
	uint8_t *exact = malloc(n + !n); /* so that ASan sees an overread */

	if (n)
		memcpy(exact, p, n);
	ck_assert_int_eq(header_parse(exact, n, &b), want);
	ck_assert_ptr_null(b);
	ck_assert_int_eq(header_why(exact, n, &e), want);
	ck_assert_msg(strstr(e.text, why) != NULL, "%s", e.text);
	free(exact);
}

START_TEST(hostile_bytes)
{
	struct fixture f = fix_make(2, 1, 7, 3, NULL, NULL);
	struct buf *o = &f.hs.object[1];
	uint8_t p[4096];
	size_t own = 46 + 3 * 32, vault = own + 33;
	uint32_t vault_len = be32_get(o->p + vault);

	ck_assert_int_eq(header_why(o->p, o->len, NULL), 0);
	for (size_t n = 0; n < o->len; n++)
		parse_refused(o->p, n, -EBADMSG, n < 8 ? "not a skyflok" : "damaged");
	memcpy(p, o->p, o->len);
	p[o->len] = 0;
	parse_refused(p, o->len + 1, -EBADMSG, "damaged");

	be32_put(p + 8, 2);
	parse_refused(p, o->len, -ENOTSUP, "version 2");
	be32_put(p + 8, UINT32_MAX);
	parse_refused(p, 20, -ENOTSUP, "version 4294967295"); /* whatever follows */
	be32_put(p + 8, 0);
	parse_refused(p, o->len, -EBADMSG, "damaged");
	be32_put(p + 8, 1);
	for (int i = 0; i < 64; i++) {
		char bit[32];
		snprintf(bit, sizeof(bit), "feature bit %d ", i);
		be64_put(p + 12, 1ull << i);
		parse_refused(p, o->len, -ENOTSUP, bit);
	}
	be64_put(p + 12, 0);
#define WITH(at, value)                                                                            \
	do {                                                                                       \
		uint8_t saved = p[at];                                                             \
		p[at] = (value);                                                                   \
		parse_refused(p, o->len, -EBADMSG, "damaged");                                     \
		p[at] = saved;                                                                     \
	} while (0)
	WITH(44, 0); /* k */
	WITH(44, 4); /* k > n */
	WITH(45, 0); /* n */
	WITH(45, 33);
	WITH(45, 255);
	WITH(own, 4); /* x > n */
	WITH(own, 254);
	static const uint32_t lens[] = { 0, 15, 8193, 0x7fffffff, UINT32_MAX };
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		be32_put(p + vault, lens[i]);
		parse_refused(p, o->len, -EBADMSG, "damaged");
		be32_put(p + vault, vault_len);
		be32_put(p + vault + 4 + vault_len, lens[i]);
		parse_refused(p, o->len, -EBADMSG, "damaged");
		memcpy(p, o->p, o->len);
	}
	be64_put(p + 36, 0); /* generation */
	parse_refused(p, o->len, -EBADMSG, "damaged");
	fix_free(&f, 0);
}
END_TEST

/* A provider that writes a header of its own, for the same drive and with a high number, that opens
 * by its share alone. */
START_TEST(forged_header)
{
	struct fixture f = fix_make(2, 2, 7, 3, NULL, NULL);
	struct fixture forged = fix_make(1, 1, 99, 1, NULL, "the forger's");
	struct header_unlocked u;
	struct err e;
	struct header_blob *some[] = { forged.blob[0], f.blob[1], f.blob[2], f.blob[3] };

	for (int kind = KEYSLOT_PASSPHRASE; kind <= KEYSLOT_RECOVERY; kind += 2) {
		const void *secret =
		    kind == KEYSLOT_PASSPHRASE ? (const void *)FIX_PASS : fix_recovery;
		ck_assert_int_eq(header_unlock(some, 4, (enum keyslot_kind)kind, secret,
					       kind == KEYSLOT_PASSPHRASE ? strlen(FIX_PASS) : 32,
					       &u, &e),
				 0);
		fix_assert_same(&f, &u);
		ck_assert_uint_eq(u.liars, 1);
		header_unlocked_release(&u);
	}
	/* With too few of the real ones it is not said that the passphrase is certainly wrong. */
	ck_assert_int_eq(
	    header_unlock(some, 2, KEYSLOT_PASSPHRASE, FIX_PASS, strlen(FIX_PASS), &u, &e),
	    -EACCES);
	ck_assert(strstr(e.text, "other headers") != NULL);
	/* For a running daemon the forgery is nothing at all. */
	struct manifest mf;
	ck_assert_int_eq(header_open_with(some, 4, f.keys, &mf), 0);
	ck_assert_uint_eq(mf.generation, 7);
	manifest_release(&mf);
	fix_free(&forged, 0);
	fix_free(&f, 0);
}
END_TEST

/* A share of another generation, or of another backend, under a right common part. */
START_TEST(foreign_share)
{
	struct fixture a = fix_make(2, 1, 1, 2, NULL, NULL), b = fix_make(2, 1, 2, 2, a.keys, NULL);
	struct header_unlocked u;
	size_t own = 46 + 3 * 32;
	struct header_blob *all[3] = { b.blob[0], b.blob[1], NULL };

	memcpy(b.hs.object[2].p + own, a.hs.object[2].p + own, 33);
	ck_assert_int_eq(header_parse(b.hs.object[2].p, b.hs.object[2].len, &all[2]), 0);
	ck_assert_int_eq(fix_unlock(all, 3, &u, NULL), 0);
	ck_assert_uint_eq(u.liars, 4);
	header_unlocked_release(&u);
	ck_assert_int_eq(fix_unlock(all + 1, 2, &u, NULL), -ENOKEY);
	ck_assert_uint_eq(u.liars, 2);
	header_free(all[2]);
	/* Two copies of one share count once. */
	all[1] = all[0];
	ck_assert_int_eq(fix_unlock(all, 2, &u, NULL), -ENOKEY);
	ck_assert_uint_eq(u.liars, 0);
	fix_free(&b, 1);
	fix_free(&a, 0);
}
END_TEST

/* Whichever allocation fails: -ENOMEM, nothing half done, nothing leaked (ASan). */
START_TEST(no_memory)
{
	struct fixture f = fix_make(2, 1, 7, 3, NULL, NULL);
	struct header_set hs;
	struct header_blob *b;
	struct header_unlocked u;
	struct manifest mf;
	struct keyslot slots[KEYSLOT_MAX];
	struct err e;
	int rc, n = 0, left;
	/* One pass grows the caches that a thread keeps. */
	ck_assert_int_eq(fix_unlock(f.blob, 3, &u, &e), 0);
	header_unlocked_release(&u);

#define EACH_FAILURE(call, undo)                                                                   \
	for (int i = 0;; i++) {                                                                    \
		alloc_left = i;                                                                    \
		rc = (call);                                                                       \
		left = alloc_left;                                                                 \
		alloc_left = -1;                                                                   \
		if (!rc) {                                                                         \
			undo;                                                                      \
			if (left > 0)                                                              \
				break;                                                             \
			continue; /* an allocation that may fail */                                \
		}                                                                                  \
		ck_assert_int_eq(rc, -ENOMEM);                                                     \
		n++;                                                                               \
	}
	EACH_FAILURE(header_build(&f.mf, f.keys, f.slots, 2, 1, &hs), header_set_release(&hs));
	ck_assert_int_gt(n, 10);
	EACH_FAILURE(header_parse(f.hs.object[0].p, f.hs.object[0].len, &b), header_free(b));
	EACH_FAILURE(fix_unlock(f.blob, 3, &u, &e), header_unlocked_release(&u));
	EACH_FAILURE(header_open_with(f.blob, 3, f.keys, &mf), manifest_release(&mf));
	EACH_FAILURE(header_slots(f.blob, 3, slots, &rc), (void)0);
	fix_free(&f, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("header_hostile");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 100);
	tcase_add_test(t, every_byte_named);
	tcase_add_test(t, every_byte_of_the_last);
	tcase_add_test(t, every_byte_in_all);
	tcase_add_test(t, local_copy_damaged);
	tcase_add_test(t, hostile_bytes);
	tcase_add_test(t, forged_header);
	tcase_add_test(t, foreign_share);
	tcase_add_test(t, no_memory);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
