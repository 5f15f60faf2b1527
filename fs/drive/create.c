#include "fs/drive/create.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backends/placement.h"
#include "crypto/secmem.h"
#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/drive/cred.h"
#include "fs/drive/each.h"
#include "fs/drive/generation.h"
#include "fs/drive/places.h"
#include "fs/drive/purge.h"
#include "fs/drive/unlock.h"
#include "fs/meta/meta.h"

#define BACKEND_TIMEOUT_NS (30 * NS_PER_S)
#define UNDO_TIMEOUT       (10 * NS_PER_S)
#define SHARD_TARGET       (4ull << 20)

/* ---- undoing ---- */

struct undo {
	const struct config *c;
	struct backend *backends[DRIVE_MAX_BACKENDS];
	uint32_t todo; /* bit i: backend i may carry our marker */
	uint32_t left; /* atomic; bit i: it could not be told, or not be removed */
};

static void undo_one(void *arg, int i)
{
	struct undo *u = arg;
	struct err e = { 0 };
	uint64_t count = 0;
	int rc;

	if (!(u->todo >> i & 1))
		return;
	/* Nothing of another drive may be touched. Folders verify the marker with every request.
	 * Without a marker there is nothing of ours: it comes first and goes last. */
	rc = backend_verify(u->backends[i], u->c->drive, u->c->backends[i].uuid, UNDO_TIMEOUT, &e);
	if (rc == -ENOENT || rc == -EEXIST)
		return;
	if (!rc)
		rc = purge_backend(u->backends[i], NULL, NULL, &count);
	if (!rc || rc == -ENODEV)
		rc = backend_unclaim(u->backends[i], u->c->drive, &e);
	if (!rc || rc == -ENODEV || rc == -EEXIST)
		return;
	log_warn("%s: what was begun there could not be removed: %s", u->c->backends[i].url,
		 err_text(&e, rc));
	__atomic_or_fetch(&u->left, 1u << i, __ATOMIC_RELAXED);
}

static void undo_local(const struct paths *p)
{
	purge_folder(p->state);
	purge_folder(p->cache);
}

/* STATE/NAME/creating.cred says that NAME.cred is this create's doing, and goes with it. */
static char *cred_journal(const struct paths *p)
{
	return str_printf("%s.cred", p->creating);
}

static int take_credentials(const struct paths *p, const char *from, struct err *e)
{
	AUTO_FREE char *journal = cred_journal(p);
	int rc;

	if (!journal)
		return err_set(e, -ENOMEM, "out of memory");
	rc = cred_check(from, p->cred, e);
	if (rc || !access(p->cred, F_OK))
		return rc; /* the same stands there already, and not by us */
	rc = file_replace(journal, "", 0, 0600);
	if (rc)
		return err_set(e, rc, "%s: cannot write: %s", journal, strerror(-rc));
	rc = cred_take(from, p->cred, e);
	return MIN(rc, 0);
}

static void undo_credentials(const struct paths *p)
{
	AUTO_FREE char *journal = cred_journal(p);

	if (journal && !access(journal, F_OK))
		unlink(p->cred);
}

/* Takes back all that create_drive made. -EAGAIN: a backend does not answer; the journal stays, so
 * that a later create or destroy of that name goes on here. */
static int undo_create(const struct paths *p, const struct config *c, uint32_t claimed)
{
	struct undo u = { .c = c, .todo = claimed };
	struct err e = { 0 };
	int rc = 0;

	if (claimed)
		rc = backends_open_guarded(p, c, UNDO_TIMEOUT, NULL, u.backends, &e);
	if (rc) {
		log_warn("%s", e.text);
		return -EAGAIN;
	}
	if (claimed) {
		each_backend(c->n, undo_one, &u);
		backends_close(u.backends, c->n);
	}
	if (u.left)
		return -EAGAIN;
	undo_credentials(p);
	undo_local(p);
	return 0;
}

int create_undo_crashed(const struct paths *p, struct err *e)
{
	struct config c;
	int rc;

	if (access(p->creating, F_OK))
		return -ENOENT;
	rc = config_read(p->creating, p->name, &c, e);
	if (rc == -EINVAL || rc == -ENOENT) {
		/* Damaged: it was never complete, so no backend was touched. */
		undo_local(p);
		return 0;
	}
	if (rc)
		return rc;
	log_info("removing what an interrupted create or destroy of \"%s\" left", p->name);
	rc = undo_create(p, &c, UINT32_MAX);
	config_release(&c);
	if (!rc)
		return 0;
	return err_set(
	    e, rc,
	    "an interrupted create or destroy of \"%s\" left something on backends that "
	    "do not answer now: repeat the command when they do, or delete %s to leave it "
	    "there",
	    p->name, p->creating);
}

