/* What create finds out about the places of a drive, before and after they are its own. */
#ifndef FS_DRIVE_PLACES_H
#define FS_DRIVE_PLACES_H

#include "fs/drive/create.h"

/* Measures how long a small request takes on each cloud, and puts c's backends, with their open
 * backends, into the order that placement_order finds best. Blocks, some seconds at most; a place
 * that does not answer comes last, claiming it will say why. Fills r->latency and r->moved. */
void places_arrange(struct config *c, struct backend **backends, struct create_report *r);

/* Do the clouds, which are ours by now, honour "only if absent"? Fills r->unconditional. Where
 * conditional=no stands in the URL that is known. Blocks. */
void places_try_conditions(const struct config *c, struct backend **backends,
			   struct create_report *r);

#endif
