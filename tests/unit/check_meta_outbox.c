/* fs/meta/outbox.h: what is remembered, applying it elsewhere, merging, snapshots, and blobs that
 * are malformed. */
#include "tests/unit/meta_fixture.h"

/* ---- What is remembered ---- */

static int count_entry(void *arg, const struct outbox_entry *e)
{
	int *counts = arg;

	counts[e->table * 2 + (e->op == OUTBOX_DELETE)]++;
	return 0;
}

static int count_blob(void *arg, uint64_t seq, const void *blob, size_t n)
{
	return outbox_parse(blob, n, count_entry, arg);
}

/* Entries of blobs after `after`, upserts and deletes of a table. */
static void assert_outbox(uint64_t after, int table, int upserts, int deletes)
{
	int counts[32] = { 0 };

	ck_ok(outbox_each(m, after, count_blob, counts));
	ck_assert_int_eq(counts[table * 2], upserts);
	ck_assert_int_eq(counts[table * 2 + 1], deletes);
}

START_TEST(outbox_keeps_the_last_row_only)
{
	uint64_t ino, before;
	struct node n;

	ck_ok(meta_commit(m));
	before = outbox_last(m);
	ino = make_file(m, 1, "a");
	n = file_node(ino);
	for (int i = 0; i < 10; i++) {
		n.size = (uint64_t)i;
		ck_ok(node_put(m, &n, 0));
	}
	ck_assert_int_eq(meta_dirty(m), 1);
	ck_ok(meta_commit(m));
	ck_assert_int_eq(meta_dirty(m), 0);
	ck_assert_uint_eq(outbox_last(m), before + 1);
	assert_outbox(before, OUTBOX_NODE, 1, 0);
	assert_outbox(before, OUTBOX_NAME, 1, 0);
	ck_ok(meta_commit(m)); /* nothing open: no blob */
	ck_assert_uint_eq(outbox_last(m), before + 1);
}
END_TEST

START_TEST(outbox_forgets_what_came_and_went)
{
	uint64_t ino, before;

	ck_ok(meta_commit(m));
	before = outbox_last(m);
	ino = make_file(m, 1, "temporary");
	ck_ok(dirent_delete(m, 1, "temporary", 9));
	ck_ok(node_delete(m, ino));
	ino = make_file(m, 1, "again");
	ck_ok(dirent_delete(m, 1, "again", 5));
	make_file(m, 1, "again");
	ck_ok(meta_commit(m));
	assert_outbox(before, OUTBOX_NAME, 1, 0);
	assert_outbox(before, OUTBOX_NODE, 2, 0);
	/* But not of what was there before the transaction. */
	before = outbox_last(m);
	ck_ok(dirent_delete(m, 1, "again", 5));
	make_file(m, 1, "again");
	ck_ok(dirent_delete(m, 1, "again", 5));
	ck_ok(meta_commit(m));
	assert_outbox(before, OUTBOX_NAME, 0, 1);
}
END_TEST

START_TEST(atime_and_local_facts_are_not_published)
{
	struct coding_row c = { .set = { 3 }, .seg = 5, .k = 4, .m = 2, .state = CODING_STORED };
	struct node n;
	uint64_t before;

	ck_ok(coding_insert(m, &c));
	ck_ok(meta_commit(m));
	before = outbox_last(m);
	ck_ok(node_get(m, 1, &n));
	n.atime = 1;
	ck_ok(node_put(m, &n, 1));
	ck_ok(coding_set_present(m, c.set, 1, 0));
	ck_ok(meta_local_put(m, "x", "y", 1));
	ck_ok(meta_commit(m));
	ck_assert_uint_eq(outbox_last(m), before);
	reopen();
	ck_ok(node_get(m, 1, &n));
	ck_assert_int_eq(n.atime, 1);
	ck_assert_uint_eq(outbox_last(m), before); /* an idle mount publishes nothing */
	/* Both kinds of change in one transaction: published. */
	n.mode = S_IFDIR | 0700;
	ck_ok(node_put(m, &n, 0));
	n.atime = 2;
	ck_ok(node_put(m, &n, 1));
	ck_ok(meta_commit(m));
	assert_outbox(before, OUTBOX_NODE, 1, 0);
}
END_TEST

