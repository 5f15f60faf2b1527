/* The content of files: a model of bytes in memory against the volume, over remounts. */
#include <linux/falloc.h>

#include "tests/unit/volume_fixture.h"

#define FILES 4
#define SIZE  (200u << 10)

struct model {
	uint64_t ino;
	uint64_t size;
	uint8_t *bytes;
};

static struct model files[FILES];
static uint64_t seed;

static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed % n;
}

static void fill_random(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(1 + rnd(255)); /* never zero: a wrong hole shows */
}

static void model_size(struct model *f, uint64_t size)
{
	if (size < f->size)
		memset(f->bytes + size, 0, f->size - size);
	f->size = size;
}

static void check_range(struct model *f, uint64_t off, size_t len)
{
	AUTO_FREE uint8_t *buf = malloc(len + 1);
	size_t got, want = off >= f->size ? 0 : MIN(len, f->size - off);

	memset(buf, 0xee, len + 1);
	ck_ok(do_read(f->ino, off, buf, len, &got));
	ck_assert_uint_eq(got, want);
	for (size_t i = 0; i < want; i++)
		if (buf[i] != f->bytes[off + i])
			ck_abort_msg("ino %llu: byte %llu is %02x, not %02x",
				     (unsigned long long)f->ino, (unsigned long long)(off + i),
				     buf[i], f->bytes[off + i]);
	ck_assert_uint_eq(buf[len], 0xee);
}

static void check_blocks(struct model *f)
{
	struct stat s = do_stat(f->ino);

	ck_assert_int_eq(s.st_size, (int64_t)f->size);
	ck_assert_uint_le((uint64_t)s.st_blocks * 512, f->size + 4096);
}

static void op_write(struct model *f)
{
	static const size_t lens[] = { 1, 100, 511, 4096, 5000, 8192, 30000, 65536 };
	size_t len = rnd(2) ? lens[rnd(ARRAY_LEN(lens))] : 1 + rnd(3 * EXTENT);
	uint64_t off = rnd(4) ? rnd(SIZE - len) : MIN(f->size, SIZE - len);
	uint8_t *buf = malloc(len);

	if (rnd(2))
		off -= off % EXTENT;
	fill_random(buf, len);
	ck_ok(do_write(f->ino, off, buf, len));
	memcpy(f->bytes + off, buf, len);
	f->size = MAX(f->size, off + len);
	free(buf);
}

static void op_append(struct model *f)
{
	for (int k = 0; k < 40 && f->size + 700 < SIZE; k++) {
		size_t len = 1 + rnd(700);
		uint8_t buf[700];

		fill_random(buf, len);
		ck_ok(do_write(f->ino, f->size, buf, len));
		memcpy(f->bytes + f->size, buf, len);
		f->size += len;
	}
}

static void op_truncate(struct model *f)
{
	uint64_t size = rnd(4) ? rnd(SIZE) : 0;

	ck_ok(do_truncate(f->ino, size));
	model_size(f, size);
}

static void op_fallocate(struct model *f)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	int mode = modes[rnd(ARRAY_LEN(modes))];
	uint64_t off = rnd(SIZE - 1), len = 1 + rnd(MIN(SIZE - off, 40000));

	ck_ok(volume_fallocate(v, f->ino, mode, off, len, &root_cred));
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && off < f->size)
		memset(f->bytes + off, 0, MIN(off + len, f->size) - off);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		f->size = MAX(f->size, off + len);
}

static void op_clone(struct model *f)
{
	struct model *g = &files[rnd(FILES)];
	uint64_t in = rnd(SIZE), out = rnd(SIZE), len = 1 + rnd(60000), at = 0, want;

	len = MIN(len, SIZE - out);
	if (f == g && in < out + len && out < in + len) {
		uint64_t n;

		ck_err(volume_copy_range(v, f->ino, in, g->ino, out, len, &n, &root_cred), EINVAL);
		return;
	}
	want = in >= f->size ? 0 : MIN(len, f->size - in);
	while (at < want) {
		uint64_t n = 0;

		ck_ok(volume_copy_range(v, f->ino, in + at, g->ino, out + at, want - at, &n,
					&root_cred));
		ck_assert_uint_gt(n, 0);
		at += n;
	}
	memmove(g->bytes + out, f->bytes + in, want);
	if (want)
		g->size = MAX(g->size, out + want);
}

