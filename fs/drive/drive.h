/* A drive put together: configuration, keys, database, backends with their layers, volume, segment
 * store. One constructor, read top to bottom; the destructor goes back. */
#ifndef FS_DRIVE_DRIVE_H
#define FS_DRIVE_DRIVE_H

#include <stdint.h>
#include "backends/stack.h"
#include "fs/base/err.h"
#include "fs/data/segstore.h"
#include "fs/data/volume.h"
#include "fs/drive/config.h"
#include "fs/drive/paths.h"
#include "fs/drive/secret.h"

struct drive;

struct drive_opts {
	const struct paths *paths;   /* borrowed until drive_close */
	const struct config *config; /* the same */
	int read_only;
	uint64_t cache_size;     /* bytes of staging and cache; 0: drive_default_cache */
	int64_t timeout;         /* ns: deadline of what programs wait for */
	int64_t commit_interval; /* ns */
	int fsync_cloud;
	int64_t fsync_timeout; /* ns, of such an fsync */
	uint64_t memory;       /* bytes that all of it takes, about; 0: DRIVE_MEMORY */
	int quorum;            /* 0: every healthy backend */
	uint64_t bandwidth_up, bandwidth_down; /* bytes per second of all backends together, 0: no
						  limit */
	uint64_t heal_rate;                    /* bytes per second; 0: no limit */
};

#define DRIVE_BANDWIDTH_MIN (16u << 10) /* below that a single request would take minutes */

#define DRIVE_CACHE_MIN  (64ull << 20)
#define DRIVE_MEMORY     (288ull << 20)
#define DRIVE_MEMORY_MIN (64ll << 20)
/* The smaller of 10 GiB and 10 % of the disk that holds the folder, at least DRIVE_CACHE_MIN. */
uint64_t drive_default_cache(const char *folder);

/* Unlocks, opens, recovers, starts. Blocks; needs no network when the local header opens. Errors
 * with a sentence: those of unlock_drive, meta_open (-EBUSY: mounted already), segstore_open. */
int drive_open(const struct drive_opts *o, const struct secret *secret, struct drive **out,
	       struct err *e);

struct volume *drive_volume(struct drive *d);
struct segstore *drive_segstore(struct drive *d);
const struct config *drive_config(const struct drive *d);
const struct paths *drive_paths(const struct drive *d);
uint64_t drive_cache_size(const struct drive *d);
uint64_t drive_kernel_dirty(const struct drive *d); /* what the kernel may hold dirty of it */
uint64_t drive_read_buffers(const struct drive *d); /* the share of memory that is fs/fuse's */
uint64_t drive_generation(const struct drive *d);   /* of the header that opened */
void drive_health(struct drive *d, int backend, struct health_info *out);
/* Why a cloud does not work, in words for the user: which credentials, what to check. "" when there
 * is nothing to say. */
void drive_words(struct drive *d, int backend, char *out, size_t size);
void drive_stats(struct drive *d, int backend, struct backend_stats *out);
/* Bytes per second, 0: no limit. Takes effect at once, but for transfers that are under way.
 * -ERANGE below DRIVE_BANDWIDTH_MIN. */
int drive_set_bandwidth(struct drive *d, uint64_t up, uint64_t down, struct err *e);
void drive_bandwidth(struct drive *d, uint64_t *up, uint64_t *down);

/* Everything written so far becomes durable here, then goes to the backends, until it is at
 * `level`, the deadline (0: none) passes (-ETIMEDOUT), nothing more can move (-EIO), or tick (may
 * be NULL; called about twice a second) returns non-zero (-ECANCELED). Blocks. */
int drive_flush(struct drive *d, enum seg_level level, int64_t deadline, int (*tick)(void *arg),
		void *arg);

/* Commits all, ends uploads (those in flight may finish until the deadline), closes. What is not
 * dispersed is in staging. 0, or the error that kept something from being committed. NULL is fine.
 */
int drive_close(struct drive *d, int64_t deadline);

#endif
