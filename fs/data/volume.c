/* Putting a volume together, its state, and what limits it. */
#include <stdio.h>

#include "fs/base/options.h"
#include "fs/data/volume_internal.h"

#define SPACE_REFRESH (50 * NS_PER_MS)
#define SPACE_STEP    512 /* asked again when cap / this was written since */
#define RECORD_COST   192 /* header, tag and padding of one sealed extent, about */
#define FRAGMENT      4096
#define FSYNC_TIMEOUT (120 * NS_PER_S)
#define FILES_MAX     (1ull << 40)
#define SPACE_UNKNOWN (1ull << 50) /* statfs before any backend told */

/* --- life --- */

static void volume_init(struct volume *v, const struct volume_opts *o)
{
	v->o = *o;
	v->m = o->meta;
	v->env.extent_max = o->extent_max;
	if (!v->o.commit_interval)
		v->o.commit_interval = NS_PER_S;
	if (!v->o.fsync_timeout)
		v->o.fsync_timeout = FSYNC_TIMEOUT;
	if (!v->o.dirty_max)
		v->o.dirty_max = 32u << 20;
	if (!v->o.unsynced_max)
		v->o.unsynced_max = 48u << 20;
	if (!v->o.inode_cache)
		v->o.inode_cache = 65536;
	if (!v->o.row_cache)
		v->o.row_cache = 1 << 20;
	pthread_mutex_init(&v->list_lock, NULL);
	pthread_mutex_init(&v->c_lock, NULL);
	pthread_mutex_init(&v->space_lock, NULL);
	cond_init_mono(&v->c_cond);
	list_init(&v->dirty_data);
	list_init(&v->dirty_attr);
	list_init(&v->renamed);
	list_init(&v->reap);
	list_init(&v->parked);
	list_init(&v->waiters);
	list_init(&v->cloud_waiters);
	list_init(&v->throttled);
	list_init(&v->snaps);
}

int volume_create(const struct volume_opts *o, struct volume **out, struct err *e)
{
	struct volume *v = calloc(1, sizeof(*v));
	int rc = -ENOMEM;

	*out = NULL;
	if (!v)
		return err_set(e, rc, "Out of memory.");
	volume_init(v, o);
	if (inode_table_init(&v->table, v->o.inode_cache) || known_init(&v->known))
		goto fail;
	v->jobs = workq_create("vol-jobs", 1);
	v->inval = workq_create("vol-inval", 1);
	v->cloud = workq_create("vol-cloud", 1);
	if (!v->jobs || !v->inval || !v->cloud)
		goto fail;
	*out = v;
	return 0;
fail:
	volume_destroy(v);
	return err_set(e, rc, "Out of memory or threads while setting up the volume.");
}

static int add_orphan(void *arg, uint64_t ino)
{
	struct volume *v = arg;

	if (v->old_orphans_n % 1024 == 0) {
		uint64_t *p = realloc(v->old_orphans, (v->old_orphans_n + 1024) * sizeof(*p));

		if (!p)
			return 1; /* the others at the next mount */
		v->old_orphans = p;
	}
	v->old_orphans[v->old_orphans_n++] = ino;
	return 0;
}

int volume_start(struct volume *v, struct segstore *st, struct err *e)
{
	struct meta_totals t;
	struct node root;
	int rc;

	v->st = v->env.st = st;
	meta_lock(v->m);
	meta_totals(v->m, &t);
	rc = node_get(v->m, META_ROOT_INO, &root);
	if (rc == -ENOENT) /* damaged: better no mount than one that cannot be entered */
		rc = -EBADMSG;
	if (!rc && !v->o.read_only)
		rc = node_each_orphan(v->m, add_orphan, v);
	meta_unlock(v->m);
	if (rc < 0)
		return err_set(e, rc, "The metadata database cannot be read: %s.",
			       rc == -EBADMSG ? "it is damaged" : strerror(-rc));
	atomic_store(&v->total_bytes, t.bytes);
	atomic_store(&v->total_inodes, t.inodes);
	rc = pthread_create(&v->committer, NULL, writeback_thread, v);
	if (rc)
		return err_set(e, -rc, "No thread for commits could be started: %s.", strerror(rc));
	pthread_mutex_lock(&v->c_lock);
	v->running = 1;
	pthread_mutex_unlock(&v->c_lock);
	if (v->old_orphans_n)
		volume_changed(v);
	return 0;
}

