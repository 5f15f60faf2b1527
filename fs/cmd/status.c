#include "fs/drive/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"

#define ANSWER_LIMIT (30 * NS_PER_S)

struct status_options {
	int json;
};

static const struct option_def options[] = {
	{ .name = "json",
	  .type = OPT_FLAG,
	  .offset = offsetof(struct status_options, json),
	  .help = "The same as JSON" },
	{ .name = NULL },
};

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key)) ?: "";
}

static const char *size_of(char out[32], const json_t *o, const char *key)
{
	return format_size(out, (uint64_t)number(o, key));
}

static const char *latency(char out[16], const json_t *b, const char *key)
{
	const json_t *v = json_object_get(b, key);

	if (json_is_real(v) && json_real_value(v) < 0.1)
		snprintf(out, 16, "<0.1 ms");
	else if (json_is_real(v))
		snprintf(out, 16, json_real_value(v) < 10 ? "%.1f ms" : "%.0f ms",
			 json_real_value(v));
	else
		snprintf(out, 16, "-");
	return out;
}

static void print_head(const json_t *o)
{
	const char *state = text(o, "state");

	printf("Drive \"%s\": any %d of its %d backends hold all of it (%d data + %d parity)\n",
	       text(o, "name"), (int)number(o, "data"),
	       (int)(number(o, "data") + number(o, "parity")), (int)number(o, "data"),
	       (int)number(o, "parity"));
	if (!strcmp(state, "mounted"))
		printf("Mounted on %s%s (process %d)\n", text(o, "mountpoint"),
		       json_is_true(json_object_get(o, "read_only")) ? ", read-only" : "",
		       (int)number(o, "pid"));
	else if (number(o, "pid"))
		printf("Unmounted, still uploading (process %d)\n", (int)number(o, "pid"));
	else
		printf("Not mounted; what follows was known at the end of the last mount\n");
	if (json_is_string(json_object_get(o, "failed")))
		printf("READ-ONLY after an error of the local disk (%s): nothing more is accepted; "
		       "see "
		       "the log\n",
		       text(o, "failed"));
}

static void print_backends(const json_t *o)
{
	json_t *list = json_object_get(o, "backends"), *b;
	char size[32], get[16], put[16];
	size_t i;

	printf("\n  #  %-20s %-12s %-8s %8s %11s %9s %9s\n", "PROVIDER", "LOCATION", "STATE",
	       "SHARDS", "STORED", "READ", "WRITE");
	json_array_foreach(list, i, b)
	{
		printf(" %2zu  %-20.60s %-12.20s %-8s %8" JSON_INTEGER_FORMAT " %11s %9s %9s\n", i,
		       text(b, "provider"), text(b, "location"), text(b, "state"),
		       number(b, "shards"), size_of(size, b, "bytes"),
		       latency(get, b, "latency_get"), latency(put, b, "latency_put"));
		if (json_is_string(json_object_get(b, "error")))
			printf("     %s: %s\n", text(b, "url"), text(b, "error"));
	}
}

/* "1 segment is", "2 segments are" */
static const char *segments(char out[64], json_int_t n, const char *one, const char *many)
{
	snprintf(out, 64, "%" JSON_INTEGER_FORMAT " segment%s%s", n, n == 1 ? "" : "s",
		 n == 1 ? one : many);
	return out;
}

static void print_content(const json_t *o)
{
	const json_t *seg = json_object_get(o, "segments"), *bytes = json_object_get(o, "bytes");
	json_int_t n = number(o, "data") + number(o, "parity");
	json_int_t waiting = number(seg, "open") + number(seg, "closed") + number(seg, "uploading");
	json_int_t below = number(seg, "below_n");
	char a[32], b[32], c[32], count[64];

	printf("\nContent    %s in %" JSON_INTEGER_FORMAT " files and folders\n",
	       size_of(a, bytes, "content"), number(o, "files"));
	printf("Dispersed  %s on all %" JSON_INTEGER_FORMAT " backends\n",
	       segments(count, number(seg, "dispersed"), " is", " are"), n);
	if (below)
		printf("Stored     %s on enough backends, but not on all: %s to heal\n",
		       segments(count, below, " is", " are"), size_of(a, bytes, "to_heal"));
	if (waiting)
		printf("Staged     %s here are not on all backends yet; %s to upload: %s\n",
		       size_of(a, bytes, "staged"), segments(count, waiting, "", ""),
		       size_of(b, bytes, "to_upload"));
	else if (number(bytes, "staged") || number(bytes, "dirty"))
		printf("Staged     %s here are not on all backends yet\n",
		       size_of(a, bytes, "staged"));
	else
		printf("Staged     nothing: all of it is on the backends\n");
	if (number(bytes, "cache_size"))
		printf(
		    "Cache      %s of %s used, %s of that can be fetched again\n",
		    format_size(a, (uint64_t)(number(bytes, "staged") + number(bytes, "cached"))),
		    size_of(b, bytes, "cache_size"), size_of(c, bytes, "cached"));
	if (number(seg, "dropped"))
		printf("Dropped    %s nothing any more; the objects still take space\n",
		       segments(count, number(seg, "dropped"), " holds", " hold"));
}

