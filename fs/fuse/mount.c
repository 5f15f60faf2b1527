/* Mounting with sentences that say what to do, and unmounting from inside. */
#include "fs/fuse/fuse_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/file.h"
#include "fs/base/log.h"

extern char **environ;

/* ---- what libfuse says ---- */

/* libfuse reports through one process-wide function; this thread's last line explains why a mount
 * failed. */
static _Thread_local char fuse_said[256];

static void fuse_says(enum fuse_log_level level, const char *fmt, va_list ap)
{
	size_t n;

	vsnprintf(fuse_said, sizeof(fuse_said), fmt, ap);
	n = strlen(fuse_said);
	while (n && isspace((unsigned char)fuse_said[n - 1]))
		fuse_said[--n] = 0;
	log_debug("%s", fuse_said);
}

/* ---- checks ---- */

/* Is `word` one of the comma-separated options? */
static int has_option(const char *options, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = options; p && *p;) {
		size_t len = strcspn(p, ",");

		if (len == n && !memcmp(p, word, n))
			return 1;
		p += len + (p[len] == ',');
	}
	return 0;
}

static int fuse_conf_allows_other(void)
{
	AUTO_FREE char *text = NULL;
	char *rest, *line;
	size_t n;

	if (file_read_all("/etc/fuse.conf", 1 << 20, (uint8_t **)&text, &n))
		return 0;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		line += strspn(line, " \t");
		if (!strncmp(line, "user_allow_other", 16) &&
		    !line[16 + strspn(line + 16, " \t\r")])
			return 1;
	}
	return 0;
}

static int find_fusermount(void)
{
	const char *path = getenv("PATH");

	if (!access("/usr/bin/fusermount3", X_OK) || !access("/bin/fusermount3", X_OK))
		return 1;
	while (path && *path) {
		size_t n = strcspn(path, ":");
		AUTO_FREE char *file = str_printf("%.*s/fusermount3", (int)n, path);

		if (file && !access(file, X_OK))
			return 1;
		path += n + (path[n] == ':');
	}
	return 0;
}

static int check_device(struct err *e)
{
	AUTO_CLOSE int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return 0;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return err_set(e, -ENOENT,
			       "/dev/fuse is missing: load the kernel module with `modprobe fuse`, "
			       "or give this container the device.");
	return err_set(
	    e, -errno,
	    "Cannot open /dev/fuse: %s. It must be readable and writable by you (usually "
	    "its mode is 0666).",
	    strerror(errno));
}

/* fusermount3 mounts for users, and opens the device with their rights; root needs no help. */
static int check_user(const struct session_opts *o, const char *mountpoint, struct err *e)
{
	int rc = check_device(e);

	if (rc || !geteuid())
		return rc;
	if (!find_fusermount())
		return err_set(e, -ENOENT,
			       "fusermount3 was not found: install the package fuse3, or mount as "
			       "root.");
	if ((has_option(o->kernel_options, "allow_other") ||
	     has_option(o->kernel_options, "allow_root")) &&
	    !fuse_conf_allows_other())
		return err_set(e, -EPERM,
			       "allow_other is not permitted to users: add the line "
			       "user_allow_other to /etc/fuse.conf, or mount without it.");
	if (access(mountpoint, W_OK))
		return err_set(e, -EACCES,
			       "You may not mount on %s: the folder must be yours and writable.",
			       mountpoint);
	return 0;
}

