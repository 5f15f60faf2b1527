/* Writing, truncating, allocating: changes of the overlay. Nothing here waits for a disk or the
 * network; back-pressure delays replies only. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <limits.h>

#include "fs/data/volume_internal.h"

#define LANE_FROM                                                                                  \
	(1u << 20) /* bytes of sequential writing before a file gets a segment of its own */
#define PIECES_MAX (1ll << 18) /* overlay entries before a commit is due: about 20 MiB */
/* Unsynced bytes in segstore (it syncs by itself from 8 MiB on) before writers wait for the disk.
 */
#define SETTLE_TRIES 10

uint64_t file_size_max(struct volume *v)
{
	return (uint64_t)INT64_MAX - v->o.extent_max;
}

int file_seal(struct volume *v, struct inode *i)
{
	return i->over.dirty ? overlay_seal(&i->over, i->n.ino, i->lane) : 0;
}

/* --- lanes --- */

static void take_lane(struct volume *v, struct inode *i)
{
	struct seg_lane *lane;
	size_t slot;

	pthread_mutex_lock(&v->list_lock);
	for (slot = 0; slot < ARRAY_LEN(v->lane_holder) && v->lane_holder[slot]; slot++)
		;
	if (slot < ARRAY_LEN(v->lane_holder)) {
		v->lane_holder[slot] = i;
		inode_ref(i);
	}
	pthread_mutex_unlock(&v->list_lock);
	if (slot == ARRAY_LEN(v->lane_holder))
		return;
	lane = segstore_lane_take(v->st);
	i->lane = lane;
	if (lane)
		return;
	pthread_mutex_lock(&v->list_lock);
	v->lane_holder[slot] = NULL;
	pthread_mutex_unlock(&v->list_lock);
	atomic_fetch_sub(&i->refs, 1); /* never the last: the caller has one */
}

void file_drop_lane(struct volume *v, struct inode *i, int64_t before)
{
	struct seg_lane *lane = NULL;
	int held = 0;

	pthread_mutex_lock(&i->lock);
	if (i->lane && i->wr_time <= before) {
		lane = i->lane;
		i->lane = NULL;
		i->wr_run = 0;
		pthread_mutex_lock(&v->list_lock);
		for (size_t s = 0; s < ARRAY_LEN(v->lane_holder); s++)
			if (v->lane_holder[s] == i) {
				v->lane_holder[s] = NULL;
				held = 1;
			}
		pthread_mutex_unlock(&v->list_lock);
	}
	pthread_mutex_unlock(&i->lock);
	if (lane)
		segstore_lane_give(v->st, lane);
	if (held)
		inode_put(v, i);
}

/* --- delays --- */

struct delayed {
	struct waiter w;
	atomic_int state; /* 1: the writer returned -EINPROGRESS; 2: room came first */
};

static void reply_delayed(void *arg)
{
	struct waiter *w = arg;

	w->done(w->arg, 0);
	free(w);
}

static void on_room(void *arg)
{
	struct delayed *d = arg;

	/* Called from within segstore_when_room: the writer sees the 2, replies itself and frees.
	 */
	if (atomic_exchange(&d->state, 2) == 0)
		return;
	d->w.done(d->w.arg, 0);
	free(d);
}

static int wait_for_room(struct volume *v, void (*done)(void *, int), void *arg)
{
	struct delayed *d = calloc(1, sizeof(*d));

	if (!d)
		return 0;
	d->w.done = done, d->w.arg = arg;
	segstore_when_room(v->st, on_room, d);
	if (atomic_exchange(&d->state, 1) == 0)
		return -EINPROGRESS;
	free(d);
	return 0;
}

/* Too much dirty memory: the committer answers when it has sealed it. */
static int wait_for_seal(struct volume *v, void (*done)(void *, int), void *arg)
{
	struct waiter *w = calloc(1, sizeof(*w));
	int parked = 0;

	if (!w)
		return 0;
	w->done = done, w->arg = arg;
	pthread_mutex_lock(&v->c_lock);
	if (v->running && !v->stopping && !atomic_load(&v->failed)) {
		list_push_back(&v->throttled, &w->link);
		v->kick = 1;
		pthread_cond_signal(&v->c_cond);
		parked = 1;
	}
	pthread_mutex_unlock(&v->c_lock);
	if (!parked)
		free(w);
	return parked ? -EINPROGRESS : 0;
}

/* 1 ms at 80 %, doubling to 1 s at 95 % and more. */
static int wait_for_fill(struct volume *v, unsigned fill, void (*done)(void *, int), void *arg)
{
	unsigned steps = MIN((fill - FILL_DELAY) * 10 / (FILL_REFUSE - FILL_DELAY), 10);
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return 0;
	w->done = done, w->arg = arg;
	workq_submit_at(v->jobs, clock_mono_ns() + (NS_PER_MS << steps), reply_delayed, w);
	return -EINPROGRESS;
}

