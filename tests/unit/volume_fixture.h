/* What the suites of the volume share: a scratch folder, a database, a fake segment store, a
 * volume, and blocking wrappers of its asynchronous functions. */
#ifndef TESTS_UNIT_VOLUME_FIXTURE_H
#define TESTS_UNIT_VOLUME_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/data/volume.h"
#include "fs/meta/run.h"
#include "tests/unit/fake_segstore.h"

#define EXTENT 4096u

static char scratch[64], db_path[96], store_path[96];
static struct meta *m;
static struct segstore *st;
static struct volume *v;
static struct fake_opts fopts;
static struct volume_opts vopts;
static const uint8_t drive_id[16] = { 1, 2, 3 };
static const struct cred root_cred = { .umask = 022 };

static inline void ok_at(int rc, const char *what, int line)
{
	if (rc)
		ck_abort_msg("line %d: %s: %s", line, what, strerror(rc < 0 ? -rc : rc));
}
#define ck_ok(call)       ok_at((call), #call, __LINE__)
#define ck_err(call, err) ck_assert_int_eq((call), -(err))

static inline void scratch_make(void)
{
	log_set_level(LOG_LV_ERROR);
	snprintf(scratch, sizeof(scratch), "/tmp/check_volume.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(scratch));
	snprintf(db_path, sizeof(db_path), "%s/meta.db", scratch);
	snprintf(store_path, sizeof(store_path), "%s/store", scratch);
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

static inline void meta_up(int create)
{
	struct meta_opts o = { .drive = drive_id, .create = create, .root_mode = S_IFDIR | 0755 };
	struct err e = { 0 };

	if (meta_open(db_path, &o, &m, &e))
		ck_abort_msg("%s", e.text);
}

/* vopts and fopts may have been filled before. */
static inline void volume_up(void)
{
	struct err e = { 0 };

	fopts.meta = m;
	if (!st)
		st = fake_create(&fopts);
	vopts.meta = m;
	if (!vopts.extent_max)
		vopts.extent_max = EXTENT;
	ck_ok(volume_create(&vopts, &v, &e));
	ck_ok(volume_start(v, st, &e));
}

static inline void up(void)
{
	scratch_make();
	meta_up(1);
	volume_up();
}

static inline void volume_down(int expected)
{
	ck_assert_int_eq(volume_stop(v), expected);
	volume_destroy(v);
	v = NULL;
}

static inline void down(void)
{
	if (v)
		volume_down(0);
	meta_close(m);
	ck_assert_int_eq(fake_destroy(st), 0); /* every reference was given back */
	m = NULL, st = NULL;
	memset(&vopts, 0, sizeof(vopts));
	memset(&fopts, 0, sizeof(fopts));
	scratch_remove();
}

/* A clean unmount and mount, the same store. */
static inline void remount(void)
{
	volume_down(0);
	fopts.meta = NULL;
	ck_ok(meta_close(m));
	meta_up(0);
	ck_assert_int_eq(fake_destroy(st), 0);
	st = NULL;
	volume_up();
}

/* --- waiting --- */

struct wait {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int done, result;
};

static inline void wait_init(struct wait *w)
{
	*w = (struct wait){ 0 };
	pthread_mutex_init(&w->lock, NULL);
	cond_init_mono(&w->cond);
}

static inline void wait_done(void *arg, int result)
{
	struct wait *w = arg;

	pthread_mutex_lock(&w->lock);
	w->done++;
	w->result = result;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

/* rc of the call; its result. */
static inline int wait_for(struct wait *w, int rc)
{
	if (rc == -EINPROGRESS) {
		pthread_mutex_lock(&w->lock);
		while (!w->done)
			if (cond_wait_until(&w->cond, &w->lock, clock_mono_ns() + 60 * NS_PER_S))
				break;
		rc = w->done ? w->result : -ETIME;
		pthread_mutex_unlock(&w->lock);
	}
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->cond);
	return rc;
}

static inline int do_write(uint64_t ino, uint64_t off, const void *buf, size_t len)
{
	struct wait w;

	wait_init(&w);
	return wait_for(&w, volume_write(v, ino, off, buf, len, 0, &root_cred, wait_done, &w));
}

static inline int do_read(uint64_t ino, uint64_t off, void *buf, size_t len, size_t *got)
{
	struct read_op *op;
	struct wait w;

	wait_init(&w);
	return wait_for(&w, volume_read(v, ino, off, buf, len, got, &op, wait_done, &w));
}

static inline int do_fsync(uint64_t ino)
{
	struct wait w;

	wait_init(&w);
	return wait_for(&w, volume_fsync(v, ino, 0, wait_done, &w));
}

static inline int do_rename(uint64_t p, const char *name, uint64_t q, const char *new_name,
			    unsigned flags)
{
	struct wait w;

	wait_init(&w);
	return wait_for(&w, volume_rename(v, p, name, q, new_name, flags, wait_done, &w));
}

static inline uint64_t do_create(uint64_t parent, const char *name)
{
	struct entry e;

	ok_at(volume_mknod(v, parent, name, S_IFREG | 0644, 0, &root_cred, &e), name, __LINE__);
	return e.st.st_ino;
}

static inline uint64_t do_mkdir(uint64_t parent, const char *name)
{
	struct entry e;

	ok_at(volume_mkdir(v, parent, name, 0755, &root_cred, &e), name, __LINE__);
	return e.st.st_ino;
}

static inline int do_lookup(uint64_t parent, const char *name, uint64_t *ino)
{
	struct entry e;
	int rc = volume_lookup(v, parent, name, &e);

	if (!rc)
		*ino = e.st.st_ino;
	return rc;
}

static inline int do_truncate(uint64_t ino, uint64_t size)
{
	struct stat s = { .st_size = (off_t)size };

	return volume_setattr(v, ino, &s, VOL_SET_SIZE, NULL, &s);
}

static inline struct stat do_stat(uint64_t ino)
{
	struct stat s;

	ok_at(volume_getattr(v, ino, &s), "getattr", __LINE__);
	return s;
}

/* Waits until cond() or 20 s are over. */
#define eventually(cond)                                                                           \
	do {                                                                                       \
		int64_t until_ = clock_mono_ns() + 20 * NS_PER_S;                                  \
		while (!(cond) && clock_mono_ns() < until_)                                        \
			usleep(1000);                                                              \
		ck_assert_msg((cond), #cond);                                                      \
	} while (0)

#endif