/* ---- checking ---- */

static int fill_config(const struct create_opts *o, struct config *c, struct err *e)
{
	int rc = 0;

	*c = (struct config){ .k = o->k, .m = o->m, .n = o->n };
	c->extent_max = (uint32_t)o->extent_max;
	c->compress = o->compress;
	c->quota = o->quota;
	random_bytes(c->drive, ID_LEN);
	for (int i = 0; i < o->n && !rc; i++) {
		random_bytes(c->backends[i].uuid, ID_LEN);
		if (strpbrk(o->urls[i], "\r\n"))
			return err_set(e, -EINVAL, "a URL cannot hold a line break");
		c->backends[i].url = strdup(o->urls[i]);
		if (!c->backends[i].url)
			return err_set(e, -ENOMEM, "out of memory");
		rc = backend_url_parse(o->urls[i], &c->backends[i].parsed, e);
	}
	return rc;
}

static int check_layout(const struct create_opts *o, const struct config *c, struct err *e)
{
	struct backend_url urls[DRIVE_MAX_BACKENDS];

	for (int i = 0; i < c->n; i++)
		urls[i] = c->backends[i].parsed; /* borrowed */
	return placement_check(urls, o->k, o->m, o->insist, e);
}

int create_check(const struct paths *p, const struct create_opts *o, struct config *c,
		 struct err *e)
{
	int rc;

	memset(c, 0, sizeof(*c));
	if (o->k < 1 || o->m < 0 || o->k + o->m < 2 || o->k + o->m > DRIVE_MAX_BACKENDS)
		return err_set(e, -EINVAL,
			       "--data %d --parity %d: data must be at least 1, and data + parity "
			       "2 to %d",
			       o->k, o->m, DRIVE_MAX_BACKENDS);
	if (o->n != o->k + o->m)
		return err_set(e, -EINVAL,
			       "data %d + parity %d need %d backends, but %d URL%s given", o->k,
			       o->m, o->k + o->m, o->n, o->n == 1 ? " was" : "s were");
	rc = config_check_extent(o->extent_max, "--extent", e);
	if (!rc)
		rc = fill_config(o, c, e);
	if (!rc)
		rc = check_layout(o, c, e);
	if (!rc && !access(p->config, F_OK))
		rc = err_set(e, -EEXIST,
			     "there is a drive \"%s\" already (%s); choose another name, or remove "
			     "it with \"skyflok destroy %s\"",
			     p->name, p->config, p->name);
	if (!rc)
		rc = create_undo_crashed(p, e);
	if (rc == -ENOENT)
		rc = 0;
	if (!rc && o->credentials)
		rc = cred_check(o->credentials, p->cred, e);
	if (!rc && !access(p->database, F_OK))
		rc = err_set(e, -EEXIST,
			     "%s holds the state of a drive whose configuration %s is gone: put "
			     "that back, or move the folder away",
			     p->state, p->config);
	if (rc)
		config_release(c);
	return rc;
}

/* ---- making ---- */

struct claim {
	const struct config *c;
	struct backend *backends[DRIVE_MAX_BACKENDS];
	int result[DRIVE_MAX_BACKENDS];
	struct err why[DRIVE_MAX_BACKENDS];
	uint32_t claimed;
};

static void claim_one(void *arg, int i)
{
	struct claim *a = arg;
	char point[32];
	int rc;

	snprintf(point, sizeof(point), "create.claim.%d", i);
	rc = failpoint_active ? failpoint(point) : 0;
	if (!rc)
		rc = backend_claim(a->backends[i], a->c->drive, a->c->backends[i].uuid, &a->why[i]);
	a->result[i] = rc;
	if (!rc || rc == -EINPROGRESS)
		__atomic_or_fetch(&a->claimed, 1u << i, __ATOMIC_RELAXED);
}

static int claim_all(struct claim *a, struct err *e)
{
	each_backend(a->c->n, claim_one, a);
	for (int i = 0; i < a->c->n; i++)
		if (a->result[i])
			return err_set(e, a->result[i], "%s: %s", a->c->backends[i].url,
				       err_text(&a->why[i], a->result[i]));
	return 0;
}

