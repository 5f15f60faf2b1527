/* What a mount finds: rows, files, and the staging files of segments that were open, which explain
 * themselves (I8: nothing is believed before its checksum and tag). */
#include "fs/data/seg_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "fs/base/buf.h"
#include "fs/base/file.h"

#define ORPHAN_DAYS 7

/* --- scanning a staging file --- */

struct scan {
	struct segstore *st;
	struct seg *s;
	const uint8_t *p;
	size_t len;
	struct seg_body *body;
	struct seg_hint *hints;
	uint8_t *plain;
	uint32_t at, good_end, good_count; /* good_*: what is kept for certain */
};

static int open_record(struct scan *sc, uint32_t number, const struct seg_ext *x)
{
	if (x->flags & EXT_VOID)
		return 0;
	uint8_t *plain = realloc(sc->plain, ext_sealed(x, sc->s->k));
	if (!plain)
		return -ENOMEM;
	sc->plain = plain;
	return segio_open(&sc->body->cipher, number, x, sc->p + x->pos + SEG_RECORD_HEADER, plain);
}

/* One record. 1: it is there and good; 0: the end, or torn; 2: it is the index. A record whose
 * header is good but whose bytes are not is skipped as void, and counts only when a good one
 * follows: then it is damage, not a torn tail. */
static int scan_record(struct scan *sc)
{
	struct seg_body *b = sc->body;
	struct seg_ext x = { .pos = sc->at };
	struct seg_hint hint;
	uint32_t number;

	if (sc->at > sc->len || sc->len - sc->at < SEG_RECORD_HEADER)
		return 0;
	if (segio_record_get(sc->p + sc->at, &b->cipher, &number, &x, &hint))
		return 0;
	if (ext_sealed(&x, sc->s->k) > sc->len - sc->at - SEG_RECORD_HEADER)
		return 0;
	if (number != (x.flags & EXT_INDEX ? SEG_INDEX_NUMBER : b->count))
		return 0;
	if (b->count)
		x.file_pos = b->ext[b->count - 1].file_pos + b->ext[b->count - 1].file_len;
	int rc = open_record(sc, number, &x);
	/* Only a wrong tag says that bytes are wrong: what could not be looked at must not be
	 * written off, for the index that is made next would do so for ever. */
	if (rc && rc != -EBADMSG)
		return rc;
	if (x.flags & EXT_INDEX) {
		if (rc)
			return 0;
		b->ext[b->count] = x;
		sc->good_end = ext_end(&x, sc->s->k);
		sc->good_count = b->count;
		return 2;
	}
	if (b->count == SEG_EXTENTS_MAX)
		return 0;
	if (rc)
		x.flags |= EXT_VOID;
	b->ext[b->count] = x;
	sc->hints[b->count++] = hint;
	sc->at = ext_end(&x, sc->s->k);
	if (!rc) {
		sc->good_end = sc->at;
		sc->good_count = b->count;
	}
	return 1;
}

int seg_scan(struct segstore *st, struct seg *s, struct seg_body *body, struct seg_hint **hints,
	     uint32_t *end, int *closed)
{
	struct scan sc = { .st = st, .s = s, .body = body, .at = SEG_FILE_HEADER };
	struct stat sb;

	*hints = NULL;
	*end = 0;
	*closed = 0;
	if (fstat(body->fd, &sb))
		return -errno;
	sc.len = (size_t)MIN((uint64_t)sb.st_size, SEG_LENGTH_MAX);
	AUTO_FREE uint8_t *bytes = malloc(sc.len ? sc.len : 1);
	body->ext = calloc(SEG_EXTENTS_MAX + 1, sizeof(*body->ext));
	sc.hints = calloc(SEG_EXTENTS_MAX, sizeof(*sc.hints));
	int rc = bytes && body->ext && sc.hints ? 0 : -ENOMEM;
	if (!rc)
		rc = file_pread(body->fd, bytes, sc.len, 0);
	sc.p = bytes;
	if (!rc && sc.len >= SEG_FILE_HEADER)
		rc = segio_file_header_check(bytes, &body->cipher);
	if (!rc && sc.len >= SEG_FILE_HEADER) {
		while ((rc = scan_record(&sc)) == 1)
			;
		*closed = rc == 2;
		rc = rc < 0 ? rc : 0;
	}
	free(sc.plain);
	if (rc) {
		free(sc.hints);
		return rc;
	}
	for (uint32_t i = 0; i < sc.good_count; i++)
		if (body->ext[i].flags & EXT_VOID)
			log_error("extent %u of segment %u is damaged in its staging file and lost",
				  i, s->num);
	body->count = sc.good_count;
	*end = sc.good_end;
	*hints = sc.hints;
	return 0;
}