int volume_stop(struct volume *v)
{
	void *failures = NULL;
	int running;

	volume_end_waits(v);
	pthread_mutex_lock(&v->c_lock);
	running = v->running && !v->stopping;
	v->stopping = 1;
	if (running)
		v->kick = 1;
	pthread_cond_broadcast(&v->c_cond);
	pthread_mutex_unlock(&v->c_lock);
	if (running)
		pthread_join(v->committer, &failures);
	workq_drain(v->jobs);
	workq_drain(v->cloud);
	if (volume_failed(v))
		return volume_failed(v);
	if (!failures)
		return 0;
	/* The open transaction has names whose nodes and content it lacks. */
	meta_abandon(v->m, "the last changes found no room on the disk and are lost");
	return -ENOSPC;
}

void volume_store_closed(struct volume *v)
{
	v->st = v->env.st = NULL;
}

void volume_destroy(struct volume *v)
{
	if (!v)
		return;
	workq_destroy(v->jobs);
	workq_destroy(v->inval);
	workq_destroy(v->cloud);
	writeback_discard(v);
	inode_table_release(&v->table);
	known_release(&v->known);
	free(v->old_orphans);
	pthread_mutex_destroy(&v->list_lock);
	pthread_mutex_destroy(&v->c_lock);
	pthread_mutex_destroy(&v->space_lock);
	pthread_cond_destroy(&v->c_cond);
	free(v);
}

/* --- the committer's bell --- */

void volume_changed(struct volume *v)
{
	if (atomic_load_explicit(&v->changed, memory_order_acquire))
		return;
	pthread_mutex_lock(&v->c_lock);
	if (!atomic_load(&v->changed)) {
		v->changed_at = clock_mono_ns();
		atomic_store(&v->changed, 1);
		pthread_cond_signal(&v->c_cond);
	}
	pthread_mutex_unlock(&v->c_lock);
}

void volume_kick(struct volume *v)
{
	pthread_mutex_lock(&v->c_lock);
	if (!v->kick) {
		v->kick = 1;
		pthread_cond_signal(&v->c_cond);
	}
	pthread_mutex_unlock(&v->c_lock);
}

static void commit_async(struct volume *v, const struct waiter *like)
{
	int rc = volume_failed(v);

	if (!rc)
		rc = writeback_wait(v, like);
	if (rc)
		like->done(like->arg, rc);
}

void volume_commit_async(void *volume, void (*done)(void *arg, int result), void *arg)
{
	commit_async(volume, &(struct waiter){ .done = done, .arg = arg });
}

void volume_commit_rows(void *volume, void (*done)(void *arg, int result), void *arg)
{
	commit_async(volume, &(struct waiter){ .rows = 1, .done = done, .arg = arg });
}

int volume_fsync(struct volume *v, uint64_t ino, int datasync, void (*done)(void *arg, int result),
		 void *arg)
{
	struct waiter w = { .ino = ino, .cloud = v->o.fsync_cloud, .done = done, .arg = arg };
	int rc = volume_failed(v);

	(void)datasync; /* size and content commit together: there is nothing less to do */
	if (rc || v->o.read_only)
		return rc;
	rc = writeback_wait(v, &w);
	return rc ? rc : -EINPROGRESS;
}

int volume_failed(struct volume *v)
{
	return atomic_load_explicit(&v->failed, memory_order_relaxed);
}

void volume_fail(struct volume *v, int rc, const char *what)
{
	int expected = 0;
	char why[160];

	if (!atomic_compare_exchange_strong(&v->failed, &expected, -EIO))
		return;
	snprintf(why, sizeof(why), "%s failed (%s); what was not synced is lost", what,
		 strerror(-rc));
	meta_abandon(v->m, why); /* says so, unless it failed itself and has said why */
}

int volume_writable(struct volume *v)
{
	return v->o.read_only || volume_failed(v) ? -EROFS : 0;
}

/* --- space --- */

static void space_ask_locked(struct volume *v, int64_t now)
{
	uint64_t mem = atomic_load(&v->env.buf_bytes), records;
	struct segstore_state s;

	segstore_state(v->st, &s);
	/* Small pieces cost more sealed than dirty; no buffer has less than 64 bytes. */
	records = MIN((uint64_t)MAX(atomic_load(&v->env.pieces), 0), mem / 64) * RECORD_COST;
	v->space_staged = s.staged_bytes - s.yield_bytes + s.spare_bytes +
			  atomic_load(&v->env.dirty_bytes) + records;
	v->space_cap = s.room;
	v->space_time = now;
	v->space_written = 0;
}

