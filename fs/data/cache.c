/* Reading what is local, and the files of segments: staging, cache, moving and evicting.
 *
 * Presence = the tag opens: a hole or a half-written range does not open and counts as a miss. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "crypto/secmem.h"
#include "fs/base/file.h"

/* --- bodies --- */

struct seg_body *seg_body_new(struct segstore *st, struct seg *s)
{
	struct seg_body *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	list_init(&b->lru);
	b->seg = s;
	b->fd = -1;
	b->key = secmem_alloc(KEY_LEN);
	if (!b->key || keyring_segment_key(st->keys, s->keyno, s->id, b->key)) {
		seg_body_free(b);
		return NULL;
	}
	b->cipher = (struct seg_cipher){ .key = b->key, .keyno = s->keyno, .k = s->k };
	memcpy(b->cipher.drive, st->drive, 16);
	memcpy(b->cipher.id, s->id, 16);
	return b;
}

void seg_body_free(struct seg_body *b)
{
	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	free(b->ext);
	free(b->absent);
	secmem_free(b->key);
	free(b);
}

void seg_body_drop_locked(struct segstore *st, struct seg *s)
{
	if (!s->body)
		return;
	if (!list_empty(&s->body->lru)) {
		list_remove(&s->body->lru);
		st->nbodies--;
	}
	seg_body_free(s->body);
	s->body = NULL;
}

void seg_bodies_trim_locked(struct segstore *st)
{
	list_for_each_safe (l, &st->bodies) {
		struct seg *s = list_entry(l, struct seg_body, lru)->seg;
		if (st->nbodies <= st->max.bodies)
			return;
		/* One whose index is not in meta yet has it nowhere else. */
		if (s->pins || s->loading || s->open || s->row_durable < SEGMENT_CLOSED)
			continue;
		seg_body_drop_locked(st, s);
	}
}

/* Extents that touch a hole are not there. */
static int holes_find(struct seg_body *b, uint64_t length)
{
	off_t data = 0, hole = 0;
	uint8_t *absent = calloc(b->count + 1, 1);

	if (!absent)
		return -ENOMEM;
	for (uint32_t i = 0; i <= b->count; i++) {
		struct seg_ext *x = &b->ext[i];
		off_t from = x->pos + SEG_RECORD_HEADER, to = ext_end(x, b->cipher.k);
		if (from >= hole) {
			data = lseek(b->fd, from, SEEK_DATA);
			hole = data < 0 ? (off_t)length : lseek(b->fd, data, SEEK_HOLE);
		}
		absent[i] = data < 0 || from < data || to > hole;
	}
	b->absent = absent;
	return 0;
}

/* Loads the index out of the database. */
static int body_load_index(struct segstore *st, struct seg *s, struct seg_body *b)
{
	AUTO_FREE uint8_t *blob = NULL;
	size_t n = 0;

	meta_lock(st->meta);
	int rc = segment_index_get(st->meta, s->num, &blob, &n);
	meta_unlock(st->meta);
	if (rc)
		return rc;
	rc = segio_blob_get(blob, n, s->k, &b->ext, &b->count);
	if (!rc && (b->count != s->extents || ext_end(&b->ext[b->count], s->k) != s->length))
		rc = -EBADMSG;
	if (rc == -EBADMSG)
		log_error("the index of segment %u in the database is damaged", s->num);
	return rc;
}

/* Without its file a segment is read from the backends. */
static void body_open_file(struct segstore *st, struct seg *s, struct seg_body *b,
			   enum seg_place place, int partial)
{
	char path[SEG_PATH_MAX];

	seg_path(st, s, place, path);
	int fd = open(path, O_RDWR | O_CLOEXEC), code = errno;
	if (fd < 0)
		log_warn("%s: %s", path, strerror(code));
	b->fd = fd;
	if (fd >= 0 && partial && holes_find(b, s->length)) {
		close(fd);
		b->fd = -1;
	}
	if (fd >= 0 || code != ENOENT)
		return;
	pthread_mutex_lock(&st->lock);
	if (s->place == place) { /* somebody removed it */
		seg_account_begin_locked(st, s);
		s->place = PLACE_NONE;
		s->disk = 0;
		seg_account_end_locked(st, s);
		list_remove(&s->lru);
	}
	pthread_mutex_unlock(&st->lock);
}

