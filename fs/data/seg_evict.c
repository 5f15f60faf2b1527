/* Files of closed segments: from staging to cache once they are on all backends, and away when
 * space is wanted (I6). `moving` keeps others from the file meanwhile; readers may go on, for what
 * they hold is either good or does not open. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "fs/base/file.h"

#define EVICT_SLACK (16u << 20)

static void moving_end_locked(struct segstore *st, struct seg *s)
{
	s->moving = 0;
	pthread_cond_broadcast(&st->changed);
}

/* --- staging -> cache --- */

/* Other filesystem: a copy under a temporary name. The open descriptor then names the copy. */
static int copy_over(struct segstore *st, struct seg *s, const char *from, const char *to)
{
	char tmp[SEG_PATH_MAX + 8];
	AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
	AUTO_FREE uint8_t *p = malloc(SEG_PUNCH);
	int rc = 0;

	snprintf(tmp, sizeof(tmp), "%s.tmp", to);
	AUTO_CLOSE int out = in < 0 ? -1 : open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	if (!p)
		rc = -ENOMEM;
	for (uint64_t at = 0; !rc && at < s->length; at += SEG_PUNCH) {
		size_t n = (size_t)MIN(SEG_PUNCH, s->length - at);
		rc = file_pread(in, p, n, at);
		if (!rc)
			rc = file_pwrite(out, p, n, at);
	}
	if (!rc && rename(tmp, to))
		rc = -errno;
	if (rc) {
		unlink(tmp);
		return rc;
	}
	(void)failpoint("cache.copied");
	pthread_mutex_lock(&st->lock);
	if (s->body && s->body->fd >= 0)
		dup3(out, s->body->fd, O_CLOEXEC);
	pthread_mutex_unlock(&st->lock);
	unlink(from);
	return 0;
}

void seg_move_to_cache(struct segstore *st, struct seg *s)
{
	char from[SEG_PATH_MAX], to[SEG_PATH_MAX];

	pthread_mutex_lock(&st->lock);
	/* On all n, and that is committed: the file may go (I6). */
	int ok = s->place == PLACE_STAGING && s->phase == SEG_CLOSED && !s->dropping &&
		 seg_dispersed(st, s) && s->present_durable == st->all && !s->moving &&
		 !s->writing && !s->loading;
	if (ok)
		s->moving = 1;
	pthread_mutex_unlock(&st->lock);
	if (!ok)
		return;
	seg_path(st, s, PLACE_STAGING, from);
	seg_path(st, s, PLACE_CACHE, to);
	int rc = failpoint("cache.move");
	if (!rc && rename(from, to))
		rc = errno == EXDEV ? copy_over(st, s, from, to) : -errno;
	if (!rc)
		(void)failpoint("cache.moved");
	pthread_mutex_lock(&st->lock);
	if (!rc) {
		s->place = PLACE_CACHE;
		seg_touch_locked(st, s);
	}
	moving_end_locked(st, s);
	pthread_mutex_unlock(&st->lock);
	if (rc) /* it stays where it is, and may be evicted from there as well */
		log_debug("%s cannot go to the cache: %s", from, strerror(-rc));
}

/* --- evicting --- */

/* What may go: on all n; or, under pressure, what yields. Both only as far as it is committed. */
static int evictable(const struct segstore *st, const struct seg *s, int pressure)
{
	uint32_t good = s->present & s->present_durable & ~s->suspect;

	if (s->phase != SEG_CLOSED || s->place == PLACE_NONE || s->pins || s->refs || s->moving ||
	    s->writing || s->loading || s->busy || s->pushing || s->dropping || !s->disk)
		return 0;
	if (!s->stored || !s->set_durable)
		return 0;
	return good == st->all || (pressure && seg_yields(s));
}

static struct seg *victim_take(struct segstore *st, int pressure)
{
	SCOPE_LOCK(&st->lock);
	list_for_each (l, &st->lru) {
		struct seg *s = list_entry(l, struct seg, lru);
		if (!evictable(st, s, pressure))
			continue;
		s->moving = 1;
		return s;
	}
	return NULL;
}

/* Punches whole chunks from s->punched on until `want` bytes are free. */
static uint64_t punch(const char *path, struct seg *s, uint64_t want)
{
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t freed = 0;

	while (fd >= 0 && freed < want && s->punched < s->length) {
		uint64_t n = MIN(SEG_PUNCH, s->length - s->punched);
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)s->punched,
			      (off_t)n))
			return freed;
		s->punched += n;
		freed += n;
	}
	return freed;
}

static void forget_extents_locked(struct seg *s, uint64_t to)
{
	struct seg_body *b = s->body;

	if (!b)
		return;
	if (!b->absent)
		b->absent = calloc(b->count + 1, 1); /* without it, tags tell */
	for (uint32_t i = 0; b->absent && i <= b->count && b->ext[i].pos < to; i++)
		b->absent[i] = 1;
}

static uint64_t evict_one(struct segstore *st, struct seg *s, uint64_t want)
{
	char path[SEG_PATH_MAX];
	uint64_t freed = 0;

	seg_path(st, s, s->place, path);
	int whole = want >= s->disk || s->place == PLACE_STAGING;
	(void)failpoint("cache.evict");
	if (s->place == PLACE_STAGING)
		(void)failpoint("cache.evict.staged");
	if (!whole) {
		freed = punch(path, s, want);
		(void)failpoint("cache.punched");
		whole = !freed || s->punched >= s->length;
	}
	int gone = whole && (!unlink(path) || errno == ENOENT);
	(void)failpoint("cache.evicted");
	pthread_mutex_lock(&st->lock);
	seg_account_begin_locked(st, s);
	if (gone) {
		freed = s->disk;
		s->place = PLACE_NONE;
		s->disk = s->punched = 0;
		list_remove(&s->lru);
		forget_extents_locked(s, UINT64_MAX);
		if (!s->pins)
			seg_body_drop_locked(st, s);
	} else {
		freed = MIN(freed, s->disk);
		s->disk -= freed;
		forget_extents_locked(s, s->punched);
	}
	seg_account_end_locked(st, s);
	moving_end_locked(st, s);
	pthread_mutex_unlock(&st->lock);
	return freed;
}

uint64_t seg_evict(struct segstore *st, uint64_t want, uint64_t must)
{
	uint64_t freed = 0;

	for (int pressure = 0; pressure < 2; pressure++) {
		uint64_t goal = pressure ? must : want;
		while (freed < goal) {
			struct seg *s = victim_take(st, pressure);
			uint64_t n = s ? evict_one(st, s, goal - freed) : 0;
			if (!n)
				break;
			freed += n;
		}
	}
	return freed;
}

int seg_make_room(struct segstore *st, uint64_t need)
{
	pthread_mutex_lock(&st->lock);
	uint64_t total = seg_taken_locked(st) + need;
	pthread_mutex_unlock(&st->lock);
	if (total <= st->cap)
		return 0;
	/* A little more than needed, so that not every write evicts. */
	uint64_t over = total - st->cap;
	return seg_evict(st, over + MIN(st->cap / 64, EVICT_SLACK), over) >= over ? 0 : -ENOSPC;
}
