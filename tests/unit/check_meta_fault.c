/* fs/meta when disk or memory fail. Faults come from a VFS
 * put under SQLite through db_vfs, from SQLite's allocator, and from failpoints. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "tests/unit/meta_fixture.h"

/* ---- The failing VFS ---- */

enum op { OP_READ, OP_WRITE, OP_SYNC, OP_SHM, OPS };

/* The n-th operation of a kind (1: the next) gives `code`, `times` times (0: for ever). Set while
 * nobody else uses the database. */
static struct {
	enum op op;
	int wal_only, at, times, code;
	int fired;
} fault;

struct shim_file {
	sqlite3_file base;
	int wal;
	sqlite3_file *real;
};

static sqlite3_vfs shim;
static sqlite3_io_methods shim_methods;

static int hit(sqlite3_file *f, enum op op)
{
	if (!fault.at || op != fault.op || (fault.wal_only && !((struct shim_file *)f)->wal))
		return SQLITE_OK;
	if (fault.at > 1) {
		fault.at--;
		return SQLITE_OK;
	}
	fault.fired++;
	if (fault.times && !--fault.times)
		fault.at = 0;
	return fault.code;
}

static void set_fault(enum op op, int wal_only, int at, int times, int code)
{
	fault.op = op;
	fault.wal_only = wal_only;
	fault.at = at;
	fault.times = times;
	fault.code = code;
	fault.fired = 0;
}

#define REAL(f) (((struct shim_file *)(f))->real)

static int f_close(sqlite3_file *f)
{
	return REAL(f)->pMethods->xClose(REAL(f));
}
static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
	int rc = hit(f, OP_READ);

	return rc ? rc : REAL(f)->pMethods->xRead(REAL(f), p, n, off);
}
static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
	int rc = hit(f, OP_WRITE);

	return rc ? rc : REAL(f)->pMethods->xWrite(REAL(f), p, n, off);
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	return REAL(f)->pMethods->xTruncate(REAL(f), n);
}
static int f_sync(sqlite3_file *f, int flags)
{
	int rc = hit(f, OP_SYNC);

	return rc ? rc : REAL(f)->pMethods->xSync(REAL(f), flags);
}
static int f_size(sqlite3_file *f, sqlite3_int64 *n)
{
	return REAL(f)->pMethods->xFileSize(REAL(f), n);
}
static int f_lock(sqlite3_file *f, int level)
{
	return REAL(f)->pMethods->xLock(REAL(f), level);
}
static int f_unlock(sqlite3_file *f, int level)
{
	return REAL(f)->pMethods->xUnlock(REAL(f), level);
}
static int f_reserved(sqlite3_file *f, int *out)
{
	return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}
static int f_control(sqlite3_file *f, int op, void *arg)
{
	return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}
static int f_sector(sqlite3_file *f)
{
	return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int f_device(sqlite3_file *f)
{
	return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **pp)
{
	int rc = hit(f, OP_SHM);

	return rc ? rc : REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, pp);
}
static int f_shm_lock(sqlite3_file *f, int off, int n, int flags)
{
	return REAL(f)->pMethods->xShmLock(REAL(f), off, n, flags);
}
static void f_shm_barrier(sqlite3_file *f)
{
	REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int f_shm_unmap(sqlite3_file *f, int flags)
{
	return REAL(f)->pMethods->xShmUnmap(REAL(f), flags);
}

static sqlite3_io_methods shim_methods = {
	.iVersion = 2,
	.xClose = f_close,
	.xRead = f_read,
	.xWrite = f_write,
	.xTruncate = f_truncate,
	.xSync = f_sync,
	.xFileSize = f_size,
	.xLock = f_lock,
	.xUnlock = f_unlock,
	.xCheckReservedLock = f_reserved,
	.xFileControl = f_control,
	.xSectorSize = f_sector,
	.xDeviceCharacteristics = f_device,
	.xShmMap = f_shm_map,
	.xShmLock = f_shm_lock,
	.xShmBarrier = f_shm_barrier,
	.xShmUnmap = f_shm_unmap,
};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
	sqlite3_vfs *real = vfs->pAppData;
	struct shim_file *f = (struct shim_file *)file;
	int rc;

	f->wal = !!(flags & SQLITE_OPEN_WAL);
	f->real = (sqlite3_file *)(f + 1);
	rc = real->xOpen(real, name, f->real, flags, out);
	file->pMethods = f->real->pMethods ? &shim_methods : NULL;
	return rc;
}

