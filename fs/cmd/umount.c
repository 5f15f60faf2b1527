#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"
#include "fs/cmd/mounts.h"
#include "fs/cmd/mount.h"
#include "fs/cmd/progress.h"
#include "fs/cmd/umount.h"

#define END_LIMIT    (60 * NS_PER_S)
#define ANSWER_LIMIT (10 * NS_PER_S)

static const struct option_def options[] = {
	{ .name = "drain",
	  .type = OPT_DURATION,
	  .offset = offsetof(struct umount_options, drain),
	  .max = 86400 * NS_PER_S,
	  .arg = "TIME",
	  .help = "How long to wait for uploads; the rest stays safe in staging until the next "
		  "mount. Not given: as the mount's drain option says" },
	{ .name = "lazy",
	  .type = OPT_FLAG,
	  .offset = offsetof(struct umount_options, lazy),
	  .help = "Detach the folder although programs still use it; the drive ends when they do" },
	{ .name = NULL },
};

static const struct cmd_short shorts[] = { { 'l', "lazy" }, { 0 } };

static int tell(const char *name, const json_t *reply, int quiet)
{
	const json_t *left = json_object_get(reply, "left");
	json_int_t result = json_integer_value(json_object_get(reply, "result"));
	char size[32];

	if (result) {
		fprintf(
		    stderr,
		    "skyflok umount: %s: not everything could be made durable here: %s; the log "
		    "says more\n",
		    name, strerror((int)result));
		return STATUS_FAILED;
	}
	if (json_is_true(json_object_get(reply, "drained"))) {
		if (!quiet)
			printf("%s: unmounted; everything is on all backends\n", name);
		return STATUS_OK;
	}
	printf(
	    "%s: unmounted; %s are not on all backends yet. They are safe in %s and go on at the "
	    "next mount\n",
	    name, format_size(size, progress_left(left)),
	    json_string_value(json_object_get(reply, "staging")) ?: "staging");
	return STATUS_OK;
}

/* Waits for the daemon's end; a lazy unmount with programs inside would wait for them. */
static int wait_for_end(struct control_client *client, const char *name, int quiet, struct err *e)
{
	struct progress progress;
	json_t *reply = NULL;
	int status, rc;

	progress_start(&progress, stderr);
	rc = control_await(client, 0, progress_show, &progress, &reply, e);
	progress_end(&progress);
	if (rc)
		return rc;
	status = tell(name, reply, quiet);
	json_decref(reply);
	control_wait_end(client, END_LIMIT);
	return status;
}

/* Which path to unmount for an argument that is a name or a path. */
static int find_mount(const char *arg, char name[DRIVE_NAME_MAX + 1], struct mount_entry *m,
		      struct err *e)
{
	int rc = instance_name(arg, name, e);

	if (rc)
		return rc;
	if (strchr(arg, '/')) {
		AUTO_FREE char *path = mounts_resolve(arg);

		if (path && mounts_at(path, m) == 1)
			return 0;
	} else if (mounts_of_drive(name, m) == 1) {
		return 0;
	}
	return err_set(e, -EINVAL, "the drive \"%s\" is not mounted", name);
}

/* Without the socket (another user's, another SKYFLOK_HOME) it is a plain unmount. */
static int tell_daemon(const struct paths *p, const struct umount_options *o,
		       struct control_client **client, struct err *e)
{
	json_t *reply = NULL;
	int rc = 0;

	if (control_connect(p->socket, client))
		return 0;
	if (o->drain >= 0) {
		rc = control_call(*client, "set-drain",
				  json_pack("{s:I}", "limit", (json_int_t)(o->drain / NS_PER_MS)),
				  ANSWER_LIMIT, NULL, NULL, &reply, e);
		json_decref(reply);
	}
	/* Before the unmount: afterwards the daemon may be gone before it is asked. */
	if (!rc && !o->lazy)
		rc = control_begin(*client, "wait-end", NULL, ANSWER_LIMIT, e);
	if (rc == -ETIMEDOUT && (o->force || o->lazy)) { /* it hangs: nothing to wait for */
		control_disconnect(*client);
		*client = NULL;
		return o->force ? -ETIMEDOUT : 0;
	}
	return rc;
}

/* umount -r: what cannot be unmounted becomes read-only. */
static int unmount_or_protect(const char *path, const struct umount_options *o, int force,
			      struct err *e)
{
	struct mount_options ro;
	struct err why = { 0 };
	int rc = mounts_unmount(path, force ? MOUNTS_FORCE : o->lazy ? MOUNTS_LAZY : 0, e);

	if (rc != -EBUSY || !o->readonly || mount_options_init(&ro, &why))
		return rc;
	ro.read_only = 1;
	if (!mount_remount(path, &ro))
		err_set(e, rc, "%s: programs use it: it is read-only now, and still mounted", path);
	mount_options_release(&ro);
	return rc;
}

int umount_drive(const struct cmd *cmd, const char *arg, const struct umount_options *o)
{
	char name[DRIVE_NAME_MAX + 1];
	struct control_client *client = NULL;
	struct mount_entry m = { 0 };
	struct paths p = { 0 };
	struct err e = { 0 };
	int status = STATUS_OK, force = 0, rc = find_mount(arg, name, &m, &e);

	if (!rc)
		rc = paths_init(&p, name, &e);
	if (!rc)
		rc = mounts_clear_dead(m.mountpoint, &e);
	if (rc == 1) {
		printf(
		    "%s: its daemon had died; the folder is free again. What was durable is in %s "
		    "and goes on at the next mount\n",
		    name, p.staging);
		goto done;
	}
	if (!rc) {
		rc = tell_daemon(&p, o, &client, &e);
		force = rc == -ETIMEDOUT && o->force;
	}
	if (!rc || force)
		rc = unmount_or_protect(m.mountpoint, o, force, &e);
	if (!rc && client && !o->lazy)
		status = wait_for_end(client, name, o->quiet, &e);
done:
	if (rc < 0)
		status = cmd_fail(cmd, rc, &e);
	else if (status < 0)
		status = cmd_fail(cmd, status, &e);
	control_disconnect(client);
	mount_entry_release(&m);
	paths_release(&p);
	return status;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct umount_options o = { 0 };
	struct err e = { 0 };
	char **args;
	int nargs, rc = options_defaults(options, &o, &e);

	o.drain = -1;
	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs != 1)
		rc = err_set(&e, -EINVAL, "one mountpoint (or drive) is needed");
	return rc ? cmd_usage(cmd, &e) : umount_drive(cmd, args[0], &o);
}

const struct cmd cmd_umount = {
	.name = "umount",
	.synopsis = "MOUNTPOINT | NAME",
	.summary = "Unmount a drive and wait until it is uploaded",
	.text =
	    "umount(8) as root does the same, by way of umount.fuse.skyflok. fusermount3 -u is as\n"
	    "safe: it returns at once, and the daemon goes on uploading for the time that the\n"
	    "mount's drain option says.\n",
	.options = options,
	.shorts = shorts,
	.run = run,
};
