/* What is known of a segment's shards: quorum, what is missing, the way of these facts into the
 * database, and the clock that has missing ones tried again. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <string.h>

int seg_quorum_min(const struct segstore *st)
{
	return MAX(st->k, st->n / 2 + 1);
}

void seg_work_add_locked(struct segstore *st, struct seg *s)
{
	if (list_empty(&s->work))
		list_push_back(&st->work, &s->work);
}

/* Shards that ought to be put. */
uint32_t seg_missing_locked(const struct segstore *st, const struct seg *s)
{
	return st->all & ~((s->present & ~s->suspect) | s->unknown);
}

/* Missing or wrong, as it seems now: to be put again, and asked last. But not forgotten: a backend
 * that answers "not found" to everything for a while would otherwise make data unreachable that is
 * there. */
void seg_doubt_locked(struct seg *s, uint32_t shards)
{
	uint32_t known = shards & (s->present | s->unknown);

	s->present |= known;
	s->suspect |= known;
	s->unknown &= ~known;
}

/* --- at quorum? --- */

/* failed: backends that just refused; they are not healthy, whatever their breaker says yet. */
int seg_at_quorum(const struct segstore *st, const struct seg *s, uint32_t usable, uint32_t failed)
{
	int have = seg_good_shards(s), min = seg_quorum_min(st);

	if (st->quorum)
		return have >= MIN(MAX(st->quorum, min), st->n);
	return have >= min && !(usable & ~failed & seg_missing_locked(st, s));
}

void seg_stored_locked(struct segstore *st, struct seg *s)
{
	if (s->stored)
		return;
	seg_account_begin_locked(st, s);
	s->stored = 1;
	seg_account_end_locked(st, s);
	s->dirty_row = 1;
	pthread_cond_broadcast(&st->changed);
}

/* --- facts to meta --- */

struct facts {
	struct segstore *st;
	struct seg *s;
	uint32_t present;
	struct commit_wait commit;
};

static void facts_job(void *arg);
static void move_job(void *arg);

static void facts_end(struct facts *f)
{
	struct segstore *st = f->st;

	pthread_mutex_lock(&st->lock);
	int again = f->s->pushing == 2;
	f->s->pushing = (uint8_t)again;
	if (!again) {
		st->jobs--;
		seg_unpin_locked(st, f->s);
		pthread_cond_broadcast(&st->changed);
	}
	pthread_mutex_unlock(&st->lock);
	if (again)
		workq_submit(st->uploadq, facts_job, f);
	else
		free(f);
}

static void facts_committed(void *arg, int result)
{
	struct facts *f = arg;

	(void)failpoint("stored.committed");
	pthread_mutex_lock(&f->st->lock);
	if (!result) {
		seg_account_begin_locked(f->st, f->s);
		f->s->present_durable = f->present;
		seg_account_end_locked(f->st, f->s);
	}
	if (!seg_missing_locked(f->st, f->s) && !f->s->busy)
		list_remove(&f->s->work);
	pthread_mutex_unlock(&f->st->lock);
	workq_submit(f->st->uploadq, move_job, f);
}

static void move_job(void *arg)
{
	struct facts *f = arg;

	seg_move_to_cache(f->st, f->s);
	facts_end(f);
}

static int facts_write(struct segstore *st, struct seg *s, const uint8_t set[16], int stored,
		       uint32_t present, uint32_t suspect)
{
	struct segment_row r;

	int rc = failpoint("stored.rows");
	if (!rc)
		rc = coding_set_present(st->meta, set, present, suspect);
	if (rc || !stored)
		return rc;
	rc = segment_get(st->meta, s->num, &r);
	if (rc || r.state >= SEGMENT_STORED)
		return rc;
	rc = coding_set_state(st->meta, set, CODING_STORED);
	r.state = SEGMENT_STORED;
	return rc ? rc : segment_update(st->meta, &r);
}

static void facts_job(void *arg)
{
	struct facts *f = arg;
	struct segstore *st = f->st;
	struct seg *s = f->s;

	meta_lock(st->meta);
	pthread_mutex_lock(&st->lock);
	uint32_t present = s->present & ~s->suspect, suspect = s->suspect, raw = s->present;
	int stored = s->stored, skip = s->row == SEGMENT_DROPPED || !s->has_set;
	s->dirty_row = 0;
	pthread_mutex_unlock(&st->lock);
	int rc = skip ? -ENOENT : facts_write(st, s, s->set, stored, raw, suspect);
	meta_unlock(st->meta);
	f->present = present;
	if (rc) {
		if (!skip)
			log_error("what is known of segment %u cannot be written down: %s", s->num,
				  strerror(-rc));
		facts_end(f);
		return;
	}
	seg_after_commit(st, &f->commit, facts_committed, f);
}

void seg_push_facts(struct segstore *st, struct seg *s)
{
	struct facts *f = malloc(sizeof(*f));

	pthread_mutex_lock(&st->lock);
	int go = f && !s->pushing && s->has_set;
	if (s->pushing)
		s->pushing = 2;
	if (go) {
		s->pushing = 1;
		st->jobs++;
		seg_pin_locked(s);
		*f = (struct facts){ .st = st, .s = s };
	}
	pthread_mutex_unlock(&st->lock);
	if (go)
		workq_submit(st->uploadq, facts_job, f);
	else
		free(f);
}

