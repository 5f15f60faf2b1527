/* The committer: one thread that makes changes durable in cycles (DESIGN.md, "Commit order").
 *
 * (1) Dirty bytes of every changed file are sealed and its changes since its last snapshot listed;
 * segstore syncs. (2) Renames over names are held; what they moved and has newer content is sealed,
 * listed and synced as well. (3) Under the meta lock: segment rows, then the lists become rows,
 * then nodes, then COMMIT (keeps I1: only synced extents are named). (4) The WAL is synced, without
 * locks (I7). Then the waiters of this cycle, which all asked before (1), are answered.
 *
 * A cycle that fails for want of space keeps everything: lists that were taken stay in v->snaps, in
 * order, and are applied by the next one; a file that could not be sealed stays on its list. Step 3
 * gives the locks away between portions; nobody else commits, so others see their own changes only.
 */
#include <sched.h>

#include "fs/data/volume_internal.h"

#define CLEAR_ROWS 1000 /* rows that one step removes before the locks are given away */
#define YIELD_ENTS 256  /* rows or nodes written before the same */
#define REAP_TIME                                                                                  \
	(250 * NS_PER_MS) /* removing files per cycle: the others go with the next ones            \
			   */
#define DRAIN_YIELDS 64
#define LANE_IDLE    (2 * NS_PER_S)
#define ORPHANS_STEP 1000

/* Changes of one file, in order of their taking. */
struct snap {
	struct list link;
	struct inode *i; /* a reference */
	uint32_t cycle;
	int n, next; /* entries; applied so far */
	struct snap_ent *e;
	struct snap_ent one;
};

struct cycle {
	struct volume *v;
	struct list waiters;
	int flush, stopping;
	uint64_t *unsealed; /* inodes that could not be sealed */
	size_t unsealed_n, unsealed_cap;
	int unsealed_rc;    /* 0: there are none */
	int unsealed_more;  /* and others, for whose numbers there was no memory */
	int64_t reap_until; /* no more orphans in this cycle after that */
	int again;          /* something was left for the next cycle */
};

/* --- step 1 and 2: sealing and listing --- */

static void snap_free(struct volume *v, struct snap *s)
{
	for (int k = 0; k < s->n && v->st; k++) /* the store may be gone at the end */
		if (s->e[k].seg)
			segstore_unref(v->st, s->e[k].seg);
	if (s->e != &s->one)
		free(s->e);
	inode_put(v, s->i);
	free(s);
}

/* Inode lock held. *out NULL: nothing but perhaps the size changed. */
static int snap_take_locked(struct volume *v, struct inode *i, struct snap **out)
{
	struct snap *s = calloc(1, sizeof(*s));
	int rc = s ? file_seal(v, i) : -ENOMEM;

	*out = NULL;
	if (!rc) {
		rc = overlay_snapshot(&i->over, v->cycle, &s->one, &s->e);
		s->n = rc < 0 ? 0 : rc;
		rc = MIN(rc, 0);
	}
	if (rc) {
		free(s);
		return rc;
	}
	inode_ref(i);
	s->i = i;
	s->cycle = v->cycle;
	i->inflight++;
	i->data_dirty = 0;
	i->row_size = i->n.size;
	i->row_mtime = i->n.mtime;
	*out = s;
	return 0;
}

static void note_unsealed(struct cycle *c, uint64_t ino, int rc)
{
	if (c->unsealed_n == c->unsealed_cap) {
		size_t cap = c->unsealed_cap ? c->unsealed_cap * 2 : 16;
		uint64_t *p = realloc(c->unsealed, cap * sizeof(*p));

		if (p)
			c->unsealed = p, c->unsealed_cap = cap;
	}
	if (c->unsealed_n < c->unsealed_cap)
		c->unsealed[c->unsealed_n++] = ino;
	else
		c->unsealed_more = 1;
	c->unsealed_rc = rc;
	c->again = 1;
}

