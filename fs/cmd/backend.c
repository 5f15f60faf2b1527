#include "backends/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"

struct backend_options {
	char *credentials;
};

static const struct option_def options[] = {
	{ .name = "credentials",
	  .type = OPT_STRING,
	  .offset = offsetof(struct backend_options, credentials),
	  .arg = "FILE",
	  .help = "Credential file, mode 0600, for a URL with credentials=NAME, as for create" },
	{ .name = NULL },
};

/* What would be a wrong invocation, before anything is asked. */
static int check(const char *url, const struct backend_options *o, struct err *e)
{
	struct backend_url u;
	int rc = backend_url_parse(url, &u, e);

	if (rc)
		return rc;
	backend_url_release(&u);
	if (o->credentials && access(o->credentials, R_OK))
		return err_set(e, -EINVAL, "--credentials: %s: %s", o->credentials,
			       strerror(errno));
	return 0;
}

static int test(const struct cmd *cmd, const char *url, const struct backend_options *o)
{
	struct backend_env env = { .credentials_file = o->credentials };
	struct buf report = { 0 };
	struct probe p;
	int rc;

	/* The report says in words what the log would say a second time. */
	log_set_level(LOG_LV_ERROR);
	rc = probe_run(url, &env, &p);
	probe_print(&p, &report);
	if (report.failed) {
		buf_release(&report);
		return cmd_fail(cmd, -ENOMEM, &(struct err){ 0 });
	}
	fputs(buf_cstr(&report), stdout);
	puts(rc ? "It cannot be a backend of a drive as it is."
		: "It can be a backend of a drive.");
	buf_release(&report);
	return cmd_status_of(rc);
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct backend_options o;
	struct err e = { 0 };
	char **args;
	int nargs, status, rc = options_defaults(options, &o, &e);

	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && (nargs < 1 || strcmp(args[0], "test")))
		rc = err_set(&e, -EINVAL, "what to do with a backend is missing: test");
	if (!rc && nargs != 2)
		rc = err_set(&e, -EINVAL,
			     nargs < 2 ? "the URL is missing" : "one URL at a time; quote it");
	if (!rc)
		rc = check(args[1], &o, &e);
	status = rc ? cmd_usage(cmd, &e) : test(cmd, args[1], &o);
	options_release(options, &o);
	return status;
}

const struct cmd cmd_backend = {
	.name = "backend",
	.synopsis = "test URL [--credentials FILE]",
	.summary = "Try whether a place can be a backend of a drive",
	.text = "Checks credentials, put, get, ranges, list, delete, \"only if absent\" and the "
		"clock,\n"
		"measures latency and throughput, and says in words what is wrong. A few objects\n"
		"below skyflok-test-... are written and deleted again. \"skyflok help backends\" "
		"says\n"
		"how a URL is written.\n",
	.options = options,
	.run = run,
};
