#include "fs/cmd/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define SOURCE_PREFIX "skyflok:"
#define UMOUNT_HELPER "/sbin/umount." SKYFLOK_FS_TYPE
#define UTAB          "/run/mount/utab"
#define UTAB_MAX      (1u << 20)
#define BUSY_TRIES    8
#define BUSY_PAUSE_US 50000
#define PROBE_LIMIT   (3 * NS_PER_S)

extern char **environ;

void mount_entry_release(struct mount_entry *m)
{
	free(m->mountpoint);
	free(m->type);
	free(m->source);
	*m = (struct mount_entry){ 0 };
}

/* "\040" is a blank: proc(5) writes blanks, tabs, newlines and backslashes in octal. */
static char *unescape(const char *s, size_t n)
{
	char *out = malloc(n + 1), *o = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\\' && i + 3 < n && s[i + 1] >= '0' && s[i + 1] <= '3') {
			*o++ = (char)((s[i + 1] - '0') << 6 | (s[i + 2] - '0') << 3 |
				      (s[i + 3] - '0'));
			i += 3;
		} else {
			*o++ = s[i];
		}
	}
	*o = '\0';
	return out;
}

/* The i-th blank-separated field. */
static const char *field(const char *line, int i, size_t *n)
{
	while (i-- > 0) {
		line = strchr(line, ' ');
		if (!line)
			return NULL;
		line++;
	}
	*n = strcspn(line, " \n");
	return line;
}

/* 36 35 98:0 /root /mnt rw - fuse.skyflok skyflok:photos rw; see proc(5). */
static int parse_line(const char *line, struct mount_entry *out)
{
	const char *dash = strstr(line, " - "), *f;
	unsigned major, minor;
	size_t n;

	*out = (struct mount_entry){ 0 };
	f = field(line, 2, &n);
	if (!dash || !f || sscanf(f, "%u:%u", &major, &minor) != 2)
		return -EINVAL;
	out->dev = makedev(major, minor);
	f = field(line, 4, &n);
	out->mountpoint = f ? unescape(f, n) : NULL;
	f = field(dash + 3, 0, &n);
	out->type = f ? unescape(f, n) : NULL;
	f = field(dash + 3, 1, &n);
	out->source = f ? unescape(f, n) : NULL;
	if (out->mountpoint && out->type && out->source)
		return 0;
	mount_entry_release(out);
	return -ENOMEM;
}

const char *mount_entry_drive(const struct mount_entry *m)
{
	if (strcmp(m->type, SKYFLOK_FS_TYPE) ||
	    strncmp(m->source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)))
		return NULL;
	return m->source + strlen(SOURCE_PREFIX);
}

struct wanted {
	const char *path, *drive;
	dev_t dev;
};

static int is_wanted(const struct mount_entry *m, const struct wanted *w)
{
	if (w->path)
		return !strcmp(m->mountpoint, w->path);
	if (w->drive)
		return mount_entry_drive(m) && !strcmp(mount_entry_drive(m), w->drive);
	return m->dev == w->dev;
}

/* Later lines lie on top of earlier ones. */
static int find(const struct wanted *w, struct mount_entry *out)
{
	AUTO_FREE char *line = NULL;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	struct mount_entry m;
	size_t cap = 0;
	int found = 0;

	*out = (struct mount_entry){ 0 };
	if (!f)
		return -errno;
	while (getline(&line, &cap, f) > 0) {
		if (parse_line(line, &m))
			continue;
		if (!is_wanted(&m, w)) {
			mount_entry_release(&m);
			continue;
		}
		mount_entry_release(out);
		*out = m;
		found = 1;
	}
	fclose(f);
	return found;
}

int mounts_at(const char *path, struct mount_entry *out)
{
	return find(&(struct wanted){ .path = path }, out);
}

int mounts_of_dev(dev_t dev, struct mount_entry *out)
{
	return find(&(struct wanted){ .dev = dev }, out);
}

int mounts_of_drive(const char *name, struct mount_entry *out)
{
	return find(&(struct wanted){ .drive = name }, out);
}

char *mounts_resolve(const char *path)
{
	char *whole = realpath(path, NULL);
	AUTO_FREE char *copy = NULL;
	AUTO_FREE char *copy2 = NULL;
	AUTO_FREE char *parent = NULL;
	const char *last;

	if (whole || (errno != ENOTCONN && errno != ECONNABORTED && errno != EACCES))
		return whole;
	copy = strdup(path);
	copy2 = strdup(path);
	if (!copy || !copy2)
		return NULL;
	last = basename(copy2);
	parent = realpath(dirname(copy), NULL);
	if (!parent)
		return NULL;
	return str_printf("%s/%s", strcmp(parent, "/") ? parent : "", last);
}