/* Data never hides behind a hole; and a hole reads as zeros. */
static void op_seek(struct model *f)
{
	uint64_t at = 0, data, hole;

	while (at < f->size) {
		int rc = volume_lseek(v, f->ino, at, SEEK_DATA, &data);

		if (rc == -ENXIO)
			data = f->size;
		else
			ck_ok(rc);
		ck_assert_uint_ge(data, at);
		ck_assert_uint_le(data, f->size);
		for (uint64_t b = at; b < data; b++)
			if (f->bytes[b]) /* an assertion costs a system call */
				ck_abort_msg("data behind a hole");
		if (data == f->size)
			break;
		ck_ok(volume_lseek(v, f->ino, data, SEEK_HOLE, &hole));
		ck_assert_uint_gt(hole, data);
		ck_assert_uint_le(hole, f->size);
		at = hole;
	}
	ck_err(volume_lseek(v, f->ino, f->size, SEEK_DATA, &data), ENXIO);
	ck_err(volume_lseek(v, f->ino, f->size, SEEK_HOLE, &data), ENXIO);
}

static void op_replace(struct model *f)
{
	char name[16];

	snprintf(name, sizeof(name), "f%d", (int)(f - files));
	volume_forget(v, f->ino, 1);
	ck_ok(volume_unlink(v, 1, name));
	f->ino = do_create(1, name);
	model_size(f, 0);
}

static void check_all(void)
{
	for (int k = 0; k < FILES; k++) {
		check_range(&files[k], 0, SIZE);
		check_blocks(&files[k]);
	}
}

static void look_up_all(void)
{
	for (int k = 0; k < FILES; k++) {
		char name[16];
		uint64_t ino;

		snprintf(name, sizeof(name), "f%d", k);
		ck_ok(do_lookup(1, name, &ino));
		ck_assert_uint_eq(ino, files[k].ino);
	}
}

static void run_model(int steps, int remounts)
{
	for (int step = 0; step < steps; step++) {
		struct model *f = &files[rnd(FILES)];

		switch (rnd(16)) {
		case 0:
			op_truncate(f);
			break;
		case 1:
		case 2:
			op_fallocate(f);
			break;
		case 3:
		case 4:
			op_clone(f);
			break;
		case 5:
			op_seek(f);
			break;
		case 6:
			ck_ok(do_fsync(f->ino));
			break;
		case 7:
			if (rnd(8) == 0)
				op_replace(f);
			else
				op_append(f);
			break;
		case 8:
		case 9:
		case 10:
		case 11:
			check_range(f, rnd(SIZE), 1 + rnd(20000));
			break;
		default:
			op_write(f);
		}
		if (remounts && rnd(100) == 0) {
			remount();
			look_up_all();
			check_all();
		}
		if (step % 100 == 0)
			check_all();
	}
}

static void files_up(int seed_number)
{
	seed = 88172645463325252ull * (uint64_t)(seed_number * 2 + 1);
	for (int k = 0; k < FILES; k++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", k);
		files[k] = (struct model){ .ino = do_create(1, name), .bytes = calloc(1, SIZE) };
	}
}

static void files_down(void)
{
	for (int k = 0; k < FILES; k++)
		free(files[k].bytes);
}

static uint64_t row_bytes(void)
{
	struct volume_state s;

	volume_state(v, &s);
	return s.totals.bytes;
}