/* --- an open segment of the last mount --- */

/* Seals an index behind what is good. Its number is no data extent's, so no (key, nonce) pair is
 * used twice although the torn tail may have consumed numbers (I3). */
static int index_write(struct seg *s, struct seg_body *b, const struct seg_hint *hints,
		       uint32_t end)
{
	AUTO_FREE uint8_t *rec = malloc(SEG_RECORD_HEADER + SEG_INDEX_ROOM);

	if (!rec)
		return -ENOMEM;
	int rc = failpoint("recover.index");
	if (!rc)
		rc = segio_index_seal(&b->cipher, b->ext, b->count, hints, s->created, end, rec);
	return rc ? rc : file_pwrite(b->fd, rec, ext_end(&b->ext[b->count], s->k) - end, end);
}

/* Closes it: what is good, then the index. -ENODATA: nothing of it is left. */
static int close_found(struct segstore *st, struct seg *s)
{
	struct seg_hint *hints = NULL;
	uint32_t end = 0;
	int closed = 0;

	struct seg_body *b = seg_body_new(st, s);
	if (!b)
		return -ENOMEM;
	char path[SEG_PATH_MAX];
	seg_path(st, s, PLACE_STAGING, path);
	b->fd = open(path, O_RDWR | O_CLOEXEC);
	int rc = b->fd < 0 ? -errno : seg_scan(st, s, b, &hints, &end, &closed);
	if (!rc && !b->count)
		rc = -ENODATA;
	if (!rc && !closed)
		rc = index_write(s, b, hints, end);
	free(hints);
	if (!rc && ftruncate(b->fd, ext_end(&b->ext[b->count], s->k)))
		rc = -errno;
	/* What the last mount could not sync stands in memory only, and was found good there. */
	if (!rc)
		rc = file_resync(b->fd, ext_end(&b->ext[b->count], s->k));
	if (!rc)
		rc = failpoint("recover.closed");
	if (rc) {
		seg_body_free(b);
		return rc;
	}
	s->body = b;
	list_push_back(&st->bodies, &b->lru);
	st->nbodies++;
	s->extents = b->count;
	s->length = s->disk = ext_end(&b->ext[b->count], s->k);
	s->shard_len = seg_shard_len(s->length, s->extents, s->k);
	list_push_back(&st->rows, &s->rows); /* its row says OPEN still */
	st->rows_since = clock_mono_ns();
	return 0;
}

/* --- rows --- */

struct load {
	struct segstore *st;
	int rc;
};

static int load_segment(void *arg, const struct segment_row *r)
{
	struct load *l = arg;
	struct segstore *st = l->st;
	struct seg *s = seg_new(st, r->num, r->id, r->keyno);

	if (!s)
		return l->rc = -ENOMEM;
	s->k = r->code_k;
	s->created = r->created;
	s->row = s->row_durable = r->state;
	s->extents = r->extents;
	s->length = r->length;
	s->phase = r->state == SEGMENT_DROPPED ? SEG_GONE : SEG_CLOSED;
	s->stored = r->state == SEGMENT_STORED;
	s->dead = !r->live && s->phase != SEG_GONE;
	if (s->dead)
		list_push_back(&st->dead, &s->deadlink);
	if (r->state != SEGMENT_OPEN && r->extents <= SEG_EXTENTS_MAX && s->k &&
	    r->length <= SEG_LENGTH_MAX)
		s->shard_len = seg_shard_len(r->length, r->extents, s->k);
	hash_insert(&st->segs, &s->node, s->num);
	return 0;
}

