/* Internal to http.c (the engine: who waits, who runs) and http_transfer.c (one easy handle). */
#ifndef BACKENDS_HTTP_PRIV_H
#define BACKENDS_HTTP_PRIV_H

#include <curl/curl.h>
#include "backends/http.h"
#include "backends/http_ack.h"

#define HTTP_CONNECT_MS   3000
#define HTTP_SLOW_BYTES   1000 /* a home uplink shared by a hundred transfers is not dead */
#define HTTP_SLOW_SECONDS 15
#define HTTP_TEXT_MAX     (64 * 1024)
#define HTTP_HEADERS_MAX  (32 * 1024)

struct http_site {
	struct list link; /* in the engine's sites */
	char *ca;
	int ca_is_dir, direct, max;
	struct list queue; /* HTTP_WAITING, in order; guarded by the engine's lock */
	int running;       /* guarded by the engine's lock */
};

/* One easy handle and the place where its body stands. Used on the network thread only. */
struct http_transfer {
	struct list link; /* in the pool when idle */
	CURL *easy;
	struct curl_slist *headers;
	struct http_req *r;
	struct http_site *site;
	struct http_sockets *sockets;
	int64_t begun;
	uint64_t sent; /* bytes of the body that libcurl has fetched */
	uint64_t into_size;
	int sink;        /* enum http_sink once the headers are there, before that -1 */
	int abort;       /* negative errno that ended it from inside a callback... */
	const char *why; /* ...and why */
	char words[CURL_ERROR_SIZE];
};

struct http_transfer *http_transfer_create(void);
void http_transfer_destroy(struct http_transfer *t);
/* Makes the handle ready to be added to the multi. 0 or -ENOMEM. */
int http_transfer_begin(struct http_transfer *t, struct http_req *r, struct http_site *site,
			CURLSH *share, struct http_sockets *sockets);
/* 1: a kept connection turned out to be dead before any byte of an answer came. Worth one more try
 * on a new one; libcurl does that for itself only when reading failed. */
int http_transfer_stale(const struct http_transfer *t, CURLcode code);
/* Reads the outcome into t->r; the handle has left the multi. */
void http_transfer_end(struct http_transfer *t, CURLcode code);
/* Forgets the request; the handle may begin another. */
void http_transfer_reset(struct http_transfer *t);

#endif
