/* Fetching: a transfer reads one contiguous range of extents from any k backends; a fetch waits for
 * the transfers that cover what it wants. Transfers are shared, so nothing is read twice at once.
 *
 * Callbacks of the fan-out come on the network's threads: they only check MACs and hand on to the
 * pool. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <string.h>
#include "backends/fanout.h"
#include "crypto/secmem.h"

/* Read-ahead in flight: 300 MB/s over a round trip of 100 ms. By bytes, for a file that was
 * written by several threads lies in pieces much smaller than a transfer may be. */
#define BACKGROUND_BYTES   (32u << 20)
#define BACKGROUND_MAX     16
#define BACKGROUND_LIMITED 2 /* where bandwidth is limited: who reads waits behind it */
#define HEAL_PART          4 /* of the memory for transfers, what those that heal may have */
#define READERS_PART       8 /* what read-ahead leaves of it to others, at most READERS_LEFT */
#define READERS_LEFT       (1u << 20)
#define SCAN_MISSES        3

enum xfer_state { XFER_QUEUED, XFER_RUNNING, XFER_DONE, XFER_FAILED };

struct xfer {
	struct list link;  /* by lock: of seg->xfers */
	struct list queue; /* by lock: of st->queued_xfers or st->running_xfers */
	struct segstore *st;
	struct seg *seg; /* pinned */
	uint32_t first, count;
	uint32_t base;         /* file position of the first record */
	size_t len;            /* of all records */
	enum xfer_state state; /* by lock, as result, refs, parts */
	int result, refs, background, abandoned;
	int64_t deadline;  /* 0: st->timeout from the start on */
	int heal;          /* nobody reads what it fetches; by lock until it runs */
	struct list parts; /* who waits */
	uint8_t *bytes;    /* file layout; valid once done */
	uint64_t memory;   /* by lock: counts in fetch_bytes */

	/* For the network; freed when it and the completion have ended. */
	int net;  /* by lock: of these two */
	int sent; /* by lock: fanout_get has returned, it may be cancelled */
	uint8_t set[16], m;
	uint8_t order[FANOUT_MAX];
	char keys[FANOUT_MAX][SHARD_KEY_MAX];
	const char *key[FANOUT_MAX];
	struct fanout_get get;
};

struct part {
	struct list link; /* by lock: of xfer->parts */
	struct seg_fetch *f;
	struct xfer *x; /* referenced */
};

struct seg_fetch {
	struct segstore *st;
	struct list fresh; /* while it is made */
	void (*done)(void *arg, int result);
	void *arg;
	int64_t deadline;
	int pending, result, ended; /* by lock */
	int heal;
	int nparts;
	struct part *parts;
	int cap;
};

/* --- life of a transfer --- */

static void xfer_free_net(struct xfer *x)
{
	for (int i = 0; i < FANOUT_MAX; i++) {
		free(x->get.buf[i]);
		x->get.buf[i] = NULL;
	}
}

static void xfer_unref_locked(struct segstore *st, struct xfer *x)
{
	if (--x->refs)
		return;
	list_remove(&x->link);
	list_remove(&x->queue);
	seg_unpin_locked(st, x->seg);
	xfer_free_net(x);
	free(x->bytes);
	free(x);
}

void xfer_unref(struct segstore *st, struct xfer *x)
{
	SCOPE_LOCK(&st->lock);
	xfer_unref_locked(st, x);
}

struct xfer *xfer_find_done_locked(struct seg *s, uint32_t i)
{
	list_for_each (l, &s->xfers) {
		struct xfer *x = list_entry(l, struct xfer, link);
		if (x->state != XFER_DONE || i < x->first || i >= x->first + x->count)
			continue;
		x->refs++;
		return x;
	}
	return NULL;
}

const uint8_t *xfer_sealed(const struct xfer *x, uint32_t pos)
{
	return x->bytes + (pos - x->base) + SEG_RECORD_HEADER;
}

