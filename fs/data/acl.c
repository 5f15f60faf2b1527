#include "fs/data/acl.h"

#include <errno.h>

#define ACL_VERSION 2

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static void le_put(uint8_t *p, uint32_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

/* As posix_acl_valid() of Linux: each kind once, named ones unique and in order, a mask when any is
 * named. */
static int check(const struct acl *a)
{
	unsigned seen = 0, named = 0;

	for (int i = 0; i < a->n; i++) {
		const struct acl_entry *e = &a->e[i], *before = i ? e - 1 : NULL;
		int by_id = e->tag == ACL_TAG_USER || e->tag == ACL_TAG_GROUP;

		if (e->perm & ~7u || !e->tag || e->tag & (e->tag - 1) || e->tag > ACL_TAG_OTHER)
			return -EINVAL;
		if (before && (before->tag > e->tag ||
			       (before->tag == e->tag && (!by_id || before->id >= e->id))))
			return -EINVAL;
		if (by_id && e->id == UINT32_MAX)
			return -EINVAL;
		seen |= e->tag;
		named |= (unsigned)by_id;
	}
	if ((seen & (ACL_TAG_USER_OBJ | ACL_TAG_GROUP_OBJ | ACL_TAG_OTHER)) !=
	    (ACL_TAG_USER_OBJ | ACL_TAG_GROUP_OBJ | ACL_TAG_OTHER))
		return -EINVAL;
	return named && !(seen & ACL_TAG_MASK) ? -EINVAL : 0;
}

int acl_parse(struct acl *a, const void *xattr, size_t n)
{
	const uint8_t *p = xattr;

	if (n < 4 || (n - 4) % 8)
		return -EINVAL;
	if (le32(p) != ACL_VERSION)
		return -EOPNOTSUPP;
	if ((n - 4) / 8 > ACL_ENTRIES_MAX)
		return -E2BIG;
	a->n = (int)((n - 4) / 8);
	for (int i = 0; i < a->n; i++) {
		const uint8_t *q = p + ACL_XATTR_SIZE(i);

		a->e[i] = (struct acl_entry){ le16(q), le16(q + 2), le32(q + 4) };
	}
	return check(a);
}

void acl_format(const struct acl *a, void *xattr)
{
	uint8_t *p = xattr;

	le_put(p, ACL_VERSION, 4);
	for (int i = 0; i < a->n; i++) {
		const struct acl_entry *e = &a->e[i];
		int by_id = e->tag == ACL_TAG_USER || e->tag == ACL_TAG_GROUP;

		le_put(p + ACL_XATTR_SIZE(i), e->tag, 2);
		le_put(p + ACL_XATTR_SIZE(i) + 2, e->perm, 2);
		le_put(p + ACL_XATTR_SIZE(i) + 4, by_id ? e->id : UINT32_MAX, 4);
	}
}

static struct acl_entry *find(struct acl *a, uint16_t tag)
{
	for (int i = 0; i < a->n; i++)
		if (a->e[i].tag == tag)
			return &a->e[i];
	return NULL;
}

int acl_mode(const struct acl *a, mode_t *bits)
{
	int plain = 1, masked = 0;

	*bits = 0;
	for (int i = 0; i < a->n; i++) {
		const struct acl_entry *e = &a->e[i];

		switch (e->tag) {
		case ACL_TAG_USER_OBJ:
			*bits |= (mode_t)e->perm << 6;
			break;
		case ACL_TAG_GROUP_OBJ:
			if (!masked)
				*bits |= (mode_t)e->perm << 3;
			break;
		case ACL_TAG_OTHER:
			*bits |= e->perm;
			break;
		case ACL_TAG_MASK:
			*bits = (*bits & ~(mode_t)070) | (mode_t)e->perm << 3;
			masked = 1;
			plain = 0;
			break;
		default:
			plain = 0;
		}
	}
	return plain;
}

void acl_chmod(struct acl *a, mode_t bits)
{
	struct acl_entry *mask = find(a, ACL_TAG_MASK);

	if (!mask)
		mask = find(a, ACL_TAG_GROUP_OBJ);
	mask->perm = (uint16_t)(bits >> 3 & 7);
	find(a, ACL_TAG_USER_OBJ)->perm = (uint16_t)(bits >> 6 & 7);
	find(a, ACL_TAG_OTHER)->perm = (uint16_t)(bits & 7);
}

int acl_inherit(struct acl *a, mode_t *mode)
{
	struct acl_entry *user = find(a, ACL_TAG_USER_OBJ), *other = find(a, ACL_TAG_OTHER);
	struct acl_entry *group = find(a, ACL_TAG_MASK);

	if (!group)
		group = find(a, ACL_TAG_GROUP_OBJ);
	user->perm &= (uint16_t)(*mode >> 6 & 7);
	group->perm &= (uint16_t)(*mode >> 3 & 7);
	other->perm &= (uint16_t)(*mode & 7);
	*mode = (*mode & ~(mode_t)0777) |
		((mode_t)user->perm << 6 | (mode_t)group->perm << 3 | other->perm);
	return a->n == 3;
}
