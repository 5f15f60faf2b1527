/* The wrappers of calls on files. Each: is it ours, is it to fail, do it, record it. */
#include "tests/tools/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RAW(...) syscall(__VA_ARGS__)

/* ---- open ---- */

static int open_seen(int dirfd, const char *path, int flags, mode_t mode, struct shim_target *t)
{
	uint64_t had = t->ino;
	int fd, error = shim_fails(SHIM_OPEN);

	if (error) {
		errno = error;
		return -1;
	}
	shim_lock();
	fd = (int)RAW(SYS_openat, dirfd, path, flags, mode);
	if (fd >= 0) {
		int saved = errno;

		shim_stat(fd, t);
		errno = saved;
		if ((flags & O_CREAT) && !had)
			shim_log(OP_CREATE, t, NULL, 0, 0, NULL, 0);
		else if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY)
			shim_log(OP_SIZE, t, NULL, 0, 0, NULL, 0);
	}
	shim_unlock();
	return fd;
}

static int open_any(int dirfd, const char *path, int flags, mode_t mode)
{
	struct shim_target t;

	flags |= O_LARGEFILE;
	if (!shim_target_at(dirfd, path, &t))
		return (int)RAW(SYS_openat, dirfd, path, flags, mode);
	return open_seen(dirfd, path, flags, mode, &t);
}

#define MODE_OF(flags)                                                                             \
	({                                                                                         \
		mode_t m_ = 0;                                                                     \
		if ((flags) & (O_CREAT | __O_TMPFILE)) {                                           \
			va_list ap_;                                                               \
			va_start(ap_, flags);                                                      \
			m_ = (mode_t)va_arg(ap_, mode_t);                                          \
			va_end(ap_);                                                               \
		}                                                                                  \
		m_;                                                                                \
	})

int open64(const char *path, int flags, ...)
{
	return open_any(AT_FDCWD, path, flags, MODE_OF(flags));
}

int openat64(int dirfd, const char *path, int flags, ...)
{
	return open_any(dirfd, path, flags, MODE_OF(flags));
}

