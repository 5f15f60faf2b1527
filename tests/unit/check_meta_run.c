/* fs/meta/run.h against a model that keeps, for each byte of small files, which byte of which
 * segment it is. */
#include "tests/unit/meta_fixture.h"

#define FILES 4
#define BYTES 600
#define SEGS  6
#define PER_EXTENT                                                                                 \
	16 /* all extents are so long: (first, skip) is then a position in the segment             \
	    */

/* 0: hole. Else segment << 32 | position + 1. */
static uint64_t model[FILES][BYTES];
static uint64_t next_extent[SEGS + 1];

static uint64_t byte_of(const struct run *r, uint64_t i)
{
	return (uint64_t)r->seg << 32 | ((uint64_t)r->first * PER_EXTENT + r->skip + i + 1);
}

static uint64_t ino_of(int f)
{
	return 10 + (uint64_t)f;
}

static void check_file(int f)
{
	uint64_t got[BYTES] = { 0 }, from = 0, end = 0;
	struct run rows[7];
	int n, more = 1;

	while (more) {
		n = run_page(m, ino_of(f), from, UINT64_MAX, rows, 7, &more);
		ck_assert_int_ge(n, 0);
		for (int i = 0; i < n; i++) {
			ck_assert_uint_gt(rows[i].len, 0);
			ck_assert_uint_ge(rows[i].off, end); /* in order, no overlap */
			end = rows[i].off + rows[i].len;
			ck_assert_uint_le(end, BYTES);
			for (uint64_t b = 0; b < rows[i].len; b++)
				got[rows[i].off + b] = byte_of(&rows[i], b);
		}
		from = end;
	}
	ck_assert_int_eq(memcmp(got, model[f], sizeof(got)), 0);
}

static void check_sums(void)
{
	uint64_t live[SEGS + 1] = { 0 }, all = 0;
	struct meta_totals t;
	struct segment_row s;

	for (int f = 0; f < FILES; f++) {
		for (int b = 0; b < BYTES; b++) {
			live[model[f][b] >> 32]++;
			all += !!model[f][b];
		}
	}
	meta_totals(m, &t);
	ck_assert_uint_eq(t.bytes, all);
	for (uint32_t seg = 1; seg <= SEGS; seg++) {
		ck_ok(segment_get(m, seg, &s));
		ck_assert_uint_eq(s.live, live[seg]);
	}
}

/* Which rows a range query returns: exactly those that touch it. */
static void check_page(int f)
{
	uint64_t from = (uint64_t)(random() % BYTES), to = from + 1 + (uint64_t)(random() % 200);
	struct run all[BYTES], part[BYTES];
	int n = run_page(m, ino_of(f), 0, UINT64_MAX, all, BYTES, NULL);
	int k = run_page(m, ino_of(f), from, to, part, BYTES, NULL), at = 0;

	for (int i = 0; i < n; i++) {
		if (all[i].off >= to || all[i].off + all[i].len <= from)
			continue;
		ck_assert_int_lt(at, k);
		ck_assert_int_eq(memcmp(&all[i], &part[at++], sizeof(all[i])), 0);
	}
	ck_assert_int_eq(at, k);
}

static void model_clear(int f, uint64_t off, uint64_t len, uint64_t *gone)
{
	for (uint64_t b = off; b < BYTES && b - off < len; b++) {
		*gone += !!model[f][b];
		model[f][b] = 0;
	}
}

static void clear(int f, uint64_t off, uint64_t len)
{
	uint64_t want = 0, freed, sum = 0;
	int max = 1 + (int)(random() % 4), rc, steps = 0;

	model_clear(f, off, len, &want);
	do {
		rc = run_clear(m, ino_of(f), off, len, max, &freed);
		sum += freed;
		ck_assert_int_lt(steps++, BYTES);
	} while (rc == -EAGAIN);
	ck_ok(rc);
	ck_assert_uint_eq(sum, want);
}

