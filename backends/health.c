/* Two gates: one for the whole backend, one for puts alone. Each is
 *
 *   SHUT 0: open to traffic  --failures-->  shut until `at`  --probe-->  open, or shut for twice as
 * long
 *
 * (The breaker is "open" in the words of electricians when the gate is shut.) The probe of the
 * whole gate is a HEAD of our own, sent by the timer; that of the put gate is the next put after
 * `at`.
 */
#include "backends/health.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/histogram.h"
#include "backends/relay.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define FAILURES_TO_OPEN 3
#define DELAY_MIN        (1 * NS_PER_S)
#define DELAY_MAX        (30 * NS_PER_S)
#define PROBE_TIMEOUT    (10 * NS_PER_S)
#define CORRUPT_FOR      (600 * NS_PER_S)

/* Latency by class: a 4 MiB put is not slow because a HEAD is faster. */
#define SMALL_MAX (256 * 1024)
enum latency_class { GET_SMALL, GET_LARGE, PUT_SMALL, PUT_LARGE, CLASSES };

/* `recent` follows the last ~8 requests, `usual` the last ~128. Slow: recent is 4 x usual and 200
 * ms above it; no longer slow at 2 x. Both only once `usual` means something. */
struct latency {
	double recent, usual;
	unsigned samples;
	int slow;
	struct histogram all;
};
#define SAMPLES_TO_KNOW 16
#define SLOW_EXCESS     (200.0 * NS_PER_MS)

struct gate {
	int error;     /* why it is shut; 0: it is not */
	int64_t at;    /* when a probe may go */
	int64_t delay; /* the last one; 0: none since the last success */
	int probing;
	int asked; /* the probe goes early because somebody waits: its failure is no reason for more
		      patience, or who asks often enough would have to wait longest */
};

struct health {
	struct layer l;
	void (*on_change)(void *arg, struct backend *health);
	void *arg;
	struct timer tick; /* next probe, or the end of "corrupt" */
	_Atomic int
	    said; /* the state that was logged last: a breaker that opens and closes is no news */
	/* The rest by l.lock. */
	int closing;
	struct gate whole, puts;
	int in_a_row;
	int first_error; /* definite ones (absent, denied) show in the state before the breaker
			    opens */
	struct latency lat[CLASSES];
	int64_t corrupt_until;
	struct health_info info; /* state, open, last_*, since, corrupt */
	char good_key[BACKEND_KEY_MAX +
		      1]; /* of the last object that was there: what a probe asks for */
	struct backend_req probe;
	char probe_key[BACKEND_KEY_MAX + 1];
};

struct health_relay {
	struct relay r;
	int64_t begun;
	int put_probe;
};

static const struct backend_ops health_ops;

static const char *const words[] = {
	[HEALTH_OK] = "ok",           [HEALTH_SLOW] = "slow",     [HEALTH_ABSENT] = "absent",
	[HEALTH_DOWN] = "down",       [HEALTH_DENIED] = "denied", [HEALTH_FULL] = "full",
	[HEALTH_CORRUPT] = "corrupt",
};

const char *health_word(enum health_state s)
{
	return words[s];
}

static const char *error_text(int error)
{
	switch (error) {
	case -ENODEV:
		return "the place is absent or is not this drive's";
	case -EACCES:
		return "access denied: check credentials and permissions";
	case -ENOSPC:
		return "full, or over its quota";
	case -ETIMEDOUT:
		return "no answer in time";
	case -EAGAIN:
		return "connection or server trouble, also after repetitions";
	case -EBADMSG:
		return "answers that are not what they claim to be";
	default:
		return strerror(-error);
	}
}

static enum health_state state_of(const struct health *h, int64_t now)
{
	int error = h->whole.error ? h->whole.error : h->first_error;
	int slow = 0;

	for (int c = 0; c < CLASSES; c++)
		slow |= h->lat[c].slow;
	if (error == -ENODEV)
		return HEALTH_ABSENT;
	if (error == -EACCES)
		return HEALTH_DENIED;
	if (error)
		return HEALTH_DOWN;
	if (h->corrupt_until > now)
		return HEALTH_CORRUPT;
	if (h->puts.error)
		return h->puts.error == -ENOSPC ? HEALTH_FULL : HEALTH_DENIED;
	return slow ? HEALTH_SLOW : HEALTH_OK;
}

