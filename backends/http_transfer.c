#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "backends/http_priv.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"

static const char *const method_names[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };

struct http_transfer *http_transfer_create(void)
{
	struct http_transfer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	list_init(&t->link);
	t->easy = curl_easy_init();
	if (!t->easy) {
		free(t);
		return NULL;
	}
	return t;
}

void http_transfer_destroy(struct http_transfer *t)
{
	if (!t)
		return;
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	free(t);
}

void http_transfer_reset(struct http_transfer *t)
{
	curl_easy_reset(t->easy);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	t->r = NULL;
	t->site = NULL;
}

static uint64_t iov_bytes(const struct iovec *iov, int n)
{
	uint64_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* Copies up to n bytes at offset off of the vector from (in) or to (out) it. Returns how many. */
static size_t iov_copy(const struct iovec *iov, int count, uint64_t off, void *out, const void *in,
		       size_t n)
{
	size_t done = 0;

	for (int i = 0; i < count && done < n; i++) {
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - (size_t)off, n - done);
		if (out)
			memcpy((char *)out + done, (char *)iov[i].iov_base + off, part);
		else
			memcpy((char *)iov[i].iov_base + off, (const char *)in + done, part);
		done += part;
		off = 0;
	}
	return done;
}

static size_t on_read(char *p, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	size_t got = iov_copy(t->r->body, t->r->bodies, t->sent, p, NULL, size * n);

	t->sent += got;
	return got;
}

/* libcurl rewinds when it repeats a request whose kept connection turned out to be dead. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct http_transfer *t = arg;

	if (origin != SEEK_SET || offset < 0)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int refuse(struct http_transfer *t, int why, const char *words)
{
	t->abort = why;
	t->why = words;
	return 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	struct http_req *r = t->r;

	n *= size;
	if (t->sink == HTTP_TO_IOV) {
		/* Never a byte beyond what the caller has room for. */
		if (n > t->into_size - r->got)
			return (size_t)refuse(t, -EBADMSG, "more bytes than were asked for");
		iov_copy(r->into, r->intos, r->got, NULL, p, n);
		r->got += n;
		return n;
	}
	if (n > (r->max_text ? r->max_text : HTTP_TEXT_MAX) - r->text.len)
		return (size_t)refuse(t, -EBADMSG, "the answer is too long");
	buf_put(&r->text, p, n);
	if (r->text.failed)
		return (size_t)refuse(t, -ENOMEM, "out of memory");
	return n;
}

/* The blank line: status and headers are complete. */
static size_t headers_end(struct http_transfer *t, size_t n)
{
	long status = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return n; /* 100 Continue: the answer itself follows */
	t->r->status = (int)status;
	t->sink = t->r->headers_done ? t->r->headers_done(t->r) : HTTP_TO_TEXT;
	if (t->sink < 0)
		return (size_t)refuse(t, t->sink,
				      "the headers of the answer contradict the request");
	return n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	struct buf *a = &t->r->answer;
	size_t len = n *= size;

	if (t->sink >= 0)
		return n; /* a trailer behind a chunked body */
	while (len && (p[len - 1] == '\n' || p[len - 1] == '\r'))
		len--;
	if (!len)
		return headers_end(t, n);
	if (len >= 5 && !memcmp(p, "HTTP/", 5)) {
		buf_reset(a);
		http_ack_now(t->easy, t->sockets);
		return n;
	}
	if (memchr(p, 0, len) || a->len + len + 1 > HTTP_HEADERS_MAX)
		return (size_t)refuse(t, -EBADMSG, "headers too long or with a NUL");
	buf_put(a, p, len);
	buf_put8(a, 0);
	return a->failed ? (size_t)refuse(t, -ENOMEM, "out of memory") : n;
}

static int add_header(struct http_transfer *t, const char *line)
{
	struct curl_slist *more = curl_slist_append(t->headers, line);

	if (!more)
		return -ENOMEM;
	t->headers = more;
	return 0;
}

static int set_headers(struct http_transfer *t, const struct http_req *r)
{
	int err = add_header(t, "Expect:"); /* bodies over 1 MiB would wait for a 100 */

	if (r->headers) {
		const char *p = (const char *)r->headers->p, *end = p + r->headers->len;
		for (; p < end; p += strlen(p) + 1)
			err |= add_header(t, p);
	}
	return err ? -ENOMEM : 0;
}

