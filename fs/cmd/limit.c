#include <errno.h>
#include <stdio.h>

#include "fs/base/clock.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"

#define ANSWER_LIMIT (30 * NS_PER_S)
#define UNCHANGED    UINT64_MAX

struct limit_options {
	uint64_t up, down;
};

static const struct option_def options[] = {
	{ .name = "up",
	  .type = OPT_SIZE,
	  .offset = offsetof(struct limit_options, up),
	  .max = INT64_MAX,
	  .arg = "SIZE",
	  .help = "Bytes per second that all backends together are sent, 16K or more; 0 means no "
		  "limit" },
	{ .name = "down",
	  .type = OPT_SIZE,
	  .offset = offsetof(struct limit_options, down),
	  .max = INT64_MAX,
	  .arg = "SIZE",
	  .help = "The same for what is fetched" },
	{ .name = NULL },
};

static const char *rate(char out[40], const json_t *reply, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(reply, key));
	char size[32];

	if (v)
		snprintf(out, 40, "at most %s/s", format_size(size, (uint64_t)v));
	else
		snprintf(out, 40, "no limit");
	return out;
}

static json_t *request(const struct limit_options *o)
{
	json_t *args = json_object();

	if (o->up != UNCHANGED)
		json_object_set_new(args, "up", json_integer((json_int_t)o->up));
	if (o->down != UNCHANGED)
		json_object_set_new(args, "down", json_integer((json_int_t)o->down));
	return args;
}

static int limit_drive(const char *arg, const struct limit_options *o, struct err *e)
{
	char name[DRIVE_NAME_MAX + 1], up[40], down[40];
	struct control_client *client = NULL;
	struct paths p = { 0 };
	json_t *reply = NULL;
	int rc = instance_name(arg, name, e);

	if (!rc)
		rc = paths_init(&p, name, e);
	if (!rc)
		rc = instance_connect(&p, &client, e);
	if (!rc)
		rc = control_call(client, "limit", request(o), ANSWER_LIMIT, NULL, NULL, &reply, e);
	if (!rc)
		printf("Up: %s. Down: %s.\n", rate(up, reply, "up"), rate(down, reply, "down"));
	json_decref(reply);
	control_disconnect(client);
	paths_release(&p);
	return rc;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct limit_options o;
	struct err e = { 0 };
	char **args;
	int nargs, rc = options_defaults(options, &o, &e);

	o.up = o.down = UNCHANGED;
	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs > 1)
		rc = err_set(&e, -EINVAL, "one drive or mountpoint at a time");
	if (rc)
		return cmd_usage(cmd, &e);
	rc = limit_drive(nargs ? args[0] : NULL, &o, &e);
	return rc ? cmd_fail(cmd, rc, &e) : STATUS_OK;
}

const struct cmd cmd_limit = {
	.name = "limit",
	.synopsis = "[NAME | MOUNTPOINT] [--up SIZE] [--down SIZE]",
	.summary = "Show or change how much bandwidth a mounted drive may use",
	.text =
	    "Holds until the unmount; the mount options bwlimit-up and bwlimit-down set it from\n"
	    "the start. Transfers that are under way end at their old pace.\n",
	.options = options,
	.run = run,
};