/* ---- The failing allocator of SQLite ---- */

static sqlite3_mem_methods mem_real;
static int mem_at; /* the n-th allocation from now fails, once; 0: none */
static pthread_t mem_thread;

static int mem_always;

static int mem_fails(void)
{
	if (mem_always && pthread_equal(mem_thread, pthread_self()))
		return 1;
	if (!mem_at || !pthread_equal(mem_thread, pthread_self()))
		return 0;
	return !--mem_at;
}
static void *mem_alloc(int n)
{
	return mem_fails() ? NULL : mem_real.xMalloc(n);
}
static void *mem_resize(void *p, int n)
{
	return mem_fails() ? NULL : mem_real.xRealloc(p, n);
}

static void install(void)
{
	sqlite3_mem_methods mem;
	sqlite3_vfs *real;

	mem_thread = pthread_self();
	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &mem_real);
	mem = mem_real;
	mem.xMalloc = mem_alloc;
	mem.xRealloc = mem_resize;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &mem);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	real = sqlite3_vfs_find(NULL);
	shim = *real;
	shim.zName = "failing";
	shim.szOsFile = (int)sizeof(struct shim_file) + real->szOsFile;
	shim.pAppData = real;
	shim.xOpen = shim_open;
	sqlite3_vfs_register(&shim, 0);
	db_vfs = "failing";
}

static void fault_set_up(void)
{
	mem_thread = pthread_self(); /* of the forked test */
	set_up();
}

static void fault_tear_down(void)
{
	fault.at = 0;
	mem_at = 0;
	tear_down();
}

/* ---- Work that can be compared ---- */

static unsigned rnd;

static unsigned next_random(unsigned below)
{
	rnd = rnd * 1103515245u + 12345u;
	return (rnd >> 8) % below;
}

static int remove_file(struct meta *db, uint64_t ino, const char *name)
{
	int rc = dirent_delete(db, 1, name, strlen(name));

	if (!rc || rc == -ENOENT)
		rc = run_clear(db, ino, 0, UINT64_MAX, 1000, NULL);
	if (!rc)
		rc = node_delete(db, ino);
	return rc == -ENOENT ? 0 : rc;
}

/* One step of a fixed sequence: the same on every database, and doing it again does no harm. */
static int step(struct meta *db, unsigned i)
{
	char name[32];
	uint64_t ino;
	struct coding_row c = { .seg = 1, .k = 4, .m = 2, .state = CODING_UPLOADING };
	int rc;

	rnd = i * 7919;
	ino = 10 + next_random(30);
	snprintf(name, sizeof(name), "file %u", (unsigned)ino);
	switch (next_random(8)) {
	case 0:
	case 1:
		return put_file(db, ino, name);
	case 2:
		return remove_file(db, ino, name);
	case 3:
		return xattr_put(db, ino, name, name, strlen(name));
	case 4:
		c.set[0] = (uint8_t)ino;
		rc = coding_insert(db, &c);
		return !rc || rc == -EEXIST ? coding_set_present(db, c.set, i, 0) : rc;
	case 5:
		return meta_local_put(db, name, &i, sizeof(i));
	default:
		return put_run(db, ino, next_random(20) * 50, 1 + next_random(300),
			       1 + next_random(4), i);
	}
}

/* Cookies given differ between runs that failed and ones that did not; orders of codings follow. */
static void align_numbers(struct meta *a, struct meta *b)
{
	for (int i = 0; i < ALLOC_KINDS; i++) {
		a->alloc[i] = b->alloc[i] =
		    (struct alloc){ .next = 1 << 20, .local_high = 1 << 30, .drive_high = 1 << 30 };
	}
}

