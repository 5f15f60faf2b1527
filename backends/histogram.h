/* Latencies, decaying, in a few hundred bytes: about the last thousand speak. The lock is the
 * owner's; zeroed is empty. */
#ifndef BACKENDS_HISTOGRAM_H
#define BACKENDS_HISTOGRAM_H

#include <stdint.h>

/* Buckets of a quarter octave (each 19 % wide, so its middle is within 10 %) from 16 us to 300 s:
 * 24 octaves. */
#define HISTOGRAM_BUCKETS 98

struct histogram {
	uint32_t count[HISTOGRAM_BUCKETS];
	uint32_t total;
};

void histogram_add(struct histogram *h, int64_t ns);
/* ns; 0 when it is empty. */
int64_t histogram_percentile(const struct histogram *h, unsigned percent);

#endif
