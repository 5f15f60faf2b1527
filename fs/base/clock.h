/* Time. Deadlines are absolute CLOCK_MONOTONIC nanoseconds; 0 means none. */
#ifndef FS_BASE_CLOCK_H
#define FS_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>
#include <pthread.h>

#define NS_PER_S  1000000000ll
#define NS_PER_MS 1000000ll

int64_t clock_mono_ns(void);
int64_t clock_real_ns(void);
static inline int64_t ns_of(struct timespec t)
{
	/* As Linux does with what a filesystem cannot hold: the nearest time that it can (1677 and
	 * 2262). */
	if (t.tv_sec >= INT64_MAX / NS_PER_S)
		return INT64_MAX / NS_PER_S * NS_PER_S;
	if (t.tv_sec <= INT64_MIN / NS_PER_S)
		return INT64_MIN / NS_PER_S * NS_PER_S;
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}
struct timespec timespec_of(int64_t ns); /* tv_nsec in [0, 1e9), also before 1970 */

/* A condition variable whose timed waits use CLOCK_MONOTONIC. */
int cond_init_mono(pthread_cond_t *c);
/* Waits until woken or the deadline (0: none). 0, or -ETIMEDOUT. */
int cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_ns);

#endif
