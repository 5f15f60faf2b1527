#include "fs/drive/generation.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"
#include "fs/drive/each.h"

#define HEADER_PREFIX "h/"
#define HEADER_MAX    (1u << 20) /* bytes of one header object */
#define LISTED_MAX    10000      /* header objects on one backend; old ones are deleted */
#define NEXT_MAX      (34u << 20)
#define NEXT_MAGIC    0x534b464e45585431ull /* "SKFNEXT1" */
#define PUT_TIMEOUT   (20 * NS_PER_S)

static int point(const char *name, int i)
{
	char full[48];

	if (!failpoint_active)
		return 0;
	snprintf(full, sizeof(full), "%s.%d", name, i);
	return failpoint(full);
}

/* The number in "h/<16 hex>"; 0 when the key is none of ours. */
static uint64_t number_of(const char *key)
{
	char again[BACKEND_KEY_MAX + 1];
	uint64_t g;

	if (sscanf(key, HEADER_PREFIX "%16" SCNx64, &g) != 1)
		return 0;
	header_key(again, g);
	return strcmp(again, key) ? 0 : g;
}

/* ---- reading ---- */

struct fetch {
	struct backend *const *backends;
	struct generation_found *found;
	int64_t timeout;
};

static int newest_first(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* Numbers of the header objects on one backend, newest first; how many, or a negative errno. */
static int list_numbers(struct backend *b, int64_t timeout, uint64_t **numbers)
{
	struct backend_entry *entries = NULL;
	size_t n = 0;
	int count = 0;
	int rc = backend_list_few_wait(b, HEADER_PREFIX, LISTED_MAX, &entries, &n, timeout);

	*numbers = NULL;
	if (!rc) {
		*numbers = calloc(n + 1, sizeof(uint64_t));
		if (!*numbers)
			rc = -ENOMEM;
	}
	for (size_t i = 0; !rc && i < n; i++)
		if (number_of(entries[i].key))
			(*numbers)[count++] = number_of(entries[i].key);
	free(entries);
	if (rc)
		return rc;
	qsort(*numbers, (size_t)count, sizeof(uint64_t), newest_first);
	return count;
}

static void fetch_one(void *arg, int i)
{
	struct fetch *f = arg;
	struct generation_found *g = &f->found[i];
	AUTO_FREE uint64_t *numbers = NULL;
	int count = list_numbers(f->backends[i], f->timeout, &numbers);

	if (count < 0) {
		g->result = count;
		return;
	}
	for (int j = 0; j < count && g->count < (int)ARRAY_LEN(g->blobs); j++) {
		AUTO_FREE uint8_t *p = NULL;
		char key[32];
		size_t n;
		int rc;

		header_key(key, numbers[j]);
		rc = backend_read_wait(f->backends[i], key, HEADER_MAX, &p, &n, f->timeout);
		if (!rc)
			rc = header_parse(p, n, &g->blobs[g->count]);
		if (rc) {
			g->result = rc;
			continue;
		}
		g->numbers[g->count++] = numbers[j];
	}
}

void generation_fetch(struct backend *const *backends, int n, int64_t timeout,
		      struct generation_found *found)
{
	struct fetch f = { .backends = backends, .found = found, .timeout = timeout };

	memset(found, 0, sizeof(*found) * (size_t)n);
	each_backend(n, fetch_one, &f);
}

void generation_found_release(struct generation_found *found, int n)
{
	for (int i = 0; i < n; i++)
		for (int j = 0; j < found[i].count; j++)
			header_free(found[i].blobs[j]);
	memset(found, 0, sizeof(*found) * (size_t)n);
}

/* ---- header.next ---- */

static int next_write(const struct paths *p, const struct header_set *hs, struct err *e)
{
	struct buf b = { 0 };
	int rc;

	buf_put64(&b, NEXT_MAGIC);
	buf_put64(&b, hs->generation);
	buf_put32(&b, (uint32_t)hs->n);
	buf_put_bytes32(&b, hs->local.p, hs->local.len);
	for (int i = 0; i < hs->n; i++)
		buf_put_bytes32(&b, hs->object[i].p, hs->object[i].len);
	if (!b.failed)
		buf_put32(&b, crc32c(0, b.p, b.len));
	rc = b.failed ? -ENOMEM : failpoint("header.local");
	if (!rc)
		rc = file_replace(p->header_next, b.p, b.len, 0600);
	buf_release(&b);
	return rc ? err_set(e, rc, "%s: cannot write: %s", p->header_next, strerror(-rc)) : 0;
}

static int next_parse(const uint8_t *p, size_t n, struct header_set *hs)
{
	struct rd r = rd_of(p, n < 4 ? 0 : n - 4);
	const uint8_t *bytes;
	size_t len;

	if (n < 24 || crc32c(0, p, n - 4) != be32_get(p + n - 4) || rd_get64(&r) != NEXT_MAGIC)
		return -EBADMSG;
	hs->generation = rd_get64(&r);
	hs->n = (int)rd_get32(&r);
	if (hs->n < 2 || hs->n > DRIVE_MAX_BACKENDS)
		return -EBADMSG;
	bytes = rd_get_bytes32(&r, HEADER_MAX, &len);
	if (bytes)
		buf_put(&hs->local, bytes, len);
	for (int i = 0; i < hs->n; i++) {
		bytes = rd_get_bytes32(&r, HEADER_MAX, &len);
		if (bytes)
			buf_put(&hs->object[i], bytes, len);
		if (hs->object[i].failed)
			return -ENOMEM;
	}
	if (hs->local.failed)
		return -ENOMEM;
	return r.bad || r.left ? -EBADMSG : 0;
}

static int next_read(const struct paths *p, struct header_set *hs, struct err *e)
{
	AUTO_FREE uint8_t *bytes = NULL;
	size_t n;
	int rc = file_read_all(p->header_next, NEXT_MAX, &bytes, &n);

	memset(hs, 0, sizeof(*hs));
	if (rc == -ENOENT)
		return rc;
	if (!rc)
		rc = next_parse(bytes, n, hs);
	if (rc) {
		header_set_release(hs);
		return err_set(e, rc,
			       "%s: %s; the header generation in it cannot be completed: change a "
			       "key (skyflok key change) to write a new one",
			       p->header_next, rc == -EBADMSG ? "damaged" : strerror(-rc));
	}
	return 0;
}

uint64_t generation_pending(const struct paths *p)
{
	uint8_t head[16];
	AUTO_CLOSE int fd = open(p->header_next, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || file_pread(fd, head, sizeof(head), 0) || be64_get(head) != NEXT_MAGIC)
		return 0;
	return be64_get(head + 8);
}

int generation_lock(const struct paths *p, int wait, int *fd, struct err *e)
{
	*fd = open(p->header_lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0)
		return err_set(e, -errno, "%s: %s", p->header_lock, strerror(errno));
	while (flock(*fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB)) {
		int rc = -errno;

		if (rc == -EINTR)
			continue;
		close(*fd);
		*fd = -1;
		return rc == -EWOULDBLOCK ? -EBUSY
					  : err_set(e, rc, "%s: %s", p->header_lock, strerror(-rc));
	}
	return 0;
}

/* ---- writing ---- */

struct spread {
	struct backend *const *backends;
	const struct header_set *hs;
	struct generation_report *r;
	uint64_t generation;
	uint32_t todo;
};

/* One that is there already has to be ours, byte for byte (I4). */
static int compare_stored(struct backend *b, const char *key, const struct buf *want)
{
	AUTO_FREE uint8_t *p = NULL;
	size_t n;
	int rc = backend_read_wait(b, key, HEADER_MAX, &p, &n, PUT_TIMEOUT);

	if (rc)
		return rc == -EFBIG ? -ESTALE : rc;
	return n == want->len && !memcmp(p, want->p, n) ? 0 : -ESTALE;
}

static void put_one(void *arg, int i)
{
	struct spread *s = arg;
	const struct buf *object = &s->hs->object[i];
	char key[32];
	int rc = point("header.put", i);

	header_key(key, s->generation);
	if (!rc)
		rc = backend_put_wait(s->backends[i], key, object->p, object->len,
				      BACKEND_IF_ABSENT, PUT_TIMEOUT);
	if (rc == -EEXIST)
		rc = compare_stored(s->backends[i], key, object);
	s->r->result[i] = rc;
	if (!rc)
		__atomic_or_fetch(&s->r->stored, 1u << i, __ATOMIC_RELAXED);
}

static void clean_one(void *arg, int i)
{
	struct spread *s = arg;
	AUTO_FREE uint64_t *numbers = NULL;
	int count, rc;

	if (!(s->todo >> i & 1))
		return;
	rc = point("header.delete", i);
	count = rc ? rc : list_numbers(s->backends[i], PUT_TIMEOUT, &numbers);
	for (int j = 0; j < count && !rc; j++) {
		char key[32];

		if (numbers[j] >= s->generation)
			continue;
		header_key(key, numbers[j]);
		rc = backend_delete_wait(s->backends[i], key, PUT_TIMEOUT);
	}
	s->r->result[i] = count < 0 ? count : rc;
	if (!s->r->result[i])
		__atomic_or_fetch(&s->r->cleaned, 1u << i, __ATOMIC_RELAXED);
}

static uint32_t all_of(int n)
{
	return n == 32 ? UINT32_MAX : (1u << n) - 1;
}

/* Steps 2 to 5. */
static int spread(const struct paths *p, struct backend *const *backends, int n,
		  const struct header_set *hs, struct generation_report *r, struct err *e)
{
	struct spread s = { .backends = backends,
			    .hs = hs,
			    .r = r,
			    .todo = all_of(n),
			    .generation = hs->generation };
	int rc;

	memset(r, 0, sizeof(*r));
	r->generation = hs->generation;
	r->pending = 1;
	rc = failpoint("header.copy");
	if (!rc)
		rc = file_replace(p->header, hs->local.p, hs->local.len, 0600);
	if (rc)
		return err_set(e, rc, "%s: cannot write: %s", p->header, strerror(-rc));
	each_backend(n, put_one, &s);
	if (r->stored != all_of(n))
		return 0;
	each_backend(n, clean_one, &s);
	if (r->cleaned != all_of(n) || failpoint("header.done"))
		return 0;
	if (unlink(p->header_next) && errno != ENOENT)
		return err_set(e, -errno, "%s: cannot remove: %s", p->header_next, strerror(errno));
	file_sync_dir(p->state);
	r->pending = 0;
	return 0;
}

int generation_commit(const struct paths *p, struct backend *const *backends, int n,
		      const struct header_set *hs, struct generation_report *r, struct err *e)
{
	int rc = next_write(p, hs, e);

	return rc ? rc : spread(p, backends, n, hs, r, e);
}

int generation_finish(const struct paths *p, struct backend *const *backends, int n,
		      struct generation_report *r, struct err *e)
{
	struct header_set hs;
	int rc = next_read(p, &hs, e);

	if (rc)
		return rc;
	if (hs.n != n)
		rc = err_set(e, -EBADMSG, "%s: is for %d backends, the drive has %d",
			     p->header_next, hs.n, n);
	else
		rc = spread(p, backends, n, &hs, r, e);
	header_set_release(&hs);
	return rc;
}

int generation_revoke(struct backend *const *backends, int n, int k, struct generation_report *r,
		      struct err *e)
{
	struct spread s = {
		.backends = backends, .r = r, .generation = r->generation, .todo = r->stored
	};
	int have = __builtin_popcount(r->stored);

	if (have < k || have < n - k + 1)
		return err_set(e, -EAGAIN,
			       "only %d of %d backends have the new header; --now needs %d: try "
			       "again when more are there. Until then the old key works",
			       have, n, MAX(k, n - k + 1));
	each_backend(n, clean_one, &s);
	if (__builtin_popcount(r->cleaned) < n - k + 1)
		return err_set(e, -EAGAIN,
			       "the old header could be deleted from %d backends only, %d are "
			       "needed: try again",
			       __builtin_popcount(r->cleaned), n - k + 1);
	return 0;
}
