/* file://: a folder on a local disk, a NAS or a mounted stick, served by a small pool of threads of
 * its own.
 *
 * A disk cannot be interrupted: a thread may stay in the kernel for ever (dead NFS server). So a
 * request and the job that a thread does for it part when the deadline passes or the caller
 * cancels: the request is answered, the job goes on without. From then on the job touches nothing
 * of the caller's; bytes pass between the two in steps of 1 MiB, under the job's lock and only
 * while they are together.
 *
 *   job:  QUEUED -> RUNNING -> (finished, answers)              the normal way
 *         QUEUED -> gone                                        deadline or cancel answers
 *         RUNNING -> ADRIFT -> (finished, nobody to answer)     deadline or cancel answers; its
 * thread counts as stuck meanwhile
 *
 * Lock order: file.lock, job.lock. done() is called with neither.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/file_disk.h"
#include "backends/kinds.h"
#include "backends/timer.h"
#include "fs/base/clock.h"
#include "fs/base/list.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define THREADS   4
#define STUCK_MAX 16 /* this many more threads, when those are stuck */

/* df must not wait for a disk: figures this old are renewed, the first ones waited for so long. */
#define SPACE_AGE  (5 * NS_PER_S)
#define SPACE_WAIT (200 * NS_PER_MS)

#define JOB_SPACE 100 /* an operation besides those of enum backend_op */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_ADRIFT };

struct file {
	struct backend b;
	struct disk disk;
	struct timers *timers;
	pthread_mutex_t lock;
	pthread_cond_t work; /* threads: something in the queue, or the end */
	pthread_cond_t idle; /* destroy: fewer requests, jobs or threads */
	/* All by lock. */
	struct list queue;
	int queued;
	int threads, waiting, stuck; /* stuck: those whose job is ADRIFT */
	unsigned unanswered;         /* requests whose done() has not returned */
	unsigned jobs;               /* not yet freed */
	unsigned timers_set;         /* or their callbacks have not returned */
	int closing, orphan;         /* orphan: the last stuck thread frees this */
	pthread_cond_t space_cond;
	int space_rc, space_pending;
	int64_t space_at; /* 0: never known */
	uint64_t total, avail;
};

struct job {
	struct list link;
	struct file *f;
	struct timer timer;
	enum job_state state;    /* by f->lock */
	int refs;                /* by f->lock: queue or thread, timer */
	pthread_mutex_t lock;    /* held while bytes pass */
	struct backend_req *req; /* changed with both locks, read with either; NULL once answered */
	/* Copies: the request's own may go at any time. */
	int op;
	unsigned flags;
	uint64_t offset, bytes;
	char *token;
	char key[BACKEND_KEY_MAX + 1];
};

/* What a thread has at hand while it works on a job. */
struct work_io {
	struct disk_io io;
	struct job *job;
};

static void *file_thread(void *arg);

static void job_unref_locked(struct job *j)
{
	struct file *f = j->f;

	if (--j->refs)
		return;
	pthread_mutex_destroy(&j->lock);
	free(j->token);
	free(j);
	f->jobs--;
	pthread_cond_broadcast(&f->idle);
}

/* One more thread when there is work that nobody can take. A failure leaves the work to those who
 * come back. */
static void spawn_locked(struct file *f)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t id;

	/* Those who wait have been signalled, but may not run yet: each is good for one job. */
	if (f->queued <= f->waiting || f->threads - f->stuck >= THREADS ||
	    f->threads >= THREADS + STUCK_MAX || pthread_attr_init(&attr))
		return;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&id, &attr, file_thread, f) == 0)
		f->threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

/* Separates the request from its job; the caller of this answers it. NULL: somebody else has. */
static struct backend_req *job_part_locked(struct job *j)
{
	struct backend_req *req = j->req;

	if (!req)
		return NULL;
	pthread_mutex_lock(&j->lock);
	j->req = NULL;
	pthread_mutex_unlock(&j->lock);
	req->impl[0] = NULL;
	if (timer_cancel(j->f->timers, &j->timer)) {
		j->f->timers_set--;
		job_unref_locked(j);
	}
	return req;
}

static void answer(struct file *f, struct backend_req *req, int result)
{
	req->result = result;
	req->done(req);
	SCOPE_LOCK(&f->lock);
	f->unanswered--;
	pthread_cond_broadcast(&f->idle);
}

/* Deadline or cancel: ends the request whatever its job does. Enters with the lock, leaves without.
 */
