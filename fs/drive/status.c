#include "fs/drive/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/buf.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/drive/control.h"
#include "fs/drive/generation.h"
#include "fs/meta/meta.h"
#include "fs/meta/segment.h"

#define WHERE_SEGMENTS_MAX 65536

static void set_u64(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)MIN(v, (uint64_t)INT64_MAX)));
}

static void set_hex(json_t *o, const char *key, const uint8_t id[16])
{
	char hex[33];

	hex_put(hex, id, 16);
	json_object_set_new(o, key, json_string(hex));
}

/* What is known without the drive being open. */
static json_t *common(const struct paths *p, const struct config *c)
{
	json_t *o = json_object();
	uint64_t pending = generation_pending(p);

	json_object_set_new(o, "name", json_string(p->name));
	set_hex(o, "uuid", c->drive);
	set_u64(o, "data", (uint64_t)c->k);
	set_u64(o, "parity", (uint64_t)c->m);
	set_u64(o, "extent", c->extent_max);
	set_u64(o, "quota", c->quota);
	json_object_set_new(o, "header_pending",
			    pending ? json_integer((json_int_t)pending) : json_null());
	return o;
}

static json_t *backend_common(const struct config *c, int i)
{
	json_t *b = json_object();

	set_u64(b, "index", (uint64_t)i);
	json_object_set_new(b, "url", control_text(c->backends[i].url));
	json_object_set_new(b, "provider", control_text(c->backends[i].parsed.provider));
	json_object_set_new(b, "location", control_text(c->backends[i].parsed.location));
	return b;
}

static json_t *milliseconds(int64_t ns)
{
	return ns > 0 ? json_real((double)ns / (double)NS_PER_MS) : json_null();
}

/* Since the mount; repetitions are part of the request that they serve. */
static json_t *requests_json(const struct backend_stats *s)
{
	static const char *const names[BACKEND_OPS] = { "put", "get", "head", "delete", "list" };
	static const char *const classes[ARRAY_LEN(s->by_error)] = {
		"absent",  "denied",    "full",   "timeout", "trouble",
		"corrupt", "cancelled", "exists", "other",
	};
	json_t *o = json_object(), *errors = json_object();

	for (size_t i = 0; i < ARRAY_LEN(s->by_error); i++)
		set_u64(errors, classes[i], s->by_error[i]);
	for (int i = 0; i < BACKEND_OPS; i++) {
		json_t *op = json_object();

		set_u64(op, "count", s->requests[i]);
		set_u64(op, "errors", s->errors[i]);
		json_object_set_new(op, "p50", milliseconds(s->p50[i]));
		json_object_set_new(op, "p90", milliseconds(s->p90[i]));
		json_object_set_new(op, "p99", milliseconds(s->p99[i]));
		json_object_set_new(o, names[i], op);
	}
	json_object_set_new(o, "by_error", errors);
	set_u64(o, "bytes_up", s->bytes_up);
	set_u64(o, "bytes_down", s->bytes_down);
	return o;
}

static json_t *backend_live(struct drive *d, const struct segstore_state *st, int i)
{
	json_t *b = backend_common(drive_config(d), i);
	struct backend_stats stats;
	struct health_info h;
	char words[400];

	drive_health(d, i, &h);
	drive_words(d, i, words, sizeof(words));
	drive_stats(d, i, &stats);
	json_object_set_new(b, "state", json_string(health_word(h.state)));
	json_object_set_new(b, "since", h.since ? json_integer(h.since) : json_null());
	json_object_set_new(b, "error",
			    h.state == HEALTH_OK || !h.last_text[0] ? json_null()
			    : words[0]                              ? control_text(words)
								    : control_text(h.last_text));
	set_u64(b, "shards", st->backend_shards[i]);
	set_u64(b, "bytes", st->backend_bytes[i]);
	json_object_set_new(b, "latency_get", milliseconds(h.latency_get));
	json_object_set_new(b, "latency_put", milliseconds(h.latency_put));
	set_u64(b, "corrupt", h.corrupt);
	json_object_set_new(b, "requests", requests_json(&stats));
	return b;
}

