/* The table of segments, their rows, and what others want to know of them. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "fs/base/buf.h"
#include "fs/base/file.h"

#define DROPS_AT_ONCE 256
#define STUCK         (3 * NS_PER_S)
#define WAIT_LOOK     (200 * NS_PER_MS)

/* --- one segment --- */

struct seg *seg_new(struct segstore *st, uint32_t num, const uint8_t id[16], uint32_t keyno)
{
	struct seg *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->num = num, s->keyno = keyno, s->k = (uint8_t)st->k;
	memcpy(s->id, id, 16);
	list_init(&s->rows);
	list_init(&s->deadlink);
	list_init(&s->work);
	list_init(&s->lru);
	list_init(&s->xfers);
	return s;
}

/* Nobody knows it any more. */
void seg_free(struct segstore *st, struct seg *s)
{
	if (!s)
		return;
	list_remove(&s->rows);
	list_remove(&s->deadlink);
	list_remove(&s->work);
	list_remove(&s->lru);
	if (s->body)
		seg_body_free(s->body);
	if (s->open)
		seg_open_free_locked(st, s);
	free(s);
}

struct seg *seg_find_locked(struct segstore *st, uint32_t num)
{
	struct hash_node *n = hash_find(&st->segs, num);

	return n ? container_of(n, struct seg, node) : NULL;
}

void seg_pin_locked(struct seg *s)
{
	s->pins++;
}

void seg_unpin_locked(struct segstore *st, struct seg *s)
{
	if (--s->pins)
		return;
	if (s->open && s->phase >= SEG_CLOSED)
		seg_open_free_locked(st, s);
	if (st->nbodies > st->max.bodies)
		seg_bodies_trim_locked(st);
}

void seg_unpin(struct segstore *st, struct seg *s)
{
	SCOPE_LOCK(&st->lock);
	seg_unpin_locked(st, s);
}

void seg_set_phase_locked(struct segstore *st, struct seg *s, enum seg_phase phase)
{
	(void)st;
	if (phase < s->phase) {
		log_error("segment %u cannot go from phase %d back to %d", s->num, s->phase, phase);
		abort();
	}
	s->phase = (uint8_t)phase;
}

void seg_path(const struct segstore *st, const struct seg *s, enum seg_place place,
	      char out[SEG_PATH_MAX])
{
	char hex[33];

	hex_put(hex, s->id, 16);
	snprintf(out, SEG_PATH_MAX, "%s/%s.seg",
		 place == PLACE_CACHE ? st->cache_dir : st->staging_dir, hex);
}

/* --- sums --- */

static void account(struct segstore *st, struct seg *s, int sign)
{
	struct segstore_state *t = &st->sums;
	uint64_t u = (uint64_t)sign; /* -1 wraps as it should */
	uint32_t d = (uint32_t)sign, good = s->present & ~s->suspect;

	if (!s->phase)
		return;
	int dispersed = seg_dispersed(st, s);
	*(dispersed && s->phase == SEG_CLOSED ? &t->cached_bytes : &t->staged_bytes) += u * s->disk;
	if (!dispersed && seg_yields(s))
		t->yield_bytes += u * s->disk;
	if (s->row == SEGMENT_DROPPED || s->phase == SEG_GONE) {
		t->dropped += d;
		return;
	}
	if (s->phase == SEG_OPEN)
		t->open += d;
	else if (dispersed)
		t->dispersed += d;
	else if (s->stored)
		t->stored += d;
	else if (s->has_set)
		t->uploading += d;
	else
		t->closed += d;
	uint32_t missing = (uint32_t)st->n - (uint32_t)__builtin_popcount(good);
	if (s->stored) {
		st->by_present[__builtin_popcount(good)] += d;
		if (missing) {
			t->below_n += d;
			t->heal_bytes += u * missing * s->shard_len;
		}
	} else if (s->phase != SEG_OPEN) {
		t->to_upload_bytes += u * missing * s->shard_len;
	}
	for (uint32_t i = 0; i < (uint32_t)st->n; i++) {
		if (!(good >> i & 1))
			continue;
		t->backend_shards[i] += u;
		t->backend_bytes[i] += u * s->shard_len;
	}
}

