/* What the suites of fs/meta share: a scratch folder, an open database, a dump of its rows. */
#ifndef TESTS_UNIT_META_FIXTURE_H
#define TESTS_UNIT_META_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "fs/base/buf.h"
#include "fs/base/failpoint.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/meta/impl.h"

static char scratch[64], db_path[96];
static struct meta *m;
static const uint8_t drive_id[16] = { 0xd1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

#define ck_ok(call) ck_assert_int_eq((call), 0)

static inline void scratch_make(void)
{
	snprintf(scratch, sizeof(scratch), "/tmp/check_meta.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(scratch));
	snprintf(db_path, sizeof(db_path), "%s/meta.db", scratch);
}

static inline void scratch_remove(void)
{
	char *const argv[] = { (char *)"rm", (char *)"-rf", scratch, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execv("/bin/rm", argv);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static inline int open_at(const char *path, int create, int read_only, struct meta **out,
			  struct err *e)
{
	struct meta_opts opts = {
		.drive = drive_id,
		.create = create,
		.root_mode = S_IFDIR | 0755,
		.root_uid = 7,
		.root_gid = 8,
		.read_only = read_only,
	};

	return meta_open(path, &opts, out, e);
}

static inline void open_ok(const char *path, int create, struct meta **out)
{
	struct err e = { 0 };
	int rc = open_at(path, create, 0, out, &e);

	ck_assert_msg(!rc, "meta_open: %d %s", rc, e.text);
}

/* Opened and locked. */
static inline void set_up(void)
{
	char path[128];

	scratch_make();
	snprintf(path, sizeof(path), "%s/log", scratch); /* errors are expected here */
	log_open(path, 0);
	open_ok(db_path, 1, &m);
	meta_lock(m);
}

static inline void close_db(void)
{
	meta_unlock(m);
	ck_ok(meta_close(m));
	m = NULL;
}

static inline void reopen(void)
{
	close_db();
	open_ok(db_path, 0, &m);
	meta_lock(m);
}

static inline void tear_down(void)
{
	failpoint_load("");
	if (m) {
		meta_unlock(m);
		meta_close(m);
		m = NULL;
	}
	scratch_remove();
}

static inline struct node file_node(uint64_t ino)
{
	return (struct node){
		.ino = ino,
		.mode = S_IFREG | 0644,
		.nlink = 1,
		.uid = 1000,
		.gid = 1001,
		.mtime = (int64_t)ino * 10,
	};
}

static inline struct dirent_row entry_of(uint64_t parent, const char *name, uint64_t ino,
					 uint64_t cookie)
{
	struct dirent_row d = {
		.parent = parent,
		.ino = ino,
		.cookie = cookie,
		.type = S_IFREG,
		.name_len = (uint16_t)strlen(name),
	};

	snprintf(d.name, sizeof(d.name), "%s", name);
	return d;
}

static inline struct segment_row segment_of(uint32_t num)
{
	struct segment_row s = { .num = num, .keyno = 1, .code_k = 4, .state = SEGMENT_OPEN };

	memset(s.id, (int)num, sizeof(s.id));
	return s;
}

/* One file with its name; returns its number. */
static inline uint64_t make_file(struct meta *db, uint64_t parent, const char *name)
{
	struct node n = file_node(meta_next_ino(db));
	struct dirent_row d = entry_of(parent, name, n.ino, meta_next_cookie(db));

	ck_ok(node_put(db, &n, 0));
	ck_ok(dirent_insert(db, &d));
	return n.ino;
}

/* All replicated rows that are committed, as one string of bytes in order of key. */
static inline void dump(struct meta *db, struct buf *out)
{
	struct outbox_snapshot *s;
	struct buf part = { 0 };
	uint64_t seq;
	int rc;

	buf_reset(out);
	ck_ok(outbox_snapshot_open(db, &s, &seq));
	while ((rc = outbox_snapshot_next(s, 1 << 16, &part)) > 0)
		buf_put(out, part.p + 1, part.len - 1);
	ck_ok(rc);
	outbox_snapshot_close(s);
	buf_release(&part);
}

static inline void assert_same(const struct buf *a, const struct buf *b)
{
	ck_assert_uint_eq(a->len, b->len);
	ck_assert_int_eq(memcmp(a->p, b->p, a->len), 0);
}

/* ---- For faults and crashes ---- */

static inline int put_file(struct meta *db, uint64_t ino, const char *name)
{
	struct node n = file_node(ino);
	struct dirent_row d = entry_of(1, name, ino, ino + 100);
	int rc = node_put(db, &n, 0);

	if (!rc)
		rc = dirent_insert(db, &d);
	return rc == -EEXIST ? 0 : rc;
}

static inline int put_run(struct meta *db, uint64_t ino, uint64_t off, uint64_t len, uint32_t seg,
			  uint32_t first)
{
	struct run r = { .off = off, .len = len, .seg = seg, .first = first };
	struct segment_row s = segment_of(seg);
	int rc = segment_insert(db, &s);

	if (!rc || rc == -EEXIST)
		rc = run_clear(db, ino, off, len, 1000, NULL);
	return rc ? rc : run_insert(db, ino, &r, 1);
}

static inline struct meta *open_named(const char *name)
{
	char path[192];
	struct meta *db;

	snprintf(path, sizeof(path), "%s/%s.db", scratch, name);
	open_ok(path, 1, &db);
	meta_lock(db);
	return db;
}

static inline void close_other(struct meta *db)
{
	meta_unlock(db);
	ck_ok(meta_close(db));
}

static inline int apply_blob(void *arg, uint64_t seq, const void *blob, size_t n)
{
	ck_ok(outbox_apply(arg, blob, n));
	return 0;
}

/* What the outbox says is what the tables say, and sums are right: the same as in `control` (may be
 * NULL). */
static inline void assert_consistent(struct meta *control)
{
	static int copies;
	struct buf a = { 0 }, b = { 0 };
	struct meta_totals t, u;
	struct meta *copy;
	char text[64];

	snprintf(text, sizeof(text), "replica %d", copies++);
	copy = open_named(text);

	ck_ok(outbox_trim(copy, UINT64_MAX));
	ck_ok(outbox_each(m, 0, apply_blob, copy));
	ck_ok(meta_commit(copy));
	dump(m, &a);
	dump(copy, &b);
	assert_same(&a, &b);
	meta_totals(m, &t);
	meta_totals(copy, &u);
	ck_assert_uint_eq(t.bytes, u.bytes);
	ck_assert_uint_eq(t.inodes, u.inodes);
	if (control) {
		dump(control, &b);
		assert_same(&a, &b);
	}
	ck_ok(db_query_text(m->db, "PRAGMA integrity_check(1)", text, sizeof(text)));
	ck_assert_str_eq(text, "ok");
	close_other(copy);
	buf_release(&a);
	buf_release(&b);
}

#endif
