#include "fs/cmd/mount_options.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/drive/drive.h"

#define AT(member) .offset = offsetof(struct mount_options, member)

static const char *const fsync_words[] = { "disk", "cloud", NULL };

const struct option_def mount_option_table[] = {
	{ .name = "allow_other",
	  .type = OPT_FLAG,
	  AT(allow_other),
	  .help = "Other users may enter; permissions decide what they can do. For an ordinary "
		  "user this needs user_allow_other in /etc/fuse.conf" },
	{ .name = "uid",
	  .type = OPT_INT,
	  AT(uid),
	  .max = UINT32_MAX - 1,
	  .arg = "ID",
	  .help = "Show this owner for everything, whatever is stored" },
	{ .name = "gid",
	  .type = OPT_INT,
	  AT(gid),
	  .max = UINT32_MAX - 1,
	  .arg = "ID",
	  .help = "Show this group for everything" },
	{ .name = "umask",
	  .type = OPT_OCTAL,
	  AT(umask),
	  .max = 0777,
	  .arg = "MODE",
	  .help = "Show permissions 0777 without these bits for everything" },
	{ .name = "nonempty",
	  .type = OPT_FLAG,
	  AT(nonempty),
	  .help = "Mount over a folder that is not empty" },
	{ .name = "cache-size",
	  .type = OPT_SIZE,
	  AT(cache_size),
	  .min = 64ll << 20,
	  .max = INT64_MAX,
	  .arg = "SIZE",
	  .help = "Hard limit of local disk space for staged and cached content. Not given: the "
		  "smaller of 10G and 10 % of the disk" },
	{ .name = "cache-dir",
	  .type = OPT_STRING,
	  AT(cache_dir),
	  .arg = "DIR",
	  .help = "Keep the cache in DIR/NAME instead" },
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
	  .help = "Unlock with this key file, mode 0600" },
	{ .name = "timeout",
	  .type = OPT_DURATION,
	  AT(timeout),
	  .min = NS_PER_S,
	  .max = 3600 * NS_PER_S,
	  .dflt = "30s",
	  .arg = "TIME",
	  .help = "How long a read may wait for the backends before it ends in an error" },
	{ .name = "fsync",
	  .type = OPT_CHOICE,
	  AT(fsync),
	  .choices = fsync_words,
	  .dflt = "disk",
	  .arg = "LEVEL",
	  .help = "What fsync waits for: durable on this disk, or stored on the clouds" },
	{ .name = "fsync-timeout",
	  .type = OPT_DURATION,
	  AT(fsync_timeout),
	  .min = NS_PER_S,
	  .max = 3600 * NS_PER_S,
	  .dflt = "120s",
	  .arg = "TIME",
	  .help = "With fsync=cloud: how long fsync may wait for the clouds before it ends in an "
		  "error; what was written is durable here by then" },
	{ .name = "quorum",
	  .type = OPT_INT,
	  AT(quorum),
	  .max = 32,
	  .dflt = "0",
	  .arg = "N",
	  .help = "On how many backends content counts as stored; 0 means every healthy one. "
		  "Never fewer than data, nor than the majority" },
	{ .name = "bwlimit-up",
	  .type = OPT_SIZE,
	  AT(bwlimit_up),
	  .max = INT64_MAX,
	  .dflt = "0",
	  .arg = "SIZE",
	  .help = "Send all backends together at most so many bytes per second, 16K or more; 0 "
		  "means no limit. \"skyflok limit\" changes it while mounted" },
	{ .name = "bwlimit-down",
	  .type = OPT_SIZE,
	  AT(bwlimit_down),
	  .max = INT64_MAX,
	  .dflt = "0",
	  .arg = "SIZE",
	  .help = "The same for what is fetched; healing never takes more than an eighth of it "
		  "from readers" },
	{ .name = "heal-rate",
	  .type = OPT_SIZE,
	  AT(heal_rate),
	  .max = INT64_MAX,
	  .dflt = "32M",
	  .arg = "SIZE",
	  .help = "Put what backends lack at most at so many bytes per second, unless sync waits "
		  "for it; 0 means no limit" },
	{ .name = "writeback",
	  .type = OPT_FLAG,
	  AT(writeback),
	  .dflt = "yes",
	  .help = "The kernel collects writes; with no_writeback each write(2) is judged at once, "
		  "so that a full disk shows there" },
	{ .name = "commit",
	  .type = OPT_DURATION,
	  AT(commit),
	  .min = 100 * NS_PER_MS,
	  .max = 60 * NS_PER_S,
	  .dflt = "1s",
	  .arg = "TIME",
	  .help = "How long after a change it is durable here at the latest, without fsync" },
	{ .name = "drain",
	  .type = OPT_DURATION,
	  AT(drain),
	  .max = 86400 * NS_PER_S,
	  .dflt = "60s",
	  .arg = "TIME",
	  .help = "How long the daemon goes on uploading after an unmount; the rest stays safe in "
		  "staging until the next mount" },
	{ .name = "restart",
	  .type = OPT_FLAG,
	  AT(restart),
	  .help = "Mount again at once when the daemon is killed or crashes (up to 5 times a "
		  "minute); a second process watches it. Needs passfile or keyfile. Where systemd "
		  "watches, skyflok@NAME.service does the same" },
	{ .name = "attr-timeout",
	  .type = OPT_DURATION,
	  AT(attr_timeout),
	  .max = 86400 * NS_PER_S,
	  .dflt = "3600s",
	  .arg = "TIME",
	  .help = "How long the kernel keeps names and attributes" },
	{ .name = "memory",
	  .type = OPT_SIZE,
	  AT(memory),
	  .min = DRIVE_MEMORY_MIN,
	  .max = 1ll << 40,
	  .dflt = "288M",
	  .arg = "SIZE",
	  .help = "What the daemon's buffers and caches add up to, about, whatever the load. More "
		  "makes it faster over distant clouds and with many files" },
	{ .name = "threads",
	  .type = OPT_INT,
	  AT(threads),
	  .min = 1,
	  .max = 64,
	  .dflt = "6",
	  .arg = "N",
	  .help = "Threads that serve the kernel" },
	{ .name = "log-file",
	  .type = OPT_STRING,
	  AT(log_file),
	  .arg = "FILE",
	  .help = "Append the log to this file instead of syslog" },
	{ .name = "verbose", .type = OPT_FLAG, AT(verbose), .help = "Log more" },
	{ .name = "foreground",
	  .type = OPT_FLAG,
	  AT(foreground),
	  .help = "Stay in front and log to stderr" },
	{ .name = NULL },
};