void seg_account_begin_locked(struct segstore *st, struct seg *s)
{
	account(st, s, -1);
}

void seg_account_end_locked(struct segstore *st, struct seg *s)
{
	account(st, s, 1);
}

uint64_t seg_spare_locked(const struct segstore *st)
{
	uint64_t sum = 0;

	list_for_each (l, &st->opens) {
		const struct seg_open *o = list_entry(l, struct seg_open, link);
		sum += o->allocated > o->pos ? o->allocated - o->pos : 0;
	}
	return sum;
}

void segstore_state(struct segstore *st, struct segstore_state *out)
{
	SCOPE_LOCK(&st->lock);
	*out = st->sums;
	out->cap = st->cap_set;
	out->room = st->cap;
	out->spare_bytes = seg_spare_locked(st);
	out->losses_survivable = st->m;
	for (int i = 0; i <= st->n; i++) {
		if (!st->by_present[i])
			continue;
		out->losses_survivable = i - st->k;
		break;
	}
}

int segstore_losses_now(struct segstore *st)
{
	uint32_t usable = seg_usable_mask(st, 0);
	int least = __builtin_popcount(usable);

	SCOPE_LOCK(&st->lock);
	/* What is on all n stands on every usable backend; the rest is in the list of work. */
	list_for_each (l, &st->work) {
		struct seg *s = list_entry(l, struct seg, work);
		int reach = __builtin_popcount(s->present & ~s->suspect & usable);

		if (s->stored && !s->dead)
			least = MIN(least, reach);
	}
	return least - st->k;
}

int segstore_where(struct segstore *st, uint32_t num, struct seg_where *out)
{
	SCOPE_LOCK(&st->lock);
	struct seg *s = seg_find_locked(st, num);

	*out = (struct seg_where){ .seg = num };
	if (!s)
		return -ENOENT;
	memcpy(out->id, s->id, 16);
	memcpy(out->set, s->set, 16);
	out->level = seg_dispersed(st, s) ? SEG_DISPERSED : s->stored ? SEG_STORED : SEG_STAGED;
	out->open = !s->has_set;
	out->present = s->present & ~s->suspect;
	out->k = s->k;
	out->m = s->has_set ? s->m : st->m;
	out->cached = s->disk > 0;
	return 0;
}

/* --- references --- */

void segstore_ref(struct segstore *st, uint32_t num)
{
	SCOPE_LOCK(&st->lock);
	struct seg *s = seg_find_locked(st, num);

	if (s)
		s->refs++;
}

void segstore_unref(struct segstore *st, uint32_t num)
{
	SCOPE_LOCK(&st->lock);
	struct seg *s = seg_find_locked(st, num);

	if (s && s->refs)
		s->refs--;
}

int segstore_continues(struct segstore *st, uint32_t num, uint32_t first, uint64_t end,
		       uint32_t next_first, uint64_t next_skip)
{
	if (first == next_first)
		return end == next_skip;
	if (next_first < first)
		return 0;
	SCOPE_LOCK(&st->lock);
	struct seg *s = seg_find_locked(st, num);

	if (!s || !s->body || !s->body->ext || s->loading || next_first >= s->body->count)
		return 0;
	return s->body->ext[first].file_pos + end == s->body->ext[next_first].file_pos + next_skip;
}

/* --- commits that we ask for --- */

static void commit_done(void *arg, int result);

/* One at a time: commit_running is set. */
static void commit_next(void *arg)
{
	struct segstore *st = arg;

	pthread_mutex_lock(&st->lock);
	int go = st->commit_wanted || !list_empty(&st->commits);
	st->commit_wanted = 0;
	list_splice_back(&st->commits_running, &st->commits);
	if (!go) {
		st->commit_running = 0;
		pthread_cond_broadcast(&st->changed);
	}
	pthread_mutex_unlock(&st->lock);
	if (go)
		st->commit(st->commit_arg, commit_done, st);
}

static void commit_done(void *arg, int result)
{
	struct segstore *st = arg;
	struct list ready;

	list_init(&ready);
	pthread_mutex_lock(&st->lock);
	list_splice_back(&ready, &st->commits_running);
	st->commit_error = result;
	pthread_mutex_unlock(&st->lock);
	list_for_each_safe (l, &ready) {
		struct commit_wait *w = list_entry(l, struct commit_wait, link);
		list_remove(l);
		w->fn(w->arg, result); /* w may be gone */
	}
	workq_submit(st->uploadq, commit_next, st);
}

