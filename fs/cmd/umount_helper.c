/* umount.fuse.skyflok: what umount(8) calls for filesystems of this type, so that it waits until
 * the drive is uploaded. libmount looks for umount.TYPE in /sbin, with the TYPE of mountinfo.
 *   umount.fuse.skyflok MOUNTPOINT [-flnrv] [-N NAMESPACE] [-t TYPE.SUBTYPE] */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/cmd/cmd.h"
#include "fs/cmd/umount.h"

#define USAGE "usage: umount.fuse.skyflok MOUNTPOINT [-flnrv] [-t TYPE.SUBTYPE]\n"

struct helper {
	struct umount_options o;
	const char *mountpoint;
};

static int take_letter(struct helper *h, char letter, struct err *e)
{
	switch (letter) {
	case 'f':
		h->o.force = 1;
		return 0;
	case 'l':
		h->o.lazy = 1;
		return 0;
	case 'r':
		h->o.readonly = 1;
		return 0;
	case 'v':
		h->o.quiet = 0;
		return 0;
	case 'n': /* no mtab: there is none any more */
	case 't':
		return 0;
	case 'N':
		return err_set(e, -EINVAL,
			       "-N is not supported: enter the namespace with nsenter and unmount "
			       "there");
	default:
		return err_set(e, -EINVAL, "there is no option -%c", letter);
	}
}

/* One word of options; *value is set when the next word belongs to it. */
static int take_word(struct helper *h, const char *word, int *value, struct err *e)
{
	*value = 0;
	for (const char *c = word + 1; *c; c++) {
		int rc = take_letter(h, *c, e);

		if (rc)
			return rc;
		if (*c == 't') {
			*value = !c[1];
			return 0;
		}
	}
	return 0;
}

static int take_argv(struct helper *h, int argc, char **argv, struct err *e)
{
	for (int i = 1; i < argc; i++) {
		int value = 0, rc = 0;

		if (argv[i][0] == '-' && argv[i][1])
			rc = take_word(h, argv[i], &value, e);
		else if (h->mountpoint)
			rc = err_set(e, -EINVAL, "too many arguments: \"%.64s\"", argv[i]);
		else
			h->mountpoint = argv[i];
		if (!rc && value && ++i == argc)
			rc = err_set(e, -EINVAL, "-t needs a value");
		if (rc)
			return rc;
	}
	return h->mountpoint ? 0 : err_set(e, -EINVAL, "the mountpoint is missing");
}

int umount_helper_main(int argc, char **argv)
{
	struct helper h = { .o = { .drain = -1, .quiet = 1 } };
	struct err e = { 0 };

	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(USAGE "See mount.skyflok(8).\n", stdout);
			return STATUS_OK;
		}
	if (take_argv(&h, argc, argv, &e)) {
		fprintf(stderr, "umount.fuse.skyflok: %s\n" USAGE, err_text(&e, -EINVAL));
		return STATUS_USAGE;
	}
	return umount_drive(&cmd_umount, h.mountpoint, &h.o);
}
