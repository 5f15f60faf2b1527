#include "tests/unit/fake_segstore.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/base/buf.h"
#include "fs/base/clock.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"
#include "fs/base/workq.h"
#include "fs/meta/segment.h"

#define LANES 4

struct fake_extent {
	uint8_t *data;
	uint32_t len;
};

struct fake_seg {
	uint32_t num;
	struct fake_extent *x;
	uint32_t n, cap, synced;
	uint64_t bytes;
	long refs;
	int open, has_row, dropped;
	int pinned; /* fetched and not released */
};

struct seg_lane {
	struct segstore *st;
	uint32_t seg;
	int taken;
};

struct seg_fetch {
	struct segstore *st;
	struct fake_seg *seg;
	void (*done)(void *, int);
	void *arg;
	int cancelled;
};

struct segstore {
	pthread_mutex_t lock;
	struct fake_opts o;
	struct fake_seg **segs; /* by number */
	size_t cap;
	uint32_t max;
	uint32_t common;
	struct seg_lane lanes[LANES];
	struct workq *q;
	int fd;
	uint32_t *dirty; /* numbers with unsynced extents */
	size_t dirty_n, dirty_cap;
	uint32_t *rowless;
	size_t rowless_n, rowless_cap;
	uint32_t *dead;
	size_t dead_n, dead_cap;
	int append_rc, append_n, sync_rc, sync_n;
	int remote, fetch_result;
	int64_t fetch_delay;
	uint64_t extra_unsynced;
	void (*room_fn)(void *);
	void *room_arg;
	enum seg_level level;
	int uploads_hang;
	uint32_t present;
	struct fake_stats s;
};

/* The fake's own memory never fails, also where a test fails the n-th malloc of what stands above.
 */
static void *take(void *old, size_t old_n, size_t n)
{
	void *p;

	if (posix_memalign(&p, 16, n ? n : 1))
		abort();
	memset(p, 0, n);
	if (old)
		memcpy(p, old, old_n);
	free(old);
	return p;
}

static void push(uint32_t **p, size_t *n, size_t *cap, uint32_t v)
{
	if (*n == *cap) {
		*cap = *cap ? *cap * 2 : 64;
		*p = take(*p, *n * sizeof(**p), *cap * sizeof(**p));
	}
	(*p)[(*n)++] = v;
}

static struct fake_seg *seg_at(struct segstore *st, uint32_t num)
{
	if (num >= st->cap || !st->segs[num]) {
		fprintf(stderr, "fake_segstore: no segment %u\n", num);
		abort();
	}
	return st->segs[num];
}

static struct fake_seg *seg_new(struct segstore *st, uint32_t num)
{
	struct fake_seg *g = take(NULL, 0, sizeof(*g));

	if (num >= st->cap) {
		size_t cap = st->cap ? st->cap : 64;

		while (num >= cap)
			cap *= 2;
		st->segs = take(st->segs, st->cap * sizeof(*st->segs), cap * sizeof(*st->segs));
		st->cap = cap;
	}
	g->num = num;
	st->segs[num] = g;
	st->max = MAX(st->max, num);
	st->s.segments++;
	return g;
}

static void seg_add(struct fake_seg *g, const void *data, uint32_t len)
{
	if (g->n == g->cap) {
		g->cap = g->cap ? g->cap * 2 : 8;
		g->x = take(g->x, g->n * sizeof(*g->x), g->cap * sizeof(*g->x));
	}
	g->x[g->n].data = take(NULL, 0, len);
	memcpy(g->x[g->n].data, data, len);
	g->x[g->n].len = len;
	g->n++;
	g->bytes += len;
}

/* --- the file: {u32 seg, u32 number, u32 len, bytes}... --- */

static void load(struct segstore *st)
{
	uint8_t *p;
	size_t n;

	if (file_read_all(st->o.path, SIZE_MAX / 2, &p, &n))
		return;
	for (size_t at = 0; at + 12 <= n;) {
		uint32_t num = be32_get(p + at), i = be32_get(p + at + 4),
			 len = be32_get(p + at + 8);
		struct fake_seg *g;

		if (at + 12 + len > n)
			break; /* torn by the kill */
		g = num < st->cap ? st->segs[num] : NULL;
		if (!g)
			g = seg_new(st, num);
		if (i != g->n)
			abort();
		seg_add(g, p + at + 12, len);
		g->synced = g->n;
		g->has_row = 1;
		at += 12 + len;
	}
	free(p);
}

static void store(struct segstore *st, struct fake_seg *g)
{
	for (uint32_t i = g->synced; st->fd >= 0 && i < g->n; i++) {
		uint8_t head[12];
		struct iovec v[2] = { { head, sizeof(head) }, { g->x[i].data, g->x[i].len } };

		be32_put(head, g->num);
		be32_put(head + 4, i);
		be32_put(head + 8, g->x[i].len);
		if (writev(st->fd, v, 2) != (ssize_t)(sizeof(head) + g->x[i].len))
			abort();
	}
}

