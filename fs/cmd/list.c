#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"
#include "fs/drive/config.h"

struct list_options {
	int json;
};

static const struct option_def options[] = {
	{ .name = "json",
	  .type = OPT_FLAG,
	  .offset = offsetof(struct list_options, json),
	  .help = "The same as JSON" },
	{ .name = NULL },
};

/* One row; a damaged configuration is a row too, with its sentence. */
static json_t *describe(const char *name)
{
	struct instance inst = { 0 };
	struct config c = { 0 };
	struct err e = { 0 };
	struct paths p;
	json_t *o = json_pack("{s:s}", "name", name);

	if (paths_init(&p, name, &e)) {
		json_object_set_new(o, "error", control_text(e.text));
		return o;
	}
	if (config_read(p.config, name, &c, &e)) {
		json_object_set_new(o, "error", control_text(e.text));
	} else {
		json_object_set_new(o, "data", json_integer(c.k));
		json_object_set_new(o, "parity", json_integer(c.m));
	}
	instance_look(&p, &inst);
	json_object_set_new(o, "pid", inst.running ? json_integer(inst.pid) : json_null());
	json_object_set_new(o, "mountpoint",
			    inst.running && inst.mountpoint ? control_text(inst.mountpoint)
							    : json_null());
	json_object_set_new(o, "config", control_text(p.config));
	instance_release(&inst);
	config_release(&c);
	paths_release(&p);
	return o;
}

static void print_row(const json_t *o)
{
	const char *error = json_string_value(json_object_get(o, "error"));
	const char *at = json_string_value(json_object_get(o, "mountpoint"));
	char code[32];

	snprintf(code, sizeof(code), "%d + %d", (int)json_integer_value(json_object_get(o, "data")),
		 (int)json_integer_value(json_object_get(o, "parity")));
	printf("%-20s %-8s %s\n", json_string_value(json_object_get(o, "name")), error ? "?" : code,
	       error ? error
	       : at  ? at
		     : "not mounted");
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct list_options o;
	struct err e = { 0 };
	json_t *all = json_array(), *row;
	char **args, **names = NULL;
	size_t i;
	int nargs, count = 0, rc = options_defaults(options, &o, &e);

	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs)
		rc = err_set(&e, -EINVAL, "no argument is expected");
	if (rc) {
		json_decref(all);
		return cmd_usage(cmd, &e);
	}
	rc = paths_list(&names, &count, &e);
	for (int j = 0; j < count; j++)
		json_array_append_new(all, describe(names[j]));
	paths_list_free(names, count);
	if (!rc && o.json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (!rc) {
		json_array_foreach(all, i, row) print_row(row);
		if (!count)
			printf("no drive yet; \"skyflok help create\" says how to make one\n");
	}
	json_decref(all);
	return rc ? cmd_fail(cmd, rc, &e) : STATUS_OK;
}

const struct cmd cmd_list = {
	.name = "list",
	.synopsis = "[--json]",
	.summary = "Show the drives of this machine and where they are mounted",
	.options = options,
	.run = run,
};