uint32_t seg_usable_mask(struct segstore *st, int for_put)
{
	uint32_t mask = 0;

	for (int i = 0; i < st->n; i++)
		if (health_usable(st->backends[i], for_put))
			mask |= 1u << i;
	return mask;
}

int64_t segstore_deadline(const struct segstore *st)
{
	return clock_mono_ns() + st->timeout;
}

/* Has one reference, the maker's. */
static struct xfer *xfer_new_locked(struct segstore *st, struct seg *s, uint32_t first,
				    uint32_t count, int background)
{
	const struct seg_ext *e = s->body->ext;
	struct xfer *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->st = st, x->seg = s;
	x->first = first, x->count = count;
	x->base = e[first].pos;
	x->len = ext_end(&e[first + count - 1], s->k) - x->base;
	x->background = background;
	x->refs = 1;
	list_init(&x->queue);
	list_init(&x->parts);
	list_push_back(&s->xfers, &x->link);
	seg_pin_locked(s);
	memcpy(x->set, s->set, 16);
	x->m = s->m;
	x->get.skip = st->all & ~(s->present | s->unknown);
	return x;
}

/* --- on the network --- */

static int check_shard(struct fanout_get *g, int i)
{
	struct xfer *x = g->user;
	struct seg *s = x->seg;
	const uint8_t *p = g->buf[i];
	uint8_t key[KEY_LEN], mac[SHARD_MAC_LEN];

	int rc =
	    keyring_fragment_key(x->st->keys, s->keyno, x->set, s->id, s->k, x->m, (uint8_t)i, key);
	for (uint32_t e = x->first; !rc && e < x->first + x->count; e++) {
		uint32_t number = ext_number(&s->body->ext[e], e);
		uint32_t len = ext_sealed(&s->body->ext[e], s->k) / s->k;
		rc = segio_fragment_mac(key, number, p, len, mac);
		if (!rc && !secmem_equal(mac, p + len, SHARD_MAC_LEN))
			rc = -EBADMSG;
		p += len + SHARD_MAC_LEN;
	}
	secmem_wipe(key, sizeof(key));
	return rc;
}

static void xfer_complete(void *arg);
static void xfer_settle(void *arg);

static void get_done(struct fanout_get *g)
{
	struct xfer *x = g->user;

	x->result = g->result;
	workq_submit(x->st->fetchq, xfer_complete, x);
}

static void get_released(struct fanout_get *g)
{
	struct xfer *x = g->user;

	workq_submit(x->st->fetchq, xfer_settle, x);
}

/* Sealed bytes of one transfer, at most: where bandwidth is limited, what a second brings, so that
 * it ends long before the reader's time is over. Where there is little memory, half of it, and for
 * one that heals its part: one alone must not keep all others waiting until it ends. */
static uint32_t piece_max(struct segstore *st, int heal)
{
	uint64_t rate = seg_rate_down(st), memory = st->max.fetch / (heal ? HEAL_PART : 2);
	uint64_t most = MIN(MAX(memory, SEG_PIECE_MIN), SEG_PIECE_MAX);

	return (uint32_t)(rate ? MIN(rate, most) : most);
}

static int background_max(struct segstore *st)
{
	return seg_rate_down(st) ? BACKGROUND_LIMITED : BACKGROUND_MAX;
}

static int net_prepare(struct xfer *x)
{
	struct segstore *st = x->st;
	struct seg *s = x->seg;
	struct fanout_get *g = &x->get;

	pthread_mutex_lock(&st->lock);
	uint32_t suspect = s->suspect;
	int busy = st->fg_running > SEG_QUEUE_LONG;
	pthread_mutex_unlock(&st->lock);
	g->len = segio_slots(s->body->ext + x->first, x->count, s->k);
	uint64_t offset = SHARD_HEADER_LEN + segio_slots(s->body->ext, x->first, s->k);
	for (int i = 0; i < st->n; i++) {
		shard_key(x->keys[i], x->set, i);
		x->key[i] = x->keys[i];
		g->offset[i] = offset;
		g->buf[i] = g->skip >> i & 1 ? NULL : malloc(g->len);
		if (!g->buf[i] && !(g->skip >> i & 1))
			return -ENOMEM;
	}
	struct seg_haste haste = {
		.len = x->len,
		.reader = !x->background && !x->heal,
		.heal = x->heal,
		.busy = busy,
		.deadline = x->deadline ? x->deadline : segstore_deadline(st),
	};
	seg_fetch_order(st, suspect, x->order);
	seg_fetch_haste(st, &haste, x->order, g);
	g->backends = st->backends;
	g->n = st->n, g->k = st->k;
	g->order = x->order;
	g->keys = x->key;
	g->flags = x->heal ? BACKEND_BACKGROUND : 0;
	g->budget = &st->budget;
	g->check = check_shard;
	g->done = get_done;
	g->released = get_released;
	g->user = x;
	return 0;
}

