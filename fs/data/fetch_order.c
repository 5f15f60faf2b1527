/* Whom a fetch asks, in which order, and when another one besides. */
#include "fs/data/seg_internal.h"

#include <stdlib.h>

#define HEDGE_MIN   (20 * NS_PER_MS)
#define RESCUE_MIN  (NS_PER_S / 2)
#define RESCUE_MAX  (2 * NS_PER_S)
#define EXTRA_BELOW (512u << 10) /* sealed bytes: what is small asks k + 1 at once */
#define EXPLORE     16 /* one in so many extra requests goes where it is not known to be fast */

int segstore_limited(struct segstore *st)
{
	return seg_rate_down(st) != 0;
}

uint64_t seg_rate_down(struct segstore *st)
{
	return bandwidth_rate(st->bandwidth, BANDWIDTH_DOWN);
}

struct rank {
	int64_t score;
	uint8_t i;
};

static int rank_cmp(const void *a, const void *b)
{
	const struct rank *p = a, *q = b;

	return p->score < q->score ? -1 : p->score > q->score ? 1 : p->i - q->i;
}

/* Fast ones first; systematic shards need no decoding; who lies or has lost something comes last.
 */
void seg_fetch_order(struct segstore *st, uint32_t suspect, uint8_t *order)
{
	struct rank r[FANOUT_MAX];
	struct health_info h;

	for (int i = 0; i < st->n; i++) {
		health_get(st->backends[i], &h);
		r[i].i = (uint8_t)i;
		r[i].score = h.latency_get + (i >= st->k ? h.latency_get / 4 + NS_PER_MS : 0);
		if (h.state == HEALTH_SLOW)
			r[i].score += NS_PER_S;
		if (h.state == HEALTH_CORRUPT || suspect >> i & 1)
			r[i].score += 100 * NS_PER_S;
	}
	qsort(r, (size_t)st->n, sizeof(r[0]), rank_cmp);
	for (int i = 0; i < st->n; i++)
		order[i] = r[i].i;
}

/* Who is never asked is never known to have become fast. The extra request of a small read is there
 * to find out: nobody waits for it. */
static void explore(struct segstore *st, uint8_t *order)
{
	unsigned turn = __atomic_add_fetch(&st->explored, 1, __ATOMIC_RELAXED);
	int other;

	if (turn % EXPLORE || st->n <= st->k + 1)
		return;
	other = st->k + (int)(turn / EXPLORE % (unsigned)(st->n - st->k));
	uint8_t i = order[other];
	order[other] = order[st->k];
	order[st->k] = i;
}

/* When is a backend slow? When it takes longer than nine of ten times; one that nothing is known
 * of, when it takes longer than the slowest of the others would. Where the queue is ours
 * (bandwidth), asking another makes it longer. */
void seg_fetch_haste(struct segstore *st, const struct seg_haste *h, uint8_t *order,
		     struct fanout_get *g)
{
	uint64_t rate = seg_rate_down(st);
	int64_t most = 0;

	for (int i = 0; i < st->n; i++)
		g->hedge[i] = health_get_p90(st->backends[i], g->len);
	for (int i = 0; i < st->k; i++)
		most = MAX(most, g->hedge[order[i]]);
	for (int i = 0; i < st->n; i++)
		g->hedge[i] = h->heal || rate ? 0
			      : g->hedge[i]   ? MAX(g->hedge[i], HEDGE_MIN)
			      : most          ? MAX(most, HEDGE_MIN)
					      : 0;
	g->rescue = h->busy ? RESCUE_MAX : MIN(MAX(4 * most, RESCUE_MIN), RESCUE_MAX);
	g->extra = h->reader && !h->busy && !rate && h->len <= EXTRA_BELOW;
	if (g->extra)
		explore(st, order);
	g->deadline = h->deadline;
	if (!rate)
		return;
	/* The time that all transfers under way need at that rate; a heal may get an eighth of it.
	 */
	int64_t all = (int64_t)((double)h->len / (double)rate * NS_PER_S) *
		      (__atomic_load_n(&st->budget.running, __ATOMIC_RELAXED) + 1);
	all *= h->heal ? 8 : 1;
	g->rescue += all;
	g->deadline += all;
}
