#include "fs/cmd/mount.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"
#include "fs/cmd/mounts.h"
#include "fs/cmd/serve.h"
#include "fs/cmd/supervise.h"
#include "fs/drive/config.h"
#include "fs/drive/paths.h"

static const struct cmd_short shorts[] = { { 'f', "foreground" }, { 'v', "verbose" }, { 0 } };

struct mount_job {
	const struct paths *paths;
	const struct config *config;
	struct mount_options *o;
	const char *mountpoint;
};

static int job_serve(struct daemon *daemon, void *arg)
{
	struct mount_job *j = arg;

	return serve_run(daemon, j->paths, j->config, j->o, j->mountpoint);
}

static int job_main(struct daemon *daemon, void *arg)
{
	struct mount_job *j = arg;

	return j->o->restart ? supervise(daemon, j->mountpoint, j->o->log_file, job_serve, j)
			     : job_serve(daemon, j);
}

/* A daemon that is started again needs its secret again, and nobody keeps it for that. */
static int check_restart(const struct mount_options *o, struct err *e)
{
	if (!o->restart || o->passfile || o->keyfile || getenv("CREDENTIALS_DIRECTORY"))
		return 0;
	return err_set(e, -EINVAL,
		       "restart needs the passphrase more than once: give passfile= or keyfile=");
}

/* The daemon's folder becomes "/": what it opens later has to be absolute. */
static int make_absolute(char **path, struct err *e)
{
	AUTO_FREE char *cwd = NULL;
	char *whole;

	if (!*path || (*path)[0] == '/')
		return 0;
	cwd = getcwd(NULL, 0);
	whole = cwd ? str_printf("%s/%s", cwd, *path) : NULL;
	if (!whole)
		return err_set(e, -errno, "%s: %s", *path, strerror(errno));
	free(*path);
	*path = whole;
	return 0;
}

/* -o cache-dir=DIR: the cache of this drive is DIR/NAME. */
static int place_cache(struct paths *p, struct mount_options *o, struct err *e)
{
	char *cache;

	if (!o->cache_dir)
		return 0;
	cache = str_printf("%s/%s", o->cache_dir, p->name);
	if (!cache)
		return err_set(e, -ENOMEM, "out of memory");
	free(p->cache);
	p->cache = cache;
	return 0;
}

static int prepare(struct paths *p, struct config *c, const char *name, struct mount_options *o,
		   const char *mountpoint, char **resolved, struct err *e)
{
	int rc = paths_init(p, name, e);

	if (!rc)
		rc = config_read(p->config, name, c, e);
	if (!rc) {
		*resolved = mounts_resolve(mountpoint);
		if (!*resolved)
			rc =
			    err_set(e, -errno, "%s: cannot be used as mountpoint: %s%s", mountpoint,
				    strerror(errno), errno == ENOENT ? "; create it first" : "");
	}
	if (!rc)
		rc = make_absolute(&o->cache_dir, e);
	if (!rc)
		rc = make_absolute(&o->log_file, e);
	if (!rc)
		rc = make_absolute(&o->passfile, e);
	if (!rc)
		rc = make_absolute(&o->keyfile, e);
	if (!rc)
		rc = place_cache(p, o, e);
	return rc;
}

static int open_log(const struct mount_options *o, struct err *e)
{
	int rc;

	log_set_level(o->verbose ? LOG_LV_DEBUG : LOG_LV_INFO);
	if (!o->log_file)
		return 0;
	rc = log_open(o->log_file, 0);
	return rc ? err_set(e, rc, "%s: %s", o->log_file, strerror(-rc)) : 0;
}

int mount_drive(const char *name, const char *mountpoint, struct mount_options *o)
{
	struct paths p = { 0 };
	struct config c = { 0 };
	AUTO_FREE char *resolved = NULL;
	struct err e = { 0 };
	int status, rc = prepare(&p, &c, name, o, mountpoint, &resolved, &e);

	if (!rc)
		rc = check_restart(o, &e);
	if (!rc)
		rc = open_log(o, &e);
	if (rc) {
		status = cmd_fail(&cmd_mount, rc, &e);
	} else {
		pid_t self = getpid();
		struct mount_job j = { .paths = &p, .config = &c, .o = o, .mountpoint = resolved };

		status = daemon_run(o->foreground, job_main, &j);
		/* Not in the child, which comes here at its end. */
		if (getpid() == self && !o->foreground && status == STATUS_OK)
			mounts_announce(resolved, name);
	}
	config_release(&c);
	paths_release(&p);
	return status;
}

