/* POSIX ACLs as they stand in system.posix_acl_access and _default: Linux's posix_acl_xattr.h,
 * version 2, little-endian: u32 version, then {u16 tag, u16 perm, u32 id} ordered by tag and id.
 * Pure. */
#ifndef FS_DATA_ACL_H
#define FS_DATA_ACL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ACL_ACCESS_XATTR  "system.posix_acl_access"
#define ACL_DEFAULT_XATTR "system.posix_acl_default"

#define ACL_ENTRIES_MAX   1024
#define ACL_XATTR_SIZE(n) (4 + 8 * (size_t)(n))

enum {
	ACL_TAG_USER_OBJ = 1,
	ACL_TAG_USER = 2,
	ACL_TAG_GROUP_OBJ = 4,
	ACL_TAG_GROUP = 8,
	ACL_TAG_MASK = 16,
	ACL_TAG_OTHER = 32
};

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};
struct acl {
	int n;
	struct acl_entry e[ACL_ENTRIES_MAX];
};

/* 0; -EINVAL when malformed, out of order or incomplete; -EOPNOTSUPP another version; -E2BIG. */
int acl_parse(struct acl *a, const void *xattr, size_t n);
/* Into a buffer of ACL_XATTR_SIZE(a->n) bytes. */
void acl_format(const struct acl *a, void *xattr);
/* The permission bits that an access ACL stands for (the mask, if any, is the group's). Returns 1
 * when these bits say all of it, so that the ACL need not be kept. */
int acl_mode(const struct acl *a, mode_t *bits);
/* chmod: puts bits into the entries. */
void acl_chmod(struct acl *a, mode_t bits);
/* A new file in a folder with default ACL a: a becomes its access ACL, *mode loses what a does not
 * grant (posix_acl_create_masq). Returns 1 when *mode then says all of it. */
int acl_inherit(struct acl *a, mode_t *mode);

#endif
