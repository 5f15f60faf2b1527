#include "fs/drive/unlock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/secmem.h"
#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/drive/generation.h"
#include "fs/drive/guard.h"
#include "fs/drive/local_copy.h"

#define LOCAL_MAX (2u << 20)
/* Four generations of 32 backends and the local copy are more than header_unlock's 32 marks: it is
 * called per generation. */

static int open_all(const struct paths *p, const struct config *c, int64_t timeout, const int *stop,
		    int (*open_one)(const struct backend_url *u, const struct backend_env *env,
				    struct backend **out, struct err *e),
		    struct backend **backends, struct err *e)
{
	for (int i = 0; i < c->n; i++)
		backends[i] = NULL;
	for (int i = 0; i < c->n; i++) {
		struct backend_env env = { .drive = c->drive,
					   .uuid = c->backends[i].uuid,
					   .credentials_file = p->cred,
					   .timeout = timeout,
					   .stop = stop };
		int rc = open_one(&c->backends[i].parsed, &env, &backends[i], e);

		if (rc) {
			backends_close(backends, c->n);
			return rc;
		}
	}
	return 0;
}

int backends_open(const struct paths *p, const struct config *c, int64_t timeout,
		  struct backend **backends, struct err *e)
{
	return open_all(p, c, timeout, NULL, backend_open, backends, e);
}

int backends_open_guarded(const struct paths *p, const struct config *c, int64_t timeout,
			  const int *stop, struct backend **backends, struct err *e)
{
	return open_all(p, c, timeout, stop, guard_open, backends, e);
}

void backends_close(struct backend **backends, int n)
{
	for (int i = 0; i < n; i++) {
		backend_destroy(backends[i]);
		backends[i] = NULL;
	}
}

const char *backend_reason(int rc)
{
	switch (rc) {
	case -ENODEV:
		return "absent, or not this drive's";
	case -EACCES:
		return "access denied";
	case -ETIMEDOUT:
		return "does not answer";
	case -ENOSPC:
		return "full";
	case -ESTALE:
		return "it holds what another machine wrote";
	case -EBADMSG:
		return "damaged";
	default:
		return strerror(-rc);
	}
}

/* ---- the local copy ---- */

/* 0, -ENOENT, -EBADMSG and -ENOTSUP with *e, -ENOMEM. */
static int read_local(const char *path, const struct config *c, struct header_blob **out,
		      struct err *e)
{
	uint8_t *p = NULL;
	size_t n = 0;
	int rc = file_read_all(path, LOCAL_MAX, &p, &n);

	*out = NULL;
	if (!rc)
		rc = header_parse(p, n, out);
	if (rc == -ENOTSUP)
		header_why(p, n, e);
	else if (rc && rc != -ENOENT)
		err_set(e, rc, "%s: %s", path, rc == -EBADMSG ? "damaged" : strerror(-rc));
	if (p)
		secmem_wipe(p, n);
	free(p);
	if (!rc && memcmp(header_drive(*out), c->drive, ID_LEN)) {
		header_free(*out);
		*out = NULL;
		return err_set(e, -EBADMSG, "%s: belongs to another drive", path);
	}
	return rc;
}

static int write_local(const struct paths *p, struct header_blob *const *blobs, int count,
		       uint64_t generation, struct err *e)
{
	struct buf b = { 0 };
	int rc = local_copy_make(blobs, count, generation, &b);

	if (!rc)
		rc = file_replace(p->header, b.p, b.len, 0600);
	if (b.p)
		secmem_wipe(b.p, b.cap);
	buf_release(&b);
	return rc ? err_set(e, rc, "%s: cannot write: %s", p->header, strerror(-rc)) : 0;
}

/* A recovery key is tried as such, and as a passphrase too should somebody have chosen one that
 * reads like it. */
static int try_secret(struct header_blob *const *blobs, int count, const struct secret *s,
		      struct header_unlocked *out, struct err *e)
{
	uint8_t key[32];
	int rc = -EACCES;

	if (secret_recovery(s, key)) {
		rc = header_unlock(blobs, count, KEYSLOT_RECOVERY, key, sizeof(key), out, e);
		secmem_wipe(key, sizeof(key));
	}
	if (rc == -EACCES)
		rc = header_unlock(blobs, count, s->kind, s->p, s->len, out, e);
	return rc;
}

/* ---- the backends ---- */

struct pool {
	struct backend *backends[DRIVE_MAX_BACKENDS];
	struct generation_found found[DRIVE_MAX_BACKENDS];
	int n;
};

