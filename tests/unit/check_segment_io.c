/* Bytes of the formats: the vector of coding/FORMAT.md (which tests/system/reader.py makes by
 * itself), and parsers on bytes that are not what they claim (I8). */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/digest.h"
#include "fs/base/buf.h"
#include "fs/base/file.h"
#include "fs/data/seg_internal.h"

static const char quick[] = "The quick brown fox jumps over the lazy dog";
static uint8_t drive[16], segment[16], set[16];
static struct keyring *keys;
static uint8_t key[KEY_LEN];

static void setup(void)
{
	uint8_t root[32], table[4 + 4 + 32] = { 0, 0, 0, 1, 0, 0, 0, 1 };

	memset(drive, 0x11, 16), memset(segment, 0x33, 16), memset(set, 0x44, 16);
	memset(root, 0x22, 32), memset(table + 8, 0x55, 32);
	ck_assert_int_eq(keyring_from_root(drive, root, table, sizeof(table), &keys), 0);
	ck_assert_int_eq(keyring_segment_key(keys, 1, segment, key), 0);
}

static void teardown(void)
{
	keyring_destroy(keys);
}

static struct seg_cipher cipher(void)
{
	struct seg_cipher c = { .key = key, .keyno = 1, .k = 4 };

	memcpy(c.drive, drive, 16), memcpy(c.id, segment, 16);
	return c;
}

/* SHA-256 that FORMAT.md tells for `name`. */
static void told(const char *name, char hex[65])
{
	AUTO_FREE uint8_t *text = NULL;
	size_t n;

	ck_assert_int_eq(file_read_all(SKYFLOK_SOURCE "/coding/FORMAT.md", 1 << 20, &text, &n), 0);
	char *at = strstr((char *)text, "### Test vector (`tests/unit/check_segment_io.c`)");
	char line[64];
	snprintf(line, sizeof(line), "\n%s ", name);
	at = at ? strstr(at, line) : NULL;
	ck_assert_msg(at != NULL, "FORMAT.md has no vector \"%s\"", name);
	at += strlen(line);
	at += strspn(at, " ");
	snprintf(hex, 65, "%.64s", at);
}

static void check_hash(const char *name, const void *p, size_t n)
{
	uint8_t sha[32];
	char have[65], want[65];

	ck_assert_int_eq(sha256(p, n, sha), 0);
	hex_put(have, sha, 32);
	told(name, want);
	ck_assert_str_eq(have, want);
}

/* The vector's segment file and index. Extents: count + 1. */
static uint8_t *vector_file(struct seg_ext x[3], size_t *len)
{
	struct seg_hint hints[2] = { { 7, 0 }, { 7, 43 } };
	struct seg_cipher c = cipher();
	uint8_t hundred[100], *text[3] = { (uint8_t *)(uintptr_t)quick, hundred, NULL };
	uint32_t pos = SEG_FILE_HEADER;
	uint8_t *file = calloc(1, 1 << 20);

	memset(x, 0, 3 * sizeof(*x));
	for (int i = 0; i < 100; i++)
		hundred[i] = (uint8_t)(7 * i);
	x[0].file_len = x[0].stored = sizeof(quick) - 1;
	x[1].file_len = x[1].stored = 100;
	memset(x[0].nonce, 0x66, 8), memset(x[1].nonce, 0x77, 8), memset(x[2].nonce, 0x88, 8);
	x[2].stored = x[2].file_len = segio_index_stored(2, segio_slots(x, 2, 4), 4);
	x[2].flags = EXT_INDEX;
	text[2] = malloc(x[2].stored);
	segio_index_put(text[2], x[2].stored, x, hints, 2, 1700000000);
	segio_file_header_put(file, &c);
	ck_assert_int_eq(segio_file_header_check(file, &c), 0);
	for (uint32_t i = 0; i < 3; i++) {
		x[i].pos = pos;
		x[i].file_pos = i ? x[i - 1].file_pos + x[i - 1].file_len : 0;
		uint32_t number = ext_number(&x[i], i);
		segio_record_put(file + pos, &c, number, &x[i], i < 2 ? &hints[i] : NULL);
		ck_assert_int_eq(
		    segio_seal(&c, number, &x[i], text[i], file + pos + SEG_RECORD_HEADER), 0);
		pos = ext_end(&x[i], 4);
	}
	free(text[2]);
	*len = pos;
	return file;
}