static void abandon_unlock(struct job *j, int result)
{
	struct file *f = j->f;
	struct backend_req *req = job_part_locked(j);

	if (!req) {
		pthread_mutex_unlock(&f->lock);
		return;
	}
	if (j->state == JOB_QUEUED) {
		list_remove(&j->link);
		f->queued--;
		req->unasked = 1;
		job_unref_locked(j);
	} else {
		j->state = JOB_ADRIFT;
		f->stuck++;
		spawn_locked(f);
	}
	pthread_mutex_unlock(&f->lock);
	answer(f, req, result);
}

static void job_deadline(struct timer *t)
{
	struct job *j = container_of(t, struct job, timer);
	struct file *f = j->f;

	pthread_mutex_lock(&f->lock);
	if (j->req) {
		abandon_unlock(j, -ETIMEDOUT);
		pthread_mutex_lock(&f->lock);
	}
	job_unref_locked(j);
	f->timers_set--;
	pthread_cond_broadcast(&f->idle);
	pthread_mutex_unlock(&f->lock);
}

/* Bytes pass between the caller's vector and the thread's buffer. */

static int io_alive(struct disk_io *io)
{
	struct job *j = container_of(io, struct work_io, io)->job;

	SCOPE_LOCK(&j->lock);
	return j->req ? 0 : -ECANCELED;
}

static void vector_move(const struct backend_req *req, uint64_t offset, uint8_t *p, size_t n,
			int out)
{
	for (int i = 0; i < req->iovs && n; i++) {
		size_t len = req->iov[i].iov_len, take;
		uint8_t *at;

		if (offset >= len) {
			offset -= len;
			continue;
		}
		take = MIN(n, len - offset);
		at = (uint8_t *)req->iov[i].iov_base + offset;
		memcpy(out ? at : p, out ? p : at, take);
		p += take;
		n -= take;
		offset = 0;
	}
}

static int io_take(struct disk_io *io, uint64_t offset, void *p, size_t n)
{
	struct job *j = container_of(io, struct work_io, io)->job;

	SCOPE_LOCK(&j->lock);
	if (!j->req)
		return -ECANCELED;
	vector_move(j->req, offset, p, n, 0);
	return 0;
}

static int io_give(struct disk_io *io, uint64_t offset, const void *p, size_t n)
{
	struct job *j = container_of(io, struct work_io, io)->job;

	SCOPE_LOCK(&j->lock);
	if (!j->req)
		return -ECANCELED;
	vector_move(j->req, offset, (uint8_t *)p, n, 1);
	return 0;
}

/* What a job came to. */
struct outcome {
	int result;
	uint64_t size, avail;
	struct backend_entry *entries;
	size_t nentries;
	char *next_token;
};

static void job_work(struct job *j, struct disk_io *io, struct outcome *o)
{
	struct disk *d = &j->f->disk;

	switch (j->op) {
	case BACKEND_PUT:
		o->result = disk_put(d, io, j->key, j->bytes, j->flags & BACKEND_IF_ABSENT);
		break;
	case BACKEND_GET:
		o->result = disk_get(d, io, j->key, j->offset, j->bytes, &o->size);
		break;
	case BACKEND_HEAD:
		o->result = disk_head(d, j->key, &o->size);
		break;
	case BACKEND_DELETE:
		o->result = disk_delete(d, j->key);
		break;
	case BACKEND_LIST:
		o->result =
		    disk_list(d, io, j->key, j->token, &o->entries, &o->nentries, &o->next_token);
		break;
	default:
		o->result = disk_space(d, &o->size, &o->avail);
		break;
	}
}

/* The job is done; answers the request when it is still there. Enters and leaves with the lock. */
static void job_finish_locked(struct job *j, struct outcome *o)
{
	struct file *f = j->f;
	struct backend_req *req = job_part_locked(j);

	if (j->state == JOB_ADRIFT)
		f->stuck--;
	if (req) {
		pthread_mutex_unlock(&f->lock);
		req->size = o->size;
		if (j->op == JOB_SPACE)
			req->offset = o->avail;
		req->entries = o->entries;
		req->nentries = o->nentries;
		req->next_token = o->next_token;
		answer(f, req, o->result);
		pthread_mutex_lock(&f->lock);
	} else {
		free(o->entries);
		free(o->next_token);
	}
	job_unref_locked(j);
}

