#include "backends/histogram.h"

#include "fs/base/scope.h"

#define HIST_MIN 16000
/* At this many the counts are halved. */
#define HIST_DECAY 1024

static unsigned bucket_of(int64_t ns)
{
	uint64_t v = ns > HIST_MIN ? (uint64_t)ns / (HIST_MIN / 4) : 4; /* >= 4 */
	unsigned top = 63 - (unsigned)__builtin_clzll(v);               /* >= 2 */
	unsigned b = (top - 2) * 4 + (unsigned)(v >> (top - 2) & 3);

	return MIN(b, HISTOGRAM_BUCKETS - 1u);
}

/* The middle of a bucket. */
static int64_t bucket_ns(unsigned b)
{
	uint64_t low = (uint64_t)(4 + b % 4) << (b / 4), width = 1ull << (b / 4);

	return (int64_t)((2 * low + width) * (HIST_MIN / 8));
}

void histogram_add(struct histogram *h, int64_t ns)
{
	h->count[bucket_of(ns)]++;
	if (++h->total < HIST_DECAY)
		return;
	h->total = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		h->count[i] /= 2;
		h->total += h->count[i];
	}
}

int64_t histogram_percentile(const struct histogram *h, unsigned percent)
{
	uint32_t rank, seen = 0;

	if (!h->total)
		return 0;
	rank = (h->total * percent + 99) / 100;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->count[i];
		if (seen >= rank)
			return bucket_ns(i);
	}
	return bucket_ns(HISTOGRAM_BUCKETS - 1);
}
