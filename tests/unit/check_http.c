/* The HTTP engine against a small server of the test's own, which behaves as its path says:
 *   /bytes/N  N bytes      /echo     length and sum of the body      /hang     nothing, ever
 *   /close    5 bytes, then closes although it promised not to      /headers  64 KiB of headers
 *   /garbage  no HTTP      /100      an interim answer first */
#include <check.h>
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "backends/http.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"

/* -- the server ----------------------------------------------------------------------------- */

static int listener = -1, port, connections, at_once, most;
static pthread_t acceptor;

static void say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(int fd, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		shutdown(fd, SHUT_RDWR);
}

static void send_bytes(int fd, long n)
{
	char block[4096];

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)('a' + i % 16);
	while (n > 0) {
		ssize_t k = send(fd, block, (size_t)MIN(n, (long)sizeof(block)), MSG_NOSIGNAL);
		if (k <= 0)
			return;
		n -= k;
	}
}

static void echo(FILE *f, int fd, long length)
{
	unsigned long sum = 0;
	long n = 0;
	char text[64];

	for (int c; n < length && (c = getc(f)) != EOF; n++)
		sum += (unsigned long)c * (unsigned long)(n + 1);
	snprintf(text, sizeof(text), "%ld %lu", n, sum);
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(text), text);
}

static void answer(FILE *f, int fd, const char *path, long length)
{
	long n;

	if (sscanf(path, "/bytes/%ld", &n) == 1) {
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\nX-Odd:   spaced \r\n\r\n", n);
		send_bytes(fd, n);
	} else if (!strcmp(path, "/echo")) {
		echo(f, fd, length);
	} else if (!strcmp(path, "/close")) {
		say(fd,
		    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello");
		shutdown(fd, SHUT_RDWR);
	} else if (!strcmp(path, "/headers")) {
		say(fd, "HTTP/1.1 200 OK\r\n");
		for (int i = 0; i < 1100; i++)
			say(fd, "X-%d: %050d\r\n", i, i);
		say(fd, "Content-Length: 0\r\n\r\n");
	} else if (!strcmp(path, "/garbage")) {
		say(fd, "I am a printer.\r\n\r\n");
		shutdown(fd, SHUT_RDWR);
	} else if (!strcmp(path, "/100")) {
		say(fd, "HTTP/1.1 100 Continue\r\nX-Which: first\r\n\r\n"
			"HTTP/1.1 404 Not Found\r\nX-Which: second\r\nContent-Length: 2\r\n\r\nno");
	} else {
		while (getc(f) != EOF)
			;
	}
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg, now = __atomic_add_fetch(&at_once, 1, __ATOMIC_SEQ_CST);
	FILE *f = fdopen(dup(fd), "r");
	char line[1024], path[256];

	if (now > __atomic_load_n(&most, __ATOMIC_SEQ_CST))
		__atomic_store_n(&most, now, __ATOMIC_SEQ_CST);
	while (fgets(line, sizeof(line), f)) {
		long length = 0;
		if (sscanf(line, "%*s %255s", path) != 1)
			break;
		while (fgets(line, sizeof(line), f) && line[0] != '\r')
			sscanf(line, "Content-Length: %ld", &length);
		answer(f, fd, path, length);
	}
	fclose(f);
	close(fd);
	__atomic_sub_fetch(&at_once, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *accept_all(void *arg)
{
	pthread_attr_t a;
	pthread_t t;

	pthread_attr_init(&a);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0)
			return NULL;
		__atomic_add_fetch(&connections, 1, __ATOMIC_SEQ_CST);
		if (pthread_create(&t, &a, serve, (void *)(intptr_t)fd))
			close(fd);
	}
}

static struct http_site *site;

static void open_site(int max)
{
	struct http_conf conf = { .max = max, .direct = 1 };

	ck_assert_int_eq(http_site_open(&conf, &site, NULL), 0);
}

static void setup(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);

	connections = at_once = most = 0;
	listener = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(listen(listener, 128), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&a, &n), 0);
	port = ntohs(a.sin_port);
	ck_assert_int_eq(pthread_create(&acceptor, NULL, accept_all, NULL), 0);
}