static void insert(int f, uint64_t off, uint64_t len, int sequential)
{
	uint32_t seg = sequential ? 1 + (uint32_t)f : 1 + (uint32_t)(random() % SEGS);
	uint32_t extents = (uint32_t)(len + PER_EXTENT - 1) / PER_EXTENT;
	struct run r = { .off = off, .len = len, .seg = seg };
	int continues;

	/* A writer that goes on where it was, when the last extent was full. */
	continues = off && model[f][off - 1] >> 32 == seg &&
		    (uint32_t)model[f][off - 1] == next_extent[seg] * PER_EXTENT;
	r.first = (uint32_t)next_extent[seg];
	next_extent[seg] += extents;
	if (random() % 8 == 0 && len > 2) { /* as a clone of the middle of something has */
		r.skip = 1;
		r.len--;
		continues = 0;
	}
	ck_ok(run_insert(m, ino_of(f), &r, continues));
	for (uint64_t b = 0; b < r.len; b++)
		model[f][off + b] = byte_of(&r, b);
}

static void stop_halfway(int f, uint64_t off, uint64_t len)
{
	int rc = run_clear(m, ino_of(f), off, len, 1, NULL);
	uint64_t gone = 0, from = off;

	if (rc == -EAGAIN) { /* what is left is at the front */
		struct run r[BYTES];
		int n = run_page(m, ino_of(f), off, off + len, r, BYTES, NULL);

		ck_assert_int_gt(n, 0);
		from = r[n - 1].off + r[n - 1].len;
	} else {
		ck_ok(rc);
	}
	model_clear(f, from, off + len - from, &gone);
	check_file(f);
}

START_TEST(model_and_rows_agree)
{
	memset(model, 0, sizeof(model));
	memset(next_extent, 0, sizeof(next_extent));
	srandom(1000 + (unsigned)_i);
	for (uint32_t seg = 1; seg <= SEGS; seg++) {
		struct segment_row s = segment_of(seg);

		ck_ok(segment_insert(m, &s));
	}
	for (int step = 0; step < 2500; step++) {
		int f = (int)(random() % FILES);
		uint64_t off = (uint64_t)(random() % BYTES);
		uint64_t len = 1 + (uint64_t)(random() % (random() % 4 ? 40 : BYTES));

		if (off + len > BYTES)
			len = BYTES - off;
		switch (random() % 8) {
		case 0:
			clear(f, off, random() % 4 ? len : UINT64_MAX - off);
			break;
		case 1: /* overlaps are refused, and change nothing */
			if (model[f][off]) {
				struct run r = { .off = off, .len = len, .seg = 1 };

				ck_assert_int_eq(run_insert(m, ino_of(f), &r, 1), -EEXIST);
			}
			break;
		case 2: /* sequential: whole extents, one after the other */
			for (int i = 0; i < 4 && off + PER_EXTENT <= BYTES; i++) {
				clear(f, off, PER_EXTENT);
				insert(f, off, PER_EXTENT, 1);
				off += PER_EXTENT;
			}
			break;
		case 3: /* a step of a clear that is never finished is a valid state */
			stop_halfway(f, off, len);
			break;
		default:
			clear(f, off, len);
			insert(f, off, len, 0);
		}
		if (step % 10 == 0) {
			check_file(f);
			check_page(f);
		}
		if (step % 40 == 0)
			check_sums();
		if (random() % 20 == 0)
			ck_ok(meta_commit(m));
		if (random() % 300 == 0)
			reopen();
	}
	for (int f = 0; f < FILES; f++)
		check_file(f);
	check_sums();
	for (int f = 0; f < FILES; f++) {
		clear(f, 0, UINT64_MAX);
		ck_assert_int_eq(run_any(m, ino_of(f)), 0);
	}
	check_sums();
}
END_TEST