static int load_coding(void *arg, const struct coding_row *c)
{
	struct load *l = arg;
	struct seg *s = seg_find_locked(l->st, c->seg);

	/* The newest one counts: they come in order of creation. */
	if (!s)
		return 0;
	memcpy(s->set, c->set, 16);
	s->has_set = s->set_durable = 1;
	s->m = c->m;
	s->stored = s->row != SEGMENT_DROPPED && c->state == CODING_STORED;
	s->present = c->present & l->st->all;
	s->suspect = c->suspect & l->st->all;
	s->present_durable = s->present & ~s->suspect;
	s->unknown = s->stored && !s->present ? l->st->all : 0;
	return 0;
}

/* --- files --- */

/* "<32 hex digits>.seg" */
static int name_id(const char *name, uint8_t id[16])
{
	return strlen(name) == 36 && !strcmp(name + 32, ".seg") && !hex_get(id, 16, name, 32);
}

/* Old orphans go. One that is young may be wanted by whoever restored an old database. */
static void orphans_purge(const char *dir)
{
	DIR *d = opendir(dir);
	int64_t now = clock_real_ns() / NS_PER_S;
	struct dirent *e;
	struct stat sb;

	if (!d)
		return;
	while ((e = readdir(d)))
		if (!fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) &&
		    S_ISREG(sb.st_mode) && sb.st_mtime < now - ORPHAN_DAYS * 86400)
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static void orphan_keep(struct segstore *st, const char *name)
{
	AUTO_FREE char *dir = str_printf("%s/orphans", st->staging_dir);
	AUTO_FREE char *from = str_printf("%s/%s", st->staging_dir, name);
	AUTO_FREE char *to = str_printf("%s/orphans/%s", st->staging_dir, name);

	if (!dir || !from || !to)
		return;
	(void)failpoint("recover.orphan");
	if (file_mkdirs(dir, 0700) || rename(from, to))
		log_warn("%s is not known to the database and cannot be put aside: %s", from,
			 strerror(errno));
	else
		log_info(
		    "%s is not known to the database (never acknowledged); kept in %s for %d days",
		    name, dir, ORPHAN_DAYS);
}

static void file_found(struct segstore *st, struct hash *ids, enum seg_place place, int dir,
		       const char *name)
{
	uint8_t id[16];
	struct stat sb;
	struct seg *s = NULL;

	if (name_id(name, id)) {
		for (struct hash_node *h = hash_find(ids, be64_get(id)); h; h = h->next)
			if (!memcmp(container_of(h, struct seg_id, node)->seg->id, id, 16))
				s = container_of(h, struct seg_id, node)->seg;
	}
	if (fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) || !S_ISREG(sb.st_mode))
		return;
	if (!s && place == PLACE_STAGING && name_id(name, id)) {
		orphan_keep(st, name);
		return;
	}
	/* Temporary names, caches of nothing, copies of what is staged, and what was dropped. */
	if (!s || s->phase == SEG_GONE || s->place != PLACE_NONE ||
	    (place == PLACE_CACHE && !s->stored)) {
		unlinkat(dir, name, 0);
		return;
	}
	if (s->row != SEGMENT_OPEN && (uint64_t)sb.st_size < s->length) {
		log_error("%s is shorter than it was: %lld of %llu bytes", name,
			  (long long)sb.st_size, (unsigned long long)s->length);
		if (place == PLACE_CACHE) {
			unlinkat(dir, name, 0);
			return;
		}
	}
	s->place = (uint8_t)place;
	s->disk = MIN((uint64_t)sb.st_blocks * 512, s->length);
	list_push_back(&st->lru, &s->lru);
}

