/* Segments, their codings, and (local facts) which shards are present. Lock of meta.h held. */
#ifndef FS_META_SEGMENT_H
#define FS_META_SEGMENT_H

#include "fs/meta/meta.h"

/* Replicated state of a segment. Moves only forward; DROPPED from any. */
enum segment_state {
	SEGMENT_OPEN = 1,      /* its staging file grows; index is in the file */
	SEGMENT_CLOSED = 2,    /* index sealed and synced; waits for upload ("pending") */
	SEGMENT_UPLOADING = 3, /* a coding is committed */
	SEGMENT_STORED = 4,    /* a coding is at quorum */
	SEGMENT_DROPPED = 5, /* no row names it; its objects wait for a publish point that condemns
				them */
};

struct segment_row {
	uint32_t num;
	uint8_t id[16];
	uint32_t keyno;
	uint8_t code_k; /* padding of its extents is for this k */
	uint8_t state;
	uint32_t extents;    /* count without the index extent; 0 while OPEN */
	uint64_t length;     /* bytes of its staging file when closed, else 0 */
	uint64_t live;       /* bytes of file content that runs name; kept by run.h */
	int64_t created;     /* unix seconds */
	uint64_t born, died; /* sequence numbers of publish points; 0 until publishing exists */
};

int segment_get(struct meta *m, uint32_t num, struct segment_row *out);
/* -EEXIST. s->live is ignored: the new row has what runs of this transaction already name. */
int segment_insert(struct meta *m, const struct segment_row *s);
/* The whole row but num and live. -ENOENT. */
int segment_update(struct meta *m, const struct segment_row *s);
/* The row and its index; the caller has removed codings and runs. -ENOENT; -EBUSY while runs name
 * it (live > 0). */
int segment_delete(struct meta *m, uint32_t num);
/* Extent index of a closed segment, a compact blob (format of fs/data). malloc'ed. */
int segment_index_get(struct meta *m, uint32_t num, uint8_t **p, size_t *n);
int segment_index_put(struct meta *m, uint32_t num, const void *p, size_t n);
/* All rows in order of num; fn must not change segments; stops when it returns non-zero, and
 * returns that. */
int segment_each(struct meta *m, int (*fn)(void *arg, const struct segment_row *s), void *arg);

/* Segments whose live became 0 since the last call (committed or not) and still is, to be dropped:
 * up to max numbers, each told once. The list is in memory: after an open look for live == 0 with
 * segment_each. OPEN segments are told as well. */
int segment_take_dead(struct meta *m, uint32_t *nums, int max);

enum coding_state { CODING_UPLOADING = 1, CODING_STORED = 2 };

struct coding_row {
	uint8_t set[16];
	uint32_t seg;
	uint8_t k, m;
	uint8_t state;
	uint32_t present; /* local fact: bit i: shard i was put and acknowledged */
	uint32_t suspect; /* local fact: bit i: was seen missing or wrong since */
};

int coding_insert(struct meta *m, const struct coding_row *c);                        /* -EEXIST */
int coding_set_state(struct meta *m, const uint8_t set[16], enum coding_state state); /* -ENOENT */
/* Local, not in the outbox. -ENOENT when there is no such coding. */
int coding_set_present(struct meta *m, const uint8_t set[16], uint32_t present, uint32_t suspect);
int coding_delete(struct meta *m, const uint8_t set[16]); /* -ENOENT */
int coding_get(struct meta *m, const uint8_t set[16], struct coding_row *out);
/* Codings of a segment, newest last; returns how many (up to max) or a negative errno. */
int coding_of_segment(struct meta *m, uint32_t seg, struct coding_row *out, int max);
/* All, in order of creation; as segment_each. */
int coding_each(struct meta *m, int (*fn)(void *arg, const struct coding_row *c), void *arg);

#endif
