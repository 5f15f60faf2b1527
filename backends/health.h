/* Health of one backend: latency estimate, circuit breaker, and the word that status shows. A layer
 * as well, so that every request is seen. */
#ifndef BACKENDS_HEALTH_H
#define BACKENDS_HEALTH_H

#include "backends/backend.h"

enum health_state {
	HEALTH_OK,
	HEALTH_SLOW,    /* answers, but its latency is far above its own usual */
	HEALTH_ABSENT,  /* -ENODEV */
	HEALTH_DOWN,    /* timeouts, connection or server errors */
	HEALTH_DENIED,  /* -EACCES: the user must act */
	HEALTH_FULL,    /* puts get -ENOSPC; reads go on */
	HEALTH_CORRUPT, /* delivered bytes whose MAC is wrong (reported by health_report_corrupt)
			   lately; still read as a last resort */
};

struct health_info {
	enum health_state state;
	int open; /* circuit breaker open: requests fail at once with last_error */
	int last_error;
	char last_text[128];              /* of the last failure, one line */
	int64_t since;                    /* unix seconds of the last change of state */
	int64_t latency_get, latency_put; /* ns, EWMA; 0 unknown */
	uint64_t corrupt;                 /* how often wrong bytes were reported */
};

/* Breaker: opens after 3 failures in a row that concern the whole backend (not -ENOENT, -EEXIST,
 * -ECANCELED, -EINVAL, -ENOMEM, nor what was never asked), then sends a HEAD of its own as a probe
 * after 1 s, doubling to 30 s, so that recovery is noticed without traffic; an answer closes it,
 * and a request that then succeeds resets the delay.
 *
 * Failures of puts alone (-ENOSPC, and -EACCES while other requests succeed) close only the way for
 * puts, at the first of them: they fail at once with that error, one is let through as a probe
 * after 1 s, doubling to 30 s, or at once after a successful delete.
 *
 * on_change is called without locks from any thread whenever state or `open` changes; it must not
 * block. Two changes may be reported in any order: read with health_get. */
struct backend *layer_health(struct backend *below,
			     void (*on_change)(void *arg, struct backend *health), void *arg);
void health_get(struct backend *health, struct health_info *out);
/* Bytes from there had a wrong MAC: state "corrupt" for the next 10 minutes. */
void health_report_corrupt(struct backend *health);
/* ns that nine of ten gets of that size (small or large) take there; 0: not known yet. Gets that
 * were cancelled because others were faster count as having taken as long as they had by then. */
int64_t health_get_p90(struct backend *health, uint64_t bytes);
/* It took a put and said nothing while all others answered long ago: one failure in a row, as when
 * its deadline passes. */
void health_report_stall(struct backend *health);
/* Somebody waits for it: a shut breaker sends its probe now instead of after the delay. */
void health_retry(struct backend *health);
/* 1 when a request would be sent now. These accept any backend; what is not a health layer is
 * usable and ok. */
int health_usable(struct backend *health, int for_put);
/* "ok", "slow", "absent", "down", "denied", "full", "corrupt" */
const char *health_word(enum health_state s);

#endif