/* i was taken off the list; its list's reference is ours. */
static int seal_one(struct cycle *c, struct inode *i)
{
	struct volume *v = c->v;
	struct snap *s = NULL;
	int rc = 0;

	pthread_mutex_lock(&i->lock);
	if (i->data_dirty && !i->dead) {
		rc = snap_take_locked(v, i, &s);
		if (rc) {
			i->data_dirty = 0;
			inode_data_changed(v, i); /* on the list again */
		}
	}
	pthread_mutex_unlock(&i->lock);
	if (s)
		list_push_back(&v->snaps, &s->link);
	if (rc)
		note_unsealed(c, i->n.ino, rc);
	return rc == -ENOSPC || rc == -ENOMEM ? 0 : rc;
}

/* The first of a list, whose reference is then ours; NULL. */
static struct inode *pop(struct volume *v, struct list *head, size_t *length, size_t link_offset)
{
	SCOPE_LOCK(&v->list_lock);
	struct list *l = list_first(head);

	if (!l)
		return NULL;
	list_remove(l);
	--*length;
	return (struct inode *)((char *)l - link_offset);
}

#define POP(v, head, count, link) pop(v, &(v)->head, &(v)->count, offsetof(struct inode, link))

static size_t list_length(struct volume *v, const size_t *length)
{
	SCOPE_LOCK(&v->list_lock);

	return *length;
}

static int seal_all(struct cycle *c)
{
	struct volume *v = c->v;
	int rc = failpoint("commit.seal");

	/* What cannot be sealed goes to the end of the list: not more often than it is long now. */
	for (size_t n = list_length(v, &v->data_count); n && !rc; n--) {
		struct inode *i = POP(v, dirty_data, data_count, data_link);

		if (!i)
			break;
		rc = seal_one(c, i);
		inode_put(v, i);
	}
	return rc;
}

static int sync_store(struct cycle *c, const char *point)
{
	struct volume *v = c->v;
	int rc = strcmp(point, "hold") == 0 ? failpoint("commit.hold") : failpoint("commit.sync");

	return rc ? rc : segstore_sync(v->st);
}

/* Is something left dirty of what w waits for? */
static int left_dirty(const struct cycle *c, const struct waiter *w)
{
	if (!c->unsealed_rc || w->rows)
		return 0;
	if (!w->ino || c->unsealed_more)
		return 1;
	for (size_t k = 0; k < c->unsealed_n; k++)
		if (c->unsealed[k] == w->ino)
			return 1;
	return 0;
}

/* What replacing renames of this transaction moved must be in it with its content as of the rename.
 */
static int seal_renamed(struct cycle *c)
{
	struct volume *v = c->v;
	int rc = 0, sealed = 0;

	meta_lock(v->m);
	v->hold = 1;
	meta_unlock(v->m);
	pthread_mutex_lock(&v->list_lock);
	list_for_each (l, &v->renamed) {
		struct inode *i = list_entry(l, struct inode, renamed_link);

		/* Only this thread shortens the list and nobody adds to it while held. */
		pthread_mutex_unlock(&v->list_lock);
		pthread_mutex_lock(&i->lock);
		if (!rc && i->data_dirty && !i->dead) {
			struct snap *s;

			rc = snap_take_locked(v, i, &s);
			if (!rc) {
				list_push_back(&v->snaps, &s->link);
				sealed = 1;
			}
		}
		pthread_mutex_unlock(&i->lock);
		pthread_mutex_lock(&v->list_lock);
	}
	pthread_mutex_unlock(&v->list_lock);
	if (!rc)
		rc = sealed ? sync_store(c, "hold") : failpoint("commit.hold");
	return rc;
}

/* --- step 3: rows --- */

static void yield_locks(struct volume *v)
{
	meta_unlock(v->m);
	sched_yield();
	meta_lock(v->m);
}

