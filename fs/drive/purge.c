#include "fs/drive/purge.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define IN_FLIGHT    16
#define DEPTH_MAX    32
#define LIST_TIMEOUT (60 * NS_PER_S)

/* Everything that FORMATS.md puts on a backend; headers go last. */
static const char *const prefixes[] = { "s/", "l/", "e/", "n/", "h/" };

struct deletion {
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t room;
	struct backend_req reqs[IN_FLIGHT];
	int busy[IN_FLIGHT];
	int in_flight, failed;
	uint64_t count;
};

static void deleted(struct backend_req *req)
{
	struct deletion *d = req->user;
	SCOPE_LOCK(&d->lock);

	if (!req->result || req->result == -ENOENT)
		d->count++;
	else if (!d->failed)
		d->failed = req->result;
	d->busy[req - d->reqs] = 0;
	d->in_flight--;
	pthread_cond_signal(&d->room);
}

/* Waits for a free place; NULL after a failure. */
static struct backend_req *next_place(struct deletion *d)
{
	SCOPE_LOCK(&d->lock);

	while (d->in_flight == IN_FLIGHT)
		pthread_cond_wait(&d->room, &d->lock);
	if (d->failed)
		return NULL;
	for (int i = 0; i < IN_FLIGHT; i++) {
		if (d->busy[i])
			continue;
		d->busy[i] = 1;
		d->in_flight++;
		return &d->reqs[i];
	}
	return NULL;
}

static int delete_listed(struct backend *b, const struct backend_entry *entries, size_t n,
			 void (*progress)(void *arg, uint64_t objects), void *arg, uint64_t *count)
{
	struct deletion d = { .lock = PTHREAD_MUTEX_INITIALIZER, .room = PTHREAD_COND_INITIALIZER };

	for (size_t i = 0; i < n; i++) {
		struct backend_req *req = next_place(&d);

		if (!req)
			break;
		*req = (struct backend_req){ .op = BACKEND_DELETE, .done = deleted, .user = &d };
		req->key = entries[i].key;
		backend_submit(b, req);
		if (progress && i % 64 == 0)
			progress(arg, *count + i);
	}
	pthread_mutex_lock(&d.lock);
	while (d.in_flight)
		pthread_cond_wait(&d.room, &d.lock);
	pthread_mutex_unlock(&d.lock);
	*count += d.count;
	return d.failed;
}

int purge_backend(struct backend *b, void (*progress)(void *arg, uint64_t objects), void *arg,
		  uint64_t *count)
{
	int rc = 0;

	*count = 0;
	for (size_t i = 0; i < ARRAY_LEN(prefixes) && !rc; i++) {
		AUTO_FREE struct backend_entry *entries = NULL;
		size_t n = 0;

		rc = backend_list_wait(b, prefixes[i], &entries, &n, LIST_TIMEOUT);
		if (!rc)
			rc = delete_listed(b, entries, n, progress, arg, count);
	}
	return rc;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (remove(path) && errno != ENOENT)
		log_warn("%s: cannot remove: %s", path, strerror(errno));
	return 0;
}

int purge_folder(const char *path)
{
	if (nftw(path, remove_entry, DEPTH_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) &&
	    errno != ENOENT)
		return -errno;
	return 0;
}
