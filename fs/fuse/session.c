/* The life of a mount. libfuse's own loop is not used: it can be ended by a signal only, and it
 * lets idle threads go. */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

enum { CUT_OFF_S = 5 }; /* programs that still use a mount that ends get that long */

void session_opts_default(struct session_opts *o)
{
	*o = (struct session_opts){
		.name = "drive",
		.uid = -1,
		.gid = -1,
		.umask = -1,
		.attr_timeout = 3600,
		.writeback = 1,
		.threads = 6,
		.max_background = 2048,
		.congestion = 64,
	};
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct session *s = userdata;
	unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT |
			FUSE_CAP_DONT_MASK | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT |
			FUSE_CAP_EXPLICIT_INVAL_DATA;

	if (s->o.writeback)
		want |= FUSE_CAP_WRITEBACK_CACHE;
	/* Not wanted: AUTO_INVAL_DATA (each cached read would ask for attributes, and nobody else
	 * writes), SPLICE_* (slower), POSIX_LOCKS and FLOCK_LOCKS (the kernel keeps them, and its
	 * waiters can be killed), ASYNC_DIO (a read or write with O_DIRECT then waits where no
	 * signal reaches it: a process that hangs in one could not even be killed; without it, its
	 * requests go one after the other). */
	conn->want = want & conn->capable;
	conn->max_write = FUSE_MAX_IO;
	conn->max_background = s->o.max_background;
	conn->congestion_threshold = s->o.congestion;
	conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.readlink = op_readlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.create = op_create,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.write = op_write, /* not write_buf: that would turn splice on */
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.setxattr = op_setxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
};

static int check_opts(const struct session_opts *o, struct err *e)
{
	if (o->threads < 1 || o->threads > (int)ARRAY_LEN(((struct session *)0)->workers))
		return err_set(e, -EINVAL, "threads is %d; it can be 1 to %zu.", o->threads,
			       ARRAY_LEN(((struct session *)0)->workers));
	if (o->max_background < 1 || o->max_background > 65535 || o->congestion < 1 ||
	    o->congestion > o->max_background)
		return err_set(e, -EINVAL,
			       "max_background is %u and congestion %u; they can be 1 to 65535, "
			       "congestion at most max_background.",
			       o->max_background, o->congestion);
	if (!(o->attr_timeout >= 0 && o->attr_timeout <= 1e9))
		return err_set(e, -EINVAL, "attr_timeout can be 0 to 1000000000 seconds.");
	return 0;
}

int session_create(const struct session_opts *o, struct session **out, struct err *e)
{
	struct session *s;
	int ours, rc = check_opts(o, e);

	*out = NULL;
	if (rc)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "Not enough memory to mount.");
	s->o = *o;
	s->v = o->volume;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->writers_lock, NULL);
	rc = cond_init_mono(&s->cond);
	if (rc)
		goto free_session;
	rc = hash_init(&s->writers, 64);
	if (rc)
		goto free_cond;
	rc = park_init(s);
	if (rc)
		goto free_writers;
	rc = mount_check(o, &s->mountpoint, e);
	if (rc)
		goto free_parks;
	rc = mount_new(s, &ops, sizeof(ops), e);
	if (rc)
		goto free_parks;
	if (bdi_find(s->mountpoint, s->bdi, sizeof(s->bdi), &ours))
		s->bdi[0] = 0;
	/* Two: one launder that waits for throttled WRITEs must not stop another file's seek. */
	s->notifyq = workq_create("fuse-notify", 2);
	s->interruptq = workq_create("fuse-intr", 1);
	if (!s->notifyq || !s->interruptq) {
		rc = -EAGAIN;
		goto unmount;
	}
	s->o.mountpoint = s->o.name = s->o.kernel_options = NULL;
	volume_set_inval(s->v, session_inval, s);
	*out = s;
	return 0;
unmount:
	workq_destroy(s->notifyq);
	workq_destroy(s->interruptq);
	fuse_session_unmount(s->se);
	fuse_session_destroy(s->se);
free_parks:
	park_release(s);
free_writers:
	hash_release(&s->writers);
free_cond:
	pthread_cond_destroy(&s->cond);
free_session:
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->writers_lock);
	free(s->mountpoint);
	free(s);
	if (e && !e->text[0])
		err_set(e, rc, "Cannot mount: %s.", strerror(-rc));
	return rc;
}

/* ---- the loop ---- */

static void free_mem(void *buf)
{
	free(((struct fuse_buf *)buf)->mem);
}

static void worker_left(void *arg)
{
	struct session *s = arg;
	SCOPE_LOCK(&s->lock);

	s->running--;
	pthread_cond_broadcast(&s->cond);
}

static void loop_failed(struct session *s, int rc)
{
	SCOPE_LOCK(&s->lock);

	if (!s->loop_rc)
		s->loop_rc = rc;
	s->force = 1;
	pthread_cond_broadcast(&s->cond);
}

/* 0 when the mount is gone or session_exit was called, else what receiving failed with. */
static int serve(struct session *s, struct fuse_buf *buf)
{
	while (!fuse_session_exited(s->se)) {
		int n = fuse_session_receive_buf(s->se, buf);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			return n;
		fuse_session_process_buf(s->se, buf);
	}
	return 0;
}

