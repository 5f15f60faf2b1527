#include "fs/data/inode_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/scope.h"
#include "fs/data/volume_internal.h"

/* Inodes whose atime alone changed wait for another reason to commit, up to here. */
#define ATIME_PENDING_MAX 8192

int inode_table_init(struct inode_table *t, size_t max)
{
	int rc = hash_init(&t->hash, 4096);

	pthread_mutex_init(&t->lock, NULL);
	list_init(&t->lru);
	t->unused = 0;
	t->max = max;
	return rc;
}

void inode_free(struct inode *i)
{
	overlay_release(&i->over);
	baserows_release(&i->base);
	pthread_mutex_destroy(&i->lock);
	free(i);
}

static void free_entry(struct hash_node *n, void *arg)
{
	(void)arg;
	inode_free(container_of(n, struct inode, hash));
}

void inode_table_release(struct inode_table *t)
{
	if (t->hash.slots)
		hash_each(&t->hash, free_entry, NULL);
	hash_release(&t->hash);
	pthread_mutex_destroy(&t->lock);
}

struct inode *inode_create(struct volume *v, const struct node *n)
{
	struct inode *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->n = *n;
	i->type = n->mode & S_IFMT;
	i->row_size = n->size;
	i->row_mtime = n->mtime;
	atomic_store_explicit(&i->refs, 1, memory_order_relaxed);
	list_init(&i->lru);
	list_init(&i->data_link);
	list_init(&i->attr_link);
	list_init(&i->renamed_link);
	list_init(&i->reap_link);
	pthread_mutex_init(&i->lock, NULL);
	overlay_init(&i->over, &v->env);
	return i;
}

void inode_publish(struct volume *v, struct inode *i)
{
	SCOPE_LOCK(&v->table.lock);

	hash_insert(&v->table.hash, &i->hash, i->n.ino);
}

void inode_unpublish(struct volume *v, struct inode *i)
{
	SCOPE_LOCK(&v->table.lock);

	hash_remove(&v->table.hash, &i->hash);
	i->dead = 1;
}

struct inode *inode_peek(struct volume *v, uint64_t ino)
{
	SCOPE_LOCK(&v->table.lock);
	struct hash_node *h = hash_find(&v->table.hash, ino);
	struct inode *i = h ? container_of(h, struct inode, hash) : NULL;

	if (i && atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed) == 0) {
		list_remove(&i->lru);
		v->table.unused--;
	}
	return i;
}

int inode_get_locked(struct volume *v, uint64_t ino, struct inode **out)
{
	struct inode *i = inode_peek(v, ino);
	struct node n;
	int rc;

	*out = i;
	if (i)
		return 0;
	rc = node_get(v->m, ino, &n);
	if (rc)
		return rc;
	i = inode_create(v, &n);
	if (!i)
		return -ENOMEM;
	i->in_db = 1;
	i->row_bytes = n.bytes;
	i->row_end = n.bytes ? UINT64_MAX : 0;
	if (!n.bytes)
		baserows_set_empty(&i->base);
	inode_publish(v, i);
	*out = i;
	return 0;
}

int inode_get(struct volume *v, uint64_t ino, struct inode **out)
{
	int rc;

	*out = inode_peek(v, ino);
	if (*out)
		return 0;
	meta_lock(v->m);
	rc = inode_get_locked(v, ino, out);
	meta_unlock(v->m);
	return rc;
}

/* Takes the oldest unused one out of the table; the caller frees it without the lock. */
static struct inode *evict_locked(struct inode_table *t)
{
	struct list *l = list_first(&t->lru);
	struct inode *i;

	if (!l)
		return NULL;
	i = container_of(l, struct inode, lru);
	list_remove(l);
	t->unused--;
	hash_remove(&t->hash, &i->hash);
	atomic_fetch_sub_explicit(&t->base_rows, i->base.n, memory_order_relaxed);
	return i;
}

void inode_put(struct volume *v, struct inode *i)
{
	unsigned old = atomic_load_explicit(&i->refs, memory_order_relaxed);
	struct inode *victim = NULL;

	while (old > 1)
		if (atomic_compare_exchange_weak_explicit(
			&i->refs, &old, old - 1, memory_order_release, memory_order_relaxed))
			return;
	pthread_mutex_lock(&v->table.lock);
	if (atomic_fetch_sub_explicit(&i->refs, 1, memory_order_acq_rel) == 1) {
		if (i->dead) {
			victim = i;
		} else {
			list_push_back(&v->table.lru, &i->lru);
			v->table.unused++;
			if (v->table.unused > v->table.max ||
			    atomic_load_explicit(&v->table.base_rows, memory_order_relaxed) >
				(long long)v->o.row_cache)
				victim = evict_locked(&v->table);
		}
	}
	pthread_mutex_unlock(&v->table.lock);
	if (victim)
		inode_free(victim);
}

/* --- lists --- */

/* Returns the new length, or 0 when it was on the list. */
static size_t enlist(struct volume *v, struct inode *i, struct list *head, struct list *link,
		     size_t *length)
{
	SCOPE_LOCK(&v->list_lock);

	if (!list_empty(link))
		return 0;
	inode_ref(i);
	list_push_back(head, link);
	return ++*length;
}

void inode_data_changed(struct volume *v, struct inode *i)
{
	if (!i->data_dirty) {
		i->data_dirty = 1;
		enlist(v, i, &v->dirty_data, &i->data_link, &v->data_count);
	}
	volume_changed(v);
}

void inode_attr_changed(struct volume *v, struct inode *i, int atime_only)
{
	size_t waiting = 0;

	if (i->dead)
		return;
	if (!atime_only)
		i->attr_full = 1;
	if (!i->attr_dirty) {
		i->attr_dirty = 1;
		waiting = enlist(v, i, &v->dirty_attr, &i->attr_link, &v->attr_count);
	}
	if (!atime_only || waiting > ATIME_PENDING_MAX)
		volume_changed(v);
}

void inode_renamed(struct volume *v, struct inode *i)
{
	enlist(v, i, &v->renamed, &i->renamed_link, &v->renamed_count);
}

void inode_reap(struct volume *v, struct inode *i)
{
	enlist(v, i, &v->reap, &i->reap_link, &v->reap_count);
	volume_changed(v);
}
