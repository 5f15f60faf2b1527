/* `skyflok backend test URL`: tries everything that a drive will ask of a backend, and says in
 * words what is wrong. Writes a few objects under a name of its own and deletes them. */
#ifndef BACKENDS_PROBE_H
#define BACKENDS_PROBE_H

#include "backends/registry.h"
#include "fs/base/buf.h"

enum probe_step {
	PROBE_OPEN, /* the URL, and credentials are there */
	PROBE_LIST,
	PROBE_PUT,
	PROBE_GET,
	PROBE_RANGE, /* a piece; a piece across the end; behind the end */
	PROBE_HEAD,
	PROBE_ABSENT,      /* what is not there is said to be absent, not refused */
	PROBE_CONDITIONAL, /* "only if absent" neither writes nor lies */
	PROBE_LARGE,       /* objects of 4 MiB there and back, compared */
	PROBE_DELETE,
	PROBE_CLOCK,
	PROBE_STEPS
};

enum probe_verdict { PROBE_SKIPPED, PROBE_GOOD, PROBE_WARN, PROBE_BAD };

struct probe {
	char name[64]; /* the backend's */
	struct {
		enum probe_verdict verdict;
		int result; /* the request's, 0 or negative errno */
		char words[600];
	} step[PROBE_STEPS];
	int conditional; /* 1: conditional puts are honoured, 0: not, -1: unknown */
	int64_t skew;    /* seconds that its clock is ahead of ours */
	int64_t put_latency, get_latency; /* ns, median of small ones; 0 unknown */
	double up, down;                  /* bytes per second; 0 unknown */
};

/* Blocks, a minute at most when the backend is sound. 0: all good or warnings only; else the first
 * bad step's errno. *p is filled in either case. */
int probe_run(const char *url, const struct backend_env *env, struct probe *p);
/* "put", "conditional put"... */
const char *probe_step_name(enum probe_step s);
/* A report of several lines for a terminal. */
void probe_print(const struct probe *p, struct buf *out);

#endif
