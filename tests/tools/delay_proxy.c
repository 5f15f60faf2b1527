/* A TCP proxy on loopback that makes the way to a server longer, for kernels without netem:
 *   delay_proxy MS PORT=TARGET...
 * One way takes MS milliseconds (may have a fraction), so a round trip twice that. Bandwidth is not
 * limited: each chunk is queued with the time it is due. A new connection costs one round trip
 * more, as TCP's handshake over such a way does.
 *
 * Commands on stdin, each answered by a line: "delay I MS" sets the way behind the I-th port from
 * now on (also for connections that exist; what is under way arrives in order). The end of stdin
 * ends the program: it does not outlive who started it. "ready" is the first line of stdout. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX 32
#define CHUNK     (128u << 10)
#define QUEUE_MAX (16u << 20) /* of one direction: 1 GB/s over a way of 16 ms */
#define EVENTS    256

struct chunk {
	struct chunk *next;
	int64_t due;
	uint32_t at, len; /* len 0: the end of the stream */
	uint8_t p[];
};

struct conn;

/* One direction. Linked into `busy` while it has something queued. */
struct way {
	struct conn *conn;
	struct way *next_busy, **prev_busy;
	struct chunk *head, **tail;
	int64_t last_due;
	size_t queued;
	int from, to; /* descriptors */
	int ended;    /* nothing more comes from `from` */
	int closed;   /* the end was passed on */
	int blocked;  /* `to` takes nothing now */
};

struct end {
	enum { END_LISTEN, END_STDIN, END_CLIENT, END_SERVER } kind;
	int fd; /* of the first two */
	int port;
	struct conn *conn;
};

struct conn {
	struct way up, down; /* up: client to server */
	struct end client, server;
	uint32_t interest[2]; /* of the client's and the server's descriptor */
	int gone[2];          /* that descriptor has hung up and is not polled any more */
	int port, dead;
	int64_t open_from; /* the handshake is over */
	struct conn *next_dead;
};

static int ep;
static int64_t delay_ns[PORTS_MAX];
static int target[PORTS_MAX], nports;
static struct way *busy;
static struct conn *dead;
static struct chunk *spare; /* one is enough: the next read's */

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int64_t parse_ms(const char *s)
{
	char *end;
	double ms = strtod(s, &end);

	if (end == s || *end || ms < 0 || ms > 60000)
		errx(2, "not a number of milliseconds: %s", s);
	return (int64_t)(ms * 1e6);
}

static void kill_conn(struct conn *c)
{
	if (c->dead)
		return;
	c->dead = 1;
	c->next_dead = dead;
	dead = c;
}

static void busy_add(struct way *w)
{
	if (w->prev_busy)
		return;
	w->next_busy = busy;
	if (busy)
		busy->prev_busy = &w->next_busy;
	busy = w;
	w->prev_busy = &busy;
}

static void busy_remove(struct way *w)
{
	if (!w->prev_busy)
		return;
	*w->prev_busy = w->next_busy;
	if (w->next_busy)
		w->next_busy->prev_busy = w->prev_busy;
	w->prev_busy = NULL;
}

/* What is waited for follows from the state of both ways. */
static void watch(struct conn *c)
{
	for (int side = 0; side < 2 && !c->dead; side++) {
		struct way *in = side ? &c->down : &c->up, *out = side ? &c->up : &c->down;
		struct epoll_event e = { .data.ptr = side ? &c->server : &c->client };
		if (!in->ended && in->queued < QUEUE_MAX)
			e.events |= EPOLLIN;
		if (out->blocked)
			e.events |= EPOLLOUT;
		if (e.events == c->interest[side] || c->gone[side])
			continue;
		c->interest[side] = e.events;
		if (epoll_ctl(ep, EPOLL_CTL_MOD, in->from, &e))
			err(1, "epoll_ctl");
	}
}