static void *worker(void *arg)
{
	struct session *s = arg;
	struct fuse_buf buf = { .mem = NULL };
	int rc;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cleanup_push(worker_left, s);
	pthread_cleanup_push(free_mem, &buf);
	rc = serve(s, &buf);
	/* One that saw the unmount is enough; the others see it as well. Of an error of its own (no
	 * memory for its buffer) they know nothing: they would wait for the kernel for ever. */
	fuse_session_exit(s->se);
	if (rc)
		loop_failed(s, rc);
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(1);
	return NULL;
}

static int start_workers(struct session *s)
{
	sigset_t all, old;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < s->o.threads; i++) {
		rc = pthread_create(&s->workers[s->n_workers], NULL, worker, s);
		if (rc)
			break;
		s->n_workers++, s->running++;
	}
	rc = s->n_workers ? 0 : -rc;
	pthread_mutex_unlock(&s->lock);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

int session_loop(struct session *s)
{
	int rc;

	/* Memory that we ask for while the kernel waits for us to write its dirty pages must not
	 * wait for those pages. Needs CAP_SYS_RESOURCE; inherited by the workers. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	rc = start_workers(s);
	if (rc) {
		log_error("cannot start a thread to serve the mount: %s", strerror(-rc));
		return rc;
	}
	pthread_mutex_lock(&s->lock);
	while (s->running && !s->force)
		pthread_cond_wait(&s->cond, &s->lock);
	if (s->force && s->running) {
		fuse_session_exit(s->se);
		for (int i = 0; i < s->n_workers; i++)
			pthread_cancel(s->workers[i]);
	}
	pthread_mutex_unlock(&s->lock);
	for (int i = 0; i < s->n_workers; i++)
		pthread_join(s->workers[i], NULL);
	s->n_workers = 0;
	return s->loop_rc;
}

/* ---- the end ---- */

static void force_exit_locked(struct session *s)
{
	s->force = 1;
	pthread_cond_broadcast(&s->cond);
}

static void flush_pages(const char *mountpoint)
{
	AUTO_CLOSE int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && syncfs(fd))
		log_warn("flushing %s: %s", mountpoint, strerror(errno));
}

/* What session_exit does without blocking its caller: both flushing and unmounting wait until our
 * own workers have taken the kernel's dirty pages. */
static void *unmounter(void *arg)
{
	struct session *s = arg;
	int64_t deadline;

	/* Also where the unmount would do it: it does not while another mount namespace, such as
	 * that of a service with private mounts, has a copy of the mount. */
	flush_pages(s->mountpoint);
	if (mount_end(s))
		mount_detach(s);
	deadline = clock_mono_ns() + CUT_OFF_S * NS_PER_S;
	SCOPE_LOCK(&s->lock);
	while (s->running && !s->force)
		if (cond_wait_until(&s->cond, &s->lock, deadline)) {
			log_warn("programs still use %s: their files end with an error now",
				 s->mountpoint);
			force_exit_locked(s);
		}
	return NULL;
}

void session_exit(struct session *s)
{
	SCOPE_LOCK(&s->lock);

	if (s->exit_calls++ || s->unmounter_started) {
		force_exit_locked(s);
		return;
	}
	if (pthread_create(&s->unmounter, NULL, unmounter, s))
		force_exit_locked(s);
	else
		s->unmounter_started = 1;
}

static void wait_for_invals(struct session *s)
{
	SCOPE_LOCK(&s->lock);

	while (s->inval_calls)
		pthread_cond_wait(&s->cond, &s->lock);
}

/* Cuts the connection. Nobody serves the kernel any more, so threads of ours that are inside it
 * (unmounting, laundering) come back only then. 0, or -EBUSY: they will not come back. */
static int disconnect(struct session *s)
{
	int aborted = !mount_abort(s);

	mount_disconnect(s);
	SCOPE_LOCK(&s->lock);
	return aborted || !s->inval_calls ? 0 : -EBUSY;
}

void session_destroy(struct session *s)
{
	int unmounter_started;

	if (!s)
		return;
	volume_set_inval(s->v, NULL, NULL);
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->closing, 1);
	unmounter_started = s->unmounter_started;
	pthread_mutex_unlock(&s->lock);
	fuse_session_exit(s->se);
	volume_end_waits(s->v);
	if (disconnect(s) || park_drain(s)) {
		log_warn("the mount on %s could not be ended in good order", s->mountpoint);
		return; /* freeing under the hands of those threads would be worse than the leak */
	}
	fuse_session_unmount(s->se);
	if (unmounter_started)
		pthread_join(s->unmounter, NULL);
	workq_destroy(s->notifyq);
	workq_destroy(s->interruptq);
	wait_for_invals(s);
	fuse_session_destroy(s->se);
	writers_release(s);
	park_release(s);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->writers_lock);
	free(s->mountpoint);
	free(s);
}

int session_fd(const struct session *s)
{
	return fuse_session_fd(s->se);
}

unsigned session_parked(const struct session *s)
{
	return atomic_load(&s->n_parked);
}
