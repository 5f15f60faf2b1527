/* Does a backend still have what it was given? One LIST of "s/" per backend: after mounting, when
 * it comes back from having been absent, and when it answered "not found" for a shard. What is not
 * listed, or has another length, goes to the heal queue. Not in steady state. */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <string.h>
#include "fs/base/buf.h"

#define VERIFY_DELAY (3 * NS_PER_S)
#define VERIFY_AGAIN (60 * NS_PER_S) /* after a failure, and at the earliest after the last one */

struct entry {
	struct hash_node node; /* first 8 bytes of the set id */
	struct seg *seg;       /* stays: segments with a set id are never freed */
	uint8_t set[16];
	int expected, seen, wrong;
};

struct verify {
	struct segstore *st;
	int backend;
	struct backend_req req;
	char *token;
	struct hash map;
	struct entry *entries;
	size_t n;
	int sent, answered, refs; /* by lock */
};

void seg_verify_due(struct segstore *st, int backend)
{
	SCOPE_LOCK(&st->lock);
	int64_t at = clock_mono_ns() + VERIFY_DELAY;

	if (st->verify_due >> backend & 1)
		return;
	st->verify_due |= 1u << backend;
	st->verify_at[backend] = MAX(at, st->verify_at[backend]);
}

static void verify_unref_locked(struct verify *v)
{
	if (--v->refs)
		return;
	hash_release(&v->map);
	free(v->entries);
	free(v->token);
	free(v);
}

static struct entry *entry_find(struct verify *v, const char *key, size_t keylen, int *shard)
{
	uint8_t set[16];
	int num = 0;

	/* s/<2>/<32>.<shard> */
	if (keylen < 39 || keylen > 40 || key[37] != '.' || hex_get(set, 16, key + 5, 32))
		return NULL;
	for (size_t i = 38; i < keylen; i++) {
		if (key[i] < '0' || key[i] > '9')
			return NULL;
		num = 10 * num + key[i] - '0';
	}
	*shard = num;
	struct hash_node *h = hash_find(&v->map, be64_get(set));
	for (; h; h = h->next) {
		struct entry *e = container_of(h, struct entry, node);
		if (!memcmp(e->set, set, 16))
			return e;
	}
	return NULL;
}

static int verify_load(struct verify *v)
{
	struct segstore *st = v->st;
	size_t cap = 0;

	SCOPE_LOCK(&st->lock);
	for (size_t i = 0; i <= st->segs.mask; i++)
		for (struct hash_node *h = st->segs.slots[i]; h; h = h->next)
			cap += container_of(h, struct seg, node)->set_durable;
	v->entries = calloc(cap + 1, sizeof(*v->entries));
	if (!v->entries || hash_init(&v->map, cap))
		return -ENOMEM;
	for (size_t i = 0; i <= st->segs.mask; i++) {
		for (struct hash_node *h = st->segs.slots[i]; h; h = h->next) {
			struct seg *s = container_of(h, struct seg, node);
			if (!s->set_durable || s->row == SEGMENT_DROPPED)
				continue;
			struct entry *e = &v->entries[v->n++];
			e->seg = s;
			memcpy(e->set, s->set, 16);
			e->expected = s->present >> v->backend & 1;
			hash_insert(&v->map, &e->node, be64_get(e->set));
		}
	}
	return 0;
}

/* What the complete list says of one segment. 1: something is to be healed. */
static int judge_locked(struct verify *v, struct entry *e)
{
	struct segstore *st = v->st;
	struct seg *s = e->seg;
	uint32_t bit = 1u << v->backend;
	int news = 0;

	if (s->busy || s->row == SEGMENT_DROPPED)
		return 0;
	seg_account_begin_locked(st, s);
	if (e->seen ? e->wrong : e->expected || s->unknown & bit) {
		news = !(s->suspect & bit) && (s->present | s->unknown) & bit;
		seg_doubt_locked(s, bit);
	} else if (e->seen && s->unknown & bit) {
		s->present |= bit;
		s->unknown &= ~bit;
		s->dirty_row = 1;
		seg_work_add_locked(st, s);
	}
	seg_account_end_locked(st, s);
	if (news) {
		s->dirty_row = 1;
		seg_work_add_locked(st, s);
	}
	return news;
}