static void enqueue(struct way *w, struct chunk *k)
{
	int64_t t = now_ns();

	if (t < w->conn->open_from)
		t = w->conn->open_from;
	t += delay_ns[w->conn->port];
	if (t < w->last_due)
		t = w->last_due; /* the way became shorter: still in order */
	k->due = w->last_due = t;
	k->next = NULL;
	*w->tail = k;
	w->tail = &k->next;
	w->queued += k->len;
	busy_add(w);
}

static void take_in(struct way *w)
{
	while (!w->ended && w->queued < QUEUE_MAX) {
		struct chunk *k = spare ? spare : malloc(sizeof(*k) + CHUNK);
		if (!k)
			err(1, "malloc");
		spare = NULL;
		ssize_t n = recv(w->from, k->p, CHUNK, 0);
		if (n < 0) {
			spare = k;
			if (errno != EAGAIN && errno != EINTR)
				kill_conn(w->conn);
			return;
		}
		if (n < (ssize_t)CHUNK / 2) { /* small ones do not hold a big buffer */
			struct chunk *small = malloc(sizeof(*k) + (size_t)n);
			if (!small)
				err(1, "malloc");
			memcpy(small->p, k->p, (size_t)n);
			spare = k;
			k = small;
		}
		k->at = 0, k->len = (uint32_t)n;
		w->ended = n == 0;
		enqueue(w, k);
	}
}

/* 1: something is left that is due later, at *next. */
static void give_out(struct way *w, int64_t now)
{
	struct chunk *k;

	while (!w->blocked && (k = w->head) && k->due <= now) {
		if (k->len == 0) {
			shutdown(w->to, SHUT_WR);
			w->closed = 1;
		}
		while (k->at < k->len) {
			ssize_t n = send(w->to, k->p + k->at, k->len - k->at, MSG_NOSIGNAL);
			if (n < 0 && errno == EAGAIN) {
				w->blocked = 1;
				return;
			}
			if (n < 0 && errno != EINTR) {
				kill_conn(w->conn);
				return;
			}
			if (n > 0)
				k->at += (uint32_t)n;
		}
		w->queued -= k->len;
		w->head = k->next;
		if (!w->head)
			w->tail = &w->head;
		free(k);
	}
	if (!w->head)
		busy_remove(w);
	if (w->conn->up.closed && w->conn->down.closed)
		kill_conn(w->conn);
}

static void conn_event(struct end *n, uint32_t events)
{
	struct conn *c = n->conn;
	int side = n->kind == END_SERVER;
	struct way *in = side ? &c->down : &c->up, *out = side ? &c->up : &c->down;

	if (c->dead)
		return;
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		take_in(in);
	if (events & EPOLLOUT)
		out->blocked = 0;
	/* Else it would be reported again and again until the last chunk has gone its way. */
	if (events & (EPOLLHUP | EPOLLERR) && in->ended && !c->gone[side]) {
		c->gone[side] = 1;
		epoll_ctl(ep, EPOLL_CTL_DEL, in->from, NULL);
	}
	watch(c);
}

static void way_init(struct way *w, struct conn *c, int from, int to)
{
	w->conn = c;
	w->from = from, w->to = to;
	w->tail = &w->head;
}

static int dial(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* On loopback this is answered at once, or refused. */
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void reset(int fd)
{
	struct linger l = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(fd);
}

static void set_up(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		err(1, "fcntl");
}

static void greet(int listener, int port)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c;

	if (fd < 0)
		return;
	int to = dial(target[port]);
	c = to < 0 ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		reset(fd);
		if (to >= 0)
			close(to);
		return;
	}
	set_up(fd);
	set_up(to);
	c->port = port;
	c->open_from = now_ns() + 2 * delay_ns[port];
	c->client = (struct end){ .kind = END_CLIENT, .conn = c };
	c->server = (struct end){ .kind = END_SERVER, .conn = c };
	way_init(&c->up, c, fd, to);
	way_init(&c->down, c, to, fd);
	for (int side = 0; side < 2; side++) {
		struct epoll_event e = { .data.ptr = side ? &c->server : &c->client };
		if (epoll_ctl(ep, EPOLL_CTL_ADD, side ? to : fd, &e))
			err(1, "epoll_ctl");
	}
	watch(c);
}