int seg_body_get(struct segstore *st, struct seg *s)
{
	struct seg_body *fresh = NULL;
	int rc = 0;

	pthread_mutex_lock(&st->lock);
	seg_pin_locked(s);
	while (s->loading)
		pthread_cond_wait(&st->changed, &st->lock);
	struct seg_body *b = s->body;
	if (s->open || (b && (b->fd >= 0 || s->place == PLACE_NONE))) {
		if (!list_empty(&b->lru)) {
			list_remove(&b->lru);
			list_push_back(&st->bodies, &b->lru);
		}
		pthread_mutex_unlock(&st->lock);
		return 0;
	}
	s->loading = 1;
	enum seg_place place = s->place;
	int partial = s->disk < s->length;
	pthread_mutex_unlock(&st->lock);

	if (!b) {
		fresh = b = seg_body_new(st, s);
		rc = b ? body_load_index(st, s, b) : -ENOMEM;
	}
	if (!rc && place != PLACE_NONE)
		body_open_file(st, s, b, place, partial);

	pthread_mutex_lock(&st->lock);
	s->loading = 0;
	if (!rc && fresh) {
		s->body = fresh;
		list_push_back(&st->bodies, &fresh->lru);
		if (++st->nbodies > st->max.bodies)
			seg_bodies_trim_locked(st);
	} else {
		if (fresh)
			seg_body_free(fresh);
	}
	if (rc)
		seg_unpin_locked(st, s);
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	return rc == -ENOENT || rc == -EBADMSG ? -EIO : rc;
}

void seg_touch_locked(struct segstore *st, struct seg *s)
{
	if (list_empty(&s->lru))
		return;
	list_remove(&s->lru);
	list_push_back(&st->lru, &s->lru);
}

int seg_whole_locked(const struct seg *s)
{
	if (!s->body || s->body->fd < 0 || s->place == PLACE_NONE)
		return 0;
	for (uint32_t i = 0; s->body->absent && i <= s->body->count; i++)
		if (s->body->absent[i])
			return 0;
	return 1;
}

void seg_mark_absent(struct segstore *st, struct seg *s, uint32_t i)
{
	SCOPE_LOCK(&st->lock);
	struct seg_body *b = s->body;

	if (!b->absent)
		b->absent = calloc(b->count + 1, 1);
	if (b->absent)
		b->absent[i] = 1;
}

/* --- sealed bytes --- */

int seg_sealed_get(struct segstore *st, struct seg *s, uint32_t i, void *buf,
		   struct seg_sealed *out)
{
	struct seg_body *b = s->body;
	const struct seg_ext *x = &b->ext[i];
	struct seg_open *o = s->open; /* stays while we have a pin */

	*out = (struct seg_sealed){ 0 };
	if (o && x->pos >= atomic_load(&o->released)) {
		out->p = o->region->p + x->pos + SEG_RECORD_HEADER;
		out->from = FROM_REGION;
		return 0;
	}
	pthread_mutex_lock(&st->lock);
	out->x = xfer_find_done_locked(s, i);
	int fd = b->absent && b->absent[i] ? -1 : b->fd;
	pthread_mutex_unlock(&st->lock);
	if (out->x) {
		out->p = xfer_sealed(out->x, x->pos);
		out->from = FROM_XFER;
		return 0;
	}
	if (fd < 0)
		return -ENOENT;
	int rc = file_pread(fd, buf, ext_sealed(x, s->k), x->pos + SEG_RECORD_HEADER);
	out->p = buf;
	out->from = FROM_FILE;
	return rc;
}

void seg_sealed_release(struct segstore *st, struct seg_sealed *r)
{
	if (r->x)
		xfer_unref(st, r->x);
	r->x = NULL;
}