/* Takes over one reference. */
static void xfer_start(struct xfer *x)
{
	struct segstore *st = x->st;

	int rc = net_prepare(x);
	if (!rc)
		rc = failpoint("fetch.start");
	pthread_mutex_lock(&st->lock);
	x->state = XFER_RUNNING;
	list_push_back(&st->running_xfers, &x->queue);
	*(x->background ? &st->bg_running : &st->fg_running) += 1;
	st->bg_bytes += x->background ? x->len : 0;
	x->refs += 2; /* ours, one for the completion, one until released */
	x->net = 2;
	st->jobs++;
	int stopping = st->stopping;
	pthread_mutex_unlock(&st->lock);
	if (!rc && (stopping || x->abandoned))
		rc = -ECANCELED;
	if (!rc) {
		fanout_get(&x->get);
	} else {
		x->result = rc;
		workq_submit(st->fetchq, xfer_complete, x);
		workq_submit(st->fetchq, xfer_settle, x);
	}
	pthread_mutex_lock(&st->lock);
	x->sent = !rc;
	xfer_unref_locked(st, x);
	pthread_mutex_unlock(&st->lock);
}

/* Out of its queue; the next thing is xfer_start. */
static struct xfer *xfer_take_locked(struct segstore *st, struct list *l)
{
	struct xfer *x = list_entry(l, struct xfer, queue);

	list_remove(l);
	x->memory = x->len; /* what comes in */
	st->fetch_bytes += x->memory;
	st->heal_fetch_bytes += x->heal ? x->memory : 0;
	/* Its readers were killed meanwhile: it asks nobody, and nobody may join it. */
	x->abandoned = !x->background && list_empty(&x->parts);
	if (x->abandoned)
		list_remove(&x->link);
	return x;
}

static int fits(const struct list *l, uint64_t used, uint64_t max)
{
	return !used || used + list_entry(l, struct xfer, queue)->len <= max;
}

/* Who is waited for goes first, oldest first: so none waits here longer than its deadline, for
 * those before it end by theirs. What heals has a part of the memory only: it may hold that for
 * long, where it gives way to others or a backend hangs, and readers must not wait for it. */
static struct xfer *xfer_next_locked(struct segstore *st)
{
	struct list *l = list_first(&st->waiting_xfers);
	uint64_t max = st->max.fetch;

	if (!l) {
		l = list_first(&st->heal_xfers);
		if (l && !fits(l, st->heal_fetch_bytes, st->max.fetch / HEAL_PART))
			l = NULL;
	}
	if (!l && st->bg_running < background_max(st) && st->bg_bytes < BACKGROUND_BYTES) {
		l = list_first(&st->queued_xfers);
		max -= MIN(max / READERS_PART, READERS_LEFT);
	}
	if (!l || !fits(l, st->fetch_bytes, max))
		return NULL;
	return xfer_take_locked(st, l);
}

static void pump(struct segstore *st)
{
	for (;;) {
		pthread_mutex_lock(&st->lock);
		struct xfer *x = xfer_next_locked(st);
		pthread_mutex_unlock(&st->lock);
		if (!x)
			return;
		xfer_start(x);
	}
}

/* --- completion, in the pool --- */

