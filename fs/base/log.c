#include "fs/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "fs/base/scope.h"

/* Longer lines are cut; the longest struct err fits several times. */
#define LINE_MAX_BYTES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = STDERR_FILENO; /* by lock; -1: syslog */
static atomic_int max_level = LOG_LV_INFO;

int log_open(const char *path, int use_syslog)
{
	int fd = STDERR_FILENO;

	if (path) {
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
		if (fd < 0)
			return -errno;
	} else if (use_syslog) {
		fd = -1;
	}
	SCOPE_LOCK(&lock);
	if (log_fd > STDERR_FILENO)
		close(log_fd);
	else if (log_fd < 0)
		closelog();
	log_fd = fd;
	if (fd < 0)
		openlog("skyflok", LOG_PID, LOG_DAEMON);
	return 0;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&max_level, memory_order_relaxed);
}

static size_t put_stamp(char *line, size_t size, enum log_level level)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	struct timespec now;
	struct tm tm;
	char stamp[32];
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(line, size, "%s.%03d %s: ", stamp, (int)(now.tv_nsec / 1000000), names[level]);
	return (size_t)n;
}

/* Names of files and messages of servers reach the log: a newline or an escape sequence in them
 * must not forge lines or drive a terminal. Bytes from 0x80 on are UTF-8 and stay. */
static void defuse(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

static void write_line(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return; /* a full disk under the log must not stop the program */
		p += k, n -= (size_t)k;
	}
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	char line[LINE_MAX_BYTES];
	int saved = errno;
	size_t head, len;
	va_list ap;

	if (level > log_get_level())
		return;
	head = put_stamp(line, sizeof(line), level);
	errno = saved; /* for %m */
	va_start(ap, fmt);
	if (vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap) < 0)
		line[head] = '\0';
	va_end(ap);
	defuse(line + head);
	len = strlen(line);

	pthread_mutex_lock(&lock);
	if (log_fd < 0) {
		syslog(priority[level], "%s", line + head); /* has a stamp of its own */
	} else {
		line[len++] = '\n';
		write_line(log_fd, line, len);
	}
	pthread_mutex_unlock(&lock);
	errno = saved;
}
