/* crypto/keyslot: slots, their list on the wire, recovery keys. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/kdf.h"
#include "crypto/keyslot.h"
#include "fs/base/buf.h"
#include "fs/base/scope.h"

/* A cheap cost: the tests check the wiring, RFC 9106's vector checks the function. */
static const struct keyslot_cost cheap = { .mem_kib = 64, .passes = 1, .lanes = 2 };

static struct keyslot slot_make(enum keyslot_kind kind, const char *secret, size_t n)
{
	struct keyslot s = { .number = 3, .kind = kind, .label = "laptop" };
	uint8_t drive[16] = { 0xd }, root[32];

	memset(root, 0xab, 32);
	if (kind != KEYSLOT_RECOVERY)
		s.cost = cheap;
	ck_assert_int_eq(keyslot_seal(&s, drive, root, secret, n), 0);
	return s;
}

START_TEST(slot_round_trip)
{
	static const enum keyslot_kind kinds[] = { KEYSLOT_PASSPHRASE, KEYSLOT_KEYFILE,
						   KEYSLOT_RECOVERY };
	static const char secret[] = "0123456789abcdef0123456789abcdeX";
	uint8_t drive[16] = { 0xd }, other[16] = { 0xe }, want[32], root[32], zero[32] = { 0 };

	memset(want, 0xab, 32);
	for (int i = 0; i < 3; i++) {
		struct keyslot s = slot_make(kinds[i], secret, 32), t;
		ck_assert_int_eq(keyslot_open(&s, drive, secret, 32, root), 0);
		ck_assert_mem_eq(root, want, 32);
		ck_assert_int_eq(
		    keyslot_open(&s, drive, "0123456789abcdef0123456789abcdeY", 32, root), -EACCES);
		ck_assert_mem_eq(root, zero, 32);
		ck_assert_int_eq(keyslot_open(&s, drive, secret, 31, root), -EACCES);
		ck_assert_int_eq(keyslot_open(&s, drive, "", 0, root), -EACCES);
		ck_assert_int_eq(keyslot_open(&s, other, secret, 32, root), -EACCES);
		/* Every field is bound: by the check value, or by the tag. */
		t = s, t.number++;
		ck_assert_int_eq(keyslot_open(&t, drive, secret, 32, root), -EACCES);
		t = s, t.label[0] ^= 1;
		ck_assert_int_eq(keyslot_open(&t, drive, secret, 32, root), -EBADMSG);
		t = s, t.created++;
		ck_assert_int_eq(keyslot_open(&t, drive, secret, 32, root), -EBADMSG);
		t = s, t.salt[31] ^= 1;
		ck_assert_int_eq(keyslot_open(&t, drive, secret, 32, root), -EACCES);
		t = s, t.nonce[0] ^= 1;
		ck_assert_int_eq(keyslot_open(&t, drive, secret, 32, root), -EBADMSG);
		t = s, t.sealed_root[47] ^= 1;
		ck_assert_int_eq(keyslot_open(&t, drive, secret, 32, root), -EBADMSG);
		t = s, t.check[0] ^= 1;
		ck_assert_int_eq(keyslot_open(&t, drive, secret, 32, root), -EACCES);
		t = s,
		t.kind = kinds[i] == KEYSLOT_PASSPHRASE ? KEYSLOT_KEYFILE : KEYSLOT_PASSPHRASE;
		ck_assert_int_ne(keyslot_open(&t, drive, secret, 32, root), 0);
	}
	/* Sealing again draws a new salt and nonce. */
	struct keyslot a = slot_make(KEYSLOT_RECOVERY, secret, 32),
		       b = slot_make(KEYSLOT_RECOVERY, secret, 32);
	ck_assert_mem_ne(a.salt, b.salt, 32);
	ck_assert_mem_ne(a.sealed_root, b.sealed_root, 48);
}
END_TEST