/* Somebody who read found shards missing or wrong. */
void seg_report_shards(struct segstore *st, struct seg *s, uint32_t missing, uint32_t bad)
{
	pthread_mutex_lock(&st->lock);
	uint32_t gone = missing & ~s->suspect, wrong = bad & ~s->suspect;
	seg_account_begin_locked(st, s);
	seg_doubt_locked(s, missing | bad);
	seg_account_end_locked(st, s);
	if (gone | wrong) {
		s->retry_at = clock_mono_ns() + SEG_RETRY_FIRST; /* reading goes first */
		s->dirty_row = 1;
		seg_work_add_locked(st, s);
	}
	pthread_mutex_unlock(&st->lock);
	for (int i = 0; i < st->n; i++) {
		if (wrong >> i & 1)
			log_warn("backend %s delivered wrong bytes for shard %d of segment %u; "
				 "they were not used, and the shard will be replaced",
				 st->backends[i]->name, i, s->num);
		if (gone >> i & 1) {
			log_warn("backend %s has lost shard %d of segment %u; it will be put again",
				 st->backends[i]->name, i, s->num);
			seg_verify_due(st, i);
		}
	}
	if (gone | wrong) {
		(void)failpoint("heal.doubt");
		seg_push_facts(st, s);
	}
}

/* --- for segstore_wait --- */

static int level_reached(const struct segstore *st, const struct seg *s, enum seg_level level)
{
	if (level == SEG_STAGED)
		return s->row_durable >= SEGMENT_CLOSED;
	return level == SEG_STORED ? s->stored : seg_dispersed(st, s);
}

int seg_work_left_locked(struct segstore *st, enum seg_level level, uint64_t seq)
{
	list_for_each (l, &st->work) {
		struct seg *s = list_entry(l, struct seg, work);
		if (s->close_seq <= seq && !s->dead && !level_reached(st, s, level))
			return 1;
	}
	return 0;
}

int seg_work_can_move_locked(struct segstore *st, enum seg_level level, uint64_t seq,
			     uint32_t usable)
{
	list_for_each (l, &st->work) {
		struct seg *s = list_entry(l, struct seg, work);
		if (s->close_seq > seq || s->dead || level_reached(st, s, level))
			continue;
		/* Nobody commits on a disk that failed: waiting would never end. */
		if (st->commit_error && (s->row_durable < SEGMENT_CLOSED || !s->set_durable))
			continue;
		if (s->row_durable < SEGMENT_CLOSED)
			return !st->sync_error;
		/* Enough backends to get there? */
		int reach = __builtin_popcount((s->present & ~s->suspect) | usable);
		/* A backend that refused more than twice may be let in for a probe at any moment,
		 * and a file that could not be read three times, or a database that commits
		 * nothing any more, may do so again: that alone is no movement, or a caller would
		 * wait for ever. */
		uint32_t hopeless = s->retry_delay > 2 * SEG_RETRY_FIRST ? s->last_failed : 0;
		if (seg_missing_locked(st, s) & usable & ~hopeless &&
		    reach >= (level == SEG_DISPERSED ? st->n : seg_quorum_min(st)))
			return 1;
	}
	return 0;
}

/* --- the clock --- */

#define TICK (500 * NS_PER_MS)

static int tick_look(struct segstore *st, uint32_t usable, struct seg **dirty, int max)
{
	int n = 0;

	SCOPE_LOCK(&st->lock);
	uint32_t back = usable & ~st->usable_seen;
	int changed = st->backend_change;
	st->usable_seen = usable;
	st->backend_change = 0;
	list_for_each (l, &st->work) {
		struct seg *s = list_entry(l, struct seg, work);
		if (back & seg_missing_locked(st, s))
			s->retry_at = 0;
		/* "Every healthy backend" may be fewer now. */
		if (changed && !s->busy && s->has_set && !s->stored &&
		    seg_at_quorum(st, s, usable, 0))
			seg_stored_locked(st, s);
		if (s->dirty_row && !s->pushing && n < max) {
			seg_pin_locked(s);
			dirty[n++] = s;
		}
	}
	return n;
}

/* Notices what changed at the backends; retries that are due begin. */
static void look(void *arg)
{
	struct segstore *st = arg;
	struct seg *dirty[64];

	int n = tick_look(st, seg_usable_mask(st, 1), dirty, (int)ARRAY_LEN(dirty));
	for (int i = 0; i < n; i++) {
		seg_push_facts(st, dirty[i]);
		seg_unpin(st, dirty[i]);
	}
	seg_verify_run(st);
	seg_upload_stragglers(st);
	seg_upload_kick(st);
}

void seg_tick(void *arg)
{
	struct segstore *st = arg;

	pthread_mutex_lock(&st->lock);
	int go = !st->stopping;
	if (go)
		workq_submit_at(st->uploadq, clock_mono_ns() + TICK, seg_tick, st);
	pthread_mutex_unlock(&st->lock);
	if (go)
		look(st);
}

void segstore_backend_changed(struct segstore *st)
{
	pthread_mutex_lock(&st->lock);
	int go = !st->backend_change && st->started && !st->stopping;
	st->backend_change = 1;
	if (go)
		workq_submit(st->uploadq, look, st);
	pthread_mutex_unlock(&st->lock);
}