static int check_empty(const char *mountpoint, struct err *e)
{
	DIR *d = opendir(mountpoint);
	struct dirent *entry;
	int empty = 1;

	if (!d)
		return err_set(e, -errno, "Cannot read the mountpoint %s: %s.", mountpoint,
			       strerror(errno));
	while (empty && (entry = readdir(d)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	closedir(d);
	if (empty)
		return 0;
	return err_set(e, -ENOTEMPTY,
		       "The mountpoint %s is not empty, and its files would be hidden: choose an "
		       "empty folder, or add the option nonempty.",
		       mountpoint);
}

static int explain_path(const char *path, int rc, struct err *e)
{
	switch (rc) {
	case ENOENT:
		return err_set(e, -ENOENT, "The mountpoint %s does not exist: create it first.",
			       path);
	case ENOTCONN:
		return err_set(e, -ENOTCONN,
			       "A filesystem whose program has died is still mounted on %s: remove "
			       "it with `fusermount3 -u %s` or `umount %s`.",
			       path, path, path);
	case ENOTDIR:
		return err_set(e, -ENOTDIR, "The mountpoint %s is not a folder.", path);
	case EACCES:
		return err_set(e, -EACCES, "No permission to reach the mountpoint %s.", path);
	default:
		return err_set(e, -rc, "Cannot use the mountpoint %s: %s.", path, strerror(rc));
	}
}

int mount_check(const struct session_opts *o, char **mountpoint, struct err *e)
{
	struct stat st;
	int rc;

	if (!o->mountpoint || !o->mountpoint[0])
		return err_set(e, -ENOENT, "No mountpoint was given.");
	*mountpoint = realpath(o->mountpoint, NULL);
	if (!*mountpoint)
		return explain_path(o->mountpoint, errno, e);
	if (stat(*mountpoint, &st))
		return explain_path(*mountpoint, errno, e);
	if (!S_ISDIR(st.st_mode))
		return explain_path(*mountpoint, ENOTDIR, e);
	rc = check_user(o, *mountpoint, e);
	if (!rc && !o->nonempty)
		rc = check_empty(*mountpoint, e);
	return rc;
}

/* ---- mounting ---- */

static int args_make(struct fuse_args *args, const struct session_opts *o)
{
	AUTO_FREE char *source = str_printf("fsname=skyflok:%s", o->name ? o->name : "drive");
	char *opts = NULL;
	int rc;

	rc = !source || fuse_opt_add_opt(&opts, "default_permissions,subtype=skyflok") ||
	     fuse_opt_add_opt_escaped(&opts, source) ||
	     (o->kernel_options && o->kernel_options[0] &&
	      fuse_opt_add_opt(&opts, o->kernel_options)) ||
	     fuse_opt_add_arg(args, "skyflok") || fuse_opt_add_arg(args, "-o") ||
	     fuse_opt_add_arg(args, opts);
	free(opts);
	return rc ? -ENOMEM : 0;
}

int mount_new(struct session *s, const struct fuse_lowlevel_ops *ops, size_t size, struct err *e)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int rc = args_make(&args, &s->o);

	fuse_set_log_func(fuse_says);
	fuse_said[0] = 0;
	if (!rc) {
		s->se = fuse_session_new(&args, ops, size, s);
		if (!s->se)
			rc = err_set(e, -EINVAL, "The mount options \"%s\" were refused: %s.",
				     s->o.kernel_options ? s->o.kernel_options : "",
				     fuse_said[0] ? fuse_said : "unknown option");
	}
	fuse_opt_free_args(&args);
	if (rc)
		return rc;
	errno = 0;
	if (fuse_session_mount(s->se, s->mountpoint)) {
		rc = errno ? -errno : -EIO;
		err_set(e, rc, "Cannot mount on %s: %s.", s->mountpoint,
			fuse_said[0] ? fuse_said : strerror(-rc));
		goto destroy;
	}
	/* Takes over the descriptor that it already has. */
	rc = fuse_session_custom_io(s->se, &wire_io, fuse_session_fd(s->se));
	if (!rc)
		return 0;
	err_set(e, rc, "libfuse refuses our I/O functions: %s.", strerror(-rc));
	fuse_session_unmount(s->se);
destroy:
	fuse_session_destroy(s->se);
	s->se = NULL;
	return rc;
}

/* ---- unmounting ---- */

static int run_fusermount(const char *flags, const char *mountpoint)
{
	char *argv[] = { "fusermount3", (char *)flags, "--", (char *)mountpoint, NULL };
	int status;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		return -ENOENT;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBUSY;
}

/* Is the last mount on the mountpoint still ours? Everything below works on a path, and must not
 * hit what somebody else mounted there since. */
static int still_ours(const struct session *s)
{
	char devno[sizeof(s->bdi)];
	int ours = 0;

	if (!s->bdi[0] || bdi_find(s->mountpoint, devno, sizeof(devno), &ours))
		return 0;
	return ours && !strcmp(devno, s->bdi);
}

int mount_end(const struct session *s)
{
	if (!still_ours(s))
		return 0;
	if (geteuid())
		return run_fusermount("-uq", s->mountpoint);
	return umount2(s->mountpoint, UMOUNT_NOFOLLOW) ? -errno : 0;
}

void mount_detach(const struct session *s)
{
	if (!still_ours(s))
		return;
	if (geteuid())
		run_fusermount("-uqz", s->mountpoint);
	else if (umount2(s->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW))
		log_warn("detaching %s: %s", s->mountpoint, strerror(errno));
}

int mount_abort(const struct session *s)
{
	AUTO_FREE char *knob = NULL;
	AUTO_CLOSE int fd = -1;
	const char *minor = strchr(s->bdi, ':');

	if (!still_ours(s))
		return 0;
	/* The connection's number is the minor number of the mount. */
	knob = minor ? str_printf("/sys/fs/fuse/connections/%s/abort", minor + 1) : NULL;
	fd = knob ? open(knob, O_WRONLY | O_CLOEXEC) : -1;
	if (fd >= 0 && write(fd, "1", 1) == 1) {
		mount_detach(s);
		return 0;
	}
	if (!geteuid())
		return umount2(s->mountpoint, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) ? -errno
											: 0;
	mount_detach(s);
	return -EPERM;
}

void mount_disconnect(const struct session *s)
{
	AUTO_CLOSE int fresh = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	/* libfuse unmounts by path, whatever is mounted there by now, unless poll(2) on its
	 * descriptor says POLLERR: as it does on one that was never connected. */
	if (fresh >= 0)
		dup3(fresh, fuse_session_fd(s->se), O_CLOEXEC);
}
