/* Requests on the control socket of a mounted drive, whatever a program of the same user sends.
 * fuzz-sources: fs/drive/control.c fs/base/*.c fuzz-libs: -ljansson -lpthread */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "fs/drive/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];

/* As the commands look at what they are given. */
static int echo(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		struct err *e)
{
	json_t *v = json_object_get(request, "value");

	if (json_is_integer(v) && json_integer_value(v) < 0)
		return err_set(e, -22, "negative: %lld", (long long)json_integer_value(v));
	if (json_is_string(v))
		return control_progress(
		    conn, json_pack("{s:o}", "text", control_text(json_string_value(v))));
	*reply = v ? json_pack("{s:O}", "value", v) : NULL;
	return 0;
}

static const struct control_command commands[] = { { "echo", echo }, { NULL, NULL } };

static void end(void)
{
	unlink(path);
}

static void begin(void)
{
	struct control *server;
	struct err e;

	snprintf(path, sizeof(path), "/tmp/skyflok-fuzz-control-%d", (int)getpid());
	if (control_serve(path, commands, NULL, &server, &e))
		abort();
	atexit(end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char answer[4096];
	ssize_t n;
	int fd;

	if (!path[0])
		begin();
	memcpy(sa.sun_path, path, sizeof(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		abort();
	/* It may hang up before it has read all: that is an answer, too. */
	if (send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size)
		send(fd, "\n", 1, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	while ((n = recv(fd, answer, sizeof(answer), 0)) > 0)
		;
	close(fd);
	return 0;
}
