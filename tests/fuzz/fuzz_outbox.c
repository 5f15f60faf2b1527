/* Rows that were changed, as they are published and replayed on another machine.
 * fuzz-sources: fs/meta/*.c fs/base/*.c fuzz-libs: -lsqlite3 -lpthread */
#include <stdlib.h>
#include <string.h>
#include "fs/base/buf.h"
#include "fs/meta/outbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_entry(void *arg, const struct outbox_entry *e)
{
	uint64_t *sum = arg;

	/* All of it lies within the blob. */
	for (uint32_t i = 0; i < e->key_len; i++)
		*sum += e->key[i];
	for (uint32_t i = 0; i < e->row_len; i++)
		*sum += e->row[i];
	if (e->op == OUTBOX_DELETE && e->row_len)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf out = { 0 };
	uint64_t sum = 0;
	int rc = outbox_parse(data, size, on_entry, &sum);

	/* A merge takes much memory to begin with, and most inputs are refused before it. */
	if (rc && size % 32)
		return 0;
	struct outbox_merge *om = outbox_merge_create();
	/* What one accepts the other does. */
	if (!rc != !outbox_merge_add(om, data, size))
		abort();
	outbox_merge_add(om, data, size);
	if (outbox_merge_finish(om, &out) ||
	    (out.len && outbox_parse(out.p, out.len, on_entry, &sum)))
		abort();
	outbox_merge_destroy(om);
	buf_release(&out);
	return 0;
}
