/* What we tell the kernel unasked. An invalidation of pages waits until the kernel has written the
 * dirty ones back, that is until our workers answered WRITEs: never inside an operation. */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/base/log.h"

/* May block until our workers have answered WRITEs. 0 or what the kernel said; -ENOTCONN when the
 * session ends. */
static int inval(struct session *s, uint64_t ino, int64_t off, int64_t len)
{
	int rc;

	pthread_mutex_lock(&s->lock);
	if (atomic_load(&s->closing)) {
		pthread_mutex_unlock(&s->lock);
		return -ENOTCONN;
	}
	s->inval_calls++;
	pthread_mutex_unlock(&s->lock);
	rc = fuse_lowlevel_notify_inval_inode(s->se, ino, off, len);
	pthread_mutex_lock(&s->lock);
	s->inval_calls--;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void session_inval(void *session, uint64_t ino, int64_t off, int64_t len)
{
	inval(session, ino, off, len);
}

void notify_attr(struct session *s, uint64_t ino)
{
	/* off -1: attributes and cached ACLs only. Takes no lock that an operation holds. */
	fuse_lowlevel_notify_inval_inode(s->se, ino, -1, 0);
}

struct writer {
	struct hash_node node;
	uint32_t opens;
};

int writers_add(struct session *s, uint64_t ino)
{
	SCOPE_LOCK(&s->writers_lock);
	struct hash_node *n = hash_find(&s->writers, ino);
	struct writer *w;

	if (n) {
		container_of(n, struct writer, node)->opens++;
		return 0;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->opens = 1;
	hash_insert(&s->writers, &w->node, ino);
	return 0;
}

void writers_drop(struct session *s, uint64_t ino)
{
	SCOPE_LOCK(&s->writers_lock);
	struct hash_node *n = hash_find(&s->writers, ino);
	struct writer *w;

	if (!n)
		return;
	w = container_of(n, struct writer, node);
	if (--w->opens)
		return;
	hash_remove(&s->writers, n);
	free(w);
}

int writers_any(struct session *s, uint64_t ino)
{
	SCOPE_LOCK(&s->writers_lock);

	return hash_find(&s->writers, ino) != NULL;
}

static void free_writer(struct hash_node *n, void *arg)
{
	free(container_of(n, struct writer, node));
}

void writers_release(struct session *s)
{
	hash_each(&s->writers, free_writer, NULL);
	hash_release(&s->writers);
}

struct seek_job {
	fuse_req_t req;
	uint64_t ino, off;
	int whence;
};

static void seek_run(void *arg)
{
	struct seek_job *j = arg;
	struct session *s = session_of(j->req);
	uint64_t found = 0;
	int rc;

	/* -ENOENT: the kernel has no such inode in memory, so no dirty pages either. */
	rc = inval(s, j->ino, 0, 0);
	if (rc && rc != -ENOENT)
		log_debug("laundering inode %llu: %d", (unsigned long long)j->ino, rc);
	rc = volume_lseek(s->v, j->ino, j->off, j->whence, &found);
	if (rc)
		fuse_reply_err(j->req, -rc);
	else
		fuse_reply_lseek(j->req, (off_t)found);
	free(j);
}

void notify_then_lseek(fuse_req_t req, uint64_t ino, uint64_t off, int whence)
{
	struct seek_job *j = malloc(sizeof(*j));

	if (!j) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*j = (struct seek_job){ .req = req, .ino = ino, .off = off, .whence = whence };
	workq_submit(session_of(req)->notifyq, seek_run, j);
}