static void file_free(struct file *f)
{
	disk_release(&f->disk);
	pthread_cond_destroy(&f->space_cond);
	pthread_cond_destroy(&f->idle);
	pthread_cond_destroy(&f->work);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static void *file_thread(void *arg)
{
	struct file *f = arg;
	struct work_io w = { .io = { .take = io_take, .give = io_give, .alive = io_alive } };
	int last;

	pthread_setname_np(pthread_self(), "sk-file");
	pthread_mutex_lock(&f->lock);
	/* Those who come back from a hang are too many when they have been replaced. */
	while (f->threads - f->stuck <= THREADS) {
		struct list *first = list_first(&f->queue);
		struct outcome o = { 0 };
		struct job *j;

		if (!first) {
			if (f->closing)
				break;
			f->waiting++;
			cond_wait_until(&f->work, &f->lock, 0);
			f->waiting--;
			continue;
		}
		list_remove(first);
		f->queued--;
		j = list_entry(first, struct job, link);
		j->state = JOB_RUNNING;
		pthread_mutex_unlock(&f->lock);
		w.job = j;
		if (!w.io.step)
			w.io.step = malloc(DISK_STEP);
		if (w.io.step)
			job_work(j, &w.io, &o);
		else
			o.result = -ENOMEM;
		pthread_mutex_lock(&f->lock);
		job_finish_locked(j, &o);
	}
	f->threads--;
	last = f->orphan && f->threads == 0;
	pthread_cond_broadcast(&f->idle);
	pthread_mutex_unlock(&f->lock);
	free(w.io.step);
	if (last)
		file_free(f);
	return NULL;
}

static void file_queue(struct file *f, struct backend_req *req, int op)
{
	struct job *j = calloc(1, sizeof(*j));

	if (j && req->op == BACKEND_LIST && req->token) {
		j->token = strdup(req->token);
		if (!j->token) {
			free(j);
			j = NULL;
		}
	}
	if (!j) {
		req->result = -ENOMEM;
		req->done(req);
		return;
	}
	j->f = f;
	j->req = req;
	j->op = op;
	j->flags = req->flags;
	j->offset = req->offset;
	j->bytes = backend_req_bytes(req);
	snprintf(j->key, sizeof(j->key), "%s", req->key);
	pthread_mutex_init(&j->lock, NULL);

	pthread_mutex_lock(&f->lock);
	j->refs = 2; /* the queue's, then the thread's; and the timer's */
	f->jobs++;
	f->unanswered++;
	req->impl[0] = j;
	list_push_back(&f->queue, &j->link);
	f->queued++;
	f->timers_set++;
	timer_set(f->timers, &j->timer, backend_deadline(&f->b, req), job_deadline);
	pthread_cond_signal(&f->work);
	spawn_locked(f);
	if (f->threads)
		pthread_mutex_unlock(&f->lock);
	else /* none could be started: nobody would look before the deadline */
		abandon_unlock(j, -ENOMEM);
}

static void file_submit(struct backend *b, struct backend_req *req)
{
	file_queue(container_of(b, struct file, b), req, (int)req->op);
}

static void file_cancel(struct backend *b, struct backend_req *req)
{
	struct file *f = container_of(b, struct file, b);
	struct job *j;

	pthread_mutex_lock(&f->lock);
	j = req->impl[0];
	if (j)
		abandon_unlock(j, -ECANCELED);
	else
		pthread_mutex_unlock(&f->lock);
}

static void space_done(struct backend_req *req)
{
	struct file *f = req->user;

	pthread_mutex_lock(&f->lock);
	f->space_pending = 0;
	f->space_rc = req->result;
	f->space_at = clock_mono_ns();
	if (req->result == 0) {
		f->total = req->size;
		f->avail = req->offset;
	}
	pthread_cond_broadcast(&f->space_cond);
	pthread_mutex_unlock(&f->lock);
	free(req);
}

static int file_space(struct backend *b, uint64_t *total, uint64_t *avail)
{
	struct file *f = container_of(b, struct file, b);
	int64_t now = clock_mono_ns();
	struct backend_req *req = NULL;
	int ask;

	pthread_mutex_lock(&f->lock);
	ask = !f->space_pending && (!f->space_at || now - f->space_at > SPACE_AGE);
	if (ask)
		req = calloc(1, sizeof(*req));
	if (req)
		f->space_pending = 1;
	pthread_mutex_unlock(&f->lock);
	if (req) {
		*req = (struct backend_req){
			.op = BACKEND_HEAD, .key = "", .done = space_done, .user = f
		};
		file_queue(f, req, JOB_SPACE);
	}
	SCOPE_LOCK(&f->lock);
	/* Later calls take what is known; so only the first one of all ever waits for the disk. */
	while (ask && !f->space_at && f->space_pending &&
	       cond_wait_until(&f->space_cond, &f->lock, now + SPACE_WAIT) == 0)
		;
	if (!f->space_at)
		return -EOPNOTSUPP;
	*total = f->total;
	*avail = f->avail;
	return f->space_rc;
}

static int file_claim(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		      struct err *e)
{
	return disk_claim(&container_of(b, struct file, b)->disk, drive, uuid, e);
}

static int file_unclaim(struct backend *b, const uint8_t drive[16], struct err *e)
{
	return disk_unclaim(&container_of(b, struct file, b)->disk, drive, e);
}

/* Every request ends by its deadline. Threads that the kernel still holds afterwards are left
 * behind, and the last of them to come back, if ever, frees the instance. */
static void file_destroy(struct backend *b)
{
	struct file *f = container_of(b, struct file, b);
	struct timers *timers;
	int stuck;

	pthread_mutex_lock(&f->lock);
	f->closing = 1;
	pthread_cond_broadcast(&f->work);
	while (f->unanswered || f->timers_set || f->threads > f->stuck ||
	       f->jobs > (unsigned)f->stuck)
		cond_wait_until(&f->idle, &f->lock, 0);
	timers = f->timers;
	stuck = f->threads;
	if (stuck)
		log_warn("%s: the disk still does not answer: %d thread(s) left behind", f->b.name,
			 stuck);
	f->orphan = stuck > 0; /* once unlocked, f is theirs */
	pthread_mutex_unlock(&f->lock);
	timers_release(timers);
	if (!stuck)
		file_free(f);
}

static const struct backend_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.cancel = file_cancel,
	.destroy = file_destroy,
	.space = file_space,
	.claim = file_claim,
	.unclaim = file_unclaim,
};