static void copy_root(struct meta *to)
{
	struct node root;

	ck_ok(node_get(m, 1, &root));
	ck_ok(node_put(to, &root, 0));
}

/* ---- Full disk ---- */

static int ballast_is_there(void)
{
	struct stat st;

	return !stat(m->ballast, &st);
}

START_TEST(full_disk_loses_nothing)
{
	struct meta *control = open_named("control");
	struct node n;

	copy_root(control);
	align_numbers(m, control);
	for (unsigned i = 0; i < 50; i++) {
		ck_ok(step(m, i));
		ck_ok(step(control, i));
	}
	ck_ok(meta_commit(m));
	ck_assert(ballast_is_there());
	set_fault(OP_WRITE, 1, 2, 0, SQLITE_FULL);
	for (unsigned i = 50; i < 200; i++) {
		ck_ok(step(m, i)); /* goes on in memory, and what is there can be read */
		ck_ok(step(control, i));
		if (i % 20 == 0) {
			ck_assert_int_eq(meta_commit(m), -ENOSPC);
			ck_assert_int_eq(meta_dirty(m), 1);
			ck_assert(!ballast_is_there());
		}
	}
	ck_ok(put_file(m, 999, "while full"));
	ck_ok(put_file(control, 999, "while full"));
	ck_assert_int_eq(meta_commit(m), -ENOSPC);
	ck_ok(node_get(m, 999, &n));
	ck_assert_int_eq(meta_failed(m), 0);
	ck_assert_int_gt(fault.fired, 9);
	fault.at = 0;
	ck_ok(meta_commit(m));
	ck_ok(meta_commit(control));
	assert_consistent(control);
	close_other(control);
	meta_unlock(m);
	ck_ok(meta_wal_sync(m));
	meta_lock(m);
	ck_assert(ballast_is_there());
	reopen();
	ck_ok(node_get(m, 999, &n));
}
END_TEST

/* Each single write of a run fails once: the ballast is freed, the transaction applied again. */
START_TEST(every_write_may_find_a_full_disk)
{
	struct meta *control = open_named("control");
	int fired = 1;

	copy_root(control);
	align_numbers(m, control);
	ck_ok(meta_commit(m));
	for (unsigned i = 0; i < 40; i++)
		ck_ok(step(control, i));
	ck_ok(meta_commit(control));
	for (int at = 1; fired; at++) {
		set_fault(OP_WRITE, 1, at, 1, SQLITE_FULL);
		for (unsigned i = 0; i < 40; i++) {
			ck_ok(step(m, i));
			if (i % 8 == 7)
				ck_ok(meta_commit(m));
		}
		fired = fault.fired;
		fault.at = 0;
		ck_ok(meta_commit(m));
		ck_assert_int_eq(ballast_is_there(), !fired);
		ballast_make(m);
		if (at > 3)
			at += 3; /* some pages later */
	}
	/* The last round had no fault, and every round ends alike. */
	{
		struct buf a = { 0 }, b = { 0 };

		dump(m, &a);
		dump(control, &b);
		ck_assert_uint_eq(a.len, b.len);
		buf_release(&a);
		buf_release(&b);
	}
	close_other(control);
	assert_consistent(NULL);
}
END_TEST

START_TEST(shared_memory_may_not_grow)
{
	ck_ok(put_file(m, 50, "a"));
	ck_ok(meta_commit(m));
	set_fault(OP_SHM, 0, 1, 2, SQLITE_IOERR_SHMSIZE);
	for (int i = 0; i < 5000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file %d", i);
		ck_ok(put_file(m, 100 + (uint64_t)i, name));
		if (i % 10 == 0) {
			int rc = meta_commit(m);

			ck_assert(!rc || rc == -ENOSPC);
		}
	}
	ck_ok(meta_commit(m));
	ck_assert_int_eq(meta_failed(m), 0);
	assert_consistent(NULL);
}
END_TEST

