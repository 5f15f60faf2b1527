/* Reading. The pieces of a range are resolved under the inode's lock, dirty bytes copied there, the
 * others opened without it, their segments pinned. What is not local is fetched: the operation goes
 * on where it stopped, on the thread that brings the bytes (I7). */
#include "fs/data/volume_internal.h"

#define PIECES_AT_ONCE 16
#define AHEAD_MIN      (512u << 10) /* read in a row: sequential */
#define AHEAD_FIRST    (4u << 20)
#define AHEAD_MAX      (64u << 20)
#define AHEAD_WHOLE    (32u << 20) /* from here on in pieces of AHEAD_PIECE of a segment */
#define AHEAD_PIECE    (4u << 20)
#define AHEAD_PIECES   256 /* looked at in one step, with the inode locked */
/* The kernel's read-ahead arrives on several threads, out of order by about this much. */
#define AHEAD_SLACK (1u << 20)
/* When read-ahead failed the kernel asks once more, at once, for the page that somebody waits for:
 * within that time the answer stands, or a read would take twice its timeout. */
#define FAILED_STANDS NS_PER_S

struct read_op {
	struct volume *v;
	struct inode *i;
	uint8_t *buf;
	uint64_t off;
	size_t len, at; /* the bytes before `at` are there */
	size_t *got;
	int64_t deadline; /* of all its fetches together */
	void (*done)(void *arg, int result);
	void *arg;
	pthread_mutex_t lock;
	struct seg_fetch *fetch; /* by lock: running */
	int cancelled;           /* by lock */
};

/* The next pieces of [off, end): copies dirty bytes, clears holes, references segments of the
 * others into todo. Returns where it stopped; *n entries. Inode lock held. */
static int resolve(struct inode *i, uint64_t *off, uint64_t end, uint8_t *dst,
		   struct map_piece *todo, int *n)
{
	struct segstore *st = i->over.env->st;

	*n = 0;
	while (*off < end && *n < PIECES_AT_ONCE) {
		struct map_piece *p = &todo[*n];
		int rc = file_map_next(i, *off, end, p);

		if (rc)
			return rc;
		if (p->kind == MAP_DIRTY)
			memcpy(dst, p->mem, p->end - p->off);
		else if (p->kind == MAP_HOLE)
			memset(dst, 0, p->end - p->off);
		else
			segstore_ref(st, p->seg), (*n)++;
		dst += p->end - p->off;
		*off = p->end;
	}
	return 0;
}

static void hint_rest(struct volume *v, const struct map_piece *todo, int from, int n)
{
	for (int k = from; k < n; k++)
		segstore_prefetch(
		    v->st, todo[k].seg, todo[k].first,
		    (uint32_t)((todo[k].pos + todo[k].end - todo[k].off) / v->o.extent_max + 1));
}

/* Reads [*at, len) of the range at off. 0; -EAGAIN: *miss has to be fetched, *at says what is
 * there. */
static int read_local(struct volume *v, struct inode *i, uint64_t base, uint8_t *buf, size_t *at,
		      size_t *len, struct seg_miss *miss)
{
	struct map_piece todo[PIECES_AT_ONCE];
	int rc = 0;

	while (!rc && *at < *len) {
		uint64_t off = base + *at, from = off, end;
		int n = 0;

		pthread_mutex_lock(&i->lock);
		/* the file may have become shorter since */
		if (base + *len > i->n.size)
			*len = i->n.size > base ? i->n.size - base : 0;
		end = base + *len;
		rc = off < end ? resolve(i, &off, end, buf + *at, todo, &n) : 0;
		pthread_mutex_unlock(&i->lock);
		if (*at > *len)
			*at = *len;
		for (int k = 0; k < n; k++) {
			struct map_piece *p = &todo[k];
			int one = 0;

			if (!rc || rc == -EAGAIN)
				one = segstore_read(v->st, p->seg, p->first, p->pos,
						    buf + (p->off - base), p->end - p->off, miss);
			if (one) {
				rc = one;
				*at = p->off - base;
				if (one == -EAGAIN)
					hint_rest(v, todo, k + 1, n);
				while (k < n)
					segstore_unref(v->st, todo[k++].seg);
				return rc;
			}
			segstore_unref(v->st, p->seg);
		}
		*at += off - from;
		if (rc == -EAGAIN) {
			/* rows, not extents, are missing; the pieces before them are done */
			rc = file_map_load(v, i, off);
		}
	}
	return rc;
}

