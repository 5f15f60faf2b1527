/* What `skyflok status` and `skyflok where` tell, as JSON; the commands print tables from it. */
#ifndef FS_DRIVE_STATUS_H
#define FS_DRIVE_STATUS_H

#include <jansson.h>
#include "fs/base/err.h"
#include "fs/drive/drive.h"

/* Of a mounted drive; quick, never touches the network. The caller adds what it knows: state, pid,
 * mountpoint. NULL when out of memory. Members:
 *   name uuid data parity extent quota fsync header_generation header_pending
 *   backends [ index url provider location state since error shards bytes latency_get latency_put
 *              corrupt ]        (latencies in ms, null unknown; state "unknown" when not mounted)
 *   segments { open closed uploading stored dispersed dropped below_n }
 *   bytes { dirty staged cached cache_size to_upload to_heal content }
 *   files losses_survivable failed
 */
json_t *status_live(struct drive *d);

/* The same from the local state of a drive that is not mounted. 0 or errno with *e. */
int status_offline(const struct paths *p, const struct config *c, json_t **out, struct err *e);

/* Where the content of a node is: { ino dirty data parity segments [ { id set level backends
 * [index...] cached } ] }. dirty: bytes that are not sealed yet. -ENOENT, -ENOMEM. */
int status_where(struct drive *d, uint64_t ino, json_t **out, struct err *e);

/* What is left to do, for progress lines: { to_upload to_heal dirty staged below_n segments_left }.
 */
json_t *status_left(struct drive *d);

#endif