START_TEST(model)
{
	scratch_make();
	fopts.path = store_path;
	vopts.commit_interval = _i % 3 == 0 ? NS_PER_MS : _i % 3 == 1 ? 20 * NS_PER_MS : 0;
	vopts.dirty_max = _i % 2 ? 64 << 10 : 0;
	vopts.inode_cache = 1;
	if (_i >= 3) /* a slow disk: changes fall between the steps of commits */
		failpoint_load("commit.sync=sleep:2*0,commit.hold=sleep:2*0,commit.wal=sleep:2*0");
	meta_up(1);
	volume_up();
	files_up(_i);
	run_model(1200, 1);
	check_all();
	for (int k = 0; k < FILES; k++)
		ck_ok(do_truncate(files[k].ino, 0));
	ck_ok(do_fsync(0));
	eventually(row_bytes() ==
		   0); /* a file that was removed goes with one of the next commits */
	files_down();
	down();
}
END_TEST

/* The same with content that has to be fetched. */
START_TEST(model_remote)
{
	vopts.commit_interval = 2 * NS_PER_MS;
	up();
	files_up(100 + _i);
	run_model(200, 0);
	fake_remote(st, 1, 100000, 0);
	run_model(600, 0);
	check_all();
	files_down();
	down();
}
END_TEST

START_TEST(packs_extents)
{
	struct fake_stats s;
	struct stat sb;
	AUTO_FREE uint8_t *buf = calloc(1, 1 << 20);
	uint64_t a, b;

	vopts.extent_max = 128 << 10;
	fopts.segment_size = 64 << 20;
	vopts.commit_interval = 60 * NS_PER_S;
	up();
	a = do_create(1, "a");
	/* 8 full extents in one append, straight from the buffer */
	ck_ok(do_write(a, 0, buf, 1 << 20));
	fake_stats(st, &s);
	ck_assert_uint_eq(s.appends, 1);
	ck_assert_uint_eq(s.extents, 8);
	/* unaligned sequential writing seals full blocks all the same */
	b = do_create(1, "b");
	for (int k = 0; k < 100; k++)
		ck_ok(do_write(b, (uint64_t)k * 10000, buf, 10000));
	fake_stats(st, &s);
	ck_assert_uint_eq(s.extents, 8 + 7);
	ck_ok(do_fsync(b));
	fake_stats(st, &s);
	ck_assert_uint_eq(s.extents, 8 + 8);
	sb = do_stat(b);
	ck_assert_int_eq(sb.st_size, 1000000);
	ck_assert_int_eq(sb.st_blocks, (1000000 + 511) / 512);
	/* small writes inside a block meet in one extent */
	for (int k = 9; k >= 0; k--)
		ck_ok(do_write(a, 2000000 + (uint64_t)k * 1000, buf, 1000));
	ck_ok(do_fsync(a));
	fake_stats(st, &s);
	ck_assert_uint_eq(s.extents, 8 + 8 + 1);
	down();
}
END_TEST

START_TEST(rows_merge)
{
	struct run runs[16];
	AUTO_FREE uint8_t *buf = calloc(1, 256 << 10);
	uint64_t a;
	int n;

	vopts.extent_max = 64 << 10;
	fopts.segment_size = 64 << 20;
	up();
	a = do_create(1, "a");
	for (int k = 0; k < 16; k++) {
		ck_ok(do_write(a, (uint64_t)k * (256 << 10), buf, 256 << 10));
		if (k % 4 == 3)
			ck_ok(do_fsync(a));
	}
	meta_lock(m);
	n = run_page(m, a, 0, UINT64_MAX, runs, 16, NULL);
	meta_unlock(m);
	ck_assert_int_eq(n, 2); /* the common segment, then a lane; both across commits */
	ck_assert_uint_eq(runs[0].len + runs[1].len, 4 << 20);
	down();
}
END_TEST