/* Brings info and the timer up to date. 1 when on_change is due. */
static void tick_timer(struct timer *t);
static int refresh_locked(struct health *h)
{
	int64_t now = clock_mono_ns(), next = INT64_MAX;
	enum health_state state = state_of(h, now);
	int open = h->whole.error != 0;
	int changed = state != h->info.state || open != h->info.open;

	if (state != h->info.state)
		h->info.since = clock_real_ns() / NS_PER_S;
	h->info.state = state;
	h->info.open = open;
	if ((open || h->first_error) && !h->whole.probing)
		next = h->whole.at;
	if (h->corrupt_until > now)
		next = MIN(next, h->corrupt_until);
	timer_cancel(h->l.timers, &h->tick);
	if (next != INT64_MAX && !h->closing)
		timer_set(h->l.timers, &h->tick, next, tick_timer);
	return changed;
}

/* The caller holds a relay or a hold, so that the layer stays. */
static void announce(struct health *h)
{
	struct health_info i;

	health_get(&h->l.b, &i);
	if (atomic_exchange(&h->said, (int)i.state) == (int)i.state)
		;
	else if (i.state == HEALTH_OK)
		log_info("backend %s: ok", h->l.b.name);
	else if (i.state == HEALTH_SLOW)
		log_info("backend %s: slow (%lld ms)", h->l.b.name,
			 (long long)(MAX(i.latency_get, i.latency_put) / NS_PER_MS));
	else
		log_warn("backend %s: %s (%s)", h->l.b.name, health_word(i.state), i.last_text);
	if (h->on_change)
		h->on_change(h->arg, &h->l.b);
}

static void gate_shut(struct gate *g, int error)
{
	g->error = error;
	if (!g->delay)
		g->delay = DELAY_MIN;
	else if (!g->asked)
		g->delay = MIN(g->delay * 2, DELAY_MAX);
	g->asked = 0;
	g->at = clock_mono_ns() + g->delay;
	g->probing = 0;
}

static void note_error_locked(struct health *h, int error)
{
	h->info.last_error = error;
	snprintf(h->info.last_text, sizeof(h->info.last_text), "%s", error_text(error));
}

/* Results that say nothing about the backend. */
static int is_neutral(const struct backend_req *req)
{
	return req->unasked || req->result == -ECANCELED || req->result == -EINVAL ||
	       req->result == -ENOMEM;
}

static int is_answer(int result)
{
	return result == 0 || result == -ENOENT || result == -EEXIST;
}

static void latency_add(struct latency *lat, double ns)
{
	/* What is far off must not become usual before it has been called slow. */
	double most = MAX(4 * lat->usual, SLOW_EXCESS / 4);

	if (lat->samples == 0)
		lat->recent = lat->usual = ns;
	lat->samples++;
	histogram_add(&lat->all, (int64_t)ns);
	lat->recent += (ns - lat->recent) / 8;
	/* A plain mean first, so that the first sample has no more weight than others. */
	if (lat->samples > SAMPLES_TO_KNOW)
		ns = MIN(ns, most);
	lat->usual += (ns - lat->usual) / MIN(lat->samples, 128u);
	if (lat->samples < SAMPLES_TO_KNOW)
		return;
	if (lat->slow)
		lat->slow = lat->recent > 2 * lat->usual;
	else
		lat->slow = lat->recent > 4 * lat->usual && lat->recent > lat->usual + SLOW_EXCESS;
}

static struct latency *latency_of(struct health *h, const struct backend_req *req)
{
	int large = backend_req_bytes(req) > SMALL_MAX;

	return &h->lat[(req->op == BACKEND_PUT ? PUT_SMALL : GET_SMALL) + large];
}

/* Nobody waited for the end: others were faster. Without this the slowest would never be known for
 * it, and asked first for ever. What it had taken by then is less than it would have; so it counts
 * only where that is more than expected. */
static void lost_locked(struct health *h, const struct backend_req *req, int64_t took)
{
	struct latency *lat = latency_of(h, req);

	if (req->op == BACKEND_GET && req->result == -ECANCELED && !req->unasked &&
	    (double)took > lat->recent)
		latency_add(lat, (double)took);
}

static void answered_locked(struct health *h, const struct backend_req *req, int64_t took, int own)
{
	h->in_a_row = 0;
	h->first_error = 0;
	h->whole.error = 0;
	/* A HEAD that works does not say that the rest does: only real traffic resets the delay. */
	if (!own)
		h->whole.delay = 0;
	if (req->op == BACKEND_PUT) {
		h->puts = (struct gate){ 0 };
	} else if (req->op == BACKEND_DELETE && req->result == 0 && h->puts.error == -ENOSPC) {
		h->puts.at = 0;
	}
	if (req->result == -ENOENT || req->op == BACKEND_DELETE || req->op == BACKEND_LIST)
		return;
	if (req->op != BACKEND_PUT)
		memcpy(h->good_key, req->key, strlen(req->key) + 1);
	if (req->result == 0 && req->op != BACKEND_HEAD)
		latency_add(latency_of(h, req), (double)took);
}

