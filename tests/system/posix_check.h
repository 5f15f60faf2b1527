/* What the parts of posix_check share. Each check is a function that runs in a process and a fresh
 * folder of its own (the current folder), so that a crash or a hang costs one check. */
#ifndef TESTS_SYSTEM_POSIX_CHECK_H
#define TESTS_SYSTEM_POSIX_CHECK_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEST_UID = 65534, OTHER_UID = 65533 };

struct check {
	const char *name;
	void (*fn)(void);
};
extern const struct check name_checks[], data_checks[], attr_checks[], lock_checks[];

/* Prints "ok" or "not ok" with the place; returns the condition. errno is shown when not ok. */
int ok_at(int cond, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define OK(cond, ...) ok_at(!!(cond), __FILE__, __LINE__, __VA_ARGS__)
/* The call returns -1 and sets errno to want. */
#define FAILS(call, want, ...)                                                                     \
	do {                                                                                       \
		errno = 0;                                                                         \
		long fails_rc_ = (long)(call);                                                     \
		int fails_errno_ = errno;                                                          \
		ok_at(fails_rc_ == -1 && fails_errno_ == (want), __FILE__, __LINE__, __VA_ARGS__); \
	} while (0)
void skip(const char *what, const char *why);

int on_fuse(void); /* where plain disks have smaller limits, only FUSE must reach the big ones */
int is_root(void);

/* Runs fn in a child, as that user without any group but its own (root only). The child's OKs
 * count. Returns its exit status, -1 when a signal ended it. */
int as_user(uid_t uid, void (*fn)(void));
pid_t spawn(void (*fn)(void)); /* as the same user; ends with 0 when fn returns */
int reap(pid_t pid);

/* Small helpers; they report failures themselves. */
int make_file(const char *path, const char *content, mode_t mode);
int content_is(const char *path, const void *want, size_t n);
void fill(void *p, size_t n, uint64_t seed); /* bytes that do not repeat */
int all_zero(const void *p, size_t n);
struct stat stat_of(const char *path); /* lstat; all zero when it fails */
int ts_cmp(struct timespec a, struct timespec b);
/* So that the next time stamp differs, also where the kernel stamps by its tick. */
void tick(void);

#endif
