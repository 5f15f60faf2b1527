/* Big buffers that are needed again and again for a moment. malloc gives memory of such sizes back
 * to the kernel at every free, which then has to clear each page again: a sixth of what uploading
 * and fetching cost (measured). A pool keeps them for a while instead.
 *
 * All functions may be called from any thread, and block for nothing but a short lock. */
#ifndef FS_BASE_BUFPOOL_H
#define FS_BASE_BUFPOOL_H

#include <stddef.h>
#include <stdint.h>

struct bufpool;

/* Unused buffers of at most `keep` bytes in all are kept. NULL: out of memory. */
struct bufpool *bufpool_create(size_t keep);
/* All buffers have been put back. NULL is fine. */
void bufpool_destroy(struct bufpool *p);

/* At least n bytes, aligned to 64, with any content. NULL: out of memory. */
void *bufpool_get(struct bufpool *p, size_t n);
/* Taken. NULL is fine. */
void bufpool_put(struct bufpool *p, void *buf);
/* Frees what has not been used since then (clock_mono_ns). */
void bufpool_trim(struct bufpool *p, int64_t since);
/* Bytes of unused buffers that are kept now. */
size_t bufpool_kept(struct bufpool *p);

#endif
