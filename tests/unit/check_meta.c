/* fs/meta: opening, rows of every table, numbers. Runs, outbox, faults and crashes have suites of
 * their own. */
#include <fcntl.h>
#include <sqlite3.h>
#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "tests/unit/meta_fixture.h"

#define assert_has(text, part)                                                                     \
	ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)

/* ---- Opening ---- */

START_TEST(create_makes_a_root)
{
	struct node n;
	struct meta_totals t;

	ck_ok(node_get(m, META_ROOT_INO, &n));
	ck_assert_uint_eq(n.mode, S_IFDIR | 0755);
	ck_assert_uint_eq(n.uid, 7);
	ck_assert_uint_eq(n.gid, 8);
	ck_assert_uint_eq(n.nlink, 2);
	meta_totals(m, &t);
	ck_assert_uint_eq(t.inodes, 1);
	ck_assert_int_eq(dirent_empty(m, META_ROOT_INO), 1);
}
END_TEST

START_TEST(files_are_private)
{
	static const char *const ends[] = { "", "-wal", "-shm", ".lock", ".ballast" };
	char path[128];
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		snprintf(path, sizeof(path), "%s%s", db_path, ends[i]);
		ck_assert_msg(!stat(path, &st), "%s", path);
		ck_assert_uint_eq(st.st_mode & 0777, 0600);
	}
	ck_assert_int_ge(st.st_blocks * 512, 1 << 20);
}
END_TEST

START_TEST(second_open_is_busy)
{
	struct err e = { 0 };
	struct meta *other;
	struct node n;

	ck_assert_int_eq(open_at(db_path, 0, 0, &other, &e), -EBUSY);
	ck_assert_ptr_null(other);
	assert_has(e.text, "mounted already");
	ck_assert_int_eq(open_at(db_path, 1, 0, &other, &e), -EBUSY);
	/* And it did no harm to the first. */
	n = file_node(meta_next_ino(m));
	ck_ok(node_put(m, &n, 0));
	ck_ok(meta_commit(m));
	ck_ok(meta_wal_sync(m));
}
END_TEST

START_TEST(create_refuses_what_is_there)
{
	struct err e = { 0 };
	struct meta *other;

	close_db();
	ck_assert_int_eq(open_at(db_path, 1, 0, &other, &e), -EEXIST);
	assert_has(e.text, db_path);
	open_ok(db_path, 0, &m); /* still there */
	meta_lock(m);
}
END_TEST

START_TEST(open_needs_a_database)
{
	struct err e = { 0 };
	struct meta *other;
	char path[128];

	snprintf(path, sizeof(path), "%s/none", scratch);
	ck_assert_int_eq(open_at(path, 0, 0, &other, &e), -ENOENT);
	assert_has(e.text, path);
	ck_assert_int_eq(open_at(scratch, 0, 0, &other, &e), -EINVAL);
	snprintf(path, sizeof(path), "%s/no/folder", scratch);
	ck_assert_int_eq(open_at(path, 1, 0, &other, &e), -ENOENT);
}
END_TEST

START_TEST(open_refuses_other_drive)
{
	uint8_t other_id[16] = { 9 };
	struct meta_opts opts = { .drive = other_id };
	struct err e = { 0 };
	struct meta *other;

	close_db();
	ck_assert_int_eq(meta_open(db_path, &opts, &other, &e), -EXDEV);
	assert_has(e.text, "0900000000");
	assert_has(e.text, "d1020304");
	open_ok(db_path, 0, &m);
	meta_lock(m);
}
END_TEST

static void raw_sql(const char *sql)
{
	sqlite3 *db;

	ck_ok(sqlite3_open(db_path, &db));
	ck_assert_msg(!sqlite3_exec(db, sql, NULL, NULL, NULL), "%s: %s", sql, sqlite3_errmsg(db));
	ck_ok(sqlite3_close(db));
}

