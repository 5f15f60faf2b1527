/* fsbench: times one workload in a folder and prints one number (MiB/s or operations/s). Called by
 * tests/bench/run for several filesystems in turn. usage: fsbench TEST DIR SIZE_MIB FILES */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *dir;
static long size_mib, files;
static char *block; /* 1 MiB of bytes that do not compress */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void path_of(char out[4096], const char *kind, long i)
{
	if (i < 0)
		snprintf(out, 4096, "%s/%s", dir, kind);
	else
		snprintf(out, 4096, "%s/d%ld/%s%ld", dir, i / 1000, kind, i);
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void must(ssize_t got, ssize_t want, const char *what)
{
	if (got != want)
		err(1, "%s", what);
}

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	if (fd >= 0) {
		must(write(fd, "3", 1), 1, "drop_caches");
		close(fd);
	}
}

static double seq_write(void)
{
	char p[4096];

	path_of(p, "big", -1);
	int fd = open_or_die(p, O_CREAT | O_TRUNC | O_WRONLY);
	double t = now();
	for (long i = 0; i < size_mib; i++) {
		memcpy(block, &i, sizeof i); /* no two blocks alike */
		must(write(fd, block, 1 << 20), 1 << 20, "write");
	}
	must(fsync(fd), 0, "fsync");
	t = now() - t;
	close(fd);
	return (double)size_mib / t;
}

static double seq_read(void)
{
	char p[4096];

	path_of(p, "big", -1);
	drop_caches();
	int fd = open_or_die(p, O_RDONLY);
	double t = now();
	for (long i = 0; i < size_mib; i++)
		must(read(fd, block, 1 << 20), 1 << 20, "read");
	t = now() - t;
	close(fd);
	return (double)size_mib / t;
}

static double rand_read(void)
{
	char p[4096];
	long n = 4000;

	path_of(p, "big", -1);
	drop_caches();
	int fd = open_or_die(p, O_RDONLY);
	srandom(42);
	double t = now();
	for (long i = 0; i < n; i++)
		must(pread(fd, block, 4096, random() % (size_mib * 256) * 4096), 4096, "pread");
	t = now() - t;
	close(fd);
	return (double)n / t;
}

static double rand_write(void)
{
	char p[4096];
	long n = 20000;

	path_of(p, "big", -1);
	int fd = open_or_die(p, O_RDWR);
	srandom(43);
	double t = now();
	for (long i = 0; i < n; i++)
		must(pwrite(fd, block, 4096, random() % (size_mib * 256) * 4096), 4096, "pwrite");
	must(fsync(fd), 0, "fsync");
	t = now() - t;
	close(fd);
	return (double)n / t;
}

static double append_sync(void)
{
	char p[4096];
	long n = 1000;

	path_of(p, "log", -1);
	int fd = open_or_die(p, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND);
	double t = now();
	for (long i = 0; i < n; i++) {
		must(write(fd, block, 4096), 4096, "write");
		must(fdatasync(fd), 0, "fdatasync");
	}
	t = now() - t;
	close(fd);
	return (double)n / t;
}

static double create(void)
{
	char p[4096];

	for (long i = 0; i * 1000 < files; i++) {
		snprintf(p, sizeof p, "%s/d%ld", dir, i);
		mkdir(p, 0755);
	}
	double t = now();
	for (long i = 0; i < files; i++) {
		path_of(p, "f", i);
		int fd = open_or_die(p, O_CREAT | O_EXCL | O_WRONLY);
		must(write(fd, block, 4096), 4096, "write");
		close(fd);
	}
	return (double)files / (now() - t);
}

static double list_stat(void)
{
	char p[4096];
	struct stat st;
	long seen = 0;

	drop_caches();
	double t = now();
	for (long i = 0; i * 1000 < files; i++) {
		snprintf(p, sizeof p, "%s/d%ld", dir, i);
		DIR *d = opendir(p);
		if (!d)
			err(1, "%s", p);
		for (struct dirent *e; (e = readdir(d)); seen++)
			must(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW), 0, e->d_name);
		closedir(d);
	}
	return (double)seen / (now() - t);
}

static double hot_stat(void)
{
	char p[4096];
	struct stat st;
	long rounds = 10, n = files < 5000 ? files : 5000;

	for (long i = 0; i < n; i++) {
		path_of(p, "f", i);
		must(stat(p, &st), 0, p);
	}
	double t = now();
	for (long r = 0; r < rounds; r++)
		for (long i = 0; i < n; i++) {
			path_of(p, "f", i);
			must(stat(p, &st), 0, p);
		}
	return (double)(rounds * n) / (now() - t);
}

static double small_read(void)
{
	char p[4096];

	drop_caches();
	double t = now();
	for (long i = 0; i < files; i++) {
		path_of(p, "f", i);
		int fd = open_or_die(p, O_RDONLY);
		must(read(fd, block, 4096), 4096, "read");
		close(fd);
	}
	return (double)files / (now() - t);
}

static double rename_all(void)
{
	char a[4096], b[4096];

	double t = now();
	for (long i = 0; i < files; i++) {
		path_of(a, "f", i), path_of(b, "g", i);
		must(rename(a, b), 0, a);
	}
	return (double)files / (now() - t);
}

static double unlink_all(void)
{
	char p[4096];

	double t = now();
	for (long i = 0; i < files; i++) {
		path_of(p, "g", i);
		must(unlink(p), 0, p);
	}
	return (double)files / (now() - t);
}

static const struct {
	const char *name;
	double (*fn)(void);
} tests[] = {
	{ "seq-write", seq_write },   { "seq-read", seq_read },       { "rand-read", rand_read },
	{ "rand-write", rand_write }, { "append-sync", append_sync }, { "create", create },
	{ "list-stat", list_stat },   { "hot-stat", hot_stat },       { "small-read", small_read },
	{ "rename", rename_all },     { "unlink", unlink_all },
};

int main(int argc, char **argv)
{
	if (argc != 5)
		errx(2, "usage: fsbench TEST DIR SIZE_MIB FILES");
	dir = argv[2], size_mib = strtol(argv[3], NULL, 10), files = strtol(argv[4], NULL, 10);
	block = malloc(1 << 20);
	if (!block || size_mib < 1 || files < 1)
		errx(2, "bad size");
	uint64_t x = 88172645463325252ull;
	for (size_t i = 0; i < (1 << 20) / 8; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		memcpy(block + i * 8, &x, 8);
	}
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		if (!strcmp(tests[i].name, argv[1])) {
			printf("%.1f\n", tests[i].fn());
			return 0;
		}
	errx(2, "no test %s", argv[1]);
}
