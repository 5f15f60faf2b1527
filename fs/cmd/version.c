#include <stdio.h>
#include <string.h>

#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"

static int run_version(const struct cmd *cmd, int argc, char **argv)
{
	printf("skyflok %s (formats: header 1, segment 1, shard 1, database 1)\n", SKYFLOK_VERSION);
	return STATUS_OK;
}

const struct cmd cmd_version = {
	.name = "version",
	.synopsis = "",
	.summary = "Print the version of the program and of the formats that it writes",
	.run = run_version,
};

struct topic {
	const char *name, *text;
};

static const struct topic topics[] = {
	{ "files",
	  "Where a drive NAME keeps what on this machine:\n\n"
	  "  root      /etc/skyflok/NAME.conf  /var/lib/skyflok/NAME  /var/cache/skyflok/NAME\n"
	  "  others    ~/.config/skyflok/NAME.conf  ~/.local/state/skyflok/NAME\n"
	  "            ~/.cache/skyflok/NAME   (XDG_CONFIG_HOME, _STATE_HOME, _CACHE_HOME)\n"
	  "  always    SKYFLOK_HOME=DIR puts all of it below DIR: config, state, cache\n\n"
	  "Contents of files are encrypted everywhere. The local database (state) shows names,\n"
	  "sizes and times in clear: use an encrypted disk if that matters.\n" },
	{ "keys",
	  "A drive opens with any of up to 16 keys: passphrases, key files, recovery keys.\n"
	  "Every change writes a new header to all backends; while one is away the change is\n"
	  "pending and the old keys still work. Whoever knows a removed passphrase and kept "
	  "copies\n"
	  "of k old headers can still open what they had.\n\n"
	  "The passphrase comes from --passfile FILE (mode 0600), --passfd N, --keyfile FILE,\n"
	  "$CREDENTIALS_DIRECTORY/skyflok-NAME or /passphrase (systemd), or the terminal, in this\n"
	  "order. A recovery key is typed where the passphrase is asked for.\n" },
	{ "backends",
	  "A backend is written as a URL; in a shell put it in quotes because of the &.\n\n"
	  "  file:///folder              a folder on a disk or share; it must exist\n"
	  "  s3://BUCKET/PREFIX          AWS and what speaks its language (Ceph, MinIO, R2, B2,\n"
	  "                              Wasabi: with endpoint=)\n"
	  "  azure://ACCOUNT/CONTAINER/PREFIX\n"
	  "  gs://BUCKET/PREFIX          Google Cloud Storage\n\n"
	  "The prefix may be left out. Parameters follow: ?name=value&name=value\n\n"
	  "  provider, location   all: labels that say which places share a fate. A layout in\n"
	  "                       which one provider's loss loses the drive is refused\n"
	  "  credentials=NAME     a section of the drive's credential file; s3: else a profile of\n"
	  "                       ~/.aws. none: send none. metadata: gs, of this machine's server\n"
	  "  endpoint=URL         another server: https://host[:port][/path]. Plain http only on\n"
	  "                       this machine itself, or with insecure=yes\n"
	  "  ca=FILE              certificates (file or folder) to trust, not the system's\n"
	  "  conditional=no       the server does not know \"only if absent\": look before a put\n"
	  "  region, style=path|virtual, payload=signed|unsigned           s3\n"
	  "  storage-class=CLASS  s3, gs     tier=Hot|Cool|Cold             azure\n\n"
	  "The credential file is given to create (--credentials FILE, mode 0600) and then lies\n"
	  "beside the drive's configuration as NAME.cred, where it may be edited:\n\n"
	  "  [acme]                            s3; session_token if there is one\n"
	  "  access_key_id = ...\n"
	  "  secret_access_key = ...\n"
	  "  [blue]                            azure; or sas_token, or connection_string\n"
	  "  account_key = ...\n"
	  "  [sky]                             gs; or access_key_id and secret_access_key (HMAC)\n"
	  "  service_account_file = /root/sky.json\n\n"
	  "Without credentials= they are looked for in the usual places: AWS_ACCESS_KEY_ID and\n"
	  "~/.aws; AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN;\n"
	  "GOOGLE_APPLICATION_CREDENTIALS and what gcloud wrote. A mount by fstab or systemd has\n"
	  "not your environment: use the credential file there.\n\n"
	  "\"skyflok backend test URL\" tries all that a drive needs. A backend whose credentials\n"
	  "are missing or refused is \"denied\" in status; the drive goes on with the others.\n" },
	{ "exit",
	  "Exit statuses, as in mount(8): 0 done, 1 wrong invocation, 2 system error, 4 internal\n"
	  "error, 8 interrupted, 32 it did not work, 64 part of it worked.\n" },
	{ NULL, NULL },
};

static int run_help(const struct cmd *cmd, int argc, char **argv)
{
	const struct cmd *about = argc > 1 ? cmd_find(argv[1]) : NULL;
	struct buf b = { 0 };

	if (argc < 2) {
		for (int i = 0; cmd_all[i]; i++)
			printf("skyflok %s %s\n    %s\n", cmd_all[i]->name, cmd_all[i]->synopsis,
			       cmd_all[i]->summary);
		printf("\nTopics:");
		for (const struct topic *t = topics; t->name; t++)
			printf(" %s", t->name);
		printf("\n\"skyflok help COMMAND\" or \"skyflok help TOPIC\" says more.\n");
		return STATUS_OK;
	}
	if (about) {
		cmd_help_text(about, &b);
		fputs(b.failed ? "out of memory\n" : buf_cstr(&b), stdout);
		buf_release(&b);
		return STATUS_OK;
	}
	for (const struct topic *t = topics; t->name; t++)
		if (!strcmp(t->name, argv[1])) {
			fputs(t->text, stdout);
			return STATUS_OK;
		}
	fprintf(stderr, "skyflok help: there is no command or topic \"%.64s\"\n", argv[1]);
	return STATUS_USAGE;
}

const struct cmd cmd_help = {
	.name = "help",
	.synopsis = "[COMMAND | TOPIC]",
	.summary = "Explain a command, or a topic: files, keys, backends, exit",
	.run = run_help,
};