static void commit_ask(struct segstore *st, struct commit_wait *w)
{
	pthread_mutex_lock(&st->lock);
	if (w)
		list_push_back(&st->commits, &w->link);
	else
		st->commit_wanted = 1;
	int first = !st->commit_running;
	st->commit_running = 1;
	/* By a job: the caller may be inside of a commit's callback. */
	if (first)
		workq_submit(st->uploadq, commit_next, st);
	pthread_mutex_unlock(&st->lock);
}

void seg_after_commit(struct segstore *st, struct commit_wait *w, void (*fn)(void *arg, int result),
		      void *arg)
{
	w->fn = fn, w->arg = arg;
	commit_ask(st, w);
}

void seg_commit_soon(struct segstore *st)
{
	commit_ask(st, NULL);
}

/* --- rows --- */

/* Meta lock held. Brings one segment's row to `want`. */
static int row_write(struct segstore *st, struct seg *s, uint8_t want)
{
	struct segment_row r = { .num = s->num,
				 .keyno = s->keyno,
				 .code_k = s->k,
				 .state = want,
				 .created = s->created };
	uint8_t *blob;
	size_t n;
	int rc;

	memcpy(r.id, s->id, 16);
	if (want == SEGMENT_CLOSED) {
		r.extents = s->extents;
		r.length = s->length;
	}
	if (!s->row) {
		rc = segment_insert(st->meta, &r);
	} else {
		struct segment_row old;
		rc = segment_get(st->meta, s->num, &old);
		if (rc)
			return rc;
		old.state = want, old.extents = r.extents, old.length = r.length;
		rc = segment_update(st->meta, &old);
	}
	if (rc || want != SEGMENT_CLOSED)
		return rc;
	rc = segio_blob_put(s->body->ext, s->extents, &blob, &n);
	if (rc)
		return rc;
	rc = segment_index_put(st->meta, s->num, blob, n);
	free(blob);
	return rc;
}

int segstore_write_rows(struct segstore *st)
{
	struct seg *s;
	int rc = 0;

	pthread_mutex_lock(&st->lock);
	st->rows_since = 0;
	list_for_each_safe (l, &st->rows) {
		s = list_entry(l, struct seg, rows);
		uint8_t want = s->phase >= SEG_CLOSED ? SEGMENT_CLOSED : SEGMENT_OPEN;
		/* Only what is durable may be named (I1). */
		if (s->row >= want || (want == SEGMENT_OPEN && s->open->synced <= SEG_FILE_HEADER))
			continue;
		seg_pin_locked(s);
		pthread_mutex_unlock(&st->lock);
		rc = row_write(st, s, want);
		pthread_mutex_lock(&st->lock);
		if (!rc) {
			s->row = want;
			if (want == SEGMENT_CLOSED) {
				list_remove(&s->rows);
				/* until segstore_committed: rows of the open transaction */
				list_push_back(&st->rows_written, &s->rows);
			}
		}
		seg_unpin_locked(st, s);
		if (rc)
			break;
	}
	pthread_mutex_unlock(&st->lock);
	return rc;
}

void segstore_committed(struct segstore *st)
{
	pthread_mutex_lock(&st->lock);
	list_for_each_safe (l, &st->rows_written) {
		struct seg *s = list_entry(l, struct seg, rows);
		list_remove(&s->rows);
		s->row_durable = MAX(s->row_durable, SEGMENT_CLOSED);
	}
	pthread_mutex_unlock(&st->lock);
	seg_drop_check(st);
	seg_upload_kick(st);
}

/* --- waiting --- */

int segstore_wait(struct segstore *st, enum seg_level level, int64_t deadline)
{
	return segstore_wait_ticking(st, level, deadline, NULL, NULL);
}

void segstore_wait_begin(struct segstore *st, struct seg_wait *w, enum seg_level level,
			 int64_t deadline)
{
	*w = (struct seg_wait){ .level = level, .deadline = deadline };
	pthread_mutex_lock(&st->lock);
	w->seq = st->close_seq;
	pthread_mutex_unlock(&st->lock);
	seg_commit_soon(st);
	seg_upload_kick(st);
}