static int pool_open(const struct paths *p, const struct config *c, int64_t timeout,
		     struct pool **out, struct err *e)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int rc = pool ? 0 : err_set(e, -ENOMEM, "out of memory");

	*out = NULL;
	if (rc)
		return rc;
	pool->n = c->n;
	rc = backends_open_guarded(p, c, timeout, NULL, pool->backends, e);
	if (rc) {
		free(pool);
		return rc;
	}
	generation_fetch(pool->backends, pool->n, timeout, pool->found);
	*out = pool;
	return 0;
}

static void pool_close(struct pool *pool)
{
	if (!pool)
		return;
	generation_found_release(pool->found, pool->n);
	backends_close(pool->backends, pool->n);
	free(pool);
}

/* The blobs of one generation; who[j] is the backend of blobs[j]. */
static int gather(const struct generation_found *found, int n, uint64_t generation,
		  struct header_blob **blobs, int *who)
{
	int count = 0;

	for (int i = 0; i < n; i++)
		for (int j = 0; j < found[i].count; j++)
			if (found[i].numbers[j] == generation) {
				blobs[count] = found[i].blobs[j];
				who[count++] = i;
				break;
			}
	return count;
}

/* The next lower number than `below` that any backend has; 0 when there is none. */
static uint64_t next_lower(const struct generation_found *found, int n, uint64_t below)
{
	uint64_t best = 0;

	for (int i = 0; i < n; i++)
		for (int j = 0; j < found[i].count; j++)
			if (found[i].numbers[j] < below && found[i].numbers[j] > best)
				best = found[i].numbers[j];
	return best;
}

/* "Too few headers: 3 of the 4 that are needed. backend 2 (acme): absent ..." */
static int too_few(const struct config *c, const struct pool *pool, const struct err *why,
		   struct err *e)
{
	struct buf b = { 0 };
	int got = 0, rc;

	for (int i = 0; i < pool->n; i++)
		got += pool->found[i].count > 0;
	buf_printf(&b, "the drive's header came from %d of its %d backends, %d are needed", got,
		   pool->n, c->k);
	if (got >= c->k && why->text[0])
		buf_printf(&b, " (%s)", why->text);
	for (int i = 0, told = 0; i < pool->n && told < 8; i++) {
		const struct generation_found *f = &pool->found[i];

		if (f->count)
			continue;
		buf_printf(&b, "%s backend %d (%s): %s", told++ ? "," : ".", i,
			   c->backends[i].parsed.provider,
			   f->result ? backend_reason(f->result) : "it holds none");
	}
	rc = err_set(e, -ENOKEY, "%s", b.failed ? "too few headers" : buf_cstr(&b));
	buf_release(&b);
	return rc;
}

/* Newest generation first. Liars are logged by name. */
static int unlock_remote(const struct paths *p, const struct config *c, const struct pool *pool,
			 const struct secret *secret, uint64_t local_generation,
			 struct header_unlocked *out, struct err *e)
{
	struct header_blob *blobs[DRIVE_MAX_BACKENDS];
	int who[DRIVE_MAX_BACKENDS], worst = -ENOKEY;
	struct err why = { 0 }, denied = { 0 };

	for (uint64_t g = UINT64_MAX; (g = next_lower(pool->found, pool->n, g));) {
		int count = gather(pool->found, pool->n, g, blobs, who);
		int rc = try_secret(blobs, count, secret, out, &why);

		for (int j = 0; j < count; j++)
			if (out->liars >> j & 1)
				log_warn("backend %d (%s): its header object %" PRIu64
					 " is wrong; it is not used",
					 who[j], c->backends[who[j]].parsed.provider, g);
		if (!rc) {
			if (g >= local_generation)
				rc = write_local(p, blobs, count, g, e);
			if (rc)
				log_warn("%s", err_text(e, rc));
			return 0;
		}
		if (rc == -EACCES)
			denied = why;
		if (worst != -EACCES)
			worst = rc;
	}
	if (worst == -EACCES)
		return err_set(e, -EACCES, "%s", err_text(&denied, -EACCES));
	if (worst == -ENOKEY)
		return too_few(c, pool, &why, e);
	return err_set(e, worst, "%s", err_text(&why, worst));
}

/* ---- both ---- */

