#include "backends/layers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "backends/relay.h"
#include "fs/base/clock.h"
#include "fs/base/hash.h"
#include "fs/base/scope.h"

#define BACKOFF_MIN (100 * NS_PER_MS)
#define BACKOFF_MAX (20 * NS_PER_S)

/* Patience of the first try. Small requests are answered within 2 s or not at all (S3's own
 * advice); 128 KiB/s is below what a working connection carries. */
#define TRY_BASE        (2 * NS_PER_S)
#define TRY_BYTES_PER_S (128 * 1024)

/* In tenths of a repetition: each request earns one, each repetition costs ten. */
#define BUDGET_MAX   1000
#define BUDGET_START 100
#define BUDGET_COST  10

struct retry {
	struct layer l;
	int tries;
	int budget;      /* by l.lock */
	uint64_t random; /* by l.lock */
};

struct retry_relay {
	struct relay r;
	int tried;
	int64_t waited; /* sum of all tries */
};

/* Full jitter (Brooker 2015): uniform between 0 and the exponential bound, so that clients that
 * failed together do not come back together. retry_after is a lower bound, jittered upwards for the
 * same reason. */
static int64_t backoff(struct retry *q, int tried, int64_t retry_after)
{
	int64_t bound = BACKOFF_MIN << MIN(tried - 1, 8);
	uint64_t rnd;

	bound = MIN(bound, BACKOFF_MAX);
	pthread_mutex_lock(&q->l.lock);
	rnd = hash_mix(++q->random);
	pthread_mutex_unlock(&q->l.lock);
	if (retry_after > 0)
		return retry_after + (int64_t)(rnd % (uint64_t)BACKOFF_MIN);
	return (int64_t)(rnd % (uint64_t)bound);
}

static void start_try(struct retry_relay *rr)
{
	struct backend_req *req = &rr->r.req;
	int64_t patience = TRY_BASE;

	patience += (int64_t)(backend_req_bytes(req) * (uint64_t)NS_PER_S / TRY_BYTES_PER_S);
	patience <<= MIN(rr->tried, 6);
	if (rr->r.outer->patience && rr->r.outer->patience < patience)
		patience = rr->r.outer->patience;
	req->patience = patience;
	rr->tried++;
	relay_submit(&rr->r);
}

static void retry_timer(struct layer *l, struct relay *r)
{
	start_try(container_of(r, struct retry_relay, r));
}

static int worth_repeating(int result)
{
	return result == -EAGAIN || result == -EBADMSG || result == -ETIMEDOUT;
}

static int take_budget(struct retry *q)
{
	SCOPE_LOCK(&q->l.lock);
	if (q->budget < BUDGET_COST)
		return 0;
	q->budget -= BUDGET_COST;
	return 1;
}

static void retry_returned(struct layer *l, struct relay *r)
{
	struct retry *q = container_of(l, struct retry, l);
	struct retry_relay *rr = container_of(r, struct retry_relay, r);
	int64_t at;

	rr->waited += r->req.waited;
	/* Unasked: it waited in a queue of ours until its deadline; another try would wait again.
	 */
	if (!worth_repeating(r->req.result) || r->req.unasked || rr->tried >= q->tries)
		goto end;
	/* A try that begins at the deadline would only hide the better reason for the failure. */
	at = clock_mono_ns() + backoff(q, rr->tried, r->req.retry_after);
	if (at >= r->req.deadline || !take_budget(q))
		goto end;
	if (relay_park(r, at, retry_timer))
		return;
	r->req.result = -ECANCELED;
end:
	r->req.waited = rr->waited;
	relay_end(r);
}

static void retry_submit(struct backend *b, struct backend_req *req)
{
	struct retry *q = container_of(b, struct retry, l.b);
	struct relay *r = relay_create(&q->l, req, sizeof(struct retry_relay));

	if (!r)
		return;
	pthread_mutex_lock(&q->l.lock);
	q->budget = MIN(q->budget + 1, BUDGET_MAX);
	pthread_mutex_unlock(&q->l.lock);
	start_try(container_of(r, struct retry_relay, r));
}

static const struct backend_ops retry_ops = {
	.name = "retry",
	.submit = retry_submit,
	.cancel = layer_cancel,
	.destroy = layer_destroy, /* struct retry begins with its layer */
};
static_assert(offsetof(struct retry, l) == 0, "layer_destroy frees the layer");

struct backend *layer_retry(struct backend *below, int tries)
{
	struct retry *q;

	if (!below)
		return NULL;
	q = calloc(1, sizeof(*q));
	if (!q || layer_init(&q->l, below, &retry_ops, retry_returned)) {
		free(q);
		backend_destroy(below);
		return NULL;
	}
	q->tries = tries > 0 ? tries : 1;
	q->budget = BUDGET_START;
	q->random = (uint64_t)clock_mono_ns() ^ (uintptr_t)q;
	return &q->l.b;
}