struct segstore *fake_create(const struct fake_opts *o)
{
	struct segstore *st = calloc(1, sizeof(*st));

	st->o = *o;
	st->fd = -1;
	if (!st->o.segment_size)
		st->o.segment_size = 256u << 10;
	pthread_mutex_init(&st->lock, NULL);
	st->q = workq_create("fake", 2);
	st->level = SEG_STAGED;
	if (o->path) {
		load(st);
		st->fd = open(o->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	}
	return st;
}

long fake_destroy(struct segstore *st)
{
	long refs = 0;

	workq_destroy(st->q);
	for (size_t i = 0; i < st->cap; i++) {
		struct fake_seg *g = st->segs[i];

		if (!g)
			continue;
		refs += g->refs;
		for (uint32_t k = 0; k < g->n; k++)
			free(g->x[k].data);
		free(g->x);
		free(g);
	}
	free(st->segs);
	free(st->dirty);
	free(st->rowless);
	free(st->dead);
	if (st->fd >= 0)
		close(st->fd);
	pthread_mutex_destroy(&st->lock);
	free(st);
	return refs;
}

/* --- appending --- */

static int take_fault(int *rc, int *n)
{
	if (!*n)
		return 0;
	if (*n > 0)
		--*n;
	return *rc;
}

static struct fake_seg *open_seg(struct segstore *st, struct seg_lane *lane)
{
	uint32_t *num = lane ? &lane->seg : &st->common;
	struct fake_seg *g = *num ? seg_at(st, *num) : NULL;

	if (g && g->bytes < st->o.segment_size)
		return g;
	if (g)
		g->open = 0;
	*num = meta_next_segment(st->o.meta);
	g = seg_new(st, *num);
	g->open = 1;
	push(&st->rowless, &st->rowless_n, &st->rowless_cap, g->num);
	return g;
}

static int append(struct segstore *st, struct seg_lane *lane, const struct seg_piece *pieces, int n,
		  uint64_t cap, struct seg_loc *loc)
{
	SCOPE_LOCK(&st->lock);
	struct fake_seg *g;
	uint64_t bytes = 0;
	int rc = take_fault(&st->append_rc, &st->append_n);

	for (int i = 0; i < n; i++)
		bytes += pieces[i].len;
	if (rc)
		return rc;
	if (n < 1 || n > 64)
		abort();
	if (cap && st->s.staged + bytes > cap)
		return -ENOSPC;
	g = open_seg(st, lane);
	if (g->synced == g->n)
		push(&st->dirty, &st->dirty_n, &st->dirty_cap, g->num);
	*loc = (struct seg_loc){ g->num, g->n };
	for (int i = 0; i < n; i++)
		seg_add(g, pieces[i].data, pieces[i].len);
	st->s.appends++, st->s.extents += (uint64_t)n, st->s.bytes += bytes, st->s.staged += bytes;
	g->refs++, st->s.refs++;
	return 0;
}

int segstore_append(struct segstore *st, struct seg_lane *lane, const struct seg_piece *pieces,
		    int n, struct seg_loc *loc)
{
	return append(st, lane, pieces, n, st->o.cap, loc);
}

int segstore_append_accepted(struct segstore *st, struct seg_lane *lane,
			     const struct seg_piece *pieces, int n, struct seg_loc *loc)
{
	return append(st, lane, pieces, n, 0, loc);
}

struct seg_lane *segstore_lane_take(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);

	for (int i = 0; i < LANES; i++)
		if (!st->lanes[i].taken) {
			st->lanes[i] = (struct seg_lane){ .st = st, .taken = 1 };
			st->s.lanes++;
			return &st->lanes[i];
		}
	return NULL;
}

void segstore_lane_give(struct segstore *st, struct seg_lane *lane)
{
	SCOPE_LOCK(&st->lock);

	if (!lane->taken)
		abort();
	if (lane->seg)
		seg_at(st, lane->seg)->open = 0;
	lane->taken = 0;
	st->s.lanes--;
}

int segstore_sync(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);
	int rc = take_fault(&st->sync_rc, &st->sync_n);

	st->s.syncs++;
	if (rc)
		return rc;
	for (size_t i = 0; i < st->dirty_n; i++) {
		struct fake_seg *g = seg_at(st, st->dirty[i]);

		store(st, g);
		g->synced = g->n;
	}
	st->dirty_n = 0;
	return 0;
}

uint64_t segstore_unsynced(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);

	return st->extra_unsynced;
}