START_TEST(slot_bounds)
{
	uint8_t drive[16] = { 0 }, root[32] = { 0 };
	static const struct keyslot_cost bad[] = {
		{ KDF_MEM_MAX + 1, 1, 1 },
		{ 64, 17, 1 },
		{ 128, 1, 9 },
		{ 64, 0, 1 },
		{ 0, 1, 1 },
		{ 7, 1, 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct keyslot s = { .number = 1, .kind = KEYSLOT_PASSPHRASE, .cost = bad[i] };
		ck_assert_int_eq(keyslot_seal(&s, drive, root, "x", 1), -EINVAL);
		s = slot_make(KEYSLOT_PASSPHRASE, "x", 1);
		s.cost = bad[i];
		ck_assert_int_eq(keyslot_open(&s, drive, "x", 1, root), -EBADMSG);
	}
	struct keyslot s = { .number = 1, .kind = KEYSLOT_PASSPHRASE, .cost = cheap };
	ck_assert_int_eq(keyslot_seal(&s, drive, root, "", 0), -EINVAL);
	s.kind = 9;
	ck_assert_int_eq(keyslot_seal(&s, drive, root, "x", 1), -EINVAL);
	s.kind = KEYSLOT_RECOVERY; /* with a cost, and then with a key that is too short */
	ck_assert_int_eq(keyslot_seal(&s, drive, root, root, 32), -EINVAL);
	s.cost = (struct keyslot_cost){ 0 };
	ck_assert_int_eq(keyslot_seal(&s, drive, root, root, 31), -EINVAL);
	s = (struct keyslot){ .number = 1, .kind = KEYSLOT_PASSPHRASE, .cost = cheap };
	memset(s.label, 'x', sizeof(s.label)); /* no NUL */
	ck_assert_int_eq(keyslot_seal(&s, drive, root, "x", 1), -EINVAL);
}
END_TEST

START_TEST(slot_default_cost)
{
	struct keyslot s = { .number = 1, .kind = KEYSLOT_PASSPHRASE };
	uint8_t drive[16] = { 0 }, root[32] = { 5 }, got[32];

	ck_assert_int_eq(keyslot_seal(&s, drive, root, "correct horse", 13), 0);
	ck_assert_uint_eq(s.cost.mem_kib, 262144);
	ck_assert_uint_eq(s.cost.passes, 3);
	ck_assert_uint_eq(s.cost.lanes, 4);
	ck_assert_int_gt(s.created, 1700000000);
	ck_assert_int_eq(keyslot_open(&s, drive, "correct horse", 13, got), 0);
	ck_assert_mem_eq(got, root, 32);
}
END_TEST

START_TEST(slots_wire)
{
	static const char secret[] = "0123456789abcdef0123456789abcdeX";
	struct keyslot in[KEYSLOT_MAX], out[KEYSLOT_MAX];
	struct buf b = { 0 };
	int n;

	for (int i = 0; i < KEYSLOT_MAX; i++) {
		in[i] = slot_make(KEYSLOT_RECOVERY, secret, 32);
		in[i].number = (uint32_t)i + 1;
		memset(in[i].label, 'a' + i, (size_t)i * 4);
	}
	keyslots_put(&b, in, KEYSLOT_MAX);
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), 0);
	ck_assert_int_eq(n, KEYSLOT_MAX);
	for (int i = 0; i < n; i++) {
		ck_assert_uint_eq(out[i].number, in[i].number);
		ck_assert_str_eq(out[i].label, in[i].label);
		ck_assert_int_eq(out[i].created, in[i].created);
		ck_assert_mem_eq(out[i].salt, in[i].salt, 32);
		ck_assert_mem_eq(out[i].nonce, in[i].nonce, 12);
		ck_assert_mem_eq(out[i].sealed_root, in[i].sealed_root, 48);
		ck_assert_mem_eq(out[i].check, in[i].check, 32);
	}
	for (size_t cut = 0; cut < b.len;
	     cut++) /* exact allocations, so that ASan sees an overread */
	{
		uint8_t *p = malloc(cut + 1);
		memcpy(p, b.p, cut);
		ck_assert_int_eq(keyslots_get(p, cut, out, &n), -EBADMSG);
		ck_assert_int_eq(n, 0);
		free(p);
	}
	buf_put8(&b, 0);
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), -EBADMSG); /* trailing byte */
	b.len--;
	b.p[0] = 17;
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), -EBADMSG);
	b.p[0] = 0;
	ck_assert_int_eq(keyslots_get(b.p, 1, out, &n), -EBADMSG);
	buf_reset(&b);

	in[1].number = in[0].number; /* the same number twice */
	keyslots_put(&b, in, 2);
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), -EBADMSG);
	buf_reset(&b);
	keyslots_put(&b, in, 1);
	b.p[5] = 4; /* unknown kind */
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), -EBADMSG);
	b.p[5] = KEYSLOT_RECOVERY;
	b.p[6] = 65; /* label too long */
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), -EBADMSG);
	buf_reset(&b);
	in[0] = slot_make(KEYSLOT_PASSPHRASE, "x", 1);
	in[0].cost.mem_kib = KDF_MEM_MAX + 1;
	keyslots_put(&b, in, 1);
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), -EBADMSG);
	buf_reset(&b);
	in[0].cost = cheap;
	keyslots_put(&b, in, 1);
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), 0);
	b.p[8] = 0; /* a NUL inside the label */
	ck_assert_int_eq(keyslots_get(b.p, b.len, out, &n), -EBADMSG);
	buf_release(&b);
}
END_TEST

