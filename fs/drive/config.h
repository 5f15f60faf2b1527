/* The local configuration of a drive: CONFIG/NAME.conf, an ini file that a person reads and edits.
 *
 *   [drive]
 *   uuid = 00112233445566778899aabbccddeeff
 *   data = 4
 *   parity = 2
 *   extent = 128K
 *   compress = none
 *   quota = 0
 *   [mount]                   ; optional: defaults for mount's -o options
 *   cache-size = 20G
 *   [backend "0"]
 *   url = file:///srv/a?provider=acme&location=DE-FRA
 *   uuid = ...
 *
 * The sealed manifest in the header is what counts; this file says where the backends are now (a
 * folder may have moved) and is checked against the manifest after unlocking. Every key has to be
 * known, and every value in range: anything else is an error that names file and line.
 */
#ifndef FS_DRIVE_CONFIG_H
#define FS_DRIVE_CONFIG_H

#include <stdint.h>
#include "backends/registry.h"
#include "fs/base/err.h"
#include "fs/base/options.h"
#include "fs/drive/header.h"

struct config_backend {
	char *url;
	uint8_t uuid[ID_LEN];
	struct backend_url parsed; /* of url; labels included */
};

struct config {
	uint8_t drive[ID_LEN];
	int k, m, n; /* n = k + m = number of backends */
	uint32_t extent_max;
	int compress; /* 0 none, 1 zstd */
	uint64_t quota;
	char *mount_options; /* "cache-size=20G,ro": the [mount] section as an -o list; NULL when
				none */
	struct config_backend backends[DRIVE_MAX_BACKENDS];
};

/* The ranges of the drive parameters, shared with `create`'s options. */
#define CONFIG_EXTENT_MIN (64ll << 10)
#define CONFIG_EXTENT_MAX (1ll << 20)
extern const char *const config_compress_words[]; /* "none", "zstd", NULL */
int config_check_extent(uint64_t bytes, const char *where, struct err *e); /* a power of two */

/* Reads and checks. -ENOENT: there is no such drive (said with the names that there are); -EINVAL
 * damaged, with file and line; -EACCES; -ENOMEM. */
int config_read(const char *path, const char *name, struct config *out, struct err *e);
/* The same from text; where is what errors call it. */
int config_parse(const char *text, const char *where, struct config *out, struct err *e);
void config_release(struct config *c);

/* Writes the file that config_read reads, with comments; replaced atomically, 0600. */
int config_write(const char *path, const char *name, const struct config *c, struct err *e);

/* Does the file fit the sealed manifest? -EINVAL names the key that differs. */
int config_check_manifest(const struct config *c, const char *path, const struct manifest *mf,
			  struct err *e);

#endif
