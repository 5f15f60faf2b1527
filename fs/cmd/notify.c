#include "fs/cmd/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/base/scope.h"

/* A path, or a name in the abstract namespace, written with "@" for its leading zero byte. */
static socklen_t address_of(const char *name, struct sockaddr_un *sa)
{
	size_t n = strlen(name);

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if ((name[0] != '/' && name[0] != '@') || n < 2 || n >= sizeof(sa->sun_path))
		return 0;
	memcpy(sa->sun_path, name, n);
	if (name[0] == '@')
		sa->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

void notify_service(const char *fmt, ...)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa;
	socklen_t len = name ? address_of(name, &sa) : 0;
	AUTO_CLOSE int fd = -1;
	char text[512];
	va_list ap;
	int n;

	if (!len)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (n > 0 && (size_t)n < sizeof(text) && fd >= 0)
		(void)!sendto(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT,
			      (struct sockaddr *)&sa, len);
}
