/* The code is judged by an arithmetic of the test's own: GF(2^8) by shift and add over 0x11d and
 * Plank's construction of the matrix (J. S. Plank, Y. Ding, "Note: Correction to the 1997 tutorial
 * on Reed-Solomon coding", 2005), so that no vector comes from jerasure itself. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coding/code.h"
#include "coding/shard.h"
#include "fs/base/buf.h"
#include "fs/base/scope.h"

static uint8_t mul(uint8_t a, uint8_t b)
{
	unsigned r = 0, x = a;

	for (; b; b >>= 1, x = x & 0x80 ? (x << 1) ^ 0x11d : x << 1)
		if (b & 1)
			r ^= x;
	return (uint8_t)r;
}

static uint8_t inverse(uint8_t a)
{
	for (int i = 1; i < 256; i++)
		if (mul(a, (uint8_t)i) == 1)
			return (uint8_t)i;
	ck_abort_msg("0 has no inverse");
}

/* rows x cols systematic matrix: extended Vandermonde, made systematic by column operations, then
 * first parity row and column scaled to ones. */
static void reference_matrix(int k, int m, uint8_t g[32][32])
{
	int rows = k + m;

	memset(g, 0, 32 * 32);
	for (int i = 0; i < rows; i++) {
		uint8_t v = 1;
		for (int j = 0; j < k; j++, v = mul(v, (uint8_t)i))
			g[i][j] = i == 0 ? j == 0 : i == rows - 1 ? j == k - 1 : v;
	}
	for (int i = 1; i < k; i++) {
		int p = i;
		while (!g[p][i])
			p++;
		for (int c = 0; c < k && p != i; c++) {
			uint8_t t = g[p][c];
			g[p][c] = g[i][c], g[i][c] = t;
		}
		uint8_t f = inverse(g[i][i]);
		for (int r = 0; r < rows; r++)
			g[r][i] = mul(g[r][i], f);
		for (int c = 0; c < k; c++) {
			uint8_t t = g[i][c];
			for (int r = 0; r < rows && c != i && t; r++)
				g[r][c] ^= mul(t, g[r][i]);
		}
	}
	for (int c = 0; c < k && m > 0; c++) {
		uint8_t f = inverse(g[k][c]);
		for (int r = k; r < rows; r++)
			g[r][c] = mul(g[r][c], f);
	}
	for (int r = k + 1; r < rows; r++) {
		uint8_t f = inverse(g[r][0]);
		for (int c = 0; c < k; c++)
			g[r][c] = mul(g[r][c], f);
	}
}

struct frags {
	uint8_t *p[32];
};

static void frags_make(struct frags *f, int n, size_t size)
{
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(posix_memalign((void **)&f->p[i], 64, size), 0);
}

static void frags_free(struct frags *f, int n)
{
	for (int i = 0; i < n; i++)
		free(f->p[i]);
}

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
}

static void check_code(int k, int m, size_t size)
{
	struct code *c;
	struct frags f;
	uint8_t g[32][32];

	ck_assert_int_eq(code_create(k, m, &c), 0);
	frags_make(&f, k + m, size);
	for (int i = 0; i < k; i++)
		fill(f.p[i], size, (uint32_t)(k * 100 + i));
	ck_assert_int_eq(code_encode(c, f.p, f.p + k, size), 0);
	reference_matrix(k, m, g);
	for (int r = k; r < k + m; r++)
		for (size_t b = 0; b < size; b += 7) {
			uint8_t want = 0;
			for (int j = 0; j < k; j++)
				want ^= mul(g[r][j], f.p[j][b]);
			ck_assert_msg(f.p[r][b] == want, "k %d m %d parity %d byte %zu", k, m,
				      r - k, b);
		}
	frags_free(&f, k + m);
	code_destroy(c);
}

START_TEST(test_encode_reference)
{
	static const int codes[][2] = { { 1, 1 },  { 1, 31 },  { 2, 1 },  { 4, 2 }, { 3, 3 },
					{ 10, 4 }, { 16, 16 }, { 31, 1 }, { 5, 0 } };

	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		for (size_t size = 16; size <= 32768 + 16; size = size * 2 + 16)
			check_code(codes[i][0], codes[i][1], size);
}
END_TEST

/* A vector that was worked out by hand (see reference_matrix): for k = 2, m = 2 the parity rows are
 * (1 1) and (1 c), so p0 = d0 ^ d1. */
