/* Requests that wait for the volume without a thread: READ, WRITE, FSYNC, RENAME.
 *
 * Each is answered exactly once, by whoever moves it out of PARKED or SUBMITTING:
 *
 *	SUBMITTING --volume answered at once------------------> DONE      worker replies
 *	SUBMITTING --park_done, before the volume returned----> DONE      that thread replies
 *	SUBMITTING --volume said -EINPROGRESS-----------------> PARKED
 *	PARKED     --park_done--------------------------------> DONE      that thread replies
 *	PARKED     --caller is dying, no READ-----------------> ANSWERED  interrupt thread replies
 *	ANSWERED   --park_done--------------------------------> DONE      nobody replies
 *
 * A READ is never answered early, for the volume still writes into its buffer: it is cancelled,
 * which hastens park_done.
 *
 * Lock order: libfuse's request lock -> park.lock -> session.park_lock. libfuse calls on_interrupt
 * with its lock held, and answering takes that lock, so nobody answers with park.lock held. The
 * volume is called with park.lock held in one place, volume_read_cancel: "callers serialise".
 */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"

enum { SUBMITTING, PARKED, ANSWERED, DONE };

enum {
	FREE_PARKS = 256, /* records kept for reuse */
	RECHECK_MS = 200, /* the kernel tells us of the first signal only */
	DRAIN_S = 60,     /* every read has a deadline below this */
	KEEP_ALL = 22 << 20,
	FALLBACK_CLASS = IOBUF_CLASSES, /* larger than any READ of libfuse 3.14 */
};

/* ---- buffers ---- */

static const struct {
	size_t size;
	unsigned keep; /* 2 + 8 + 12 MiB, when it may be 22 */
} classes[IOBUF_CLASSES] = { { 16 << 10, 128 }, { 128 << 10, 64 }, { FUSE_MAX_IO, 12 } };

static int class_of(size_t len)
{
	int c = 0;

	while (c < IOBUF_CLASSES && len > classes[c].size)
		c++;
	return c;
}

int iobuf_get(struct iobuf_pool *pool, size_t len, struct iobuf *out)
{
	int c = class_of(len);
	size_t cap = c == FALLBACK_CLASS ? round_up_u64(len, 4096) : classes[c].size;
	void *p = NULL;

	if (c != FALLBACK_CLASS) {
		SCOPE_LOCK(&pool->lock);
		p = pool->free[c];
		if (p) {
			memcpy(&pool->free[c], p, sizeof(void *));
			pool->kept[c]--;
		}
	}
	/* mmap: 2048 hanging READs hold address space, not memory, until their bytes arrive. */
	if (!p)
		p = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	*out = (struct iobuf){ .p = p, .cap = cap };
	return 0;
}

void iobuf_put(struct iobuf_pool *pool, struct iobuf *b)
{
	int c = class_of(b->cap);
	void *p = b->p;

	*b = (struct iobuf){ 0 };
	if (!p)
		return;
	if (c != FALLBACK_CLASS) {
		SCOPE_LOCK(&pool->lock);
		if (pool->kept[c] < pool->keep[c]) {
			memcpy(p, &pool->free[c], sizeof(void *));
			pool->free[c] = p;
			pool->kept[c]++;
			return;
		}
	}
	munmap(p, c == FALLBACK_CLASS ? b->cap : classes[c].size);
}

static void iobufs_free(struct iobuf_pool *pool)
{
	for (int c = 0; c < IOBUF_CLASSES; c++) {
		for (void *p = pool->free[c], *next; p; p = next) {
			memcpy(&next, p, sizeof(void *));
			munmap(p, classes[c].size);
		}
	}
	pthread_mutex_destroy(&pool->lock);
}

/* ---- records ---- */

static void park_free(struct park *p)
{
	struct session *s = p->s;

	iobuf_put(&s->bufs, &p->buf);
	SCOPE_LOCK(&s->park_lock);
	list_remove(&p->all);
	if (s->park_free_n < FREE_PARKS) {
		list_push_front(&s->park_free, &p->all);
		s->park_free_n++;
	} else {
		pthread_mutex_destroy(&p->lock);
		free(p);
	}
	if (--s->inflight == 0)
		pthread_cond_broadcast(&s->park_idle);
}

static void park_unref(struct park *p)
{
	int left;

	pthread_mutex_lock(&p->lock);
	left = --p->refs;
	pthread_mutex_unlock(&p->lock);
	if (!left)
		park_free(p);
}

static struct park *park_alloc(struct session *s)
{
	struct park *p;

	{
		SCOPE_LOCK(&s->park_lock);
		struct list *l = list_first(&s->park_free);

