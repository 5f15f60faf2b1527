#include "fs/cmd/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/cmd/cmd.h"
#include "fs/cmd/mounts.h"

#define DEATHS_MAX     5 /* within */
#define DEATHS_IN      (60 * NS_PER_S)
#define PAUSE          NS_PER_S
#define REPORT_LOOK_MS 100

struct supervisor {
	struct daemon *outer;
	const char *mountpoint, *log_file;
	int (*body)(struct daemon *d, void *arg);
	void *arg;
	sigset_t signals, before;
	pid_t worker;     /* 0: none */
	int report;       /* what the worker says when it is ready; -1 afterwards */
	int ready, asked; /* it has been ready once; the end was asked for */
	int64_t deaths[DEATHS_MAX];
};

static int start_worker(struct supervisor *s)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0) {
		int rc = -errno;

		close(fds[0]);
		close(fds[1]);
		return rc;
	}
	if (!pid) {
		struct daemon d = { .foreground = s->outer->foreground, .report = fds[1] };

		close(fds[0]);
		/* A terminal's Ctrl-C is ours to hand on, once. (In the background it leaves the
		 * terminal by itself.) */
		if (d.foreground)
			setpgid(0, 0);
		sigprocmask(SIG_SETMASK, &s->before, NULL);
		exit(s->body(&d, s->arg));
	}
	close(fds[1]);
	s->report = fds[0];
	s->worker = pid;
	return 0;
}

/* Waits for a signal that concerns us, or for `until`; hands on what is the worker's. */
static void next_signal(struct supervisor *s, int64_t until)
{
	int64_t left = until ? MAX(until - clock_mono_ns(), 0) : 0;
	struct timespec ts = timespec_of(left);
	int sig = until ? sigtimedwait(&s->signals, NULL, &ts) : sigwaitinfo(&s->signals, NULL);

	if (sig == SIGTERM || sig == SIGINT)
		s->asked = 1;
	if (sig > 0 && sig != SIGCHLD && s->worker)
		kill(s->worker, sig);
}

/* Waits until the new worker is ready, or has ended without a word. */
static void await_report(struct supervisor *s)
{
	struct pollfd pfd = { .fd = s->report, .events = POLLIN };
	char word;
	ssize_t n;

	while (poll(&pfd, 1, REPORT_LOOK_MS) <= 0)
		next_signal(s, clock_mono_ns());
	n = read(s->report, &word, 1);
	close(s->report);
	s->report = -1;
	if (n != 1)
		return;
	if (s->ready) {
		log_info("the drive is mounted again");
		return;
	}
	s->ready = 1;
	if (!s->outer->foreground && !s->log_file)
		log_open(NULL, 1);
	daemon_ready(s->outer, s->log_file);
}

/* One more death: too many? */
static int too_often(struct supervisor *s)
{
	int64_t now = clock_mono_ns(), oldest = s->deaths[DEATHS_MAX - 1];

	memmove(s->deaths + 1, s->deaths, sizeof(s->deaths) - sizeof(s->deaths[0]));
	s->deaths[0] = now;
	return oldest && now - oldest < DEATHS_IN;
}

/* The status of the worker's end. */
static int await_end(struct supervisor *s)
{
	int status;

	for (;;) {
		pid_t pid = waitpid(s->worker, &status, WNOHANG);

		if (pid == s->worker)
			break;
		next_signal(s, 0);
	}
	s->worker = 0;
	return status;
}

static int exit_status(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM ? STATUS_INTERRUPTED
									 : STATUS_INTERNAL;
}

/* Unmounted before its daemon died, a drive is not to come back. */
static int left_a_mount(const struct supervisor *s)
{
	struct mount_entry m;
	int yes = mounts_at(s->mountpoint, &m) == 1 && mount_entry_drive(&m);

	mount_entry_release(&m);
	return yes;
}

/* After a death: 1 when it is to be started again, after a pause. */
static int again(struct supervisor *s, int status)
{
	int64_t until = clock_mono_ns() + PAUSE;

	if (!s->ready || s->asked || !WIFSIGNALED(status))
		return 0;
	if (!left_a_mount(s)) {
		log_error("the daemon was ended by signal %d (%s) after the unmount: what was left "
			  "to upload goes on at the next mount",
			  WTERMSIG(status), strsignal(WTERMSIG(status)));
		return 0;
	}
	log_error("the daemon was ended by signal %d (%s)%s", WTERMSIG(status),
		  strsignal(WTERMSIG(status)), s->deaths[0] ? ", again" : "");
	if (too_often(s)) {
		log_error("that was the %dth time within a minute: it is not started again",
			  DEATHS_MAX + 1);
		return 0;
	}
	while (!s->asked && clock_mono_ns() < until)
		next_signal(s, until);
	return !s->asked;
}

int supervise(struct daemon *outer, const char *mountpoint, const char *log_file,
	      int (*body)(struct daemon *d, void *arg), void *arg)
{
	struct supervisor s = { .outer = outer,
				.mountpoint = mountpoint,
				.log_file = log_file,
				.body = body,
				.arg = arg };
	int rc, status;

	sigemptyset(&s.signals);
	sigaddset(&s.signals, SIGTERM);
	sigaddset(&s.signals, SIGINT);
	sigaddset(&s.signals, SIGHUP);
	sigaddset(&s.signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &s.signals, &s.before);
	do {
		rc = start_worker(&s);
		if (rc) {
			log_error("the daemon cannot be started: %s", strerror(-rc));
			return STATUS_SYSTEM;
		}
		await_report(&s);
		status = await_end(&s);
	} while (again(&s, status));
	return exit_status(status);
}
