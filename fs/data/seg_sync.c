/* From memory to disk: sync passes, closing, rewriting after a failed sync, and the flusher thread.
 *
 * One pass at a time. It writes what is finished, then syncs, all without the lock; a segment's
 * bytes stay in memory until fdatasync confirmed them, for after a failed one the page cache must
 * not be trusted (it may call pages clean that never reached the disk). */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "fs/base/file.h"

#define PASS_MAX    16
#define SMALL_SYNC  (64u << 10)
#define ZERO_AHEAD  (256u << 10)
#define ALLOC_PART  64 /* at most 1/64 of the cap ahead of what is written, in each open file */
#define ALLOC_MIN   (256u << 10)
#define FLUSH_TICK  (250 * NS_PER_MS)
#define COMMIT_WAIT (500 * NS_PER_MS) /* how long a closed segment waits for somebody's commit */

struct pass_seg {
	struct seg *s;
	uint32_t reserved; /* extents when the pass began: they are waited for */
	uint32_t end;      /* bytes of the file that this pass makes durable */
	int closing;
	int rc;
};

static int dir_sync(const char *dir)
{
	int rc = failpoint("stage.dirsync");
	return rc ? rc : file_sync_dir(dir);
}

/* Room ahead of what is written: appending syncs only data then (measured: 2.8 times). Under a
 * small cap in small steps, and none near it, for the cap holds for blocks on the disk, and up to
 * five segments are open at once. */
static int file_allocate(struct segstore *st, struct seg *s, int fd, uint32_t end)
{
	struct seg_open *o = s->open;
	uint64_t step = MAX(MIN(st->target, st->cap / ALLOC_PART), ALLOC_MIN);
	uint64_t to = MIN((end + step - 1) / step * step, MAX(st->target, end));
	uint32_t had = o->allocated;

	if (end <= had)
		return 0;
	pthread_mutex_lock(&st->lock);
	int near = st->sums.staged_bytes - st->sums.yield_bytes + seg_spare_locked(st) + step >
		   st->cap / 4 * 3;
	if (!near)
		o->allocated = (uint32_t)to; /* counted before it is taken */
	pthread_mutex_unlock(&st->lock);
	if (!near)
		(void)seg_make_room(st, 0);
	/* Where it is not supported files grow as they are written. */
	if (near || !fallocate(fd, 0, 0, (off_t)to) || (errno != ENOSPC && errno != EDQUOT))
		return 0;
	int rc = -errno;
	pthread_mutex_lock(&st->lock);
	o->allocated = had;
	pthread_mutex_unlock(&st->lock);
	return rc;
}

static int file_create(struct segstore *st, struct seg *s, uint32_t end)
{
	char path[SEG_PATH_MAX];

	int rc = failpoint("stage.create");
	if (rc)
		return rc;
	seg_path(st, s, PLACE_STAGING, path);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = file_allocate(st, s, fd, end);
	if (rc) {
		unlink(path);
		close(fd);
		return rc;
	}
	pthread_mutex_lock(&st->lock);
	s->body->fd = fd;
	pthread_mutex_unlock(&st->lock);
	return 0;
}

/* Seals the index behind the last record. All appends have ended. */
static int index_append(struct seg *s)
{
	struct seg_open *o = s->open;

	int rc = failpoint("segment.index");
	if (!rc)
		rc = segio_index_seal(&s->body->cipher, s->body->ext, s->body->count, o->hints,
				      s->created, o->finished_pos, o->region->p + o->finished_pos);
	o->index_done = !rc;
	return rc;
}

/* Programs that sync every few kilobytes (databases, logs) pay for each sync's commit of the
 * filesystem's journal when that turns unwritten blocks into written ones; over blocks that hold
 * zeros already it is data alone (measured: half the time). Recovery ends at zeros as it does at a
 * torn record. Never beyond what is allocated, and so counted. */
static void zero_ahead(struct seg *s, uint32_t added)
{
	static const uint8_t zeros[ZERO_AHEAD];
	struct seg_open *o = s->open;
	uint32_t from = MAX(o->written, o->zeroed);

	o->small_syncs = added <= SMALL_SYNC ? o->small_syncs + 1 : 0;
	if (o->small_syncs < 2 || o->written + SMALL_SYNC <= o->zeroed || from >= o->allocated)
		return;
	uint32_t n = MIN(o->allocated - from, ZERO_AHEAD);
	if (!file_pwrite(s->body->fd, zeros, n, from))
		o->zeroed = from + n;
}

