/* Inodes in memory. A struct inode that is dirty, open or an orphan is pinned and authoritative:
 * its row may be older. Clean ones that nobody uses wait in an LRU list.
 *
 * Lock order: meta lock -> inode locks (by ascending ino) -> the leaf locks (table, lists, known)
 * and segstore's. */
#ifndef FS_DATA_INODE_TABLE_H
#define FS_DATA_INODE_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include "fs/base/hash.h"
#include "fs/base/list.h"
#include "fs/data/baserows.h"
#include "fs/data/overlay.h"
#include "fs/meta/node.h"

struct volume;

enum tri { TRI_UNKNOWN, TRI_NO, TRI_YES };

struct inode {
	struct hash_node hash;    /* by tab_lock; key = ino */
	uint32_t type;            /* constant: S_IFMT bits */
	struct list lru;          /* by tab_lock: while refs == 0 */
	atomic_uint refs;         /* 0 -> 1 and 1 -> 0 by tab_lock */
	atomic_uint opens;        /* volume_open less volume_release; each is a ref as well */
	struct list data_link;    /* by list_lock: changed content; a ref */
	struct list attr_link;    /* by list_lock: its row must be written; a ref */
	struct list renamed_link; /* by list_lock: replaced a name in this transaction; a ref */
	struct list reap_link;    /* by list_lock: an orphan that may go; a ref */

	pthread_mutex_t lock; /* guards what follows */
	struct node n;     /* as the user sees it; nlink and parent change with the meta lock too;
			      bytes: not used */
	uint64_t row_size; /* size and mtime of the newest snapshot: what the row gets */
	int64_t row_mtime;
	uint64_t row_bytes; /* sum of run lengths in the database; changed with the meta lock too */
	uint64_t row_end;   /* no row reaches beyond; likewise */
	struct baserows base;
	struct overlay over;
	uint32_t inflight;  /* snapshots taken and not committed */
	uint8_t data_dirty; /* content, size or mtime changed since the newest snapshot */
	uint8_t attr_dirty; /* on the attr list */
	uint8_t attr_full;  /* more than atime */
	uint8_t in_db;      /* has a row */
	atomic_uchar
	    orphan;     /* link count 0: holds a ref until it is removed. Set before `known` and
			    opens are asked, read after they fell: one of both sees the other */
	uint8_t dead;   /* removed: nothing may be done with it any more */
	uint8_t xattrs; /* enum tri: has any; changed with the meta lock too */
	uint8_t default_acl;      /* enum tri; likewise */
	uint8_t caps;             /* enum tri: security.capability; likewise */
	uint64_t wr_next, wr_run; /* sequential writing: next offset, bytes so far */
	int64_t wr_time;
	struct seg_lane *lane;
	uint64_t rd_next, rd_run, rd_ahead; /* sequential reading; prefetched up to rd_ahead */
	int64_t rd_failed_at;               /* the last read that the backends let wait too long, */
	uint64_t rd_failed_off, rd_failed_end; /* and of what */
};

struct inode_table {
	pthread_mutex_t lock;   /* tab_lock */
	struct hash hash;       /* by lock */
	struct list lru;        /* by lock: oldest first */
	size_t unused;          /* by lock: length of lru */
	size_t max;             /* clean ones kept */
	atomic_llong base_rows; /* rows in all windows, about */
};
int inode_table_init(struct inode_table *t, size_t max);
void inode_table_release(struct inode_table *t); /* frees all inodes, whatever they hold */

/* With a reference, -ENOENT, or another negative errno. The plain one takes the meta lock when the
 * inode is not in memory; _locked expects it held. */
int inode_get(struct volume *v, uint64_t ino, struct inode **out);
int inode_get_locked(struct volume *v, uint64_t ino, struct inode **out);
/* Only what is in memory; NULL. */
struct inode *inode_peek(struct volume *v, uint64_t ino);
static inline void inode_ref(struct inode *i)
{
	atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed);
}
void inode_put(struct volume *v, struct inode *i);
/* A new one that nobody knows yet, with one reference; n->ino is set. NULL: out of memory. */
struct inode *inode_create(struct volume *v, const struct node *n);
void inode_publish(struct volume *v, struct inode *i); /* into the table; meta lock held */
/* Meta lock held: nobody finds it any more; freed with its last reference. */
void inode_unpublish(struct volume *v, struct inode *i);
void inode_free(struct inode *i); /* one that was never published */

/* Put it on a list (once) and make the committer run within its interval. Inode lock held. */
void inode_data_changed(struct volume *v, struct inode *i);
void inode_attr_changed(struct volume *v, struct inode *i, int atime_only);
/* These two need no lock but list_lock, which they take. */
void inode_renamed(struct volume *v, struct inode *i);
void inode_reap(struct volume *v, struct inode *i);

#endif
