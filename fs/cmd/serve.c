#include "fs/cmd/serve_internal.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/instance.h"
#include "fs/cmd/mounts.h"
#include "fs/cmd/notify.h"
#include "fs/drive/status.h"
#include "fs/fuse/session.h"

#define SIGTERM_DRAIN    (10 * NS_PER_S)
#define CLOSE_LIMIT      (5 * NS_PER_S)
#define NOFILE_WANTED    65536
#define NOTIFY_EXTEND_US 20000000
/* Shards and transfers go back to the kernel when they are freed; malloc's own rule would keep them
 * on the heap once it has seen a few. */
#define LARGE_BLOCK (512 << 10)
#define HEAP_TOP    (4 << 20)
#define ARENAS      2 /* malloc's default of 8 per core lets memory grow with threads */

enum phase serve_phase_locked(const struct serve *s)
{
	return s->phase;
}

static void phase_set(struct serve *s, enum phase to)
{
	pthread_mutex_lock(&s->lock);
	assert(to > s->phase);
	s->phase = to;
	if (to == PHASE_DRAINING)
		s->drain_start = clock_mono_ns();
	if (to >= PHASE_DRAINING)
		s->session = NULL;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void serve_set_drain(struct serve *s, int64_t limit)
{
	pthread_mutex_lock(&s->lock);
	if (s->phase < PHASE_DRAINING || limit < s->drain_limit)
		s->drain_limit = limit;
	pthread_mutex_unlock(&s->lock);
}

/* ---- signals ---- */

static void on_terminate(struct serve *s, int sig, int *count)
{
	pthread_mutex_lock(&s->lock);
	if (s->phase == PHASE_STARTING && !s->session)
		_exit(STATUS_INTERRUPTED); /* nothing is mounted; what is on disk is as after a
					      crash */
	++*count;
	if (*count == 1)
		log_info("%s: unmounting %s", sig == SIGINT ? "interrupted" : "asked to end",
			 s->mountpoint);
	s->drain_limit = *count > 1 ? 0 : MIN(s->drain_limit, SIGTERM_DRAIN);
	if (s->session)
		session_exit(s->session);
	pthread_mutex_unlock(&s->lock);
}

static void *signals_main(void *arg)
{
	struct serve *s = arg;
	sigset_t set;
	int sig, count = 0;

	pthread_setname_np(pthread_self(), "signals");
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	for (;;) {
		if (sigwait(&set, &sig))
			continue;
		if (sig == SIGUSR2) /* serve_run ends */
			return NULL;
		if (sig == SIGHUP) {
			/* Log rotation; without a file there is nothing to open anew. */
			if (s->o->log_file)
				log_open(s->o->log_file, 0);
			continue;
		}
		on_terminate(s, sig, &count);
	}
}

static int signals_start(struct serve *s, struct err *e)
{
	sigset_t all;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	rc = -pthread_create(&s->signals, NULL, signals_main, s);
	return rc ? err_set(e, rc, "cannot start a thread: %s", strerror(-rc)) : 0;
}

/* ---- before and after ---- */

static void set_up_process(void)
{
	struct rlimit rl;

	umask(077);
	mallopt(M_ARENA_MAX, ARENAS);
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
	mallopt(M_TRIM_THRESHOLD, HEAP_TOP);
	if (!getrlimit(RLIMIT_NOFILE, &rl) && rl.rlim_cur < NOFILE_WANTED) {
		rl.rlim_cur = MIN(rl.rlim_max, (rlim_t)NOFILE_WANTED);
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	if (geteuid() == 0) {
		/* Writing back this very filesystem must not wait for us to free memory. */
		prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
		setpriority(PRIO_PROCESS, 0, -10);
	}
}

static int check_mountpoint(const struct serve *s, struct err *e)
{
	struct mount_entry m;
	struct stat st;
	int rc = mounts_clear_dead(s->mountpoint, e);

	if (rc < 0)
		return rc;
	if (rc)
		log_info("%s: the mount of a daemon that had died was cleared", s->mountpoint);
	if (stat(s->mountpoint, &st))
		return err_set(e, -errno, "%s: cannot be used as mountpoint: %s%s", s->mountpoint,
			       strerror(errno), errno == ENOENT ? "; create it first" : "");
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "%s: a mountpoint has to be a folder", s->mountpoint);
	rc = mounts_at(s->mountpoint, &m);
	if (rc == 1 && mount_entry_drive(&m))
		rc = err_set(e, -EBUSY, "%s: the drive \"%s\" is mounted there already",
			     s->mountpoint, mount_entry_drive(&m));
	mount_entry_release(&m);
	return rc < 0 ? rc : 0;
}

static int get_secret(const struct serve *s, struct secret *secret, struct err *e)
{
	char prompt[DRIVE_NAME_MAX + 32];
	struct secret_source src = { .passfile = s->o->passfile,
				     .passfd = (int)s->o->passfd,
				     .keyfile = s->o->keyfile,
				     .name = s->paths->name,
				     .prompt = prompt };

	snprintf(prompt, sizeof(prompt), "Passphrase for %s: ", s->paths->name);
	return secret_get(&src, secret, e);
}

static int open_drive(struct serve *s, const struct secret *secret, struct err *e)
{
	struct drive_opts d = {
		.paths = s->paths,
		.config = s->config,
		.read_only = s->o->read_only,
		.cache_size = s->o->cache_size,
		.timeout = s->o->timeout,
		.commit_interval = s->o->commit,
		.fsync_cloud = s->o->fsync,
		.fsync_timeout = s->o->fsync_timeout,
		.memory = s->o->memory,
		.quorum = (int)s->o->quorum,
		.bandwidth_up = s->o->bwlimit_up,
		.bandwidth_down = s->o->bwlimit_down,
		.heal_rate = s->o->heal_rate,
	};

	return drive_open(&d, secret, &s->drive, e);
}

static void on_init(void *arg)
{
	struct serve *s = arg;
	const char *to_file = s->o->log_file;

	phase_set(s, PHASE_MOUNTED);
	if (!daemon_in_foreground(s->daemon) && !to_file)
		log_open(NULL, 1);
	log_info("drive %s is mounted on %s", s->paths->name, s->mountpoint);
	notify_service("READY=1\nSTATUS=mounted on %s", s->mountpoint);
	daemon_ready(s->daemon, to_file);
}

static int open_session(struct serve *s, struct session **out, struct err *e)
{
	AUTO_FREE char *kernel = NULL;
	struct session_opts so;
	struct buf b = { 0 };
	int rc;

	session_opts_default(&so);
	buf_printf(&b, "%s%s%s", mount_options_kernel(s->o), s->o->read_only ? ",ro" : "",
		   s->o->allow_other ? ",allow_other" : "");
	kernel = b.failed ? NULL : strdup(buf_cstr(&b));
	buf_release(&b);
	if (!kernel)
		return err_set(e, -ENOMEM, "out of memory");
	so.mountpoint = s->mountpoint;
	so.volume = drive_volume(s->drive);
	so.name = s->paths->name;
	so.kernel_options = kernel + (kernel[0] == ',');
	so.nonempty = s->o->nonempty;
	so.uid = s->o->uid;
	so.gid = s->o->gid;
	so.umask = s->o->umask;
	so.attr_timeout = (double)s->o->attr_timeout / (double)NS_PER_S;
	so.writeback = s->o->writeback;
	so.threads = (int)s->o->threads;
	so.buffers = drive_read_buffers(s->drive);
	so.dirty_limit = drive_kernel_dirty(s->drive);
	so.on_init = on_init;
	so.on_init_arg = s;
	rc = session_create(&so, out, e);
	if (!rc) {
		pthread_mutex_lock(&s->lock);
		s->session = *out;
		pthread_mutex_unlock(&s->lock);
	}
	return rc;
}

/* ---- draining ---- */

static int drain_tick(void *arg)
{
	struct serve *s = arg;
	json_t *left = status_left(s->drive), *old;
	int over;

	pthread_mutex_lock(&s->lock);
	old = s->left;
	s->left = left;
	over = clock_mono_ns() - s->drain_start >= s->drain_limit;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	json_decref(old);
	/* systemd's own limit for stopping must not cut a longer drain short. */
	notify_service("STATUS=unmounted, uploading what is left\nEXTEND_TIMEOUT_USEC=%d",
		       NOTIFY_EXTEND_US);
	return over;
}

static void say_left(struct serve *s, int rc)
{
	char text[32];
	json_int_t bytes;

	if (!rc) {
		log_info("everything is on all %d backends", s->config->n);
		return;
	}
	pthread_mutex_lock(&s->lock);
	bytes = json_integer_value(json_object_get(s->left, "to_upload")) +
		json_integer_value(json_object_get(s->left, "to_heal"));
	pthread_mutex_unlock(&s->lock);
	log_warn("%s are not on all backends yet; they are safe in %s and go on at the next mount",
		 format_size(text, (uint64_t)bytes), s->paths->staging);
}

/* Takes the drive away from commands, then closes it. */
static int close_drive(struct serve *s, int64_t deadline)
{
	struct drive *d;

	pthread_rwlock_wrlock(&s->in_use);
	d = s->drive;
	s->drive = NULL;
	pthread_rwlock_unlock(&s->in_use);
	return drive_close(d, deadline);
}

/* After the unmount: no program can write any more. Commits, uploads up to the limit, closes. */
static int wind_up(struct serve *s)
{
	int rc = drive_flush(s->drive, SEG_DISPERSED, 0, drain_tick, s), closed;

	drain_tick(s);
	notify_service("STATUS=closing the drive\nEXTEND_TIMEOUT_USEC=%d", NOTIFY_EXTEND_US);
	phase_set(s, PHASE_CLOSING);
	/* The time for uploads is over: what is still in flight is cut off, and put again later. */
	closed = close_drive(s, clock_mono_ns() + (rc ? 0 : CLOSE_LIMIT));
	if (!closed) /* else not all of it is safe */
		say_left(s, rc);
	else
		log_error("not everything could be committed to %s: %s", s->paths->state,
			  strerror(-closed));
	pthread_mutex_lock(&s->lock);
	s->drained = rc;
	s->result = closed;
	pthread_mutex_unlock(&s->lock);
	phase_set(s, PHASE_CLOSED);
	return closed;
}

/* ---- the whole ---- */

static int start(struct serve *s, struct session **session, struct err *e)
{
	struct secret secret = { 0 };
	int rc = check_mountpoint(s, e);

	if (!rc)
		rc = paths_make(s->paths, e);
	if (!rc)
		rc = instance_lock(s->paths, &s->lock_fd, e);
	if (!rc)
		rc = instance_describe(s->lock_fd, s->mountpoint, s->paths->cache, e);
	if (!rc)
		rc = get_secret(s, &secret, e);
	if (rc)
		return rc;
	rc = signals_start(s, e);
	if (!rc)
		rc = open_drive(s, &secret, e);
	secret_release(&secret);
	if (!rc)
		rc = control_serve(s->paths->socket, serve_commands, s, &s->control, e);
	if (!rc)
		rc = open_session(s, session, e);
	return rc;
}

static void serve_init(struct serve *s)
{
	pthread_condattr_t attr;

	s->lock_fd = -1;
	s->drain_limit = s->o->drain;
	s->since = clock_real_ns() / NS_PER_S;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_rwlock_init(&s->in_use, NULL);
}

static void serve_release(struct serve *s)
{
	control_stop(s->control);
	if (s->signals) {
		pthread_kill(s->signals, SIGUSR2);
		pthread_join(s->signals, NULL);
	}
	json_decref(s->left);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	pthread_rwlock_destroy(&s->in_use);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
}

int serve_run(struct daemon *daemon, const struct paths *paths, const struct config *config,
	      struct mount_options *o, const char *mountpoint)
{
	struct serve s = {
		.daemon = daemon, .paths = paths, .config = config, .o = o, .mountpoint = mountpoint
	};
	struct session *session = NULL;
	struct err e = { 0 };
	int rc, status;

	serve_init(&s);
	set_up_process();
	rc = start(&s, &session, &e);
	if (rc) {
		status = cmd_fail(&cmd_mount, rc, &e);
		phase_set(&s, PHASE_CLOSING);
		session_destroy(session);
		close_drive(&s, clock_mono_ns());
		phase_set(&s, PHASE_CLOSED);
		serve_release(&s);
		return status;
	}
	rc = session_loop(session);
	if (rc)
		log_error("serving %s ended: %s", mountpoint, strerror(-rc));
	notify_service("STOPPING=1");
	phase_set(&s, PHASE_DRAINING);
	session_destroy(session);
	rc = wind_up(&s);
	serve_release(&s);
	return rc ? STATUS_FAILED : STATUS_OK;
}