int mount_options_init(struct mount_options *o, struct err *e)
{
	int rc;

	memset(o, 0, sizeof(*o));
	rc = options_defaults(mount_option_table, o, e);
	o->uid = o->gid = o->umask = o->passfd = -1;
	return rc;
}

void mount_options_release(struct mount_options *o)
{
	options_release(mount_option_table, o);
	buf_release(&o->kernel);
}

/* Enforced by the kernel (libfuse's mount.c knows the same ones). */
static const char *const kernel_words[] = {
	"exec",          "noexec",     "suid",       "nosuid",     "dev",
	"nodev",         "async",      "sync",       "atime",      "noatime",
	"diratime",      "nodiratime", "relatime",   "norelatime", "strictatime",
	"nostrictatime", "lazytime",   "nolazytime", "dirsync",    NULL,
};

/* For mount(8), systemd and hands that write fstab. */
static const char *const ignored_words[] = {
	"auto",    "noauto", "defaults", "user",     "nouser",     "users",
	"nousers", "owner",  "noowner",  "group",    "nogroup",    "_netdev",
	"nofail",  "fail",   "comment",  "helper",   "uhelper",    "silent",
	"loud",    "mand",   "nomand",   "iversion", "noiversion", "default_permissions",
	NULL,
};

static int is_word(const char *const *words, const char *item, size_t n)
{
	for (; *words; words++)
		if (strlen(*words) == n && !memcmp(*words, item, n))
			return 1;
	return 0;
}

static void add_kernel(struct mount_options *o, const char *item)
{
	if (o->kernel.len)
		buf_put8(&o->kernel, ',');
	buf_put(&o->kernel, item, strlen(item));
}

static int take_item(struct mount_options *o, char *item, const char *where, struct err *e)
{
	size_t n = strcspn(item, "=");
	int rc;

	if (!strcmp(item, "ro") || !strcmp(item, "rw")) {
		o->read_only = item[1] == 'o';
		return 0;
	}
	if (!strcmp(item, "remount")) {
		o->remount = 1;
		return 0;
	}
	if (is_word(kernel_words, item, n) && !item[n]) {
		add_kernel(o, item);
		return 0;
	}
	if (is_word(ignored_words, item, n) || !strncmp(item, "x-", 2) || !strncmp(item, "X-", 2))
		return 0;
	if (item[n])
		item[n++] = '\0';
	else
		n = 0;
	rc = options_set(mount_option_table, o, item, n ? item + n : NULL, where, e);
	if (rc == -ENOENT && o->sloppy)
		return 0;
	return rc == -ENOENT ? -EINVAL : rc;
}

int mount_options_parse(struct mount_options *o, const char *list, const char *where, struct err *e)
{
	AUTO_FREE char *item = malloc(strlen(list) + 1);
	const char *s = list;

	if (!item)
		return err_set(e, -ENOMEM, "out of memory");
	while (*s) {
		char *to = item;
		int rc;

		for (; *s && *s != ','; s++) {
			if (s[0] == '\\' && s[1] == ',')
				s++;
			*to++ = *s;
		}
		*to = '\0';
		s += *s == ',';
		rc = *item ? take_item(o, item, where, e) : 0;
		if (rc)
			return rc;
	}
	return o->kernel.failed ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int mount_options_on_list(void *target, const char *list, struct err *e)
{
	return mount_options_parse(target, list, "-o", e);
}

const char *mount_options_kernel(struct mount_options *o)
{
	return o->kernel.len ? buf_cstr(&o->kernel) : "";
}
