/* posix_check FOLDER: what programs expect of a folder, checked item by item.
 *
 * Prints "ok N - ..." and "not ok N - ..." lines, "skip - ..." with a reason, and last "N passed,
 * N failed". Exits 0 when nothing failed. As root it checks more (other users, devices, handles).
 * FOLDER should be empty and reachable by all users. An argument after it chooses checks by name.
 */
#include "tests/system/posix_check.h"

#include <dirent.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <time.h>

#define FUSE_MAGIC 0x65735546
enum { TIME_LIMIT_S = 150 };

static struct shared {
	atomic_int passed, failed, skipped;
} * shared;
static const char *current = "";
static int fuse;

int ok_at(int cond, const char *file, int line, const char *fmt, ...)
{
	const char *base = strrchr(file, '/');
	int saved = errno;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	int n = cond ? ++shared->passed : ++shared->failed;

	n += cond ? shared->failed : shared->passed;
	if (cond)
		printf("ok %d - %s: %s\n", n, current, text);
	else
		printf("not ok %d - %s: %s (%s:%d, errno %d %s)\n", n, current, text,
		       base ? base + 1 : file, line, saved, strerror(saved));
	return cond;
}

void skip(const char *what, const char *why)
{
	shared->skipped++;
	printf("skip - %s: %s: %s\n", current, what, why);
}

int on_fuse(void)
{
	return fuse;
}

int is_root(void)
{
	return !geteuid();
}

static int status_of(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

pid_t spawn(void (*fn)(void))
{
	pid_t pid = fork();

	if (pid)
		return pid;
	fn();
	fflush(stdout);
	_exit(0);
}

int reap(pid_t pid)
{
	return status_of(pid);
}

int as_user(uid_t uid, void (*fn)(void))
{
	pid_t pid = fork();

	if (pid)
		return status_of(pid);
	umask(022);
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) {
		OK(0, "become user %d", (int)uid);
		_exit(1);
	}
	fn();
	fflush(stdout);
	_exit(0);
}

int make_file(const char *path, const char *content, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	size_t n = strlen(content);

	if (fd < 0 || write(fd, content, n) != (ssize_t)n || fchmod(fd, mode) || close(fd))
		return OK(0, "make file %s", path);
	return 1;
}

int content_is(const char *path, const void *want, size_t n)
{
	int fd = open(path, O_RDONLY), same = 0;
	char *have = malloc(n + 1);

	if (fd >= 0 && have) {
		size_t got = 0;
		ssize_t r;

		while (got <= n && (r = read(fd, have + got, n + 1 - got)) > 0)
			got += (size_t)r;
		same = got == n && !memcmp(have, want, n);
	}
	if (fd >= 0)
		close(fd);
	free(have);
	return same;
}

void fill(void *p, size_t n, uint64_t seed)
{
	uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		uint64_t v = (seed + i / 8) * 0x9e3779b97f4a7c15ull;

		v ^= v >> 29, v *= 0xbf58476d1ce4e5b9ull, v ^= v >> 32;
		b[i] = (uint8_t)(v >> i % 8 * 8);
	}
}

int all_zero(const void *p, size_t n)
{
	const char *b = p;

	for (size_t i = 0; i < n; i++)
		if (b[i])
			return 0;
	return 1;
}

struct stat stat_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		memset(&st, 0, sizeof(st));
	return st;
}

int ts_cmp(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

void tick(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* By descriptors: deep_paths is deeper than a path can say. */
static void remove_tree(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(fd, e->d_name, 0))
			remove_tree(fd, e->d_name);
	}
	if (d)
		closedir(d);
	unlinkat(at, name, AT_REMOVEDIR);
}

static void run_one(const struct check *c)
{
	struct timespec end, now;
	pid_t pid;
	int status;

	if (mkdir(c->name, 0777) || chmod(c->name, 0777)) {
		current = c->name;
		OK(0, "make a folder for the check");
		return;
	}
	fflush(stdout);
	pid = fork();
	if (!pid) {
		current = c->name;
		umask(022);
		setpgid(0, 0);
		if (chdir(c->name))
			_exit(2);
		c->fn();
		fflush(stdout);
		_exit(0);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += TIME_LIMIT_S;
	current = c->name;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (ts_cmp(now, end) > 0) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			OK(0, "did not end within %d s", TIME_LIMIT_S);
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		OK(0, "ended with status %#x", (unsigned)status);
	remove_tree(AT_FDCWD, c->name);
	errno = 0;
	OK(access(c->name, F_OK) && errno == ENOENT, "everything could be removed");
}

static void run_all(const struct check *list, int argc, char **argv)
{
	for (; list->name; list++) {
		int wanted = argc == 0;

		for (int i = 0; i < argc; i++)
			wanted |= !strcmp(argv[i], list->name);
		if (wanted)
			run_one(list);
	}
}

int main(int argc, char **argv)
{
	struct statfs sfs;

	if (argc < 2 || chdir(argv[1]) || statfs(".", &sfs)) {
		fprintf(stderr, "usage: posix_check FOLDER [CHECK...]\n");
		return 2;
	}
	fuse = (unsigned long)sfs.f_type == FUSE_MAGIC;
	setvbuf(stdout, NULL, _IOLBF, 0);
	umask(0);
	shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	run_all(name_checks, argc - 2, argv + 2);
	run_all(data_checks, argc - 2, argv + 2);
	run_all(attr_checks, argc - 2, argv + 2);
	run_all(lock_checks, argc - 2, argv + 2);
	printf("%d skipped\n%d passed, %d failed\n", shared->skipped, shared->passed,
	       shared->failed);
	return shared->failed || !shared->passed;
}
