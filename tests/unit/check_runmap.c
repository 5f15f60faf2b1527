/* The interval map against an array that says for every byte where it comes from. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "fs/data/runmap.h"

#define BYTES 2000

static uint32_t seed = 1;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

struct uses {
	int users[4096]; /* by seg */
	int64_t bytes;
};

static void on_ref(void *arg, const struct piece *p)
{
	((struct uses *)arg)->users[p->seg]++;
}

static void on_unref(void *arg, const struct piece *p)
{
	if (((struct uses *)arg)->users[p->seg]-- <= 0)
		ck_abort_msg("given back twice");
}

static void on_gone(void *arg, const struct piece *p, uint64_t bytes)
{
	if (bytes > p->end - p->off)
		ck_abort_msg("more gone than there was");
	((struct uses *)arg)->bytes -= (int64_t)bytes;
}

static const struct runmap_ops ops = { on_ref, on_unref, on_gone };

struct byte {
	uint32_t seg;
	uint64_t pos;
};

static void compare(const struct runmap *m, const struct byte *model, struct uses *u)
{
	uint64_t at = 0;
	size_t n = 0;
	int64_t bytes = 0;
	int seen[4096] = { 0 };

	for (struct piece *p = runmap_find(m, 0); p; p = runmap_next(m, p)) {
		/* an assertion costs a system call: one for all */
		int bad = p->off < at || p->end <= p->off;

		for (; at < p->off; at++)
			bad |= model[at].seg != 0;
		for (; at < p->end; at++)
			bad |= model[at].seg != p->seg || model[at].pos != p->pos + (at - p->off);
		ck_assert_int_eq(bad, 0);
		bytes += (int64_t)(p->end - p->off);
		seen[p->seg]++;
		n++;
	}
	for (; at < BYTES; at++)
		if (model[at].seg)
			ck_abort_msg("byte %d is missing", (int)at);
	ck_assert_uint_eq(n, m->count);
	ck_assert_int_eq(bytes, u->bytes);
	ck_assert_int_eq(memcmp(seen, u->users, sizeof(seen)), 0);
}

START_TEST(against_bytes)
{
	struct uses u = { 0 };
	struct byte model[BYTES] = { 0 };
	struct runmap m;

	seed = (uint32_t)_i + 1;
	runmap_init(&m, &ops, &u);
	for (uint32_t step = 1; step < 3000; step++) {
		uint64_t off = rnd(BYTES), end = off + 1 + rnd(_i % 2 ? 20 : 600);
		struct runmap_spare s;

		end = end > BYTES ? BYTES : end;
		if (runmap_spare_get(&s, 2))
			ck_abort_msg("no memory");
		if (rnd(3)) {
			struct piece p = { .off = off,
					   .end = end,
					   .pos = rnd(1000),
					   .seg = step,
					   .kind = PIECE_SEALED };

			u.users[step]++;
			runmap_set(&m, &p, &s);
			u.bytes += (int64_t)(end - off);
			for (uint64_t b = off; b < end; b++)
				model[b] = (struct byte){ step, p.pos + (b - off) };
		} else {
			runmap_clear(&m, off, end, &s);
			memset(&model[off], 0, (end - off) * sizeof(*model));
		}
		runmap_spare_release(&s);
		if (step % 16 == 0 || step < 100)
			compare(&m, model, &u);
	}
	compare(&m, model, &u);
	runmap_release(&m);
	ck_assert_int_eq(u.bytes, 0);
	ck_assert_uint_eq(m.count, 0);
}
END_TEST

static int odd(void *arg, const struct piece *p)
{
	(void)arg;
	return p->seg % 2;
}

START_TEST(join_and_drop)
{
	struct uses u = { 0 };
	struct runmap m;
	struct runmap_spare s;
	struct piece *p;

	runmap_init(&m, &ops, &u);
	for (uint32_t k = 1; k <= 100; k++) {
		struct piece put = { .off = k * 10,
				     .end = k * 10 + 10,
				     .seg = k,
				     .next = k + 1,
				     .kind = PIECE_SEALED };

		ck_assert_int_eq(runmap_spare_get(&s, 2), 0);
		u.users[k]++, u.bytes += 10;
		runmap_set(&m, &put, &s);
		runmap_spare_release(&s);
	}
	p = runmap_before(&m, 20);
	ck_assert_uint_eq(p->seg, 1);
	runmap_join(&m, p, runmap_next(&m, p));
	ck_assert_uint_eq(p->end, 30);
	ck_assert_uint_eq(p->next, 3);
	ck_assert_int_eq(u.users[2], 0);
	ck_assert_uint_eq(m.count, 99);
	runmap_drop_if(&m, odd, NULL);
	ck_assert_uint_eq(m.count, 49);
	p = runmap_find(&m, 0);
	ck_assert_uint_eq(p->seg, 4);
	ck_assert_ptr_null(runmap_before(&m, 40));
	/* to the end of the world, and a piece on top of it */
	ck_assert_int_eq(runmap_spare_get(&s, 2), 0);
	u.users[9]++;
	runmap_clear(&m, 0, RUNMAP_INF, &s);
	ck_assert_uint_eq(m.count, 0);
	ck_assert_int_eq(u.bytes, 0);
	runmap_set(&m, &(struct piece){ .off = 5, .end = RUNMAP_INF, .seg = 9 }, &s);
	ck_assert_ptr_null(runmap_next(&m, runmap_find(&m, 1000)));
	runmap_spare_release(&s);
	runmap_release(&m);
}
END_TEST

START_TEST(cut_pieces_lose_next)
{
	struct runmap m;
	struct runmap_spare s;

	runmap_init(&m, NULL, NULL);
	ck_assert_int_eq(runmap_spare_get(&s, 2), 0);
	runmap_set(&m, &(struct piece){ .off = 0, .end = 30, .seg = 1, .next = 3, .mark = 7 }, &s);
	runmap_clear(&m, 10, 20, &s);
	ck_assert_uint_eq(runmap_find(&m, 0)->next, 0);
	ck_assert_uint_eq(runmap_find(&m, 10)->next, 3);
	ck_assert_uint_eq(runmap_find(&m, 10)->pos, 20);
	ck_assert_uint_eq(runmap_find(&m, 10)->mark, 7);
	runmap_spare_release(&s);
	runmap_release(&m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("runmap");
	TCase *t = tcase_create("runmap");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, against_bytes, 0, 8);
	tcase_add_test(t, join_and_drop);
	tcase_add_test(t, cut_pieces_lose_next);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