/* One more in a row. A definite error is in the state from the first one on: a probe will tell
 * whether that is still so, for perhaps nobody else asks. */
static void fail_whole_locked(struct health *h, int error)
{
	if (++h->in_a_row >= FAILURES_TO_OPEN)
		gate_shut(&h->whole, error);
	else
		h->whole.at = clock_mono_ns() + DELAY_MIN;
}

static void failed_locked(struct health *h, const struct backend_req *req)
{
	int puts = req->op == BACKEND_PUT || req->op == BACKEND_DELETE;

	note_error_locked(h, req->result);
	if (req->result == -ENOSPC || (puts && req->result == -EACCES)) {
		if (req->op == BACKEND_PUT)
			gate_shut(&h->puts, req->result);
		return;
	}
	if (req->result == -ENODEV || req->result == -EACCES)
		h->first_error = req->result;
	if (h->whole.error) /* it was in flight when the gate was shut */
		h->whole.error = req->result;
	else
		fail_whole_locked(h, req->result);
}

static void health_returned(struct layer *l, struct relay *r)
{
	struct health *h = container_of(l, struct health, l);
	struct health_relay *hr = container_of(r, struct health_relay, r);
	int64_t took = MAX(clock_mono_ns() - hr->begun - r->req.waited, 1);
	int changed;

	pthread_mutex_lock(&l->lock);
	if (hr->put_probe)
		h->puts.probing = 0;
	if (is_answer(r->req.result))
		answered_locked(h, &r->req, took, 0);
	else if (is_neutral(&r->req))
		lost_locked(h, &r->req, took);
	else
		failed_locked(h, &r->req);
	changed = refresh_locked(h);
	pthread_mutex_unlock(&l->lock);
	if (changed)
		announce(h);
	relay_end(r);
}

/* 0, or why a request of that kind does not pass; *probe: it passes as the probe of the put gate.
 */
static int gate_check_locked(const struct health *h, int put, int *probe)
{
	*probe = 0;
	if (h->whole.error)
		return h->whole.error;
	if (!put || !h->puts.error)
		return 0;
	if (h->puts.probing || clock_mono_ns() < h->puts.at)
		return h->puts.error;
	*probe = 1;
	return 0;
}

static void health_submit(struct backend *b, struct backend_req *req)
{
	struct health *h = container_of(b, struct health, l.b);
	struct relay *r = relay_create(&h->l, req, sizeof(struct health_relay));
	struct health_relay *hr;
	int shut;

	if (!r)
		return;
	hr = container_of(r, struct health_relay, r);
	hr->begun = clock_mono_ns();
	pthread_mutex_lock(&h->l.lock);
	shut = gate_check_locked(h, req->op == BACKEND_PUT, &hr->put_probe);
	if (hr->put_probe)
		h->puts.probing = 1;
	pthread_mutex_unlock(&h->l.lock);
	if (shut) {
		r->req.unasked = 1;
		relay_end_with(r, shut);
	} else {
		relay_submit(r);
	}
}

static void probe_done(struct backend_req *req)
{
	struct health *h = container_of(req, struct health, probe);
	int changed;

	pthread_mutex_lock(&h->l.lock);
	h->whole.probing = 0;
	if (is_answer(req->result)) {
		answered_locked(h, req, 0, 1);
	} else if (h->whole.error) {
		if (!is_neutral(req)) {
			note_error_locked(h, req->result);
			gate_shut(&h->whole, req->result);
		} else {
			gate_shut(&h->whole, h->whole.error);
		}
	} else if (h->first_error) {
		h->whole.asked = 0;
		fail_whole_locked(h, h->first_error);
	}
	changed = refresh_locked(h);
	pthread_mutex_unlock(&h->l.lock);
	if (changed)
		announce(h);
	layer_unhold(&h->l);
}

static void tick_timer(struct timer *t)
{
	struct health *h = container_of(t, struct health, tick);
	int changed, send;

	pthread_mutex_lock(&h->l.lock);
	send = !h->closing && (h->whole.error || h->first_error) && !h->whole.probing &&
	       clock_mono_ns() >= h->whole.at;
	if (send) {
		h->whole.probing = 1;
		snprintf(h->probe_key, sizeof(h->probe_key), "%s",
			 h->good_key[0] ? h->good_key : "h/0");
		h->probe = (struct backend_req){
			.op = BACKEND_HEAD,
			.key = h->probe_key,
			.deadline = clock_mono_ns() + PROBE_TIMEOUT,
			.done = probe_done,
		};
		layer_hold_locked(&h->l); /* the probe's, until probe_done */
	}
	changed = refresh_locked(h);
	layer_hold_locked(&h->l);
	pthread_mutex_unlock(&h->l.lock);
	if (changed)
		announce(h);
	if (send)
		backend_submit(h->l.b.below, &h->probe);
	layer_unhold(&h->l);
}

