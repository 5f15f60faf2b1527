#include "backends/layers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/relay.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"

/* Latencies in buckets of a quarter octave (each 19 % wide, so its middle is within 10 %) from 16
 * us to 300 s: 24 octaves. */
#define HIST_MIN     16000
#define HIST_BUCKETS 98
/* At this many the counts are halved: about the last thousand requests speak. */
#define HIST_DECAY 1024

struct histogram {
	uint32_t count[HIST_BUCKETS];
	uint32_t total;
};

struct stats {
	struct layer l;
	struct backend_stats s;             /* by l.lock; percentiles are computed when read */
	struct histogram hist[BACKEND_OPS]; /* by l.lock */
};

struct stats_relay {
	struct relay r;
	int64_t begun;
};

static unsigned bucket_of(int64_t ns)
{
	uint64_t v = ns > HIST_MIN ? (uint64_t)ns / (HIST_MIN / 4) : 4; /* >= 4 */
	unsigned top = 63 - (unsigned)__builtin_clzll(v);               /* >= 2 */
	unsigned b = (top - 2) * 4 + (unsigned)(v >> (top - 2) & 3);

	return MIN(b, HIST_BUCKETS - 1u);
}

/* The middle of a bucket. */
static int64_t bucket_ns(unsigned b)
{
	uint64_t low = (uint64_t)(4 + b % 4) << (b / 4), width = 1ull << (b / 4);

	return (int64_t)((2 * low + width) * (HIST_MIN / 8));
}

static void hist_add(struct histogram *h, int64_t ns)
{
	h->count[bucket_of(ns)]++;
	if (++h->total < HIST_DECAY)
		return;
	h->total = 0;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		h->count[i] /= 2;
		h->total += h->count[i];
	}
}

static int64_t hist_percentile(const struct histogram *h, unsigned percent)
{
	uint32_t rank, seen = 0;

	if (!h->total)
		return 0;
	rank = (h->total * percent + 99) / 100;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->count[i];
		if (seen >= rank)
			return bucket_ns(i);
	}
	return bucket_ns(HIST_BUCKETS - 1);
}

static unsigned error_index(int result)
{
	static const int known[] = { ENODEV, EACCES,  ENOSPC,    ETIMEDOUT,
				     EAGAIN, EBADMSG, ECANCELED, EEXIST };
	unsigned i = 0;

	while (i < ARRAY_LEN(known) && known[i] != -result)
		i++;
	return i;
}

static void stats_returned(struct layer *l, struct relay *r)
{
	struct stats *q = container_of(l, struct stats, l);
	int64_t took = clock_mono_ns() - container_of(r, struct stats_relay, r)->begun;
	enum backend_op op = r->req.op;
	int result = r->req.result;

	pthread_mutex_lock(&l->lock);
	q->s.requests[op]++;
	if (result == 0) {
		hist_add(&q->hist[op], took);
		if (op == BACKEND_PUT)
			q->s.bytes_up += backend_req_bytes(&r->req);
		else if (op == BACKEND_GET)
			q->s.bytes_down += r->req.size;
	} else if (result != -ENOENT) {
		if (result != -ECANCELED && result != -EEXIST)
			q->s.errors[op]++;
		q->s.by_error[error_index(result)]++;
	}
	pthread_mutex_unlock(&l->lock);
	relay_end(r);
}

static void stats_submit(struct backend *b, struct backend_req *req)
{
	struct stats *q = container_of(b, struct stats, l.b);
	struct relay *r = relay_create(&q->l, req, sizeof(struct stats_relay));

	if (!r)
		return;
	container_of(r, struct stats_relay, r)->begun = clock_mono_ns();
	relay_submit(r);
}

static const struct backend_ops stats_ops = {
	.name = "stats",
	.submit = stats_submit,
	.cancel = layer_cancel,
	.destroy = layer_destroy,
};
static_assert(offsetof(struct stats, l) == 0, "layer_destroy frees the layer");

struct backend *layer_stats(struct backend *below)
{
	struct stats *q;

	if (!below)
		return NULL;
	q = calloc(1, sizeof(*q));
	if (!q || layer_init(&q->l, below, &stats_ops, stats_returned)) {
		free(q);
		backend_destroy(below);
		return NULL;
	}
	return &q->l.b;
}

void layer_stats_get(struct backend *stats, struct backend_stats *out)
{
	struct stats *q = container_of(stats, struct stats, l.b);

	SCOPE_LOCK(&q->l.lock);
	*out = q->s;
	for (unsigned i = 0; i < BACKEND_OPS; i++) {
		out->p50[i] = hist_percentile(&q->hist[i], 50);
		out->p90[i] = hist_percentile(&q->hist[i], 90);
		out->p99[i] = hist_percentile(&q->hist[i], 99);
	}
}