/* Does r continue the row that ends where it begins? Meta lock held. */
static int row_continues(struct volume *v, struct inode *i, const struct run *r)
{
	struct run before;
	int known, n = 0;

	if (!r->off || (!r->first && !r->skip) || !i->row_bytes)
		return 0;
	pthread_mutex_lock(&i->lock);
	known = baserows_knows(&i->base, r->off - 1);
	if (known) {
		const struct run *p = baserows_find(&i->base, r->off - 1);

		if (p && p->off < r->off)
			before = *p, n = 1;
	}
	pthread_mutex_unlock(&i->lock);
	if (!known)
		n = run_page(v->m, i->n.ino, r->off - 1, r->off, &before, 1, NULL);
	return n == 1 && before.seg == r->seg && before.off + before.len == r->off &&
	       segstore_continues(v->st, r->seg, before.first, before.skip + before.len, r->first,
				  r->skip);
}

/* Removes the rows below e. -EAGAIN: more to remove. */
static int clear_rows(struct volume *v, struct inode *i, const struct snap_ent *e)
{
	uint64_t freed = 0;
	int rc;

	if (!i->row_bytes || e->off >= i->row_end)
		return 0;
	rc = run_clear(v->m, i->n.ino, e->off, e->end - e->off, CLEAR_ROWS, &freed);
	pthread_mutex_lock(&i->lock);
	i->row_bytes -= MIN(freed, i->row_bytes);
	if (!rc) {
		baserows_clear(&i->base, e->off, e->end);
		if (e->end == RUNMAP_INF)
			i->row_end = MIN(i->row_end, e->off);
	} else {
		baserows_release(&i->base);
	}
	pthread_mutex_unlock(&i->lock);
	return rc;
}

static int apply_ent(struct volume *v, struct inode *i, const struct snap_ent *e)
{
	struct run r = { .off = e->off,
			 .len = e->end - e->off,
			 .skip = e->pos,
			 .seg = e->seg,
			 .first = e->first };
	int rc = clear_rows(v, i, e), continues;

	if (rc || !e->seg)
		return rc;
	continues = row_continues(v, i, &r);
	rc = run_insert(v->m, i->n.ino, &r, continues);
	if (rc)
		return rc;
	pthread_mutex_lock(&i->lock);
	if (!i->row_bytes)
		baserows_set_empty(&i->base);
	i->row_bytes += r.len;
	i->row_end = MAX(i->row_end, e->end);
	baserows_insert(&i->base, &r, continues);
	pthread_mutex_unlock(&i->lock);
	return 0;
}

/* Meta lock held, given away in between. */
static int apply_snaps(struct volume *v)
{
	int rc = 0, work = 0;

	list_for_each (l, &v->snaps) {
		struct snap *s = list_entry(l, struct snap, link);

		while (!rc && s->next < s->n && !s->i->dead) {
			rc = apply_ent(v, s->i, &s->e[s->next]);
			if (!rc)
				s->next++;
			if (rc == -EAGAIN || ++work % YIELD_ENTS == 0)
				yield_locks(v);
			if (rc == -EAGAIN)
				rc = failpoint("commit.clear");
		}
		if (rc)
			return rc;
		pthread_mutex_lock(&s->i->lock);
		inode_attr_changed(v, s->i, 0);
		pthread_mutex_unlock(&s->i->lock);
	}
	return 0;
}

/* --- orphans --- */