static json_t *segments_json(const struct segstore_state *st)
{
	json_t *s = json_object();

	set_u64(s, "open", st->open);
	set_u64(s, "closed", st->closed);
	set_u64(s, "uploading", st->uploading);
	set_u64(s, "stored", st->stored);
	set_u64(s, "dispersed", st->dispersed);
	set_u64(s, "dropped", st->dropped);
	set_u64(s, "below_n", st->below_n);
	return s;
}

static json_t *bytes_json(const struct segstore_state *st, uint64_t dirty, uint64_t content)
{
	json_t *b = json_object();

	set_u64(b, "dirty", dirty);
	set_u64(b, "staged", st->staged_bytes);
	set_u64(b, "held", st->staged_bytes - st->yield_bytes);
	set_u64(b, "cached", st->cached_bytes);
	set_u64(b, "cache_size", st->cap);
	set_u64(b, "to_upload", st->to_upload_bytes);
	set_u64(b, "to_heal", st->heal_bytes);
	set_u64(b, "content", content);
	return b;
}

json_t *status_live(struct drive *d)
{
	json_t *o = common(drive_paths(d), drive_config(d)), *backends = json_array();
	struct segstore_state st;
	struct volume_state vs;
	uint64_t up, down;
	int failed;

	memset(&st, 0, sizeof(st));
	segstore_state(drive_segstore(d), &st);
	volume_state(drive_volume(d), &vs);
	failed = volume_failed(drive_volume(d));
	set_u64(o, "header_generation", drive_generation(d));
	for (int i = 0; i < drive_config(d)->n; i++)
		json_array_append_new(backends, backend_live(d, &st, i));
	json_object_set_new(o, "backends", backends);
	json_object_set_new(o, "segments", segments_json(&st));
	json_object_set_new(o, "bytes", bytes_json(&st, vs.dirty_bytes, vs.totals.bytes));
	set_u64(o, "files", vs.totals.inodes);
	drive_bandwidth(d, &up, &down);
	json_object_set_new(o, "bandwidth",
			    json_pack("{s:I,s:I}", "up", (json_int_t)MIN(up, (uint64_t)INT64_MAX),
				      "down", (json_int_t)MIN(down, (uint64_t)INT64_MAX)));
	json_object_set_new(o, "losses_survivable",
			    json_integer(segstore_losses_now(drive_segstore(d))));
	json_object_set_new(o, "failed", failed ? control_text(strerror(-failed)) : json_null());
	return o;
}

json_t *status_left(struct drive *d)
{
	struct segstore_state st;
	struct volume_state vs;
	json_t *o = json_object();

	memset(&st, 0, sizeof(st));
	segstore_state(drive_segstore(d), &st);
	volume_state(drive_volume(d), &vs);
	set_u64(o, "to_upload", st.to_upload_bytes);
	set_u64(o, "to_heal", st.heal_bytes);
	set_u64(o, "dirty", vs.dirty_bytes);
	set_u64(o, "staged", st.staged_bytes);
	set_u64(o, "below_n", st.below_n);
	set_u64(o, "segments_left", (uint64_t)st.open + st.closed + st.uploading);
	return o;
}

/* ---- not mounted ---- */

struct tally {
	const struct config *c;
	struct meta *meta;
	struct segstore_state st;
	int least; /* present shards - k of the worst uploaded segment */
	int any;
};

/* The newest coding counts; sizes come from the row: every shard holds length / k, about. */
static int tally_segment(void *arg, const struct segment_row *s)
{
	struct tally *t = arg;
	struct coding_row codings[4];
	int n, present;

	switch ((enum segment_state)s->state) {
	case SEGMENT_OPEN:
		t->st.open++;
		t->st.staged_bytes += s->length;
		return 0;
	case SEGMENT_CLOSED:
		t->st.closed++;
		break;
	case SEGMENT_UPLOADING:
		t->st.uploading++;
		break;
	case SEGMENT_STORED:
		break;
	case SEGMENT_DROPPED:
		t->st.dropped++;
		return 0;
	}
	n = coding_of_segment(t->meta, s->num, codings, (int)ARRAY_LEN(codings));
	present = n > 0 ? __builtin_popcount(codings[n - 1].present) : 0;
	for (int i = 0; n > 0 && i < t->c->n; i++) {
		if (!(codings[n - 1].present >> i & 1))
			continue;
		t->st.backend_shards[i]++;
		t->st.backend_bytes[i] += s->length / (uint64_t)t->c->k;
	}
	if (present < t->c->n) {
		t->st.staged_bytes += s->length;
		t->st.to_upload_bytes += s->state == SEGMENT_STORED ? 0 : s->length;
	}
	if (s->state != SEGMENT_STORED)
		return 0;
	if (present == t->c->n)
		t->st.dispersed++;
	else
		t->st.stored++, t->st.below_n++;
	if (!t->any || present - t->c->k < t->least)
		t->least = present - t->c->k;
	t->any = 1;
	return 0;
}

