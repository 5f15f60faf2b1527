/* A process that returns to its caller when the work is set up, and goes on in the background. The
 * fork comes before anything with locks, threads or locked memory. */
#ifndef FS_CMD_DAEMON_H
#define FS_CMD_DAEMON_H

struct daemon {
	int foreground;
	int report; /* write end of the pipe to who waits; -1 when told, or nobody does */
};

/* Runs body in a child and waits until it calls daemon_ready (then returns 0 in the parent) or ends
 * before that: then its exit status is returned; its sentences went to stderr, which it shares.
 * foreground: no fork, body runs here. body returns an exit status; the child exits with it. */
int daemon_run(int foreground, int (*body)(struct daemon *d, void *arg), void *arg);

/* Tells the waiting parent and leaves the terminal: own session, "/" as folder, /dev/null as stdin,
 * stdout, stderr; log_file (may be NULL) as stderr, so that the last words of a library are kept.
 * In the foreground it only tells, if somebody waits. The log has to have its final target by now.
 */
void daemon_ready(struct daemon *d, const char *log_file);
int daemon_in_foreground(const struct daemon *d);

#endif
