/* Rows in encoded form: what stands in outbox blobs (coding/FORMAT.md, "Rows") and in the list of
 * changed rows. Pure: no SQL, no state. */
#ifndef FS_META_ROWS_H
#define FS_META_ROWS_H

#include "fs/meta/node.h"
#include "fs/meta/outbox.h"
#include "fs/meta/run.h"
#include "fs/meta/segment.h"

/* Tables that are never published; their numbers stand in memory only. */
enum local_table { LOCAL_VALUE = 128, LOCAL_SHARD };

#define META_INT_MAX   INT64_MAX /* what one SQL integer holds */
#define META_NAME_MAX  255
#define META_LINK_MAX  4095
#define META_XATTR_MAX 65536
#define META_INDEX_MAX ((size_t)64 << 20)
#define META_VALUE_MAX ((size_t)16 << 20)

#define NODE_KEY    8
#define NODE_ROW    80
#define NAME_ROW    20
#define RUN_KEY     16
#define RUN_ROW     24
#define SEGMENT_KEY 4
#define SEGMENT_ROW 66
#define CODING_KEY  16
#define CODING_ROW  15
#define SHARD_ROW   8

void node_encode(const struct node *n, uint8_t row[NODE_ROW]);
void node_decode(const uint8_t key[NODE_KEY], const uint8_t row[NODE_ROW], struct node *n);
/* key: parent and name; returns its length. The decoded name is borrowed from nobody: copied. */
size_t name_key(uint8_t *key, uint64_t parent, const void *name, size_t n);
void name_encode(const struct dirent_row *d, uint8_t row[NAME_ROW]);
void name_decode(const uint8_t *key, size_t key_len, const uint8_t row[NAME_ROW],
		 struct dirent_row *d);
void run_encode(uint64_t ino, const struct run *r, uint8_t key[RUN_KEY], uint8_t row[RUN_ROW]);
void run_decode(const uint8_t key[RUN_KEY], const uint8_t row[RUN_ROW], uint64_t *ino,
		struct run *r);
void segment_encode(const struct segment_row *s, uint8_t row[SEGMENT_ROW]);
void segment_decode(const uint8_t key[SEGMENT_KEY], const uint8_t row[SEGMENT_ROW],
		    struct segment_row *s);
/* order: ascends with creation. present and suspect are not in the row. */
void coding_encode(const struct coding_row *c, uint64_t order, uint8_t row[CODING_ROW]);
void coding_decode(const uint8_t key[CODING_KEY], const uint8_t row[CODING_ROW],
		   struct coding_row *c, uint64_t *order);

/* The next entry of a blob, checked against its table's bounds. 1, 0 at the end, -EBADMSG. Start
 * with blob_begin. Local tables are malformed here. */
int blob_begin(const void *blob, size_t n, struct rd *r); /* 0 or -EBADMSG */
int blob_next(struct rd *r, struct outbox_entry *entry);
/* Walks the whole blob: 0 or -EBADMSG; how many entries, and their key and row bytes. */
int blob_check(const void *blob, size_t n, size_t *entries, size_t *bytes);

#endif
