#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"
#include "fs/cmd/mounts.h"

#define ANSWER_LIMIT (30 * NS_PER_S)

struct where_options {
	int json;
};

static const struct option_def options[] = {
	{ .name = "json",
	  .type = OPT_FLAG,
	  .offset = offsetof(struct where_options, json),
	  .help = "The same as JSON" },
	{ .name = NULL },
};

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* The drive that a file lies on. */
static int drive_of(const char *file, const struct stat *st, char name[DRIVE_NAME_MAX + 1],
		    struct err *e)
{
	struct mount_entry m;
	int rc = mounts_of_dev(st->st_dev, &m);

	if (rc == 1 && mount_entry_drive(&m)) {
		snprintf(name, DRIVE_NAME_MAX + 1, "%s", mount_entry_drive(&m));
		rc = 0;
	} else {
		rc = err_set(e, -EINVAL, "%s: is not on a skyflok drive", file);
	}
	mount_entry_release(&m);
	return rc;
}

static int ask(const char *file, json_t **out, struct err *e)
{
	char name[DRIVE_NAME_MAX + 1];
	struct control_client *client = NULL;
	struct paths p = { 0 };
	json_t *status = NULL;
	struct stat st;
	int rc;

	if (lstat(file, &st))
		return err_set(e, -errno, "%s: %s", file, strerror(errno));
	rc = drive_of(file, &st, name, e);
	if (!rc)
		rc = paths_init(&p, name, e);
	if (!rc)
		rc = instance_connect(&p, &client, e);
	if (rc == -ENOTCONN) /* the file is there, so it is mounted */
		rc = instance_elsewhere(name, e);
	if (!rc)
		rc = control_call(client, "where", json_pack("{s:I}", "ino", (json_int_t)st.st_ino),
				  ANSWER_LIMIT, NULL, NULL, out, e);
	if (!rc)
		rc = control_call(client, "status", NULL, ANSWER_LIMIT, NULL, NULL, &status, e);
	if (!rc) {
		json_object_del(*out, "ok");
		json_object_set_new(*out, "file", control_text(file));
		json_object_set_new(*out, "drive", json_string(name));
		json_object_set_new(*out, "size", json_integer(st.st_size));
		json_object_set(*out, "places", json_object_get(status, "backends"));
	}
	json_decref(status);
	control_disconnect(client);
	paths_release(&p);
	return rc;
}

static void print_place(const json_t *places, size_t i)
{
	const json_t *b = json_array_get(places, i);
	const char *location = json_string_value(json_object_get(b, "location")) ?: "";

	printf("%s%s%s", json_string_value(json_object_get(b, "provider")) ?: "?",
	       *location ? " " : "", location);
}

static void print_segment(const json_t *s, const json_t *places, int k, int n)
{
	json_t *holders = json_object_get(s, "backends"), *h;
	const char *level = json_string_value(json_object_get(s, "level")) ?: "";
	size_t count = json_array_size(holders), i;

	printf("  segment %s: %s%s\n", json_string_value(json_object_get(s, "id")), level,
	       json_is_true(json_object_get(s, "cached")) ? ", also in the cache here" : "");
	if (!count) {
		printf("    only on this machine so far\n");
		return;
	}
	json_array_foreach(holders, i, h)
	{
		json_int_t at = json_integer_value(h);

		printf("    shard %" JSON_INTEGER_FORMAT " %s on backend %" JSON_INTEGER_FORMAT
		       ": ",
		       at, at < k ? "(data)  " : "(parity)", at);
		print_place(places, (size_t)at);
		putchar('\n');
	}
	if (count < (size_t)n)
		printf("    %zu of %d shards are still missing\n", (size_t)n - count, n);
}

/* Labels may be shared: what one provider holds over all its backends is what it could use. */
static int most_at_one_provider(const json_t *s, const json_t *places)
{
	json_t *holders = json_object_get(s, "backends"), *a, *b;
	size_t i, j;
	int most = 0;

	json_array_foreach(holders, i, a)
	{
		const json_t *pa = json_array_get(places, (size_t)json_integer_value(a));
		int same = 0;

		json_array_foreach(holders, j, b)
		{
			const json_t *pb = json_array_get(places, (size_t)json_integer_value(b));

			same += json_equal(json_object_get(pa, "provider"),
					   json_object_get(pb, "provider"));
		}
		most = MAX(most, same);
	}
	return most;
}

static void print_file(const json_t *o)
{
	json_t *segments = json_object_get(o, "segments"), *s;
	const json_t *places = json_object_get(o, "places");
	int k = (int)number(o, "data"), n = k + (int)number(o, "parity"), most = 0, uploaded = 0;
	char size[32];
	size_t i;

	printf("%s: %s on the drive \"%s\", in %zu segment%s\n",
	       json_string_value(json_object_get(o, "file")),
	       format_size(size, (uint64_t)number(o, "size")),
	       json_string_value(json_object_get(o, "drive")), json_array_size(segments),
	       json_array_size(segments) == 1 ? "" : "s");
	if (number(o, "dirty"))
		printf("  %s were just written and are only in memory (at most a second)\n",
		       format_size(size, (uint64_t)number(o, "dirty")));
	json_array_foreach(segments, i, s)
	{
		print_segment(s, places, k, n);
		most = MAX(most, most_at_one_provider(s, places));
		uploaded |= json_array_size(json_object_get(s, "backends")) > 0;
	}
	if (!uploaded)
		return;
	if (most < k)
		printf("  Any %d shards rebuild it; no provider holds more than %d, so none can "
		       "rebuild "
		       "even the encrypted bytes.\n",
		       k, most);
	else if (k > 1)
		printf(
		    "  One provider holds %d shards and could rebuild the encrypted bytes (%d are "
		    "enough); without the key it reads nothing.\n",
		    most, k);
	else
		printf("  Each backend holds all encrypted bytes; without the key it reads "
		       "nothing.\n");
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct where_options o;
	struct err e = { 0 };
	json_t *all = json_array();
	char **args;
	int nargs, failed = 0, status = STATUS_OK, rc = options_defaults(options, &o, &e);

	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs < 1)
		rc = err_set(&e, -EINVAL, "at least one file is needed");
	if (rc) {
		json_decref(all);
		return cmd_usage(cmd, &e);
	}
	for (int i = 0; i < nargs; i++) {
		json_t *one = NULL;

		rc = ask(args[i], &one, &e);
		if (rc) {
			json_decref(one);
			status = cmd_fail(cmd, rc, &e);
			failed++;
			continue;
		}
		if (!o.json)
			print_file(one);
		json_array_append_new(all, one);
	}
	if (o.json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(all);
	return failed && failed < nargs ? STATUS_SOME : status;
}

const struct cmd cmd_where = {
	.name = "where",
	.synopsis = "FILE... [--json]",
	.summary = "Show which backends hold which shards of a file",
	.text = "The files must be on a mounted drive. Nothing is read from the backends.\n",
	.options = options,
	.run = run,
};