START_TEST(open_refuses_a_future_version)
{
	struct err e = { 0 };
	struct meta *other;

	close_db();
	raw_sql("PRAGMA user_version=2");
	ck_assert_int_eq(open_at(db_path, 0, 0, &other, &e), -EPROTONOSUPPORT);
	assert_has(e.text, "has format 2");
	assert_has(e.text, "newer skyflok");
	ck_assert_int_eq(open_at(db_path, 0, 1, &other, &e), -EPROTONOSUPPORT);
}
END_TEST

/* The schema of version 1 as it was first released, written out: whatever later versions do, such a
 * file must open. */
START_TEST(version_1_opens)
{
	struct node n;

	close_db();
	unlink(db_path);
	raw_sql("PRAGMA page_size=4096; PRAGMA journal_mode=WAL;"
		"PRAGMA application_id=1397442125; PRAGMA user_version=1;"
		"CREATE TABLE node(ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, nlink INTEGER "
		"NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL, "
		"flags INTEGER NOT NULL, size INTEGER NOT NULL, bytes INTEGER NOT NULL, parent "
		"INTEGER NOT NULL, atime INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER "
		"NOT NULL, btime INTEGER NOT NULL);"
		"CREATE INDEX node_orphan ON node(ino) WHERE nlink = 0;"
		"CREATE TABLE link(ino INTEGER PRIMARY KEY, target BLOB NOT NULL);"
		"CREATE TABLE name(parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT "
		"NULL, cookie INTEGER NOT NULL, type INTEGER NOT NULL, PRIMARY KEY(parent, name)) "
		"WITHOUT ROWID;"
		"CREATE INDEX name_cookie ON name(parent, cookie, ino, type);"
		"CREATE TABLE xattr(ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, "
		"PRIMARY KEY(ino, name)) WITHOUT ROWID;"
		"CREATE TABLE run(ino INTEGER NOT NULL, off INTEGER NOT NULL, len INTEGER NOT "
		"NULL, skip INTEGER NOT NULL, seg INTEGER NOT NULL, first INTEGER NOT NULL, "
		"PRIMARY KEY(ino, off)) WITHOUT ROWID;"
		"CREATE INDEX run_seg ON run(seg, first, ino, off);"
		"CREATE TABLE segment(num INTEGER PRIMARY KEY, id BLOB NOT NULL, keyno INTEGER NOT "
		"NULL, code_k INTEGER NOT NULL, state INTEGER NOT NULL, extents INTEGER NOT NULL, "
		"length INTEGER NOT NULL, live INTEGER NOT NULL, created INTEGER NOT NULL, born "
		"INTEGER NOT NULL, died INTEGER NOT NULL);"
		"CREATE TABLE segindex(num INTEGER PRIMARY KEY, data BLOB NOT NULL);"
		"CREATE TABLE coding(set_id BLOB PRIMARY KEY NOT NULL, seg INTEGER NOT NULL, k "
		"INTEGER NOT NULL, m INTEGER NOT NULL, state INTEGER NOT NULL, ord INTEGER NOT "
		"NULL) WITHOUT ROWID;"
		"CREATE INDEX coding_seg ON coding(seg, ord);"
		"CREATE TABLE drive(key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT "
		"ROWID;"
		"CREATE TABLE shard(set_id BLOB PRIMARY KEY NOT NULL, present INTEGER NOT NULL, "
		"suspect INTEGER NOT NULL) WITHOUT ROWID;"
		"CREATE TABLE local(key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT "
		"ROWID;"
		"CREATE TABLE outbox(seq INTEGER PRIMARY KEY, data BLOB NOT NULL);"
		"CREATE TABLE sums(one INTEGER PRIMARY KEY CHECK(one = 1), bytes INTEGER NOT NULL, "
		"inodes INTEGER NOT NULL, seq INTEGER NOT NULL, blobs INTEGER NOT NULL, blob_bytes "
		"INTEGER NOT NULL);"
		"INSERT INTO sums VALUES(1, 0, 1, 5, 0, 0);"
		"INSERT INTO local VALUES(CAST('meta.drive' AS BLOB), "
		"x'd102030405060708090a0b0c0d0e0f10');"
		"INSERT INTO node VALUES(77, 33188, 1, 0, 0, 0, 0, 5, 5, 0, 1, 2, 3, 4);"
		"INSERT INTO name VALUES(1, CAST('old' AS BLOB), 77, 16, 32768);");
	open_ok(db_path, 0, &m);
	meta_lock(m);
	ck_ok(node_get(m, 77, &n));
	ck_assert_int_eq(n.btime, 4);
	ck_assert_uint_eq(outbox_last(m), 5);
	make_file(m, 1, "new");
	reopen();
}
END_TEST

