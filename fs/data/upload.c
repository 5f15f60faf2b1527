/* Uploading and healing, which are one thing: put those shards of a segment that are not known to
 * be on their backends.
 *
 *   (no set id) -> draw one, rows, commit -> code -> put -> facts to meta -> again later, or done
 *
 * Before the first put under a set id it is committed; every put is "if absent", and what is there
 * already is compared (I4), so trying again, also after a crash, does no harm. Every extent's tag
 * is verified before a fragment of it gets a MAC, so that damage here never spreads. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "backends/fanout.h"
#include "crypto/secmem.h"

/* Segments that are not at quorum, at once. More than two only hide latency; where less than
 * EARLY_RATE bytes go out a second, the first would be stored later, and the last no sooner. */
#define EARLY_MAX  4
#define EARLY_MIN  2
#define EARLY_RATE (16u << 20)
#define ALL_MAX    7 /* with those that only wait for a slow backend */
#define HEALS_MAX  1
#define RETRY_MAX  (60 * NS_PER_S)
#define PUT_TIME   (60 * NS_PER_S)
#define PUT_RATE   (256u << 10) /* bytes per second that are expected at least */
/* How long "every healthy backend" waits for the last ones, once there is a quorum without them. */
#define STALL_MIN   (5 * NS_PER_S)
#define STALL_TIMES 8 /* what the quorum took */

struct upload {
	struct list link; /* by lock: of st->running_uploads */
	struct segstore *st;
	struct seg *seg; /* pinned, busy */
	int heal;        /* it was at quorum before */
	int early;       /* by lock: counts in uploads_early */
	uint64_t bytes;  /* by lock: of its shards; counts in upload_bytes */
	int sent;        /* by lock: fanout_put has returned, it may be cancelled */
	int refs;        /* by lock */
	int result;
	uint32_t todo, done, failed, differs; /* by lock while it runs */
	uint32_t stalled;                     /* by lock: did not answer when the others had */
	int64_t begun, stall_at;              /* by lock; putting; stall_at 0: no quorum yet */
	uint32_t fixing;                      /* objects that differ, deleted and put once more */
	int fix_left;                         /* by lock */
	int unsent; /* it ended before the first put: no file, no memory, no commit */
	struct commit_wait commit;
	struct shards shards;
	char keys[FANOUT_MAX][SHARD_KEY_MAX];
	const char *key[FANOUT_MAX];
	struct iovec iov[FANOUT_MAX];
	const struct iovec *iovp[FANOUT_MAX];
	struct backend_req del[FANOUT_MAX];
	struct fanout_put put;
	struct seg_fetch *fetch;
	int fetch_left; /* by lock: who starts it and who ends it; the later one goes on */
};

/* --- choosing --- */

/* Worth an attempt now? */
static int eligible_locked(const struct segstore *st, const struct seg *s, uint32_t usable,
			   int64_t now)
{
	if (s->phase != SEG_CLOSED || s->row_durable < SEGMENT_CLOSED || s->dropping || s->busy ||
	    s->dead || now < s->retry_at)
		return 0;
	if (s->k != st->k || (s->has_set && s->m != st->m))
		return 0; /* of another code: the cleaner's business */
	return (seg_missing_locked(st, s) & usable) != 0;
}

/* Bytes of the shards that are to be put. */
static uint64_t shards_bytes(const struct seg *s, uint32_t todo)
{
	return (uint64_t)s->shard_len * (unsigned)__builtin_popcount(todo);
}

/* What this upload counts in upload_bytes from now on. */
static void count_memory_locked(struct segstore *st, struct upload *u, uint64_t bytes)
{
	st->upload_bytes = st->upload_bytes - u->bytes + bytes;
	u->bytes = bytes;
}

/* Is there memory for these shards? One may always go on that is not at quorum: what heals, or
 * waits for a backend that hangs, may hold its own for minutes. It holds no more than is given, or
 * than this one takes, so together they have twice that at most. */
static int memory_fits_locked(const struct segstore *st, int heal, uint64_t bytes)
{
	if (!heal && !st->uploads_early)
		return st->upload_bytes <= MAX(st->max.upload, bytes);
	return !st->uploads || st->upload_bytes + bytes <= st->max.upload;
}

static struct upload *upload_new_locked(struct segstore *st, struct seg *s, uint64_t bytes)
{
	struct upload *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->st = st, u->seg = s;
	u->refs = 1;
	u->heal = s->stored;
	u->early = !s->stored;
	seg_pin_locked(s);
	seg_account_begin_locked(st, s);
	s->busy = 1;
	seg_account_end_locked(st, s);
	st->uploads++;
	st->uploads_early += u->early;
	st->heals += u->heal;
	count_memory_locked(st, u, bytes);
	list_push_back(&st->running_uploads, &u->link);
	return u;
}