void segstore_when_room(struct segstore *st, void (*fn)(void *arg), void *arg)
{
	int now;

	pthread_mutex_lock(&st->lock);
	now = !st->extra_unsynced || st->room_fn;
	if (!now)
		st->room_fn = fn, st->room_arg = arg;
	pthread_mutex_unlock(&st->lock);
	if (now)
		fn(arg);
}

int segstore_write_rows(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);
	size_t kept = 0;

	for (size_t i = 0; i < st->rowless_n; i++) {
		struct fake_seg *g = seg_at(st, st->rowless[i]);
		struct segment_row r = {
			.num = g->num, .keyno = 1, .code_k = 1, .state = SEGMENT_OPEN
		};
		int rc;

		if (!g->synced) {
			st->rowless[kept++] = g->num;
			continue;
		}
		be32_put(r.id, g->num);
		rc = segment_insert(st->o.meta, &r);
		if (rc && rc != -EEXIST)
			return rc;
		g->has_row = 1;
	}
	st->rowless_n = kept;
	return 0;
}

void segstore_committed(struct segstore *st)
{
	uint32_t nums[64];
	int n;

	meta_lock(st->o.meta);
	pthread_mutex_lock(&st->lock);
	while ((n = segment_take_dead(st->o.meta, nums, 64)) > 0)
		for (int i = 0; i < n; i++)
			push(&st->dead, &st->dead_n, &st->dead_cap, nums[i]);
	for (size_t i = 0; i < st->dead_n;) {
		struct fake_seg *g = st->dead[i] < st->cap ? st->segs[st->dead[i]] : NULL;
		struct segment_row r;
		int gone = !g || g->dropped || segment_get(st->o.meta, g->num, &r) || r.live;

		if (!gone && !g->refs && !g->open && g->synced == g->n) {
			for (uint32_t k = 0; k < g->n; k++) {
				free(g->x[k].data);
				g->x[k].data = NULL;
			}
			st->s.staged -= g->bytes;
			g->dropped = gone = 1;
			st->s.dropped++;
		}
		if (gone)
			st->dead[i] = st->dead[--st->dead_n];
		else
			i++;
	}
	pthread_mutex_unlock(&st->lock);
	meta_unlock(st->o.meta);
}

void segstore_ref(struct segstore *st, uint32_t seg)
{
	SCOPE_LOCK(&st->lock);

	if (seg_at(st, seg)->dropped)
		abort();
	seg_at(st, seg)->refs++;
	st->s.refs++;
}

void segstore_unref(struct segstore *st, uint32_t seg)
{
	SCOPE_LOCK(&st->lock);

	if (seg_at(st, seg)->refs-- <= 0)
		abort();
	st->s.refs--;
}

/* --- reading --- */

int segstore_read(struct segstore *st, uint32_t seg, uint32_t first, uint64_t skip, void *dst,
		  size_t len, struct seg_miss *miss)
{
	SCOPE_LOCK(&st->lock);
	struct fake_seg *g = seg_at(st, seg);
	uint8_t *to = dst;

	st->s.reads++;
	if (g->dropped || g->refs <= 0)
		abort(); /* named without a reference, or after it went */
	if (st->remote && !g->pinned && g->synced == g->n) {
		*miss = (struct seg_miss){ .seg = seg, .first = first, .count = 1 };
		return -EAGAIN;
	}
	for (; len; first++) {
		uint64_t n;

		if (first >= g->n)
			return -EINVAL;
		if (skip >= g->x[first].len) {
			skip -= g->x[first].len;
			continue;
		}
		n = MIN(len, g->x[first].len - skip);
		memcpy(to, g->x[first].data + skip, n);
		to += n, len -= n, skip = 0;
	}
	return 0;
}

static void run_fetch(void *arg)
{
	struct seg_fetch *f = arg;
	struct segstore *st = f->st;
	int rc;

	pthread_mutex_lock(&st->lock);
	rc = f->cancelled ? -ECANCELED : st->fetch_result;
	if (!rc)
		f->seg->pinned++;
	else
		f->seg = NULL;
	pthread_mutex_unlock(&st->lock);
	f->done(f->arg, rc);
}

int segstore_limited(struct segstore *st)
{
	return 0;
}

int64_t segstore_deadline(const struct segstore *st)
{
	(void)st;
	return clock_mono_ns() + 30 * NS_PER_S;
}

struct seg_fetch *segstore_fetch(struct segstore *st, const struct seg_miss *miss,
				 void (*done)(void *arg, int result), void *arg, int *rc)
{
	struct seg_fetch *f = take(NULL, 0, sizeof(*f));

	(void)rc;
	pthread_mutex_lock(&st->lock);
	*f = (struct seg_fetch){ st, seg_at(st, miss->seg), done, arg, 0 };
	st->s.fetches++;
	pthread_mutex_unlock(&st->lock);
	workq_submit_at(st->q, clock_mono_ns() + st->fetch_delay, run_fetch, f);
	return f;
}