START_TEST(sparse)
{
	uint64_t a, out, huge = 5ull << 30;
	struct stat s;
	size_t got;
	uint8_t c[8];

	up();
	a = do_create(1, "sparse");
	ck_ok(do_write(a, huge - 8, "12345678", 8));
	s = do_stat(a);
	ck_assert_int_eq(s.st_size, (int64_t)huge);
	ck_assert_int_eq(s.st_blocks, 1);
	ck_ok(volume_lseek(v, a, 0, SEEK_DATA, &out));
	ck_assert_uint_eq(out, huge - 8);
	ck_ok(do_truncate(a, 999ull << 40));
	ck_ok(do_fsync(a));
	ck_ok(volume_lseek(v, a, huge, SEEK_HOLE, &out));
	ck_assert_uint_eq(out, huge);
	ck_ok(do_read(a, (999ull << 40) - 4, c, 8, &got));
	ck_assert_uint_eq(got, 4);
	ck_err(do_truncate(a, INT64_MAX), EFBIG);
	ck_err(do_write(a, INT64_MAX - 10, "x", 1), EFBIG);
	ck_ok(do_truncate(a, huge - 4));
	ck_ok(do_truncate(a, huge));
	ck_ok(do_read(a, huge - 8, c, 8, &got));
	ck_assert_int_eq(memcmp(c, "1234\0\0\0\0", 8), 0);
	ck_ok(do_fsync(a));
	ck_ok(do_read(a, huge - 8, c, 8, &got));
	ck_assert_int_eq(memcmp(c, "1234\0\0\0\0", 8), 0);
	s = do_stat(a);
	ck_assert_int_eq(s.st_blocks, 1);
	ck_err(volume_fallocate(v, a, FALLOC_FL_COLLAPSE_RANGE, 0, 4096, NULL), EOPNOTSUPP);
	ck_err(volume_fallocate(v, a, FALLOC_FL_PUNCH_HOLE, 0, 4096, NULL), EOPNOTSUPP);
	ck_err(volume_fallocate(v, a, 0, 0, 0, NULL), EINVAL);
	down();
}
END_TEST

/* Changes while a commit is between its snapshot and its rows: neither lost nor overtaken. */
START_TEST(changes_in_flight)
{
	uint8_t buf[5000], back[5000];
	uint64_t a, b, c;
	struct wait w;
	size_t got;
	int rc;

	vopts.commit_interval = 60 * NS_PER_S;
	failpoint_load("commit.hold=sleep:300");
	up();
	a = do_create(1, "a"), b = do_create(1, "b"), c = do_create(1, "c");
	memset(buf, 7, sizeof(buf));
	ck_ok(do_write(a, 0, buf, sizeof(buf)));
	ck_ok(do_write(b, 0, buf, sizeof(buf)));
	ck_ok(do_write(c, 0, buf, sizeof(buf)));
	wait_init(&w);
	rc = volume_fsync(v, a, 0, wait_done, &w);
	eventually(failpoint_count("commit.hold") == 1);
	ck_ok(do_truncate(a, 10));
	ck_ok(do_truncate(a, 5000));
	ck_ok(volume_fallocate(v, b, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 1000, NULL));
	memset(buf, 8, sizeof(buf));
	ck_ok(do_write(c, 4000, buf, 100));
	ck_ok(wait_for(&w, rc));
	for (int round = 0; round < 3; round++) {
		ck_ok(do_read(a, 0, back, sizeof(back), &got));
		ck_assert(got == 5000 && back[9] == 7 && back[10] == 0 && back[4999] == 0);
		ck_ok(do_read(b, 0, back, sizeof(back), &got));
		ck_assert(got == 5000 && back[999] == 7 && back[1000] == 0 && back[2000] == 7);
		ck_ok(do_read(c, 0, back, sizeof(back), &got));
		ck_assert(got == 5000 && back[3999] == 7 && back[4000] == 8 && back[4100] == 7);
		if (round == 0)
			ck_ok(do_fsync(0));
		else
			volume_forget(v, a, 0);
	}
	ck_assert_int_eq(do_stat(a).st_blocks, 1);
	down();
}
END_TEST

/* --- faults --- */

