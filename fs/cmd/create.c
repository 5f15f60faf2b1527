#include "fs/drive/create.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"

struct create_options {
	int64_t data, parity;
	uint64_t extent, quota;
	int compress, insist, keep_order;
	char *passfile, *keyfile, *credentials;
	int64_t passfd;
	uint64_t kdf_memory;
};

#define AT(member) .offset = offsetof(struct create_options, member)

static const struct option_def options[] = {
	{ .name = "data",
	  .type = OPT_INT,
	  AT(data),
	  .min = 1,
	  .max = DRIVE_MAX_BACKENDS,
	  .arg = "K",
	  .help = "How many backends are enough to read everything" },
	{ .name = "parity",
	  .type = OPT_INT,
	  AT(parity),
	  .max = DRIVE_MAX_BACKENDS - 1,
	  .arg = "M",
	  .help = "How many backends may be lost" },
	{ .name = "extent",
	  .type = OPT_SIZE,
	  AT(extent),
	  .min = CONFIG_EXTENT_MIN,
	  .max = CONFIG_EXTENT_MAX,
	  .dflt = "128K",
	  .arg = "SIZE",
	  .help = "Largest piece that is encrypted and coded as one; a power of two" },
	{ .name = "compress",
	  .type = OPT_CHOICE,
	  AT(compress),
	  .choices = config_compress_words,
	  .dflt = "none",
	  .arg = "HOW",
	  .help = "Compress content before it is encrypted" },
	{ .name = "quota",
	  .type = OPT_SIZE,
	  AT(quota),
	  .max = INT64_MAX,
	  .dflt = "0",
	  .arg = "SIZE",
	  .help = "Size of the drive; 0 means as much as the backends hold" },
	{ .name = "provider-limit-override",
	  .type = OPT_FLAG,
	  AT(insist),
	  .help = "Allow a layout in which one provider's loss loses the drive, or one provider "
		  "could rebuild the encrypted content" },
	{ .name = "keep-order",
	  .type = OPT_FLAG,
	  AT(keep_order),
	  .help = "Shard i goes to the i-th URL. Else the content itself goes to the places that "
		  "are cheapest (cost= in the URL; folders are free) and fastest to read, parity "
		  "to the others" },
	{ .name = "credentials",
	  .type = OPT_STRING,
	  AT(credentials),
	  .arg = "FILE",
	  .help = "Take over this file, mode 0600, as the drive's credentials: one [section] for "
		  "each credentials=NAME in the URLs" },
	{ .name = "passfile",
	  .type = OPT_STRING,
	  AT(passfile),
	  .arg = "FILE",
	  .help = "Read the passphrase from this file, mode 0600" },
	{ .name = "passfd",
	  .type = OPT_INT,
	  AT(passfd),
	  .max = INT_MAX,
	  .arg = "N",
	  .help = "Read the passphrase from this open file descriptor" },
	{ .name = "keyfile",
	  .type = OPT_STRING,
	  AT(keyfile),
	  .arg = "FILE",
	  .help = "Lock the drive with this key file, mode 0600, instead of a passphrase" },
	{ .name = "kdf-memory",
	  .type = OPT_SIZE,
	  AT(kdf_memory),
	  .min = 8ll << 20,
	  .max = 1ll << 30,
	  .dflt = "256M",
	  .arg = "SIZE",
	  .help = "Memory that one guess of the passphrase costs (Argon2id)" },
	{ .name = NULL },
};

static void tell_place(const struct config *c, const struct create_report *r, int i)
{
	char ms[32] = "";

	if (r->latency[i])
		snprintf(ms, sizeof(ms), "  (%.1f ms)", (double)r->latency[i] / (double)NS_PER_MS);
	printf("  %2d  %-24s %-12s %s%s\n", i, c->backends[i].parsed.provider,
	       c->backends[i].parsed.location, c->backends[i].url, ms);
}