/* Every reply to a write passes here. 0: now; -EINPROGRESS: done will be called. */
static int back_pressure(struct volume *v, unsigned fill, void (*done)(void *, int), void *arg)
{
	uint64_t mem = atomic_load_explicit(&v->env.buf_bytes, memory_order_relaxed);
	long long pieces = atomic_load_explicit(&v->env.pieces, memory_order_relaxed);
	int rc = 0;

	if (mem > v->o.dirty_max || pieces > PIECES_MAX) {
		volume_kick(v);
		if (mem > 2 * v->o.dirty_max || pieces > 4 * PIECES_MAX)
			rc = wait_for_seal(v, done, arg);
	}
	if (!rc && segstore_unsynced(v->st) > v->o.unsynced_max)
		rc = wait_for_room(v, done, arg);
	if (!rc && fill >= FILL_DELAY)
		rc = wait_for_fill(v, fill, done, arg);
	return rc;
}

/* --- writing --- */

int volume_quota(struct volume *v, uint64_t more)
{
	uint64_t used;

	if (!v->o.quota)
		return 0;
	used = atomic_load(&v->total_bytes) + atomic_load(&v->env.data_bytes);
	return used + more > v->o.quota ? -ENOSPC : 0;
}

/* Near the quota only what is new counts. Inode lock held. */
static int quota_for(struct volume *v, struct inode *i, uint64_t off, uint64_t len)
{
	uint64_t fresh = 0;

	if (!volume_quota(v, len))
		return 0;
	for (uint64_t at = off; at < off + len;) {
		struct map_piece p;

		if (file_map_next(i, at, off + len, &p))
			p = (struct map_piece){ .end = off + len, .kind = MAP_SEALED };
		if (p.kind == MAP_HOLE)
			fresh += p.end - at;
		at = p.end;
	}
	volume_kick(v); /* what was written over and counts twice settles */
	return fresh ? volume_quota(v, fresh) : 0;
}

static void written(struct volume *v, struct inode *i, uint64_t off, uint64_t len)
{
	i->wr_run = off == i->wr_next ? i->wr_run + len : len;
	i->wr_next = off + len;
	if (i->wr_run > LANE_FROM) {
		i->wr_time = clock_mono_ns();
		if (!i->lane)
			take_lane(v, i);
	}
	i->n.size = MAX(i->n.size, off + len);
	i->n.mtime = i->n.ctime = now_ns();
	inode_data_changed(v, i);
}

static int write_locked(struct volume *v, struct inode *i, uint64_t off, const uint8_t *buf,
			size_t len)
{
	uint64_t max = OVERLAY_WRITE_MAX(v->o.extent_max);
	int rc = S_ISREG(i->type) ? quota_for(v, i, off, len) : -EINVAL;

	for (size_t at = 0; !rc && at < len;) {
		size_t n = MIN(len - at, max);

		rc = overlay_write(&i->over, i->n.ino, i->lane, off + at, buf + at, n);
		if (!rc)
			written(v, i, off + at, n);
		at += n;
	}
	return rc;
}

/* Dirty memory that no commit can seal must not grow for ever. */
static int no_memory_left(struct volume *v)
{
	return atomic_load_explicit(&v->seal_rc, memory_order_relaxed) &&
	       atomic_load_explicit(&v->env.buf_bytes, memory_order_relaxed) > 2 * v->o.dirty_max;
}

static int write_now(struct volume *v, uint64_t ino, uint64_t off, const void *buf, size_t len,
		     int kill, void (*done)(void *arg, int result), void *arg, int *over_quota)
{
	struct inode *i;
	unsigned fill;
	int rc = volume_writable(v), killed = 0;

	*over_quota = 0;
	if (rc)
		return rc;
	if (len > file_size_max(v) || off > file_size_max(v) - len)
		return -EFBIG;
	fill = volume_fill(v, len);
	if (fill >= 100 || no_memory_left(v))
		return -ENOSPC;
	rc = inode_get(v, ino, &i);
	if (rc)
		return rc;
	pthread_mutex_lock(&i->lock);
	if (i->caps != TRI_NO) {
		pthread_mutex_unlock(&i->lock);
		rc = inode_kill_caps(v, i);
		pthread_mutex_lock(&i->lock);
	}
	if (!rc) {
		rc = write_locked(v, i, off, buf, len);
		*over_quota = rc == -ENOSPC;
	}
	if (!rc && kill)
		killed = inode_kill_suid(v, i);
	pthread_mutex_unlock(&i->lock);
	if (killed)
		volume_inval_attr(v, ino);
	inode_put(v, i);
	return rc ? rc : back_pressure(v, fill, done, arg);
}

/* A write over the quota. What was deleted or overwritten counts until it is committed: "rm old; cp
 * new" has to work on a full drive, so a commit comes before the answer. */
struct settling {
	struct volume *v;
	uint64_t ino, off;
	size_t len;
	int kill, tries;
	void (*done)(void *arg, int result);
	void *arg;
	uint8_t buf[];
};

static void settled(void *arg, int result);