START_TEST(test_first_parity_is_xor)
{
	struct code *c;
	struct frags f;

	ck_assert_int_eq(code_create(2, 2, &c), 0);
	frags_make(&f, 4, 64);
	fill(f.p[0], 64, 1), fill(f.p[1], 64, 2);
	ck_assert_int_eq(code_encode(c, f.p, f.p + 2, 64), 0);
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(f.p[2][i], f.p[0][i] ^ f.p[1][i]);
	frags_free(&f, 4);
	code_destroy(c);
}
END_TEST

static void check_all_subsets(int k, int m)
{
	struct code *c;
	struct frags good, f;
	size_t size = 256;
	int n = k + m;
	uint32_t all = (1u << n) - 1;

	ck_assert_int_eq(code_create(k, m, &c), 0);
	frags_make(&good, n, size), frags_make(&f, n, size);
	for (int i = 0; i < k; i++)
		fill(good.p[i], size, (uint32_t)i + 7);
	ck_assert_int_eq(code_encode(c, good.p, good.p + k, size), 0);
	for (uint32_t have = 0; have <= all; have++) {
		for (int i = 0; i < n; i++) {
			if (have >> i & 1)
				memcpy(f.p[i], good.p[i], size);
			else
				memset(f.p[i], 0xee, size);
		}
		int rc = code_rebuild(c, f.p, have, all & ~have, size);
		if (__builtin_popcount(have) < k) {
			ck_assert_int_eq(rc, -EINVAL);
			continue;
		}
		ck_assert_int_eq(rc, 0);
		for (int i = 0; i < n; i++)
			ck_assert_msg(memcmp(f.p[i], good.p[i], size) == 0,
				      "k %d m %d have %x fragment %d", k, m, have, i);
	}
	frags_free(&good, n), frags_free(&f, n);
	code_destroy(c);
}

START_TEST(test_every_subset)
{
	check_all_subsets(1, 1);
	check_all_subsets(1, 3);
	check_all_subsets(2, 1);
	check_all_subsets(4, 2);
	check_all_subsets(3, 5);
	check_all_subsets(7, 3);
	check_all_subsets(6, 0);
}
END_TEST

START_TEST(test_only_what_is_wanted)
{
	struct code *c;
	struct frags f;

	ck_assert_int_eq(code_create(4, 2, &c), 0);
	frags_make(&f, 6, 64);
	for (int i = 0; i < 4; i++)
		fill(f.p[i], 64, (uint32_t)i);
	ck_assert_int_eq(code_encode(c, f.p, f.p + 4, 64), 0);
	uint8_t want = f.p[1][5];
	memset(f.p[1], 0, 64), memset(f.p[5], 0x55, 64);
	ck_assert_int_eq(code_rebuild(c, f.p, 0x1d, 1 << 1, 64), 0);
	ck_assert_int_eq(f.p[1][5], want);
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(f.p[5][i], 0x55);
	frags_free(&f, 6);
	code_destroy(c);
}
END_TEST

START_TEST(test_bad_input)
{
	static const int bad[][2] = {
		{ 0, 2 },  { -1, 2 },           { 1, 0 }, { 33, 0 }, { 20, 13 },
		{ 4, -1 }, { 1 << 30, 1 << 30 }
	};
	struct code *c;
	struct frags f;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_int_eq(code_create(bad[i][0], bad[i][1], &c), -EINVAL);
		ck_assert_ptr_null(c);
	}
	ck_assert_int_eq(code_create(2, 1, &c), 0);
	frags_make(&f, 3, 128);
	memset(f.p[0], 1, 128), memset(f.p[1], 2, 128);
	ck_assert_int_eq(code_encode(c, f.p, f.p + 2, 0), -EINVAL);
	ck_assert_int_eq(code_encode(c, f.p, f.p + 2, 24), -EINVAL);
	uint8_t *off[3] = { f.p[0] + 16, f.p[1], f.p[2] };
	ck_assert_int_eq(code_encode(c, off, off + 2, 32), -EINVAL);
	ck_assert_int_eq(code_rebuild(c, f.p, 3, 1, 16), -EINVAL); /* have and want overlap */
	ck_assert_int_eq(code_rebuild(c, f.p, 3 | 1 << 3, 4, 16), -EINVAL); /* no such fragment */
	frags_free(&f, 3);
	code_destroy(c);
}
END_TEST

static void *encode_thread(void *arg)
{
	for (int i = 0; i < 50; i++)
		check_code(4, 2, 4096);
	return arg;
}

START_TEST(test_threads)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, encode_thread, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}
END_TEST

/* jerasure makes fields at first use, one of them in the middle of encoding: the first two
 * encodings of a process may be simultaneous. (Before both fields were made in code_create, one in
 * some hundred processes died.) */
static pthread_barrier_t together;

