#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"
#include "fs/drive/create.h"
#include "fs/drive/unlock.h"

struct destroy_options {
	int yes, force;
};

static const struct option_def options[] = {
	{ .name = "yes",
	  .type = OPT_FLAG,
	  .offset = offsetof(struct destroy_options, yes),
	  .help = "Do not ask" },
	{ .name = "force",
	  .type = OPT_FLAG,
	  .offset = offsetof(struct destroy_options, force),
	  .help = "Go on when a backend cannot be emptied; what it holds stays there" },
	{ .name = NULL },
};

static int confirm(const char *name, const struct config *c, struct err *e)
{
	char question[256], answer[128];

	snprintf(question, sizeof(question),
		 "This deletes the drive \"%s\" and all its files, on all %d backends, for ever.\n"
		 "Type the drive's name to go on: ",
		 name, c->n);
	if (cmd_ask(question, answer, sizeof(answer)))
		return err_set(e, -ENOTTY, "there is no terminal to ask on: give --yes");
	if (strcmp(answer, name))
		return err_set(e, -ECANCELED, "that is not the drive's name; nothing was deleted");
	return 0;
}

/* The daemon's lock, so that nothing mounts meanwhile; the cache folder of the last mount. */
static int take(struct paths *p, int *lock, struct err *e)
{
	struct instance inst;
	int rc;

	*lock = -1;
	if (access(p->state, F_OK))
		return 0;
	instance_look(p, &inst);
	if (inst.cache && strcmp(inst.cache, p->cache)) {
		char *cache = strdup(inst.cache);

		if (cache) {
			free(p->cache);
			p->cache = cache;
		}
	}
	instance_release(&inst);
	rc = instance_lock(p, lock, e);
	return rc == -EBUSY ? err_wrap(e, rc, "cannot destroy") : rc;
}

static int destroy(const struct cmd *cmd, const char *name, const struct destroy_options *o)
{
	struct destroy_report r = { 0 };
	AUTO_CLOSE int lock = -1;
	struct config c = { 0 };
	struct err e = { 0 };
	uint64_t objects = 0;
	struct paths p;
	int rc = paths_init(&p, name, &e);

	if (!rc && access(p.config, F_OK)) {
		rc = create_undo_crashed(&p, &e);
		if (rc != -ENOENT) {
			if (!rc)
				printf(
				    "What an interrupted create or destroy of \"%s\" had left is "
				    "gone.\n",
				    name);
			goto done;
		}
		rc = 0;
	}
	if (!rc)
		rc = config_read(p.config, name, &c, &e);
	if (!rc)
		rc = take(&p, &lock, &e);
	if (!rc && !o->yes)
		rc = confirm(name, &c, &e);
	if (!rc)
		rc = destroy_drive(&p, &c, o->force, NULL, NULL, &r, &e);
	for (int i = 0; i < c.n; i++)
		objects += r.objects[i];
	if (!rc) {
		printf("The drive \"%s\" is gone: %" PRIu64 " objects deleted.\n", name, objects);
		for (int i = 0; i < c.n; i++)
			if (r.result[i])
				printf("Not emptied: %s (%s)\n", c.backends[i].url,
				       backend_reason(r.result[i]));
	}
done:
	config_release(&c);
	paths_release(&p);
	return rc ? cmd_fail(cmd, rc, &e) : STATUS_OK;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct destroy_options o;
	struct err e = { 0 };
	char **args;
	int nargs, rc = options_defaults(options, &o, &e);

	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs != 1)
		rc = err_set(&e, -EINVAL, "the drive's name is needed");
	return rc ? cmd_usage(cmd, &e) : destroy(cmd, args[0], &o);
}

const struct cmd cmd_destroy = {
	.name = "destroy",
	.synopsis = "NAME [--yes] [--force]",
	.summary = "Delete a drive: its objects on all backends and its local files",
	.text =
	    "Asks for the drive's name first. The drive must not be mounted. Can be repeated when\n"
	    "a backend was away.\n",
	.options = options,
	.run = run,
};
