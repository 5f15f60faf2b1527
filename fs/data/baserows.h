/* A window of a file's committed rows in memory. By the inode's lock; changed only with the meta
 * lock held as well, so that it says what the database says. */
#ifndef FS_DATA_BASEROWS_H
#define FS_DATA_BASEROWS_H

#include "fs/meta/run.h"

#define BASEROWS_MAX 1024

struct baserows {
	struct run *runs; /* in order; those that touch [from, to), whole */
	uint32_t n, cap;
	uint64_t from, to; /* from == to: nothing is known. to UINT64_MAX: up to the end */
};

void baserows_release(struct baserows *b);   /* nothing is known any more */
void baserows_set_empty(struct baserows *b); /* all is known: no rows */
/* Loads the window that holds off. Meta lock held. 0 or a negative errno. */
int baserows_load(struct baserows *b, struct meta *m, uint64_t ino, uint64_t off);
static inline int baserows_knows(const struct baserows *b, uint64_t off)
{
	return off >= b->from && off < b->to;
}
/* The first row that ends behind off, or NULL when there is none in the window. off is known. */
const struct run *baserows_find(const struct baserows *b, uint64_t off);
/* The same changes as run_clear and run_insert; when they cannot be followed nothing is known
 * after. */
void baserows_clear(struct baserows *b, uint64_t off, uint64_t end);
void baserows_insert(struct baserows *b, const struct run *r, int continues);

#endif