/* What mkostemp of the library does, for its own open is not seen. */
int mkostemp64(char *name, int flags)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	size_t n = strlen(name);

	for (int tries = 0; n >= 6 && tries < 100; tries++) {
		unsigned char r[6];
		int fd;

		if (getrandom(r, sizeof(r), 0) != sizeof(r))
			return -1;
		for (size_t i = 0; i < 6; i++)
			name[n - 6 + i] = letters[r[i] % (sizeof(letters) - 1)];
		fd = open_any(AT_FDCWD, name, flags | O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	errno = EEXIST;
	return -1;
}

/* ---- content ---- */

static ssize_t write_seen(int fd, const void *p, size_t n, off_t off, int at_pos,
			  struct shim_target *t)
{
	static __thread int full_fd = -1; /* a disk that becomes full first takes a part */
	int error = full_fd == fd ? ENOSPC : shim_fails(SHIM_WRITE);
	ssize_t k;

	if (error == ENOSPC && full_fd != fd && n > 1) {
		full_fd = fd;
		n /= 2;
	} else if (error) {
		full_fd = -1;
		errno = error;
		return -1;
	}
	shim_lock();
	k = at_pos ? RAW(SYS_write, fd, p, n) : RAW(SYS_pwrite64, fd, p, n, off);
	if (k > 0) {
		if (at_pos)
			off = (off_t)RAW(SYS_lseek, fd, 0, SEEK_CUR) - k;
		shim_log(OP_WRITE, t, NULL, (uint64_t)off, 0, p, (size_t)k);
	}
	shim_unlock();
	return k;
}

ssize_t write(int fd, const void *p, size_t n)
{
	struct shim_target t;

	return shim_target(fd, &t) ? write_seen(fd, p, n, 0, 1, &t) : RAW(SYS_write, fd, p, n);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off_t off)
{
	struct shim_target t;

	return shim_target(fd, &t) ? write_seen(fd, p, n, off, 0, &t)
				   : RAW(SYS_pwrite64, fd, p, n, off);
}

/* The first piece only: a short write, as the caller has to expect. */
ssize_t writev(int fd, const struct iovec *iov, int count)
{
	struct shim_target t;

	if (count < 1 || !shim_target(fd, &t))
		return RAW(SYS_writev, fd, iov, count);
	while (count > 1 && !iov->iov_len)
		iov++, count--;
	return write_seen(fd, iov->iov_base, iov->iov_len, 0, 1, &t);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off_t off)
{
	struct shim_target t;

	if (count < 1 || !shim_target(fd, &t))
		return RAW(SYS_pwritev, fd, iov, count, off, 0);
	while (count > 1 && !iov->iov_len)
		iov++, count--;
	return write_seen(fd, iov->iov_base, iov->iov_len, off, 0, &t);
}

ssize_t pread64(int fd, void *p, size_t n, off_t off)
{
	struct shim_target t;
	int error = shim_target(fd, &t) ? shim_fails(SHIM_READ) : 0;

	if (error) {
		errno = error;
		return -1;
	}
	return RAW(SYS_pread64, fd, p, n, off);
}

ssize_t read(int fd, void *p, size_t n)
{
	struct shim_target t;
	int error = shim_target(fd, &t) ? shim_fails(SHIM_READ) : 0;

	if (error) {
		errno = error;
		return -1;
	}
	return RAW(SYS_read, fd, p, n);
}

int ftruncate64(int fd, off_t size)
{
	struct shim_target t;
	int rc, error;

	if (!shim_target(fd, &t))
		return (int)RAW(SYS_ftruncate, fd, size);
	error = shim_fails(SHIM_SIZE);
	if (error) {
		errno = error;
		return -1;
	}
	shim_lock();
	rc = (int)RAW(SYS_ftruncate, fd, size);
	if (!rc)
		shim_log(OP_SIZE, &t, NULL, (uint64_t)size, 0, NULL, 0);
	shim_unlock();
	return rc;
}

int fallocate64(int fd, int mode, off_t off, off_t len)
{
	struct shim_target t;
	int rc, error;

	if (!shim_target(fd, &t))
		return (int)RAW(SYS_fallocate, fd, mode, off, len);
	error = shim_fails(SHIM_SIZE);
	if (error) {
		errno = error;
		return -1;
	}
	shim_lock();
	rc = (int)RAW(SYS_fallocate, fd, mode, off, len);
	if (!rc && mode == 0)
		shim_log(OP_GROW, &t, NULL, (uint64_t)(off + len), 0, NULL, 0);
	else if (!rc && mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		shim_log(OP_ZERO, &t, NULL, (uint64_t)off, (uint64_t)len, NULL, 0);
	else if (!rc && mode != FALLOC_FL_KEEP_SIZE)
		shim_log(OP_BAD, &t, "fallocate", 0, 0, NULL, 0);
	shim_unlock();
	return rc;
}

int posix_fallocate64(int fd, off_t off, off_t len)
{
	int saved = errno, rc = fallocate64(fd, 0, off, len) ? errno : 0;

	errno = saved;
	return rc;
}

ssize_t copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
	struct shim_target t;

	if (shim_target(out, &t))
		shim_log(OP_BAD, &t, "copy_file_range", 0, 0, NULL, 0);
	return RAW(SYS_copy_file_range, in, in_off, out, out_off, n, flags);
}

/* SQLite's -shm is rebuilt after a crash. Nothing else may change a file by memory: the log would
 * not see it. */
void *mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	struct shim_target t;
	size_t len;

	if (fd < 0 && shim_fails(SHIM_ALLOC)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	if (fd >= 0 && (flags & MAP_SHARED) && (prot & PROT_WRITE) && shim_target(fd, &t)) {
		len = strlen(t.path);
		if (len < 4 || strcmp(t.path + len - 4, "-shm"))
			shim_log(OP_BAD, &t, "mmap", 0, 0, NULL, 0);
	}
	return (void *)RAW(SYS_mmap, at, n, prot, flags, fd, off);
}

/* ---- syncs ---- */

static int sync_seen(int fd, long call)
{
	static uint64_t last;
	struct shim_target t;
	uint64_t number;
	int rc, error;

	if (!shim_target(fd, &t))
		return (int)RAW(call, fd);
	number = __atomic_add_fetch(&last, 1, __ATOMIC_SEQ_CST);
	error = shim_fails(SHIM_SYNC);
	shim_lock();
	shim_log(OP_SYNC, &t, NULL, number, 0, NULL, 0);
	shim_unlock();
	rc = error ? -1 : (int)RAW(call, fd);
	if (error)
		errno = error;
	shim_lock();
	shim_log(OP_SYNCED, &t, NULL, number, rc ? (uint64_t)errno : 0, NULL, 0);
	shim_unlock();
	return rc;
}

int fsync(int fd)
{
	return sync_seen(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return sync_seen(fd, SYS_fdatasync);
}

/* ---- names ---- */

/* 1 when it failed on purpose. */
static int name_fails(void)
{
	int error = shim_fails(SHIM_NAME);

	errno = error ? error : errno;
	return error != 0;
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
	struct shim_target t;
	int rc;

	if (!shim_target_at(dirfd, path, &t))
		return (int)RAW(SYS_mkdirat, dirfd, path, mode);
	if (name_fails())
		return -1;
	shim_lock();
	rc = (int)RAW(SYS_mkdirat, dirfd, path, mode);
	if (!rc) {
		shim_stat(-1, &t);
		shim_log(OP_MKDIR, &t, NULL, 0, 0, NULL, 0);
	}
	shim_unlock();
	return rc;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int dirfd, const char *path, int flags)
{
	struct shim_target t;
	int rc;

	if (!shim_target_at(dirfd, path, &t))
		return (int)RAW(SYS_unlinkat, dirfd, path, flags);
	if (name_fails())
		return -1;
	shim_lock();
	rc = (int)RAW(SYS_unlinkat, dirfd, path, flags);
	if (!rc)
		shim_log(flags & AT_REMOVEDIR ? OP_RMDIR : OP_UNLINK, &t, NULL, 0, 0, NULL, 0);
	shim_unlock();
	return rc;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int remove(const char *path)
{
	int rc = unlink(path);

	return rc && errno == EISDIR ? rmdir(path) : rc;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	struct shim_target a, b;
	int rc;

	if (!shim_target_at(from_dir, from, &a) || !shim_target_at(to_dir, to, &b))
		return (int)RAW(SYS_renameat2, from_dir, from, to_dir, to, flags);
	if (name_fails())
		return -1;
	shim_lock();
	rc = (int)RAW(SYS_renameat2, from_dir, from, to_dir, to, flags);
	if (!rc)
		shim_log(flags & ~1u /* RENAME_NOREPLACE */ ? OP_BAD : OP_RENAME, &a, b.path, 0, 0,
			 NULL, 0);
	shim_unlock();
	return rc;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	struct shim_target t;
	int rc;

	if (!shim_target_at(to_dir, to, &t))
		return (int)RAW(SYS_linkat, from_dir, from, to_dir, to, flags);
	if (name_fails())
		return -1;
	shim_lock();
	rc = (int)RAW(SYS_linkat, from_dir, from, to_dir, to, flags);
	if (!rc) {
		shim_stat(-1, &t);
		shim_log(OP_LINK, &t, NULL, 0, 0, NULL, 0);
	}
	shim_unlock();
	return rc;
}

int link(const char *from, const char *to)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}