static void write_again(void *arg)
{
	struct settling *w = arg;
	struct volume *v = w->v;
	int over, more;
	int rc = write_now(v, w->ino, w->off, w->buf, w->len, w->kill, w->done, w->arg, &over);

	/* A huge file goes in several commits. */
	pthread_mutex_lock(&v->list_lock);
	more = v->reap_count > 0;
	pthread_mutex_unlock(&v->list_lock);
	if (over && more && ++w->tries < SETTLE_TRIES) {
		volume_commit_async(v, settled, w);
		return;
	}
	if (rc != -EINPROGRESS)
		w->done(w->arg, rc);
	free(w);
}

static void settled(void *arg, int result)
{
	struct settling *w = arg;

	/* Whatever became of the commit: the second try has the truth. */
	(void)result;
	workq_submit(w->v->jobs, write_again, w);
}

static int settle_and_write(const struct settling *from, const void *buf)
{
	struct settling *w = malloc(sizeof(*w) + from->len);

	if (!w)
		return -ENOSPC;
	*w = *from;
	memcpy(w->buf, buf, from->len);
	volume_commit_async(w->v, settled, w);
	return -EINPROGRESS;
}

int volume_write(struct volume *v, uint64_t ino, uint64_t off, const void *buf, size_t len,
		 int from_cache, const struct cred *cred, void (*done)(void *arg, int result),
		 void *arg)
{
	struct settling w = {
		.v = v,
		.ino = ino,
		.off = off,
		.len = len,
		.kill = !from_cache && cred && cred->uid,
		.done = done,
		.arg = arg,
	};
	int over, rc = write_now(v, ino, off, buf, len, w.kill, done, arg, &over);

	return over ? settle_and_write(&w, buf) : rc;
}

int file_truncate(struct volume *v, struct inode *i, uint64_t size)
{
	int rc = 0;

	if (size < i->n.size)
		rc = overlay_hole(&i->over, size, RUNMAP_INF, i->inflight || i->row_end > size);
	if (rc)
		return rc;
	i->n.size = size;
	i->n.mtime = i->n.ctime = now_ns();
	inode_data_changed(v, i);
	return 0;
}

/* Bytes [off, end) become zeros. Beyond the size nothing is. */
static int punch(struct inode *i, uint64_t off, uint64_t end)
{
	end = MIN(end, i->n.size);
	return off < end ? overlay_hole(&i->over, off, end, i->inflight || i->row_end > off) : 0;
}

static int fallocate_locked(struct volume *v, struct inode *i, int mode, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	int grow = !(mode & FALLOC_FL_KEEP_SIZE) && end > i->n.size, rc = 0;

	if (!S_ISREG(i->type))
		return S_ISDIR(i->type) ? -EISDIR : -ENODEV;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		rc = punch(i, off, end);
	else if (end > i->n.size)
		rc = volume_quota(v, end - MAX(off, i->n.size));
	if (rc)
		return rc;
	if (grow)
		i->n.size = end;
	i->n.mtime = i->n.ctime = now_ns();
	inode_data_changed(v, i);
	return 0;
}

int volume_fallocate(struct volume *v, uint64_t ino, int mode, uint64_t off, uint64_t len,
		     const struct cred *cred)
{
	struct inode *i;
	int rc = volume_writable(v), killed = 0;

	if (rc)
		return rc;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if ((mode & FALLOC_FL_PUNCH_HOLE) &&
	    (!(mode & FALLOC_FL_KEEP_SIZE) || (mode & FALLOC_FL_ZERO_RANGE)))
		return -EOPNOTSUPP;
	if (!len)
		return -EINVAL;
	if (len > file_size_max(v) || off > file_size_max(v) - len)
		return -EFBIG;
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		rc = volume_may_create(v);
	if (!rc)
		rc = inode_get(v, ino, &i);
	if (rc)
		return rc;
	rc = inode_kill_caps(v, i);
	pthread_mutex_lock(&i->lock);
	if (!rc)
		rc = fallocate_locked(v, i, mode, off, len);
	if (!rc && cred && cred->uid)
		killed = inode_kill_suid(v, i);
	pthread_mutex_unlock(&i->lock);
	if (killed)
		volume_inval_attr(v, ino);
	inode_put(v, i);
	return rc;
}

/* --- seeking --- */

int volume_lseek(struct volume *v, uint64_t ino, uint64_t off, int whence, uint64_t *out)
{
	struct inode *i;
	int rc;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	rc = inode_get(v, ino, &i);
	if (rc)
		return rc;
	for (int moved = 0;; moved = 1) {
		struct map_piece p = { .kind = MAP_HOLE };

		pthread_mutex_lock(&i->lock);
		if (off < i->n.size)
			rc = file_map_next(i, off, i->n.size, &p);
		else /* behind the last data is a hole, but not behind the end that was asked for */
			rc = whence == SEEK_HOLE && moved ? 0 : -ENXIO;
		pthread_mutex_unlock(&i->lock);
		if (rc == -EAGAIN) {
			rc = file_map_load(v, i, off);
			p.end = off;
		} else if (!rc && (p.kind == MAP_HOLE) == (whence == SEEK_HOLE)) {
			break;
		}
		if (rc)
			break;
		off = p.end;
	}
	if (!rc)
		*out = off;
	inode_put(v, i);
	return rc;
}