int status_offline(const struct paths *p, const struct config *c, json_t **out, struct err *e)
{
	struct meta_opts mo = { .drive = c->drive, .read_only = 1 };
	struct tally t = { .c = c };
	struct meta_totals totals;
	json_t *o, *backends = json_array();
	int rc = meta_open(p->database, &mo, &t.meta, e);

	*out = NULL;
	if (rc) {
		json_decref(backends);
		return rc;
	}
	meta_lock(t.meta);
	rc = segment_each(t.meta, tally_segment, &t);
	meta_totals(t.meta, &totals);
	meta_unlock(t.meta);
	meta_close(t.meta);
	if (rc) {
		json_decref(backends);
		return err_set(e, rc, "%s: cannot read: %s", p->database, strerror(-rc));
	}
	o = common(p, c);
	for (int i = 0; i < c->n; i++) {
		json_t *b = backend_common(c, i);

		json_object_set_new(b, "state", json_string("unknown"));
		set_u64(b, "shards", t.st.backend_shards[i]);
		set_u64(b, "bytes", t.st.backend_bytes[i]);
		json_array_append_new(backends, b);
	}
	json_object_set_new(o, "backends", backends);
	json_object_set_new(o, "segments", segments_json(&t.st));
	json_object_set_new(o, "bytes", bytes_json(&t.st, 0, totals.bytes));
	set_u64(o, "files", totals.inodes);
	json_object_set_new(o, "losses_survivable", json_integer(t.any ? t.least : c->m));
	*out = o;
	return 0;
}

/* ---- where ---- */

static json_t *segment_json(const struct seg_where *w)
{
	static const char *const levels[] = { "staged", "stored", "dispersed" };
	json_t *s = json_object(), *holders = json_array();

	set_hex(s, "id", w->id);
	if (!w->open)
		set_hex(s, "set", w->set);
	json_object_set_new(s, "level", json_string(levels[w->level]));
	for (int i = 0; i < w->k + w->m; i++)
		if (w->present >> i & 1)
			json_array_append_new(holders, json_integer(i));
	json_object_set_new(s, "backends", holders);
	json_object_set_new(s, "cached", json_boolean(w->cached));
	return s;
}

int status_where(struct drive *d, uint64_t ino, json_t **out, struct err *e)
{
	AUTO_FREE uint32_t *nums = calloc(WHERE_SEGMENTS_MAX, sizeof(*nums));
	json_t *o, *segments;
	uint64_t dirty = 0;
	int n;

	*out = NULL;
	if (!nums)
		return err_set(e, -ENOMEM, "out of memory");
	n = volume_where(drive_volume(d), ino, nums, WHERE_SEGMENTS_MAX, &dirty);
	if (n < 0)
		return err_set(e, n, "inode %llu: %s", (unsigned long long)ino, strerror(-n));
	o = json_object();
	segments = json_array();
	set_u64(o, "ino", ino);
	set_u64(o, "dirty", dirty);
	set_u64(o, "data", (uint64_t)drive_config(d)->k);
	set_u64(o, "parity", (uint64_t)drive_config(d)->m);
	for (int i = 0; i < n; i++) {
		struct seg_where w;

		memset(&w, 0, sizeof(w));
		if (!segstore_where(drive_segstore(d), nums[i], &w))
			json_array_append_new(segments, segment_json(&w));
	}
	json_object_set_new(o, "segments", segments);
	*out = o;
	return 0;
}
