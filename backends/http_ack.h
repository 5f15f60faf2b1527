/* Internal: at once acknowledging what a server has sent.
 *
 * A server whose sockets have Nagle's algorithm on (Ceph's gateway, as it comes) holds back the
 * body until the segment with the headers is acknowledged, and our kernel delays that by 40 ms: 44
 * instead of 3 ms for a small object, seen. TCP_QUICKACK does not stick, so it is set for each
 * answer; but libcurl 7.88 tells the socket of a transfer only when it is over. So the sockets are
 * recorded as they are made, and found by their local port. Network thread only. */
#ifndef BACKENDS_HTTP_ACK_H
#define BACKENDS_HTTP_ACK_H

#include <curl/curl.h>

#define HTTP_SOCKETS 512

struct http_sockets {
	int n;
	struct {
		curl_socket_t fd;
		long port; /* 0: not asked for yet */
	} s[HTTP_SOCKETS];
};

/* Has the handle report the sockets that it makes; *s must outlive the multi. */
void http_ack_setup(CURL *c, struct http_sockets *s);
/* From a header callback: acknowledges what has come on the transfer's connection. */
void http_ack_now(CURL *c, struct http_sockets *s);

#endif