START_TEST(trim_forgets_and_never_reuses)
{
	static uint8_t big[3 << 20];
	uint64_t last;
	int rounds = 0, rc;

	for (uint32_t i = 1; i <= 5; i++) {
		ck_ok(segment_index_put(m, i, big, sizeof(big)));
		ck_ok(meta_commit(m));
	}
	last = outbox_last(m);
	ck_assert_uint_ge(outbox_bytes(m), 5 * sizeof(big));
	make_file(m, 1, "not published");
	while ((rc = outbox_trim(m, UINT64_MAX)) == -EAGAIN)
		rounds++;
	ck_ok(rc);
	ck_assert_int_ge(rounds, 2);
	ck_assert_uint_eq(outbox_count(m), 0);
	ck_assert_uint_eq(outbox_bytes(m), 0);
	ck_ok(meta_commit(m));
	ck_assert_uint_eq(outbox_count(m), 1);
	ck_assert_uint_eq(outbox_last(m), last + 1);
	ck_ok(outbox_trim(m, last + 1));
	ck_ok(meta_commit(m));
	reopen();
	ck_assert_uint_eq(outbox_count(m), 0);
	ck_assert_uint_eq(outbox_last(m), last + 1);
	make_file(m, 1, "another");
	ck_ok(meta_commit(m));
	ck_assert_uint_eq(outbox_last(m), last + 2);
}
END_TEST

/* ---- Replicas ---- */

static int merge_blob(void *arg, uint64_t seq, const void *blob, size_t n)
{
	return outbox_merge_add(arg, blob, n);
}

/* Random changes of every table, with commits. */
static void churn(unsigned seed, int steps)
{
	srandom(seed);
	for (int i = 0; i < steps; i++) {
		char name[16];
		struct dirent_row d;
		struct run r = { .off = (uint64_t)(random() % 64) * 100,
				 .len = 1 + (uint64_t)(random() % 500),
				 .seg = 1 + (uint32_t)(random() % 5),
				 .first = (uint32_t)i };
		struct segment_row s = segment_of(r.seg);
		struct coding_row c = { .set = { (uint8_t)(random() % 8) },
					.seg = r.seg,
					.k = 4,
					.m = 2,
					.state = CODING_UPLOADING };
		int n = snprintf(name, sizeof(name), "n%ld", random() % 40);
		int have = !dirent_get(m, 1, name, (size_t)n, &d);

		switch (random() % 12) {
		case 0:
		case 1:
		case 2:
			if (!have)
				make_file(m, 1, name);
			break;
		case 3:
			if (!have)
				break;
			ck_ok(dirent_delete(m, 1, name, (size_t)n));
			ck_ok(run_clear(m, d.ino, 0, UINT64_MAX, 1000000, NULL));
			ck_ok(node_delete(m, d.ino));
			break;
		case 4: /* rename; the cookie goes along */
			if (!have)
				break;
			ck_ok(dirent_delete(m, 1, name, (size_t)n));
			d.name[0] = 'm';
			if (dirent_insert(m, &d) == -EEXIST)
				ck_ok(dirent_retarget(m, 1, d.name, (size_t)n, d.ino, d.type));
			break;
		case 5:
			ck_ok(xattr_put(m, 1 + (uint64_t)(random() % 5), name, name, (size_t)n));
			break;
		case 6:
			xattr_delete(m, 1 + (uint64_t)(random() % 5), name);
			break;
		case 7:
			ck_ok(link_put(m, 1 + (uint64_t)(random() % 9), name, (size_t)n));
			break;
		case 8:
			if (coding_insert(m, &c) == -EEXIST && random() % 2)
				ck_ok(coding_delete(m, c.set));
			else
				ck_ok(coding_set_state(m, c.set, CODING_STORED));
			break;
		case 9:
			ck_ok(segment_index_put(m, r.seg, name, (size_t)n));
			ck_ok(meta_drive_put(m, name, name, (size_t)n));
			break;
		default:
			if (!have)
				break;
			segment_insert(m, &s);
			ck_ok(run_clear(m, d.ino, r.off, r.len, 1000000, NULL));
			ck_ok(run_insert(m, d.ino, &r, 0));
		}
		if (random() % 16 == 0)
			ck_ok(meta_commit(m));
	}
	ck_ok(meta_commit(m));
}

static struct meta *open_copy(const char *name)
{
	char path[128];
	struct meta *copy;

	snprintf(path, sizeof(path), "%s/%s.db", scratch, name);
	open_ok(path, 1, &copy);
	meta_lock(copy);
	ck_ok(outbox_trim(copy, UINT64_MAX));
	ck_ok(meta_commit(copy));
	return copy;
}