static void bury(void)
{
	struct conn *c;

	while ((c = dead)) {
		dead = c->next_dead;
		for (int side = 0; side < 2; side++) {
			struct way *w = side ? &c->down : &c->up;
			struct chunk *k;
			busy_remove(w);
			while ((k = w->head)) {
				w->head = k->next;
				free(k);
			}
			if (c->up.closed && c->down.closed)
				close(w->from);
			else
				reset(w->from);
		}
		free(c);
	}
}

/* "delay I MS" */
static void command(char *line)
{
	char *index = strchr(line, ' '), *ms = index ? strchr(index + 1, ' ') : NULL, *end;

	if (strncmp(line, "delay ", 6) || !ms)
		errx(2, "no such command: %s", line);
	long i = strtol(index, &end, 10);
	if (end != ms || i < 0 || i >= nports)
		errx(2, "no such port: %s", line);
	delay_ns[i] = parse_ms(ms + 1);
	puts("ok");
	fflush(stdout);
}

static void read_commands(void)
{
	static char line[256];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, line + have, sizeof(line) - 1 - have);
	char *end;

	if (n == 0 || (n < 0 && errno != EINTR))
		exit(0);
	have += n > 0 ? (size_t)n : 0;
	line[have] = 0;
	while ((end = strchr(line, '\n'))) {
		*end++ = 0;
		command(line);
		have -= (size_t)(end - line);
		memmove(line, end, have + 1);
	}
	if (have == sizeof(line) - 1)
		errx(2, "a line is too long");
}

static void run(void)
{
	struct epoll_event events[EVENTS];

	for (;;) {
		int64_t now = now_ns(), next = now + 1000000000;
		for (struct way *w = busy, *after; w; w = after) {
			after = w->next_busy;
			give_out(w, now);
			if (w->head && !w->blocked && w->head->due < next)
				next = w->head->due;
			watch(w->conn);
		}
		bury();
		now = now_ns();
		int64_t left = next > now ? next - now : 0;
		struct timespec t = { left / 1000000000, left % 1000000000 };
		int n = epoll_pwait2(ep, events, EVENTS, &t, NULL);
		for (int i = 0; i < n; i++) {
			struct end *e = events[i].data.ptr;
			if (e->kind == END_STDIN)
				read_commands();
			else if (e->kind == END_LISTEN)
				greet(e->fd, e->port);
			else
				conn_event(e, events[i].events);
		}
	}
}

static void poll_in(struct end *e)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = e };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &event))
		err(1, "epoll_ctl");
}

static void listen_on(struct end *e, const char *spec)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char *end;
	long port = strtol(spec, &end, 10);
	int one = 1;

	if (*end != '=' || port < 1 || port > 65535)
		errx(2, "not PORT=TARGET: %s", spec);
	long to = strtol(end + 1, &end, 10);
	if (*end || to < 1 || to > 65535)
		errx(2, "not PORT=TARGET: %s", spec);
	a.sin_port = htons((uint16_t)port);
	target[e->port] = (int)to;
	e->kind = END_LISTEN;
	e->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(e->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (e->fd < 0 || bind(e->fd, (struct sockaddr *)&a, sizeof(a)) || listen(e->fd, 512))
		err(1, "port %ld", port);
	poll_in(e);
}

int main(int argc, char **argv)
{
	static struct end listeners[PORTS_MAX], commands = { .kind = END_STDIN };
	struct rlimit files;

	if (argc < 3 || argc - 2 > PORTS_MAX)
		errx(2, "usage: delay_proxy MS PORT=TARGET...");
	signal(SIGPIPE, SIG_IGN);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		err(1, "epoll");
	poll_in(&commands);
	for (nports = 0; nports < argc - 2; nports++) {
		delay_ns[nports] = parse_ms(argv[1]);
		listeners[nports].port = nports;
		listen_on(&listeners[nports], argv[nports + 2]);
	}
	puts("ready");
	fflush(stdout);
	run();
}