START_TEST(open_names_the_damage)
{
	struct err e = { 0 };
	struct meta *other;
	int fd;

	for (int i = 0; i < 2000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file %d", i);
		make_file(m, 1, name);
	}
	close_db();
	raw_sql("DELETE FROM local WHERE key = CAST('meta.clean' AS BLOB)"); /* as after a kill */
	fd = open(db_path, O_RDWR);
	for (int page = 5; page < 20; page++)
		ck_ok(file_pwrite(fd, "garbage, and more of it", 23, (uint64_t)page * 4096));
	ck_assert_int_eq(open_at(db_path, 0, 0, &other, &e), -EBADMSG);
	assert_has(e.text, "damaged");
	assert_has(e.text, db_path);
	assert_has(e.text, "keep a copy");
	ck_ok(file_pwrite(fd, "not a database at all", 21, 0));
	e.text[0] = '\0';
	ck_assert_int_eq(open_at(db_path, 0, 0, &other, &e), -EBADMSG);
	assert_has(e.text, "damaged");
	ck_ok(ftruncate(fd, 0));
	e.text[0] = '\0';
	ck_assert_int_eq(open_at(db_path, 0, 0, &other, &e), -EBADMSG);
	assert_has(e.text, "interrupted");
	close(fd);
}
END_TEST

START_TEST(open_refuses_foreign_databases)
{
	struct err e = { 0 };
	struct meta *other;

	close_db();
	raw_sql("PRAGMA application_id=12345");
	ck_assert_int_eq(open_at(db_path, 0, 0, &other, &e), -EBADMSG);
	assert_has(e.text, "another program");
}
END_TEST

START_TEST(read_only_sees_commits_and_changes_nothing)
{
	struct err e = { 0 };
	struct meta *ro;
	struct meta_totals t;
	struct node n = file_node(99);
	uint64_t ino;

	ck_ok(open_at(db_path, 0, 1, &ro, &e));
	ino = make_file(m, 1, "a");
	meta_lock(ro);
	ck_assert_int_eq(node_get(ro, ino, &n), -ENOENT);
	meta_unlock(ro);
	ck_ok(meta_commit(m));
	meta_lock(ro);
	ck_ok(node_get(ro, ino, &n));
	meta_totals(ro, &t);
	ck_assert_uint_eq(t.inodes, 2);
	ck_assert_uint_eq(outbox_last(ro), outbox_last(m));
	ck_assert_int_eq(node_put(ro, &n, 0), -EROFS);
	ck_assert_int_eq(dirent_delete(ro, 1, "a", 1), -EROFS);
	ck_assert_int_eq(meta_local_put(ro, "k", "v", 1), -EROFS);
	meta_unlock(ro);
	ck_assert_int_eq(meta_wal_sync(ro), -EROFS);
	ck_ok(meta_close(ro));
	ck_ok(node_get(m, ino, &n)); /* closing that one harmed nothing here */
}
END_TEST

START_TEST(backup_is_a_database)
{
	char path[128];
	struct err e = { 0 };
	struct buf a = { 0 }, b = { 0 };
	struct meta *copy;

	make_file(m, 1, "a");
	ck_ok(meta_commit(m));
	snprintf(path, sizeof(path), "%s/copy.db", scratch);
	ck_ok(meta_backup(m, path, &e));
	ck_assert_int_eq(meta_backup(m, path, &e), -EEXIST);
	open_ok(path, 0, &copy);
	dump(m, &a);
	dump(copy, &b);
	assert_same(&a, &b);
	ck_ok(meta_close(copy));
	buf_release(&a);
	buf_release(&b);
}
END_TEST

