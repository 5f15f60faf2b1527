#include "fs/drive/keys.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/secmem.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"

#define TIMEOUT     (15 * NS_PER_S)
#define SUBSETS_MAX 20

struct key_options {
	char *passfile, *keyfile, *new_passfile, *new_keyfile, *label;
	int64_t passfd, new_passfd;
	uint64_t kdf_memory;
	int recovery, now;
};

#define AT(member) .offset = offsetof(struct key_options, member)

static const struct option_def options[] = {
	{ .name = "passfile",
	  .type = OPT_STRING,
	  AT(passfile),
	  .arg = "FILE",
	  .help = "Unlock with the passphrase in this file, mode 0600" },
	{ .name = "passfd",
	  .type = OPT_INT,
	  AT(passfd),
	  .max = INT_MAX,
	  .arg = "N",
	  .help = "Unlock with the passphrase from this open file descriptor" },
	{ .name = "keyfile",
	  .type = OPT_STRING,
	  AT(keyfile),
	  .arg = "FILE",
	  .help = "Unlock with this key file" },
	{ .name = "new-passfile",
	  .type = OPT_STRING,
	  AT(new_passfile),
	  .arg = "FILE",
	  .help = "add, change: read the new passphrase from this file, mode 0600" },
	{ .name = "new-passfd",
	  .type = OPT_INT,
	  AT(new_passfd),
	  .max = INT_MAX,
	  .arg = "N",
	  .help = "add, change: read the new passphrase from this file descriptor" },
	{ .name = "new-keyfile",
	  .type = OPT_STRING,
	  AT(new_keyfile),
	  .arg = "FILE",
	  .help = "add: the new key is this file, mode 0600" },
	{ .name = "recovery",
	  .type = OPT_FLAG,
	  AT(recovery),
	  .help = "add: make a recovery key and print it, once" },
	{ .name = "label",
	  .type = OPT_STRING,
	  AT(label),
	  .max = KEYSLOT_LABEL_MAX,
	  .arg = "TEXT",
	  .help = "add: what key list shows" },
	{ .name = "now",
	  .type = OPT_FLAG,
	  AT(now),
	  .help = "remove, change: do not wait for backends that are away; the old key stops "
		  "working at once, and fewer sets of backends unlock until they are back" },
	{ .name = "kdf-memory",
	  .type = OPT_SIZE,
	  AT(kdf_memory),
	  .min = 8ll << 20,
	  .max = 1ll << 30,
	  .dflt = "256M",
	  .arg = "SIZE",
	  .help = "add, change: memory that one guess of the passphrase costs (Argon2id)" },
	{ .name = NULL },
};

struct job {
	const struct cmd *cmd;
	const struct key_options *o;
	struct paths paths;
	struct config config;
	struct keys keys;
	struct keyslot_cost cost;
};

/* ---- secrets ---- */

static int get_old(struct job *j, struct secret *out, struct err *e)
{
	char prompt[DRIVE_NAME_MAX + 48];
	struct secret_source src = { .passfile = j->o->passfile,
				     .passfd = (int)j->o->passfd,
				     .keyfile = j->o->keyfile,
				     .name = j->paths.name,
				     .prompt = prompt };

	snprintf(prompt, sizeof(prompt), "Present passphrase for %s: ", j->paths.name);
	return secret_get(&src, out, e);
}

static int get_new(struct job *j, struct secret *out, struct err *e)
{
	char prompt[DRIVE_NAME_MAX + 48];
	struct secret_source src = { .passfile = j->o->new_passfile,
				     .passfd = (int)j->o->new_passfd,
				     .keyfile = j->o->new_keyfile,
				     .name = j->paths.name,
				     .prompt = prompt,
				     .no_credentials = 1,
				     .confirm = 1 };

	snprintf(prompt, sizeof(prompt), "New passphrase for %s: ", j->paths.name);
	return secret_get(&src, out, e);
}

/* ---- telling ---- */

static void print_slots(const struct keyslot *slots, int n)
{
	printf("%4s  %-13s %-17s %s\n", "KEY", "KIND", "SINCE", "LABEL");
	for (int i = 0; i < n; i++) {
		time_t t = (time_t)slots[i].created;
		char when[32] = "";
		struct tm tm;

		if (localtime_r(&t, &tm))
			strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
		printf("%4u  %-13s %-17s %s\n", slots[i].number, keyslot_kind_word(slots[i].kind),
		       when, slots[i].label);
	}
}

