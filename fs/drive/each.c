#include "fs/drive/each.h"

#include <pthread.h>
#include <signal.h>

#include "fs/base/failpoint.h"

#define EACH_MAX 32

struct step {
	void (*fn)(void *arg, int i);
	void *arg;
	int i;
	pthread_t thread;
	int started;
};

static void *step_main(void *arg)
{
	struct step *s = arg;

	s->fn(s->arg, s->i);
	return NULL;
}

void each_backend(int n, void (*fn)(void *arg, int i), void *arg)
{
	struct step steps[EACH_MAX];
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < n; i++) {
		steps[i] = (struct step){ .fn = fn, .arg = arg, .i = i };
		if (!failpoint_active)
			steps[i].started =
			    !pthread_create(&steps[i].thread, NULL, step_main, &steps[i]);
		if (!steps[i].started)
			fn(arg, i);
	}
	/* Blocked for what the threads inherit, not while they are waited for: that may take as
	 * long as clouds do not answer, and Ctrl-C has to end a command at once. */
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	for (int i = 0; i < n; i++)
		if (steps[i].started)
			pthread_join(steps[i].thread, NULL);
}