int segstore_wait_look(struct segstore *st, struct seg_wait *w)
{
	uint32_t usable = seg_usable_mask(st, 1);
	int64_t now = clock_mono_ns();
	SCOPE_LOCK(&st->lock);
	int left = seg_work_left_locked(st, w->level, w->seq);
	int moves = left && seg_work_can_move_locked(st, w->level, w->seq, usable);

	if (moves)
		w->stuck_since = 0;
	else if (!w->stuck_since)
		w->stuck_since = now;
	if (!left)
		return 0;
	if (w->deadline && now >= w->deadline)
		return -ETIMEDOUT;
	/* A breaker may let a probe through any moment: one round of that. */
	return !moves && now - w->stuck_since > STUCK ? -EIO : -EAGAIN;
}

void segstore_wait_sleep(struct segstore *st, int64_t until)
{
	SCOPE_LOCK(&st->lock);

	cond_wait_until(&st->changed, &st->lock, until);
}

/* Somebody waits for what is healed, or no longer does. */
static void hurry(struct segstore *st, enum seg_level level, int more)
{
	SCOPE_LOCK(&st->lock);

	if (level == SEG_DISPERSED)
		st->pace.hurry += more;
}

int segstore_wait_ticking(struct segstore *st, enum seg_level level, int64_t deadline,
			  int (*tick)(void *arg), void *arg)
{
	struct seg_wait w;
	int rc;

	hurry(st, level, 1);
	segstore_wait_begin(st, &w, level, deadline);
	while ((rc = segstore_wait_look(st, &w)) == -EAGAIN) {
		int64_t until = clock_mono_ns() + WAIT_LOOK;

		segstore_wait_sleep(st, deadline ? MIN(deadline, until) : until);
		if (tick && tick(arg)) {
			rc = -ECANCELED;
			break;
		}
	}
	hurry(st, level, -1);
	return rc;
}

/* --- dropping --- */

struct drop {
	struct segstore *st;
	struct seg *s;
	struct commit_wait commit;
};

/* Committed: the row says DROPPED, or is gone. */
static void drop_files(void *arg)
{
	struct drop *d = arg;
	struct segstore *st = d->st;
	struct seg *s = d->s;
	char path[SEG_PATH_MAX];

	(void)failpoint("drop.unlink");
	if (s->place != PLACE_NONE) {
		seg_path(st, s, s->place, path);
		unlink(path);
	}
	(void)failpoint("drop.done");
	pthread_mutex_lock(&st->lock);
	seg_account_begin_locked(st, s);
	s->place = PLACE_NONE;
	s->disk = 0;
	seg_set_phase_locked(st, s, SEG_GONE);
	seg_account_end_locked(st, s);
	list_remove(&s->lru);
	list_remove(&s->work);
	seg_unpin_locked(st, s);
	if (!s->pins)
		seg_body_drop_locked(st, s);
	if (!s->has_set && !s->pins && !s->refs) {
		seg_account_begin_locked(st, s);
		hash_remove(&st->segs, &s->node);
		seg_free(st, s);
	}
	st->jobs--;
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	free(d);
}

static void drop_committed(void *arg, int result)
{
	struct drop *d = arg;

	if (!result) {
		workq_submit(d->st->uploadq, drop_files, d);
		return;
	}
	pthread_mutex_lock(&d->st->lock);
	seg_unpin_locked(d->st, d->s);
	d->st->jobs--;
	pthread_cond_broadcast(&d->st->changed);
	pthread_mutex_unlock(&d->st->lock);
	free(d);
}

/* Meta lock held: really dead? Then it is so in the database as well. */
static int drop_row(struct segstore *st, struct seg *s)
{
	struct segment_row r;

	int rc = failpoint("drop.row");
	if (!rc)
		rc = segment_get(st->meta, s->num, &r);
	if (rc)
		return rc;
	if (r.live)
		return -EBUSY;
	/* Never put anywhere: nothing remembers it. Objects are deleted later, when a published
	 * record condemned them (I5). */
	if (!s->has_set)
		return segment_delete(st->meta, s->num);
	r.state = SEGMENT_DROPPED;
	return segment_update(st->meta, &r);
}