START_TEST(sixty_four_bits)
{
	const uint64_t top = INT64_MAX;
	struct segment_row s = segment_of(UINT32_MAX);
	struct run r = {
		.off = top - 10, .len = 10, .skip = top - 10, .seg = UINT32_MAX, .first = UINT32_MAX
	};
	struct run got[4];
	uint64_t freed;

	ck_ok(segment_insert(m, &s));
	ck_ok(run_insert(m, 5, &r, 0));
	r.off++;
	ck_assert_int_eq(run_insert(m, 5, &r, 0), -EFBIG);
	r = (struct run){ .off = 0, .len = UINT64_MAX, .seg = 1 };
	ck_assert_int_eq(run_insert(m, 5, &r, 0), -EFBIG);
	r = (struct run){ .off = UINT64_MAX, .len = 1, .seg = 1 };
	ck_assert_int_eq(run_insert(m, 5, &r, 0), -EFBIG);
	r = (struct run){ .off = 1, .len = top - 1, .skip = 2, .seg = 1 };
	ck_assert_int_eq(run_insert(m, 5, &r, 0), -EFBIG);
	r = (struct run){ .off = 1, .len = 0, .seg = 1 };
	ck_assert_int_eq(run_insert(m, 5, &r, 0), -EINVAL);
	r = (struct run){ .off = 1, .len = 1, .seg = 0 };
	ck_assert_int_eq(run_insert(m, 5, &r, 0), -EINVAL);
	ck_assert_int_eq(run_page(m, 5, 0, UINT64_MAX, got, 4, NULL), 1);
	ck_assert_int_eq(run_page(m, 5, top - 1, top, got, 4, NULL), 1);
	ck_assert_int_eq(run_page(m, 5, UINT64_MAX - 1, UINT64_MAX, got, 4, NULL), 0);
	ck_ok(run_clear(m, 5, UINT64_MAX, 0, 1, &freed));
	ck_ok(run_clear(m, 5, top, UINT64_MAX, 1, &freed));
	ck_assert_uint_eq(freed, 0);
	ck_ok(run_clear(m, 5, top - 8, 3, 1, &freed));
	ck_assert_uint_eq(freed, 3);
	ck_assert_int_eq(run_page(m, 5, 0, UINT64_MAX, got, 4, NULL), 2);
	ck_assert_uint_eq(got[0].len, 2);
	ck_assert_uint_eq(got[1].off, top - 5);
	ck_assert_uint_eq(got[1].skip, top - 5);
	ck_assert_uint_eq(got[1].len, 5);
	ck_assert_uint_eq(got[1].first, UINT32_MAX);
	ck_assert_int_eq(run_clear(m, 5, 1, UINT64_MAX - 1, 1, &freed), -EAGAIN);
	ck_assert_uint_eq(freed, 5);
	ck_ok(run_clear(m, 5, 1, UINT64_MAX - 1, 1, &freed));
	ck_assert_uint_eq(freed, 2);
	ck_assert_int_eq(run_any(m, 5), 0);
	/* One run over everything. */
	r = (struct run){ .off = 0, .len = top, .seg = UINT32_MAX };
	ck_ok(run_insert(m, 5, &r, 0));
	ck_ok(segment_get(m, UINT32_MAX, &s));
	ck_assert_uint_eq(s.live, top);
	ck_ok(run_clear(m, 5, 0, UINT64_MAX, 1, &freed));
	ck_assert_uint_eq(freed, top);
	ck_ok(meta_commit(m));
}
END_TEST

START_TEST(neighbours_grow_only_when_they_may)
{
	struct run r = { .off = 0, .len = 16, .seg = 1, .first = 0 }, got[8];
	struct segment_row s = segment_of(1);

	ck_ok(segment_insert(m, &s));
	s = segment_of(2);
	ck_ok(segment_insert(m, &s));
	ck_ok(run_insert(m, 5, &r, 1)); /* nothing there to continue */
	r.off = 16, r.first = 1;
	ck_ok(run_insert(m, 5, &r, 1)); /* grows */
	r.off = 32, r.first = 2;
	ck_ok(run_insert(m, 5, &r, 0)); /* may not */
	r.off = 48, r.first = 3, r.seg = 2;
	ck_ok(run_insert(m, 5, &r, 1)); /* another segment */
	r.off = 65, r.first = 4;
	ck_ok(run_insert(m, 5, &r, 1)); /* a gap */
	ck_assert_int_eq(run_page(m, 5, 0, 100, got, 8, NULL), 4);
	ck_assert_uint_eq(got[0].len, 32);
	ck_assert_uint_eq(got[1].off, 32);
	ck_assert_uint_eq(got[2].off, 48);
	ck_assert_uint_eq(got[3].off, 65);
}
END_TEST

