#include "fs/drive/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/list.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define LINE_MAX_BYTES (16u << 20)
#define CONNS_MAX      16
#define SEND_TIMEOUT_S 10

struct control {
	const struct control_command *commands;
	void *arg;
	char *path;
	int listener, wake[2];
	pthread_t thread;
	pthread_mutex_t lock; /* guards conns, count */
	pthread_cond_t empty;
	struct list conns;
	int count;
	int stopping; /* atomic */
};

struct control_conn {
	struct list entry;
	struct control *server;
	int fd;
};

struct line_reader {
	char *p;
	size_t len, cap, used; /* used: bytes of p that the line before took */
};

/* ---- lines ---- */

/* A path of any length: sun_path holds 107 bytes, so the folder is named by a descriptor. */
static int address_of(const char *path, struct sockaddr_un *sa, int *dirfd)
{
	AUTO_FREE char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	int n;

	*dirfd = -1;
	if (!slash)
		return dir ? -EINVAL : -ENOMEM;
	*slash = '\0';
	*dirfd = open(*dir ? dir : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd < 0)
		return -errno;
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", *dirfd, slash + 1);
	return n > 0 && (size_t)n < sizeof(sa->sun_path) ? 0 : -ENAMETOOLONG;
}

static int send_line(int fd, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0, done = 0;
	int rc = text ? 0 : -ENOMEM;

	if (text)
		text[n++] = '\n'; /* in place of the NUL */
	while (!rc && done < n) {
		ssize_t w = send(fd, text + done, n - done, MSG_NOSIGNAL);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			rc = errno == EAGAIN ? -ETIMEDOUT : -errno;
		else
			done += (size_t)w;
	}
	free(text);
	return rc;
}

static int reader_more(struct line_reader *r, int fd)
{
	ssize_t n;

	if (r->cap - r->len < 4096) {
		char *grown = r->cap < LINE_MAX_BYTES ? realloc(r->p, r->cap * 2 + 8192) : NULL;

		if (!grown)
			return r->cap < LINE_MAX_BYTES ? -ENOMEM : -EMSGSIZE;
		r->p = grown;
		r->cap = r->cap * 2 + 8192;
	}
	do
		n = recv(fd, r->p + r->len, r->cap - r->len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!n)
		return -EPIPE;
	r->len += (size_t)n;
	return 0;
}

/* The next line as JSON object. *out NULL and 0 never. deadline 0: none. */
static int reader_next(struct line_reader *r, int fd, int64_t deadline, json_t **out)
{
	size_t scanned = 0;

	if (r->used) {
		memmove(r->p, r->p + r->used, r->len - r->used);
		r->len -= r->used;
		r->used = 0;
	}
	for (;;) {
		char *nl = r->len > scanned ? memchr(r->p + scanned, '\n', r->len - scanned) : NULL;
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		int64_t left = deadline ? deadline - clock_mono_ns() : 0;
		int rc;

		if (nl) {
			r->used = (size_t)(nl - r->p) + 1;
			*out = json_loadb(r->p, r->used - 1, 0, NULL);
			if (*out && !json_is_object(*out)) {
				json_decref(*out);
				*out = NULL;
			}
			return *out ? 0 : -EBADMSG;
		}
		scanned = r->len;
		if (deadline && left <= 0)
			return -ETIMEDOUT;
		rc = poll(&pfd, 1, deadline ? (int)MIN(left / NS_PER_MS + 1, 60000) : 60000);
		if (rc < 0 && errno != EINTR)
			return -errno;
		if (rc <= 0)
			continue;
		rc = reader_more(r, fd);
		if (rc)
			return rc;
	}
}

