#include "fs/cmd/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/cmd/cmd.h"

/* A terminal's Ctrl-C reaches the child as well: it cleans up, and its status tells. */
static int wait_for_child(pid_t pid, int from)
{
	char word;
	ssize_t n;
	int status;

	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	do
		n = read(from, &word, 1);
	while (n < 0 && errno == EINTR);
	close(from);
	if (n == 1)
		return STATUS_OK;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return STATUS_SYSTEM;
	if (WIFEXITED(status))
		return WEXITSTATUS(status) ? WEXITSTATUS(status) : STATUS_INTERNAL;
	if (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM)
		return STATUS_INTERRUPTED;
	fprintf(stderr, "skyflok: the daemon was ended by signal %d (%s)\n", WTERMSIG(status),
		strsignal(WTERMSIG(status)));
	return STATUS_INTERNAL;
}

int daemon_run(int foreground, int (*body)(struct daemon *d, void *arg), void *arg)
{
	struct daemon d = { .foreground = foreground, .report = -1 };
	int fds[2];
	pid_t pid;

	if (foreground)
		return body(&d, arg);
	if (pipe2(fds, O_CLOEXEC)) {
		fprintf(stderr, "skyflok: pipe: %s\n", strerror(errno));
		return STATUS_SYSTEM;
	}
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "skyflok: cannot fork: %s\n", strerror(errno));
		close(fds[0]);
		close(fds[1]);
		return STATUS_SYSTEM;
	}
	if (pid) {
		close(fds[1]);
		return wait_for_child(pid, fds[0]);
	}
	close(fds[0]);
	d.report = fds[1];
	return body(&d, arg);
}

static void tell(struct daemon *d)
{
	if (d->report < 0)
		return;
	(void)!write(d->report, "R", 1);
	close(d->report);
	d->report = -1;
}

void daemon_ready(struct daemon *d, const char *log_file)
{
	int null, words;

	if (d->foreground || d->report < 0) {
		tell(d);
		return;
	}
	setsid();
	if (chdir("/"))
		return; /* cannot happen */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		if (null > 2)
			close(null);
	}
	words = log_file ? open(log_file, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
	if (words >= 0) {
		dup2(words, 2);
		close(words);
	}
	tell(d);
}

int daemon_in_foreground(const struct daemon *d)
{
	return d->foreground;
}
