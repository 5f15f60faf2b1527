#include "fs/cmd/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct cmd *const cmd_all[] = {
	&cmd_create, &cmd_mount, &cmd_umount,  &cmd_sync,    &cmd_status,  &cmd_where, &cmd_limit,
	&cmd_key,    &cmd_list,  &cmd_backend, &cmd_destroy, &cmd_version, &cmd_help,  NULL,
};

const struct cmd *cmd_find(const char *name)
{
	for (int i = 0; cmd_all[i]; i++)
		if (!strcmp(cmd_all[i]->name, name))
			return cmd_all[i];
	return NULL;
}

static const struct option_def *find_option(const struct cmd *cmd, const char *name, size_t n)
{
	for (const struct option_def *d = cmd->options; d && d->name; d++) {
		size_t i = 0;

		while (
		    i < n && d->name[i] &&
		    (d->name[i] == name[i] || (strchr("-_", d->name[i]) && strchr("-_", name[i]))))
			i++;
		if (i == n && !d->name[i])
			return d;
	}
	return NULL;
}

static int unknown(const char *arg, struct err *e)
{
	return err_set(e, -EINVAL, "there is no option \"%.64s\"", arg);
}

struct args {
	int argc, at;
	char **argv;
};

static char *next_value(struct args *a)
{
	return a->at + 1 < a->argc ? a->argv[++a->at] : NULL;
}

static int set_long(const struct cmd *cmd, struct args *a, const char *arg, void *target,
		    struct err *e)
{
	const char *name = arg + 2, *equals = strchr(name, '=');
	size_t n = equals ? (size_t)(equals - name) : strlen(name);
	const struct option_def *d = find_option(cmd, name, n);
	char word[64], where[72];
	const char *value = equals ? equals + 1 : NULL;
	int rc;

	if (!cmd->options || n == 0 || n >= sizeof(word))
		return unknown(arg, e);
	memcpy(word, name, n);
	word[n] = '\0';
	if (!value && d && d->type != OPT_FLAG && d->type != OPT_IGNORE) {
		value = next_value(a);
		if (!value)
			return err_set(e, -EINVAL, "--%s needs a value (%s)", word,
				       d->arg ? d->arg : "VALUE");
	}
	snprintf(where, sizeof(where), "--%s", word);
	rc = options_set(cmd->options, target, word, value, where, e);
	return rc == -ENOENT ? unknown(arg, e) : rc;
}

static int set_short(const struct cmd *cmd, struct args *a, const char *arg, void *target,
		     struct err *e)
{
	for (const char *c = arg + 1; *c; c++) {
		const struct cmd_short *s = cmd->shorts;
		const struct option_def *d;
		const char *value = NULL;
		char where[3] = { '-', *c, '\0' };
		int rc;

		while (s && s->letter && s->letter != *c)
			s++;
		if (!s || !s->letter)
			return unknown(where, e);
		d = find_option(cmd, s->name, strlen(s->name));
		if (d->type != OPT_FLAG) {
			value = c[1] ? c + 1 : next_value(a);
			if (!value)
				return err_set(e, -EINVAL, "%s needs a value (%s)", where,
					       d->arg ? d->arg : "VALUE");
		}
		rc = options_set(cmd->options, target, s->name, value, where, e);
		if (rc || value)
			return rc;
	}
	return 0;
}

int cmd_parse(const struct cmd *cmd, int argc, char **argv, void *target,
	      int (*on_list)(void *target, const char *list, struct err *e), char ***args,
	      int *nargs, struct err *e)
{
	struct args a = { .argc = argc, .argv = argv, .at = 1 };
	int out = 1, rc = 0;

	*args = argv + 1;
	*nargs = 0;
	for (; !rc && a.at < argc; a.at++) {
		char *arg = argv[a.at];

		if (!strcmp(arg, "--")) {
			while (++a.at < argc)
				argv[out++] = argv[a.at];
			break;
		}
		if (arg[0] != '-' || !arg[1]) {
			argv[out++] = arg;
		} else if (on_list && !strncmp(arg, "-o", 2)) {
			const char *list = arg[2] ? arg + 2 : next_value(&a);

			rc = list ? on_list(target, list, e)
				  : err_set(e, -EINVAL, "-o needs a list of options");
		} else if (arg[1] == '-') {
			rc = set_long(cmd, &a, arg, target, e);
		} else {
			rc = set_short(cmd, &a, arg, target, e);
		}
	}
	*nargs = out - 1;
	return rc;
}

int cmd_status_of(int rc)
{
	switch (rc) {
	case 0:
		return STATUS_OK;
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		return STATUS_SYSTEM;
	case -EINTR:
		return STATUS_INTERRUPTED;
	default:
		return STATUS_FAILED;
	}
}

int cmd_fail(const struct cmd *cmd, int rc, const struct err *e)
{
	fprintf(stderr, "skyflok %s: %s\n", cmd->name, err_text(e, rc));
	return cmd_status_of(rc);
}

int cmd_usage(const struct cmd *cmd, const struct err *e)
{
	fprintf(stderr, "skyflok %s: %s\nusage: skyflok %s %s\n\"skyflok help %s\" says more.\n",
		cmd->name, err_text(e, -EINVAL), cmd->name, cmd->synopsis, cmd->name);
	return STATUS_USAGE;
}

void cmd_help_text(const struct cmd *cmd, struct buf *out)
{
	buf_printf(out, "skyflok %s %s\n\n%s.\n", cmd->name, cmd->synopsis, cmd->summary);
	if (cmd->text)
		buf_printf(out, "\n%s", cmd->text);
	if (!cmd->options)
		return;
	buf_printf(out, "\nOptions:\n");
	options_help(cmd->options, "--", out);
	for (const struct cmd_short *s = cmd->shorts; s && s->letter; s++)
		buf_printf(out, "  -%c is --%s\n", s->letter, s->name);
}

int cmd_wants_help(const struct cmd *cmd, int argc, char **argv)
{
	struct buf b = { 0 };

	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (strcmp(argv[i], "--help") && strcmp(argv[i], "-h"))
			continue;
		cmd_help_text(cmd, &b);
		fputs(b.failed ? "out of memory\n" : buf_cstr(&b), stdout);
		buf_release(&b);
		return 1;
	}
	return 0;
}

int cmd_ask(const char *question, char *answer, size_t size)
{
	FILE *tty = fopen("/dev/tty", "r+e");
	int rc = -ENOTTY;

	if (!tty)
		return rc;
	fputs(question, tty);
	fflush(tty);
	if (fgets(answer, (int)size, tty)) {
		answer[strcspn(answer, "\r\n")] = '\0';
		rc = 0;
	}
	fclose(tty);
	return rc;
}
