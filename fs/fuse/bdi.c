/* The kernel's knobs of one mount, /sys/class/bdi/<major:minor>: only root may turn them. Without
 * that, kernel 6.18 throttles a FUSE mount at 49 MB of dirty pages (performance.md 0.3). */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/log.h"

/* mountinfo writes space, tab, newline and backslash as \ooo. In place. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = 0;
}

/* "36 35 98:0 /root /mountpoint options optional... - type source options" */
static int parse_line(char *line, char **devno, char **path, char **type)
{
	char *rest = line, *field = NULL, *dash = strstr(line, " - ");

	if (!dash)
		return 0;
	for (int i = 0; i < 5; i++) {
		field = strsep(&rest, " ");
		if (!field || !rest)
			return 0;
		if (i == 2)
			*devno = field;
	}
	*path = field;
	*type = dash + 3;
	(*type)[strcspn(*type, " ")] = 0;
	unescape(*path);
	return 1;
}

int bdi_find(const char *path, char *devno, size_t cap, int *ours)
{
	AUTO_FREE char *line = NULL;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	size_t line_cap = 0;
	int rc = -ENOENT;

	if (!f)
		return -errno;
	while (getline(&line, &line_cap, f) > 0) {
		char *dev = NULL, *at = NULL, *type = NULL;

		/* The last one wins: later mounts lie over earlier ones. */
		if (!parse_line(line, &dev, &at, &type) || strcmp(at, path))
			continue;
		snprintf(devno, cap, "%s", dev);
		*ours = !strcmp(type, "fuse.skyflok");
		rc = 0;
	}
	fclose(f);
	return rc;
}

static void knob_set(const char *bdi, const char *knob, uint64_t value)
{
	char path[128], text[32];
	AUTO_CLOSE int fd = -1;
	int n = snprintf(text, sizeof(text), "%" PRIu64 "\n", value);

	snprintf(path, sizeof(path), "/sys/class/bdi/%s/%s", bdi, knob);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		log_debug("%s stays as it is: %s", path, strerror(errno));
}

void bdi_tune(const struct session *s)
{
	if (!s->bdi[0])
		return;
	knob_set(s->bdi, "read_ahead_kb", 512);
	if (s->o.dirty_limit) {
		/* A limit that somebody relies on (the staging reserve) must hold also while the
		 * machine as a whole is far from its own: that is what strict_limit means. */
		knob_set(s->bdi, "max_bytes", s->o.dirty_limit);
		knob_set(s->bdi, "strict_limit", 1);
	} else {
		knob_set(s->bdi, "max_ratio", 100);
		knob_set(s->bdi, "strict_limit", 0);
	}
}