/* Inode lock not held. READs of one read-ahead fail together: their ranges make one. */
static void note_failed(struct inode *i, uint64_t off, uint64_t end)
{
	int64_t now = clock_mono_ns();
	SCOPE_LOCK(&i->lock);

	if (now - i->rd_failed_at < FAILED_STANDS) {
		off = MIN(off, i->rd_failed_off);
		end = MAX(end, i->rd_failed_end);
	}
	i->rd_failed_at = now;
	i->rd_failed_off = off;
	i->rd_failed_end = end;
}

static int has_just_failed(struct inode *i, uint64_t off)
{
	SCOPE_LOCK(&i->lock);

	return i->rd_failed_at && clock_mono_ns() - i->rd_failed_at < FAILED_STANDS &&
	       off >= i->rd_failed_off && off < i->rd_failed_end;
}

static void op_finish(struct read_op *op, int rc)
{
	*op->got = rc ? 0 : op->len;
	if (rc == -ETIMEDOUT)
		note_failed(op->i, op->off, op->off + op->len);
	inode_put(op->v, op->i);
	/* Until done has been called the caller may cancel, so the record is still there. */
	op->done(op->arg, rc);
	pthread_mutex_destroy(&op->lock);
	free(op);
}

static void on_fetched(void *arg, int result);

/* Starts the fetch of *miss, in exchange for the one that is done. 0 when on_fetched will come. */
static int op_fetch(struct read_op *op, struct seg_miss *miss)
{
	SCOPE_LOCK(&op->lock);
	int rc = 0;

	if (op->cancelled)
		return -EINTR;
	if (segstore_limited(op->v->st))
		op->deadline = segstore_deadline(op->v->st);
	if (clock_mono_ns() >= op->deadline)
		return -ETIMEDOUT;
	miss->deadline = op->deadline;
	op->fetch = segstore_fetch(op->v->st, miss, on_fetched, op, &rc);
	return op->fetch ? 0 : rc ? rc : -EIO;
}

static void on_fetched(void *arg, int result)
{
	struct read_op *op = arg;
	struct volume *v = op->v;
	struct seg_fetch *fetch;
	struct seg_miss miss;
	int rc = result, cancelled;

	pthread_mutex_lock(&op->lock);
	fetch = op->fetch;
	op->fetch = NULL;
	cancelled = op->cancelled;
	pthread_mutex_unlock(&op->lock);
	if (cancelled && rc)
		rc = -EINTR;
	if (!rc)
		rc = read_local(v, op->i, op->off, op->buf, &op->at, &op->len, &miss);
	if (rc == -EAGAIN) {
		rc = op_fetch(op, &miss);
		if (!rc) {
			segstore_fetch_release(v->st, fetch);
			return;
		}
	}
	segstore_fetch_release(v->st, fetch);
	if (rc == -ECANCELED)
		rc = -EINTR;
	op_finish(op, rc);
}

void volume_read_cancel(struct volume *v, struct read_op *op)
{
	SCOPE_LOCK(&op->lock);

	op->cancelled = 1;
	if (op->fetch)
		segstore_fetch_cancel(v->st, op->fetch);
}

/* Adds m to the n hints. What was written by several threads at once lies in the segment in another
 * order than in the file: hints that touch become one, at the place of the first, and are fetched
 * as one. Returns how many there are. */
static int hint_add(struct seg_miss *hints, int n, struct seg_miss m)
{
	int at = n;

	for (int k = 0; k < n; k++) {
		struct seg_miss *h = &hints[k];
		uint32_t end = MAX(h->first + h->count, m.first + m.count);

		if (h->seg != m.seg || h->first > m.first + m.count ||
		    m.first > h->first + h->count)
			continue;
		m.first = MIN(h->first, m.first);
		m.count = end - m.first;
		at = MIN(at, k);
		memmove(h, h + 1, (size_t)(--n - k) * sizeof(*h));
		k = -1; /* it has grown: look again */
	}
	memmove(hints + at + 1, hints + at, (size_t)(n - at) * sizeof(*hints));
	hints[at] = m;
	return n + 1;
}