static void print_subset(const struct config *c, uint32_t set)
{
	const char *sep = "  ";

	for (int i = 0; i < c->n; i++) {
		if (!(set >> i & 1))
			continue;
		printf("%s%s", sep, c->backends[i].parsed.provider);
		sep = ", ";
	}
	putchar('\n');
}

/* Any k backends that are not all among those with the new header. */
static void print_locked_subsets(const struct config *c, uint32_t with_new)
{
	int shown = 0;

	printf(
	    "Until the others are back, these sets of %d backends alone do not unlock the drive:\n",
	    c->k);
	for (uint64_t s = 0; s < 1ull << c->n && shown < SUBSETS_MAX; s++) {
		if (__builtin_popcountll(s) != c->k || !(s & ~with_new))
			continue;
		print_subset(c, (uint32_t)s);
		shown++;
	}
	if (shown == SUBSETS_MAX)
		printf("  ... (each set that contains one without the new header)\n");
}

static void tell(const struct job *j, const struct generation_report *r)
{
	const struct config *c = &j->config;

	if (!r->pending) {
		printf("The change is on all %d backends and counts from now on.\n", c->n);
		return;
	}
	printf("The change is PENDING: it is on %d of %d backends. Not yet on:",
	       __builtin_popcount(r->stored), c->n);
	for (int i = 0; i < c->n; i++)
		if (!(r->stored >> i & 1))
			printf(" %s (%s)", c->backends[i].parsed.provider,
			       backend_reason(r->result[i]));
	putchar('\n');
	if (j->o->now && r->cleaned)
		print_locked_subsets(c, r->stored);
	else
		printf("Until then what was valid before still unlocks. The next skyflok command, "
		       "or the "
		       "mounted drive, completes it.\n");
}

static int store(struct job *j, struct err *e)
{
	struct generation_report r;
	int rc = keys_store(&j->keys, j->o->now, &r, e);

	if (!rc)
		tell(j, &r);
	return rc;
}

/* ---- verbs ---- */

static int verb_list(struct job *j, const char *arg, struct err *e)
{
	struct keyslot slots[KEYSLOT_MAX];
	int n, rc = unlock_slots(&j->paths, &j->config, TIMEOUT, slots, &n, e);
	uint64_t pending = generation_pending(&j->paths);

	if (rc)
		return rc;
	print_slots(slots, n);
	if (pending)
		printf("The last change (header %" PRIu64
		       ") is not on all backends yet: keys that it removed still work.\n",
		       pending);
	return 0;
}

static int begin(struct job *j, struct err *e)
{
	struct secret old = { 0 };
	int rc = get_old(j, &old, e);

	if (!rc)
		rc = keys_begin(&j->keys, &j->paths, &j->config, &old, TIMEOUT, e);
	secret_release(&old);
	return rc;
}

static int add_recovery(struct job *j, struct err *e)
{
	char text[RECOVERY_TEXT_LEN];
	uint8_t key[32];
	uint32_t number;
	int rc = recovery_key_make(key, text);

	if (rc)
		return err_set(e, rc, "cannot make a recovery key: %s", strerror(-rc));
	rc = keys_add(&j->keys, KEYSLOT_RECOVERY, j->o->label ? j->o->label : "", key, sizeof(key),
		      NULL, &number, e);
	if (!rc)
		rc = store(j, e);
	if (!rc)
		printf(
		    "Recovery key %u of the drive \"%s\", shown only now. Keep it on paper, away "
		    "from this machine:\n\n    %s\n\nIt is typed where the passphrase is asked "
		    "for.\n",
		    number, j->paths.name, text);
	secmem_wipe(key, sizeof(key));
	secmem_wipe(text, sizeof(text));
	return rc;
}

static int verb_add(struct job *j, const char *arg, struct err *e)
{
	struct secret fresh = { 0 };
	uint32_t number = 0;
	int rc = begin(j, e);

	if (rc)
		return rc;
	if (j->o->recovery)
		return add_recovery(j, e);
	rc = get_new(j, &fresh, e);
	if (!rc)
		rc = keys_add(&j->keys, fresh.kind, j->o->label ? j->o->label : "", fresh.p,
			      fresh.len, &j->cost, &number, e);
	secret_release(&fresh);
	if (!rc)
		rc = store(j, e);
	if (!rc)
		printf("Key %u was added.\n", number);
	return rc;
}

