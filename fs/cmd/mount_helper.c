/* mount.skyflok: what mount(8) and fstab call.
 *   mount.skyflok NAME MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE.SUBTYPE] */
#include "fs/cmd/mount_helper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/cmd/cmd.h"
#include "fs/cmd/mount.h"
#include "fs/drive/config.h"
#include "fs/drive/paths.h"

#define USAGE "usage: mount.skyflok NAME MOUNTPOINT [-sfnv] [-o OPTION,...]\n"

struct helper {
	struct mount_options o;
	const char *lists[16];
	int nlists, fake;
	const char *args[2];
	int nargs;
};

static int take_letter(struct helper *h, char letter, const char *value, struct err *e)
{
	switch (letter) {
	case 's':
		h->o.sloppy = 1;
		return 0;
	case 'f':
		h->fake = 1;
		return 0;
	case 'n': /* no mtab: there is none any more */
		return 0;
	case 'v':
		h->o.verbose = 1;
		return 0;
	case 't':
		return 0;
	case 'o':
		if (h->nlists == (int)(sizeof(h->lists) / sizeof(h->lists[0])))
			return err_set(e, -EINVAL, "too many -o");
		h->lists[h->nlists++] = value;
		return 0;
	case 'N':
		return err_set(e, -EINVAL,
			       "-N is not supported: enter the namespace with "
			       "nsenter and mount there");
	default:
		return err_set(e, -EINVAL, "there is no option -%c", letter);
	}
}

static int take_argv(struct helper *h, int argc, char **argv, struct err *e)
{
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] != '-' || !argv[i][1]) {
			if (h->nargs == 2)
				return err_set(e, -EINVAL, "too many arguments: \"%.64s\"",
					       argv[i]);
			h->args[h->nargs++] = argv[i];
			continue;
		}
		for (const char *c = argv[i] + 1; *c; c++) {
			int wants = strchr("otN", *c) != NULL, rc;
			const char *value = NULL;

			if (wants) {
				value = c[1] ? c + 1 : i + 1 < argc ? argv[++i] : NULL;
				if (!value)
					return err_set(e, -EINVAL, "-%c needs a value", *c);
			}
			rc = take_letter(h, *c, value, e);
			if (rc)
				return rc;
			if (wants)
				break;
		}
	}
	return h->nargs == 2 ? 0 : err_set(e, -EINVAL, "drive and mountpoint are needed");
}

/* [mount] of the configuration first, the command line on top. */
static int take_options(struct helper *h, struct err *e)
{
	struct paths p;
	struct config c = { 0 };
	int rc = 0;

	if (!paths_init(&p, h->args[0], NULL)) {
		if (!config_read(p.config, h->args[0], &c, NULL) && c.mount_options)
			rc = mount_options_parse(&h->o, c.mount_options, p.config, e);
		config_release(&c);
		paths_release(&p);
	}
	for (int i = 0; i < h->nlists && !rc; i++)
		rc = mount_options_parse(&h->o, h->lists[i], "-o", e);
	return rc;
}

int mount_helper_main(int argc, char **argv)
{
	struct helper h = { 0 };
	struct err e = { 0 };
	int status, rc;

	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(USAGE "The options are those of \"skyflok help mount\"; see "
				    "mount.skyflok(8).\n",
			      stdout);
			return STATUS_OK;
		}
	mount_options_init(&h.o, &e);
	rc = take_argv(&h, argc, argv, &e);
	if (!rc)
		rc = take_options(&h, &e);
	if (rc) {
		fprintf(stderr, "mount.skyflok: %s\n" USAGE, err_text(&e, rc));
		status = STATUS_USAGE;
	} else if (h.fake) {
		status = STATUS_OK;
	} else if (h.o.remount) {
		status = mount_remount(h.args[1], &h.o);
	} else {
		status = mount_drive(h.args[0], h.args[1], &h.o);
	}
	mount_options_release(&h.o);
	return status;
}