static int file_conds_init(struct file *f)
{
	if (cond_init_mono(&f->work))
		return -ENOMEM;
	if (cond_init_mono(&f->idle))
		goto destroy_work;
	if (cond_init_mono(&f->space_cond))
		goto destroy_idle;
	return 0;
destroy_idle:
	pthread_cond_destroy(&f->idle);
destroy_work:
	pthread_cond_destroy(&f->work);
	return -ENOMEM;
}

static int file_kind_open(const struct backend_url *u, const struct backend_env *env,
			  struct backend **out, struct err *e)
{
	struct file *f = calloc(1, sizeof(*f));

	*out = NULL;
	if (!f)
		goto fail;
	f->b.ops = &file_ops;
	f->b.timeout = env->timeout;
	list_init(&f->queue);
	f->timers = timers_acquire();
	if (!f->timers)
		goto free_f;
	if (disk_init(&f->disk, u->path, env->drive, env->uuid))
		goto release_timers;
	if (file_conds_init(f))
		goto release_disk;
	/* Threads come with the first requests: a drive that is only listed needs none. */
	pthread_mutex_init(&f->lock, NULL);
	*out = &f->b;
	return 0;

release_disk:
	disk_release(&f->disk);
release_timers:
	timers_release(f->timers);
free_f:
	free(f);
fail:
	return err_set(e, -ENOMEM, "file://%s: out of memory or threads", u->path);
}

/* The kind. */

static int file_check(const struct backend_url *u, struct err *e)
{
	const char *p = u->path;

	if (p[0] != '/')
		return err_set(
		    e, -EINVAL,
		    "file://%s: the folder must be an absolute path, as in file:///srv/a", p);
	while (*p) {
		size_t n = strcspn(p, "/");

		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return err_set(e, -EINVAL,
				       "file://%s: the path must not contain \".\" or \"..\"",
				       u->path);
		p += n + (p[n] == '/');
	}
	return 0;
}

/* realpath of as much as exists, and the rest as it stands, without double slashes. */
static char *file_place(const struct backend_url *u)
{
	AUTO_FREE char *head = strdup(u->path);
	char *rest = NULL, *real = NULL;
	size_t n = head ? strlen(head) : 0, cut;

	if (!head)
		return NULL;
	for (;;) {
		while (n > 1 && head[n - 1] == '/')
			head[--n] = 0;
		real = realpath(head, NULL);
		if (real || n <= 1)
			break;
		cut = n;
		while (cut > 1 && head[cut - 1] != '/')
			cut--;
		{
			char *longer = NULL;
			int rc = asprintf(&longer, "/%s%s", head + cut, rest ? rest : "");

			free(rest);
			rest = rc < 0 ? NULL : longer;
			if (!rest)
				return NULL;
		}
		head[n = cut] = 0;
	}
	if (!real)
		real = strdup("/");
	if (real && rest) {
		char *all = NULL;
		int rc = asprintf(&all, "%s%s", strcmp(real, "/") ? real : "", rest);

		free(real);
		real = rc < 0 ? NULL : all;
	}
	free(rest);
	return real;
}

/* Each folder counts as a provider of its own: the user knows which of them share a disk, and says
 * so with ?provider=. */
static char *file_provider(const struct backend_url *u)
{
	char *s = NULL;

	return asprintf(&s, "local:%s", u->path) < 0 ? NULL : s;
}

static const char *const file_params[] = { NULL };

const struct backend_kind file_kind = {
	.scheme = "file",
	.params = file_params,
	.check = file_check,
	.provider = file_provider,
	.place = file_place,
	.open = file_kind_open,
};