static int no_space(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

/* Writes what is finished and not in the file yet. -ENOSPC leaves everything as it was. */
static int pass_write(struct segstore *st, struct pass_seg *p)
{
	struct seg *s = p->s;
	struct seg_open *o = s->open;
	int rc = 0;

	if (p->closing && !o->index_done) {
		rc = index_append(s);
		if (rc)
			return rc;
	}
	if (o->index_done)
		p->end = ext_end(&s->body->ext[s->body->count], s->k);
	if (s->body->fd < 0)
		rc = file_create(st, s, p->end);
	else if (o->written < p->end)
		(void)file_allocate(st, s, s->body->fd, p->end); /* else writing says so */
	if (!rc && o->written < p->end) {
		(void)seg_make_room(st, 0); /* the cap holds for the disk at every moment */
		rc = failpoint("stage.write");
		if (!rc)
			rc = file_pwrite(s->body->fd, o->region->p + o->written,
					 p->end - o->written, o->written);
		uint32_t added = p->end - o->written;
		if (!rc)
			o->written = p->end;
		else if (!no_space(rc))
			o->broken = 1;
		if (!rc && !p->closing)
			zero_ahead(s, added);
	}
	if (!rc && o->index_done && ftruncate(s->body->fd, (off_t)p->end)) {
		rc = -errno;
		o->broken = 1;
	}
	return rc;
}

/* Everything of the segment up to end into p: from memory, and where that was given back from the
 * old file, verified. */
static int gather(struct seg *s, uint32_t end, uint8_t *p)
{
	struct seg_open *o = s->open;
	struct seg_body *b = s->body;
	uint32_t released = atomic_load(&o->released);

	if (!released) {
		memcpy(p, o->region->p, end);
		return 0;
	}
	int rc = file_pread(b->fd, p, released, 0);
	memcpy(p + released, o->region->p + released, end - released);
	segio_file_header_put(p, &b->cipher);
	for (uint32_t i = 0; !rc && i < b->count && b->ext[i].pos < released; i++) {
		struct seg_ext *x = &b->ext[i];
		uint8_t *plain = segio_scratch(SCRATCH_PLAIN, ext_sealed(x, s->k));
		if (!plain)
			return -ENOMEM;
		segio_record_put(p + x->pos, &b->cipher, i, x, &o->hints[i]);
		if (!(x->flags & EXT_VOID))
			rc = segio_open(&b->cipher, i, x, p + x->pos + SEG_RECORD_HEADER, plain);
	}
	return rc;
}

static int write_anew(const char *tmp, const uint8_t *p, uint32_t len, int *out)
{
	int rc = failpoint("stage.rewrite");
	if (rc)
		return rc;
	int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = file_pwrite(fd, p, len, 0);
	if (!rc)
		rc = failpoint("stage.resync");
	if (!rc && fdatasync(fd))
		rc = -errno;
	if (rc) {
		unlink(tmp);
		close(fd);
		return rc;
	}
	*out = fd;
	return 0;
}

/* A sync or a write failed: the same sealed bytes go into a new file, under the same id (no pair of
 * key and nonce seals twice, I3), and the segment takes no more. */
static int rewrite(struct segstore *st, struct pass_seg *p)
{
	char path[SEG_PATH_MAX], tmp[SEG_PATH_MAX + 8];
	struct seg *s = p->s;
	uint8_t *bytes = malloc(p->end);
	int fd = -1;

	if (!bytes)
		return -ENOMEM;
	seg_path(st, s, PLACE_STAGING, path);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	int rc = gather(s, p->end, bytes);
	if (!rc)
		rc = write_anew(tmp, bytes, p->end, &fd);
	free(bytes);
	if (rc)
		return rc;
	/* Readers keep their descriptor number: both files hold the same bytes. */
	if (rename(tmp, path) || dup3(fd, s->body->fd, O_CLOEXEC) < 0) {
		rc = -errno;
		unlink(tmp);
		close(fd);
		return rc;
	}
	close(fd);
	rc = dir_sync(st->staging_dir);
	if (rc)
		return rc;
	s->open->broken = 0;
	s->open->dir_synced = 1;
	s->open->written = p->end;
	s->open->zeroed = 0;
	pthread_mutex_lock(&st->lock);
	s->open->allocated = 0;
	pthread_mutex_unlock(&st->lock);
	log_warn("segment %u was written into a new file after a failed sync; nothing is lost",
		 s->num);
	pthread_mutex_lock(&st->lock);
	seg_begin_close_locked(st, s);
	pthread_mutex_unlock(&st->lock);
	return 0;
}

static int pass_sync(struct segstore *st, struct pass_seg *p)
{
	struct seg *s = p->s;
	struct seg_open *o = s->open;
	int rc = p->rc;

	if (rc && !o->broken)
		return rc;
	if (!o->broken) {
		rc = failpoint("stage.sync");
		if (!rc && fdatasync(s->body->fd))
			rc = -errno;
		if (rc) {
			log_error("syncing the staging file of segment %u failed: %s", s->num,
				  strerror(-rc));
			o->broken = 1;
		}
	}
	if (o->broken) {
		rc = s->body->fd < 0 ? rc : rewrite(st, p);
		if (rc)
			log_error(
			    "segment %u cannot be written to %s: %s. Its bytes stay in memory",
			    s->num, st->staging_dir, strerror(-rc));
	}
	if (!rc && !o->dir_synced) {
		rc = dir_sync(st->staging_dir);
		o->dir_synced = !rc;
	}
	return rc;
}

/* The whole file is durable, index last. */
static void closed_locked(struct segstore *st, struct seg *s)
{
	struct seg_body *b = s->body;

	seg_account_begin_locked(st, s);
	seg_set_phase_locked(st, s, SEG_CLOSED);
	s->extents = b->count;
	s->length = ext_end(&b->ext[b->count], s->k);
	s->disk = s->length;
	s->place = PLACE_STAGING;
	s->shard_len = seg_shard_len(s->length, s->extents, s->k);
	seg_account_end_locked(st, s);
	list_remove(&s->open->link); /* the rest of it goes with the last pin */
	s->open->kept = s->open->synced - atomic_load(&s->open->released);
	st->kept += s->open->kept;
	list_push_back(&st->bodies, &b->lru);
	st->nbodies++;
	list_push_back(&st->lru, &s->lru);
	if (!st->rows_since)
		st->rows_since = clock_mono_ns();
}

/* What this pass made durable counts from now on. */
static void confirm_locked(struct segstore *st, struct pass_seg *p)
{
	struct seg *s = p->s;
	struct seg_open *o = s->open;
	uint32_t reserved = p->end;

	if (p->end <= o->synced)
		return;
	if (o->index_done) /* the index was never reserved by an append */
		reserved = s->body->ext[s->body->count].pos;
	if (reserved > o->synced)
		st->unsynced -= reserved - MAX(o->synced, SEG_FILE_HEADER);
	o->synced = p->end;
	if (o->index_done)
		closed_locked(st, s);
}

/* Bytes that segments have in memory although the disk has them. */
static uint64_t resident(struct segstore *st)
{
	SCOPE_LOCK(&st->lock);
	uint64_t sum = st->kept;

	list_for_each (l, &st->opens) {
		struct seg_open *o = list_entry(l, struct seg_open, link);
		uint32_t released = atomic_load(&o->released);

		sum += o->synced > released ? o->synced - released : 0;
	}
	return sum;
}

/* Beyond a limit segments give back memory that the disk holds, page by page. */
static void release_pages(struct segstore *st, struct seg *s)
{
	struct seg_open *o = s->open;
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE), from = atomic_load(&o->released);
	uint32_t to = o->synced / page * page;

	if (to <= from || resident(st) <= st->max.resident)
		return;
	/* First the mark: who finds zeros in memory looks again and reads the file. */
	atomic_store(&o->released, to);
	madvise(o->region->p + from, to - from, MADV_DONTNEED);
	SCOPE_LOCK(&st->lock);
	st->kept -= o->kept;
	o->kept = 0;
}