/* ---- Nodes, names, links, xattrs ---- */

START_TEST(node_round_trip)
{
	struct node n = {
		.ino = 4711,
		.mode = S_IFBLK | 0600,
		.nlink = 4,
		.uid = UINT32_MAX,
		.gid = 1,
		.rdev = 0xfff00fff,
		.flags = 0x80000001,
		.size = INT64_MAX,
		.bytes = 123,
		.parent = 9,
		.atime = -5,
		.mtime = INT64_MAX,
		.ctime = INT64_MIN,
		.btime = 0,
	};
	struct node got;
	struct meta_totals t;

	ck_assert_int_eq(node_get(m, 4711, &got), -ENOENT);
	ck_ok(node_put(m, &n, 0));
	ck_ok(node_get(m, 4711, &got));
	ck_assert_int_eq(memcmp(&n, &got, sizeof(n)), 0);
	n.nlink = 5;
	ck_ok(node_put(m, &n, 0));
	n.ino = 17; /* below the highest, and new */
	ck_ok(node_put(m, &n, 1));
	meta_totals(m, &t);
	ck_assert_uint_eq(t.inodes, 3);
	reopen();
	ck_ok(node_get(m, 17, &got));
	ck_assert_int_eq(memcmp(&n, &got, sizeof(n)), 0);
	ck_ok(node_delete(m, 17));
	ck_assert_int_eq(node_delete(m, 17), -ENOENT);
	meta_totals(m, &t);
	ck_assert_uint_eq(t.inodes, 2);
	n.ino = 0;
	ck_assert_int_eq(node_put(m, &n, 0), -EINVAL);
	n.ino = 1ull << 63;
	ck_assert_int_eq(node_put(m, &n, 0), -EINVAL);
}
END_TEST

static int collect(void *arg, uint64_t ino)
{
	struct buf *b = arg;

	buf_put64(b, ino);
	return b->len == 16;
}

START_TEST(orphans_are_found)
{
	struct buf b = { 0 };

	for (uint64_t ino = 10; ino < 20; ino++) {
		struct node n = file_node(ino);

		n.nlink = ino % 3 ? 1 : 0;
		ck_ok(node_put(m, &n, 0));
	}
	ck_assert_int_eq(node_each_orphan(m, collect, &b), 1);
	ck_assert_uint_eq(b.len, 16);
	ck_assert_uint_eq(be64_get(b.p), 12);
	ck_assert_uint_eq(be64_get(b.p + 8), 15);
	buf_release(&b);
}
END_TEST

START_TEST(delete_takes_link_and_xattrs)
{
	struct node n = file_node(50);
	char t[16];
	size_t len;

	ck_ok(node_put(m, &n, 0));
	ck_ok(link_put(m, 50, "over/there", 10));
	ck_ok(xattr_put(m, 50, "user.a", "1", 1));
	ck_ok(xattr_put(m, 50, "user.b", "2", 1));
	ck_ok(meta_commit(m));
	ck_ok(node_delete(m, 50));
	ck_assert_int_eq(link_get(m, 50, t, sizeof(t), &len), -ENOENT);
	ck_assert_int_eq(xattr_any(m, 50), 0);
}
END_TEST

START_TEST(links)
{
	char target[META_LINK_MAX + 1], got[META_LINK_MAX + 1];
	size_t n;

	memset(target, 'x', sizeof(target));
	target[5] = '\n';
	ck_assert_int_eq(link_put(m, 3, target, sizeof(target)), -ENAMETOOLONG);
	ck_ok(link_put(m, 3, target, META_LINK_MAX));
	ck_ok(link_get(m, 3, got, sizeof(got), &n));
	ck_assert_uint_eq(n, META_LINK_MAX);
	ck_assert_int_eq(memcmp(got, target, n), 0);
	ck_ok(link_put(m, 3, "short", 5));
	memset(got, '#', sizeof(got));
	ck_ok(link_get(m, 3, got, 2, &n));
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(memcmp(got, "sh#", 3), 0);
}
END_TEST