/* Nobody can come to it any more: no row, no place in memory, no work under way. */
static int droppable_locked(const struct seg *s)
{
	return s->dead && !s->dropping && !s->refs && !s->pins && !s->busy && !s->moving &&
	       s->phase == SEG_CLOSED && s->row_durable >= SEGMENT_CLOSED &&
	       list_empty(&s->xfers) && !s->pushing;
}

/* Who comes to a segment through a row holds the meta lock until he holds a reference: with that
 * lock and no reference nobody is on the way. */
static void drop_try(struct segstore *st, struct seg *s)
{
	struct drop *d = malloc(sizeof(*d));
	int rc = -ENOMEM;

	meta_lock(st->meta);
	pthread_mutex_lock(&st->lock);
	int ok = d && droppable_locked(s);
	pthread_mutex_unlock(&st->lock);
	if (ok)
		rc = drop_row(st, s);
	pthread_mutex_lock(&st->lock);
	if (!rc) {
		seg_account_begin_locked(st, s);
		s->dropping = 1;
		s->row = SEGMENT_DROPPED;
		seg_account_end_locked(st, s);
		list_remove(&s->work);
		seg_pin_locked(s);
		st->jobs++;
	}
	/* It lives again, or the database does not know it: told anew when that changes. */
	s->dead = rc && rc != -EBUSY && rc != -ENOENT;
	if (s->dead)
		list_push_back(&st->dead, &s->deadlink);
	pthread_mutex_unlock(&st->lock);
	meta_unlock(st->meta);
	if (rc) {
		free(d);
		return;
	}
	*d = (struct drop){ .st = st, .s = s };
	seg_after_commit(st, &d->commit, drop_committed, d);
}

/* A droppable one out of the list. Called by segstore_committed only, so one at a time. */
static struct seg *dead_take(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);
	list_for_each (l, &st->dead) {
		struct seg *s = list_entry(l, struct seg, deadlink);
		if (!droppable_locked(s))
			continue;
		list_remove(&s->deadlink);
		return s;
	}
	return NULL;
}

/* Meta lock held. Nothing in memory names it either: 1, and it will be dropped. */
int seg_dead_mark(struct segstore *st, struct seg *s)
{
	SCOPE_LOCK(&st->lock);
	if (s->refs)
		return 0;
	s->dead = 1;
	if (list_empty(&s->deadlink))
		list_push_back(&st->dead, &s->deadlink);
	return 1;
}

/* Meta lock held. Rows may name one again that was dead (cloned from what was still in memory). */
static void dead_recheck(struct segstore *st)
{
	struct seg *some[64];
	struct segment_row r;
	int n = 0;

	pthread_mutex_lock(&st->lock);
	list_for_each (l, &st->dead) {
		if (n < (int)ARRAY_LEN(some))
			some[n++] = list_entry(l, struct seg, deadlink);
	}
	pthread_mutex_unlock(&st->lock);
	for (int i = 0; i < n; i++) {
		if (segment_get(st->meta, some[i]->num, &r) || !r.live)
			continue;
		pthread_mutex_lock(&st->lock);
		some[i]->dead = 0;
		list_remove(&some[i]->deadlink);
		pthread_mutex_unlock(&st->lock);
	}
}

void seg_drop_check(struct segstore *st)
{
	uint32_t nums[64];
	struct seg *s;
	int n;

	meta_lock(st->meta);
	do {
		n = segment_take_dead(st->meta, nums, (int)ARRAY_LEN(nums));
		pthread_mutex_lock(&st->lock);
		for (int i = 0; i < n; i++) {
			s = seg_find_locked(st, nums[i]);
			if (s && !s->dead) {
				s->dead = 1;
				list_push_back(&st->dead, &s->deadlink);
			}
		}
		pthread_mutex_unlock(&st->lock);
	} while (n == (int)ARRAY_LEN(nums));
	dead_recheck(st);
	meta_unlock(st->meta);
	for (int i = 0; i < DROPS_AT_ONCE && (s = dead_take(st)); i++)
		drop_try(st, s);
}
