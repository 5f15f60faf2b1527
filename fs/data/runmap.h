/* An interval map: which source the bytes of a range come from. Pure: no locks, no I/O, no meaning
 * of the payload beyond "a piece that loses its front starts that much later in its source".
 *
 * Pieces never overlap; what no piece covers is not in the map. A treap by offset, so a replaced
 * range costs O(log n) also with a million pieces. Not thread-safe. */
#ifndef FS_DATA_RUNMAP_H
#define FS_DATA_RUNMAP_H

#include <stddef.h>
#include <stdint.h>

#define RUNMAP_INF UINT64_MAX

enum piece_kind { PIECE_DIRTY = 1, PIECE_SEALED, PIECE_HOLE };

struct piece {
	uint64_t off, end; /* [off, end), end may be RUNMAP_INF */
	uint64_t pos;      /* where byte `off` lies in the source */
	union {
		struct {
			uint32_t seg, first; /* PIECE_SEALED: as in struct run; pos is its skip */
		};
		void *buf; /* PIECE_DIRTY: the owner's buffer */
	};
	uint32_t next; /* PIECE_SEALED: number of the extent that would continue it, 0 when it was
			  cut behind */
	uint32_t mark; /* the owner's; parts of a cut piece keep it */
	uint8_t kind;
};

struct runmap_node {
	struct piece p;
	struct runmap_node *left, *right;
	uint32_t prio;
};

struct runmap_ops {
	/* A piece was cut in two: its source has one user more. p is the new, right part. */
	void (*ref)(void *arg, const struct piece *p);
	/* The last part of a user of p's source left the map. */
	void (*unref)(void *arg, const struct piece *p);
	/* bytes of p (whole or an end of it) are about to leave the map. */
	void (*gone)(void *arg, const struct piece *p, uint64_t bytes);
};

struct runmap {
	struct runmap_node *root;
	size_t count;
	const struct runmap_ops *ops; /* borrowed; NULL: none */
	void *arg;
	uint32_t seed;
};

/* Memory for one change, allocated before anything is touched, so that changes never fail half way.
 * Release returns what was not needed. */
struct runmap_spare {
	struct runmap_node *node[2];
};
int runmap_spare_get(struct runmap_spare *s, int n); /* n: 1 or 2; 0 or -ENOMEM (nothing taken) */
void runmap_spare_release(struct runmap_spare *s);

void runmap_init(struct runmap *m, const struct runmap_ops *ops, void *arg);
/* Removes all pieces. */
void runmap_release(struct runmap *m);

/* Removes what lies in [off, end): takes up to 1 of the spares (a piece cut in the middle), none
 * when off and end are ends of pieces. */
void runmap_clear(struct runmap *m, uint64_t off, uint64_t end, struct runmap_spare *s);
/* Replaces [p->off, p->end) by p (copied; p's one use of its source goes to the map). Takes up
 * to 2. */
void runmap_set(struct runmap *m, const struct piece *p, struct runmap_spare *s);

/* The first piece that ends behind off, or NULL. The owner may change its payload, and its end as
 * far as the next piece. */
struct piece *runmap_find(const struct runmap *m, uint64_t off);
/* The last piece that begins before off, or NULL. */
struct piece *runmap_before(const struct runmap *m, uint64_t off);
static inline struct piece *runmap_next(const struct runmap *m, const struct piece *p)
{
	return p->end == RUNMAP_INF ? NULL : runmap_find(m, p->end);
}
/* left and right touch: left grows over right, whose use of its source is given back. */
void runmap_join(struct runmap *m, struct piece *left, struct piece *right);
/* Removes pieces for which drop answers 1. */
void runmap_drop_if(struct runmap *m, int (*drop)(void *arg, const struct piece *p), void *arg);

#endif