START_TEST(append_fails)
{
	uint8_t buf[3 * EXTENT], back[3 * EXTENT];
	uint64_t a;
	size_t got;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	a = do_create(1, "a");
	memset(buf, 1, sizeof(buf));
	ck_ok(do_write(a, 100, buf, 2 * EXTENT));
	fake_fail_append(st, -ENOSPC, -1);
	memset(buf, 2, sizeof(buf));
	ck_err(do_write(a, 0, buf, sizeof(buf)), ENOSPC);
	ck_assert_int_eq(do_stat(a).st_size, 100 + 2 * EXTENT);
	ck_ok(do_read(a, 0, back, sizeof(back), &got));
	ck_assert_uint_eq(got, 100 + 2 * EXTENT);
	ck_assert_uint_eq(back[99], 0);
	ck_assert_uint_eq(back[100], 1);
	/* a small write is taken; its fsync says that there is no room, and later that there is */
	ck_ok(do_write(a, 0, buf, 10));
	ck_err(do_fsync(a), ENOSPC);
	ck_err(do_fsync(0), ENOSPC);
	fake_fail_append(st, 0, 0);
	ck_ok(do_fsync(a));
	ck_assert_int_eq(volume_failed(v), 0);
	ck_ok(do_read(a, 0, back, sizeof(back), &got));
	ck_assert_uint_eq(back[9], 2);
	ck_assert_uint_eq(back[10], 0);
	down();
}
END_TEST

/* Bytes that find no room are no reason to refuse the commit that uploads wait for, and their fsync
 * says so; the end of the mount does not wait for room for ever. */
START_TEST(no_room_at_the_end)
{
	struct wait w;
	uint64_t a;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	log_open("/dev/null", 0);
	a = do_create(1, "a");
	fake_fail_append(st, -ENOSPC, -1);
	ck_ok(do_write(a, 0, "hello", 5));
	wait_init(&w);
	volume_commit_rows(v, wait_done, &w);
	ck_ok(wait_for(&w, -EINPROGRESS));
	wait_init(&w);
	volume_commit_async(v, wait_done, &w);
	ck_err(wait_for(&w, -EINPROGRESS), ENOSPC);
	ck_err(do_fsync(a), ENOSPC);
	volume_down(-ENOSPC);
	down();
}
END_TEST

/* Nothing can be sealed for long: small writes are taken into memory up to a limit only. */
START_TEST(memory_is_bounded)
{
	uint8_t buf[EXTENT] = { 1 };
	struct volume_state s;
	int rc = 0, k;

	vopts.dirty_max = 1 << 20;
	vopts.commit_interval = NS_PER_MS;
	up();
	fake_fail_append(st, -ENOSPC, -1);
	for (k = 0; k < 3000 && !rc; k++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", k);
		rc = do_write(do_create(1, name), 0, buf, sizeof(buf) - 1);
	}
	ck_err(rc, ENOSPC);
	volume_state(v, &s);
	ck_assert_uint_le(s.dirty_bytes, 3 << 20);
	fake_fail_append(st, 0, 0);
	ck_ok(do_fsync(0));
	volume_state(v, &s);
	ck_assert_uint_eq(s.dirty_bytes, 0);
	down();
}
END_TEST

START_TEST(sync_fails_with_enospc)
{
	uint64_t a;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, "hello", 5));
	fake_fail_sync(st, -ENOSPC, 2);
	ck_err(do_fsync(a), ENOSPC);
	ck_ok(do_write(a, 5, " world", 6));
	ck_err(do_fsync(a), ENOSPC);
	ck_ok(do_fsync(a));
	{
		char back[16] = "";
		size_t got;

		ck_ok(do_read(a, 0, back, sizeof(back), &got));
		ck_assert_uint_eq(got, 11);
		ck_assert_str_eq(back, "hello world");
	}
	down();
}
END_TEST