START_TEST(a_segment_may_come_after_its_runs)
{
	struct run r = { .off = 0, .len = 100, .seg = 3 };
	struct segment_row s = segment_of(3);
	uint32_t dead[4];

	ck_ok(run_insert(m, 5, &r, 0));
	ck_assert_int_eq(segment_get(m, 3, &s), -ENOENT);
	ck_assert_int_eq(meta_commit(m), -EINVAL); /* a row may not name nothing */
	ck_ok(segment_insert(m, &s));
	ck_ok(segment_get(m, 3, &s));
	ck_assert_uint_eq(s.live, 100);
	r.off = 100;
	ck_ok(run_insert(m, 5, &r, 0));
	ck_ok(meta_commit(m));
	ck_ok(segment_get(m, 3, &s));
	ck_assert_uint_eq(s.live, 200);
	ck_assert_int_eq(segment_delete(m, 3), -EBUSY);
	ck_assert_int_eq(segment_take_dead(m, dead, 4), 0);
	reopen();
	ck_ok(segment_get(m, 3, &s));
	ck_assert_uint_eq(s.live, 200);
	s.state = SEGMENT_CLOSED;
	s.live = 5; /* not the caller's */
	ck_ok(run_clear(m, 5, 0, 50, 10, NULL));
	ck_ok(segment_update(m, &s));
	ck_ok(segment_get(m, 3, &s));
	ck_assert_uint_eq(s.live, 150);
	ck_ok(run_clear(m, 5, 0, 200, 10, NULL));
	ck_assert_int_eq(segment_take_dead(m, dead, 4), 1);
	ck_assert_uint_eq(dead[0], 3);
	ck_assert_int_eq(segment_take_dead(m, dead, 4), 0);
	ck_ok(segment_delete(m, 3));
	ck_ok(meta_commit(m));
}
END_TEST

START_TEST(dead_segments_are_told_once)
{
	struct run r = { .off = 0, .len = 1, .seg = 1 };
	uint32_t dead[8];

	for (uint32_t seg = 1; seg <= 5; seg++) {
		struct segment_row s = segment_of(seg);

		ck_ok(segment_insert(m, &s));
		r.seg = seg;
		r.off = seg;
		ck_ok(run_insert(m, 5, &r, 0));
	}
	ck_ok(meta_commit(m));
	ck_ok(run_clear(m, 5, 0, UINT64_MAX, 100, NULL));
	r.seg = 2;
	ck_ok(run_insert(m, 5, &r, 0)); /* rises again before anybody asked */
	ck_assert_int_eq(segment_take_dead(m, dead, 3), 3);
	ck_ok(meta_commit(m));
	ck_assert_int_eq(segment_take_dead(m, dead + 3, 5), 1);
	for (int i = 0; i < 4; i++)
		ck_assert_uint_ne(dead[i], 2);
	ck_assert_int_eq(segment_take_dead(m, dead, 8), 0);
	/* Filled and deleted within one transaction. */
	{
		struct segment_row s = segment_of(9);

		ck_ok(segment_insert(m, &s));
		r.seg = 9;
		r.off = 900;
		ck_ok(run_insert(m, 5, &r, 0));
		ck_ok(run_clear(m, 5, 900, 1, 1, NULL));
		ck_ok(segment_delete(m, 9));
		ck_ok(meta_commit(m));
		ck_assert_int_eq(segment_take_dead(m, dead, 8), 0);
	}
}
END_TEST

START_TEST(rows_of_a_segment)
{
	struct run_ref got[7];
	struct segment_row s = segment_of(1);
	uint32_t first = 0;
	uint64_t ino = 0, off = 0;
	int n, seen = 0;

	ck_ok(segment_insert(m, &s));
	s = segment_of(2);
	ck_ok(segment_insert(m, &s));
	for (uint32_t i = 0; i < 100; i++) {
		struct run r = { .off = i * 10, .len = 10, .seg = 1 + i % 2, .first = i / 10 };

		ck_ok(run_insert(m, 5 + i % 3, &r, 0));
	}
	while ((n = run_page_of_segment(m, 1, first, ino, off, got, 7)) > 0) {
		for (int i = 0; i < n; i++) {
			const struct run *r = &got[i].run;

			ck_assert_uint_eq(r->seg, 1);
			ck_assert(r->first > first ||
				  (r->first == first &&
				   (got[i].ino > ino || (got[i].ino == ino && r->off > off))));
			first = r->first;
			ino = got[i].ino;
			off = r->off;
			seen++;
		}
	}
	ck_ok(n);
	ck_assert_int_eq(seen, 50);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("meta_run");
	TCase *t = tcase_create("runs");

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 100);
	tcase_add_loop_test(t, model_and_rows_agree, 0, 4);
	tcase_add_test(t, sixty_four_bits);
	tcase_add_test(t, neighbours_grow_only_when_they_may);
	tcase_add_test(t, a_segment_may_come_after_its_runs);
	tcase_add_test(t, dead_segments_are_told_once);
	tcase_add_test(t, rows_of_a_segment);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
