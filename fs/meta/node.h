/* Nodes (inodes), symlink targets, names (directory entries), xattrs. Lock of meta.h held. Names
 * are bytes: 1..255, no '/' and no NUL (checked by callers; only the length is checked here:
 * -EINVAL). */
#ifndef FS_META_NODE_H
#define FS_META_NODE_H

#include "fs/meta/meta.h"

#define META_ROOT_INO 1

struct node {
	uint64_t ino;
	uint32_t mode;  /* type and permission bits */
	uint32_t nlink; /* 0: orphan, to be removed */
	uint32_t uid, gid;
	uint32_t
	    rdev; /* major << 20 | minor as in new_encode_dev of Linux: the caller's business */
	uint32_t flags;  /* reserved, 0 */
	uint64_t size;   /* bytes; folders: number of entries */
	uint64_t bytes;  /* sum of run lengths; maintained by callers that change runs */
	uint64_t parent; /* folders: their parent; else 0 */
	int64_t atime, mtime, ctime, btime; /* ns since 1970 */
};

int node_get(struct meta *m, uint64_t ino, struct node *out);
/* Insert or replace. meta_totals.inodes follows. atime_only: the change is not worth publishing
 * (not in the outbox, unless something else of the row changes in the same transaction; a later
 * change publishes the whole row). */
int node_put(struct meta *m, const struct node *n, int atime_only);
/* Removes the node, its xattrs and symlink target. The caller has removed names and runs. */
int node_delete(struct meta *m, uint64_t ino);
/* Orphans (nlink 0) left by a crash, ascending: calls fn until it returns non-zero, and returns
 * that. fn must not change nodes. */
int node_each_orphan(struct meta *m, int (*fn)(void *arg, uint64_t ino), void *arg);

/* Symlink target: bytes, up to 4,095 (-ENAMETOOLONG). link_get copies at most cap bytes (no NUL);
 * *n is always the whole length. */
int link_get(struct meta *m, uint64_t ino, char *target, size_t cap, size_t *n);
int link_put(struct meta *m, uint64_t ino, const char *target, size_t n);

struct dirent_row {
	uint64_t parent;
	uint64_t ino;
	uint64_t cookie; /* unique within parent, never reused, ascending in order of creation */
	uint32_t type;   /* S_IFMT bits of the node */
	uint16_t name_len;
	char name[256]; /* NUL behind the bytes */
};

int dirent_get(struct meta *m, uint64_t parent, const char *name, size_t n, struct dirent_row *out);
int dirent_insert(struct meta *m, const struct dirent_row *d);                  /* -EEXIST */
int dirent_delete(struct meta *m, uint64_t parent, const char *name, size_t n); /* -ENOENT */
/* Points an existing name at another node, keeping its cookie. -ENOENT. */
int dirent_retarget(struct meta *m, uint64_t parent, const char *name, size_t n, uint64_t ino,
		    uint32_t type);
/* Up to max entries with cookie > after, in order of cookies. Returns how many (0: end) or a
 * negative errno. Cost grows with max only, not with the folder. */
int dirent_page(struct meta *m, uint64_t parent, uint64_t after, struct dirent_row *out, int max);
int dirent_empty(struct meta *m, uint64_t parent); /* 1, 0 or negative errno */

/* -ENODATA; -ERANGE when cap > 0 is too small; *n is always the size. Values up to 64 KiB (-E2BIG).
 */
int xattr_get(struct meta *m, uint64_t ino, const char *name, void *value, size_t cap, size_t *n);
int xattr_put(struct meta *m, uint64_t ino, const char *name, const void *value, size_t n);
int xattr_delete(struct meta *m, uint64_t ino, const char *name); /* -ENODATA */
/* Names, NUL-terminated each, as listxattr(2). -ERANGE as above; cap 0 asks for the size. */
int xattr_list(struct meta *m, uint64_t ino, char *names, size_t cap, size_t *n);
int xattr_any(struct meta *m, uint64_t ino); /* 1 when the node has any, 0, or negative errno */

#endif