START_TEST(recovery_text)
{
	uint8_t key[32], got[32], zero[32] = { 0 };
	char text[RECOVERY_TEXT_LEN], changed[2 * RECOVERY_TEXT_LEN];

	for (int i = 0; i < 32; i++)
		key[i] = (uint8_t)(i * 8 + 1);
	ck_assert_int_eq(recovery_key_text(key, text), 0);
	ck_assert_str_eq(text, "044H-2691-54RK-JGA9-A5CP-2TBH-F60R-K4CS-M6MV-3EE1-S78X-KRF9-Y7WG-"
			       "VCRZ"); /* stands in
					   coding/FORMAT.md
					 */
	ck_assert_int_eq(recovery_key_make(key, text), 0);
	ck_assert_uint_eq(strlen(text), 69);
	ck_assert_int_eq(recovery_key_parse(text, got), 0);
	ck_assert_mem_eq(got, key, 32);

	/* As people write: lower case, other or no groups, O for 0, l and i for 1. */
	size_t n = 0;
	for (size_t i = 0; text[i]; i++) {
		if (text[i] == '-')
			continue;
		changed[n++] = text[i] == '0'   ? 'o'
			       : text[i] == '1' ? (i % 2 ? 'l' : 'I')
						: (char)(text[i] >= 'A' ? text[i] + 32 : text[i]);
		if (n % 7 == 0)
			changed[n++] = ' ';
	}
	changed[n] = 0;
	ck_assert_int_eq(recovery_key_parse(changed, got), 0);
	ck_assert_mem_eq(got, key, 32);

	/* Any one wrong character, and any two exchanged, are found. */
	for (size_t i = 0; text[i]; i++) {
		memcpy(changed, text, sizeof(text));
		if (text[i] == '-')
			continue;
		changed[i] = text[i] == '7' ? '8' : '7';
		ck_assert_int_eq(recovery_key_parse(changed, got), -EINVAL);
		ck_assert_mem_eq(got, zero, 32);
		changed[i] = 'U'; /* not in the alphabet */
		ck_assert_int_eq(recovery_key_parse(changed, got), -EINVAL);
		memcpy(changed, text, sizeof(text));
		if (text[i + 1] && text[i + 1] != '-' && text[i] != text[i + 1]) {
			changed[i] = text[i + 1], changed[i + 1] = text[i];
			ck_assert_int_eq(recovery_key_parse(changed, got), -EINVAL);
		}
	}
	memcpy(changed, text, sizeof(text));
	changed[68] = 0;
	ck_assert_int_eq(recovery_key_parse(changed, got), -EINVAL);
	changed[68] = text[68], changed[69] = '0', changed[70] = 0;
	ck_assert_int_eq(recovery_key_parse(changed, got), -EINVAL);
	ck_assert_int_eq(recovery_key_parse("", got), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("keyslot");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, slot_round_trip);
	tcase_add_test(t, slot_bounds);
	tcase_add_test(t, slot_default_cost);
	tcase_add_test(t, slots_wire);
	tcase_add_test(t, recovery_text);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