START_TEST(io_error_is_sticky)
{
	struct entry e;
	char back[8] = "";
	uint64_t a;
	size_t got;

	up();
	log_open("/dev/null", 0);
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, "hello", 5));
	fake_fail_sync(st, -EIO, 1);
	ck_err(do_fsync(a), EIO);
	ck_err(volume_failed(v), EIO);
	ck_err(do_fsync(a), EIO);
	ck_err(do_write(a, 0, "x", 1), EROFS);
	ck_err(volume_mkdir(v, 1, "d", 0755, &root_cred, &e), EROFS);
	ck_ok(do_read(a, 0, back, 5, &got));
	ck_assert_str_eq(back, "hello");
	volume_down(-EIO);
	down();
}
END_TEST

/* What a failed volume left in the open transaction must not be committed by closing the database:
 * a rename without its content would be a loss. */
START_TEST(failure_commits_nothing)
{
	int rc = _i ? -ENOSPC : -EIO;
	char back[8] = "";
	uint64_t a, b;
	size_t got;

	scratch_make();
	log_open("/dev/null", 0);
	vopts.commit_interval = 60 * NS_PER_S;
	fopts.path = store_path;
	meta_up(1);
	volume_up();
	a = do_create(1, "doc");
	ck_ok(do_write(a, 0, "old", 3));
	ck_ok(do_fsync(a));
	b = do_create(1, "tmp");
	ck_ok(do_write(b, 0, "new", 3));
	ck_ok(do_rename(1, "tmp", 1, "doc", 0));
	do_create(1, "more");
	fake_fail_sync(st, rc, -1);
	ck_assert_int_eq(do_fsync(b), rc);
	volume_down(rc);
	ck_assert_int_ne(meta_close(m), 0);
	ck_assert_int_eq(fake_destroy(st), 0);
	st = NULL;
	meta_up(0);
	volume_up();
	ck_ok(do_lookup(1, "doc", &b));
	ck_assert_uint_eq(a, b);
	ck_ok(do_read(b, 0, back, 3, &got));
	ck_assert_str_eq(back, "old");
	ck_err(do_lookup(1, "more", &b), ENOENT);
	down();
}
END_TEST

START_TEST(fetch_fails_and_cancels)
{
	struct read_op *op;
	struct wait w;
	char back[8];
	uint64_t a;
	size_t got;
	int rc;

	up();
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, "hello", 5));
	ck_ok(do_fsync(a));
	fake_remote(st, 1, 0, -ETIMEDOUT);
	ck_err(do_read(a, 0, back, 5, &got), ETIMEDOUT);
	ck_assert_uint_eq(got, 0);
	/* The kernel's second try, right behind it, is not another wait; a later one is. */
	fake_remote(st, 1, 0, 0);
	ck_err(volume_read(v, a, 0, back, 5, &got, &op, wait_done, &w), ETIMEDOUT);
	eventually(do_read(a, 0, back, 5, &got) == 0);
	fake_remote(st, 1, 50 * NS_PER_MS, 0);
	wait_init(&w);
	rc = volume_read(v, a, 0, back, 5, &got, &op, wait_done, &w);
	ck_err(rc, EINPROGRESS);
	volume_read_cancel(v, op);
	ck_err(wait_for(&w, rc), EINTR);
	fake_remote(st, 1, 0, 0);
	ck_ok(do_read(a, 0, back, 5, &got));
	ck_assert_int_eq(memcmp(back, "hello", 5), 0);
	down();
}
END_TEST

/* What lies in another order in its segment than in the file, for several threads wrote it, is
 * asked for in few pieces, and early. */
START_TEST(reads_ahead)
{
	const size_t piece = 64 << 10, pieces = 64;
	AUTO_FREE uint8_t *buf = calloc(1, 64 << 10);
	struct fake_stats s;
	uint64_t a;
	size_t got;

	fopts.segment_size = 64 << 20;
	up();
	a = do_create(1, "a");
	for (size_t k = 0; k < pieces; k++)
		ck_ok(do_write(a, (k ^ 1) * piece, buf, piece));
	ck_ok(do_fsync(a));
	fake_remote(st, 1, 0, 0);
	for (size_t k = 0; k < pieces / 4; k++) {
		ck_ok(do_read(a, k * piece, buf, piece, &got));
		ck_assert_uint_eq(got, piece);
	}
	fake_stats(st, &s);
	ck_assert_uint_ge(s.prefetches, 1);
	ck_assert_uint_le(s.prefetches, 4); /* of 56 pieces */
	down();
}
END_TEST