/* Meta lock held. 0 removed or not to be removed now; -EAGAIN later. */
static int reap_one(struct cycle *c, struct inode *i)
{
	struct volume *v = c->v;
	uint64_t ino = i->n.ino, freed;
	int rc = 0;

	if (i->dead || !i->orphan || atomic_load(&i->opens) || known_get(&v->known, ino))
		return 0; /* asked again when these go */
	if (i->inflight)
		return -EAGAIN; /* its rows are being written: next cycle */
	while (i->row_bytes) {
		if (clock_mono_ns() > c->reap_until)
			return -EAGAIN;
		freed = 0;
		rc = run_clear(v->m, ino, 0, UINT64_MAX, CLEAR_ROWS, &freed);
		pthread_mutex_lock(&i->lock);
		baserows_release(&i->base);
		i->row_bytes -= MIN(freed, i->row_bytes);
		if (!rc)
			i->row_bytes = 0, i->row_end = 0;
		pthread_mutex_unlock(&i->lock);
		if (rc && rc != -EAGAIN)
			return rc;
		if (rc) {
			rc = failpoint("reap.rows");
			if (rc)
				return rc;
			yield_locks(v);
		}
	}
	rc = failpoint("reap.node");
	if (rc)
		return rc;
	if (i->in_db || i->xattrs != TRI_NO || S_ISLNK(i->type)) {
		rc = node_delete(v->m, ino);
		if (rc && rc != -ENOENT)
			return rc;
	}
	pthread_mutex_lock(&i->lock);
	overlay_release(&i->over);
	i->data_dirty = 0;
	pthread_mutex_unlock(&i->lock);
	inode_unpublish(v, i);
	inode_put(v, i); /* of being an orphan */
	return 0;
}

static int reap_all(struct cycle *c)
{
	struct volume *v = c->v;
	int rc = 0, work = 0;

	c->reap_until = clock_mono_ns() + REAP_TIME;
	for (size_t n = list_length(v, &v->reap_count); n && !rc; n--) {
		struct inode *i;

		if (clock_mono_ns() > c->reap_until) {
			/* a backlog need not wait for the interval; at the end it waits for the
			 * next mount */
			c->again |= !c->stopping;
			if (!c->stopping)
				volume_kick(v);
			break;
		}
		i = POP(v, reap, reap_count, reap_link);
		if (!i)
			break;
		rc = reap_one(c, i);
		if (rc)
			inode_reap(v, i);
		if (rc == -EAGAIN) {
			c->again |= !c->stopping;
			rc = 0;
		}
		inode_put(v, i);
		if (++work % YIELD_ENTS == 0)
			yield_locks(v);
	}
	return rc;
}

/* Orphans that the last mount left enter the table a few at a time. Meta lock held. */
static void load_old_orphans(struct cycle *c)
{
	struct volume *v = c->v;

	for (int k = 0; k < ORPHANS_STEP && v->old_orphans_at < v->old_orphans_n; k++) {
		struct inode *i;

		if (inode_get_locked(v, v->old_orphans[v->old_orphans_at++], &i))
			continue;
		if (i->n.nlink == 0 && !i->orphan) {
			i->orphan = 1;
			inode_ref(i);
			inode_reap(v, i);
		}
		inode_put(v, i);
	}
	c->again |= v->old_orphans_at < v->old_orphans_n;
}

/* --- nodes --- */

static int put_node(struct volume *v, struct inode *i)
{
	struct node n;
	int atime_only, skip, rc;

	pthread_mutex_lock(&i->lock);
	i->attr_dirty = 0;
	/* removed, or about to be without ever having had a row */
	skip = i->dead;
	atime_only = !i->attr_full;
	i->attr_full = 0;
	n = i->n;
	if (S_ISREG(i->type)) {
		n.size = i->row_size;
		n.mtime = i->row_mtime;
		n.bytes = i->row_bytes;
	} else {
		n.bytes = 0;
	}
	pthread_mutex_unlock(&i->lock);
	if (skip)
		return 0;
	rc = node_put(v->m, &n, atime_only);
	pthread_mutex_lock(&i->lock);
	if (!rc)
		i->in_db = 1;
	else
		inode_attr_changed(v, i, atime_only);
	pthread_mutex_unlock(&i->lock);
	return rc;
}

/* All nodes whose rows are stale. Ends with the meta lock held all the while since the list was
 * seen empty, so that every name in the transaction has its node. */
