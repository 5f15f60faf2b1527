#include "fs/base/failpoint.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"

#define POINTS_MAX 32

enum action { ACT_ERRNO, ACT_CRASH, ACT_STOP, ACT_SLEEP };

struct point {
	char name[64];
	enum action action;
	uint64_t value; /* errno or milliseconds */
	uint64_t at, times;
	atomic_uint_fast64_t count;
};

int failpoint_active;

/* Written by failpoint_load only, before threads start; the counters change later. */
static struct point points[POINTS_MAX];
static int points_count;
static int report = -1; /* SKYFLOK_FAIL_LOG */

__attribute__((noreturn)) static void malformed(const char *item, const char *why)
{
	fprintf(stderr, "skyflok: SKYFLOK_FAIL: \"%s\": %s. Expected: name=action[@n][*t]\n", item,
		why);
	exit(2);
}

static uint64_t number(const char **s, const char *item)
{
	char *end;
	unsigned long long v;

	if (!isdigit((unsigned char)**s))
		malformed(item, "a number is missing");
	errno = 0;
	v = strtoull(*s, &end, 10);
	if (errno)
		malformed(item, "a number is too large");
	*s = end;
	return v;
}

static void parse_action(struct point *p, const char **s, const char *item)
{
	static const struct {
		const char *name;
		int code;
	} codes[] = {
		{ "EIO", EIO },         { "ENOSPC", ENOSPC },
		{ "ENOMEM", ENOMEM },   { "ETIMEDOUT", ETIMEDOUT },
		{ "EAGAIN", EAGAIN },   { "EACCES", EACCES },
		{ "EBADMSG", EBADMSG },
	};
	size_t n = strcspn(*s, "@*:");
	const char *word = *s;

	*s += n;
	if (n == 5 && !strncmp(word, "crash", n)) {
		p->action = ACT_CRASH;
		return;
	}
	if (n == 4 && !strncmp(word, "stop", n)) {
		p->action = ACT_STOP;
		return;
	}
	if (n == 5 && !strncmp(word, "sleep", n)) {
		p->action = ACT_SLEEP;
		if (*(*s)++ != ':')
			malformed(item, "sleep needs milliseconds, as in sleep:500");
		p->value = number(s, item);
		if (p->value > 3600 * 1000)
			malformed(item, "sleep takes 0 to 3600000 ms");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (strlen(codes[i].name) != n || strncmp(word, codes[i].name, n))
			continue;
		p->action = ACT_ERRNO;
		p->value = (uint64_t)codes[i].code;
		return;
	}
	malformed(item, "the action is none of EIO ENOSPC ENOMEM ETIMEDOUT EAGAIN EACCES EBADMSG "
			"crash stop sleep:MS");
}

static void parse_item(const char *item)
{
	struct point *p = &points[points_count];
	const char *eq = strchr(item, '='), *s;

	if (points_count == POINTS_MAX)
		malformed(item, "there are more than 32 points");
	if (!eq || eq == item)
		malformed(item, "there is no name=");
	if ((size_t)(eq - item) >= sizeof(p->name))
		malformed(item, "the name is longer than 63 characters");
	memset(p->name, 0, sizeof(p->name));
	memcpy(p->name, item, (size_t)(eq - item));
	p->value = 0;
	p->at = p->times = 1;
	atomic_store(&p->count, 0);
	s = eq + 1;
	parse_action(p, &s, item);
	if (*s == '@') {
		s++;
		p->at = number(&s, item);
		if (!p->at)
			malformed(item, "@n starts at 1");
	}
	if (*s == '*') {
		s++;
		p->times = number(&s, item);
	}
	if (*s)
		malformed(item, "there is something behind the action");
	points_count++;
}

void failpoint_load(const char *spec)
{
	char item[256];

	const char *path = getenv("SKYFLOK_FAIL_LOG");

	failpoint_active = 0;
	points_count = 0;
	if (report >= 0)
		close(report);
	report = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
	if (!spec)
		spec = getenv("SKYFLOK_FAIL");
	while (spec && *spec) {
		size_t n = strcspn(spec, ",");

		if (n >= sizeof(item))
			malformed(spec, "the entry is longer than 255 characters");
		memcpy(item, spec, n);
		item[n] = '\0';
		if (n)
			parse_item(item);
		spec += n + (spec[n] == ',');
	}
	failpoint_active = points_count > 0;
}

static int fire(const struct point *p)
{
	struct timespec t;

	if (report >= 0)
		dprintf(report, "%s\n", p->name);
	switch (p->action) {
	case ACT_ERRNO:
		return -(int)p->value;
	case ACT_CRASH:
		kill(getpid(), SIGKILL);
		for (;;) /* no instruction behind the point may run */
			pause();
	case ACT_STOP:
		kill(getpid(), SIGSTOP);
		return 0;
	case ACT_SLEEP:
		t = timespec_of((int64_t)p->value * NS_PER_MS);
		while (nanosleep(&t, &t) && errno == EINTR)
			;
		return 0;
	}
	return 0;
}

int failpoint_hit(const char *name)
{
	int rc = 0;

	for (int i = 0; i < points_count; i++) {
		struct point *p = &points[i];
		uint64_t n;
		int r;

		if (strcmp(p->name, name))
			continue;
		n = atomic_fetch_add(&p->count, 1) + 1;
		if (n < p->at || (p->times && n - p->at >= p->times))
			continue;
		r = fire(p);
		if (!rc)
			rc = r;
	}
	return rc;
}

uint64_t failpoint_count(const char *name)
{
	for (int i = 0; i < points_count; i++)
		if (!strcmp(points[i].name, name))
			return atomic_load(&points[i].count);
	return 0;
}