static void set_connection(CURL *c, const struct http_site *site, CURLSH *share)
{
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	/* Else removing a handle that is resolving waits for getaddrinfo, and with it everybody. */
	curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "skyflok/" SKYFLOK_VERSION);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, 30L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, 10L);
	curl_easy_setopt(c, CURLOPT_SHARE, share);
	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
	if (site->ca) {
		curl_easy_setopt(c, CURLOPT_CAINFO, site->ca_is_dir ? NULL : site->ca);
		curl_easy_setopt(c, CURLOPT_CAPATH, site->ca_is_dir ? site->ca : NULL);
	}
	if (site->direct)
		curl_easy_setopt(c, CURLOPT_PROXY, "");
}

static void set_limits(CURL *c, const struct http_req *r, int64_t now)
{
	int64_t left = r->deadline - now;

	if (r->patience && r->patience < left)
		left = r->patience;
	left = (left + NS_PER_MS - 1) / NS_PER_MS;
	left = MIN(MAX(left, 1), 86400000); /* 0 would mean: no limit */
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)left);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)HTTP_SLOW_BYTES);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)HTTP_SLOW_SECONDS);
	if (r->pace) {
		curl_easy_setopt(c, CURLOPT_MAX_SEND_SPEED_LARGE, (curl_off_t)r->pace);
		curl_easy_setopt(c, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)r->pace);
	}
}

static void set_method(struct http_transfer *t, const struct http_req *r)
{
	uint64_t body = iov_bytes(r->body, r->bodies);
	CURL *c = t->easy;

	t->into_size = iov_bytes(r->into, r->intos);
	if (r->method == HTTP_HEAD) {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	} else if (r->method == HTTP_PUT || r->method == HTTP_POST) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)body);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(c, CURLOPT_READDATA, t);
		curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(c, CURLOPT_SEEKDATA, t);
		if (r->method == HTTP_POST)
			curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "POST");
	} else if (r->method == HTTP_DELETE) {
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "DELETE");
	} else {
		curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
	}
	/* Big buffers for what is big only: they are the handle's as long as it runs. */
	if (body > 256 * 1024)
		curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 1024 * 1024L);
	if (t->into_size > 64 * 1024)
		curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256 * 1024L);
}

int http_transfer_begin(struct http_transfer *t, struct http_req *r, struct http_site *site,
			CURLSH *share, struct http_sockets *sockets)
{
	CURL *c = t->easy;

	t->r = r;
	t->sockets = sockets;
	t->site = site;
	t->begun = clock_mono_ns();
	t->sent = 0;
	t->sink = -1;
	t->abort = 0;
	t->words[0] = 0;
	if (set_headers(t, r))
		return -ENOMEM;
	set_connection(c, site, share);
	http_ack_setup(c, sockets);
	set_limits(c, r, t->begun);
	curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, (long)r->restarted);
	set_method(t, r);
	curl_easy_setopt(c, CURLOPT_PRIVATE, t);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->words);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	return curl_easy_setopt(c, CURLOPT_URL, r->url) == CURLE_OK ? 0 : -ENOMEM;
}

static int errno_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_PROXY:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_GOT_NOTHING:
		return -EAGAIN;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return -EACCES;
	case CURLE_WRITE_ERROR:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_FILESIZE_EXCEEDED:
		return -EBADMSG;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

int http_transfer_stale(const struct http_transfer *t, CURLcode code)
{
	long made = 1;

	if (code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR && code != CURLE_GOT_NOTHING)
		return 0;
	curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &made);
	return made == 0 && t->sink < 0 && t->r->answer.len == 0 && !t->r->restarted;
}

void http_transfer_end(struct http_transfer *t, CURLcode code)
{
	struct http_req *r = t->r;
	long os = 0;

	r->result = t->abort ? t->abort : errno_of(code);
	if (r->result) {
		snprintf(r->problem, sizeof(r->problem), "%s",
			 t->abort      ? t->why
			 : t->words[0] ? t->words
				       : curl_easy_strerror(code));
		curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os);
		r->unasked = os == EMFILE || os == ENFILE || os == ENOBUFS || os == ENOMEM;
	} else if (t->sink < 0) {
		r->result = -EBADMSG; /* e.g. the connection ended behind a 1xx */
		snprintf(r->problem, sizeof(r->problem), "no complete answer");
	}
	log_debug("http: %s %s: %s %d, %llu up, %llu down, %lld ms", method_names[r->method],
		  r->shown ? r->shown : "-", r->result ? r->problem : "status", r->status,
		  (unsigned long long)t->sent, (unsigned long long)(r->got + r->text.len),
		  (long long)((clock_mono_ns() - t->begun) / NS_PER_MS));
}