START_TEST(names)
{
	struct dirent_row d = entry_of(1, "a name", 5, 100), got;
	char longest[256];

	ck_ok(dirent_insert(m, &d));
	ck_assert_int_eq(dirent_insert(m, &d), -EEXIST);
	ck_assert_int_eq(dirent_empty(m, 1), 0);
	ck_assert_int_eq(dirent_empty(m, 2), 1);
	ck_ok(dirent_get(m, 1, "a name", 6, &got));
	ck_assert_uint_eq(got.ino, 5);
	ck_assert_uint_eq(got.cookie, 100);
	ck_assert_uint_eq(got.type, S_IFREG);
	ck_assert_str_eq(got.name, "a name");
	ck_assert_int_eq(dirent_get(m, 1, "a nam", 5, &got), -ENOENT);
	ck_assert_int_eq(dirent_get(m, 2, "a name", 6, &got), -ENOENT);
	ck_ok(dirent_retarget(m, 1, "a name", 6, 6, S_IFDIR));
	ck_ok(dirent_get(m, 1, "a name", 6, &got));
	ck_assert_uint_eq(got.ino, 6);
	ck_assert_uint_eq(got.type, S_IFDIR);
	ck_assert_uint_eq(got.cookie, 100);
	ck_assert_int_eq(dirent_retarget(m, 1, "b", 1, 6, S_IFDIR), -ENOENT);
	ck_ok(dirent_delete(m, 1, "a name", 6));
	ck_assert_int_eq(dirent_delete(m, 1, "a name", 6), -ENOENT);
	/* Bytes, not text: no folding, no Unicode. */
	memset(longest, 0xff, sizeof(longest));
	ck_assert_int_eq(dirent_get(m, 1, longest, 256, &got), -EINVAL);
	ck_assert_int_eq(dirent_get(m, 1, "", 0, &got), -EINVAL);
	d.name_len = 255;
	memcpy(d.name, longest, 255);
	ck_ok(dirent_insert(m, &d));
	ck_ok(dirent_get(m, 1, longest, 255, &got));
	ck_assert_uint_eq(got.name_len, 255);
	d = entry_of(1, "A", 5, 101);
	ck_ok(dirent_insert(m, &d));
	d = entry_of(1, "a", 5, 102);
	ck_ok(dirent_insert(m, &d));
}
END_TEST

START_TEST(pages_of_names)
{
	static struct dirent_row rows[300];
	uint64_t after = 0, seen = 0;
	int n;

	for (int i = 0; i < 1000; i++) {
		char name[32];

		/* Not in order of cookies. */
		snprintf(name, sizeof(name), "%u", (unsigned)i * 2654435761u);
		make_file(m, 1, name);
		make_file(m, 2, name);
	}
	while ((n = dirent_page(m, 1, after, rows, 300)) > 0) {
		for (int i = 0; i < n; i++) {
			ck_assert_uint_gt(rows[i].cookie, after);
			ck_assert_uint_eq(rows[i].parent, 1);
			ck_assert_uint_eq(strlen(rows[i].name), rows[i].name_len);
			after = rows[i].cookie;
		}
		seen += (uint64_t)n;
		/* What goes and comes while somebody reads does not disturb the rest. */
		ck_ok(dirent_delete(m, 1, rows[0].name, rows[0].name_len));
	}
	ck_ok(n);
	ck_assert_uint_eq(seen, 1000);
	ck_assert_int_eq(dirent_page(m, 1, INT64_MAX, rows, 10), 0);
	ck_assert_int_eq(dirent_page(m, 1, UINT64_MAX, rows, 10), 0);
}
END_TEST