static struct upload *pick_locked(struct segstore *st, uint32_t usable, int64_t now)
{
	int early_max = st->put_rate >= EARLY_RATE ? EARLY_MAX : EARLY_MIN;

	if (st->uploads >= ALL_MAX)
		return NULL;
	for (int heal = 0; heal < 2; heal++) {
		if (heal ? st->heals >= HEALS_MAX : st->uploads_early >= early_max)
			continue;
		list_for_each (l, &st->work) {
			struct seg *s = list_entry(l, struct seg, work);
			uint32_t todo = seg_missing_locked(st, s) & usable;
			if (s->stored != heal || !eligible_locked(st, s, usable, now))
				continue;
			if (!memory_fits_locked(st, heal, shards_bytes(s, todo)))
				return NULL;
			if (heal && seg_pace_waits_locked(st, now))
				return NULL;
			if (heal)
				seg_pace_begin_locked(st, s, todo, now);
			return upload_new_locked(st, s, shards_bytes(s, todo));
		}
	}
	return NULL;
}

static void upload_begin(void *arg);

void seg_upload_kick(struct segstore *st)
{
	uint32_t usable = seg_usable_mask(st, 1);

	for (;;) {
		pthread_mutex_lock(&st->lock);
		struct upload *u =
		    st->started && !st->stopping ? pick_locked(st, usable, clock_mono_ns()) : NULL;
		pthread_mutex_unlock(&st->lock);
		if (!u)
			return;
		workq_submit(st->uploadq, upload_begin, u);
	}
}

/* --- ending --- */

static void upload_free(struct upload *u)
{
	shards_release(&u->shards);
	free(u);
}

static void upload_unref_locked(struct upload *u)
{
	if (--u->refs == 0)
		upload_free(u);
}

static void early_end_locked(struct segstore *st, struct upload *u)
{
	st->uploads_early -= u->early;
	u->early = 0;
}

static void upload_end(struct upload *u)
{
	struct segstore *st = u->st;
	struct seg *s = u->seg;
	uint32_t usable = seg_usable_mask(st, 1);

	pthread_mutex_lock(&st->lock);
	if (s->has_set && seg_at_quorum(st, s, usable, u->failed | u->stalled))
		seg_stored_locked(st, s);
	s->last_failed = u->unsent ? UINT32_MAX : u->failed;
	if (u->failed && !u->done)
		st->put_rate = 0;
	if (seg_missing_locked(st, s)) {
		s->retry_delay = u->done ? SEG_RETRY_FIRST : s->retry_delay * 2;
		s->retry_delay = MIN(MAX(s->retry_delay, SEG_RETRY_FIRST), RETRY_MAX);
		s->retry_at = clock_mono_ns() + s->retry_delay;
		list_remove(&s->work); /* others first */
		list_push_back(&st->work, &s->work);
	} else {
		s->retry_delay = 0;
		list_remove(&s->work);
	}
	int push = u->done != 0 || s->dirty_row;
	seg_account_begin_locked(st, s);
	s->busy = 0;
	seg_account_end_locked(st, s);
	early_end_locked(st, u);
	st->heals -= u->heal;
	st->uploads--;
	count_memory_locked(st, u, 0);
	list_remove(&u->link);
	pthread_mutex_unlock(&st->lock);
	if (push)
		seg_push_facts(st, s);
	pthread_mutex_lock(&st->lock);
	seg_unpin_locked(st, s);
	upload_unref_locked(u);
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	seg_upload_kick(st);
}

static void upload_end_job(void *arg)
{
	upload_end(arg);
}

/* --- the set id --- */

static void upload_source(void *arg);

static void set_committed(void *arg, int result)
{
	struct upload *u = arg;

	if (result) {
		u->unsent = 1;
		workq_submit(u->st->uploadq, upload_end_job, u);
		return;
	}
	pthread_mutex_lock(&u->st->lock);
	seg_account_begin_locked(u->st, u->seg);
	u->seg->set_durable = 1;
	seg_account_end_locked(u->st, u->seg);
	pthread_mutex_unlock(&u->st->lock);
	workq_submit(u->st->uploadq, upload_source, u);
}