static int drain_attrs(struct volume *v)
{
	struct inode *i;
	int work = 0, rc = 0;

	while (!rc && (i = POP(v, dirty_attr, attr_count, attr_link))) {
		rc = put_node(v, i);
		inode_put(v, i);
		if (++work % YIELD_ENTS == 0 && work / YIELD_ENTS < DRAIN_YIELDS)
			yield_locks(v);
	}
	return rc;
}

static void forget_renamed(struct volume *v)
{
	struct inode *i;

	while ((i = POP(v, renamed, renamed_count, renamed_link)))
		inode_put(v, i);
}

static int write_rows(struct cycle *c)
{
	struct volume *v = c->v;
	struct meta_totals t;
	int rc = failpoint("commit.rows");

	if (!rc)
		rc = segstore_write_rows(v->st);
	if (!rc)
		rc = apply_snaps(v);
	load_old_orphans(c);
	if (!rc)
		rc = reap_all(c);
	if (!rc)
		rc = drain_attrs(v);
	if (!rc)
		rc = failpoint("commit.commit");
	if (!rc)
		rc = meta_commit(v->m);
	if (rc)
		return rc;
	meta_totals(v->m, &t);
	atomic_store(&v->total_bytes, t.bytes);
	atomic_store(&v->total_inodes, t.inodes);
	forget_renamed(v);
	return 0;
}

/* --- the cycle --- */

static void release_snaps(struct volume *v)
{
	struct list *l;

	while ((l = list_first(&v->snaps))) {
		struct snap *s = list_entry(l, struct snap, link);

		list_remove(l);
		pthread_mutex_lock(&s->i->lock);
		s->i->inflight--;
		overlay_committed(&s->i->over, s->cycle);
		pthread_mutex_unlock(&s->i->lock);
		snap_free(v, s);
	}
}

static void drop_idle_lanes(struct volume *v, int stopping)
{
	int64_t before = stopping ? INT64_MAX : clock_mono_ns() - LANE_IDLE;

	for (size_t k = 0; k < ARRAY_LEN(v->lane_holder); k++) {
		struct inode *i;

		pthread_mutex_lock(&v->list_lock);
		i = v->lane_holder[k];
		if (i)
			inode_ref(i);
		pthread_mutex_unlock(&v->list_lock);
		if (!i)
			continue;
		file_drop_lane(v, i, before);
		inode_put(v, i);
	}
}

static void answer_throttled(struct volume *v)
{
	struct list todo;
	struct list *l;

	list_init(&todo);
	pthread_mutex_lock(&v->c_lock);
	list_splice_back(&todo, &v->throttled);
	pthread_mutex_unlock(&v->c_lock);
	while ((l = list_first(&todo))) {
		struct waiter *w = list_entry(l, struct waiter, link);

		list_remove(l);
		w->done(w->arg, 0);
		free(w);
	}
}

static int run_cycle(struct cycle *c)
{
	struct volume *v = c->v;
	struct list parked;
	int rc;

	v->cycle++;
	drop_idle_lanes(v, c->stopping);
	rc = seal_all(c);
	atomic_store(&v->seal_rc, rc ? rc : c->unsealed_rc);
	answer_throttled(v);
	if (c->flush)
		segstore_flush(v->st);
	if (!rc)
		rc = sync_store(c, "sync");
	list_init(&parked);
	if (!rc)
		rc = seal_renamed(c);
	meta_lock(v->m);
	if (!rc)
		rc = write_rows(c);
	v->hold = 0;
	list_splice_back(&parked, &v->parked);
	meta_unlock(v->m);
	rename_run_parked(v, &parked);
	if (!rc)
		rc = failpoint("commit.wal");
	if (!rc)
		rc = meta_wal_sync(v->m);
	if (rc)
		return rc;
	segstore_committed(v->st);
	release_snaps(v);
	atomic_fetch_add(&v->commits, 1);
	(void)failpoint("commit.done");
	return 0;
}