static int fill_manifest(const struct paths *p, const struct config *c, struct manifest *mf,
			 struct err *e)
{
	*mf = (struct manifest){ .generation = 1, .k = c->k, .m = c->m, .nbackends = c->n };
	memcpy(mf->drive, c->drive, ID_LEN);
	mf->extent_max = c->extent_max;
	mf->compress = (uint32_t)c->compress;
	mf->quota = c->quota;
	mf->segment_size = MIN(MAX(SHARD_TARGET * (uint64_t)c->k, 8ull << 20), 64ull << 20);
	mf->created = time(NULL);
	snprintf(mf->label, sizeof(mf->label), "%s", p->name);
	for (int i = 0; i < c->n; i++) {
		struct header_backend *b = &mf->backends[i];

		b->url = strdup(c->backends[i].url);
		b->provider = strdup(c->backends[i].parsed.provider);
		b->location = strdup(c->backends[i].parsed.location);
		memcpy(b->uuid, c->backends[i].uuid, ID_LEN);
		if (!b->url || !b->provider || !b->location)
			return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

/* Keys, slot and header generation 1, in memory. */
static int build_header(const struct paths *p, const struct create_opts *o, const struct config *c,
			const struct secret *secret, struct header_set *hs, struct err *e)
{
	struct keyslot slot = { .number = 1, .kind = secret->kind, .cost = o->cost };
	struct keyring *keys = keyring_create(c->drive);
	struct manifest mf;
	int rc = fill_manifest(p, c, &mf, e);

	*hs = (struct header_set){ 0 };
	if (!rc && !keys)
		rc = err_set(e, -ENOMEM, "out of memory");
	if (!rc) {
		rc = keyslot_seal(&slot, c->drive, keyring_root(keys), secret->p, secret->len);
		if (!rc)
			rc = header_build(&mf, keys, &slot, 1, 1, hs);
		if (rc)
			err_set(e, rc, "cannot make the drive's header: %s", strerror(-rc));
	}
	manifest_release(&mf);
	keyring_destroy(keys);
	return rc;
}

static int put_header(const struct paths *p, struct claim *a, const struct header_set *hs,
		      struct err *e)
{
	struct generation_report r;
	int rc = generation_commit(p, a->backends, a->c->n, hs, &r, e);

	for (int i = 0; !rc && i < a->c->n; i++)
		if (r.result[i])
			rc = err_set(e, r.result[i], "%s: cannot store the drive's header: %s",
				     a->c->backends[i].url, backend_reason(r.result[i]));
	if (!rc && r.pending)
		rc = err_set(e, -EIO, "the drive's header did not reach all backends");
	return rc;
}

static int make_database(const struct paths *p, const struct config *c, struct err *e)
{
	struct meta_opts mo = { .drive = c->drive,
				.create = 1,
				.root_mode = S_IFDIR | 0755,
				.root_uid = geteuid(),
				.root_gid = getegid() };
	struct meta *m;
	int rc = failpoint("create.database");

	if (rc)
		return err_set(e, rc, "%s: %s", p->database, strerror(-rc));
	rc = meta_open(p->database, &mo, &m, e);
	if (rc)
		return rc;
	rc = meta_close(m);
	return rc ? err_set(e, rc, "%s: %s", p->database, strerror(-rc)) : 0;
}

/* Not a failure when it stays: a create of that name is refused anyway. */
static void forget_journal(const struct paths *p)
{
	AUTO_FREE char *journal = cred_journal(p);

	unlink(p->creating);
	if (journal)
		unlink(journal);
}

/* Before a place is claimed the journal says which, and the credentials are there. */
static int begin(const struct paths *p, const struct create_opts *o, const struct config *c,
		 struct claim *a, struct err *e)
{
	int rc = paths_make(p, e);

	if (!rc)
		rc = config_write(p->creating, p->name, c, e);
	if (!rc && o->credentials)
		rc = take_credentials(p, o->credentials, e);
	if (!rc)
		rc = backends_open(p, c, BACKEND_TIMEOUT_NS, a->backends, e);
	return rc;
}

/* The last step: from here on the drive exists. */
static int finish(const struct paths *p, const struct config *c, struct err *e)
{
	int rc = failpoint("create.config");

	if (rc)
		return err_set(e, rc, "%s: %s", p->config, strerror(-rc));
	return config_write(p->config, p->name, c, e);
}

int create_drive(const struct paths *p, const struct create_opts *o, struct config *c,
		 const struct secret *secret, struct create_report *r, struct err *e)
{
	struct claim *a = calloc(1, sizeof(*a));
	struct header_set hs = { 0 };
	int rc;

	*r = (struct create_report){ 0 };
	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	a->c = c;
	rc = begin(p, o, c, a, e);
	/* The journal names the same places, each with its uuid: their order is nothing to it. */
	if (!rc && !o->keep_order)
		places_arrange(c, a->backends, r);
	if (!rc)
		rc = build_header(p, o, c, secret, &hs, e);
	if (!rc)
		rc = claim_all(a, e);
	if (!rc) {
		places_try_conditions(c, a->backends, r);
		rc = put_header(p, a, &hs, e);
	}
	if (!rc)
		rc = make_database(p, c, e);
	if (!rc)
		rc = finish(p, c, e);
	backends_close(a->backends, c->n);
	header_set_release(&hs);
	if (rc)
		undo_create(p, c, a->claimed);
	else
		forget_journal(p);
	free(a);
	return rc;
}

/* ---- removing ---- */

struct destroy {
	const struct config *c;
	struct backend *backends[DRIVE_MAX_BACKENDS];
	struct destroy_report *r;
	void (*progress)(void *arg, int backend, uint64_t objects);
	void *arg;
};

struct destroy_one_arg {
	struct destroy *d;
	int i;
};

static void on_deleted(void *arg, uint64_t objects)
{
	struct destroy_one_arg *one = arg;

	if (one->d->progress)
		one->d->progress(one->d->arg, one->i, objects);
}

static void empty_one(void *arg, int i)
{
	struct destroy *d = arg;
	struct destroy_one_arg one = { .d = d, .i = i };
	struct err e = { 0 };
	int rc = backend_verify(d->backends[i], d->c->drive, d->c->backends[i].uuid,
				BACKEND_TIMEOUT_NS, &e);

	/* A bucket that is another drive's by now, or carries no marker, is as good as absent. */
	d->r->result[i] = rc == -ENOENT || rc == -EEXIST ? -ENODEV : rc;
	if (!rc)
		d->r->result[i] =
		    purge_backend(d->backends[i], on_deleted, &one, &d->r->objects[i]);
}

static void unclaim_one(void *arg, int i)
{
	struct destroy *d = arg;
	struct err e = { 0 };

	if (!d->r->result[i])
		d->r->result[i] = backend_unclaim(d->backends[i], d->c->drive, &e);
}

static int all_emptied(const struct destroy *d, struct err *e)
{
	struct buf left = { 0 };
	int rc = 0;

	for (int i = 0; i < d->c->n; i++)
		if (d->r->result[i])
			buf_printf(&left, "%s%s (%s)", left.len ? ", " : "", d->c->backends[i].url,
				   backend_reason(d->r->result[i]));
	if (left.len)
		rc = err_set(e, -EAGAIN,
			     "not everything could be deleted: %s. Repeat the command when that is "
			     "back, or give --force to forget what is there",
			     buf_cstr(&left));
	buf_release(&left);
	return rc;
}

/* So that what ends an interrupted destroy takes NAME.cred away as well. */
static void keep_credentials_journal(const struct paths *p)
{
	AUTO_FREE char *journal = cred_journal(p);

	if (journal && !access(p->cred, F_OK) && !file_mkdirs(p->state, 0700))
		file_replace(journal, "", 0, 0600);
}

int destroy_drive(const struct paths *p, const struct config *c, int force,
		  void (*progress)(void *arg, int backend, uint64_t objects), void *arg,
		  struct destroy_report *r, struct err *e)
{
	struct destroy d = { .c = c, .r = r, .progress = progress, .arg = arg };
	int rc = backends_open_guarded(p, c, BACKEND_TIMEOUT_NS, NULL, d.backends, e);

	memset(r, 0, sizeof(*r));
	if (rc)
		return rc;
	/* The markers stay until all are empty: a backend without one would look absent to a
	 * repeated run. */
	each_backend(c->n, empty_one, &d);
	rc = force ? 0 : all_emptied(&d, e);
	if (!rc) {
		/* The configuration becomes the journal: a crash from here on leaves no half a
		 * drive. */
		keep_credentials_journal(p);
		if (file_mkdirs(p->state, 0700) || rename(p->config, p->creating))
			unlink(p->config);
		each_backend(c->n, unclaim_one, &d);
		rc = force ? 0 : all_emptied(&d, e);
	}
	if (!rc) {
		unlink(p->cred);
		undo_local(p);
	}
	backends_close(d.backends, c->n);
	return rc;
}