START_TEST(test_vector)
{
	struct segstore st = { .k = 4, .m = 2, .n = 6, .all = 0x3f, .keys = keys };
	struct seg s = { .num = 1, .keyno = 1, .k = 4, .m = 2, .phase = SEG_CLOSED, .pins = 1 };
	struct shards sh = { 0 };
	char path[] = "/tmp/check_segment_io.XXXXXX", name[16];
	size_t len;

	s.body = calloc(1, sizeof(*s.body));
	s.body->ext = calloc(3, sizeof(*s.body->ext));
	s.body->cipher = cipher();
	s.body->count = 2;
	AUTO_FREE uint8_t *file = vector_file(s.body->ext, &len);
	check_hash("segment file", file, len);
	s.body->fd = mkstemp(path);
	ck_assert_int_eq(file_pwrite(s.body->fd, file, len, 0), 0);
	memcpy(st.drive, drive, 16), memcpy(s.id, segment, 16), memcpy(s.set, set, 16);
	pthread_mutex_init(&st.lock, NULL);
	list_init(&s.xfers);
	ck_assert_int_eq(code_create(4, 2, &st.code), 0);
	ck_assert_int_eq(shards_make(&st, &s, 0x3f, &sh), 0);
	ck_assert_uint_eq(sh.len % 4096, 0);
	ck_assert_uint_eq(sh.len, seg_shard_len(len, 2, 4));
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "shard %d", i);
		check_hash(name, sh.p[i], sh.len);
	}
	shards_release(&sh);
	/* A part of them is the same part. */
	sh = (struct shards){ 0 };
	ck_assert_int_eq(shards_make(&st, &s, 0x22, &sh), 0);
	ck_assert_ptr_null(sh.p[0]);
	check_hash("shard 1", sh.p[1], sh.len);
	check_hash("shard 5", sh.p[5], sh.len);
	shards_release(&sh);
	/* With a wrong byte in the file no MAC is made. */
	sh = (struct shards){ 0 };
	file[200] ^= 1;
	ck_assert_int_eq(file_pwrite(s.body->fd, file, len, 0), 0);
	log_set_level(LOG_LV_ERROR);
	ck_assert_int_eq(shards_make(&st, &s, 0x3f, &sh), -EBADMSG);
	shards_release(&sh);
	close(s.body->fd);
	unlink(path);
	code_destroy(st.code);
	free(s.body->ext);
	free(s.body->absent);
	free(s.body);
}
END_TEST

/* Each bit of the file counts: header, record headers, sealed bytes. */
START_TEST(test_every_bit)
{
	struct seg_cipher c = cipher();
	struct seg_ext x[3], got;
	struct seg_hint hint;
	uint32_t number;
	size_t len;
	AUTO_FREE uint8_t *file = vector_file(x, &len), *plain = malloc(1 << 16);

	for (size_t at = 0; at < x[2].pos; at++) {
		file[at] ^= (uint8_t)(1 << (at % 8));
		int bad = segio_file_header_check(file, &c) != 0;
		for (uint32_t i = 0; i < 2; i++) {
			uint8_t *rec = file + x[i].pos;
			got = (struct seg_ext){ .pos = x[i].pos };
			int rc = segio_record_get(rec, &c, &number, &got, &hint);
			if (!rc)
				rc = segio_open(&c, i, &got, rec + SEG_RECORD_HEADER, plain);
			bad |= rc == -EBADMSG;
		}
		ck_assert_msg(bad, "a wrong bit in byte %zu was not seen", at);
		file[at] ^= (uint8_t)(1 << (at % 8));
	}
	/* Nor does an extent open under another number, as another segment's or drive's. */
	ck_assert_int_eq(segio_open(&c, 0, &x[0], file + x[0].pos + 64, plain), 0);
	ck_assert_int_eq(segio_open(&c, 1, &x[0], file + x[0].pos + 64, plain), -EBADMSG);
	c.id[3] ^= 1;
	ck_assert_int_eq(segio_open(&c, 0, &x[0], file + x[0].pos + 64, plain), -EBADMSG);
	c.id[3] ^= 1, c.drive[3] ^= 1;
	ck_assert_int_eq(segio_open(&c, 0, &x[0], file + x[0].pos + 64, plain), -EBADMSG);
	c.drive[3] ^= 1, c.keyno = 2;
	ck_assert_int_eq(segio_open(&c, 0, &x[0], file + x[0].pos + 64, plain), -EBADMSG);
}
END_TEST

/* Bytes that are right but for what the format demands: padding that is not zero. */
START_TEST(test_padding)
{
	struct seg_cipher c = cipher();
	struct seg_ext x = { .file_len = 60, .stored = 60 }, shorter = x;
	uint8_t data[240] = { 0 }, sealed[256], plain[256];

	data[50] = 1;
	shorter.file_len = shorter.stored = 49;
	ck_assert_uint_eq(ext_sealed(&x, 4), 128);
	ck_assert_int_eq(segio_seal(&c, 0, &x, data, sealed), 0);
	ck_assert_int_eq(segio_open(&c, 0, &x, sealed, plain), 0);
	/* The lengths are bound by the tag already. */
	ck_assert_int_eq(segio_open(&c, 0, &shorter, sealed, plain), -EBADMSG);
}
END_TEST