static void assert_copy(struct meta *copy)
{
	struct buf a = { 0 }, b = { 0 };
	struct meta_totals ta, tb;

	ck_ok(meta_commit(copy));
	dump(m, &a);
	dump(copy, &b);
	ck_assert_uint_gt(a.len, 1000);
	assert_same(&a, &b);
	meta_totals(m, &ta);
	meta_totals(copy, &tb);
	ck_assert_uint_eq(ta.bytes, tb.bytes);
	ck_assert_uint_eq(ta.inodes, tb.inodes);
	ck_assert_uint_eq(outbox_count(copy), 0);
	ck_assert_uint_gt(meta_next_ino(copy), m->alloc[ALLOC_INO].next);
	ck_assert_uint_gt(meta_next_cookie(copy), m->alloc[ALLOC_COOKIE].next);
	meta_unlock(copy);
	ck_ok(meta_close(copy));
	buf_release(&a);
	buf_release(&b);
}

START_TEST(blobs_rebuild_the_database)
{
	struct meta *copy;

	churn((unsigned)_i, 3000);
	copy = open_copy("blobs");
	ck_ok(outbox_each(m, 0, apply_blob, copy));
	assert_copy(copy);
	/* All in one: the last entry of a key wins, whatever the order among keys. */
	{
		struct outbox_merge *om = outbox_merge_create();
		struct buf all = { 0 };

		ck_assert_ptr_nonnull(om);
		ck_ok(outbox_each(m, 0, merge_blob, om));
		ck_ok(outbox_merge_finish(om, &all));
		outbox_merge_destroy(om);
		ck_assert_uint_lt(all.len, outbox_bytes(m));
		copy = open_copy("merged");
		ck_ok(outbox_apply(copy, all.p, all.len));
		ck_ok(meta_commit(copy));
		ck_ok(outbox_apply(copy, all.p, all.len)); /* twice does no harm */
		assert_copy(copy);
		buf_release(&all);
	}
}
END_TEST

START_TEST(snapshots_rebuild_the_database)
{
	struct outbox_snapshot *s;
	struct buf part = { 0 };
	struct meta *copy = open_copy("snapshot");
	uint64_t seq;
	int rc, parts = 0;

	churn(99, 1000);
	ck_ok(outbox_snapshot_open(m, &s, &seq));
	ck_assert_uint_eq(seq, outbox_last(m));
	churn(100, 1000); /* is not in it */
	while ((rc = outbox_snapshot_next(s, 500, &part)) > 0) {
		ck_ok(outbox_apply(copy, part.p, part.len));
		parts++;
	}
	ck_ok(rc);
	ck_assert_int_gt(parts, 10);
	ck_assert_int_eq(outbox_snapshot_next(s, 500, &part), 0);
	outbox_snapshot_close(s);
	ck_ok(outbox_each(m, seq, apply_blob, copy));
	assert_copy(copy);
	buf_release(&part);
}
END_TEST

START_TEST(malformed_blobs_change_nothing)
{
	struct buf good = { 0 }, twice = { 0 }, before = { 0 }, after = { 0 };
	struct outbox_merge *om = outbox_merge_create();
	struct meta_totals t, u;
	int refused = 0;

	churn(5, 300);
	ck_ok(outbox_each(m, 0, merge_blob, om));
	ck_ok(outbox_merge_finish(om, &good));
	outbox_merge_destroy(om);
	dump(m, &before);
	meta_totals(m, &t);
	for (size_t n = 0; n < good.len; n += 7) { /* cut anywhere */
		uint8_t *cut = malloc(n);

		memcpy(cut, good.p, n);
		if (outbox_apply(m, cut, n) == -EBADMSG)
			refused++;
		free(cut);
	}
	ck_assert_int_gt(refused, (int)(good.len / 7) * 9 / 10);
	for (int i = 0; i < 3000; i++) { /* any byte wrong: refused or a row, no crash */
		size_t at = (size_t)random() % good.len;
		uint8_t was = good.p[at];

		good.p[at] = (uint8_t)random();
		if (outbox_apply(m, good.p, good.len) == -EBADMSG)
			refused++;
		good.p[at] = was;
	}
	ck_assert_int_eq(meta_failed(m), 0);
	ck_ok(outbox_apply(m, good.p, good.len));
	/* A key twice is half applied when it is found: taken back. */
	ck_ok(meta_commit(m));
	dump(m, &before);
	meta_totals(m, &t);
	buf_put(&twice, good.p, good.len);
	buf_put(&twice, good.p + 1, good.len - 1);
	make_file(m, 1, "open transaction");
	ck_assert_int_eq(outbox_apply(m, twice.p, twice.len), -EBADMSG);
	ck_ok(dirent_delete(m, 1, "open transaction", 16));
	ck_ok(node_delete(m, m->alloc[ALLOC_INO].next - 1));
	ck_ok(meta_commit(m));
	dump(m, &after);
	meta_totals(m, &u);
	ck_assert_uint_eq(t.bytes, u.bytes);
	ck_assert_uint_eq(t.inodes, u.inodes);
	ck_assert_uint_eq(before.len, after.len);
	buf_release(&good);
	buf_release(&twice);
	buf_release(&before);
	buf_release(&after);
}
END_TEST

