/* The changed rows of one transaction: a map (table, key) -> last full row, in order of first
 * change. It is the outbox blob in the making, and the list from which a transaction that SQLite
 * rolled back is applied again. Knows no SQL. Not thread-safe. */
#ifndef FS_META_CHANGE_H
#define FS_META_CHANGE_H

#include <stddef.h>
#include <stdint.h>
#include "fs/base/buf.h"
#include "fs/base/hash.h"

#define CHANGE_KEY_MAX 264 /* an inode number and a name of 255 bytes */

enum change_flag {
	CHANGE_LOCAL = 1, /* is not published */
	CHANGE_FRESH = 2, /* was not there when the transaction began */
	CHANGE_VOID = 4,  /* fresh and gone again: as if it had never been */
};

struct change {
	struct hash_node node;
	struct change *next; /* in order of first change */
	uint8_t *row;
	uint32_t row_len, row_cap;
	uint16_t key_len;
	uint8_t table, op, flags;
	uint8_t key[];
};

struct change_chunk;
struct changes {
	struct hash map;
	struct change *first, *last;
	size_t blob_bytes;           /* upper bound of what changes_blob writes */
	struct change_chunk *chunks; /* arena; the first is the one in use */
};

int changes_init(struct changes *c); /* -ENOMEM */
void changes_release(struct changes *c);
void changes_reset(struct changes *c); /* empties; keeps some memory */

/* Makes the next `entries` puts, with keys and rows of `bytes` in all, unable to fail. -ENOMEM:
 * nothing changed. */
int changes_reserve(struct changes *c, int entries, size_t bytes);
/* What was reserved. Copies. is_new: the row was not in the table just before. flags: CHANGE_LOCAL
 * or 0; an entry that is to be published stays so. */
void changes_put(struct changes *c, uint8_t table, const void *key, size_t key_len, const void *row,
		 size_t row_len, int is_new, int flags);
void changes_delete(struct changes *c, uint8_t table, const void *key, size_t key_len, int flags);

/* Appends the blob of all entries that are to be published. Returns how many there were (0: nothing
 * appended), or -ENOMEM. */
int changes_blob(const struct changes *c, struct buf *out);

/* Bytes of an entry's head in the blob, and the head itself. */
#define CHANGE_HEAD        8
#define CHANGE_BLOB_FORMAT 1
void change_head_put(uint8_t head[CHANGE_HEAD], uint8_t table, uint8_t op, size_t key_len,
		     size_t row_len);

#endif