static int files_find(struct segstore *st, struct hash *ids, enum seg_place place, struct err *e)
{
	const char *path = place == PLACE_CACHE ? st->cache_dir : st->staging_dir;
	DIR *d = opendir(path);
	struct dirent *de;

	if (!d)
		return err_set(e, -errno, "%s cannot be read: %s", path, strerror(errno));
	while ((de = readdir(d)))
		if (de->d_name[0] != '.')
			file_found(st, ids, place, dirfd(d), de->d_name);
	closedir(d);
	return 0;
}

/* --- all of it --- */

static void found_lost(struct segstore *st, struct seg *s, int rc)
{
	log_error(
	    "segment %u was open when the last mount ended, and its staging file in %s cannot be "
	    "read: %s. Files that were written last may have lost bytes",
	    s->num, st->staging_dir, strerror(-rc));
	s->damaged = 1;
}

/* Never held anything that counts: crashed between its row and its first record. */
static int forget(struct segstore *st, struct seg *s)
{
	char path[SEG_PATH_MAX];

	meta_lock(st->meta);
	int rc = segment_delete(st->meta, s->num);
	meta_unlock(st->meta);
	if (rc)
		return rc;
	seg_path(st, s, PLACE_STAGING, path);
	unlink(path);
	hash_remove(&st->segs, &s->node);
	seg_free(st, s);
	return 0;
}

/* What follows from row and file together. 0, or -ENOMEM: nothing is known of it. */
static int settle(struct segstore *st, struct seg *s)
{
	int rc = 0;

	if (s->phase == SEG_CLOSED && s->row == SEGMENT_OPEN) {
		rc = s->place == PLACE_STAGING ? close_found(st, s) : -ENOENT;
		if (rc == -ENOMEM)
			return rc;
		if (rc && s->dead && !forget(st, s))
			return 0;
		if (rc)
			found_lost(st, s, rc);
	} else if (s->phase == SEG_CLOSED && s->place == PLACE_NONE && !seg_fetchable(s)) {
		log_error(
		    "the staging file of segment %u is missing in %s, and it was not uploaded to "
		    "enough backends: its bytes are lost unless the file comes back",
		    s->num, st->staging_dir);
		s->damaged = 1;
	}
	if (s->phase == SEG_CLOSED && !rc && (!seg_dispersed(st, s) || s->place == PLACE_STAGING)) {
		s->dirty_row = seg_dispersed(st, s); /* moves to the cache after a commit */
		seg_work_add_locked(st, s);
	}
	seg_account_end_locked(st, s);
	return 0;
}

int seg_recover(struct segstore *st, struct err *e)
{
	struct load l = { .st = st };
	AUTO_FREE struct seg_id *ids = NULL;
	AUTO_FREE char *orphans = str_printf("%s/orphans", st->staging_dir);
	struct hash map = { 0 };
	size_t n = 0;

	meta_lock(st->meta);
	int rc = segment_each(st->meta, load_segment, &l);
	if (!rc)
		rc = coding_each(st->meta, load_coding, &l);
	meta_unlock(st->meta);
	if (!rc && (hash_init(&map, st->segs.count) || !orphans))
		rc = -ENOMEM;
	if (!rc && !(ids = calloc(st->segs.count + 1, sizeof(*ids))))
		rc = -ENOMEM;
	if (rc) {
		hash_release(&map);
		return err_set(e, rc, "reading the segments from the database: %s", strerror(-rc));
	}
	for (size_t i = 0; i <= st->segs.mask; i++)
		for (struct hash_node *h = st->segs.slots[i]; h; h = h->next) {
			ids[n].seg = container_of(h, struct seg, node);
			hash_insert(&map, &ids[n].node, be64_get(ids[n].seg->id));
			n++;
		}
	orphans_purge(orphans);
	rc = files_find(st, &map, PLACE_STAGING, e);
	if (!rc)
		rc = files_find(st, &map, PLACE_CACHE, e);
	for (size_t i = 0; !rc && i < n; i++) {
		rc = settle(st, ids[i].seg);
		if (rc)
			err_set(e, rc, "looking at what the last mount left: %s", strerror(-rc));
	}
	hash_release(&map);
	return rc;
}
