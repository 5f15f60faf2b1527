/* Header objects h/<generation> (FORMATS.md): bytes only, no I/O. Written once per generation; any
 * k of n unlock. */
#ifndef FS_DRIVE_HEADER_H
#define FS_DRIVE_HEADER_H

#include <stddef.h>
#include <stdint.h>
#include "crypto/key.h"
#include "crypto/keyslot.h"
#include "fs/base/buf.h"
#include "fs/base/err.h"

#define DRIVE_MAX_BACKENDS 32
#define HEADER_BLOBS_MAX   64

struct header_backend {
	char *url;      /* as the user gave it, labels included; credentials never */
	char *provider; /* labels, "" when none */
	char *location;
	uint8_t uuid[ID_LEN]; /* of this backend in this drive */
};

/* What the root key protects about a drive: the manifest. Owned strings; release with
 * manifest_release. */
struct manifest {
	uint8_t drive[ID_LEN];
	uint64_t generation;
	int k, m;
	uint32_t extent_max;   /* bytes */
	uint32_t compress;     /* 0 none, 1 zstd */
	uint64_t quota;        /* bytes, 0 none */
	uint64_t segment_size; /* bytes */
	int64_t created;       /* unix seconds */
	char label[64];        /* the drive's name */
	int nbackends;         /* k + m */
	struct header_backend backends[DRIVE_MAX_BACKENDS];
};
void manifest_release(struct manifest *mf);

/* One generation, ready to be stored: n objects, and what the local copy needs. */
struct header_set {
	uint64_t generation;
	int n;
	struct buf object[DRIVE_MAX_BACKENDS]; /* h/<generation> on backend i */
	struct buf local; /* the local copy, 0600: common part, all shares replaced by the drive
			     secret itself, vault, manifest */
};
void header_set_release(struct header_set *hs);

/* Draws a new drive secret and polynomial and builds generation mf->generation (>= 1), so it must
 * be called once per generation number. keep_secret 0: `local` holds no drive secret
 * (--no-local-secret). What it built was read back and recombined before it returns. 0, -ENOMEM,
 * -EIO; -EINVAL: 1 <= k, 0 <= m, 2 <= k + m <= 32 = nbackends, extent_max a power of two from 64
 * KiB to 1 MiB, compress 0 or 1, segment_size not 0, strings of at most 4,096 bytes, 1 to 16 slots
 * with different numbers, keys of the same drive. */
int header_build(const struct manifest *mf, const struct keyring *keys, const struct keyslot *slots,
		 int nslots, int keep_secret, struct header_set *out);

/* Key of a header object: "h/<generation, 16 hex>". */
void header_key(char out[32], uint64_t generation);

/* One header object or local copy as found; parsed and bounded, nothing trusted yet. */
struct header_blob;
int header_parse(const void *p, size_t n,
		 struct header_blob **out); /* 0, -EBADMSG, -ENOTSUP (future version or unknown
					       feature bit), -ENOMEM */
/* Says in *e why header_parse refused these bytes: no header, damaged, or which version or feature
 * bits are unknown. Returns that code. */
int header_why(const void *p, size_t n, struct err *e);
void header_free(struct header_blob *b);
uint64_t header_generation(const struct header_blob *b);
const uint8_t *header_drive(const struct header_blob *b);
int header_shard(const struct header_blob *b);     /* x - 1, or -1 for a local copy */
int header_threshold(const struct header_blob *b); /* k */
int header_count(const struct header_blob *b);     /* n */

struct header_unlocked {
	struct keyring *keys;
	struct manifest manifest;
	struct keyslot slots[KEYSLOT_MAX];
	int nslots;
	int slot;       /* index of the slot that opened */
	uint64_t liars; /* bit i: blobs[i] is wrong: bad commitment, a vault that the shares do not
			   open, a MAC that is not of this root key */
};
void header_unlocked_release(struct header_unlocked *u);

/* Opens the highest generation that any k of the given blobs (or one local copy with its secret)
 * unlock with this secret. kind chooses the slots that are tried. 0; -EACCES with "wrong
 * passphrase" in *e only when a vault opened and no slot did; -ENOKEY when fewer than k fit
 * together (e says how many of how many); -EBADMSG when the MAC under root fails; -ENOMEM; -EINVAL
 * when more than HEADER_BLOBS_MAX blobs are given (each backend's newest two generations and the
 * local copy are what there can be). liars is filled on success and failure. Blocks for one
 * Argon2id run per slot that is tried; slots that several generations share are tried once. */
int header_unlock(struct header_blob *const *blobs, int count, enum keyslot_kind kind,
		  const void *secret, size_t secret_len, struct header_unlocked *out,
		  struct err *e);
/* Opens the newest vault that opens and lists its slots (for `key list` no secret is needed
 * locally). 0; -ENOKEY when no k fit; -EBADMSG; -ENOMEM. */
int header_slots(struct header_blob *const *blobs, int count, struct keyslot slots[KEYSLOT_MAX],
		 int *nslots);
/* Unlocks with an already open keyring (a daemon that runs): the manifest of the highest generation
 * whose MAC is right, from however few headers. 0; -EBADMSG when none is; -ENOMEM. *mf is released
 * by the caller on success, empty on failure. */
int header_open_with(struct header_blob *const *blobs, int count, const struct keyring *keys,
		     struct manifest *mf);

#endif