static void health_destroy(struct backend *b)
{
	struct health *h = container_of(b, struct health, l.b);
	int probing;

	pthread_mutex_lock(&h->l.lock);
	h->closing = 1;
	pthread_mutex_unlock(&h->l.lock);
	timer_cancel_wait(h->l.timers, &h->tick);
	pthread_mutex_lock(&h->l.lock);
	probing = h->whole.probing;
	pthread_mutex_unlock(&h->l.lock);
	/* tick_timer has returned for good, so the probe was submitted in whole. */
	if (probing)
		backend_cancel(h->l.b.below, &h->probe);
	layer_release(&h->l);
	free(h);
}

static const struct backend_ops health_ops = {
	.name = "health",
	.submit = health_submit,
	.cancel = layer_cancel,
	.destroy = health_destroy,
};

struct backend *layer_health(struct backend *below,
			     void (*on_change)(void *arg, struct backend *health), void *arg)
{
	struct health *h;

	if (!below)
		return NULL;
	h = calloc(1, sizeof(*h));
	if (!h || layer_init(&h->l, below, &health_ops, health_returned)) {
		free(h);
		backend_destroy(below);
		return NULL;
	}
	h->on_change = on_change;
	h->arg = arg;
	h->info.since = clock_real_ns() / NS_PER_S;
	return &h->l.b;
}

static struct health *health_of(struct backend *b)
{
	return b->ops == &health_ops ? container_of(b, struct health, l.b) : NULL;
}

void health_get(struct backend *health, struct health_info *out)
{
	struct health *h = health_of(health);
	const struct latency *lat;

	if (!h) {
		*out = (struct health_info){ .state = HEALTH_OK };
		return;
	}
	lat = h->lat;
	SCOPE_LOCK(&h->l.lock);
	*out = h->info;
	out->latency_get = (int64_t)lat[lat[GET_SMALL].samples ? GET_SMALL : GET_LARGE].recent;
	out->latency_put = (int64_t)lat[lat[PUT_SMALL].samples ? PUT_SMALL : PUT_LARGE].recent;
}

int64_t health_get_p90(struct backend *health, uint64_t bytes)
{
	struct health *h = health_of(health);
	const struct latency *lat;

	if (!h)
		return 0;
	lat = &h->lat[GET_SMALL + (bytes > SMALL_MAX)];
	SCOPE_LOCK(&h->l.lock);
	return lat->samples < SAMPLES_TO_KNOW ? 0 : histogram_percentile(&lat->all, 90);
}

void health_report_corrupt(struct backend *health)
{
	struct health *h = health_of(health);
	int changed;

	if (!h)
		return;
	pthread_mutex_lock(&h->l.lock);
	h->info.corrupt++;
	h->corrupt_until = clock_mono_ns() + CORRUPT_FOR;
	h->info.last_error = -EBADMSG;
	snprintf(h->info.last_text, sizeof(h->info.last_text),
		 "delivered bytes that are not what was stored");
	changed = refresh_locked(h);
	layer_hold_locked(&h->l);
	pthread_mutex_unlock(&h->l.lock);
	if (changed)
		announce(h);
	layer_unhold(&h->l);
}

void health_report_stall(struct backend *health)
{
	struct health *h = health_of(health);
	int changed;

	if (!h)
		return;
	pthread_mutex_lock(&h->l.lock);
	note_error_locked(h, -ETIMEDOUT);
	if (!h->whole.error)
		fail_whole_locked(h, -ETIMEDOUT);
	changed = refresh_locked(h);
	layer_hold_locked(&h->l);
	pthread_mutex_unlock(&h->l.lock);
	if (changed)
		announce(h);
	layer_unhold(&h->l);
}

void health_retry(struct backend *health)
{
	struct health *h = health_of(health);

	if (!h)
		return;
	SCOPE_LOCK(&h->l.lock);
	h->puts.at = 0;
	h->puts.asked = h->puts.error != 0;
	if (!(h->whole.error || h->first_error) || h->whole.probing || h->closing)
		return;
	h->whole.asked = 1;
	h->whole.at = clock_mono_ns();
	timer_cancel(h->l.timers, &h->tick);
	timer_set(h->l.timers, &h->tick, h->whole.at, tick_timer);
}

int health_usable(struct backend *health, int for_put)
{
	struct health *h = health_of(health);
	int probe;

	if (!h)
		return 1;
	SCOPE_LOCK(&h->l.lock);
	return gate_check_locked(h, for_put, &probe) == 0;
}
