/* Intrusive doubly linked list. Not thread-safe; the lock is the owner's. */
#ifndef FS_BASE_LIST_H
#define FS_BASE_LIST_H

#include "fs/base/scope.h"

struct list {
	struct list *next, *prev;
};
static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}
static inline int list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_insert_between(struct list *e, struct list *prev, struct list *next)
{
	e->prev = prev, e->next = next, prev->next = e, next->prev = e;
}
static inline void list_push_back(struct list *l, struct list *e)
{
	list_insert_between(e, l->prev, l);
}
static inline void list_push_front(struct list *l, struct list *e)
{
	list_insert_between(e, l, l->next);
}
/* Takes e out and leaves it a list of its own, so that a second removal does no harm. */
static inline void list_remove(struct list *e)
{
	e->prev->next = e->next, e->next->prev = e->prev;
	list_init(e);
}
/* First entry, or NULL. */
static inline struct list *list_first(struct list *l)
{
	return list_empty(l) ? NULL : l->next;
}
/* Moves all entries of from to the end of to. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev, to->prev->next = from->next;
	from->prev->next = to, to->prev = from->prev;
	list_init(from);
}
#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_for_each(it, head)       for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_for_each_safe(it, head)                                                               \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                  \
	     it = it##_next, it##_next = it->next)

#endif