/* Bytes of a file here are wrong, or cannot be read (rc). -ENOENT when backends can help. */
static int wrong_locally(struct segstore *st, struct seg *s, uint32_t i, int rc)
{
	int unread = rc != -EBADMSG && rc != -ENODATA && rc != -ENOENT;

	pthread_mutex_lock(&st->lock);
	int help = seg_fetchable(s), cached = s->place == PLACE_CACHE;
	int first = !help && !s->damaged;
	if (first)
		s->damaged = 1;
	pthread_mutex_unlock(&st->lock);
	if (help) {
		seg_mark_absent(st, s, i);
		if (!cached)
			log_warn("extent %u of segment %u is damaged in %s; it is read from the "
				 "backends instead",
				 i, s->num, st->staging_dir);
		return -ENOENT;
	}
	if (first && unread)
		log_error("extent %u of segment %u cannot be read in %s (%s), and it was not "
			  "uploaded yet. Check that disk",
			  i, s->num, st->staging_dir, strerror(-rc));
	else if (first)
		log_error("extent %u of segment %u is damaged in %s, and it was not uploaded yet: "
			  "its bytes are lost. Check that disk",
			  i, s->num, st->staging_dir);
	return -EBADMSG;
}

static int fetchable(struct segstore *st, const struct seg *s)
{
	SCOPE_LOCK(&st->lock);
	return seg_fetchable(s);
}

int seg_open_extent(struct segstore *st, struct seg *s, uint32_t i, void *buf, void *plain,
		    struct seg_sealed *out)
{
	const struct seg_ext *x = &s->body->ext[i];
	uint32_t number = ext_number(x, i);
	struct seg_open *o = s->open;

	if (x->flags & EXT_VOID)
		return -EBADMSG;
	for (;;) {
		int rc = seg_sealed_get(st, s, i, buf, out);
		if (rc == -ENOENT && fetchable(st, s))
			return rc;
		if (rc == -ENOENT)
			return wrong_locally(st, s, i, rc);
		int read = rc;
		if (!rc)
			rc = segio_open(&s->body->cipher, number, x, out->p, plain);
		if (!rc)
			return 0;
		enum seg_source from = out->from;
		seg_sealed_release(st, out);
		/* The flusher gave the memory back while we read it. */
		if (from == FROM_REGION && x->pos < atomic_load(&o->released))
			continue;
		/* Not where the cryptographic library failed: that says nothing of the bytes. */
		if (from == FROM_FILE && (read || rc == -EBADMSG))
			return wrong_locally(st, s, i, rc);
		return rc;
	}
}

/* --- opened extents --- */

struct plain {
	struct hash_node node;
	struct list lru;
	uint32_t len;
	uint8_t p[];
};

static uint64_t plain_key(const struct seg *s, uint32_t i)
{
	return (uint64_t)s->num << 16 | i;
}

int plain_init(struct plain_cache *c, uint64_t max)
{
	c->max = max;
	list_init(&c->lru);
	int rc = hash_init(&c->map, 256);
	return rc ? rc : -pthread_mutex_init(&c->lock, NULL);
}

static void plain_remove(struct plain_cache *c, struct plain *e)
{
	hash_remove(&c->map, &e->node);
	list_remove(&e->lru);
	c->bytes -= e->len;
	free(e);
}

void plain_release(struct plain_cache *c)
{
	list_for_each_safe (l, &c->lru)
		plain_remove(c, list_entry(l, struct plain, lru));
	hash_release(&c->map);
	pthread_mutex_destroy(&c->lock);
}

static int plain_get(struct plain_cache *c, uint64_t key, uint32_t from, void *dst, uint32_t n)
{
	SCOPE_LOCK(&c->lock);
	struct hash_node *h = hash_find(&c->map, key);

	if (!h)
		return 0;
	struct plain *e = container_of(h, struct plain, node);
	list_remove(&e->lru);
	list_push_back(&c->lru, &e->lru);
	memcpy(dst, e->p + from, n);
	return 1;
}