START_TEST(xattrs)
{
	static char big[META_XATTR_MAX + 1];
	char v[64];
	size_t n;

	ck_assert_int_eq(xattr_get(m, 1, "user.x", v, sizeof(v), &n), -ENODATA);
	ck_assert_int_eq(xattr_any(m, 1), 0);
	ck_ok(xattr_put(m, 1, "user.x", "hello", 5));
	ck_ok(xattr_put(m, 1, "user.empty", NULL, 0));
	ck_assert_int_eq(xattr_any(m, 1), 1);
	ck_ok(xattr_get(m, 1, "user.x", v, sizeof(v), &n));
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(memcmp(v, "hello", 5), 0);
	ck_ok(xattr_get(m, 1, "user.x", NULL, 0, &n));
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(xattr_get(m, 1, "user.x", v, 4, &n), -ERANGE);
	ck_assert_uint_eq(n, 5);
	ck_ok(xattr_get(m, 1, "user.empty", v, sizeof(v), &n));
	ck_assert_uint_eq(n, 0);
	ck_ok(xattr_list(m, 1, NULL, 0, &n));
	ck_assert_uint_eq(n, 18);
	ck_assert_int_eq(xattr_list(m, 1, v, 17, &n), -ERANGE);
	ck_ok(xattr_list(m, 1, v, sizeof(v), &n));
	ck_assert_int_eq(memcmp(v, "user.empty\0user.x", 18), 0);
	ck_assert_int_eq(xattr_put(m, 1, "user.x", big, sizeof(big)), -E2BIG);
	ck_ok(xattr_put(m, 1, "user.x", big, META_XATTR_MAX));
	ck_ok(xattr_get(m, 1, "user.x", NULL, 0, &n));
	ck_assert_uint_eq(n, META_XATTR_MAX);
	ck_ok(xattr_delete(m, 1, "user.x"));
	ck_assert_int_eq(xattr_delete(m, 1, "user.x"), -ENODATA);
}
END_TEST

/* ---- Numbers and values ---- */

START_TEST(numbers_are_never_given_twice)
{
	uint64_t ino = 0, cookie = 0;
	uint32_t seg = 0;

	ck_assert_uint_ge(meta_next_cookie(m), 16);
	for (int round = 0; round < 4; round++) {
		pid_t pid;
		int status;

		ck_assert_uint_gt(meta_next_ino(m), ino);
		ck_assert_uint_gt(meta_next_cookie(m), cookie);
		ck_assert_uint_gt(meta_next_segment(m), seg);
		close_db();
		/* Gives many, commits some, and dies. */
		pid = fork();
		if (!pid) {
			open_ok(db_path, 0, &m);
			meta_lock(m);
			for (int i = 0; i < 3000; i++) {
				meta_next_ino(m);
				meta_next_cookie(m);
				meta_next_segment(m);
				if (i == 1000) {
					make_file(m, 1, round & 1 ? "a" : "b");
					meta_commit(m);
					dirent_delete(m, 1, round & 1 ? "a" : "b", 1);
					meta_commit(m);
				}
			}
			_exit(0);
		}
		waitpid(pid, &status, 0);
		ck_assert(WIFEXITED(status));
		open_ok(db_path, 0, &m);
		meta_lock(m);
		ino = meta_next_ino(m);
		cookie = meta_next_cookie(m);
		seg = meta_next_segment(m);
		ck_assert_uint_gt(ino, 3000u * (unsigned)(round + 1));
		ck_assert_uint_gt(cookie, 3000u * (unsigned)(round + 1));
		ck_assert_uint_gt(seg, 3000u * (unsigned)(round + 1));
	}
	close_db();
	/* Also when nothing at all was committed between two kills. */
	for (int round = 0; round < 3; round++) {
		int fds[2];
		uint64_t given;
		pid_t pid;

		ck_ok(pipe(fds));
		pid = fork();
		if (!pid) {
			open_ok(db_path, 0, &m);
			meta_lock(m);
			given = meta_next_ino(m);
			_exit(write(fds[1], &given, sizeof(given)) < 0);
		}
		waitpid(pid, NULL, 0);
		ck_assert_int_eq(read(fds[0], &given, sizeof(given)), sizeof(given));
		ck_assert_uint_gt(given, ino);
		ino = given;
		close(fds[0]);
		close(fds[1]);
	}
	/* A clean close leaves no gap. */
	open_ok(db_path, 0, &m);
	meta_lock(m);
	ino = meta_next_ino(m);
	seg = meta_next_segment(m);
	reopen();
	ck_assert_uint_eq(meta_next_ino(m), ino + 1);
	ck_assert_uint_eq(meta_next_segment(m), seg + 1);
}
END_TEST

