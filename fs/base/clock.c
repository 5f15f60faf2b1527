#include "fs/base/clock.h"

#include <errno.h>

int64_t clock_mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ns_of(t);
}

int64_t clock_real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return ns_of(t);
}

struct timespec timespec_of(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };

	if (t.tv_nsec < 0)
		t.tv_nsec += NS_PER_S, t.tv_sec--;
	return t;
}

int cond_init_mono(pthread_cond_t *c)
{
	pthread_condattr_t attr;
	int rc = pthread_condattr_init(&attr);

	if (rc)
		return -rc;
	rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!rc)
		rc = pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
	return -rc;
}

int cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_ns)
{
	struct timespec t;

	if (!deadline_ns)
		return -pthread_cond_wait(c, m);
	/* A deadline before the clock's start is in the past, not an invalid argument. */
	t = timespec_of(deadline_ns > 0 ? deadline_ns : 1);
	return -pthread_cond_timedwait(c, m, &t);
}