START_TEST(test_blob)
{
	struct seg_ext x[4] = { { .file_len = 5, .stored = 5 },
				{ .file_len = 5000, .stored = 900, .flags = EXT_ZSTD },
				{ .file_len = 1 << 20, .stored = 1 << 20 },
				{ .flags = EXT_INDEX } };
	struct seg_ext *got;
	uint32_t count;
	uint8_t *blob;
	size_t n;

	for (int i = 0; i < 4; i++)
		memset(x[i].nonce, i + 1, 8);
	x[3].stored = x[3].file_len = segio_index_stored(3, segio_slots(x, 3, 4), 4);
	ck_assert_int_eq(segio_blob_put(x, 3, &blob, &n), 0);
	ck_assert_int_eq(segio_blob_get(blob, n, 4, &got, &count), 0);
	ck_assert_uint_eq(count, 3);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(got[i].stored, x[i].stored);
		ck_assert_uint_eq(got[i].file_len, x[i].file_len);
		ck_assert_uint_eq(got[i].flags, x[i].flags);
		ck_assert_mem_eq(got[i].nonce, x[i].nonce, 8);
	}
	ck_assert_uint_eq(got[2].file_pos, 5005);
	free(got);
	for (size_t cut = 0; cut < n; cut++)
		ck_assert_int_ne(segio_blob_get(blob, cut, 4, &got, &count), 0);
	/* Whatever comes: an error, or positions within bounds. */
	uint64_t seed = 1;
	for (int i = 0; i < 200000; i++) {
		AUTO_FREE uint8_t *b = malloc(n);
		memcpy(b, blob, n);
		for (int j = 0; j <= i % 4; j++) {
			seed = hash_mix(seed + 1);
			b[seed % n] ^= (uint8_t)(seed >> 32);
		}
		if (segio_blob_get(b, n, 4, &got, &count))
			continue;
		ck_assert_uint_le(count, SEG_EXTENTS_MAX);
		for (uint32_t j = 0; j < count; j++) {
			ck_assert_uint_eq(got[j + 1].pos, ext_end(&got[j], 4));
			ck_assert_uint_le(got[j].pos, SEG_LENGTH_MAX);
		}
		free(got);
	}
	free(blob);
}
END_TEST

/* Record headers with a right checksum and wrong content. */
START_TEST(test_record_hostile)
{
	struct seg_cipher c = cipher();
	struct seg_ext x = { .file_len = 100, .stored = 100 }, got;
	struct seg_hint hint = { 1, 2 };
	uint32_t number;
	uint8_t rec[SEG_RECORD_HEADER];
	static const struct {
		int at;
		uint32_t v;
	} bad[] = { { 4, 8193 }, { 4, 8192 },      { 8, 0 },        { 8, 1 << 21 },
		    { 8, 101 },  { 12, 101 },      { 12, 0 },       { 16, 0 },
		    { 16, 192 }, { 20, 8u << 24 }, { 20, 1u << 24 } };

	segio_record_put(rec, &c, 5, &x, &hint);
	ck_assert_int_eq(segio_record_get(rec, &c, &number, &got, &hint), 0);
	ck_assert_uint_eq(number, 5);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		segio_record_put(rec, &c, 5, &x, &hint);
		be32_put(rec + bad[i].at, bad[i].v);
		be32_put(rec + 60, crc32c(crc32c(0, segment, 16), rec, 60));
		ck_assert_msg(segio_record_get(rec, &c, &number, &got, &hint) == -EBADMSG,
			      "field at %d = %u", bad[i].at, bad[i].v);
	}
}
END_TEST

/* Every count and mix of lengths gives shards of whole 4 KiB, and an index that fits. */
START_TEST(test_index_length)
{
	struct seg_ext *x = calloc(SEG_EXTENTS_MAX, sizeof(*x));

	for (int k = 1; k <= 31; k += k < 6 ? 1 : 5) {
		for (uint32_t count = 0; count <= SEG_EXTENTS_MAX; count = count * 3 + 1) {
			for (uint32_t i = 0; i < count; i++)
				x[i].stored = x[i].file_len = 1 + i * 7919 % 70000;
			uint64_t slots = segio_slots(x, count, k);
			uint32_t stored = segio_index_stored(count, slots, k);
			uint32_t sealed = shard_sealed_len(stored, k);
			ck_assert_uint_eq(sealed, stored + 16);
			ck_assert_uint_ge(stored, 20 + 33 * count);
			ck_assert_uint_lt(stored, SEG_INDEX_ROOM);
			ck_assert_uint_eq((256 + slots + sealed / (unsigned)k + 16) % 4096, 0);
		}
	}
	free(x);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("segment_io");
	TCase *c = tcase_create("all");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_vector);
	tcase_add_test(c, test_every_bit);
	tcase_add_test(c, test_padding);
	tcase_add_test(c, test_blob);
	tcase_add_test(c, test_record_hostile);
	tcase_add_test(c, test_index_length);
	suite_add_tcase(s, c);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