START_TEST(segment_numbers_end)
{
	m->alloc[ALLOC_SEGMENT].next = UINT32_MAX;
	ck_assert_uint_eq(meta_next_segment(m), UINT32_MAX);
	ck_assert_uint_eq(meta_next_segment(m), 0);
	ck_assert_uint_eq(meta_next_segment(m), 0);
}
END_TEST

START_TEST(values)
{
	uint8_t *v;
	size_t n;

	ck_assert_int_eq(meta_local_get(m, "four", &v, &n), -ENOENT);
	ck_ok(meta_local_put(m, "four", "12345678", 8));
	ck_ok(meta_drive_put(m, "four", "", 0));
	ck_ok(meta_local_get(m, "four", &v, &n));
	ck_assert_uint_eq(n, 8);
	ck_assert_str_eq((char *)v, "12345678");
	free(v);
	reopen();
	ck_ok(meta_drive_get(m, "four", &v, &n));
	ck_assert_uint_eq(n, 0);
	free(v);
	ck_ok(meta_local_delete(m, "four"));
	ck_assert_int_eq(meta_local_delete(m, "four"), -ENOENT);
	ck_assert_int_eq(meta_local_put(m, "", "x", 1), -EINVAL);
}
END_TEST

/* ---- Segments and codings ---- */

static int count_segments(void *arg, const struct segment_row *s)
{
	uint32_t *last = arg;

	ck_assert_uint_gt(s->num, *last);
	*last = s->num;
	return s->num == 3 ? 42 : 0;
}

START_TEST(segments)
{
	struct segment_row s = segment_of(2), got;
	uint32_t last = 0;
	uint8_t *p;
	size_t n;

	s.live = 999; /* not the caller's */
	ck_ok(segment_insert(m, &s));
	ck_assert_int_eq(segment_insert(m, &s), -EEXIST);
	ck_ok(segment_get(m, 2, &got));
	ck_assert_uint_eq(got.live, 0);
	ck_assert_int_eq(memcmp(got.id, s.id, 16), 0);
	s.state = SEGMENT_CLOSED;
	s.extents = 17;
	s.length = 1 << 24;
	s.born = 3;
	s.died = 4;
	s.created = -1;
	ck_ok(segment_update(m, &s));
	ck_ok(segment_get(m, 2, &got));
	s.live = 0;
	ck_assert_int_eq(memcmp(&got, &s, sizeof(s)), 0);
	s.num = 8;
	ck_assert_int_eq(segment_update(m, &s), -ENOENT);
	s.state = 9;
	ck_assert_int_eq(segment_insert(m, &s), -EINVAL);
	ck_assert_int_eq(segment_index_get(m, 2, &p, &n), -ENOENT);
	ck_ok(segment_index_put(m, 2, "index", 5));
	ck_ok(segment_index_get(m, 2, &p, &n));
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(memcmp(p, "index", 5), 0);
	free(p);
	for (uint32_t num = 3; num < 6; num++) {
		s = segment_of(num);
		ck_ok(segment_insert(m, &s));
	}
	ck_assert_int_eq(segment_each(m, count_segments, &last), 42);
	ck_ok(segment_delete(m, 2));
	ck_assert_int_eq(segment_delete(m, 2), -ENOENT);
	ck_assert_int_eq(segment_index_get(m, 2, &p, &n), -ENOENT);
	ck_assert_int_eq(segment_get(m, 2, &got), -ENOENT);
	ck_ok(meta_commit(m));
}
END_TEST