START_TEST(half_a_blob_is_taken_back)
{
	struct node n = file_node(12345);
	struct meta_totals t, u;
	struct buf twice = { 0 };
	uint64_t ino = make_file(m, 1, "before");

	meta_totals(m, &t);
	ck_ok(node_put(m, &n, 0));
	ck_assert_int_eq(changes_blob(&m->changes, &twice), 3); /* with the file before */
	ck_ok(node_delete(m, 12345));
	buf_reset(&m->blob);
	buf_put(&m->blob, twice.p + 1, twice.len - 1);
	buf_put(&twice, m->blob.p, m->blob.len);
	ck_assert_int_eq(outbox_apply(m, twice.p, twice.len), -EBADMSG);
	ck_assert_int_eq(node_get(m, 12345, &n), -ENOENT);
	ck_ok(node_get(m, ino, &n)); /* what stood in the open transaction still does */
	meta_totals(m, &u);
	ck_assert_uint_eq(t.inodes, u.inodes);
	buf_release(&twice);
}
END_TEST

/* The bytes of a blob, so that FORMAT.md cannot drift from the code. */
START_TEST(blob_vector)
{
	static const char want[] = "01"
				   "0301000a00000014" /* name, upsert, key 10, row 20 */
				   "0000000000000001"
				   "6869"
				   "0000000000000005"
				   "0000000000000064"
				   "00008000"
				   "0102000800000000" /* node, delete, key 8 */
				   "0000000000000011"
				   "0501001000000018" /* run, upsert, key 16, row 24 */
				   "0000000000000007"
				   "0000000000001000"
				   "0000000000000200"
				   "0000000000000003"
				   "00000009"
				   "0000000b"
				   "0601000400000042" /* segment, upsert, key 4, row 66 */
				   "00000009"
				   "09090909090909090909090909090909"
				   "00000001"
				   "04"
				   "01"
				   "00000000"
				   "0000000000000000"
				   "0000000000000200"
				   "0000000000000000"
				   "0000000000000000"
				   "0000000000000000";
	struct dirent_row d = entry_of(1, "hi", 5, 100);
	struct run r = { .off = 4096, .len = 512, .skip = 3, .seg = 9, .first = 11 };
	struct segment_row s = segment_of(9);
	struct node n = file_node(17);
	char hex[1024];

	m->alloc[ALLOC_INO].drive_high = m->alloc[ALLOC_COOKIE].drive_high = 1 << 20;
	ck_ok(node_put(m, &n, 0));
	ck_ok(segment_insert(m, &s));
	ck_ok(segment_delete(m, 9));
	ck_ok(meta_commit(m));
	ck_ok(dirent_insert(m, &d));
	ck_ok(node_delete(m, 17));
	ck_ok(run_insert(m, 7, &r, 0));
	ck_ok(segment_insert(m, &s));
	ck_ok(meta_commit(m));
	ck_assert_uint_eq(m->blob.len * 2, strlen(want));
	hex_put(hex, m->blob.p, m->blob.len);
	ck_assert_str_eq(hex, want);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("meta_outbox");
	TCase *out = tcase_create("outbox");

	tcase_add_checked_fixture(out, set_up, tear_down);
	tcase_set_timeout(out, 60);
	tcase_add_test(out, outbox_keeps_the_last_row_only);
	tcase_add_test(out, outbox_forgets_what_came_and_went);
	tcase_add_test(out, atime_and_local_facts_are_not_published);
	tcase_add_test(out, trim_forgets_and_never_reuses);
	tcase_add_loop_test(out, blobs_rebuild_the_database, 0, 6);
	tcase_add_test(out, snapshots_rebuild_the_database);
	tcase_add_test(out, malformed_blobs_change_nothing);
	tcase_add_test(out, half_a_blob_is_taken_back);
	tcase_add_test(out, blob_vector);
	suite_add_tcase(s, out);
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