static void plain_put(struct plain_cache *c, uint64_t key, const void *p, uint32_t len)
{
	struct plain *e = malloc(sizeof(*e) + len);

	if (!e)
		return;
	e->len = len;
	memcpy(e->p, p, len);
	SCOPE_LOCK(&c->lock);
	if (hash_find(&c->map, key)) {
		free(e);
		return;
	}
	hash_insert(&c->map, &e->node, key);
	list_push_back(&c->lru, &e->lru);
	c->bytes += len;
	while (c->bytes > c->max)
		plain_remove(c, list_entry(c->lru.next, struct plain, lru));
}

/* --- reading --- */

/* n bytes of extent i from `from` on into dst, where room >= n bytes may be written. */
static int read_extent(struct segstore *st, struct seg *s, uint32_t i, uint32_t from, uint8_t *dst,
		       uint32_t n, size_t room)
{
	const struct seg_ext *x = &s->body->ext[i];
	uint32_t sealed = ext_sealed(x, s->k);
	int whole = !from && n == x->file_len, zstd = x->flags & EXT_ZSTD;
	struct seg_sealed r;

	if (plain_get(&st->plain, plain_key(s, i), from, dst, n))
		return 0;
	uint8_t *buf = segio_scratch(SCRATCH_PLAIN, sealed), *plain = buf;
	if (!buf)
		return -ENOMEM;
	/* AES is the copy where it can be: padding behind the last byte needs room as well. */
	if (whole && !zstd && room >= sealed - 16)
		plain = dst;
	int rc = seg_open_extent(st, s, i, buf, plain, &r);
	if (rc)
		return rc;
	seg_sealed_release(st, &r);
	if (zstd) {
		uint8_t *unpacked = whole ? dst : segio_scratch(SCRATCH_UNPACK, x->file_len);
		if (!unpacked)
			return -ENOMEM;
		rc = segio_decompress(plain, x->stored, unpacked, x->file_len);
		if (rc)
			return rc;
		plain = unpacked;
	}
	if (!whole)
		plain_put(&st->plain, plain_key(s, i), plain, x->file_len);
	if (plain != dst)
		memcpy(dst, plain + from, n);
	return 0;
}