START_TEST(cloud_fsync)
{
	uint64_t a;

	vopts.fsync_cloud = 1;
	vopts.commit_interval = 60 * NS_PER_S;
	up();
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, "hello", 5));
	ck_err(do_fsync(a), EIO); /* nothing can be stored */
	fake_present(st, SEG_STORED, 3);
	ck_ok(do_fsync(a));
	down();
}
END_TEST

START_TEST(state_and_where)
{
	char text[64];
	uint32_t segs[4];
	uint64_t a, dirty;
	size_t n;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, "hello", 5));
	ck_ok(volume_getxattr(v, a, "user.skyflok.state", text, sizeof(text), &n));
	ck_assert_int_eq(strncmp(text, "dirty", n), 0);
	ck_assert_int_eq(volume_where(v, a, segs, 4, &dirty), 0);
	ck_assert_uint_eq(dirty, 5);
	ck_ok(do_fsync(a));
	ck_ok(volume_getxattr(v, a, "user.skyflok.state", text, sizeof(text), &n));
	ck_assert_int_eq(strncmp(text, "staged", n), 0);
	ck_assert_int_eq(volume_where(v, a, segs, 4, &dirty), 1);
	ck_assert_uint_eq(dirty, 0);
	fake_present(st, SEG_STORED, 3);
	ck_ok(volume_getxattr(v, a, "user.skyflok.state", text, sizeof(text), &n));
	ck_assert_int_eq(strncmp(text, "stored 2/3", n), 0);
	fake_present(st, SEG_DISPERSED, 7);
	ck_ok(volume_getxattr(v, a, "user.skyflok.state", text, sizeof(text), &n));
	ck_assert_int_eq(strncmp(text, "dispersed 3/3", n), 0);
	ck_err(volume_setxattr(v, a, "user.skyflok.state", "x", 1, 0, &root_cred), EPERM);
	ck_ok(volume_listxattr(v, a, text, sizeof(text), &n));
	ck_assert_uint_eq(n, 0);
	down();
}
END_TEST

/* Whoever closes a drive whose commits failed closes the store first: what was never committed
 * refers to it still. */
START_TEST(store_closed_first)
{
	uint8_t buf[1000] = { 1 };
	uint64_t a;

	up();
	log_open("/dev/null", 0);
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, buf, sizeof(buf)));
	failpoint_load("commit.rows=EIO");
	ck_err(do_fsync(a), EIO); /* in a list that was taken */
	failpoint_load("");
	ck_assert_int_eq(volume_stop(v), -EIO);
	ck_assert_int_gt(fake_destroy(st), 0);
	volume_store_closed(v);
	volume_destroy(v);
	v = NULL, st = NULL;
	meta_close(m);
	m = NULL;
	scratch_remove();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume");
	TCase *t = tcase_create("content");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 110);
	tcase_add_loop_test(t, model, 0, 6);
	tcase_add_loop_test(t, model_remote, 0, 2);
	tcase_add_test(t, packs_extents);
	tcase_add_test(t, rows_merge);
	tcase_add_test(t, sparse);
	tcase_add_test(t, changes_in_flight);
	tcase_add_test(t, append_fails);
	tcase_add_test(t, no_room_at_the_end);
	tcase_add_test(t, memory_is_bounded);
	tcase_add_test(t, sync_fails_with_enospc);
	tcase_add_test(t, io_error_is_sticky);
	tcase_add_test(t, store_closed_first);
	tcase_add_loop_test(t, failure_commits_nothing, 0, 2);
	tcase_add_test(t, fetch_fails_and_cancels);
	tcase_add_test(t, reads_ahead);
	tcase_add_test(t, cloud_fsync);
	tcase_add_test(t, state_and_where);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
