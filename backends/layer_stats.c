#include "backends/layers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/histogram.h"
#include "backends/relay.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"

struct stats {
	struct layer l;
	struct backend_stats s;             /* by l.lock; percentiles are computed when read */
	struct histogram hist[BACKEND_OPS]; /* by l.lock */
};

struct stats_relay {
	struct relay r;
	int64_t begun;
};

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
	int64_t took =
	    clock_mono_ns() - container_of(r, struct stats_relay, r)->begun - r->req.waited;
	enum backend_op op = r->req.op;
	int result = r->req.result;

	pthread_mutex_lock(&l->lock);
	q->s.requests[op]++;
	if (result == 0) {
		histogram_add(&q->hist[op], took);
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
		out->p50[i] = histogram_percentile(&q->hist[i], 50);
		out->p90[i] = histogram_percentile(&q->hist[i], 90);
		out->p99[i] = histogram_percentile(&q->hist[i], 99);
	}
}
