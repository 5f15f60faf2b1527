/* Internal: what file:// does to the disk. Everything here blocks, for ever if the disk does;
 * file.c sees to that.
 *
 * Below the root: objects under their keys, and .skyflok/ with the marker "drive" and the folder
 * "tmp". No symbolic link below the root is followed. Every call opens the root anew and works
 * relative to it, so that it sees one file system from begin to end, whatever is mounted or
 * unmounted meanwhile. Results are those of backend.h.
 */
#ifndef BACKENDS_FILE_DISK_H
#define BACKENDS_FILE_DISK_H

#include <pthread.h>

#include "backends/backend.h"

#define DISK_HIDDEN    ".skyflok"
#define DISK_DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define DISK_STEP      (1024 * 1024) /* bytes that are moved at a time */

struct disk {
	char *root;
	char marker[128]; /* what .skyflok/drive has to hold; "": it is not looked at */
	pthread_mutex_t lock;
	char **folders; /* by lock: sorted; known to exist, their names synced */
	size_t nfolders, cap;
	int swept; /* by lock: old temporary files were looked for */
};

/* Who asked may go away while the disk hangs: bytes pass through these, which fail with -ECANCELED
 * then. */
struct disk_io {
	int (*take)(struct disk_io *io, uint64_t offset, void *p, size_t n); /* bytes of the body */
	int (*give)(struct disk_io *io, uint64_t offset, const void *p,
		    size_t n);            /* bytes of the object */
	int (*alive)(struct disk_io *io); /* 0 or -ECANCELED */
	void *step;                       /* DISK_STEP bytes of the thread's own */
};

int disk_init(struct disk *d, const char *root, const uint8_t *drive,
	      const uint8_t *uuid); /* 0, -ENOMEM */
void disk_release(struct disk *d);

int disk_put(struct disk *d, struct disk_io *io, const char *key, uint64_t size, int if_absent);
int disk_get(struct disk *d, struct disk_io *io, const char *key, uint64_t offset, uint64_t want,
	     uint64_t *got);
int disk_head(struct disk *d, const char *key, uint64_t *size);
int disk_delete(struct disk *d, const char *key);
int disk_space(struct disk *d, uint64_t *total, uint64_t *avail);
/* file_claim.c */
int disk_claim(struct disk *d, const uint8_t drive[16], const uint8_t uuid[16], struct err *e);
int disk_unclaim(struct disk *d, const uint8_t drive[16], struct err *e);
/* One page, as struct backend_req has it. file_list.c */
int disk_list(struct disk *d, struct disk_io *io, const char *prefix, const char *token,
	      struct backend_entry **entries, size_t *n, char **next_token);

/* For the other files. A descriptor of the root, which is the drive's; or -ENODEV, -EACCES... */
int disk_open_root(struct disk *d);
int disk_error(int error); /* from a positive errno */
/* Opens the folder `path` (relative, "" for the root itself), step by step so that no link is
 * followed. -ENOENT; -ENOTDIR when something else stands in the way. New folders, and those not
 * known yet, are synced into their parents. */
int disk_open_folder(struct disk *d, int root, const char *path, int create);
/* Writes an object into the open folder dir. */
int disk_put_into(struct disk *d, struct disk_io *io, int root, int dir, const char *base,
		  uint64_t size, int if_absent);
/* The marker: two lines that a person who finds the folder understands. */
void disk_marker_text(char *out, size_t n, const uint8_t drive[16], const uint8_t uuid[16]);
int disk_marker_read(int root, char *out, size_t size); /* -ENOENT: there is none */

#endif