/* Fragments of one extent, lying at `at` in each shard's range, into sealed bytes. */
static int assemble(struct xfer *x, size_t at, uint32_t f, uint8_t *sealed)
{
	struct segstore *st = x->st;
	struct fanout_get *g = &x->get;
	uint32_t data = (uint32_t)((1ull << st->k) - 1), want = data & ~g->good;
	size_t stride = round_up_u64(f, 64);
	uint8_t *frag[FANOUT_MAX], *scratch;

	for (int i = 0; i < st->k; i++)
		if (g->good >> i & 1)
			memcpy(sealed + (size_t)i * f, (uint8_t *)g->buf[i] + at, f);
	if (!want)
		return 0;
	scratch = segio_scratch(SCRATCH_UNPACK, stride * (size_t)st->n);
	if (!scratch)
		return -ENOMEM;
	for (int i = 0; i < st->n; i++) {
		frag[i] = scratch + (size_t)i * stride;
		if (g->good >> i & 1)
			memcpy(frag[i], (uint8_t *)g->buf[i] + at, f);
	}
	int rc = code_rebuild(st->code, frag, g->good, want, f);
	for (int i = 0; !rc && i < st->k; i++)
		if (want >> i & 1)
			memcpy(sealed + (size_t)i * f, frag[i], f);
	return rc;
}

/* What is put together has memory from here on only: most of its time a transfer waits for the
 * network, and there are no more threads here than FETCH_THREADS. */
static int bytes_make(struct xfer *x)
{
	x->bytes = malloc(x->len);
	if (!x->bytes)
		return -ENOMEM;
	SCOPE_LOCK(&x->st->lock);
	x->memory += x->len;
	x->st->fetch_bytes += x->len;
	x->st->heal_fetch_bytes += x->heal ? x->len : 0;
	return 0;
}

static int decode(struct xfer *x)
{
	struct seg *s = x->seg;
	size_t at = 0;
	int rc = bytes_make(x);

	for (uint32_t e = x->first; !rc && e < x->first + x->count; e++) {
		const struct seg_ext *ext = &s->body->ext[e];
		uint32_t f = ext_sealed(ext, s->k) / s->k;
		uint8_t *rec = x->bytes + (ext->pos - x->base);
		memset(rec, 0, SEG_RECORD_HEADER);
		rc = assemble(x, at, f, rec + SEG_RECORD_HEADER);
		at += f + SHARD_MAC_LEN;
	}
	return rc;
}

/* Takes those that have nothing left to wait for off the transfer, into `ready`. */
static void wake_locked(struct xfer *x, struct list *ready)
{
	list_for_each_safe (l, &x->parts) {
		struct part *p = list_entry(l, struct part, link);
		struct seg_fetch *f = p->f;
		list_remove(&p->link);
		if (x->result && !f->result)
			f->result = x->result;
		if (--f->pending == 0 && !f->ended) {
			f->ended = 1;
			list_push_back(ready, &f->fresh);
		}
	}
}

static void net_end(struct segstore *st, struct xfer *x)
{
	pthread_mutex_lock(&st->lock);
	if (--x->net == 0) {
		xfer_free_net(x);
		st->fetch_bytes -= x->memory;
		st->heal_fetch_bytes -= x->heal ? x->memory : 0;
		st->jobs--;
	}
	/* The store may be gone once its last job has ended. */
	st->jobs++;
	xfer_unref_locked(st, x);
	pthread_mutex_unlock(&st->lock);
	pump(st);
	pthread_mutex_lock(&st->lock);
	st->jobs--;
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
}

