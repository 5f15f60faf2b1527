/* The local copy of a header, made from any k header objects of one generation. */
#ifndef FS_DRIVE_LOCAL_COPY_H
#define FS_DRIVE_LOCAL_COPY_H

#include "fs/drive/header.h"

/* Appends the local copy of `generation` to out, from those blobs that belong to it and keep their
 * commitments. The result is a secret. 0, -ENOKEY (fewer than k good ones), -ENOMEM, -EIO. The
 * caller has verified the generation (header_unlock, header_open_with) before. */
int local_copy_make(struct header_blob *const *blobs, int count, uint64_t generation,
		    struct buf *out);

#endif