int unlock_drive(const struct paths *p, const struct config *c, const struct secret *secret,
		 int64_t timeout, struct header_unlocked *out, struct err *e)
{
	struct err local_why = { 0 };
	struct header_blob *local = NULL;
	struct pool *pool = NULL;
	uint64_t local_generation = 0;
	int local_rc, rc;

	*out = (struct header_unlocked){ 0 };
	local_rc = read_local(p->header, c, &local, &local_why);
	if (local_rc == -ENOTSUP)
		return err_set(e, -ENOTSUP, "%s", local_why.text);
	if (!local_rc) {
		local_generation = header_generation(local);
		local_rc = try_secret(&local, 1, secret, out, &local_why);
		header_free(local);
	}
	if (!local_rc) {
		rc = config_check_manifest(c, p->config, &out->manifest, e);
		if (rc)
			header_unlocked_release(out);
		return rc;
	}
	if (local_rc != -ENOENT && local_rc != -EACCES)
		log_warn("%s; asking the backends", err_text(&local_why, local_rc));
	rc = pool_open(p, c, timeout, &pool, e);
	if (!rc)
		rc = unlock_remote(p, c, pool, secret, local_generation, out, e);
	pool_close(pool);
	/* The local vault opened and no slot did: that backends are away is not the reason. */
	if (rc && rc != -EACCES && local_rc == -EACCES)
		rc = err_set(e, -EACCES, "%s", err_text(&local_why, -EACCES));
	if (!rc)
		rc = config_check_manifest(c, p->config, &out->manifest, e);
	if (rc)
		header_unlocked_release(out);
	return rc;
}

int unlock_slots(const struct paths *p, const struct config *c, int64_t timeout,
		 struct keyslot slots[KEYSLOT_MAX], int *nslots, struct err *e)
{
	struct header_blob *blobs[DRIVE_MAX_BACKENDS];
	int who[DRIVE_MAX_BACKENDS], rc;
	struct pool *pool = NULL;

	rc = read_local(p->header, c, &blobs[0], e);
	if (!rc) {
		rc = header_slots(blobs, 1, slots, nslots);
		header_free(blobs[0]);
		if (!rc)
			return 0;
	}
	rc = pool_open(p, c, timeout, &pool, e);
	if (rc)
		return rc;
	rc = -ENOKEY;
	for (uint64_t g = UINT64_MAX; rc && (g = next_lower(pool->found, pool->n, g));)
		rc =
		    header_slots(blobs, gather(pool->found, pool->n, g, blobs, who), slots, nslots);
	if (rc)
		rc = too_few(c, pool, &(struct err){ 0 }, e);
	pool_close(pool);
	return rc;
}

/* A header that is gone or damaged costs nothing today and the drive when m more follow. */
static void name_lost(const struct paths *p, struct backend *const *backends, int n,
		      const struct generation_found *found)
{
	for (int i = 0; i < n; i++) {
		int gone = !found[i].result && !found[i].count;

		if (gone || found[i].result == -EBADMSG)
			log_warn(
			    "backend %s: its header object is %s, so it does not help to unlock "
			    "the drive: \"skyflok key change %s\" writes new ones",
			    backends[i]->name, gone ? "missing" : "damaged", p->name);
	}
}

int unlock_refresh(const struct paths *p, struct backend *const *backends, int n, int64_t timeout,
		   struct keyring *keys, struct err *e)
{
	struct generation_found found[DRIVE_MAX_BACKENDS];
	struct header_blob *blobs[DRIVE_MAX_BACKENDS], *local = NULL;
	int who[DRIVE_MAX_BACKENDS], rc = 0;
	uint64_t have = 0;
	uint8_t *bytes = NULL;
	size_t len = 0;

	if (!file_read_all(p->header, LOCAL_MAX, &bytes, &len) &&
	    !header_parse(bytes, len, &local)) {
		struct manifest mf = { 0 };

		if (!header_open_with(&local, 1, keys, &mf))
			have = header_generation(local);
		manifest_release(&mf);
		header_free(local);
	}
	if (bytes)
		secmem_wipe(bytes, len);
	free(bytes);
	generation_fetch(backends, n, timeout, found);
	name_lost(p, backends, n, found);
	for (uint64_t g = UINT64_MAX; !rc && (g = next_lower(found, n, g)) > have;) {
		int count = gather(found, n, g, blobs, who);
		struct manifest mf = { 0 };

		if (!header_open_with(blobs, count, keys, &mf) && mf.generation == g) {
			rc = write_local(p, blobs, count, g, e);
			rc = rc == -ENOKEY ? 0 : rc ? rc : 1;
		}
		manifest_release(&mf);
	}
	generation_found_release(found, n);
	return rc;
}