/* Meta lock held. */
static int set_write(struct segstore *st, struct seg *s, const uint8_t set[16])
{
	struct coding_row c = {
		.seg = s->num, .k = (uint8_t)st->k, .m = (uint8_t)st->m, .state = CODING_UPLOADING
	};
	struct segment_row r;

	memcpy(c.set, set, 16);
	int rc = segment_get(st->meta, s->num, &r);
	if (rc)
		return rc;
	if (!r.live && seg_dead_mark(st, s))
		return -ECANCELED; /* it died meanwhile: dropped soon, without any object */
	rc = coding_insert(st->meta, &c);
	if (rc)
		return rc;
	r.state = MAX(r.state, SEGMENT_UPLOADING);
	return segment_update(st->meta, &r);
}

static void upload_begin(void *arg)
{
	struct upload *u = arg;
	struct segstore *st = u->st;
	struct seg *s = u->seg;
	uint8_t set[16];

	if (s->set_durable) {
		upload_source(u);
		return;
	}
	if (!s->has_set) {
		random_bytes(set, sizeof(set));
		meta_lock(st->meta);
		int rc = failpoint("upload.begin");
		if (!rc)
			rc = set_write(st, s, set);
		if (!rc) {
			pthread_mutex_lock(&st->lock);
			seg_account_begin_locked(st, s);
			memcpy(s->set, set, 16);
			s->m = (uint8_t)st->m;
			s->has_set = 1;
			s->row = MAX(s->row, SEGMENT_UPLOADING);
			seg_account_end_locked(st, s);
			pthread_mutex_unlock(&st->lock);
		}
		meta_unlock(st->meta);
		if (rc) {
			u->unsent = 1;
			upload_end(u);
			return;
		}
	}
	(void)failpoint("upload.set");
	/* keeps the rule "committed before the first put" */
	seg_after_commit(st, &u->commit, set_committed, u);
}

/* --- the source: the local file, or what k backends have --- */

static void upload_code(void *arg);

static void fetch_step(struct upload *u)
{
	pthread_mutex_lock(&u->st->lock);
	int last = --u->fetch_left == 0;
	pthread_mutex_unlock(&u->st->lock);
	if (last)
		workq_submit(u->st->uploadq, upload_code, u);
}

static void source_fetched(void *arg, int result)
{
	struct upload *u = arg;

	u->result = result;
	fetch_step(u);
}

static void nowhere(struct segstore *st, struct seg *s)
{
	pthread_mutex_lock(&st->lock);
	int first = !s->damaged;
	s->damaged = 1;
	pthread_mutex_unlock(&st->lock);
	if (first)
		log_error("segment %u is neither here nor on enough backends: its bytes are lost "
			  "unless they come back",
			  s->num);
}

static void upload_source(void *arg)
{
	struct upload *u = arg;
	struct segstore *st = u->st;
	struct seg *s = u->seg;
	struct seg_miss all = { .seg = s->num };
	int rc = failpoint("upload.commit");

	if (!rc)
		rc = seg_body_get(st, s);
	if (rc) {
		u->unsent = 1;
		upload_end(u);
		return;
	}
	/* The body's pin is ours until upload_code gives it back. */
	all.count = s->body->count + 1;
	pthread_mutex_lock(&st->lock);
	int whole = seg_whole_locked(s), can = seg_fetchable(s);
	pthread_mutex_unlock(&st->lock);
	if (whole) {
		upload_code(u);
		return;
	}
	u->fetch_left = 2;
	if (can)
		u->fetch = seg_fetch_to_heal(st, &all, source_fetched, u, &rc);
	if (!u->fetch) {
		u->result = can ? rc : -ENOENT;
		if (!can)
			nowhere(st, s);
		upload_code(u);
		return;
	}
	fetch_step(u);
}

/* --- putting --- */

/* At quorum: what went out a second meanwhile, for this segment. */
static void put_rate_locked(struct segstore *st, const struct upload *u)
{
	int64_t took = MAX(clock_mono_ns() - u->begun, NS_PER_MS);
	uint64_t bytes = (uint64_t)u->shards.len * (unsigned)__builtin_popcount(u->done);

	st->put_rate = bytes * NS_PER_S / (uint64_t)took;
}

/* Where bandwidth is limited: how long all that is on its way may take. A put that waits for its
 * turn behind others says nothing about its backend. */
static int64_t limited_ns_locked(const struct segstore *st)
{
	uint64_t rate = bandwidth_rate(st->bandwidth, BANDWIDTH_UP);

	return rate ? (int64_t)((double)st->upload_bytes / (double)rate * NS_PER_S) : 0;
}