START_TEST(failpoint_stands_for_a_full_disk)
{
	struct node n;

	failpoint_load("meta.commit=ENOSPC@1*2");
	ck_ok(put_file(m, 50, "a"));
	ck_assert_int_eq(meta_commit(m), -ENOSPC);
	ck_ok(node_get(m, 50, &n));
	ck_ok(meta_commit(m));
	failpoint_load("meta.commit=EIO");
	ck_ok(put_file(m, 51, "b"));
	ck_assert_int_eq(meta_commit(m), -EIO);
	ck_assert_int_eq(meta_failed(m), 1);
	ck_ok(node_get(m, 51, &n));
	ck_assert_int_eq(meta_commit(m), -EROFS);
	ck_assert_int_eq(put_file(m, 52, "c"), -EROFS);
}
END_TEST

START_TEST(trims_are_applied_again)
{
	uint64_t last;

	ck_ok(put_file(m, 50, "a"));
	ck_ok(meta_commit(m));
	last = outbox_last(m);
	ck_ok(put_file(m, 51, "b"));
	ck_ok(outbox_trim(m, last));
	failpoint_load("meta.commit=ENOSPC@1*2");
	ck_assert_int_eq(meta_commit(m), -ENOSPC);
	ck_ok(meta_commit(m));
	ck_assert_uint_eq(outbox_count(m), 1);
	reopen();
	ck_assert_uint_eq(outbox_count(m), 1);
	{
		int64_t rows;

		ck_ok(db_query_int(m->db, "SELECT count(*) FROM outbox", &rows));
		ck_assert_int_eq(rows, 1);
	}
}
END_TEST

/* ---- Disk errors ---- */

START_TEST(errors_are_sticky_and_reads_go_on)
{
	struct node n;

	ck_ok(put_file(m, 50, "committed"));
	ck_ok(meta_commit(m));
	ck_ok(put_file(m, 51, "not committed"));
	set_fault(OP_WRITE, 1, 1, 0, SQLITE_IOERR_WRITE);
	ck_assert_int_eq(meta_commit(m), -EIO);
	ck_assert_int_eq(meta_failed(m), 1);
	ck_assert_int_eq(put_file(m, 52, "late"), -EROFS);
	ck_assert_int_eq(meta_local_put(m, "a", "b", 1), -EROFS);
	ck_assert_int_eq(outbox_trim(m, 1), -EROFS);
	ck_assert_int_eq(meta_commit(m), -EROFS);
	ck_ok(node_get(m, 50, &n));
	ck_ok(node_get(m, 51, &n));
	fault.at = 0;
	meta_unlock(m);
	ck_assert_int_eq(meta_wal_sync(m), -EIO);
	ck_assert_int_eq(meta_close(m), -EIO);
	open_ok(db_path, 0, &m);
	meta_lock(m);
	ck_ok(node_get(m, 50, &n));
	ck_assert_int_eq(node_get(m, 51, &n), -ENOENT);
	assert_consistent(NULL);
}
END_TEST

/* Wherever reading or writing fails, what was committed before is there afterwards, and nothing
 * that is half. */
START_TEST(any_operation_may_fail)
{
	static const struct {
		enum op op;
		int code;
	} kinds[] = { { OP_WRITE, SQLITE_IOERR_WRITE }, { OP_READ, SQLITE_IOERR_READ } };
	unsigned from = 0;
	int fired[ARRAY_LEN(kinds)] = { 0 };

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		for (int at = 1; at < 400; at = at * 2 + 1) {
			int rc = 0;

			ck_ok(meta_commit(m));
			db_exec(m->db, "PRAGMA shrink_memory");
			set_fault(kinds[k].op, 0, at, 1, kinds[k].code);
			for (unsigned i = from; i < from + 60 && !rc; i++) {
				rc = step(m, i);
				if (!rc && i % 10 == 9)
					rc = meta_commit(m);
			}
			fault.at = 0;
			fired[k] += fault.fired;
			ck_assert(!rc || rc == -EIO || rc == -EROFS);
			ck_assert(!rc || meta_failed(m));
			from += 60;
			meta_unlock(m);
			meta_close(m);
			open_ok(db_path, 0, &m);
			meta_lock(m);
			if (at % 7 == 0)
				assert_consistent(NULL);
		}
		ck_assert_int_gt(fired[k], 0);
	}
	assert_consistent(NULL);
}
END_TEST

