/* One request to one backend, for tests that are scripts:
 *   cloud_tool [-t MS] [-c CREDENTIALS] [-b TRIES] [-v]
 * put|putx|get|head|delete|list|claim|unclaim|probe URL [ARGS] put URL KEY SIZE SEED (putx: only if
 * absent) | get URL KEY OFFSET SIZE SEED | head URL KEY | delete URL KEY | list URL PREFIX | claim
 * URL DRIVE UUID (hex) | unclaim URL DRIVE | probe URL Prints "RESULT size=N retry=MS date=S ms=MS
 * [match=0|1]", RESULT an errno's name or OK. Bytes are a pattern of the seed and their position;
 * match says whether what came is that, and that nothing beyond was touched. -b puts the retry
 * layer on top. Exit 0 when the request ended, whatever it said. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "backends/layers.h"
#include "backends/probe.h"
#include "fs/base/buf.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define GUARD 64

struct wait {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int over;
};

static void on_done(struct backend_req *req)
{
	struct wait *w = req->user;

	SCOPE_LOCK(&w->lock);
	w->over = 1;
	pthread_cond_signal(&w->cond);
}

static void fill(uint8_t *p, size_t n, uint64_t off, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((off + i) * 131 + ((off + i) >> 8) * 7 + seed);
}

static int run(struct backend *b, struct backend_req *req, int64_t timeout)
{
	struct wait w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
	int64_t t = clock_mono_ns();

	req->done = on_done;
	req->user = &w;
	req->deadline = t + timeout;
	backend_submit(b, req);
	pthread_mutex_lock(&w.lock);
	while (!w.over)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	t = (clock_mono_ns() - t) / NS_PER_MS;
	printf("%s size=%llu retry=%lld date=%lld ms=%lld",
	       req->result ? strerrorname_np(-req->result) : "OK", (unsigned long long)req->size,
	       (long long)(req->retry_after / NS_PER_MS), (long long)req->date, (long long)t);
	return 0;
}

static size_t number(const char *s)
{
	return s ? (size_t)strtoull(s, NULL, 0) : 0;
}

static int put(struct backend *b, char **arg, unsigned flags, int64_t timeout)
{
	size_t n = number(arg[1]);
	struct iovec iov = { malloc(n + 1), n };
	struct backend_req req = {
		.op = BACKEND_PUT, .flags = flags, .key = arg[0], .iov = &iov, .iovs = 1
	};

	if (!iov.iov_base)
		return 1;
	fill(iov.iov_base, n, 0, (unsigned)number(arg[2]));
	run(b, &req, timeout);
	printf("\n");
	free(iov.iov_base);
	return 0;
}

static int get(struct backend *b, char **arg, int64_t timeout)
{
	size_t off = number(arg[1]), n = number(arg[2]);
	unsigned seed = (unsigned)number(arg[3]);
	uint8_t *p = malloc(n + 2 * GUARD), *want = malloc(n + 1), guard[GUARD];
	struct iovec iov[2] = { { p ? p + GUARD : NULL, n / 3 },
				{ p ? p + GUARD + n / 3 : NULL, n - n / 3 } };
	struct backend_req req = {
		.op = BACKEND_GET, .key = arg[0], .iov = iov, .iovs = 2, .offset = off
	};
	int match;

	if (!p || !want)
		return 1;
	memset(guard, 0xa5, GUARD);
	memset(p, 0xa5, n + 2 * GUARD);
	fill(want, n, off, seed);
	run(b, &req, timeout);
	match = req.size <= n && !memcmp(p + GUARD, want, (size_t)req.size) &&
		!memcmp(p, guard, GUARD) && !memcmp(p + GUARD + n, guard, GUARD);
	printf(" match=%d\n", match);
	free(p);
	free(want);
	return 0;
}

static int list(struct backend *b, const char *prefix, int64_t timeout)
{
	struct backend_req req = { .op = BACKEND_LIST, .key = prefix };

	run(b, &req, timeout);
	printf(" entries=%zu\n", req.nentries);
	for (size_t i = 0; i < req.nentries; i++)
		printf("%s %llu\n", req.entries[i].key, (unsigned long long)req.entries[i].size);
	free(req.entries);
	free(req.next_token);
	return 0;
}

static int simple(struct backend *b, enum backend_op op, const char *key, int64_t timeout)
{
	struct backend_req req = { .op = op, .key = key };

	run(b, &req, timeout);
	printf("\n");
	return 0;
}

static int claim(struct backend *b, const char *drive, const char *uuid)
{
	struct err e = { 0 };
	uint8_t d[16], u[16];
	int r;

	if (!drive || hex_get(d, 16, drive, strlen(drive)) ||
	    (uuid && hex_get(u, 16, uuid, strlen(uuid))))
		return 2;
	r = uuid ? backend_claim(b, d, u, &e) : backend_unclaim(b, d, &e);
	printf("%s %s\n", r ? strerrorname_np(-r) : "OK", r ? err_text(&e, r) : "");
	return 0;
}

static int probe(const char *url, const struct backend_env *env)
{
	struct buf out = { 0 };
	struct probe p;
	int r = probe_run(url, env, &p);

	probe_print(&p, &out);
	printf("%s\n%s", r ? strerrorname_np(-r) : "OK", buf_cstr(&out));
	buf_release(&out);
	return 0;
}

struct bench {
	struct backend_req req;
	struct iovec iov;
	char key[64];
	struct wait *w;
	int *left;
};

static void bench_done(struct backend_req *req)
{
	struct bench *b = req->user;

	SCOPE_LOCK(&b->w->lock);
	if (!--*b->left)
		pthread_cond_signal(&b->w->cond);
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int bench(struct backend *b, int n, size_t size, int64_t timeout)
{
	static const struct {
		enum backend_op op;
		const char *name;
	} rounds[] = { { BACKEND_PUT, "put" },
		       { BACKEND_GET, "get" },
		       { BACKEND_DELETE, "delete" } };
	struct wait w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
	struct bench *all = calloc((size_t)n, sizeof(*all));
	uint8_t *bytes = malloc((size_t)n * size + 1);

	if (!all || !bytes)
		return 1;
	fill(bytes, (size_t)n * size, 0, 1);
	for (size_t k = 0; k < ARRAY_LEN(rounds); k++) {
		double cpu = cpu_seconds(), s;
		int64_t t = clock_mono_ns();
		int left = n, bad = 0;

		for (int i = 0; i < n; i++) {
			struct bench *x = &all[i];
			memset(x, 0, sizeof(*x));
			snprintf(x->key, sizeof(x->key), "bench/%02x/%d", i % 256, i);
			x->iov = (struct iovec){ bytes + (size_t)i * size, size };
			x->w = &w, x->left = &left;
			x->req = (struct backend_req){ .op = rounds[k].op,
						       .key = x->key,
						       .iov = &x->iov,
						       .user = x,
						       .iovs = rounds[k].op != BACKEND_DELETE,
						       .done = bench_done,
						       .deadline = t + timeout };
			backend_submit(b, &x->req);
		}
		pthread_mutex_lock(&w.lock);
		while (left)
			pthread_cond_wait(&w.cond, &w.lock);
		pthread_mutex_unlock(&w.lock);
		s = (double)(clock_mono_ns() - t) / 1e9;
		for (int i = 0; i < n; i++)
			bad += all[i].req.result != 0;
		printf("%-6s %8.0f /s %8.1f MiB/s %6.0f us CPU each, %d failed\n", rounds[k].name,
		       n / s, (double)n * (double)size / s / (1 << 20),
		       (cpu_seconds() - cpu) * 1e6 / n, bad);
	}
	free(all);
	free(bytes);
	return 0;
}

static int dispatch(struct backend *b, const char *cmd, char **arg, int n, int64_t timeout)
{
	if (!strcmp(cmd, "put") && n == 3)
		return put(b, arg, 0, timeout);
	if (!strcmp(cmd, "putx") && n == 3)
		return put(b, arg, BACKEND_IF_ABSENT, timeout);
	if (!strcmp(cmd, "get") && n == 4)
		return get(b, arg, timeout);
	if (!strcmp(cmd, "head") && n == 1)
		return simple(b, BACKEND_HEAD, arg[0], timeout);
	if (!strcmp(cmd, "delete") && n == 1)
		return simple(b, BACKEND_DELETE, arg[0], timeout);
	if (!strcmp(cmd, "list") && n == 1)
		return list(b, arg[0], timeout);
	if (!strcmp(cmd, "bench") && n == 2 && number(arg[0]) > 0)
		return bench(b, (int)number(arg[0]), number(arg[1]), timeout);
	if (!strcmp(cmd, "claim") && n == 2)
		return claim(b, arg[0], arg[1]);
	if (!strcmp(cmd, "unclaim") && n == 1)
		return claim(b, arg[0], NULL);
	fprintf(stderr, "cloud_tool: see the head of its source\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct backend_env env = { 0 };
	struct backend_url u;
	struct err e = { 0 };
	int64_t timeout = 20 * NS_PER_S;
	struct backend *b;
	int opt, tries = 0, r;

	while ((opt = getopt(argc, argv, "t:c:b:v")) > 0) {
		if (opt == 't')
			timeout = (int64_t)number(optarg) * NS_PER_MS;
		else if (opt == 'c')
			env.credentials_file = optarg;
		else if (opt == 'b')
			tries = (int)number(optarg);
		else
			log_set_level(LOG_LV_DEBUG);
	}
	argv += optind, argc -= optind;
	if (argc < 2)
		return 2;
	if (!strcmp(argv[0], "probe"))
		return probe(argv[1], &env);
	r = backend_url_parse(argv[1], &u, &e);
	if (!r) {
		r = backend_open(&u, &env, &b, &e);
		backend_url_release(&u);
	}
	if (r) {
		printf("%s %s\n", strerrorname_np(-r), err_text(&e, r));
		return 0;
	}
	if (tries)
		b = layer_retry(b, tries);
	if (!b)
		return 1;
	r = dispatch(b, argv[0], argv + 2, argc - 2, timeout);
	backend_destroy(b);
	return r;
}
