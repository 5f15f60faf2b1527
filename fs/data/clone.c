/* copy_file_range as a metadata operation: the target names the source's extents. */
#include "fs/data/volume_internal.h"

#define PIECES_MAX 128

struct range {
	struct inode *src, *dst;
	uint64_t off_in, off_out, len;
};

/* The pieces of [off, end) of src, each sealed one with a reference. Dirty bytes are sealed first.
 * *end moves to where the list ends. */
static int collect(struct volume *v, struct inode *src, uint64_t off, uint64_t *end,
		   struct map_piece *list, int *n)
{
	int rc;

	*n = 0;
	pthread_mutex_lock(&src->lock);
	*end = MIN(*end, src->n.size);
	rc = off < *end ? file_seal(v, src) : 0;
	while (!rc && off < *end && *n < PIECES_MAX) {
		rc = file_map_next(src, off, *end, &list[*n]);
		if (rc)
			break;
		off = list[*n].end;
		if (list[*n].kind == MAP_SEALED)
			segstore_ref(v->st, list[*n].seg);
		++*n;
	}
	pthread_mutex_unlock(&src->lock);
	if (rc == -EAGAIN && *n)
		rc = 0; /* a short copy; the next call loads the rows */
	*end = off;
	return rc;
}

/* Takes the reference of p. Target's lock held. */
static int put_piece(struct inode *dst, const struct map_piece *p, int64_t shift)
{
	uint64_t off = p->off + (uint64_t)shift, end = p->end + (uint64_t)shift;

	if (p->kind == MAP_SEALED)
		return overlay_put_extents(&dst->over, off, end, p->seg, p->first, p->pos);
	return overlay_hole(&dst->over, off, end, dst->inflight || dst->row_end > off);
}

static int put_all(struct volume *v, struct range *r, const struct map_piece *list, int n,
		   uint64_t *copied)
{
	int64_t shift = (int64_t)(r->off_out - r->off_in);
	int rc = 0;

	pthread_mutex_lock(&r->dst->lock);
	for (int k = 0; k < n; k++) {
		if (!rc)
			rc = put_piece(r->dst, &list[k], shift);
		else if (list[k].kind == MAP_SEALED)
			segstore_unref(v->st, list[k].seg);
		if (!rc)
			*copied = list[k].end - r->off_in;
	}
	if (*copied) {
		struct inode *d = r->dst;

		d->n.size = MAX(d->n.size, r->off_out + *copied);
		d->n.mtime = d->n.ctime = now_ns();
		inode_data_changed(v, d);
	}
	pthread_mutex_unlock(&r->dst->lock);
	return *copied ? 0 : rc;
}

/* Each name of an extent counts. Over the quota the references are given back. */
static int check_quota(struct volume *v, const struct map_piece *list, int n)
{
	uint64_t bytes = 0;
	int rc;

	for (int k = 0; k < n; k++)
		bytes += list[k].kind == MAP_SEALED ? list[k].end - list[k].off : 0;
	rc = volume_quota(v, bytes);
	for (int k = 0; rc && k < n; k++)
		if (list[k].kind == MAP_SEALED)
			segstore_unref(v->st, list[k].seg);
	return rc;
}

static int copy(struct volume *v, struct range *r, uint64_t *copied, const struct cred *cred)
{
	AUTO_FREE struct map_piece *list = malloc(PIECES_MAX * sizeof(*list));
	uint64_t end;
	int n, rc, killed = 0;

	if (!list)
		return -ENOMEM;
	if (!S_ISREG(r->src->type) || !S_ISREG(r->dst->type))
		return -EINVAL;
	rc = inode_kill_caps(v, r->dst);
	while (!rc) {
		end = r->off_in + r->len;
		rc = collect(v, r->src, r->off_in, &end, list, &n);
		if (rc != -EAGAIN)
			break;
		rc = file_map_load(v, r->src, r->off_in);
	}
	if (rc || !n)
		return rc;
	rc = check_quota(v, list, n);
	if (rc)
		return rc;
	rc = put_all(v, r, list, n, copied);
	if (!rc && cred && cred->uid) {
		pthread_mutex_lock(&r->dst->lock);
		killed = inode_kill_suid(v, r->dst);
		pthread_mutex_unlock(&r->dst->lock);
	}
	if (killed)
		volume_inval_attr(v, r->dst->n.ino);
	return rc;
}

int volume_copy_range(struct volume *v, uint64_t in, uint64_t off_in, uint64_t out,
		      uint64_t off_out, uint64_t len, uint64_t *copied, const struct cred *cred)
{
	struct range r = { .off_in = off_in, .off_out = off_out, .len = len };
	uint64_t max = file_size_max(v);
	int rc = volume_writable(v);

	*copied = 0;
	if (rc || !len)
		return rc;
	if (off_in > max)
		return 0;
	r.len = len = MIN(len, max - off_in);
	if (off_out > max - len)
		return -EFBIG;
	if (in == out && off_in < off_out + len && off_out < off_in + len)
		return -EINVAL;
	rc = inode_get(v, in, &r.src);
	if (rc)
		return rc;
	rc = inode_get(v, out, &r.dst);
	if (!rc) {
		rc = copy(v, &r, copied, cred);
		inode_put(v, r.dst);
	}
	inode_put(v, r.src);
	return rc;
}