json_t *control_text(const char *text)
{
	json_t *j = json_string(text ? text : "");
	AUTO_FREE char *clean = NULL;

	if (j)
		return j;
	clean = strdup(text);
	for (char *c = clean; c && *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return json_string(clean ? clean : "?");
}

/* ---- server ---- */

int control_progress(struct control_conn *conn, json_t *fields)
{
	json_t *line = json_pack("{s:o}", "progress", fields);
	int rc = send_line(conn->fd, line);

	json_decref(line);
	return rc ? -EPIPE : 0;
}

int control_cancelled(struct control_conn *conn)
{
	struct pollfd pfd = { .fd = conn->fd, .events = POLLRDHUP };

	return __atomic_load_n(&conn->server->stopping, __ATOMIC_ACQUIRE) ||
	       (poll(&pfd, 1, 0) > 0 && pfd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static json_t *failure(int code, const char *text)
{
	return json_pack("{s:b,s:i,s:o}", "ok", 0, "errno", -code, "error", control_text(text));
}

static json_t *answer(struct control_conn *conn, const json_t *request)
{
	const char *cmd = json_string_value(json_object_get(request, "cmd"));
	struct err e = { 0 };

	for (const struct control_command *c = conn->server->commands; cmd && c->name; c++) {
		json_t *reply = NULL;
		int rc;

		if (strcmp(c->name, cmd))
			continue;
		rc = c->run(conn->server->arg, request, conn, &reply, &e);
		if (rc) {
			json_decref(reply);
			return failure(rc, err_text(&e, rc));
		}
		if (!reply)
			reply = json_object();
		json_object_set_new(reply, "ok", json_true());
		return reply;
	}
	return failure(-EINVAL,
		       "this daemon does not know that command: is it of another version?");
}

static void *conn_main(void *arg)
{
	struct control_conn *conn = arg;
	struct control *c = conn->server;
	struct line_reader r = { 0 };
	json_t *request;

	while (!__atomic_load_n(&c->stopping, __ATOMIC_ACQUIRE) &&
	       !reader_next(&r, conn->fd, 0, &request)) {
		json_t *reply = answer(conn, request);
		int rc = send_line(conn->fd, reply);

		json_decref(reply);
		json_decref(request);
		if (rc)
			break;
	}
	free(r.p);
	pthread_mutex_lock(&c->lock);
	list_remove(&conn->entry);
	close(conn->fd);
	c->count--;
	pthread_cond_signal(&c->empty);
	pthread_mutex_unlock(&c->lock);
	free(conn);
	return NULL;
}

static int may_talk(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void take(struct control *c, int fd)
{
	struct timeval limit = { .tv_sec = SEND_TIMEOUT_S };
	struct control_conn *conn;
	pthread_t thread;

	conn = may_talk(fd) ? calloc(1, sizeof(*conn)) : NULL;
	if (!conn) {
		close(fd);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	conn->server = c;
	conn->fd = fd;
	pthread_mutex_lock(&c->lock);
	if (c->count < CONNS_MAX && !__atomic_load_n(&c->stopping, __ATOMIC_ACQUIRE) &&
	    !pthread_create(&thread, NULL, conn_main, conn)) {
		pthread_detach(thread);
		list_push_back(&c->conns, &conn->entry);
		c->count++;
		conn = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	if (conn) {
		close(fd);
		free(conn);
	}
}

static void *listen_main(void *arg)
{
	struct control *c = arg;
	struct pollfd pfd[2] = { { .fd = c->listener, .events = POLLIN },
				 { .fd = c->wake[0], .events = POLLIN } };

	pthread_setname_np(pthread_self(), "control");
	while (!__atomic_load_n(&c->stopping, __ATOMIC_ACQUIRE)) {
		int fd;

		if (poll(pfd, 2, -1) < 0 || pfd[1].revents)
			continue;
		fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			take(c, fd);
		else if (errno == EMFILE || errno == ENFILE)
			usleep(100000);
	}
	return NULL;
}

static int start_listening(struct control *c, struct err *e)
{
	struct sockaddr_un sa;
	AUTO_CLOSE int dirfd = -1;
	int rc = address_of(c->path, &sa, &dirfd);

	if (rc)
		return err_set(e, rc, "%s: %s", c->path, strerror(-rc));
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener < 0)
		return err_set(e, -errno, "control socket: %s", strerror(errno));
	unlink(c->path);
	/* The folder is 0700 already; chmod rather than umask, which is the process's. */
	if (bind(c->listener, (struct sockaddr *)&sa, sizeof(sa)) || chmod(c->path, 0600) ||
	    listen(c->listener, CONNS_MAX))
		return err_set(e, -errno, "%s: %s", c->path, strerror(errno));
	if (pipe2(c->wake, O_CLOEXEC))
		return err_set(e, -errno, "control socket: %s", strerror(errno));
	return 0;
}

static void control_free(struct control *c)
{
	if (c->listener >= 0)
		close(c->listener);
	if (c->wake[0] >= 0) {
		close(c->wake[0]);
		close(c->wake[1]);
	}
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->empty);
	free(c->path);
	free(c);
}

int control_serve(const char *path, const struct control_command *commands, void *arg,
		  struct control **out, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	sigset_t all, before;
	int rc;

	*out = NULL;
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->commands = commands;
	c->arg = arg;
	c->listener = c->wake[0] = c->wake[1] = -1;
	list_init(&c->conns);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->empty, NULL);
	c->path = strdup(path);
	rc = c->path ? start_listening(c, e) : err_set(e, -ENOMEM, "out of memory");
	if (!rc) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		rc = -pthread_create(&c->thread, NULL, listen_main, c);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		if (rc)
			err_set(e, rc, "control socket: %s", strerror(-rc));
	}
	if (rc) {
		control_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	__atomic_store_n(&c->stopping, 1, __ATOMIC_RELEASE);
	(void)!write(c->wake[1], "", 1);
	pthread_join(c->thread, NULL);
	unlink(c->path);
	pthread_mutex_lock(&c->lock);
	/* Reading ends at once; an answer that is being written still goes out. */
	list_for_each (it, &c->conns)
		shutdown(list_entry(it, struct control_conn, entry)->fd, SHUT_RD);
	while (c->count)
		pthread_cond_wait(&c->empty, &c->lock);
	pthread_mutex_unlock(&c->lock);
	control_free(c);
}

/* ---- client ---- */

struct control_client {
	int fd;
	struct line_reader r;
};

int control_connect(const char *path, struct control_client **out)
{
	struct control_client *c = calloc(1, sizeof(*c));
	struct sockaddr_un sa;
	AUTO_CLOSE int dirfd = -1;
	int rc;

	*out = NULL;
	if (!c)
		return -ENOMEM;
	rc = address_of(path, &sa, &dirfd);
	c->fd = rc ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!rc && (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof(sa))))
		rc = -errno;
	if (rc) {
		control_disconnect(c);
		return rc;
	}
	*out = c;
	return 0;
}

static int talk_failed(int rc, struct err *e)
{
	if (rc == -ECONNRESET)
		rc = -EPIPE;
	return err_set(e, rc,
		       rc == -EPIPE       ? "the drive's daemon ended before it answered"
		       : rc == -ETIMEDOUT ? "the drive's daemon does not answer"
					  : "cannot talk to the drive's daemon: %s",
		       strerror(-rc));
}

static int send_request(struct control_client *c, const char *cmd, json_t *args)
{
	json_t *request = args ? args : json_object();
	int rc;

	json_object_set_new(request, "cmd", json_string(cmd));
	rc = send_line(c->fd, request);
	json_decref(request);
	return rc;
}

/* The answer, or a progress line: 1 and *fields borrowed from *line. */
static int next_line(struct control_client *c, int64_t timeout, json_t **line, json_t **fields,
		     struct err *e)
{
	int rc = reader_next(&c->r, c->fd, timeout ? clock_mono_ns() + timeout : 0, line);

	if (rc)
		return talk_failed(rc, e);
	*fields = json_object_get(*line, "progress");
	if (*fields)
		return 1;
	if (json_is_true(json_object_get(*line, "ok")))
		return 0;
	rc = -(int)json_integer_value(json_object_get(*line, "errno"));
	if (rc >= 0)
		rc = -EIO;
	err_set(e, rc, "%s", json_string_value(json_object_get(*line, "error")) ?: "failed");
	json_decref(*line);
	return rc;
}

int control_begin(struct control_client *c, const char *cmd, json_t *args, int64_t timeout,
		  struct err *e)
{
	json_t *line, *fields;
	int rc = send_request(c, cmd, args);

	if (rc)
		return talk_failed(rc, e);
	rc = next_line(c, timeout, &line, &fields, e);
	if (rc >= 0)
		json_decref(line);
	return rc == 1 ? 0 : rc ? rc : err_set(e, -EBADMSG, "the drive's daemon did not begin");
}

int control_await(struct control_client *c, int64_t timeout,
		  void (*progress)(void *arg, const json_t *fields), void *progress_arg,
		  json_t **reply, struct err *e)
{
	json_t *line, *fields;
	int rc;

	*reply = NULL;
	while ((rc = next_line(c, timeout, &line, &fields, e)) == 1) {
		if (progress)
			progress(progress_arg, fields);
		json_decref(line);
	}
	if (!rc)
		*reply = line;
	return rc;
}

int control_call(struct control_client *c, const char *cmd, json_t *args, int64_t timeout,
		 void (*progress)(void *arg, const json_t *fields), void *progress_arg,
		 json_t **reply, struct err *e)
{
	int rc = send_request(c, cmd, args);

	*reply = NULL;
	if (rc)
		return talk_failed(rc, e);
	return control_await(c, timeout, progress, progress_arg, reply, e);
}

int control_wait_end(struct control_client *c, int64_t timeout)
{
	int64_t deadline = timeout ? clock_mono_ns() + timeout : 0;
	json_t *line;
	int rc;

	while (!(rc = reader_next(&c->r, c->fd, deadline, &line)))
		json_decref(line);
	return rc == -ETIMEDOUT ? rc : 0;
}

void control_disconnect(struct control_client *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	free(c->r.p);
	free(c);
}
