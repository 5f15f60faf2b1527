/* Progress of a drain or sync: one line that is rewritten on a terminal, plain lines otherwise. */
#ifndef FS_CMD_PROGRESS_H
#define FS_CMD_PROGRESS_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
	FILE *to;
	int terminal;
	int64_t last_print, last_sample;
	uint64_t last_left;
	double rate; /* bytes per second, smoothed; 0 unknown */
	int width;   /* of what stands on the terminal's line */
	int printed;
};
void progress_start(struct progress *p, FILE *to);
/* The fields of status_left; fits control_call. */
void progress_show(void *progress, const json_t *left);
/* Ends the rewritten line. */
void progress_end(struct progress *p);
/* Bytes that the fields say are not on all backends. */
uint64_t progress_left(const json_t *left);

#endif
