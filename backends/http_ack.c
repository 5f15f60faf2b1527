#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include "backends/http_ack.h"

static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	struct http_sockets *s = arg;
	unsigned ms = 10000;

	if (purpose != CURLSOCKTYPE_IPCXN)
		return CURL_SOCKOPT_OK;
	/* Bytes that nobody acknowledges for 10 s: the connection is dead (a laptop that slept, a
	 * NAT that forgot). Without this only the low-speed limit would find out. */
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	if (s->n < HTTP_SOCKETS) {
		s->s[s->n].port = 0;
		s->s[s->n++].fd = fd;
	}
	return CURL_SOCKOPT_OK;
}

static int on_close(void *arg, curl_socket_t fd)
{
	struct http_sockets *s = arg;

	for (int i = 0; i < s->n; i++) {
		if (s->s[i].fd == fd) {
			s->s[i] = s->s[--s->n];
			break;
		}
	}
	return close(fd);
}

void http_ack_setup(CURL *c, struct http_sockets *s)
{
	curl_easy_setopt(c, CURLOPT_SOCKOPTFUNCTION, on_socket);
	curl_easy_setopt(c, CURLOPT_SOCKOPTDATA, s);
	curl_easy_setopt(c, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(c, CURLOPT_CLOSESOCKETDATA, s);
}

static long port_of(curl_socket_t fd)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &n))
		return 0;
	if (a.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&a)->sin_port);
	return a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port) : 0;
}

void http_ack_now(CURL *c, struct http_sockets *s)
{
	long port = 0;
	int on = 1;

	if (curl_easy_getinfo(c, CURLINFO_LOCAL_PORT, &port) || port <= 0)
		return;
	for (int i = 0; i < s->n; i++) {
		if (!s->s[i].port)
			s->s[i].port = port_of(s->s[i].fd);
		if (s->s[i].port == port)
			setsockopt(s->s[i].fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
	}
}
