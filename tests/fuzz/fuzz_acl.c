/* ACLs, as any program may set them.
 * fuzz-sources: fs/data/acl.c fs/base/buf.c fuzz-libs: */
#include <stdlib.h>
#include <string.h>
#include "fs/data/acl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t out[ACL_XATTR_SIZE(ACL_ENTRIES_MAX)];
	struct acl a, b;
	mode_t bits, mode = 0666;

	if (acl_parse(&a, data, size))
		return 0;
	acl_format(&a, out);
	/* Ids of entries that have none are whatever the caller wrote; the rest comes back. */
	if (ACL_XATTR_SIZE((size_t)a.n) != size || acl_parse(&b, out, size) || b.n != a.n)
		abort();
	acl_mode(&a, &bits);
	if (bits & ~0777u)
		abort();
	acl_chmod(&a, 0750);
	acl_mode(&a, &bits);
	if (bits != 0750)
		abort();
	acl_inherit(&a, &mode);
	acl_format(&a, out);
	/* What comes of it is still an ACL. */
	if (acl_parse(&b, out, ACL_XATTR_SIZE((size_t)a.n)))
		abort();
	return 0;
}