static int pass_collect(struct segstore *st, struct pass_seg *p)
{
	int n = 0;

	SCOPE_LOCK(&st->lock);
	list_for_each (l, &st->opens) {
		struct seg_open *o = list_entry(l, struct seg_open, link);
		if (n == PASS_MAX)
			break;
		if (o->synced == o->pos && o->seg->phase == SEG_OPEN)
			continue;
		p[n++] = (struct pass_seg){ .s = o->seg, .reserved = o->seg->body->count };
		seg_pin_locked(o->seg);
	}
	for (int i = 0; i < n; i++) {
		struct seg *s = p[i].s;
		/* Sealing in another thread: microseconds. */
		while (s->open->finished < p[i].reserved)
			pthread_cond_wait(&st->changed, &st->lock);
		p[i].closing = s->phase == SEG_CLOSING && !s->open->pending;
		p[i].end = s->open->finished_pos;
	}
	return n;
}

/* One batch of segments. *more: there may be others. */
static int pass_batch(struct segstore *st, int *more)
{
	struct pass_seg p[PASS_MAX];
	int result = 0, n = pass_collect(st, p);

	*more = n == PASS_MAX;
	for (int i = 0; i < n; i++) {
		p[i].rc = pass_write(st, &p[i]);
		if (no_space(p[i].rc) && seg_evict(st, st->max.unsynced_go, st->max.unsynced_go))
			p[i].rc = pass_write(st, &p[i]);
	}
	for (int i = 0; i < n; i++) {
		p[i].rc = pass_sync(st, &p[i]);
		pthread_mutex_lock(&st->lock);
		if (!p[i].rc)
			confirm_locked(st, &p[i]);
		pthread_mutex_unlock(&st->lock);
		if (!p[i].rc)
			release_pages(st, p[i].s);
		if (p[i].rc && (!result || no_space(result)))
			result = p[i].rc;
		seg_unpin(st, p[i].s);
	}
	return result;
}

