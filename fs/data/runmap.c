/* Treap (Seidel and Aragon 1996): a search tree by offset and a heap by random priority. Depth is
 * about 2 log2 n with high probability, so recursion is shallow. Every change is split and merge.
 */
#include "fs/data/runmap.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/base/scope.h"

int runmap_spare_get(struct runmap_spare *s, int n)
{
	*s = (struct runmap_spare){ { NULL, NULL } };
	for (int i = 0; i < n; i++) {
		s->node[i] = malloc(sizeof(*s->node[i]));
		if (!s->node[i]) {
			runmap_spare_release(s);
			return -ENOMEM;
		}
	}
	return 0;
}

void runmap_spare_release(struct runmap_spare *s)
{
	free(s->node[0]);
	free(s->node[1]);
	*s = (struct runmap_spare){ { NULL, NULL } };
}

void runmap_init(struct runmap *m, const struct runmap_ops *ops, void *arg)
{
	*m = (struct runmap){ .ops = ops, .arg = arg, .seed = 0x9e3779b9u };
}

static uint32_t next_prio(struct runmap *m)
{
	uint32_t x = m->seed; /* xorshift32 (Marsaglia 2003) */

	x ^= x << 13, x ^= x >> 17, x ^= x << 5;
	return m->seed = x;
}

static void piece_gone(struct runmap *m, const struct piece *p, uint64_t bytes)
{
	if (m->ops && m->ops->gone)
		m->ops->gone(m->arg, p, bytes);
}

static void piece_unref(struct runmap *m, const struct piece *p)
{
	if (m->ops && m->ops->unref)
		m->ops->unref(m->arg, p);
}

/* Pieces that begin before off to *l, the others to *r. */
static void split(struct runmap_node *t, uint64_t off, struct runmap_node **l,
		  struct runmap_node **r)
{
	if (!t) {
		*l = *r = NULL;
	} else if (t->p.off < off) {
		split(t->right, off, &t->right, r);
		*l = t;
	} else {
		split(t->left, off, l, &t->left);
		*r = t;
	}
}

/* All of l lies before all of r. */
static struct runmap_node *merge(struct runmap_node *l, struct runmap_node *r)
{
	if (!l || !r)
		return l ? l : r;
	if (l->prio > r->prio) {
		l->right = merge(l->right, r);
		return l;
	}
	r->left = merge(l, r->left);
	return r;
}

static void insert(struct runmap *m, struct runmap_node *n)
{
	struct runmap_node *l, *r;

	n->left = n->right = NULL;
	n->prio = next_prio(m);
	m->count++;
	if (!m->root) {
		m->root = n;
		return;
	}
	split(m->root, n->p.off, &l, &r);
	m->root = merge(merge(l, n), r);
}

static void free_tree(struct runmap *m, struct runmap_node *t)
{
	while (t) {
		struct runmap_node *right = t->right;

		free_tree(m, t->left);
		piece_gone(m, &t->p, t->p.end - t->p.off);
		piece_unref(m, &t->p);
		m->count--;
		free(t);
		t = right;
	}
}

void runmap_release(struct runmap *m)
{
	free_tree(m, m->root);
	m->root = NULL;
}

static struct runmap_node *take_spare(struct runmap_spare *s)
{
	struct runmap_node *n;

	for (int i = 0; i < 2; i++) {
		n = s->node[i];
		s->node[i] = NULL;
		if (n)
			return n;
	}
	abort(); /* a caller's bug: continuing would lose a piece of a file */
}

/* The piece that covers off - 1 and off becomes two that touch at off; or nothing to do. */
static void cut(struct runmap *m, struct piece *p, uint64_t off, struct runmap_spare *s)
{
	struct runmap_node *n = take_spare(s);

	n->p = *p;
	n->p.off = off;
	n->p.pos += off - p->off;
	p->end = off;
	p->next = 0;
	if (m->ops && m->ops->ref)
		m->ops->ref(m->arg, &n->p);
	insert(m, n);
}

void runmap_clear(struct runmap *m, uint64_t off, uint64_t end, struct runmap_spare *s)
{
	struct runmap_node *l, *mid, *r;
	struct piece *p;

	if (off >= end || !m->root)
		return;
	p = runmap_before(m, off);
	if (p && p->end > off) {
		if (p->end > end) {
			cut(m, p, end, s);
			/* the cut moved the tail out; what remains of p ends at end */
		}
		piece_gone(m, p, p->end - off);
		p->end = off;
		p->next = 0;
	}
	split(m->root, off, &l, &mid);
	split(mid, end, &mid, &r);
	/* The last piece of the middle may reach beyond end: its front goes, in place. */
	for (struct runmap_node *n = mid; n; n = n->right) {
		if (n->right || n->p.end <= end)
			continue;
		piece_gone(m, &n->p, end - n->p.off);
		n->p.pos += end - n->p.off;
		n->p.off = end;
		split(mid, end, &mid, &n);
		r = merge(n, r);
		break;
	}
	free_tree(m, mid);
	m->root = merge(l, r);
}

void runmap_set(struct runmap *m, const struct piece *p, struct runmap_spare *s)
{
	struct runmap_node *n;

	runmap_clear(m, p->off, p->end, s);
	n = take_spare(s);
	n->p = *p;
	insert(m, n);
}

struct piece *runmap_find(const struct runmap *m, uint64_t off)
{
	struct runmap_node *t = m->root;
	struct piece *best = NULL;

	while (t) {
		if (t->p.end > off) {
			best = &t->p;
			t = t->left;
		} else {
			t = t->right;
		}
	}
	return best;
}

struct piece *runmap_before(const struct runmap *m, uint64_t off)
{
	struct runmap_node *t = m->root;
	struct piece *best = NULL;

	while (t) {
		if (t->p.off < off) {
			best = &t->p;
			t = t->right;
		} else {
			t = t->left;
		}
	}
	return best;
}

void runmap_join(struct runmap *m, struct piece *left, struct piece *right)
{
	struct runmap_node *l, *mid, *r;
	uint64_t end = right->end;

	split(m->root, right->off, &l, &mid);
	split(mid, right->off + 1, &mid, &r);
	left->next = right->next;
	piece_unref(m, &mid->p);
	free(mid);
	m->count--;
	m->root = merge(l, r);
	left->end = end;
}

static struct runmap_node *filter(struct runmap *m, struct runmap_node *t,
				  int (*drop)(void *arg, const struct piece *p), void *arg)
{
	struct runmap_node *l, *r;

	if (!t)
		return NULL;
	l = filter(m, t->left, drop, arg);
	r = filter(m, t->right, drop, arg);
	if (drop(arg, &t->p)) {
		t->left = t->right = NULL;
		free_tree(m, t);
		return merge(l, r);
	}
	t->left = l, t->right = r;
	return t;
}

void runmap_drop_if(struct runmap *m, int (*drop)(void *arg, const struct piece *p), void *arg)
{
	m->root = filter(m, m->root, drop, arg);
}