static void xfer_complete(void *arg)
{
	struct xfer *x = arg;
	struct segstore *st = x->st;
	struct list ready;

	list_init(&ready);
	if (!x->result)
		x->result = failpoint("fetch.done");
	if (!x->result)
		x->result = decode(x);
	if (x->result == -ENOENT || x->result == -EINVAL || x->result == -ENOMEM)
		x->result = -EIO;
	pthread_mutex_lock(&st->lock);
	x->state = x->result ? XFER_FAILED : XFER_DONE;
	if (x->result) /* not found by others any more */
		list_remove(&x->link);
	list_remove(&x->queue);
	*(x->background ? &st->bg_running : &st->fg_running) -= 1;
	st->bg_bytes -= x->background ? x->len : 0;
	wake_locked(x, &ready);
	pthread_mutex_unlock(&st->lock);
	list_for_each_safe (l, &ready) {
		struct seg_fetch *f = list_entry(l, struct seg_fetch, fresh);
		list_remove(&f->fresh);
		f->done(f->arg, f->result);
	}
	if (!x->result)
		seg_cache_write(st, x->seg, x->first, x->count, x->bytes, x->len);
	net_end(st, x);
}

/* The network has ended with it, losers included: who had wrong bytes, or none? */
static void xfer_settle(void *arg)
{
	struct xfer *x = arg;
	struct segstore *st = x->st;

	if (x->get.missing | x->get.bad)
		seg_report_shards(st, x->seg, x->get.missing, x->get.bad);
	net_end(st, x);
}

void seg_fetch_cancel_all(struct segstore *st)
{
	struct xfer *x;

	pthread_mutex_lock(&st->lock);
	list_splice_back(&st->queued_xfers, &st->waiting_xfers);
	list_splice_back(&st->queued_xfers, &st->heal_xfers);
	while (!list_empty(&st->queued_xfers)) {
		x = xfer_take_locked(st, st->queued_xfers.next);
		pthread_mutex_unlock(&st->lock);
		xfer_start(x); /* ends at once: stopping is set */
		pthread_mutex_lock(&st->lock);
	}
	size_t left = 0;
	list_for_each (l, &st->running_xfers)
		left++;
	while (left-- && !list_empty(&st->running_xfers)) {
		x = list_entry(st->running_xfers.next, struct xfer, queue);
		list_remove(&x->queue);
		list_push_back(&st->running_xfers, &x->queue);
		x->refs++;
		int sent = x->sent;
		pthread_mutex_unlock(&st->lock);
		if (sent)
			fanout_get_cancel(&x->get);
		pthread_mutex_lock(&st->lock);
		xfer_unref_locked(st, x);
	}
	pthread_mutex_unlock(&st->lock);
}

/* --- fetches --- */

static int absent_locked(const struct seg *s, uint32_t i)
{
	const struct seg_body *b = s->body;

	if (s->open)
		return 0;
	return b->fd < 0 || s->place == PLACE_NONE || (b->absent && b->absent[i]);
}

/* past_heals: a reader, where bandwidth is limited, does not wait for a transfer that gives way to
 * others, but has one of its own. */
static struct xfer *covering_locked(const struct seg *s, uint32_t i, int past_heals)
{
	list_for_each (l, &s->xfers) {
		struct xfer *x = list_entry(l, struct xfer, link);
		if (i >= x->first && i < x->first + x->count &&
		    !(past_heals && x->heal && x->state != XFER_DONE))
			return x;
	}
	return NULL;
}

/* How many extents from i on, before `end`, one transfer takes: absent, uncovered, at most max
 * sealed bytes. */
static uint32_t stretch_locked(const struct seg *s, uint32_t i, uint32_t end, uint32_t max,
			       int past_heals)
{
	const struct seg_ext *e = s->body->ext;
	uint32_t n = 1;

	while (i + n < end && absent_locked(s, i + n) && !covering_locked(s, i + n, past_heals) &&
	       ext_end(&e[i + n], s->k) - e[i].pos <= max)
		n++;
	return n;
}

static int part_add_locked(struct seg_fetch *f, struct xfer *x)
{
	if (f->nparts && f->parts[f->nparts - 1].x == x)
		return 0;
	if (f->nparts == f->cap) {
		/* Parts are linked only when all are there: memory moves. */
		int cap = f->cap ? 2 * f->cap : 8;
		struct part *p = realloc(f->parts, (size_t)cap * sizeof(*p));
		if (!p)
			return -ENOMEM;
		f->parts = p, f->cap = cap;
	}
	f->parts[f->nparts++] = (struct part){ .f = f, .x = x };
	x->refs++;
	return 0;
}