static void put_progress(struct fanout_put *f, int i, int result)
{
	struct upload *u = f->user;
	struct segstore *st = u->st;
	struct seg *s = u->seg;
	uint32_t bit = 1u << i;
	/* A test may let an answer get lost here. */
	int lost = failpoint("upload.put");
	int kick = 0, push = 0;
	uint8_t *shard = NULL;

	uint32_t usable = seg_usable_mask(st, 1);
	pthread_mutex_lock(&st->lock);
	if (!result && !lost) {
		seg_account_begin_locked(st, s);
		s->present |= bit;
		s->suspect &= ~bit;
		seg_account_end_locked(st, s);
		u->done |= bit;
		u->failed &= ~bit;
		/* A slow backend must hold up its own shard's memory only, not that of all others.
		 */
		shard = u->shards.p[i];
		u->shards.p[i] = NULL;
		count_memory_locked(st, u, u->bytes - MIN(u->bytes, u->shards.len));
		kick = 1;
	} else {
		u->failed |= bit;
		if (result == -ESTALE)
			u->differs |= bit;
	}
	int64_t now = clock_mono_ns();
	if (!u->stall_at && seg_good_shards(s) >= seg_quorum_min(st))
		u->stall_at =
		    now + MAX(STALL_MIN, STALL_TIMES * (now - u->begun)) + limited_ns_locked(st);
	if (!s->stored && seg_at_quorum(st, s, usable, u->failed)) {
		seg_stored_locked(st, s);
		push = u->early;
		put_rate_locked(st, u);
		early_end_locked(st, u);
	}
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	free(shard);
	if (push) {
		(void)failpoint("upload.quorum");
		seg_push_facts(st, s);
	}
	if (push || kick)
		seg_upload_kick(st);
}

/* One that hangs would hold up everything for as long as its puts have time, and each of the next
 * ones as well. Its put goes on, but is not waited for, and its health knows. */
static uint32_t straggler_locked(struct segstore *st, struct upload *u, uint32_t usable,
				 int64_t now)
{
	if (!u->early || !u->sent || !u->stall_at || now < u->stall_at || u->stalled)
		return 0;
	u->stalled = u->todo & ~u->done & ~u->failed;
	if (seg_at_quorum(st, u->seg, usable, u->failed | u->stalled)) {
		seg_stored_locked(st, u->seg);
		early_end_locked(st, u);
	}
	return u->stalled;
}

void seg_upload_stragglers(struct segstore *st)
{
	uint32_t usable = seg_usable_mask(st, 1);
	struct {
		struct seg *s;
		uint32_t who;
	} some[ALL_MAX];
	int n = 0;

	pthread_mutex_lock(&st->lock);
	list_for_each (l, &st->running_uploads) {
		struct upload *u = list_entry(l, struct upload, link);
		uint32_t who = n < ALL_MAX ? straggler_locked(st, u, usable, clock_mono_ns()) : 0;
		if (!who)
			continue;
		seg_pin_locked(u->seg);
		some[n].s = u->seg;
		some[n++].who = who;
	}
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	for (int i = 0; i < n; i++) {
		for (int b = 0; b < st->n; b++)
			if (some[i].who >> b & 1)
				health_report_stall(st->backends[b]);
		seg_push_facts(st, some[i].s);
		seg_unpin(st, some[i].s);
	}
}

static void put_done(struct fanout_put *f);

/* Bytes per second that are expected at least, of which other uploads take their part. */
static int64_t put_rate(struct segstore *st)
{
	uint64_t limit = bandwidth_rate(st->bandwidth, BANDWIDTH_UP) / (ALL_MAX / EARLY_MAX + 1);

	return limit ? (int64_t)MIN(limit, PUT_RATE) : PUT_RATE;
}

static void put_start(struct upload *u, uint32_t todo)
{
	struct segstore *st = u->st;
	int64_t bytes = (int64_t)u->shards.len * __builtin_popcount(todo) * EARLY_MAX;
	int64_t rate = put_rate(st);

	u->begun = clock_mono_ns();
	u->put = (struct fanout_put){
		.backends = st->backends,
		.n = st->n,
		.todo = todo,
		.keys = u->key,
		.iov = u->iovp,
		.iovs = 1,
		.flags = BACKEND_IF_ABSENT | (u->heal ? BACKEND_BACKGROUND : 0),
		.deadline = clock_mono_ns() + PUT_TIME + bytes * NS_PER_S / rate,
		.progress = put_progress,
		.done = put_done,
		.user = u,
	};
	for (int i = 0; i < st->n; i++) {
		shard_key(u->keys[i], u->seg->set, i);
		u->key[i] = u->keys[i];
		u->iov[i] = (struct iovec){ u->shards.p[i], u->shards.len };
		u->iovp[i] = &u->iov[i];
	}
	pthread_mutex_lock(&st->lock);
	u->refs++;
	int stopping = st->stopping;
	pthread_mutex_unlock(&st->lock);
	if (stopping)
		upload_end(u);
	else
		fanout_put(&u->put);
	pthread_mutex_lock(&st->lock);
	u->sent = !stopping;
	upload_unref_locked(u);
	pthread_mutex_unlock(&st->lock);
}

