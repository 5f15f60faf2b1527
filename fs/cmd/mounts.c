#include "fs/cmd/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
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

#include "fs/base/file.h"
#include "fs/base/scope.h"

#define SOURCE_PREFIX "skyflok:"

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
	int how = UMOUNT_NOFOLLOW;

	if (geteuid() != 0)
		return run_fusermount(path, flags & (MOUNTS_LAZY | MOUNTS_FORCE), e);
	if (flags & MOUNTS_LAZY)
		how |= MNT_DETACH;
	/* Cuts the connection: the files of programs that are in it end with an error. */
	if (flags & MOUNTS_FORCE)
		how |= MNT_FORCE | MNT_DETACH;
	if (!umount2(path, how))
		return 0;
	if (errno == EBUSY)
		return err_set(e, -EBUSY,
			       "%s: programs use it (fuser -vm %s shows which); end them and try "
			       "again",
			       path, path);
	return err_set(e, -errno, "%s: cannot unmount: %s", path, strerror(errno));
}

/* statfs(2) always asks the daemon; stat(2) may be answered from the kernel's cache for an hour. */
static int is_dead(const char *path)
{
	struct statfs sf;

	return statfs(path, &sf) && (errno == ENOTCONN || errno == ECONNABORTED);
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
