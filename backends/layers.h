/* Layers: each is a backend on top of a backend, taken over (destroyed with it, also when creation
 * fails: then NULL is returned; a NULL below gives NULL). */
#ifndef BACKENDS_LAYERS_H
#define BACKENDS_LAYERS_H

#include "backends/backend.h"
#include "backends/bandwidth.h"

/* Repeats -EAGAIN, -EBADMSG and -ETIMEDOUT of a single try with full-jitter exponential backoff
 * (100 ms .. 20 s; honours retry_after) until the request's deadline or `tries`. A try gets the
 * patience 2 s + 1 s per 128 KiB, doubled with each repetition. A token budget (10 % of requests,
 * at most 100 saved up) keeps an outage from becoming a storm. A conditional put that is repeated
 * after an unclear outcome and finds -EEXIST reports -EEXIST: the caller compares (I4). */
struct backend *layer_retry(struct backend *below, int tries);

/* At most `in_flight` requests at a time (0: no limit), and as many bytes per second as bw, which
 * it shares with others, has (borrowed for the layer's life; NULL: no limit). First come, first
 * served; BACKEND_BACKGROUND behind the others. */
struct backend *layer_limit(struct backend *below, int in_flight, struct bandwidth *bw);

struct backend_stats {
	uint64_t requests[BACKEND_OPS], errors[BACKEND_OPS];
	uint64_t bytes_up, bytes_down;
	/* ENODEV EACCES ENOSPC ETIMEDOUT EAGAIN EBADMSG ECANCELED EEXIST other. Of these, ECANCELED
	 * and EEXIST do not count in errors[], nor does ENOENT. */
	uint64_t by_error[9];
	/* ns, of a decaying log-bucket histogram of what succeeded, within 10 %; 0 unknown. */
	int64_t p50[BACKEND_OPS], p90[BACKEND_OPS], p99[BACKEND_OPS];
};
struct backend *layer_stats(struct backend *below);
void layer_stats_get(struct backend *stats, struct backend_stats *out);

/* Tests: rules that count down, then fire. Matches op (-1: any) and key prefix ("" any); skips
 * `skip` matches, then acts `times` times (0: ever). Both are counted down in place; times is
 * UINT32_MAX once used up, and such a rule only counts `inner`. */
enum fault_action {
	FAULT_RESULT,      /* `result` without asking */
	FAULT_DELAY,       /* asks after `delay` */
	FAULT_HANG,        /* never asks, never answers: ends by deadline or cancel */
	FAULT_CORRUPT,     /* get: one delivered byte is wrong; put: one stored byte is wrong */
	FAULT_TRUNCATE,    /* get: half of the bytes; put: half of the bytes are stored */
	FAULT_LOSE,        /* put, delete: 0 without asking; others: -ENOENT */
	FAULT_ANSWER_LOST, /* asks, then says `result`, or -ETIMEDOUT when that is 0 */
};
struct fault_rule {
	int op;
	const char *prefix; /* borrowed for the layer's life */
	unsigned skip, times;
	enum fault_action action;
	int result;     /* FAULT_RESULT */
	int64_t delay;  /* ns */
	uint64_t fired; /* out: how often it acted */
	uint64_t inner; /* out: how often the call underneath ran for matches */
};
/* The first rule that matches and is not used up acts. Rules are borrowed until they are replaced;
 * layer_fault_set waits for nothing: requests in flight keep what was decided. Read the counters
 * with
 * __atomic_load_n or when nothing is in flight. */
struct backend *layer_fault(struct backend *below, struct fault_rule *rules, int nrules);
void layer_fault_set(struct backend *fault, struct fault_rule *rules, int nrules);

#endif