/* Another object than ours stands under the key, read in whole and compared by the fan-out: its
 * bytes rotted. It is not an overwrite to put the right ones there (I4: the set id is ours alone).
 */
static void fix_put_job(void *arg)
{
	struct upload *u = arg;

	put_start(u, u->fixing);
}

static void deleted(struct backend_req *req)
{
	struct upload *u = req->user;

	pthread_mutex_lock(&u->st->lock);
	int last = --u->fix_left == 0;
	pthread_mutex_unlock(&u->st->lock);
	if (last)
		workq_submit(u->st->uploadq, fix_put_job, u);
}

static void fix(struct upload *u)
{
	struct segstore *st = u->st;

	u->fixing = u->differs;
	u->fix_left = __builtin_popcount(u->fixing);
	for (int i = 0; i < st->n; i++) {
		if (!(u->fixing >> i & 1))
			continue;
		log_warn("backend %s holds other bytes than it was given as shard %d of segment "
			 "%u: it is "
			 "replaced",
			 st->backends[i]->name, i, u->seg->num);
		u->del[i] = (struct backend_req){
			.op = BACKEND_DELETE,
			.key = u->key[i],
			.deadline = clock_mono_ns() + PUT_TIME,
			.done = deleted,
			.user = u,
		};
	}
	/* After the last is submitted u may be gone. */
	uint32_t left = u->fixing;
	for (int i = 0; left; i++) {
		if (!(left >> i & 1))
			continue;
		left &= ~(1u << i);
		backend_submit(st->backends[i], &u->del[i]);
	}
}

static void put_ended(void *arg)
{
	struct upload *u = arg;
	struct segstore *st = u->st;

	pthread_mutex_lock(&st->lock);
	u->sent = 0;
	int differs = u->differs && !u->fixing && !st->stopping;
	pthread_mutex_unlock(&st->lock);
	(void)failpoint("upload.done");
	if (u->heal)
		(void)failpoint("heal.done");
	if (differs)
		fix(u);
	else
		upload_end(u);
}

static void put_done(struct fanout_put *f)
{
	struct upload *u = f->user;

	workq_submit(u->st->uploadq, put_ended, u);
}

static void upload_code(void *arg)
{
	struct upload *u = arg;
	struct segstore *st = u->st;
	struct seg *s = u->seg;
	uint32_t usable = seg_usable_mask(st, 1);

	pthread_mutex_lock(&st->lock);
	u->todo = seg_missing_locked(st, s) & usable;
	count_memory_locked(st, u, shards_bytes(s, u->todo));
	pthread_mutex_unlock(&st->lock);
	int rc = u->result;
	if (!rc)
		rc = failpoint("upload.code");
	if (!rc && u->heal)
		rc = failpoint("heal.begin");
	if (!rc)
		rc = u->todo ? shards_make(st, s, u->todo, &u->shards) : -EAGAIN;
	/* Damage was said where it was found; what is missing is fetched next time. */
	if (rc && rc != -EAGAIN && rc != -ENOENT && rc != -EBADMSG && !u->result)
		log_error("segment %u cannot be coded: %s", s->num, strerror(-rc));
	/* The shards are all that is needed: the segment's bytes, which may be as much as all
	 * memory for transfers, are not kept while they are put. */
	segstore_fetch_release(st, u->fetch);
	u->fetch = NULL;
	seg_unpin(st, s); /* the body's */
	u->unsent = rc && rc != -EAGAIN;
	if (rc)
		upload_end(u);
	else
		put_start(u, u->todo);
}

void seg_upload_cancel_all(struct segstore *st)
{
	size_t left = 0;

	pthread_mutex_lock(&st->lock);
	list_for_each (l, &st->running_uploads)
		left++;
	while (left-- && !list_empty(&st->running_uploads)) {
		struct upload *u = list_entry(st->running_uploads.next, struct upload, link);
		list_remove(&u->link);
		list_push_back(&st->running_uploads, &u->link);
		if (!u->sent)
			continue;
		u->refs++;
		pthread_mutex_unlock(&st->lock);
		fanout_put_cancel(&u->put);
		pthread_mutex_lock(&st->lock);
		upload_unref_locked(u);
	}
	pthread_mutex_unlock(&st->lock);
}