static int verb_remove(struct job *j, const char *arg, struct err *e)
{
	char *end;
	unsigned long number;
	int rc;

	if (!arg)
		return err_set(e, -EINVAL, "which key? \"skyflok key list %s\" shows their numbers",
			       j->paths.name);
	number = strtoul(arg, &end, 10);
	if (*end || end == arg || number > UINT32_MAX)
		return err_set(e, -EINVAL, "\"%.32s\" is not the number of a key", arg);
	rc = begin(j, e);
	if (!rc)
		rc = keys_remove(&j->keys, (uint32_t)number, e);
	if (!rc)
		rc = store(j, e);
	if (!rc)
		printf("Key %lu was removed.\n", number);
	return rc;
}

static int verb_change(struct job *j, const char *arg, struct err *e)
{
	struct secret fresh = { 0 };
	const struct keyslot *s;
	int rc = begin(j, e);

	if (rc)
		return rc;
	s = &j->keys.u.slots[j->keys.u.slot];
	if (s->kind != KEYSLOT_PASSPHRASE)
		return err_set(e, -EINVAL,
			       "key %u is a %s: add a new one and remove this one instead",
			       s->number, keyslot_kind_word(s->kind));
	rc = get_new(j, &fresh, e);
	if (!rc && fresh.kind != KEYSLOT_PASSPHRASE)
		rc = err_set(e, -EINVAL, "--new-keyfile: only with key add");
	if (!rc)
		rc = keys_change(&j->keys, fresh.p, fresh.len, &j->cost, e);
	secret_release(&fresh);
	if (!rc)
		rc = store(j, e);
	if (!rc)
		printf("Key %u has a new passphrase.\n", s->number);
	return rc;
}

static const struct verb {
	const char *name;
	int (*run)(struct job *j, const char *arg, struct err *e);
} verbs[] = {
	{ "list", verb_list },
	{ "add", verb_add },
	{ "remove", verb_remove },
	{ "change", verb_change },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static int perform(const struct cmd *cmd, const struct verb *v, const struct key_options *o,
		   const char *name, const char *arg)
{
	struct job j = { .cmd = cmd, .o = o };
	struct err e = { 0 };
	int rc = paths_init(&j.paths, name, &e);

	j.keys.lock = -1;
	j.cost = (struct keyslot_cost){ .mem_kib = (uint32_t)(o->kdf_memory >> 10),
					.passes = 3,
					.lanes = 4 };
	if (!rc)
		rc = config_read(j.paths.config, name, &j.config, &e);
	if (!rc)
		rc = v->run(&j, arg, &e);
	keys_end(&j.keys);
	config_release(&j.config);
	paths_release(&j.paths);
	return rc ? cmd_fail(cmd, rc, &e) : STATUS_OK;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct key_options o;
	const struct verb *v = NULL;
	struct err e = { 0 };
	char **args;
	int nargs, status, rc = options_defaults(options, &o, &e);

	o.passfd = o.new_passfd = -1;
	if (!rc)
		rc = cmd_parse(cmd, argc, argv, &o, NULL, &args, &nargs, &e);
	if (!rc && nargs < 2)
		rc = err_set(&e, -EINVAL, "what is to be done with which drive?");
	if (!rc) {
		v = find_verb(args[0]);
		if (!v)
			rc = err_set(&e, -EINVAL, "\"%.32s\" is not list, add, remove or change",
				     args[0]);
		else if (nargs > (v->run == verb_remove ? 3 : 2))
			rc = err_set(&e, -EINVAL, "too many arguments");
	}
	status = rc ? cmd_usage(cmd, &e) : perform(cmd, v, &o, args[1], nargs > 2 ? args[2] : NULL);
	options_release(options, &o);
	return status;
}

const struct cmd cmd_key = {
	.name = "key",
	.synopsis = "list NAME | add NAME | remove NAME KEY | change NAME",
	.summary = "Manage the passphrases, key files and recovery keys that open a drive",
	.text =
	    "Works while the drive is mounted. Nothing is encrypted anew: a new header goes to "
	    "all\n"
	    "backends, and the old one is deleted when the new one is on all of them. Until then\n"
	    "the change is pending.\n",
	.options = options,
	.run = run,
};
