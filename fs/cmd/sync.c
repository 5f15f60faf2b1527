#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"
#include "fs/cmd/mounts.h"
#include "fs/cmd/progress.h"

struct sync_options {
	int64_t timeout;
};

static const struct option_def options[] = {
	{ .name = "timeout",
	  .type = OPT_DURATION,
	  .offset = offsetof(struct sync_options, timeout),
	  .max = 365ll * 86400 * NS_PER_S,
	  .dflt = "0",
	  .arg = "TIME",
	  .help = "Give up after this time; 0 means never. What was not uploaded stays staged" },
	{ .name = NULL },
};

/* The pages that the kernel still holds: sync(2) never reaches the daemon, this does. */
static void flush_kernel(const char *name)
{
	struct mount_entry m;
	int fd;

	if (mounts_of_drive(name, &m) != 1)
		return;
	fd = open(m.mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		syncfs(fd);
		close(fd);
	}
	mount_entry_release(&m);
}

/* "p1 (absent), p4 (full)", or the reason that the daemon gave. */
static void say_why(char *out, size_t size, const json_t *reply)
{
	json_t *list = json_object_get(reply, "trouble"), *b;
	size_t used = 0, i;

	snprintf(out, size, "%s", json_string_value(json_object_get(reply, "reason")) ?: "");
	json_array_foreach(list, i, b)
	{
		int n = snprintf(out + used, size - used, "%s%s (%s)", i ? ", " : "",
				 json_string_value(json_object_get(b, "provider")) ?: "?",
				 json_string_value(json_object_get(b, "state")) ?: "?");

		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

static int tell(const char *name, const json_t *reply)
{
	const char *level = json_string_value(json_object_get(reply, "level"));
	char size[32], why[512];

	if (!level)
		return STATUS_INTERNAL;
	if (!strcmp(level, "dispersed")) {
		printf("%s: everything is on all backends\n", name);
		return STATUS_OK;
	}
	say_why(why, sizeof(why), reply);
	format_size(size, progress_left(json_object_get(reply, "left")));
	if (!strcmp(level, "stored")) {
		printf(
		    "%s: everything is stored on a quorum of the backends; %s have not reached all "
		    "of them yet%s%s. They follow by themselves\n",
		    name, size, *why ? ": " : "", why);
		return STATUS_OK;
	}
	fprintf(
	    stderr,
	    "skyflok sync: %s: everything is durable on this machine, but %s are not stored on "
	    "enough backends%s%s. They follow by themselves; \"skyflok status %s\" shows more\n",
	    name, size, *why ? ": " : "", why, name);
	return STATUS_SOME;
}

static int sync_drive(const struct cmd *cmd, const char *arg, const struct sync_options *o)
{
	char name[DRIVE_NAME_MAX + 1];
	struct control_client *client = NULL;
	struct progress progress;
	json_t *reply = NULL;
	struct paths p = { 0 };
	struct err e = { 0 };
	int status, rc = instance_name(arg, name, &e);

	if (!rc)
		rc = paths_init(&p, name, &e);
	if (!rc)
		rc = instance_connect(&p, &client, &e);
	if (!rc) {
		flush_kernel(name);
		progress_start(&progress, stderr);
		rc = control_call(client, "sync",
				  json_pack("{s:I}", "timeout",
					    (json_int_t)((o->timeout + NS_PER_S - 1) / NS_PER_S)),
				  0, progress_show, &progress, &reply, &e);
		progress_end(&progress);
	}
	status = rc ? cmd_fail(cmd, rc, &e) : tell(name, reply);
	json_decref(reply);
	control_disconnect(client);
	paths_release(&p);
	return status;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct sync_options o;
	struct err e = { 0 };
	char **args;
	int nargs, rc = options_defaults(options, &o, &e);

	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs > 1)
		rc = err_set(&e, -EINVAL, "one drive or mountpoint at a time");
	return rc ? cmd_usage(cmd, &e) : sync_drive(cmd, nargs ? args[0] : NULL, &o);
}

const struct cmd cmd_sync = {
	.name = "sync",
	.synopsis = "[NAME | MOUNTPOINT]",
	.summary = "Wait until everything written so far is on the backends",
	.text = "Exit status 0: on all backends, or on a quorum of them while others are away (it\n"
		"says which). 64: durable here, but on too few backends.\n",
	.options = options,
	.run = run,
};
