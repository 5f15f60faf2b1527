/* Shared by serve.c (the life of the daemon) and serve_control.c (what its socket answers). */
#ifndef FS_CMD_SERVE_INTERNAL_H
#define FS_CMD_SERVE_INTERNAL_H

#include <jansson.h>
#include <pthread.h>
#include "fs/cmd/serve.h"
#include "fs/drive/control.h"
#include "fs/drive/drive.h"

struct session;

/*  STARTING -> MOUNTED -> DRAINING -> CLOSING -> CLOSED
 *     from STARTING a failure goes to CLOSING; phase_set is the only place that moves it. */
enum phase { PHASE_STARTING, PHASE_MOUNTED, PHASE_DRAINING, PHASE_CLOSING, PHASE_CLOSED };

struct serve {
	struct daemon *daemon;
	const struct paths *paths;
	const struct config *config;
	struct mount_options *o;
	const char *mountpoint;
	int lock_fd;
	int64_t since; /* unix seconds */
	struct control *control;
	pthread_t signals;

	/* Commands hold it for reading while they use drive; closing takes it for writing. */
	pthread_rwlock_t in_use;
	struct drive *drive; /* by in_use; NULL when closing */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	enum phase phase;
	struct session *session; /* while it may be told to end */
	int64_t drain_limit;     /* ns, counted from the unmount */
	int64_t drain_start;     /* CLOCK_MONOTONIC; 0 before */
	json_t *left;            /* what was left at the last look */
	int drained;             /* at CLOSED: 0 all dispersed, else why not */
	int result;              /* of drive_close */
};

extern const struct control_command serve_commands[];

/* lock held */
enum phase serve_phase_locked(const struct serve *s);
/* Shortens (or, before the unmount, sets) how long is drained. */
void serve_set_drain(struct serve *s, int64_t limit);

#endif