void segstore_fetch_cancel(struct segstore *st, struct seg_fetch *f)
{
	SCOPE_LOCK(&st->lock);

	f->cancelled = 1;
}

void segstore_fetch_release(struct segstore *st, struct seg_fetch *f)
{
	pthread_mutex_lock(&st->lock);
	if (f->seg)
		f->seg->pinned--;
	pthread_mutex_unlock(&st->lock);
	free(f);
}

void segstore_prefetch(struct segstore *st, uint32_t seg, uint32_t first, uint32_t count)
{
	SCOPE_LOCK(&st->lock);

	(void)first, (void)count;
	seg_at(st, seg);
	st->s.prefetches++;
}

int segstore_continues(struct segstore *st, uint32_t seg, uint32_t first, uint64_t skip_plus_len,
		       uint32_t next_first, uint64_t next_skip)
{
	SCOPE_LOCK(&st->lock);
	struct fake_seg *g = seg_at(st, seg);
	uint64_t a = skip_plus_len, b = next_skip;

	for (uint32_t i = 0; i < first && i < g->n; i++)
		a += g->x[i].len;
	for (uint32_t i = 0; i < next_first && i < g->n; i++)
		b += g->x[i].len;
	return a == b;
}

/* --- state --- */

void segstore_state(struct segstore *st, struct segstore_state *out)
{
	SCOPE_LOCK(&st->lock);

	*out = (struct segstore_state){ .staged_bytes = st->s.staged,
					.cap = st->o.cap,
					.room = st->o.cap };
}

int segstore_where(struct segstore *st, uint32_t seg, struct seg_where *out)
{
	SCOPE_LOCK(&st->lock);

	*out = (struct seg_where){ .seg = seg,
				   .level = st->level,
				   .present = st->present,
				   .k = 2,
				   .m = 1,
				   .open = st->level == SEG_STAGED };
	return 0;
}

void segstore_flush(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);

	if (st->common)
		seg_at(st, st->common)->open = 0;
	st->common = 0;
}

void segstore_wait_begin(struct segstore *st, struct seg_wait *w, enum seg_level level,
			 int64_t deadline)
{
	(void)st;
	*w = (struct seg_wait){ .level = level, .deadline = deadline };
}

int segstore_wait_look(struct segstore *st, struct seg_wait *w)
{
	SCOPE_LOCK(&st->lock);

	if (st->level >= w->level)
		return 0;
	if (w->deadline && clock_mono_ns() >= w->deadline)
		return -ETIMEDOUT;
	return st->uploads_hang ? -EAGAIN : -EIO;
}

void segstore_wait_sleep(struct segstore *st, int64_t until)
{
	int64_t now = clock_mono_ns();
	struct timespec ts = timespec_of(until > now ? until - now : 0);

	(void)st;
	nanosleep(&ts, NULL);
}

int segstore_wait(struct segstore *st, enum seg_level level, int64_t deadline)
{
	(void)deadline;
	return st->level >= level ? 0 : -EIO;
}

/* --- control --- */

void fake_fail_append(struct segstore *st, int rc, int n)
{
	SCOPE_LOCK(&st->lock);

	st->append_rc = rc, st->append_n = n;
}

void fake_fail_sync(struct segstore *st, int rc, int n)
{
	SCOPE_LOCK(&st->lock);

	st->sync_rc = rc, st->sync_n = n;
}

void fake_remote(struct segstore *st, int on, int64_t delay_ns, int result)
{
	SCOPE_LOCK(&st->lock);

	st->remote = on, st->fetch_delay = delay_ns, st->fetch_result = result;
}

void fake_unsynced(struct segstore *st, uint64_t bytes)
{
	SCOPE_LOCK(&st->lock);

	st->extra_unsynced = bytes;
}

void fake_give_room(struct segstore *st)
{
	void (*fn)(void *);

	pthread_mutex_lock(&st->lock);
	fn = st->room_fn;
	st->room_fn = NULL;
	st->extra_unsynced = 0;
	pthread_mutex_unlock(&st->lock);
	if (fn)
		fn(st->room_arg);
}

void fake_uploads_hang(struct segstore *st, int on)
{
	SCOPE_LOCK(&st->lock);

	st->uploads_hang = on;
}

void fake_present(struct segstore *st, enum seg_level level, uint32_t present)
{
	SCOPE_LOCK(&st->lock);

	st->level = level, st->present = present;
}

void fake_stats(struct segstore *st, struct fake_stats *out)
{
	SCOPE_LOCK(&st->lock);

	*out = st->s;
}