static void print_limits(const json_t *o)
{
	const json_t *b = json_object_get(o, "bandwidth");
	char up[32], down[32];

	if (!number(b, "up") && !number(b, "down"))
		return;
	printf("Bandwidth  at most %s%s up, %s%s down\n",
	       number(b, "up") ? size_of(up, b, "up") : "any", number(b, "up") ? "/s" : "",
	       number(b, "down") ? size_of(down, b, "down") : "any", number(b, "down") ? "/s" : "");
}

static void print_safety(const json_t *o)
{
	json_int_t more = number(o, "losses_survivable");
	const json_t *bytes = json_object_get(o, "bytes");

	if (more > 0)
		printf("Safety     everything uploaded survives the loss of %" JSON_INTEGER_FORMAT
		       " more backend%s\n",
		       more, more == 1 ? "" : "s");
	else if (more == 0)
		printf(
		    "Safety     everything uploaded can be read, but not one more backend may be "
		    "lost\n");
	else
		printf("Safety     AT RISK: part of what was uploaded needs %" JSON_INTEGER_FORMAT
		       " more backend%s to be read\n",
		       -more, more == -1 ? "" : "s");
	if (number(bytes, "dirty") + number(bytes, "staged"))
		printf(
		    "           what is staged survives a crash or power cut, not the loss of this "
		    "machine\n");
	if (json_is_integer(json_object_get(o, "header_pending")))
		printf("Keys       a change of keys (header %" JSON_INTEGER_FORMAT
		       ") is not on all backends yet; the old keys work until it is\n",
		       number(o, "header_pending"));
}

static int from_daemon(const struct paths *p, json_t **out, struct err *e)
{
	struct control_client *client;
	int rc = instance_connect(p, &client, e);

	if (rc)
		return rc;
	rc = control_call(client, "status", NULL, ANSWER_LIMIT, NULL, NULL, out, e);
	control_disconnect(client);
	return rc;
}

static int status_of(const char *name, json_t **out, struct err *e)
{
	struct config c = { 0 };
	struct paths p;
	int rc = paths_init(&p, name, e);

	if (rc)
		return rc;
	rc = from_daemon(&p, out, e);
	if (rc == -ENOTCONN || rc == -EPIPE || rc == -ESHUTDOWN) {
		rc = config_read(p.config, name, &c, e);
		if (!rc)
			rc = status_offline(&p, &c, out, e);
		if (!rc)
			json_object_set_new(*out, "state", json_string("not mounted"));
		config_release(&c);
	}
	paths_release(&p);
	return rc;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	char name[DRIVE_NAME_MAX + 1];
	struct status_options o;
	struct err e = { 0 };
	json_t *status = NULL;
	char **args;
	int nargs, rc = options_defaults(options, &o, &e);

	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs > 1)
		rc = err_set(&e, -EINVAL, "one drive or mountpoint at a time");
	if (rc)
		return cmd_usage(cmd, &e);
	rc = instance_name(nargs ? args[0] : NULL, name, &e);
	if (!rc)
		rc = status_of(name, &status, &e);
	if (rc)
		return cmd_fail(cmd, rc, &e);
	if (o.json) {
		json_object_del(status, "ok");
		json_dumpf(status, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_head(status);
		print_backends(status);
		print_content(status);
		print_limits(status);
		print_safety(status);
	}
	json_decref(status);
	return STATUS_OK;
}

const struct cmd cmd_status = {
	.name = "status",
	.synopsis = "[NAME | MOUNTPOINT] [--json]",
	.summary = "Show the backends, what is staged, stored and dispersed, and how safe it is",
	.text = "STATE of a backend: ok, slow, absent (folder or bucket missing), down, denied\n"
		"(credentials), full, corrupt (delivered wrong bytes lately).\n",
	.options = options,
	.run = run,
};
