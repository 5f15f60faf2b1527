#include "fs/cmd/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"
#include "fs/cmd/mounts.h"

#define TAKE_OVER_LIMIT (60 * NS_PER_S)
#define TEXT_MAX        16384

static int try_lock(int fd)
{
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static char *dup_string(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? strdup(s) : NULL;
}

static void read_text(const struct paths *p, struct instance *out)
{
	AUTO_FREE uint8_t *text = NULL;
	size_t n;
	json_t *o;

	if (file_read_all(p->lock, TEXT_MAX, &text, &n))
		return;
	o = json_loadb((const char *)text, n, 0, NULL);
	if (!o)
		return;
	out->pid = (pid_t)json_integer_value(json_object_get(o, "pid"));
	out->mountpoint = dup_string(o, "mountpoint");
	out->cache = dup_string(o, "cache");
	json_decref(o);
}

int instance_look(const struct paths *p, struct instance *out)
{
	AUTO_CLOSE int fd = open(p->lock, O_RDWR | O_CLOEXEC);
	int rc;

	*out = (struct instance){ 0 };
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	/* A shared lock, and only for a moment: a mount that comes just now tries again. */
	rc = flock(fd, LOCK_SH | LOCK_NB) ? -errno : 0;
	if (rc && rc != -EWOULDBLOCK)
		return rc;
	out->running = rc == -EWOULDBLOCK;
	read_text(p, out);
	if (!out->running)
		out->pid = 0;
	return 0;
}

void instance_release(struct instance *i)
{
	free(i->mountpoint);
	free(i->cache);
	*i = (struct instance){ 0 };
}

static int busy(const struct paths *p, struct err *e)
{
	struct instance i;
	int rc;

	instance_look(p, &i);
	if (i.mountpoint && i.pid)
		rc = err_set(e, -EBUSY,
			     "the drive \"%s\" is mounted already on %s (process %d); "
			     "\"skyflok umount %s\" unmounts it",
			     p->name, i.mountpoint, (int)i.pid, i.mountpoint);
	else
		rc = err_set(e, -EBUSY, "the drive \"%s\" is in use by another skyflok process",
			     p->name);
	instance_release(&i);
	return rc;
}

/* 1 when the holder is on its way out (unmounted, draining): told to hurry. 0 when it is mounted.
 */
static int asked_to_leave(const struct paths *p)
{
	struct control_client *c;
	json_t *reply = NULL;
	struct err e = { 0 };
	int leaving, rc = control_connect(p->socket, &c);

	if (rc) /* no socket yet or any more: it comes or goes; the text tells which */
		return rc == -ENOENT || rc == -ECONNREFUSED;
	rc = control_call(c, "release", NULL, 5 * NS_PER_S, NULL, NULL, &reply, &e);
	leaving = rc != -EBUSY;
	json_decref(reply);
	control_disconnect(c);
	return leaving;
}

/* Is the process that holds the lock being killed? One of its threads may still sit in the disk,
 * where no signal reaches it. */
static int is_dying(const struct paths *p)
{
	struct instance i;
	char path[64], line[128], state = 0;
	uint64_t pending = 0, v;
	FILE *f;

	instance_look(p, &i);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)i.pid);
	f = i.pid ? fopen(path, "re") : NULL;
	instance_release(&i);
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "State: %c", &state) != 1 &&
		    (sscanf(line, "SigPnd: %" SCNx64, &v) == 1 ||
		     sscanf(line, "ShdPnd: %" SCNx64, &v) == 1))
			pending |= v;
	}
	fclose(f);
	return state == 'Z' || state == 'X' || (pending >> (SIGKILL - 1) & 1);
}

int instance_lock(const struct paths *p, int *fd, struct err *e)
{
	int64_t limit = clock_mono_ns() + TAKE_OVER_LIMIT, starting = clock_mono_ns() + NS_PER_S;
	int rc;

	*fd = open(p->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0)
		return err_set(e, -errno, "%s: %s", p->lock, strerror(errno));
	while ((rc = try_lock(*fd)) == -EWOULDBLOCK) {
		struct control_client *c;
		int silent = control_connect(p->socket, &c);

		if (!silent)
			control_disconnect(c);
		/* Without a socket: another mount that is just starting, or an end within
		 * milliseconds. */
		if ((silent && clock_mono_ns() > starting && !is_dying(p)) ||
		    (!silent && !asked_to_leave(p)) || clock_mono_ns() > limit)
			break;
		usleep(50000);
	}
	if (!rc)
		return 0;
	close(*fd);
	*fd = -1;
	if (rc == -EWOULDBLOCK)
		return busy(p, e);
	return err_set(e, rc, "%s: %s", p->lock, strerror(-rc));
}