static void *first_encode(void *arg)
{
	struct frags f;

	frags_make(&f, 6, 64);
	for (int i = 0; i < 4; i++)
		memset(f.p[i], i, 64);
	pthread_barrier_wait(&together);
	(void)code_encode(arg, f.p, f.p + 4, 64);
	return NULL;
}

START_TEST(test_first_use)
{
	for (int i = 0; i < 300; i++) {
		int status;
		pid_t pid = fork();
		if (!pid) {
			struct code *c;
			pthread_t t[2];
			if (code_create(4, 2, &c) || pthread_barrier_init(&together, NULL, 2))
				_exit(1);
			for (int j = 0; j < 2; j++)
				if (pthread_create(&t[j], NULL, first_encode, c))
					_exit(1);
			for (int j = 0; j < 2; j++)
				pthread_join(t[j], NULL);
			_exit(0);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(status == 0, "process %d ended with status %x", i, status);
	}
}
END_TEST

START_TEST(test_sealed_len)
{
	for (int k = 1; k <= 32; k++)
		for (uint32_t stored = 1; stored < 3000; stored++) {
			uint32_t s = shard_sealed_len(stored, k);
			ck_assert(s >= stored + 16 && s % (16 * (uint32_t)k) == 0 &&
				  s - stored - 16 < 16 * (uint32_t)k);
		}
}
END_TEST

static struct shard_header sample(void)
{
	struct shard_header h = { .keyno = 3,
				  .k = 4,
				  .m = 2,
				  .shard = 5,
				  .extents = 8192,
				  .index_fragment = 4096 - 16,
				  .length = 1 << 20 };

	memset(h.drive, 0xd1, 16), memset(h.segment, 0x5e, 16), memset(h.set, 0xab, 16);
	h.index_offset = h.length - 4096;
	return h;
}

START_TEST(test_header)
{
	struct shard_header h = sample(), got;
	uint8_t b[SHARD_HEADER_LEN];
	int feature;

	shard_header_put(b, &h);
	ck_assert_int_eq(shard_header_get(b, &got, &feature), 0);
	ck_assert_int_eq(got.keyno, 3);
	ck_assert_int_eq(got.k, 4);
	ck_assert_int_eq(got.m, 2);
	ck_assert_int_eq(got.shard, 5);
	ck_assert_uint_eq(got.extents, 8192);
	ck_assert_uint_eq(got.index_offset, h.index_offset);
	ck_assert_uint_eq(got.index_fragment, h.index_fragment);
	ck_assert_uint_eq(got.length, h.length);
	ck_assert_mem_eq(got.drive, h.drive, 16);
	ck_assert_mem_eq(got.segment, h.segment, 16);
	ck_assert_mem_eq(got.set, h.set, 16);
}
END_TEST

START_TEST(test_header_hostile)
{
	struct shard_header h = sample(), got;
	uint8_t b[SHARD_HEADER_LEN];
	int feature;

	shard_header_put(b, &h);
	b[9] = 2; /* version */
	ck_assert_int_eq(shard_header_get(b, &got, &feature), -ENOTSUP);
	shard_header_put(b, &h);
	b[10] = 0x10; /* feature bit 12 */
	ck_assert_int_eq(shard_header_get(b, &got, &feature), -ENOTSUP);
	ck_assert_int_eq(feature, 12);
	static const struct {
		int at;
		uint8_t v;
	} bad[] = { { 0, 'X' },   { 64, 0 },    { 64, 40 }, { 66, 6 }, { 67, 1 },
		    { 68, 1 },    { 72, 0xff }, { 79, 1 },  { 83, 1 }, { 87, 1 },
		    { 88, 0xff }, { 95, 1 },    { 104, 1 } };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		shard_header_put(b, &h);
		b[bad[i].at] = bad[i].v;
		ck_assert_msg(shard_header_get(b, &got, &feature) == -EBADMSG, "byte %d",
			      bad[i].at);
	}
}
END_TEST

START_TEST(test_key)
{
	char key[SHARD_KEY_MAX];
	uint8_t set[16] = { 0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff };

	shard_key(key, set, 31);
	ck_assert_str_eq(key, "s/ab/ab0102030405060708090a0b0c0d0eff.31");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("coding");
	TCase *tc = tcase_create("coding");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_encode_reference);
	tcase_add_test(tc, test_first_parity_is_xor);
	tcase_add_test(tc, test_every_subset);
	tcase_add_test(tc, test_only_what_is_wanted);
	tcase_add_test(tc, test_bad_input);
	tcase_add_test(tc, test_first_use);
	tcase_add_test(tc, test_threads);
	tcase_add_test(tc, test_sealed_len);
	tcase_add_test(tc, test_header);
	tcase_add_test(tc, test_header_hostile);
	tcase_add_test(tc, test_key);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