static void tell(const struct paths *p, const struct config *c, const struct create_report *r)
{
	printf(
	    "The drive \"%s\" is made: %d data + %d parity over %d backends; any %d of them hold "
	    "all of it.\n",
	    p->name, c->k, c->m, c->n, c->k);
	for (int i = 0; i < c->n; i++)
		tell_place(c, r, i);
	if (r->moved)
		printf("This is not the order given: the first %d hold the content itself and are "
		       "the cheapest\nor fastest to read, the others hold parity.\n",
		       c->k);
	for (int i = 0; i < c->n; i++)
		if (r->unconditional >> i & 1)
			printf(
			    "Backend %d ignores \"only if absent\" and writes over what is there. "
			    "Nothing of this drive is\nlost by that, the names of its objects are "
			    "random; but machines that have it mounted at the\nsame time cannot "
			    "find each other there. Give conditional=no, which looks first.\n",
			    i);
	printf("Configuration: %s\n"
	       "Without the passphrase nobody can read the drive, you included: write it down.\n"
	       "\"skyflok key add %s --recovery\" prints a recovery key for a safe place.\n"
	       "Next: skyflok mount %s MOUNTPOINT\n",
	       p->config, p->name, p->name);
	if (c->k == 1)
		printf("With one data shard each backend holds a whole copy, and the passphrase "
		       "alone protects it.\n");
}

static int make(const struct cmd *cmd, const char *name, const struct create_options *o,
		char *const *urls, int nurls)
{
	struct create_opts co = { .k = (int)o->data,
				  .m = (int)o->parity,
				  .urls = (const char *const *)urls,
				  .n = nurls,
				  .extent_max = o->extent,
				  .quota = o->quota,
				  .compress = o->compress,
				  .insist = o->insist,
				  .keep_order = o->keep_order,
				  .credentials = o->credentials };
	struct secret_source src = { .passfile = o->passfile,
				     .passfd = (int)o->passfd,
				     .keyfile = o->keyfile,
				     .name = name,
				     .prompt = "New passphrase: ",
				     .confirm = 1 };
	struct create_report report = { 0 };
	struct secret secret = { 0 };
	struct config c = { 0 };
	struct err e = { 0 };
	struct paths p;
	int status = STATUS_USAGE, rc = paths_init(&p, name, &e);

	if (!rc) {
		co.cost = (struct keyslot_cost){ .mem_kib = (uint32_t)(o->kdf_memory >> 10),
						 .passes = 3,
						 .lanes = 4 };
		rc = create_check(&p, &co, &c, &e);
	}
	if (!rc) {
		status = STATUS_FAILED;
		rc = secret_get(&src, &secret, &e);
		if (!rc)
			rc = create_drive(&p, &co, &c, &secret, &report, &e);
	}
	if (rc)
		cmd_fail(cmd, rc, &e);
	else
		tell(&p, &c, &report);
	if (rc && cmd_status_of(rc) != STATUS_FAILED)
		status = cmd_status_of(rc);
	secret_release(&secret);
	config_release(&c);
	paths_release(&p);
	return rc ? status : STATUS_OK;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct create_options o;
	struct err e = { 0 };
	char **args;
	int nargs, status, rc = options_defaults(options, &o, &e);

	o.data = o.parity = o.passfd = -1;
	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs < 1)
		rc = err_set(&e, -EINVAL, "the drive's name is missing");
	if (!rc && (o.data < 0 || o.parity < 0))
		rc = err_set(&e, -EINVAL,
			     "--data and --parity are needed, for example --data 4 --parity 2 with "
			     "six URLs");
	status = rc ? cmd_usage(cmd, &e) : make(cmd, args[0], &o, args + 1, nargs - 1);
	options_release(options, &o);
	return status;
}

const struct cmd cmd_create = {
	.name = "create",
	.synopsis = "NAME --data K --parity M URL...",
	.summary = "Make a drive over K + M backends",
	.text =
	    "Each URL names a place of its own: file:///srv/a?provider=acme&location=DE-FRA.\n"
	    "provider and location are labels: they say which places share a fate; cost is what\n"
	    "reading a GB costs there. Folders must\n"
	    "exist and be empty, buckets (s3, azure, gs) too, or get a prefix that is:\n"
	    "\"skyflok help backends\" says how they are written, \"skyflok backend test URL\" "
	    "tries\n"
	    "one. The passphrase is asked for twice, or read as the options say; it is never an\n"
	    "argument. Nothing is left behind when something fails.\n",
	.options = options,
	.run = run,
};
