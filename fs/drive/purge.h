/* Removing all that a drive has somewhere. */
#ifndef FS_DRIVE_PURGE_H
#define FS_DRIVE_PURGE_H

#include <stdint.h>
#include "backends/backend.h"

/* Deletes every object of the drive (segments, log, claims, and last the headers, so that an
 * interrupted run can be repeated), up to 16 at a time. *count: how many; progress may be NULL.
 * 0 or the first negative errno. Blocks. */
int purge_backend(struct backend *b, void (*progress)(void *arg, uint64_t objects), void *arg,
		  uint64_t *count);

/* rm -r of a local folder; what cannot be removed is logged. 0 also when it is not there. */
int purge_folder(const char *path);

#endif