		s->inflight++;
		if (l) {
			list_remove(l);
			s->park_free_n--;
			return list_entry(l, struct park, all);
		}
	}
	p = calloc(1, sizeof(*p));
	if (p) {
		pthread_mutex_init(&p->lock, NULL);
		list_init(&p->all);
		return p;
	}
	SCOPE_LOCK(&s->park_lock);
	if (--s->inflight == 0)
		pthread_cond_broadcast(&s->park_idle);
	return NULL;
}

/* ---- answering ---- */

/* Answers with result. Takes libfuse's request lock, so that on_interrupt is not running and will
 * not run again: no lock of ours may be held. */
static void answer(struct park *p, int result)
{
	fuse_req_t req = p->req;

	fuse_req_interrupt_func(req, NULL, NULL);
	if (p->attr_ino && !result)
		notify_attr(p->s, p->attr_ino);
	if (result)
		fuse_reply_err(req, -result);
	else if (p->kind == PARK_READ)
		fuse_reply_buf(req, p->buf.p, p->got);
	else if (p->kind == PARK_WRITE)
		fuse_reply_write(req, p->len);
	else
		fuse_reply_err(req, 0);
}

static void leave_parked_locked(struct park *p, int state)
{
	p->state = state;
	atomic_fetch_sub(&p->s->n_parked, 1);
	SCOPE_LOCK(&p->s->park_lock);
	list_remove(&p->all);
}

/* The volume finished. Returns 1 when the caller has to answer. */
static int finish_locked(struct park *p, int result)
{
	int reply = p->state != ANSWERED;

	if (p->state == PARKED)
		leave_parked_locked(p, DONE);
	p->state = DONE;
	p->result = result;
	return reply;
}

void park_done(void *park, int result)
{
	struct park *p = park;
	int reply;

	/* Called by volume_read_cancel itself: interrupt_run holds the lock and finishes. */
	if (pthread_equal(atomic_load(&p->canceller), pthread_self())) {
		p->deferred = 1;
		p->result = result;
		return;
	}
	pthread_mutex_lock(&p->lock);
	reply = finish_locked(p, result);
	pthread_mutex_unlock(&p->lock);
	if (reply)
		answer(p, result);
	park_unref(p);
}

/* ---- interruption ---- */

/* 1 when the thread that waits for the answer is being killed, or has one of the signals pending by
 * which a user stops a program. Any other signal (timers, profilers, garbage collectors send them)
 * must not make read(2) or fsync(2) of a file fail with EINTR: no local filesystem does that. */
static int caller_gives_up(pid_t tid)
{
	uint64_t stops = 1ull << (SIGKILL - 1) | 1ull << (SIGINT - 1) | 1ull << (SIGTERM - 1) |
			 1ull << (SIGHUP - 1) | 1ull << (SIGQUIT - 1);
	uint64_t pending = 0, blocked = 0, v;
	char path[64], line[256];
	FILE *f;

	if (tid <= 0)
		return 1; /* in another PID namespace: nothing to ask */
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return 1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "SigPnd: %" SCNx64, &v) == 1 ||
		    sscanf(line, "ShdPnd: %" SCNx64, &v) == 1)
			pending |= v;
		else if (sscanf(line, "SigBlk: %" SCNx64, &v) == 1)
			blocked = v;
	}
	fclose(f);
	return (pending & ~blocked & stops) != 0;
}

/* Ends a parked request early. Returns 1 when it was answered or will be, 0 when it goes on. */
static int end_early_locked(struct park *p, int *reply)
{
	*reply = 0;
	if (p->state != PARKED)
		return 1;
	switch (p->kind) {
	case PARK_READ:
		atomic_store(&p->canceller, pthread_self());
		volume_read_cancel(p->s->v, p->op);
		atomic_store(&p->canceller, 0);
		return 1;
	case PARK_WRITE: /* the bytes are taken, only the reply was delayed */
		leave_parked_locked(p, ANSWERED);
		p->result = 0;
		break;
	case PARK_FSYNC: /* not synced yet, and says so */
		leave_parked_locked(p, ANSWERED);
		p->result = -EINTR;
		break;
	default: /* a rename that was held is done within one commit: no answer could be true */
		return 0;
	}
	*reply = 1;
	return 1;
}

/* On the interrupt queue, with a reference. */
static void interrupt_run(void *arg)
{
	struct park *p = arg;
	int gives_up, ended, reply, deferred, result;

	gives_up = atomic_load(&p->s->closing) || caller_gives_up(p->tid);
	pthread_mutex_lock(&p->lock);
	ended = p->state != PARKED;
	reply = deferred = 0;
	if (!ended && gives_up) {
		ended = end_early_locked(p, &reply);
		deferred = p->deferred;
		p->deferred = 0;
		if (deferred)
			reply = finish_locked(p, p->result);
	}
	result = p->result;
	pthread_mutex_unlock(&p->lock);
	if (reply)
		answer(p, result);
	if (deferred)
		park_unref(p); /* the one of park_done */
	if (ended)
		park_unref(p);
	else
		workq_submit_at(p->s->interruptq, clock_mono_ns() + RECHECK_MS * NS_PER_MS,
				interrupt_run, p);
}

