#include "fs/cmd/progress.h"

#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/options.h"

#define PLAIN_INTERVAL (5 * NS_PER_S)
#define SMOOTHING      0.3

void progress_start(struct progress *p, FILE *to)
{
	*p = (struct progress){ .to = to, .terminal = isatty(fileno(to)) };
	p->last_sample = clock_mono_ns();
	p->last_print = p->last_sample;
}

static uint64_t get(const json_t *o, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(o, key));

	return v > 0 ? (uint64_t)v : 0;
}

uint64_t progress_left(const json_t *left)
{
	return get(left, "dirty") + get(left, "to_upload") + get(left, "to_heal");
}

static void sample(struct progress *p, uint64_t left, int64_t now)
{
	double seconds = (double)(now - p->last_sample) / (double)NS_PER_S, rate;

	if (seconds < 0.2)
		return;
	if (p->last_left > left) {
		rate = (double)(p->last_left - left) / seconds;
		p->rate = p->rate > 0 ? p->rate * (1 - SMOOTHING) + rate * SMOOTHING : rate;
	} else {
		p->rate *= 1 - SMOOTHING;
	}
	p->last_left = left;
	p->last_sample = now;
}

static void time_left(char out[32], double seconds)
{
	if (seconds < 90)
		snprintf(out, 32, "%.0f s", seconds);
	else if (seconds < 5400)
		snprintf(out, 32, "%.0f min", seconds / 60);
	else
		snprintf(out, 32, "%.1f h", seconds / 3600);
}

void progress_show(void *progress, const json_t *fields)
{
	struct progress *p = progress;
	uint64_t left = progress_left(fields);
	int64_t now = clock_mono_ns();
	char size[32], rate[32], eta[32], line[160];
	int n;

	sample(p, left, now);
	if (!p->terminal && now - p->last_print < PLAIN_INTERVAL)
		return;
	p->last_print = now;
	n = snprintf(line, sizeof(line), "%s left to upload", format_size(size, left));
	if (p->rate >= 1024 && left) {
		time_left(eta, (double)left / p->rate);
		n = snprintf(line, sizeof(line), "%s left to upload, %s/s, %s", size,
			     format_size(rate, (uint64_t)p->rate), eta);
	}
	if (!p->terminal) {
		fprintf(p->to, "%s\n", line);
	} else {
		fprintf(p->to, "\r%-*s", p->width, line);
		p->width = n;
	}
	fflush(p->to);
	p->printed = 1;
}

void progress_end(struct progress *p)
{
	if (p->terminal && p->printed)
		fprintf(p->to, "\r%*s\r", p->width, "");
	fflush(p->to);
}