static void verify_end(struct verify *v, int rc)
{
	struct segstore *st = v->st;
	size_t news = 0;

	if (!rc)
		rc = failpoint("heal.listed");
	pthread_mutex_lock(&st->lock);
	for (size_t i = 0; !rc && i < v->n; i++)
		news += (size_t)judge_locked(v, &v->entries[i]);
	if (rc) {
		st->verify_due |= 1u << v->backend;
		st->verify_at[v->backend] = clock_mono_ns() + VERIFY_AGAIN;
	}
	st->verifying = NULL;
	if (news)
		log_warn("backend %s lacks %zu shards or has them in a wrong length; they will be "
			 "put again",
			 st->backends[v->backend]->name, news);
	verify_unref_locked(v);
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->lock);
	if (news)
		seg_upload_kick(st);
}

static void verify_page(void *arg);

static void listed(struct backend_req *req)
{
	struct verify *v = req->user;

	pthread_mutex_lock(&v->st->lock);
	v->answered = 1;
	pthread_mutex_unlock(&v->st->lock);
	workq_submit(v->st->uploadq, verify_page, v);
}

static void verify_send(struct verify *v)
{
	struct segstore *st = v->st;

	v->req = (struct backend_req){
		.op = BACKEND_LIST, .key = "s/", .token = v->token, .done = listed, .user = v
	};
	pthread_mutex_lock(&st->lock);
	v->refs++;
	v->sent = v->answered = 0;
	pthread_mutex_unlock(&st->lock);
	backend_submit(st->backends[v->backend], &v->req);
	pthread_mutex_lock(&st->lock);
	v->sent = 1;
	verify_unref_locked(v);
	pthread_mutex_unlock(&st->lock);
}

static void verify_page(void *arg)
{
	struct verify *v = arg;
	struct segstore *st = v->st;
	int rc = v->req.result;

	for (size_t i = 0; !rc && i < v->req.nentries; i++) {
		struct backend_entry *be = &v->req.entries[i];
		int shard;
		struct entry *e = entry_find(v, be->key, strlen(be->key), &shard);
		if (!e || shard != v->backend)
			continue;
		e->seen = 1;
		e->wrong = be->size != e->seg->shard_len;
	}
	free(v->req.entries);
	free(v->token);
	v->token = v->req.next_token;
	v->req.next_token = NULL;
	pthread_mutex_lock(&st->lock);
	if (st->stopping)
		rc = -ECANCELED;
	pthread_mutex_unlock(&st->lock);
	if (rc || !v->token)
		verify_end(v, rc);
	else
		verify_send(v);
}

void seg_verify_run(struct segstore *st)
{
	struct health_info h;
	struct verify *v = NULL;

	for (int i = 0; i < st->n; i++) {
		health_get(st->backends[i], &h);
		uint32_t bit = 1u << i;
		pthread_mutex_lock(&st->lock);
		if (h.state == HEALTH_ABSENT)
			st->absent_seen |= bit;
		int back = h.state != HEALTH_ABSENT && !h.open && st->absent_seen & bit;
		if (back)
			st->absent_seen &= ~bit;
		pthread_mutex_unlock(&st->lock);
		if (back)
			seg_verify_due(st, i);
	}
	uint32_t usable = seg_usable_mask(st, 0);
	int64_t now = clock_mono_ns();
	pthread_mutex_lock(&st->lock);
	for (int i = 0; i < st->n && !st->verifying && !st->stopping && !v; i++) {
		if (!(st->verify_due & usable & 1u << i) || now < st->verify_at[i])
			continue;
		v = calloc(1, sizeof(*v));
		if (!v)
			break;
		v->st = st, v->backend = i, v->refs = 1;
		st->verifying = v;
		st->verify_due &= ~(1u << i);
		st->verify_at[i] = now + VERIFY_AGAIN;
	}
	pthread_mutex_unlock(&st->lock);
	if (!v)
		return;
	int rc = verify_load(v);
	if (rc || !v->n)
		verify_end(v, rc);
	else
		verify_send(v);
}

void seg_verify_cancel(struct segstore *st)
{
	pthread_mutex_lock(&st->lock);
	struct verify *v = st->verifying;
	/* Once it is answered nothing is sent any more: stopping is set. */
	if (v && v->sent && !v->answered) {
		v->refs++;
		pthread_mutex_unlock(&st->lock);
		backend_cancel(st->backends[v->backend], &v->req);
		pthread_mutex_lock(&st->lock);
		verify_unref_locked(v);
	}
	pthread_mutex_unlock(&st->lock);
}
