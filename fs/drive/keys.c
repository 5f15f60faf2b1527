#include "fs/drive/keys.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define LIST_TIMEOUT (10 * NS_PER_S)

const char *keyslot_kind_word(enum keyslot_kind kind)
{
	switch (kind) {
	case KEYSLOT_PASSPHRASE:
		return "passphrase";
	case KEYSLOT_KEYFILE:
		return "key file";
	case KEYSLOT_RECOVERY:
		return "recovery key";
	}
	return "unknown";
}

static int finish_locked(const struct paths *p, struct backend *const *backends, int n,
			 struct err *e)
{
	struct generation_report r;
	int rc = generation_finish(p, backends, n, &r, e);

	if (rc == -ENOENT)
		return 0;
	if (rc)
		return rc;
	if (r.pending)
		return 0;
	log_info("header generation %" PRIu64 " is now on all %d backends; older ones are gone",
		 r.generation, n);
	return 1;
}

int keys_finish_pending(const struct paths *p, struct backend *const *backends, int n,
			struct err *e)
{
	AUTO_CLOSE int lock = -1;
	int rc;

	if (access(p->header_next, F_OK))
		return 0;
	rc = generation_lock(p, 0, &lock, e);
	if (rc)
		return rc == -EBUSY ? 0 : rc;
	return finish_locked(p, backends, n, e);
}

int keys_begin(struct keys *k, const struct paths *p, const struct config *c,
	       const struct secret *secret, int64_t timeout, struct err *e)
{
	int rc;

	*k = (struct keys){ .p = p, .c = c, .lock = -1 };
	rc = generation_lock(p, 1, &k->lock, e);
	if (!rc)
		rc = backends_open_guarded(p, c, timeout, NULL, k->backends, e);
	if (rc)
		return rc;
	rc = finish_locked(p, k->backends, c->n, e);
	if (rc < 0 && rc != -EBADMSG)
		return rc; /* a damaged header.next is what this change replaces */
	rc = unlock_drive(p, c, secret, timeout, &k->u, e);
	if (rc)
		return rc;
	rc = unlock_refresh(p, k->backends, c->n, LIST_TIMEOUT, k->u.keys, e);
	if (rc <= 0)
		return rc;
	header_unlocked_release(&k->u);
	return unlock_drive(p, c, secret, timeout, &k->u, e);
}

void keys_end(struct keys *k)
{
	if (k->c)
		backends_close(k->backends, k->c->n);
	header_unlocked_release(&k->u);
	if (k->lock >= 0)
		close(k->lock);
	*k = (struct keys){ .lock = -1 };
}

static int seal(struct keyslot *s, struct keys *k, const void *secret, size_t len,
		const struct keyslot_cost *cost, struct err *e)
{
	int rc;

	s->cost = cost ? *cost : (struct keyslot_cost){ 0 };
	s->created = 0;
	rc = keyslot_seal(s, k->u.manifest.drive, keyring_root(k->u.keys), secret, len);
	if (rc == -EINVAL)
		return err_set(e, rc, "the cost of the key derivation is out of range");
	return rc ? err_set(e, rc, "cannot make the key slot: %s", strerror(-rc)) : 0;
}

/* A slot is numbered by the generation that brings it: never reused, also after it is removed. */
static uint64_t next_generation(const struct keys *k)
{
	return MAX(k->u.manifest.generation, generation_pending(k->p)) + 1;
}

int keys_add(struct keys *k, enum keyslot_kind kind, const char *label, const void *secret,
	     size_t secret_len, const struct keyslot_cost *cost, uint32_t *number, struct err *e)
{
	struct keyslot *s = &k->u.slots[k->u.nslots];
	int rc;

	if (k->u.nslots >= KEYSLOT_MAX)
		return err_set(e, -ENOSPC,
			       "the drive has %d keys already, which is the limit: remove one",
			       KEYSLOT_MAX);
	if (strlen(label) > KEYSLOT_LABEL_MAX)
		return err_set(e, -EINVAL, "a label may have %d bytes", KEYSLOT_LABEL_MAX);
	for (int i = 0; i < k->u.nslots; i++)
		if (*label && !strcmp(k->u.slots[i].label, label))
			return err_set(e, -EEXIST, "there is a key with the label \"%s\" already",
				       label);
	*s = (struct keyslot){ .kind = kind };
	s->number = (uint32_t)next_generation(k);
	memcpy(s->label, label, strlen(label) + 1);
	rc = seal(s, k, secret, secret_len, cost, e);
	if (rc)
		return rc;
	*number = s->number;
	k->u.nslots++;
	return 0;
}

int keys_remove(struct keys *k, uint32_t number, struct err *e)
{
	for (int i = 0; i < k->u.nslots; i++) {
		if (k->u.slots[i].number != number)
			continue;
		if (k->u.nslots == 1)
			return err_set(e, -EPERM,
				       "this is the last key: without it nobody could open the "
				       "drive again. Add another one first (skyflok key add %s)",
				       k->p->name);
		memmove(&k->u.slots[i], &k->u.slots[i + 1],
			sizeof(k->u.slots[0]) * (size_t)(k->u.nslots - i - 1));
		k->u.nslots--;
		return 0;
	}
	return err_set(e, -ENOENT, "there is no key %u; \"skyflok key list %s\" shows them", number,
		       k->p->name);
}

int keys_change(struct keys *k, const void *secret, size_t secret_len,
		const struct keyslot_cost *cost, struct err *e)
{
	return seal(&k->u.slots[k->u.slot], k, secret, secret_len, cost, e);
}

/* Higher than every number that is in use anywhere we can see. */
static uint64_t free_number(struct keys *k)
{
	struct generation_found found[DRIVE_MAX_BACKENDS];
	uint64_t g = next_generation(k);

	generation_fetch(k->backends, k->c->n, LIST_TIMEOUT, found);
	for (int i = 0; i < k->c->n; i++)
		for (int j = 0; j < found[i].count; j++)
			g = MAX(g, found[i].numbers[j] + 1);
	generation_found_release(found, k->c->n);
	return g;
}

/* The manifest carries the URLs as they are now: a folder may have moved. */
static int renew_urls(struct keys *k, struct err *e)
{
	for (int i = 0; i < k->c->n; i++) {
		char *url = strdup(k->c->backends[i].url);

		if (!url)
			return err_set(e, -ENOMEM, "out of memory");
		free(k->u.manifest.backends[i].url);
		k->u.manifest.backends[i].url = url;
	}
	return 0;
}

int keys_store(struct keys *k, int now, struct generation_report *r, struct err *e)
{
	struct header_set hs;
	int rc = renew_urls(k, e);

	if (rc)
		return rc;
	k->u.manifest.generation = free_number(k);
	rc = header_build(&k->u.manifest, k->u.keys, k->u.slots, k->u.nslots, 1, &hs);
	if (rc)
		return err_set(e, rc, "cannot build the new header: %s", strerror(-rc));
	rc = generation_commit(k->p, k->backends, k->c->n, &hs, r, e);
	header_set_release(&hs);
	if (!rc && now && r->pending)
		rc = generation_revoke(k->backends, k->c->n, k->c->k, r, e);
	return rc;
}