static void answer(struct cycle *c, int rc)
{
	struct list cloud;
	struct list *l;

	list_init(&cloud);
	while ((l = list_first(&c->waiters))) {
		struct waiter *w = list_entry(l, struct waiter, link);
		int mine = rc;

		list_remove(l);
		if (!mine && left_dirty(c, w))
			mine = c->unsealed_rc;
		if (!mine && w->cloud) {
			list_push_back(&cloud, &w->link);
			continue;
		}
		w->done(w->arg, mine);
		free(w);
	}
	cloud_wait_add(c->v, &cloud);
}

static int is_due(struct volume *v)
{
	return v->kick || v->stopping || !list_empty(&v->waiters) ||
	       (atomic_load(&v->changed) &&
		clock_mono_ns() >= v->changed_at + v->o.commit_interval);
}

/* Waits for work and takes it. 0: time to end. */
static int next_cycle(struct volume *v, struct cycle *c)
{
	SCOPE_LOCK(&v->c_lock);

	while (!is_due(v))
		cond_wait_until(&v->c_cond, &v->c_lock,
				atomic_load(&v->changed) ? v->changed_at + v->o.commit_interval
							 : 0);
	if (v->stopping && v->stopped && !atomic_load(&v->changed) && list_empty(&v->waiters)) {
		v->running = 0;
		return 0;
	}
	v->stopped = v->stopping; /* at least one cycle that knows */
	*c = (struct cycle){
		.v = v,
		.flush = v->flush,
		.stopping = v->stopping,
	};
	list_init(&c->waiters);
	list_splice_back(&c->waiters, &v->waiters);
	v->kick = v->flush = 0;
	atomic_store(&v->changed, 0);
	return 1;
}

void *writeback_thread(void *volume)
{
	struct volume *v = volume;
	struct cycle c;
	int failures = 0;

	pthread_setname_np(pthread_self(), "committer");
	while (next_cycle(v, &c)) {
		int rc = atomic_load(&v->failed);

		if (!rc) {
			rc = run_cycle(&c);
			if (rc && rc != -ENOSPC && rc != -ENOMEM) {
				volume_fail(v, rc, "committing changes");
				rc = -EIO;
			}
		}
		answer(&c, rc);
		answer_throttled(v);
		free(c.unsealed);
		if (atomic_load(&v->failed))
			atomic_store(&v->changed, 0); /* nothing will be written any more */
		else if (rc || c.again)
			volume_changed(v);
		failures = rc || c.unsealed_rc ? failures + 1 : 0;
		pthread_mutex_lock(&v->c_lock);
		/* A full disk must not keep the volume from ending for ever. */
		if (v->stopping && failures > 3)
			atomic_store(&v->changed, 0);
		pthread_mutex_unlock(&v->c_lock);
	}
	return (void *)(intptr_t)failures;
}

int writeback_wait(struct volume *v, const struct waiter *like)
{
	struct waiter *w = malloc(sizeof(*w));
	int queued = 0;

	if (!w)
		return -ENOMEM;
	*w = *like;
	list_init(&w->link);
	w->deadline = clock_mono_ns() + v->o.fsync_timeout;
	pthread_mutex_lock(&v->c_lock);
	if (v->running) {
		list_push_back(&v->waiters, &w->link);
		v->flush |= w->cloud;
		pthread_cond_signal(&v->c_cond);
		queued = 1;
	}
	pthread_mutex_unlock(&v->c_lock);
	if (!queued)
		free(w);
	return queued ? 0 : -EIO;
}

void writeback_discard(struct volume *v)
{
	struct list *heads[] = { &v->dirty_data, &v->dirty_attr, &v->renamed, &v->reap };
	struct list *l;

	while ((l = list_first(&v->snaps))) {
		list_remove(l);
		snap_free(v, list_entry(l, struct snap, link));
	}
	for (size_t k = 0; k < ARRAY_LEN(heads); k++)
		while ((l = list_first(heads[k])))
			list_remove(l); /* the inodes go with the table */
}