static void teardown(void)
{
	http_site_close(site);
	shutdown(listener, SHUT_RDWR);
	pthread_join(acceptor, NULL);
	close(listener);
	while (__atomic_load_n(&at_once, __ATOMIC_SEQ_CST))
		usleep(1000);
}

/* -- requests ------------------------------------------------------------------------------- */

struct ask {
	struct http_req r;
	char url[128];
	int dones;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int ended;

static void on_done(struct http_req *r)
{
	struct ask *a = r->user;

	SCOPE_LOCK(&lock);
	a->dones++;
	ended++;
	pthread_cond_signal(&cond);
}

static void begin(struct ask *a, enum http_method method, const char *path, int64_t timeout)
{
	memset(a, 0, sizeof(*a));
	snprintf(a->url, sizeof(a->url), "http://127.0.0.1:%d%s", port, path);
	a->r.method = method;
	a->r.url = a->url;
	a->r.deadline = clock_mono_ns() + timeout;
	a->r.done = on_done;
	a->r.user = a;
}

static void wait_ended(int n)
{
	pthread_mutex_lock(&lock);
	while (ended < n)
		pthread_cond_wait(&cond, &lock);
	ended -= n;
	pthread_mutex_unlock(&lock);
}

static void get(struct ask *a, const char *path)
{
	begin(a, HTTP_GET, path, 10 * NS_PER_S);
	http_submit(site, &a->r);
	wait_ended(1);
	ck_assert_int_eq(a->dones, 1);
}

START_TEST(reuse)
{
	struct ask a;

	open_site(0);
	for (int i = 0; i < 50; i++) {
		get(&a, "/bytes/1000");
		ck_assert_int_eq(a.r.result, 0);
		ck_assert_int_eq(a.r.status, 200);
		ck_assert_uint_eq(a.r.text.len, 1000);
		ck_assert_str_eq(http_header(&a.r, "content-length"), "1000");
		ck_assert_ptr_null(http_header(&a.r, "content"));
		ck_assert_ptr_null(http_header(&a.r, "Date"));
		http_req_release(&a.r);
	}
	ck_assert_int_eq(connections, 1);
}
END_TEST

START_TEST(many)
{
	static struct ask a[200];

	open_site(4);
	for (int i = 0; i < 200; i++) {
		begin(&a[i], HTTP_GET, "/bytes/100", 20 * NS_PER_S);
		http_submit(site, &a[i].r);
	}
	wait_ended(200);
	for (int i = 0; i < 200; i++) {
		ck_assert(a[i].dones == 1 && a[i].r.result == 0 && a[i].r.text.len == 100);
		http_req_release(&a[i].r);
	}
	ck_assert_int_le(most, 4);
}
END_TEST

START_TEST(cancelling)
{
	struct ask a, b, c;
	int64_t t = clock_mono_ns();

	open_site(1);
	begin(&a, HTTP_GET, "/hang", 20 * NS_PER_S);
	begin(&b, HTTP_GET, "/bytes/1", 20 * NS_PER_S);
	begin(&c, HTTP_GET, "/bytes/1", 20 * NS_PER_S);
	http_cancel(&a.r); /* never submitted: nothing */
	http_submit(site, &a.r);
	http_submit(site, &b.r);
	http_submit(site, &c.r);
	http_cancel(&b.r); /* waits behind a */
	wait_ended(1);
	ck_assert(b.dones == 1 && b.r.result == -ECANCELED);
	http_cancel(&b.r);
	while (!__atomic_load_n(&connections, __ATOMIC_SEQ_CST))
		usleep(1000);
	http_cancel(&a.r); /* runs */
	http_cancel(&a.r);
	wait_ended(2);
	ck_assert(a.dones == 1 && a.r.result == -ECANCELED);
	ck_assert(c.dones == 1 && c.r.result == 0); /* the slot is free again */
	http_cancel(&c.r);
	ck_assert(clock_mono_ns() - t < 5 * NS_PER_S);
	http_req_release(&a.r), http_req_release(&b.r), http_req_release(&c.r);
}
END_TEST

START_TEST(deadlines)
{
	struct ask a, b, c;
	int64_t t = clock_mono_ns();

	open_site(1);
	begin(&a, HTTP_GET, "/hang", 600 * NS_PER_MS);
	begin(&b, HTTP_GET, "/bytes/1", 200 * NS_PER_MS);
	begin(&c, HTTP_GET, "/hang", 20 * NS_PER_S);
	c.r.patience = 300 * NS_PER_MS; /* counts from its turn */
	http_submit(site, &a.r);
	http_submit(site, &b.r);
	http_submit(site, &c.r);
	wait_ended(1);
	ck_assert(b.dones && b.r.result == -ETIMEDOUT && b.r.unasked);
	wait_ended(1);
	ck_assert(a.dones && a.r.result == -ETIMEDOUT && !a.r.unasked && !c.dones);
	t = clock_mono_ns() - t;
	ck_assert(t >= 600 * NS_PER_MS && t < 5 * NS_PER_S);
	wait_ended(1);
	ck_assert(c.dones && c.r.result == -ETIMEDOUT);
	http_req_release(&a.r), http_req_release(&b.r), http_req_release(&c.r);
}
END_TEST

START_TEST(parking)
{
	static const int results[] = { 0, -ECANCELED, -ETIMEDOUT };
	struct ask a[3];

	open_site(1);
	for (int i = 0; i < 3; i++) {
		begin(&a[i], HTTP_GET, "/bytes/1", i == 2 ? 100 * NS_PER_MS : 20 * NS_PER_S);
		a[i].r.parked = 1;
		http_submit(site, &a[i].r);
	}
	http_wake(&a[0].r);
	http_cancel(&a[1].r);
	wait_ended(3);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(a[i].r.result, results[i]);
	ck_assert_int_eq(connections, 0);
}
END_TEST

static int turns;

/* Parks it at its first turn, sends it to /bytes/7 at the second, refuses the third. */
static int by_turns(struct http_req *r)
{
	struct ask *a = r->user;

	if (__atomic_add_fetch(&turns, 1, __ATOMIC_SEQ_CST) == 1)
		return HTTP_PARK;
	snprintf(a->url, sizeof(a->url), "http://127.0.0.1:%d/bytes/7", port);
	return turns == 2 ? 0 : -EACCES;
}

START_TEST(preparing)
{
	struct ask a;

	open_site(1);
	turns = 0;
	begin(&a, HTTP_GET, "/hang", 20 * NS_PER_S);
	a.r.prepare = by_turns;
	http_submit(site, &a.r);
	while (!__atomic_load_n(&turns, __ATOMIC_SEQ_CST))
		usleep(1000);
	http_wake(&a.r);
	wait_ended(1);
	ck_assert(a.r.result == 0 && a.r.parked && a.r.status == 0);
	a.r.parked = 0;
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert(a.r.result == 0 && a.r.text.len == 7);
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert(a.r.result == -EACCES && a.r.unasked && a.dones == 3);
	http_req_release(&a.r);
}
END_TEST

static int to_iov(struct http_req *r)
{
	return r->status == 200 ? HTTP_TO_IOV : HTTP_TO_TEXT;
}

static int to_error(struct http_req *r)
{
	return -ESTALE;
}

START_TEST(bounds)
{
	char room[30];
	struct iovec into[] = { { room + 5, 7 }, { room + 12, 8 } };
	struct ask a;

	open_site(0);
	memset(room, '#', sizeof(room));
	begin(&a, HTTP_GET, "/bytes/15", 10 * NS_PER_S);
	a.r.into = into, a.r.intos = 2, a.r.headers_done = to_iov;
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert(a.r.result == 0 && a.r.got == 15);
	ck_assert_mem_eq(room, "#####abcdefghijklmno##########", 30);
	http_req_release(&a.r);
	memset(room, '#', sizeof(room));
	begin(&a, HTTP_GET, "/bytes/16", 10 * NS_PER_S); /* one too many */
	a.r.into = into, a.r.intos = 2, a.r.headers_done = to_iov;
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert_int_eq(a.r.result, -EBADMSG);
	ck_assert(room[4] == '#' && room[20] == '#');
	http_req_release(&a.r);
	begin(&a, HTTP_GET, "/bytes/1000", 10 * NS_PER_S);
	a.r.max_text = 999;
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert_int_eq(a.r.result, -EBADMSG);
	http_req_release(&a.r);
	get(&a, "/headers");
	ck_assert_int_eq(a.r.result, -EBADMSG);
	http_req_release(&a.r);
	begin(&a, HTTP_GET, "/bytes/10", 10 * NS_PER_S);
	a.r.headers_done = to_error;
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert_int_eq(a.r.result, -ESTALE);
	http_req_release(&a.r);
}
END_TEST

START_TEST(odd_answers)
{
	struct ask a;

	open_site(0);
	get(&a, "/garbage");
	ck_assert_int_eq(a.r.result, -EBADMSG);
	http_req_release(&a.r);
	get(&a, "/100");
	ck_assert(a.r.result == 0 && a.r.status == 404 && a.r.text.len == 2);
	ck_assert_str_eq(http_header(&a.r, "X-Which"), "second");
	http_req_release(&a.r);
	begin(&a, HTTP_HEAD, "/bytes/0", 10 * NS_PER_S);
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert(a.r.result == 0 && a.r.status == 200 && a.r.text.len == 0);
	http_req_release(&a.r);
	begin(&a, HTTP_GET, "/", 10 * NS_PER_S);
	snprintf(a.url, sizeof(a.url), "http://127.0.0.1:1/");
	http_submit(site, &a.r);
	wait_ended(1);
	ck_assert(a.r.result == -EAGAIN && a.r.problem[0]);
	http_req_release(&a.r);
}
END_TEST

START_TEST(upload)
{
	static char body[3 * 1024 * 1024];
	struct iovec iov[] = { { body, 10 }, { body, 0 }, { body + 10, sizeof(body) - 10 } };
	unsigned long sum = 0;
	char want[64];
	struct ask a;

	open_site(0);
	for (size_t i = 0; i < sizeof(body); i++) {
		body[i] = (char)(i * 7 % 128);
		sum += (unsigned long)body[i] * (i + 1);
	}
	snprintf(want, sizeof(want), "%zu %lu", sizeof(body), sum);
	for (int i = 0; i < 3; i++) {
		/* The kept connection is dead when the upload begins on it: sent again from the
		 * start. */
		get(&a, "/close");
		ck_assert(a.r.result == 0 && a.r.text.len == 5);
		http_req_release(&a.r);
		begin(&a, i ? HTTP_PUT : HTTP_POST, "/echo", 20 * NS_PER_S);
		a.r.body = iov, a.r.bodies = 3;
		http_submit(site, &a.r);
		wait_ended(1);
		ck_assert_msg(a.r.result == 0, "%d %s", a.r.result, a.r.problem);
		ck_assert_str_eq(buf_cstr(&a.r.text), want);
		http_req_release(&a.r);
	}
}
END_TEST

START_TEST(engine_life)
{
	struct http_site *more[3];
	struct http_conf conf = { .direct = 1 }, bad = { .ca = "/nonexistent/ca.pem" };
	struct err e;
	struct ask a;

	for (int i = 0; i < 5; i++) {
		open_site(0);
		for (int k = 0; k < 3; k++)
			ck_assert_int_eq(http_site_open(&conf, &more[k], NULL), 0);
		get(&a, "/bytes/5");
		ck_assert_int_eq(a.r.result, 0);
		http_req_release(&a.r);
		for (int k = 0; k < 3; k++)
			http_site_close(more[k]);
		if (i < 4)
			http_site_close(site);
	}
	ck_assert_int_eq(http_site_open(&bad, &more[0], &e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(e.text, "ca.pem"));
	ck_assert_ptr_null(more[0]);
	http_site_close(NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http");
	TCase *t = tcase_create("engine");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, reuse);
	tcase_add_test(t, many);
	tcase_add_test(t, cancelling);
	tcase_add_test(t, deadlines);
	tcase_add_test(t, parking);
	tcase_add_test(t, preparing);
	tcase_add_test(t, bounds);
	tcase_add_test(t, odd_answers);
	tcase_add_test(t, upload);
	tcase_add_test(t, engine_life);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