static struct seg_miss hint_of(const struct volume *v, const struct map_piece *p, uint64_t window)
{
	uint64_t e = v->o.extent_max, first = p->first + p->pos / e;
	uint64_t end = first + (p->pos % e + p->end - p->off + e - 1) / e;

	/* Who reads that much will want what lies between as well: whole transfers instead of
	 * pieces. */
	if (window >= AHEAD_WHOLE) {
		first = first / (AHEAD_PIECE / e) * (AHEAD_PIECE / e);
		end = round_up_u64(end, AHEAD_PIECE / e);
	}
	return (struct seg_miss){ p->seg, (uint32_t)first, (uint32_t)(end - first) };
}

/* Sequential readers: what comes next, in steps of half a window that doubles. Inode lock held, so
 * segstore is told later: it may take the meta lock, which comes before inode locks. Returns how
 * many hints there are. */
static int read_ahead(struct volume *v, struct inode *i, uint64_t off, size_t len,
		      struct seg_miss hints[PIECES_AT_ONCE])
{
	uint64_t window, target, at;
	int n = 0;

	if (off + AHEAD_SLACK < i->rd_next || off > i->rd_next + AHEAD_SLACK) {
		i->rd_run = 0;
		i->rd_ahead = 0;
	}
	i->rd_run += len;
	i->rd_next = MAX(off + len, off <= i->rd_next ? i->rd_next : 0);
	if (i->rd_run < AHEAD_MIN)
		return 0;
	/* Each round trip brings five times as much as was read before it. */
	window = MIN(MAX(i->rd_run * 4, AHEAD_FIRST), AHEAD_MAX);
	at = MAX(i->rd_ahead, off + len);
	if (at > off + len + window / 2 || at >= i->n.size)
		return 0;
	target = MIN(off + len + window, i->n.size);
	for (int k = 0; at < target && k < AHEAD_PIECES && n < PIECES_AT_ONCE; k++) {
		struct map_piece p;

		if (file_map_next(i, at, target, &p))
			break;
		if (p.kind == MAP_SEALED && p.committed)
			n = hint_add(hints, n, hint_of(v, &p, window));
		at = p.end;
	}
	i->rd_ahead = at;
	return n;
}

int volume_read(struct volume *v, uint64_t ino, uint64_t off, void *buf, size_t len, size_t *got,
		struct read_op **op, void (*done)(void *arg, int result), void *arg)
{
	struct seg_miss miss, hints[PIECES_AT_ONCE];
	struct read_op *r;
	struct inode *i;
	size_t at = 0;
	int rc = inode_get(v, ino, &i), nhints = 0;

	*got = 0;
	*op = NULL;
	if (rc)
		return rc;
	pthread_mutex_lock(&i->lock);
	if (S_ISDIR(i->type))
		rc = -EISDIR;
	inode_touch_atime(v, i);
	len = off >= i->n.size ? 0 : MIN(len, i->n.size - off);
	if (len)
		nhints = read_ahead(v, i, off, len, hints);
	pthread_mutex_unlock(&i->lock);
	for (int k = 0; k < nhints; k++)
		segstore_prefetch(v->st, hints[k].seg, hints[k].first, hints[k].count);
	if (!rc)
		rc = read_local(v, i, off, buf, &at, &len, &miss);
	if (rc != -EAGAIN) {
		*got = rc ? 0 : len;
		inode_put(v, i);
		return rc;
	}
	rc = has_just_failed(i, off) ? -ETIMEDOUT : 0;
	r = rc ? NULL : calloc(1, sizeof(*r));
	if (!r) {
		inode_put(v, i);
		return rc ? rc : -ENOMEM;
	}
	*r = (struct read_op){ .v = v,
			       .i = i,
			       .buf = buf,
			       .off = off,
			       .len = len,
			       .at = at,
			       .got = got,
			       .deadline = segstore_deadline(v->st),
			       .done = done,
			       .arg = arg };
	pthread_mutex_init(&r->lock, NULL);
	*op = r;
	rc = op_fetch(r, &miss);
	if (!rc)
		return -EINPROGRESS;
	*op = NULL;
	pthread_mutex_destroy(&r->lock);
	free(r);
	inode_put(v, i);
	return rc;
}
