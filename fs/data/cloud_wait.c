/* fsync=cloud: who waits until what he wrote is stored on a quorum. One job looks for all of them,
 * so that one fsync that the clouds let wait holds up no other; each has its own deadline, counted
 * from its arrival. The job runs while anybody waits. */
#include "fs/data/volume_internal.h"

#define LOOK (200 * NS_PER_MS)

/* Adds those who came to `mine`, those of the job. 0: nobody is left, and the job has to end. */
static int gather(struct volume *v, struct list *mine, int *stop)
{
	SCOPE_LOCK(&v->c_lock);

	list_splice_back(mine, &v->cloud_waiters);
	*stop = v->cloud_stop;
	v->cloud_runs = !list_empty(mine);
	return v->cloud_runs;
}

static void cloud_run(void *arg)
{
	struct volume *v = arg;
	struct list mine;
	int stop;

	list_init(&mine);
	while (gather(v, &mine, &stop)) {
		list_for_each_safe (l, &mine) {
			struct waiter *w = list_entry(l, struct waiter, link);
			int rc = stop ? -EINTR : segstore_wait_look(v->st, &w->wait);

			if (rc == -EAGAIN)
				continue;
			list_remove(l);
			w->done(w->arg, rc);
			free(w);
		}
		if (!list_empty(&mine))
			segstore_wait_sleep(v->st, clock_mono_ns() + LOOK);
	}
}

void cloud_wait_add(struct volume *v, struct list *waiters)
{
	int start;

	if (list_empty(waiters))
		return;
	list_for_each (l, waiters) {
		struct waiter *w = list_entry(l, struct waiter, link);

		segstore_wait_begin(v->st, &w->wait, SEG_STORED, w->deadline);
	}
	pthread_mutex_lock(&v->c_lock);
	list_splice_back(&v->cloud_waiters, waiters);
	start = !v->cloud_runs;
	v->cloud_runs = 1;
	pthread_mutex_unlock(&v->c_lock);
	if (start)
		workq_submit(v->cloud, cloud_run, v);
}

void volume_end_waits(struct volume *v)
{
	SCOPE_LOCK(&v->c_lock);

	v->cloud_stop = 1;
}
