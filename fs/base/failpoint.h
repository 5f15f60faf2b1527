/* Named places where a test makes the program fail, crash or stop. Off unless SKYFLOK_FAIL is set
 * in the environment: SKYFLOK_FAIL="stage.write=EIO@3,commit.before=crash@1,put.done=sleep:500"
 * name=action[@n][*t]: the action fires at the n-th time the point is reached (1 = first, default
 * 1), for t times (default 1; 0 = ever after). Actions: an errno name (EIO, ENOSPC, ENOMEM,
 * ETIMEDOUT, EAGAIN, EACCES, EBADMSG), crash (SIGKILL to oneself), stop (SIGSTOP), sleep:MS.
 * With SKYFLOK_FAIL_LOG=FILE the name of each point that fires is appended to it first: a test can
 * say whether it proved anything.
 * Unknown names are accepted (the point may be in another program), a malformed value ends the
 * program with a message.
 */
#ifndef FS_BASE_FAILPOINT_H
#define FS_BASE_FAILPOINT_H

#include <stdint.h>

extern int failpoint_active; /* set before threads start, read-only later */

int failpoint_hit(const char *name); /* slow part; use the macro */

/* 0, or the negative errno that a test asked for. A few ns when off. */
#define failpoint(name) (__builtin_expect(failpoint_active, 0) ? failpoint_hit(name) : 0)

void failpoint_load(const char *spec);      /* NULL: from the environment. Replaces what was set. */
uint64_t failpoint_count(const char *name); /* how often it was reached since it was loaded; only
					       points named in the spec count */

#endif
