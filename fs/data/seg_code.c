/* Coding a segment into shards: the bytes that stand on backends (coding/FORMAT.md, "Shard
 * object"). */
#include "fs/data/seg_internal.h"

#include <errno.h>
#include <string.h>
#include "crypto/digest.h"
#include "crypto/secmem.h"

/* While it is made. */
struct work {
	struct segstore *st;
	struct seg *s;
	struct shards *sh;
	uint32_t todo;
	uint8_t *scratch; /* n fragments, 64-byte aligned */
	size_t stride;
	uint8_t (*mac_key)[KEY_LEN]; /* secmem, n */
};

static int buffers_make(struct work *w)
{
	struct segstore *st = w->st;
	const struct seg_body *b = w->s->body;
	uint32_t widest = 0;

	w->sh->len = SHARD_HEADER_LEN + segio_slots(b->ext, b->count + 1, st->k);
	for (uint32_t i = 0; i <= b->count; i++)
		widest = MAX(widest, ext_sealed(&b->ext[i], st->k) / (unsigned)st->k);
	w->stride = round_up_u64(widest, 64);
	w->scratch = aligned_alloc(64, w->stride * (size_t)st->n);
	w->mac_key = secmem_alloc((size_t)st->n * KEY_LEN);
	if (!w->scratch || !w->mac_key)
		return -ENOMEM;
	for (int i = 0; i < st->n; i++) {
		if (!(w->todo >> i & 1))
			continue;
		w->sh->p[i] = malloc(w->sh->len);
		if (!w->sh->p[i])
			return -ENOMEM;
		int rc = keyring_fragment_key(st->keys, w->s->keyno, w->s->set, w->s->id, w->s->k,
					      w->s->m, (uint8_t)i, w->mac_key[i]);
		if (rc)
			return rc;
	}
	return 0;
}

static int headers_make(struct work *w)
{
	struct segstore *st = w->st;
	struct seg *s = w->s;
	const struct seg_ext *x = &s->body->ext[s->body->count];
	struct shard_header h = { .keyno = s->keyno,
				  .k = s->k,
				  .m = s->m,
				  .extents = s->body->count,
				  .index_fragment = ext_sealed(x, s->k) / s->k,
				  .length = w->sh->len };
	uint8_t key[KEY_LEN];

	memcpy(h.drive, st->drive, 16);
	memcpy(h.segment, s->id, 16);
	memcpy(h.set, s->set, 16);
	memcpy(h.index_nonce, x->nonce, sizeof(h.index_nonce));
	h.index_offset = w->sh->len - shard_slot_len(ext_sealed(x, s->k), s->k);
	int rc = keyring_shard_key(st->keys, s->keyno, key);
	for (int i = 0; !rc && i < st->n; i++) {
		uint8_t *p = w->sh->p[i];
		if (!p)
			continue;
		h.shard = (uint8_t)i;
		shard_header_put(p, &h);
		rc = hmac_sha256(key, sizeof(key), p, SHARD_HEADER_LEN - SHA256_LEN,
				 p + SHARD_HEADER_LEN - SHA256_LEN);
	}
	secmem_wipe(key, sizeof(key));
	return rc;
}

/* Sealed bytes of extent i, verified, into the systematic fragments of the scratch. */
static int extent_load(struct work *w, uint32_t i, uint32_t f)
{
	struct segstore *st = w->st;
	struct seg *s = w->s;
	const struct seg_ext *x = &s->body->ext[i];
	uint32_t sealed = ext_sealed(x, s->k);
	struct seg_sealed r = { 0 };

	if (x->flags & EXT_VOID) { /* always the same bytes, whatever the disk says (I4) */
		for (int j = 0; j < st->k; j++)
			memset(w->scratch + (size_t)j * w->stride, 0, f);
		return 0;
	}
	uint8_t *buf = segio_scratch(SCRATCH_SEALED, sealed);
	uint8_t *plain = segio_scratch(SCRATCH_PLAIN, sealed);
	if (!buf || !plain)
		return -ENOMEM;
	int rc = seg_open_extent(st, s, i, buf, plain, &r);
	if (rc)
		return rc;
	for (int j = 0; j < st->k; j++)
		memcpy(w->scratch + (size_t)j * w->stride, r.p + (size_t)j * f, f);
	seg_sealed_release(st, &r);
	return 0;
}

static int extent_code(struct work *w, uint32_t i, size_t at)
{
	struct segstore *st = w->st;
	uint32_t f = ext_sealed(&w->s->body->ext[i], st->k) / (unsigned)st->k;
	uint32_t number = ext_number(&w->s->body->ext[i], i);
	uint8_t *frag[CODE_MAX_N];

	for (int j = 0; j < st->n; j++)
		frag[j] = w->scratch + (size_t)j * w->stride;
	int rc = extent_load(w, i, f);
	if (!rc && w->todo >> st->k)
		rc = code_encode(st->code, frag, frag + st->k, f);
	for (int j = 0; !rc && j < st->n; j++) {
		if (!w->sh->p[j])
			continue;
		uint8_t *p = w->sh->p[j] + at;
		memcpy(p, frag[j], f);
		rc = segio_fragment_mac(w->mac_key[j], number, p, f, p + f);
	}
	return rc;
}

static int code_all(struct work *w)
{
	struct seg_body *b = w->s->body;
	size_t at = SHARD_HEADER_LEN;

	int rc = buffers_make(w);
	if (!rc)
		rc = headers_make(w);
	for (uint32_t i = 0; !rc && i <= b->count; i++) {
		rc = extent_code(w, i, at);
		at += shard_slot_len(ext_sealed(&b->ext[i], w->s->k), w->s->k);
	}
	return rc;
}

int shards_make(struct segstore *st, struct seg *s, uint32_t todo, struct shards *out)
{
	struct work w = { .st = st, .s = s, .sh = out, .todo = todo };

	int rc = code_all(&w);
	free(w.scratch);
	secmem_free(w.mac_key);
	return rc;
}

void shards_release(struct shards *sh)
{
	for (int i = 0; i < CODE_MAX_N; i++)
		free(sh->p[i]);
}