/* Transfers for all that is absent in [from, to), put into `fresh`; f (may be NULL) waits for them
 * and for those that are under way. Small ones are stretched up to `upto`. */
static int plan_locked(struct segstore *st, struct seg *s, uint32_t from, uint32_t to,
		       uint32_t upto, struct seg_fetch *f, struct list *fresh)
{
	int rc = 0, heal = f && f->heal;
	uint32_t most = piece_max(st, heal);
	int past_heals = seg_rate_down(st) && !heal;

	for (uint32_t i = from; !rc && i < to; i++) {
		struct xfer *x = covering_locked(s, i, past_heals);
		if (!x && !absent_locked(s, i))
			continue;
		if (!x) {
			uint32_t n = stretch_locked(s, i, to, most, past_heals);
			if (i + n == to)
				n = MAX(n, stretch_locked(s, i, upto, MIN(most, SEG_PIECE_MIN),
							  past_heals));
			x = xfer_new_locked(st, s, i, n, !f);
			if (!x)
				return -ENOMEM;
			x->deadline = f ? f->deadline : 0;
			x->heal = heal;
			list_push_back(fresh, &x->queue);
		} else if (f && x->state == XFER_QUEUED && !list_empty(&x->queue) &&
			   (x->background || (x->heal && !heal))) {
			x->background = 0; /* waited for now */
			x->heal &= heal;
			x->deadline = f->deadline;
			list_remove(&x->queue);
			list_push_back(fresh, &x->queue);
		}
		if (f)
			rc = part_add_locked(f, x);
		i = x->first + x->count - 1;
	}
	return rc;
}

/* Is somebody reading through the segment? Then how far from where. */
static int scans_locked(struct seg *s, const struct seg_miss *miss)
{
	int64_t now = clock_mono_ns();
	int sequential = s->miss_next && miss->first == s->miss_next;

	if (now - s->miss_since > NS_PER_S) {
		s->miss_since = now;
		s->misses = 0;
	}
	s->misses++;
	s->miss_next = miss->first + miss->count;
	return sequential || s->misses > SCAN_MISSES;
}

static void start_all(struct segstore *st, struct list *fresh, struct list *later)
{
	pthread_mutex_lock(&st->lock);
	list_splice_back(&st->queued_xfers, later);
	list_for_each_safe (l, fresh) {
		struct xfer *x = list_entry(l, struct xfer, queue);

		list_remove(l);
		list_push_back(x->heal ? &st->heal_xfers : &st->waiting_xfers, l);
	}
	pthread_mutex_unlock(&st->lock);
	pump(st);
}

static void fetch_free_locked(struct segstore *st, struct seg_fetch *f)
{
	for (int i = 0; i < f->nparts; i++) {
		list_remove(&f->parts[i].link);
		xfer_unref_locked(st, f->parts[i].x);
	}
	free(f->parts);
	free(f);
}

static void fetch_end_job(void *arg)
{
	struct seg_fetch *f = arg;
	struct segstore *st = f->st;

	f->done(f->arg, f->result);
	pthread_mutex_lock(&st->lock);
	st->jobs--;
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
}

/* Whether k backends can be asked at all. */
static int reachable(struct segstore *st, struct seg *s)
{
	uint32_t usable = seg_usable_mask(st, 0);

	SCOPE_LOCK(&st->lock);
	if (!s->has_set || s->m != st->m || s->k != st->k)
		return 0;
	return __builtin_popcount(usable & (s->present | s->unknown)) >= st->k;
}

static struct seg *find_pinned(struct segstore *st, uint32_t num)
{
	SCOPE_LOCK(&st->lock);
	struct seg *s = seg_find_locked(st, num);

	if (!s || s->phase == SEG_GONE || st->stopping)
		return NULL;
	seg_pin_locked(s);
	return s;
}

