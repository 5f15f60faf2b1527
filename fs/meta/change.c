#include "fs/meta/change.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fs/base/scope.h"
#include "fs/meta/outbox.h"

#define CHUNK_SIZE ((size_t)256 << 10)
#define SLOTS_KEPT 65536 /* a map that one huge transaction blew up is given back */

struct change_chunk {
	struct change_chunk *next;
	size_t used, size;
	_Alignas(16) uint8_t p[];
};

static size_t aligned(size_t n)
{
	return (n + 15) & ~(size_t)15;
}

static struct change_chunk *chunk_new(size_t size)
{
	struct change_chunk *c = malloc(sizeof(*c) + size);

	if (!c)
		return NULL;
	c->next = NULL;
	c->used = 0;
	c->size = size;
	return c;
}

/* Out of the chunk in use; changes_reserve saw to the room. */
static void *take(struct changes *c, size_t n)
{
	struct change_chunk *chunk = c->chunks;
	void *p = chunk->p + chunk->used;

	n = aligned(n);
	assert(chunk->size - chunk->used >= n);
	chunk->used += n;
	return p;
}

int changes_init(struct changes *c)
{
	*c = (struct changes){ 0 };
	c->chunks = chunk_new(CHUNK_SIZE);
	if (!c->chunks)
		return -ENOMEM;
	if (hash_init(&c->map, 4096)) {
		changes_release(c);
		return -ENOMEM;
	}
	return 0;
}

void changes_release(struct changes *c)
{
	struct change_chunk *chunk = c->chunks;

	while (chunk) {
		struct change_chunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
	hash_release(&c->map);
	*c = (struct changes){ 0 };
}

void changes_reset(struct changes *c)
{
	struct change_chunk *keep = NULL, *chunk = c->chunks;

	while (chunk) {
		struct change_chunk *next = chunk->next;

		if (!keep && chunk->size == CHUNK_SIZE)
			keep = chunk;
		else
			free(chunk);
		chunk = next;
	}
	/* There is always one: changes_init made it, and only changes_release frees all. */
	assert(keep);
	keep->next = NULL;
	keep->used = 0;
	c->chunks = keep;
	if (c->map.mask + 1 > SLOTS_KEPT) {
		struct hash smaller;

		if (!hash_init(&smaller, 4096)) {
			hash_release(&c->map);
			c->map = smaller;
		}
	}
	memset(c->map.slots, 0, (c->map.mask + 1) * sizeof(*c->map.slots));
	c->map.count = 0;
	c->first = c->last = NULL;
	c->blob_bytes = 0;
}

int changes_reserve(struct changes *c, int entries, size_t bytes)
{
	size_t need = (size_t)entries * (sizeof(struct change) + 2 * 16) + bytes;
	struct change_chunk *chunk = c->chunks;

	if (chunk->size - chunk->used >= need)
		return 0;
	chunk = chunk_new(MAX(need, CHUNK_SIZE));
	if (!chunk)
		return -ENOMEM;
	chunk->next = c->chunks;
	c->chunks = chunk;
	return 0;
}

static struct change *find(const struct changes *c, uint64_t h, uint8_t table, const void *key,
			   size_t key_len)
{
	struct hash_node *n;

	for (n = hash_find(&c->map, h); n; n = n->next) {
		struct change *e = container_of(n, struct change, node);

		if (n->key == h && e->table == table && e->key_len == key_len &&
		    !memcmp(e->key, key, key_len))
			return e;
	}
	return NULL;
}

static struct change *find_or_add(struct changes *c, uint8_t table, const void *key, size_t key_len,
				  int flags, int *added)
{
	uint64_t h = hash_bytes(key, key_len) + table;
	struct change *e = find(c, h, table, key, key_len);

	*added = !e;
	if (e) {
		if (!(flags & CHANGE_LOCAL))
			e->flags &= (uint8_t)~CHANGE_LOCAL;
		return e;
	}
	assert(key_len <= CHANGE_KEY_MAX);
	e = take(c, sizeof(*e) + key_len);
	memset(e, 0, sizeof(*e));
	e->table = table;
	e->flags = (uint8_t)(flags & CHANGE_LOCAL);
	e->key_len = (uint16_t)key_len;
	memcpy(e->key, key, key_len);
	if (c->last)
		c->last->next = e;
	else
		c->first = e;
	c->last = e;
	hash_insert(&c->map, &e->node, h);
	c->blob_bytes += CHANGE_HEAD + key_len;
	return e;
}

void changes_put(struct changes *c, uint8_t table, const void *key, size_t key_len, const void *row,
		 size_t row_len, int is_new, int flags)
{
	int added;
	struct change *e = find_or_add(c, table, key, key_len, flags, &added);

	if (added && is_new)
		e->flags |= CHANGE_FRESH;
	e->flags &= (uint8_t)~CHANGE_VOID;
	e->op = OUTBOX_UPSERT;
	if (row_len > e->row_cap) {
		e->row = take(c, row_len);
		e->row_cap = (uint32_t)row_len;
	}
	if (row_len)
		memcpy(e->row, row, row_len);
	c->blob_bytes += row_len - e->row_len;
	e->row_len = (uint32_t)row_len;
}

void changes_delete(struct changes *c, uint8_t table, const void *key, size_t key_len, int flags)
{
	int added;
	struct change *e = find_or_add(c, table, key, key_len, flags, &added);

	if (e->flags & CHANGE_FRESH)
		e->flags |= CHANGE_VOID;
	e->op = OUTBOX_DELETE;
	c->blob_bytes -= e->row_len;
	e->row_len = 0;
}

void change_head_put(uint8_t head[CHANGE_HEAD], uint8_t table, uint8_t op, size_t key_len,
		     size_t row_len)
{
	head[0] = table;
	head[1] = op;
	be16_put(head + 2, (uint16_t)key_len);
	be32_put(head + 4, (uint32_t)row_len);
}

int changes_blob(const struct changes *c, struct buf *out)
{
	size_t start = out->len;
	int n = 0;
	uint8_t *p = buf_extend(out, 1 + c->blob_bytes), *from = p;

	if (!p)
		return -ENOMEM;
	*p++ = CHANGE_BLOB_FORMAT;
	for (const struct change *e = c->first; e; e = e->next) {
		if (e->flags & (CHANGE_LOCAL | CHANGE_VOID))
			continue;
		change_head_put(p, e->table, e->op, e->key_len, e->row_len);
		p += CHANGE_HEAD;
		memcpy(p, e->key, e->key_len);
		p += e->key_len;
		if (e->row_len)
			memcpy(p, e->row, e->row_len);
		p += e->row_len;
		n++;
	}
	out->len = n ? start + (size_t)(p - from) : start;
	return n;
}
