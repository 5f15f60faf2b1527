/* skyflok, and by the name it is called, mount.skyflok and umount.fuse.skyflok. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "fs/base/failpoint.h"
#include "fs/base/log.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/mount_helper.h"
#include "fs/cmd/umount.h"

/* Descriptors 0, 1, 2 have to be something, or a file opened later would get our messages. */
static void open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

/* A core dump would write keys, OpenSSL's copies of them and whole files in clear to a disk. secmem
 * leaves its own pages out; the rest of the memory only this does. Not being dumpable also keeps
 * other processes of the same user from reading it. */
static void forbid_dumps(void)
{
	static const struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static int overview(FILE *to, int status)
{
	fputs("usage: skyflok COMMAND [ARGUMENTS]\n\n", to);
	for (int i = 0; cmd_all[i]; i++)
		fprintf(to, "  %-9s %s\n", cmd_all[i]->name, cmd_all[i]->summary);
	fputs("\n\"skyflok help COMMAND\" or \"skyflok COMMAND --help\" says more.\n", to);
	return status;
}

int main(int argc, char **argv)
{
	const char *program = argc ? strrchr(argv[0], '/') : NULL;
	const struct cmd *cmd;

	open_standard_fds();
	forbid_dumps();
	umask(077); /* every file of ours is for its owner alone */
	failpoint_load(NULL);
	log_set_level(LOG_LV_WARN); /* mount sets its own */
	program = program ? program + 1 : argc ? argv[0] : "skyflok";
	if (!strncmp(program, "mount.", 6))
		return mount_helper_main(argc, argv);
	if (!strncmp(program, "umount.", 7))
		return umount_helper_main(argc, argv);
	if (argc < 2)
		return overview(stderr, STATUS_USAGE);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return overview(stdout, STATUS_OK);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
		return cmd_version.run(&cmd_version, 1, argv + 1);
	cmd = cmd_find(argv[1]);
	if (!cmd) {
		fprintf(stderr, "skyflok: there is no command \"%.64s\"\n", argv[1]);
		return overview(stderr, STATUS_USAGE);
	}
	if (cmd_wants_help(cmd, argc - 1, argv + 1))
		return STATUS_OK;
	return cmd->run(cmd, argc - 1, argv + 1);
}