/* How far the log was written anew, and synced, before anything else was done with it. */
static uint64_t resynced;

int __real_file_resync(int fd, uint64_t n);
int __wrap_file_resync(int fd, uint64_t n);
int __wrap_file_resync(int fd, uint64_t n)
{
	int rc = __real_file_resync(fd, n);

	resynced += rc ? 0 : n;
	return rc;
}

START_TEST(a_failed_sync_is_final)
{
	struct stat main_before, main_after, wal;
	char path[128];
	struct node n;

	snprintf(path, sizeof(path), "%s-wal", db_path);
	reopen();
	ck_ok(put_file(m, 50, "a"));
	ck_ok(meta_commit(m));
	meta_unlock(m);
	ck_ok(stat(db_path, &main_before));
	failpoint_load("meta.wal.sync=EIO");
	ck_assert_int_eq(meta_wal_sync(m), -EIO);
	ck_assert_uint_eq(failpoint_count("meta.wal.sync"), 1);
	ck_assert_int_eq(meta_failed(m), 1);
	ck_assert_int_eq(meta_wal_sync(m), -EIO); /* not tried again */
	ck_assert_uint_eq(failpoint_count("meta.wal.sync"), 1);
	meta_lock(m);
	ck_assert_int_eq(put_file(m, 51, "b"), -EROFS);
	ck_ok(node_get(m, 50, &n));
	meta_unlock(m);
	ck_assert_int_eq(meta_close(m), -EIO);
	/* No checkpoint: the main file is as it was, the log has what it had. */
	ck_ok(stat(db_path, &main_after));
	ck_assert_int_eq(main_before.st_mtim.tv_nsec, main_after.st_mtim.tv_nsec);
	ck_assert_int_eq(main_before.st_size, main_after.st_size);
	ck_ok(stat(path, &wal));
	ck_assert_int_gt(wal.st_size, 4096);
	/* The next one does not build on what may stand in memory only. */
	resynced = 0;
	open_ok(db_path, 0, &m);
	ck_assert_uint_eq(resynced, (uint64_t)wal.st_size);
	ck_ok(meta_close(m));
	open_ok(db_path, 0, &m);
	ck_assert_uint_eq(resynced, (uint64_t)wal.st_size); /* after a clean end there is none */
	meta_lock(m);
}
END_TEST

START_TEST(a_deleted_log_is_noticed)
{
	char path[128];

	snprintf(path, sizeof(path), "%s-wal", db_path);
	ck_ok(put_file(m, 50, "a"));
	ck_ok(meta_commit(m));
	meta_unlock(m);
	unlink(path);
	ck_assert_int_eq(meta_wal_sync(m), -EIO);
	ck_assert_int_eq(meta_failed(m), 1);
	meta_lock(m);
}
END_TEST

/* ---- Memory ---- */

START_TEST(memory_may_run_out_anywhere)
{
	struct meta *control = open_named("control");
	int refused = 0;

	copy_root(control);
	align_numbers(m, control);
	for (unsigned i = 0; i < 400; i++) {
		int rc;

		/* In time to hit everything from the first allocation of a step to the COMMIT. */
		mem_at = 1 + (int)(i % 37);
		rc = step(m, i);
		if (rc == -ENOMEM) {
			refused++;
			mem_at = 0;
			rc = step(m, i);
		}
		ck_ok(rc);
		if (i % 7 == 0) {
			rc = meta_commit(m);
			if (rc == -ENOMEM) {
				mem_at = 0;
				rc = meta_commit(m);
			}
			ck_ok(rc);
		}
		mem_at = 0;
		ck_ok(step(control, i));
		/* A cache that is empty allocates again. */
		if (i % 5 == 0)
			sqlite3_db_release_memory(m->db);
	}
	ck_assert_int_eq(meta_failed(m), 0);
	ck_ok(meta_commit(m));
	ck_ok(meta_commit(control));
	/* Numbers taken by tries that failed: the orders of codings. Compare all but those. */
	{
		struct meta_totals t, u;

		meta_totals(m, &t);
		meta_totals(control, &u);
		ck_assert_uint_eq(t.bytes, u.bytes);
		ck_assert_uint_eq(t.inodes, u.inodes);
	}
	close_other(control);
	assert_consistent(NULL);
	failpoint_load("meta.reserve=ENOMEM@1*0");
	ck_assert_int_eq(put_file(m, 5000, "x"), -ENOMEM);
	ck_assert_int_eq(meta_dirty(m), 0);
}
END_TEST