/* libfuse, with its request lock held; perhaps at once, from park_begin. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct park *p = data;
	SCOPE_LOCK(&p->lock);

	if (p->interrupted)
		return;
	p->interrupted = 1;
	if (p->state != PARKED)
		return; /* park_submitted looks */
	p->refs++;
	workq_submit(p->s->interruptq, interrupt_run, p);
}

/* ---- parking ---- */

struct park *park_begin(fuse_req_t req, enum park_kind kind)
{
	struct session *s = session_of(req);
	struct park *p = park_alloc(s);

	if (!p) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	p->s = s, p->req = req, p->kind = kind;
	p->tid = fuse_req_ctx(req)->pid;
	p->len = p->got = 0;
	p->op = NULL;
	p->attr_ino = 0;
	p->state = SUBMITTING;
	p->refs = 2; /* the submitter's and park_done's */
	p->interrupted = p->deferred = p->result = 0;
	atomic_store(&p->canceller, 0);
	/* Before the volume sees it: later, the request could be answered and gone already. */
	fuse_req_interrupt_func(req, on_interrupt, p);
	return p;
}

void park_submitted(struct park *p, int rc)
{
	if (rc != -EINPROGRESS) {
		park_done(p, rc);
		park_unref(p);
		return;
	}
	pthread_mutex_lock(&p->lock);
	if (p->state == SUBMITTING) {
		p->state = PARKED;
		atomic_fetch_add(&p->s->n_parked, 1);
		pthread_mutex_lock(&p->s->park_lock);
		list_push_back(&p->s->parked, &p->all);
		pthread_mutex_unlock(&p->s->park_lock);
		if (p->interrupted || atomic_load(&p->s->closing)) {
			p->refs++;
			workq_submit(p->s->interruptq, interrupt_run, p);
		}
	}
	pthread_mutex_unlock(&p->lock);
	park_unref(p);
}

/* ---- life ---- */

int park_init(struct session *s)
{
	int rc = cond_init_mono(&s->park_idle);

	if (rc)
		return rc;
	pthread_mutex_init(&s->park_lock, NULL);
	pthread_mutex_init(&s->bufs.lock, NULL);
	for (int c = 0; c < IOBUF_CLASSES; c++)
		s->bufs.keep[c] = s->o.buffers
				      ? (unsigned)(classes[c].keep * s->o.buffers / KEEP_ALL)
				      : classes[c].keep;
	list_init(&s->parked);
	list_init(&s->park_free);
	return 0;
}

int park_drain(struct session *s)
{
	int64_t deadline = clock_mono_ns() + DRAIN_S * NS_PER_S;
	unsigned left;
	int rc = 0;

	/* closing is set, so what parks from now on ends itself. Of those parked before, each takes
	 * a reference by way of its own lock, which must not be taken under park_lock: one at a
	 * time. */
	pthread_mutex_lock(&s->park_lock);
	while (s->inflight && !rc) {
		struct list *l = list_first(&s->parked);

		if (l) {
			struct park *p = list_entry(l, struct park, all);

			/* Out of the list, so that it is not found again; its own removal later
			 * does no harm. It cannot be freed meanwhile: whoever ends it removes it
			 * under park_lock first. */
			list_remove(l);
			if (pthread_mutex_trylock(&p->lock)) {
				list_push_back(&s->parked, l);
				pthread_mutex_unlock(&s->park_lock);
				sched_yield();
				pthread_mutex_lock(&s->park_lock);
				continue;
			}
			p->refs++;
			pthread_mutex_unlock(&p->lock);
			workq_submit(s->interruptq, interrupt_run, p);
			continue;
		}
		rc = cond_wait_until(&s->park_idle, &s->park_lock, deadline);
	}
	left = s->inflight;
	pthread_mutex_unlock(&s->park_lock);
	if (!left)
		return 0;
	log_error("%u requests did not end within %d s of the unmount", left, DRAIN_S);
	return -ETIMEDOUT;
}

void park_release(struct session *s)
{
	list_for_each_safe (l, &s->park_free) {
		struct park *p = list_entry(l, struct park, all);

		pthread_mutex_destroy(&p->lock);
		free(p);
	}
	iobufs_free(&s->bufs);
	pthread_cond_destroy(&s->park_idle);
	pthread_mutex_destroy(&s->park_lock);
}