/* Once each way, or a full drive fills the log too. */
static void say_full_locked(struct volume *v, uint64_t percent)
{
	char text[32];

	if (!v->space_said && percent >= FILL_REFUSE) {
		v->space_said = 1;
		log_warn("%s wait here for the backends, as much as cache-size allows: programs "
			 "get \"no space\" until some is uploaded",
			 format_size(text, v->space_staged + v->space_written));
	} else if (v->space_said && percent < FILL_DELAY) {
		v->space_said = 0;
		log_info("there is room for new content again");
	}
}

unsigned volume_fill(struct volume *v, uint64_t more)
{
	SCOPE_LOCK(&v->space_lock);
	int64_t now = clock_mono_ns();
	uint64_t percent;

	if (!v->space_time || now - v->space_time > SPACE_REFRESH ||
	    v->space_written > v->space_cap / SPACE_STEP)
		space_ask_locked(v, now);
	v->space_written += more + (more ? RECORD_COST : 0);
	if (!v->space_cap)
		return 0;
	percent = (v->space_staged + v->space_written) / (v->space_cap / 100 + 1);
	say_full_locked(v, percent);
	return (unsigned)MIN(percent, 1000u);
}

int volume_may_create(struct volume *v)
{
	return volume_fill(v, 0) >= FILL_REFUSE ? -ENOSPC : 0;
}

void volume_set_space(struct volume *v, uint64_t total, uint64_t avail)
{
	atomic_store(&v->space_total, total);
	atomic_store(&v->space_avail, avail);
}

int volume_statfs(struct volume *v, struct statvfs *out)
{
	uint64_t used = atomic_load(&v->total_bytes) + atomic_load(&v->env.data_bytes);
	uint64_t total = atomic_load(&v->space_total), avail = atomic_load(&v->space_avail);
	uint64_t inodes = atomic_load(&v->total_inodes);

	if (v->o.quota) {
		total = v->o.quota;
		avail = total > used ? total - used : 0;
	} else if (!total) {
		total = used + SPACE_UNKNOWN;
		avail = SPACE_UNKNOWN;
	}
	*out = (struct statvfs){ .f_bsize = FRAGMENT,
				 .f_frsize = FRAGMENT,
				 .f_blocks = total / FRAGMENT,
				 .f_bfree = avail / FRAGMENT,
				 .f_bavail = avail / FRAGMENT,
				 .f_files = inodes + FILES_MAX,
				 .f_ffree = FILES_MAX,
				 .f_favail = FILES_MAX,
				 .f_namemax = 255 };
	return 0;
}

/* --- telling the kernel --- */

struct inval {
	struct volume *v;
	uint64_t ino;
};

static void run_inval(void *arg)
{
	struct inval *in = arg;
	struct volume *v = in->v;
	void (*fn)(void *, uint64_t, int64_t, int64_t);
	void *fn_arg;

	pthread_mutex_lock(&v->list_lock);
	fn = v->o.inval_inode, fn_arg = v->o.inval_arg;
	pthread_mutex_unlock(&v->list_lock);
	if (fn)
		fn(fn_arg, in->ino, -1, 0);
	free(in);
}

void volume_inval_attr(struct volume *v, uint64_t ino)
{
	struct inval *in = malloc(sizeof(*in));

	if (!in)
		return;
	*in = (struct inval){ v, ino };
	workq_submit(v->inval, run_inval, in);
}

void volume_set_inval(struct volume *v,
		      void (*inval_inode)(void *arg, uint64_t ino, int64_t off, int64_t len),
		      void *arg)
{
	pthread_mutex_lock(&v->list_lock);
	v->o.inval_inode = inval_inode;
	v->o.inval_arg = arg;
	pthread_mutex_unlock(&v->list_lock);
}

/* --- state --- */

void volume_state(struct volume *v, struct volume_state *out)
{
	*out = (struct volume_state){ .dirty_bytes = atomic_load(&v->env.dirty_bytes),
				      .known_inodes = known_count(&v->known),
				      .commits = atomic_load(&v->commits) };
	pthread_mutex_lock(&v->table.lock);
	out->cached_inodes = v->table.hash.count;
	pthread_mutex_unlock(&v->table.lock);
	pthread_mutex_lock(&v->list_lock);
	out->dirty_inodes = v->data_count;
	pthread_mutex_unlock(&v->list_lock);
	meta_lock(v->m);
	meta_totals(v->m, &out->totals);
	meta_unlock(v->m);
}