/* The kernel keeps programs from writing; the daemon goes on as it was. */
int mount_remount(const char *mountpoint, const struct mount_options *o)
{
	AUTO_FREE char *path = mounts_resolve(mountpoint);
	struct mount_entry m = { 0 };
	struct control_client *client = NULL;
	json_t *reply = NULL;
	struct paths p = { 0 };
	struct err e = { 0 };
	int rc;

	if (!path || mounts_at(path, &m) != 1 || !mount_entry_drive(&m)) {
		rc = err_set(&e, -EINVAL, "%s: no skyflok drive is mounted there", mountpoint);
		goto done;
	}
	if (geteuid() != 0) {
		rc = err_set(&e, -EPERM, "remounting is for root: unmount and mount again instead");
		goto done;
	}
	rc = paths_init(&p, mount_entry_drive(&m), &e);
	if (!rc && !o->read_only) {
		rc = instance_connect(&p, &client, &e);
		if (!rc)
			rc = control_call(client, "status", NULL, 0, NULL, NULL, &reply, &e);
		if (!rc && json_is_true(json_object_get(reply, "read_only")))
			rc = err_set(&e, -EROFS,
				     "%s: was mounted read-only: unmount it and mount it again to "
				     "write",
				     path);
	}
	if (!rc && mount(NULL, path, NULL, MS_REMOUNT | (o->read_only ? MS_RDONLY : 0), NULL))
		rc = err_set(&e, -errno, "%s: cannot remount: %s", path, strerror(errno));
done:
	json_decref(reply);
	control_disconnect(client);
	paths_release(&p);
	mount_entry_release(&m);
	return rc ? cmd_fail(&cmd_mount, rc, &e) : STATUS_OK;
}

/* The [mount] section gives defaults; it is parsed before the command line. */
static int config_defaults(const char *name, struct mount_options *o, struct err *e)
{
	struct paths p;
	struct config c = { 0 };
	int rc = paths_init(&p, name, e);

	if (rc)
		return rc;
	rc = config_read(p.config, name, &c, e);
	if (!rc && c.mount_options) {
		AUTO_FREE char *where = str_printf("%s, [mount]", p.config);

		rc = mount_options_parse(o, c.mount_options, where ? where : "[mount]", e);
	}
	config_release(&c);
	paths_release(&p);
	return rc;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct mount_options o, again;
	struct err e = { 0 };
	AUTO_FREE char **copy = calloc((size_t)argc + 1, sizeof(char *));
	char **args, **args2;
	int nargs, rc, status;

	if (!copy)
		return STATUS_SYSTEM;
	memcpy(copy, argv, sizeof(char *) * (size_t)argc);
	mount_options_init(&o, &e);
	mount_options_init(&again, &e);
	rc = cmd_parse(cmd, argc, argv, &o, mount_options_on_list, &args, &nargs, &e);
	if (!rc && nargs != 2)
		rc = err_set(&e, -EINVAL, "the drive's name and a mountpoint are needed");
	if (rc) {
		status = cmd_usage(cmd, &e);
		goto release;
	}
	if (o.remount) {
		status = mount_remount(args[1], &o);
		goto release;
	}
	/* Known only now: the name. So: its defaults first, and the command line once more on top.
	 */
	rc = config_defaults(args[0], &again, &e);
	if (!rc)
		rc = cmd_parse(cmd, argc, copy, &again, mount_options_on_list, &args2, &nargs, &e);
	status = rc ? cmd_fail(cmd, rc, &e) : mount_drive(args2[0], args2[1], &again);
release:
	mount_options_release(&o);
	mount_options_release(&again);
	return status;
}

const struct cmd cmd_mount = {
	.name = "mount",
	.synopsis = "NAME MOUNTPOINT [-o OPTION,...] [-f]",
	.summary = "Make a drive's content appear in a folder",
	.text =
	    "Returns when the folder is usable; a daemon then serves it in the background and "
	    "logs\n"
	    "to syslog. No network is needed: what is not here is fetched when it is read.\n"
	    "Every option below may be given as --NAME VALUE, as -o NAME=VALUE, in /etc/fstab, or\n"
	    "in the [mount] section of the drive's configuration. Besides, -o takes ro, rw and "
	    "what\n"
	    "mount(8) knows: nosuid, nodev, noexec, noatime, sync, _netdev, nofail, noauto, "
	    "user...\n",
	.options = mount_option_table,
	.shorts = shorts,
	.run = run,
};