/* First extent at or behind `first` that has file byte pos (of the whole segment). */
static uint32_t ext_at(const struct seg_body *b, uint32_t first, uint32_t count, uint64_t pos)
{
	uint32_t lo = first, hi = count; /* ext[lo].file_pos <= pos < end of ext[hi - 1] */

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (b->ext[mid].file_pos <= pos)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

int segstore_read(struct segstore *st, uint32_t num, uint32_t first, uint64_t skip, void *dst,
		  size_t len, struct seg_miss *miss)
{
	uint8_t *to = dst;

	pthread_mutex_lock(&st->lock);
	struct seg *s = seg_find_locked(st, num);
	if (s && s->phase == SEG_GONE)
		s = NULL;
	if (s) {
		seg_pin_locked(s);
		seg_touch_locked(st, s);
	}
	pthread_mutex_unlock(&st->lock);
	if (!s)
		return -EINVAL;
	int rc = seg_body_get(st, s);
	seg_unpin(st, s); /* the body's pin is enough, or none is needed */
	if (rc)
		return rc;
	struct seg_body *b = s->body;
	pthread_mutex_lock(&st->lock);
	uint32_t count = b->count;
	uint64_t end = count ? b->ext[count - 1].file_pos + b->ext[count - 1].file_len : 0;
	pthread_mutex_unlock(&st->lock);
	uint64_t pos = first < count ? b->ext[first].file_pos + skip : 0;
	if (first >= count || skip > end || len > end || pos > end - len)
		rc = -EINVAL;
	for (uint32_t i = rc || !len ? 0 : ext_at(b, first, count, pos); !rc && len; i++) {
		const struct seg_ext *x = &b->ext[i];
		uint32_t from = (uint32_t)(pos - x->file_pos);
		uint32_t n = (uint32_t)MIN(len, x->file_len - from);
		rc = read_extent(st, s, i, from, to, n, len);
		if (rc == -ENOENT) {
			*miss = (struct seg_miss){ .seg = num, .first = i };
			miss->count = ext_at(b, i, count, pos + len - 1) - i + 1;
			rc = -EAGAIN;
		}
		to += n, len -= n, pos += n;
	}
	seg_unpin(st, s);
	return rc;
}

/* --- writing what was fetched --- */

static uint64_t disk_usage(int fd)
{
	struct stat sb;

	return fstat(fd, &sb) ? 0 : (uint64_t)sb.st_blocks * 512;
}

/* An empty, sparse cache file; s->loading keeps others away. */
static int cache_create(struct segstore *st, struct seg *s)
{
	struct seg_body *b = s->body;
	char path[SEG_PATH_MAX];

	uint8_t *absent = malloc(b->count + 1);
	if (!absent)
		return -ENOMEM;
	memset(absent, 1, b->count + 1);
	seg_path(st, s, PLACE_CACHE, path);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc = 0;
	if (fd < 0)
		rc = -errno;
	else if (ftruncate(fd, (off_t)s->length))
		rc = -errno;
	if (rc) {
		if (fd >= 0)
			close(fd);
		free(absent);
		return rc;
	}
	pthread_mutex_lock(&st->lock);
	if (b->fd >= 0) { /* of a file that was evicted while somebody read it */
		dup3(fd, b->fd, O_CLOEXEC);
		close(fd);
	} else {
		b->fd = fd;
	}
	free(b->absent);
	b->absent = absent;
	s->place = PLACE_CACHE;
	s->punched = 0;
	if (list_empty(&s->lru))
		list_push_back(&st->lru, &s->lru);
	pthread_mutex_unlock(&st->lock);
	return 0;
}

/* Makes sure that there is a file to write to, and that nobody moves it. */
static int writing_begin(struct segstore *st, struct seg *s)
{
	int rc = 0;

	pthread_mutex_lock(&st->lock);
	while (s->loading)
		pthread_cond_wait(&st->changed, &st->lock);
	if (s->moving || s->phase != SEG_CLOSED || s->dropping) {
		pthread_mutex_unlock(&st->lock);
		return -EBUSY;
	}
	s->writing++;
	int create = s->place == PLACE_NONE || s->body->fd < 0;
	s->loading = (uint8_t)create;
	pthread_mutex_unlock(&st->lock);
	if (!create)
		return 0;
	rc = cache_create(st, s);
	pthread_mutex_lock(&st->lock);
	s->loading = 0;
	if (rc)
		s->writing--;
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	return rc;
}

static int sealed_write(struct seg *s, uint32_t first, uint32_t count, const uint8_t *p, size_t len)
{
	struct seg_body *b = s->body;
	uint32_t base = b->ext[first].pos;
	int rc = 0;

	if (s->place == PLACE_CACHE)
		return file_pwrite(b->fd, p, len, base);
	/* A staging file keeps its record headers. */
	for (uint32_t i = first; !rc && i < first + count; i++) {
		uint32_t pos = b->ext[i].pos + SEG_RECORD_HEADER;
		rc = file_pwrite(b->fd, p + (pos - base), ext_sealed(&b->ext[i], s->k), pos);
	}
	return rc;
}

void seg_cache_write(struct segstore *st, struct seg *s, uint32_t first, uint32_t count,
		     const uint8_t *p, size_t len)
{
	struct seg_body *b = s->body;

	if (seg_make_room(st, len) || writing_begin(st, s))
		return;
	int rc = failpoint("cache.write");
	if (!rc)
		rc = sealed_write(s, first, count, p, len);
	uint64_t disk = disk_usage(b->fd);
	pthread_mutex_lock(&st->lock);
	s->writing--;
	seg_account_begin_locked(st, s);
	s->disk = MIN(disk, s->length);
	seg_account_end_locked(st, s);
	for (uint32_t i = first; !rc && b->absent && i < first + count; i++)
		b->absent[i] = 0;
	seg_touch_locked(st, s);
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	if (rc)
		log_debug("fetched bytes of segment %u are not kept: %s", s->num, strerror(-rc));
}