static struct seg_fetch *fetch(struct segstore *st, const struct seg_miss *miss, int heal,
			       void (*done)(void *arg, int result), void *arg, int *rc)
{
	struct seg *s = find_pinned(st, miss->seg);
	struct list fresh, later;

	*rc = s ? seg_body_get(st, s) : -EIO;
	if (*rc) {
		if (s)
			seg_unpin(st, s);
		return NULL;
	}
	seg_unpin(st, s);
	struct seg_fetch *f = calloc(1, sizeof(*f));
	uint32_t count = s->body->count, to = miss->first + miss->count;
	if (!f)
		*rc = -ENOMEM;
	else if (miss->first > count || to > count + 1 || to < miss->first)
		*rc = -EINVAL;
	else if (!reachable(st, s))
		*rc = -EIO;
	if (*rc) {
		free(f);
		seg_unpin(st, s);
		return NULL;
	}
	f->st = st, f->done = done, f->arg = arg;
	f->deadline = miss->deadline;
	f->heal = heal;
	list_init(&f->fresh);
	list_init(&fresh);
	list_init(&later);
	pthread_mutex_lock(&st->lock);
	*rc = plan_locked(st, s, miss->first, to, MAX(to, count), f, &fresh);
	if (!*rc && !heal && scans_locked(s, miss)) {
		(void)plan_locked(st, s, to, count, count, NULL, &later);
		if (s->misses > SCAN_MISSES)
			(void)plan_locked(st, s, 0, miss->first, miss->first, NULL, &later);
	}
	for (int i = 0; i < f->nparts; i++) {
		struct part *p = &f->parts[i];
		list_init(&p->link);
		if (p->x->state == XFER_DONE || *rc)
			continue;
		list_push_back(&p->x->parts, &p->link);
		f->pending++;
	}
	if (*rc) {
		fetch_free_locked(st, f);
		f = NULL;
	} else if (!f->pending) {
		f->ended = 1;
		st->jobs++;
	}
	int now = f && f->ended;
	seg_unpin_locked(st, s);
	pthread_mutex_unlock(&st->lock);
	start_all(st, &fresh, &later);
	if (now)
		workq_submit(st->fetchq, fetch_end_job, f);
	return f;
}

struct seg_fetch *segstore_fetch(struct segstore *st, const struct seg_miss *miss,
				 void (*done)(void *arg, int result), void *arg, int *rc)
{
	return fetch(st, miss, 0, done, arg, rc);
}

struct seg_fetch *seg_fetch_to_heal(struct segstore *st, const struct seg_miss *miss,
				    void (*done)(void *arg, int result), void *arg, int *rc)
{
	return fetch(st, miss, 1, done, arg, rc);
}

void segstore_fetch_cancel(struct segstore *st, struct seg_fetch *f)
{
	pthread_mutex_lock(&st->lock);
	int go = !f->ended;
	if (go) {
		f->ended = 1;
		f->result = -ECANCELED;
		st->jobs++;
	}
	pthread_mutex_unlock(&st->lock);
	if (go)
		workq_submit(st->fetchq, fetch_end_job, f);
}

void segstore_fetch_release(struct segstore *st, struct seg_fetch *f)
{
	if (!f)
		return;
	SCOPE_LOCK(&st->lock);
	fetch_free_locked(st, f);
}

void segstore_prefetch(struct segstore *st, uint32_t num, uint32_t first, uint32_t count)
{
	struct seg *s = find_pinned(st, num);
	struct list none, later;

	if (!s)
		return;
	list_init(&none);
	list_init(&later);
	int rc = seg_body_get(st, s);
	if (!rc && reachable(st, s)) {
		pthread_mutex_lock(&st->lock);
		uint32_t to =
		    MIN(s->body->count, first + count < first ? UINT32_MAX : first + count);
		(void)plan_locked(st, s, first, to, to, NULL, &later);
		pthread_mutex_unlock(&st->lock);
		start_all(st, &none, &later);
	}
	if (!rc)
		seg_unpin(st, s);
	seg_unpin(st, s);
}