static int sync_pass(struct segstore *st)
{
	int rc, more;

	do
		rc = pass_batch(st, &more);
	while (!rc && more);
	(void)failpoint("stage.synced");
	return rc;
}

static void room_call(struct segstore *st)
{
	struct list ready;

	list_init(&ready);
	pthread_mutex_lock(&st->lock);
	if (st->unsynced < st->max.unsynced || st->sync_error || st->stopping)
		list_splice_back(&ready, &st->room);
	pthread_mutex_unlock(&st->lock);
	list_for_each_safe (l, &ready) {
		struct room_wait *w = list_entry(l, struct room_wait, link);
		w->fn(w->arg);
		free(w);
	}
}

/* A pass that begins after the call, by this thread or another one. */
static int pass_run(struct segstore *st)
{
	int rc;

	pthread_mutex_lock(&st->lock);
	uint64_t need = st->pass_begun + 1;
	while (st->pass_done < need) {
		if (st->pass_running) {
			pthread_cond_wait(&st->changed, &st->lock);
			continue;
		}
		uint64_t mine = ++st->pass_begun;
		st->pass_running = 1;
		pthread_mutex_unlock(&st->lock);
		rc = sync_pass(st);
		pthread_mutex_lock(&st->lock);
		st->pass_running = 0;
		st->pass_done = mine;
		st->pass_rc = st->sync_error = rc;
		pthread_cond_broadcast(&st->changed);
	}
	rc = st->pass_rc;
	pthread_mutex_unlock(&st->lock);
	room_call(st);
	return rc;
}

int segstore_sync(struct segstore *st)
{
	int rc = pass_run(st);

	return !rc || no_space(rc) ? rc : -EIO;
}

/* --- the flusher --- */

static void close_old_locked(struct segstore *st, int64_t now)
{
	list_for_each_safe (l, &st->opens) {
		struct seg_open *o = list_entry(l, struct seg_open, link);
		if (o->seg->phase == SEG_OPEN &&
		    (now - o->born_ns >= st->flush_age || now - o->touched_ns >= st->flush_idle))
			seg_begin_close_locked(st, o->seg);
	}
}

static int closing_locked(const struct segstore *st)
{
	list_for_each (l, &st->opens)
		if (list_entry(l, struct seg_open, link)->seg->phase == SEG_CLOSING)
			return 1;
	return 0;
}

static void *flusher(void *arg)
{
	struct segstore *st = arg;
	int64_t failed_at = 0;

	pthread_setname_np(pthread_self(), "seg-flush");
	pthread_mutex_lock(&st->lock);
	while (!st->flusher_stop) {
		int64_t now = clock_mono_ns();
		close_old_locked(st, now);
		int ask = st->rows_since && now - st->rows_since > COMMIT_WAIT && !st->stopping;
		if (ask)
			st->rows_since = 0;
		/* A disk that fails is tried again once a second, not in a loop. */
		int pass = (st->unsynced >= st->max.unsynced_go || closing_locked(st)) &&
			   (!st->sync_error || now - failed_at >= NS_PER_S);
		int full = seg_taken_locked(st) > st->cap;
		if (!ask && !pass && !full) {
			cond_wait_until(&st->flush_cv, &st->lock, now + FLUSH_TICK);
			continue;
		}
		pthread_mutex_unlock(&st->lock);
		if (ask)
			seg_commit_soon(st);
		if (pass && pass_run(st))
			failed_at = clock_mono_ns();
		int stuck = full && seg_make_room(st, 0);
		pthread_mutex_lock(&st->lock);
		if (stuck && !pass && !st->flusher_stop)
			cond_wait_until(&st->flush_cv, &st->lock, clock_mono_ns() + FLUSH_TICK);
	}
	pthread_mutex_unlock(&st->lock);
	return NULL;
}

int seg_flusher_start(struct segstore *st)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&st->flusher, NULL, flusher, st);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	st->flusher_runs = !rc;
	return -rc;
}

void seg_flusher_stop(struct segstore *st)
{
	if (!st->flusher_runs)
		return;
	pthread_mutex_lock(&st->lock);
	st->flusher_stop = 1;
	pthread_cond_broadcast(&st->flush_cv);
	pthread_mutex_unlock(&st->lock);
	pthread_join(st->flusher, NULL);
	st->flusher_runs = 0;
}