int instance_describe(int fd, const char *mountpoint, const char *cache, struct err *e)
{
	json_t *o = json_pack("{s:i,s:o,s:o,s:I}", "pid", (int)getpid(), "mountpoint",
			      control_text(mountpoint), "cache", control_text(cache), "since",
			      (json_int_t)(clock_real_ns() / NS_PER_S));
	AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	int rc;

	json_decref(o);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	rc = ftruncate(fd, 0) ? -errno : file_pwrite(fd, text, strlen(text), 0);
	return rc ? err_set(e, rc, "lock file: %s", strerror(-rc)) : 0;
}

/* ---- naming ---- */

static int copy_name(const char *from, char name[DRIVE_NAME_MAX + 1])
{
	snprintf(name, DRIVE_NAME_MAX + 1, "%s", from);
	return 0;
}

static int name_of_mountpoint(const char *arg, char name[DRIVE_NAME_MAX + 1], struct err *e)
{
	AUTO_FREE char *path = mounts_resolve(arg);
	struct mount_entry m;
	int rc;

	if (!path)
		return err_set(e, -errno, "%s: %s", arg, strerror(errno));
	rc = mounts_at(path, &m);
	if (rc == 1 && mount_entry_drive(&m))
		copy_name(mount_entry_drive(&m), name);
	else
		rc = err_set(e, -EINVAL,
			     "%s: no skyflok drive is mounted there (\"skyflok list\" shows the "
			     "drives)",
			     path);
	mount_entry_release(&m);
	return rc < 0 ? rc : 0;
}

static int is_running(const char *name)
{
	struct paths p;
	struct instance i;
	int running;

	if (paths_init(&p, name, NULL))
		return 0;
	instance_look(&p, &i);
	running = i.running;
	instance_release(&i);
	paths_release(&p);
	return running;
}

static int only_one(char name[DRIVE_NAME_MAX + 1], struct err *e)
{
	char **names;
	int count, running = 0, rc = paths_list(&names, &count, e);

	if (rc)
		return rc;
	for (int i = 0; i < count; i++)
		if (is_running(names[i])) {
			running++;
			copy_name(names[i], name);
		}
	if (!running && count == 1)
		copy_name(names[0], name);
	else if (running != 1)
		rc = err_set(e, -EINVAL,
			     count ? "which drive? Give its name or mountpoint (\"skyflok list\" "
				     "shows them)"
				   : "there is no drive yet; \"skyflok help create\" says how to "
				     "make one");
	paths_list_free(names, count);
	return rc;
}

int instance_name(const char *arg, char name[DRIVE_NAME_MAX + 1], struct err *e)
{
	struct paths p;
	int rc, there;

	if (!arg)
		return only_one(name, e);
	if (paths_check_name(arg, NULL))
		return name_of_mountpoint(arg, name, e);
	/* "photos" may be a drive and a folder here; the drive is meant. */
	rc = paths_init(&p, arg, e);
	if (rc)
		return rc;
	there = !access(p.config, F_OK);
	paths_release(&p);
	if (there || name_of_mountpoint(arg, name, NULL))
		return copy_name(arg, name);
	return 0;
}

int instance_elsewhere(const char *name, struct err *e)
{
	return err_set(
	    e, -EPERM,
	    "the drive \"%s\" was mounted by another user, or with another SKYFLOK_HOME: "
	    "ask as that user, with that SKYFLOK_HOME",
	    name);
}

/* Mounted, but nothing of it is in our folders. */
static int is_elsewhere(const struct paths *p)
{
	struct mount_entry m;
	int found = access(p->config, F_OK) && mounts_of_drive(p->name, &m) == 1;

	if (found)
		mount_entry_release(&m);
	return found;
}

int instance_connect(const struct paths *p, struct control_client **out, struct err *e)
{
	int rc = control_connect(p->socket, out);

	if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -ENOTDIR)
		return is_elsewhere(p)
			   ? instance_elsewhere(p->name, e)
			   : err_set(e, -ENOTCONN, "the drive \"%s\" is not mounted", p->name);
	if (rc)
		return err_set(e, rc, "%s: %s", p->socket, strerror(-rc));
	return 0;
}
