/* The shim's state: roots, log, control. Only raw system calls: the wrappers are for the others. */
#include "tests/tools/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define ROOTS_MAX 4096

static char roots[ROOTS_MAX];
static int log_fd = -1;
static struct shim_control *control;
static char crash_path[PATH_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void say_and_die(const char *what)
{
	(void)!syscall(SYS_write, 2, what, strlen(what));
	_exit(125);
}

static __thread sigset_t mask_before;

void shim_lock(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask_before);
	pthread_mutex_lock(&lock);
	while (control && __atomic_load_n(&control->die, __ATOMIC_SEQ_CST))
		syscall(SYS_kill, getpid(), SIGKILL);
}

void shim_unlock(void)
{
	pthread_mutex_unlock(&lock);
	pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
}

static void control_map(const char *path)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	long p;

	if (fd < 0)
		say_and_die("shim: the control file cannot be opened\n");
	p = syscall(SYS_mmap, NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == -1)
		say_and_die("shim: the control file cannot be mapped\n");
	control = (void *)p;
	syscall(SYS_close, fd);
}

/* Says in CONTROL.crash through which files the program came to its end, innermost first: a test
 * has to tell a bug here from one of a library. Allocates nothing. */
static void on_crash(int sig)
{
	void *at[32];
	int fd =
	    (int)syscall(SYS_openat, AT_FDCWD, crash_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	int n = backtrace(at, 32);

	for (int i = 0; fd >= 0 && i < n; i++) {
		Dl_info info;

		if (!dladdr(at[i], &info) || !info.dli_fname)
			continue;
		(void)!syscall(SYS_write, fd, info.dli_fname, strlen(info.dli_fname));
		(void)!syscall(SYS_write, fd, " ", 1);
		if (info.dli_sname)
			(void)!syscall(SYS_write, fd, info.dli_sname, strlen(info.dli_sname));
		(void)!syscall(SYS_write, fd, "\n", 1);
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

static void crash_watch(const char *control_path)
{
	void *at[2];

	if (snprintf(crash_path, sizeof(crash_path), "%s.crash", control_path) >=
	    (int)sizeof(crash_path))
		return;
	backtrace(at, 2); /* loads what it needs while there is memory */
	signal(SIGSEGV, on_crash);
	signal(SIGABRT, on_crash);
	signal(SIGBUS, on_crash);
}

__attribute__((constructor)) static void shim_start(void)
{
	const char *r = getenv("SKYFLOK_SHIM_ROOTS"), *l = getenv("SKYFLOK_SHIM_LOG"),
		   *c = getenv("SKYFLOK_SHIM_CONTROL");

	if (!r || strlen(r) >= sizeof(roots))
		return;
	pthread_atfork(shim_lock, shim_unlock, shim_unlock);
	if (l) {
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, l,
				      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		if (log_fd < 0)
			say_and_die("shim: the log cannot be opened\n");
	}
	memcpy(roots, r, strlen(r) + 1);
	if (c) {
		crash_watch(c);
		control_map(c);
	}
}

static int below(const char *path)
{
	for (const char *r = roots; *r;) {
		size_t n = strcspn(r, ":");

		if (n && !strncmp(path, r, n) && (path[n] == '/' || !path[n]))
			return 1;
		r += n + (r[n] == ':');
	}
	return 0;
}

static int idle(void)
{
	return log_fd < 0 && !control;
}

static int fd_path(int fd, char *out, size_t size)
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = syscall(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
	if (n <= 0)
		return 0;
	out[n] = 0;
	return 1;
}

void shim_stat(int fd, struct shim_target *t)
{
	struct stat st;

	t->dev = t->ino = 0;
	if (fd >= 0 ? fstat(fd, &st) : lstat(t->path, &st))
		return;
	t->dev = st.st_dev;
	t->ino = st.st_ino;
}

int shim_target(int fd, struct shim_target *t)
{
	int saved = errno, yes = 0;
	struct stat st;

	if (!idle() && fd >= 0 && !fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) &&
	    fd_path(fd, t->path, sizeof(t->path)) && below(t->path)) {
		t->dev = st.st_dev;
		t->ino = st.st_ino;
		yes = 1;
	}
	errno = saved;
	return yes;
}

/* Absolute; the program under test uses neither ".." nor links below the roots. */
static int whole_path(int dirfd, const char *path, char *out, size_t size)
{
	char dir[4096];
	int n;

	if (path[0] == '/') {
		n = snprintf(out, size, "%s", path);
	} else {
		if (dirfd == AT_FDCWD ? syscall(SYS_getcwd, dir, sizeof(dir)) <= 0
				      : !fd_path(dirfd, dir, sizeof(dir)))
			return 0;
		n = strcmp(path, ".") ? snprintf(out, size, "%s/%s", dir, path)
				      : snprintf(out, size, "%s", dir);
	}
	return n > 0 && (size_t)n < size;
}

/* "a//b" and "a/./b" are "a/b". */
static void tidy(char *p)
{
	char *to = p;

	for (char *from = p; *from;) {
		if (from[0] == '/' &&
		    (from[1] == '/' || (from[1] == '.' && (from[2] == '/' || !from[2])))) {
			from += from[1] == '/' ? 1 : 2;
			continue;
		}
		*to++ = *from++;
	}
	if (to > p + 1 && to[-1] == '/')
		to--;
	*to = 0;
}

int shim_target_at(int dirfd, const char *path, struct shim_target *t)
{
	int saved = errno, yes;

	if (idle() || !path)
		return 0;
	yes = whole_path(dirfd, path, t->path, sizeof(t->path));
	if (yes) {
		tidy(t->path);
		yes = below(t->path);
	}
	if (yes)
		shim_stat(-1, t);
	errno = saved;
	return yes;
}

int shim_fails(enum shim_class c)
{
	uint64_t k, n;

	if (!control || !(__atomic_load_n(&control->classes, __ATOMIC_RELAXED) & c))
		return 0;
	k = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
	n = __atomic_load_n(&control->n, __ATOMIC_SEQ_CST);
	if (!n || k < n || (k > n && !control->forever))
		return 0;
	__atomic_add_fetch(&control->fired, 1, __ATOMIC_SEQ_CST);
	return (int)control->error;
}

void shim_log(enum shim_op op, const struct shim_target *t, const char *path2, uint64_t a,
	      uint64_t b, const void *data, size_t n)
{
	struct shim_record r = {
		.magic = SHIM_MAGIC, .op = op, .dev = t->dev, .ino = t->ino, .a = a, .b = b
	};
	struct iovec iov[4];
	struct timespec now;
	int saved = errno;
	ssize_t want;

	if (log_fd < 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	r.ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	r.pid = (uint32_t)getpid();
	r.path_len = (uint32_t)strlen(t->path);
	r.path2_len = path2 ? (uint32_t)strlen(path2) : 0;
	r.data_len = (uint32_t)n;
	iov[0] = (struct iovec){ &r, sizeof(r) };
	iov[1] = (struct iovec){ (void *)t->path, r.path_len };
	iov[2] = (struct iovec){ (void *)path2, r.path2_len };
	iov[3] = (struct iovec){ (void *)data, n };
	want = (ssize_t)(sizeof(r) + r.path_len + r.path2_len + n);
	/* An incomplete log would prove nothing. */
	if (syscall(SYS_writev, log_fd, iov, 4) != want)
		say_and_die("shim: the log cannot be written\n");
	errno = saved;
}