/* No memory at all, not even to apply the transaction again: nothing can be read then, and nothing
 * is lost when there is some. */
START_TEST(memory_may_be_away_for_a_while)
{
	struct node n;

	ck_ok(put_file(m, 50, "committed"));
	ck_ok(meta_commit(m));
	for (int i = 0; i < 50; i++) {
		char name[32];

		snprintf(name, sizeof(name), "f%d", i);
		ck_ok(put_file(m, 100 + (uint64_t)i, name));
	}
	sqlite3_db_release_memory(m->db);
	tx_finalize(m); /* so that each statement needs memory */
	mem_always = 1;
	ck_assert_int_eq(node_get(m, 120, &n), -ENOMEM);
	ck_assert_int_eq(put_file(m, 500, "late"), -ENOMEM);
	ck_assert_int_eq(meta_commit(m), -ENOMEM);
	mem_always = 0;
	ck_ok(node_get(m, 120, &n));
	ck_ok(node_get(m, 50, &n));
	ck_assert_int_eq(meta_dirty(m), 1);
	ck_ok(meta_commit(m));
	ck_assert_int_eq(meta_failed(m), 0);
	reopen();
	ck_ok(node_get(m, 149, &n));
	assert_consistent(NULL);
}
END_TEST

START_TEST(opening_without_memory)
{
	struct err e = { 0 };
	int failed = 0;

	close_db();
	for (int at = 1;; at++) {
		int rc;

		mem_at = at;
		rc = open_at(db_path, 0, 0, &m, &e);
		if (!rc && mem_at) { /* was not reached any more */
			mem_at = 0;
			break;
		}
		mem_at = 0;
		if (rc) {
			ck_assert_ptr_null(m);
			failed++;
		} else {
			meta_close(m);
			m = NULL;
		}
		at += at / 20;
	}
	ck_assert_int_gt(failed, 20);
	meta_lock(m);
	ck_ok(put_file(m, 50, "a"));
	ck_ok(meta_commit(m));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("meta_fault");
	TCase *disk = tcase_create("disk"), *memory = tcase_create("memory");

	tcase_add_checked_fixture(disk, fault_set_up, fault_tear_down);
	tcase_add_checked_fixture(memory, fault_set_up, fault_tear_down);
	tcase_set_timeout(disk, 100);
	tcase_set_timeout(memory, 100);
	tcase_add_test(disk, full_disk_loses_nothing);
	tcase_add_test(disk, every_write_may_find_a_full_disk);
	tcase_add_test(disk, shared_memory_may_not_grow);
	tcase_add_test(disk, failpoint_stands_for_a_full_disk);
	tcase_add_test(disk, trims_are_applied_again);
	tcase_add_test(disk, errors_are_sticky_and_reads_go_on);
	tcase_add_test(disk, any_operation_may_fail);
	tcase_add_test(disk, a_failed_sync_is_final);
	tcase_add_test(disk, a_deleted_log_is_noticed);
	tcase_add_test(memory, memory_may_run_out_anywhere);
	tcase_add_test(memory, memory_may_be_away_for_a_while);
	tcase_add_test(memory, opening_without_memory);
	suite_add_tcase(s, disk);
	suite_add_tcase(s, memory);
	return s;
}

int main(void)
{
	SRunner *r;
	int failed;

	install();
	r = srunner_create(suite());
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
