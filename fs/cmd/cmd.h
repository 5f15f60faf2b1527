/* What the subcommands share. One file per subcommand; main.c holds their table. */
#ifndef FS_CMD_CMD_H
#define FS_CMD_CMD_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/options.h"

/* Exit statuses, as mount(8) documents them; all commands use the same. */
enum {
	STATUS_OK = 0,
	STATUS_USAGE = 1,       /* wrong invocation */
	STATUS_SYSTEM = 2,      /* out of memory, cannot fork... */
	STATUS_INTERNAL = 4,    /* a bug */
	STATUS_INTERRUPTED = 8, /* by the user */
	STATUS_FAILED = 32,     /* it did not work; the sentence says why */
	STATUS_SOME = 64,       /* part of it worked; the sentence says which */
};

/* A short option: -f is --foreground. */
struct cmd_short {
	char letter;
	const char *name;
};

struct cmd {
	const char *name;
	const char *synopsis;             /* behind "skyflok NAME" */
	const char *summary;              /* one line */
	const char *text;                 /* the help, without the options */
	const struct option_def *options; /* NULL: none */
	const struct cmd_short *shorts;   /* ends with letter 0; may be NULL */
	int (*run)(const struct cmd *cmd, int argc, char **argv); /* argv[0] is the name; returns an
								     exit status */
};

extern const struct cmd cmd_create, cmd_mount, cmd_umount, cmd_sync, cmd_status, cmd_where,
    cmd_limit, cmd_key, cmd_list, cmd_backend, cmd_destroy, cmd_version, cmd_help;
extern const struct cmd *const cmd_all[]; /* ends with NULL */
const struct cmd *cmd_find(const char *name);

/* Parses the options out of argv into target, on top of what is there (options_defaults comes
 * before): --name VALUE, --name=VALUE, flags, short ones, and "-o LIST" handed to on_list (NULL:
 * there is no -o). What is left are the arguments: *args points into argv, which is reordered,
 * *nargs of them. -EINVAL or the code of on_list with *e. */
int cmd_parse(const struct cmd *cmd, int argc, char **argv, void *target,
	      int (*on_list)(void *target, const char *list, struct err *e), char ***args,
	      int *nargs, struct err *e);

/* "skyflok create: SENTENCE" on stderr. Returns the exit status that fits rc: 2 for lack of
 * resources, 8 for -EINTR, else 32. */
int cmd_fail(const struct cmd *cmd, int rc, const struct err *e);
/* The same for a wrong invocation, with a hint at --help. Returns STATUS_USAGE. */
int cmd_usage(const struct cmd *cmd, const struct err *e);
int cmd_status_of(int rc);

/* The whole help text of a subcommand. */
void cmd_help_text(const struct cmd *cmd, struct buf *out);

/* 1 when argv asks for help (--help or -h before a "--"); it was printed. */
int cmd_wants_help(const struct cmd *cmd, int argc, char **argv);

/* Reads a line of the terminal into answer (NUL-terminated, without newline); 0 or -ENOTTY. */
int cmd_ask(const char *question, char *answer, size_t size);

#endif