/* fusermount3 is set-uid root and checks that the mount is the caller's. */
static int run_fusermount(const char *path, int lazy, struct err *e)
{
	char *argv[] = { "fusermount3", "-u", lazy ? "-z" : "-q", "--", (char *)path, NULL };
	posix_spawn_file_actions_t fa;
	int status, rc;
	pid_t pid;

	posix_spawn_file_actions_init(&fa);
	if (!lazy) /* -q still says "busy"; ours is the better sentence */
		posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	rc = posix_spawnp(&pid, "fusermount3", &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (rc)
		return err_set(e, -rc, "cannot run fusermount3 (package fuse3): %s", strerror(rc));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(e, -EBUSY,
		       "%s: could not be unmounted: programs use it (fuser -vm %s shows which), or "
		       "it is not yours",
		       path, path);
}

int mounts_unmount(const char *path, int flags, struct err *e)
{
	int how = UMOUNT_NOFOLLOW, rc;

	if (geteuid() != 0)
		return run_fusermount(path, flags & (MOUNTS_LAZY | MOUNTS_FORCE), e);
	if (flags & MOUNTS_LAZY)
		how |= MNT_DETACH;
	/* Cuts the connection: the files of programs that are in it end with an error. */
	if (flags & MOUNTS_FORCE)
		how |= MNT_FORCE | MNT_DETACH;
	rc = umount2(path, how) ? -errno : 0;
	/* A df or an indexer that just passes by keeps it busy for a moment. */
	for (int tries = 0; rc == -EBUSY && tries < BUSY_TRIES; tries++) {
		usleep(BUSY_PAUSE_US);
		rc = umount2(path, how) ? -errno : 0;
	}
	if (!rc)
		return 0;
	if (rc == -EBUSY)
		return err_set(e, -EBUSY,
			       "%s: programs use it (fuser -vm %s shows which); end them and try "
			       "again",
			       path, path);
	return err_set(e, rc, "%s: cannot unmount: %s", path, strerror(-rc));
}

static int is_announced(const char *path)
{
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *entry = str_printf(" TARGET=%s ", path);
	size_t n;

	if (!entry || file_read_all(UTAB, UTAB_MAX, (uint8_t **)&text, &n))
		return 0;
	return memmem(text, n, entry, strlen(entry)) != NULL;
}

void mounts_announce(const char *path, const char *name)
{
	AUTO_FREE char *source = str_printf(SOURCE_PREFIX "%s", name);
	char *argv[] = { "mount",      "-i",
			 "-f",         "--no-canonicalize",
			 "-t",         SKYFLOK_FS_TYPE,
			 "-o",         "uhelper=" SKYFLOK_FS_TYPE,
			 "--",         source,
			 (char *)path, NULL };
	posix_spawn_file_actions_t fa;
	pid_t pid;
	int rc;

	if (geteuid() != 0 || !source || access(UMOUNT_HELPER, X_OK) || is_announced(path))
		return;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	rc = posix_spawn(&pid, "/bin/mount", &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	while (!rc && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* A question to a filesystem whose daemon may be stopped, or hang: then it is never answered, and
 * the thread that asks stays behind. */
struct probe {
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t cond;
	int refs, answered, error;
	char path[];
};

static void probe_unref(struct probe *p)
{
	int left;

	pthread_mutex_lock(&p->lock);
	left = --p->refs;
	pthread_mutex_unlock(&p->lock);
	if (!left)
		free(p);
}

static void *probe_main(void *arg)
{
	struct probe *p = arg;
	struct statfs sf;
	/* It always asks the daemon; stat(2) may be answered from the kernel's cache for an hour.
	 */
	int error = statfs(p->path, &sf) ? errno : 0;

	pthread_mutex_lock(&p->lock);
	p->answered = 1;
	p->error = error;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
	probe_unref(p);
	return NULL;
}

static int probe_start(struct probe *p)
{
	sigset_t all, before;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, NULL, probe_main, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!rc)
		pthread_detach(thread);
	return rc;
}

/* No answer in time: it hangs, but is not dead. */
static int is_dead(const char *path)
{
	struct probe *p = calloc(1, sizeof(*p) + strlen(path) + 1);
	int64_t limit = clock_mono_ns() + PROBE_LIMIT;
	int error = 0;

	if (!p)
		return 0;
	memcpy(p->path, path, strlen(path) + 1);
	pthread_mutex_init(&p->lock, NULL);
	cond_init_mono(&p->cond);
	p->refs = 2;
	if (probe_start(p)) {
		free(p);
		return 0;
	}
	pthread_mutex_lock(&p->lock);
	while (!p->answered && clock_mono_ns() < limit)
		cond_wait_until(&p->cond, &p->lock, limit);
	if (p->answered)
		error = p->error;
	pthread_mutex_unlock(&p->lock);
	probe_unref(p);
	return error == ENOTCONN || error == ECONNABORTED;
}

int mounts_clear_dead(const char *path, struct err *e)
{
	struct mount_entry m;
	int rc;

	if (!is_dead(path))
		return 0;
	rc = mounts_at(path, &m);
	if (rc <= 0)
		return rc;
	if (strcmp(m.type, SKYFLOK_FS_TYPE))
		rc = err_set(e, -ENOTCONN, "%s: a dead mount of type %s is in the way: unmount it",
			     path, m.type);
	else
		rc = mounts_unmount(path, MOUNTS_LAZY, e);
	mount_entry_release(&m);
	return rc ? rc : 1;
}