static int count_codings(void *arg, const struct coding_row *c)
{
	*(int *)arg += c->set[0];
	return 0;
}

START_TEST(codings)
{
	struct coding_row c = {
		.set = { 200 }, .seg = 5, .k = 4, .m = 2, .state = CODING_UPLOADING
	};
	struct coding_row rows[4];
	int sum = 0;

	ck_ok(coding_insert(m, &c));
	ck_assert_int_eq(coding_insert(m, &c), -EEXIST);
	c.set[0] = 1; /* newer, smaller id */
	c.present = 9;
	ck_ok(coding_insert(m, &c));
	ck_assert_int_eq(coding_of_segment(m, 5, rows, 4), 2);
	ck_assert_uint_eq(rows[0].set[0], 200);
	ck_assert_uint_eq(rows[0].present, 0);
	ck_assert_uint_eq(rows[1].set[0], 1);
	ck_assert_uint_eq(rows[1].present, 9);
	ck_assert_int_eq(coding_of_segment(m, 5, rows, 1), 1);
	ck_assert_uint_eq(rows[0].set[0], 1);
	ck_assert_int_eq(coding_of_segment(m, 6, rows, 4), 0);
	ck_ok(coding_set_state(m, c.set, CODING_STORED));
	ck_ok(coding_set_present(m, c.set, 0xffffffff, 2));
	ck_ok(coding_get(m, c.set, &rows[0]));
	ck_assert_uint_eq(rows[0].state, CODING_STORED);
	ck_assert_uint_eq(rows[0].present, 0xffffffff);
	ck_assert_uint_eq(rows[0].suspect, 2);
	ck_ok(coding_each(m, count_codings, &sum));
	ck_assert_int_eq(sum, 201);
	ck_ok(coding_delete(m, c.set));
	ck_assert_int_eq(coding_delete(m, c.set), -ENOENT);
	ck_assert_int_eq(coding_set_state(m, c.set, CODING_STORED), -ENOENT);
	ck_assert_int_eq(coding_set_present(m, c.set, 1, 0), -ENOENT);
	ck_assert_int_eq(coding_of_segment(m, 5, rows, 4), 1);
	c.k = 30;
	c.m = 3;
	ck_assert_int_eq(coding_insert(m, &c), -EINVAL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("meta");
	TCase *open = tcase_create("open"), *rows = tcase_create("rows");

	tcase_add_checked_fixture(open, set_up, tear_down);
	tcase_add_checked_fixture(rows, set_up, tear_down);
	tcase_set_timeout(open, 60);
	tcase_set_timeout(rows, 60);
	tcase_add_test(open, create_makes_a_root);
	tcase_add_test(open, files_are_private);
	tcase_add_test(open, second_open_is_busy);
	tcase_add_test(open, create_refuses_what_is_there);
	tcase_add_test(open, open_needs_a_database);
	tcase_add_test(open, open_refuses_other_drive);
	tcase_add_test(open, open_refuses_a_future_version);
	tcase_add_test(open, version_1_opens);
	tcase_add_test(open, open_names_the_damage);
	tcase_add_test(open, open_refuses_foreign_databases);
	tcase_add_test(open, read_only_sees_commits_and_changes_nothing);
	tcase_add_test(open, backup_is_a_database);
	tcase_add_test(rows, node_round_trip);
	tcase_add_test(rows, orphans_are_found);
	tcase_add_test(rows, delete_takes_link_and_xattrs);
	tcase_add_test(rows, links);
	tcase_add_test(rows, names);
	tcase_add_test(rows, pages_of_names);
	tcase_add_test(rows, xattrs);
	tcase_add_test(rows, numbers_are_never_given_twice);
	tcase_add_test(rows, segment_numbers_end);
	tcase_add_test(rows, values);
	tcase_add_test(rows, segments);
	tcase_add_test(rows, codings);
	suite_add_tcase(s, open);
	suite_add_tcase(s, rows);
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
