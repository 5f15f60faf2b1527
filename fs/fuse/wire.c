/* The two hooks between libfuse and /dev/fuse. libfuse 3.14 silently drops two INIT flags that cost
 * a factor of three to five when missing (performance.md 0.1, 0.2), and does not tell operations
 * which callers must lose setuid bits; both stand in the bytes that pass here. */
#include "fs/fuse/fuse_internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>

#include "fs/base/log.h"

#define WANT_EXTRA (FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2)

/* FATTR_KILL_SUIDGID of newer kernel headers. */
#define SETATTR_KILL_SUIDGID (1u << 11)

/* A request is read and handled by the same thread, so this needs no lock and no table. */
static _Thread_local int thread_kill_priv;

int wire_kill_priv(void)
{
	return thread_kill_priv;
}

/* Copies the fixed part behind the header; 0 when the request is too short to have one. */
static int body_get(void *out, size_t size, const uint8_t *req, size_t n)
{
	if (n < sizeof(struct fuse_in_header) + size)
		return 0;
	memcpy(out, req + sizeof(struct fuse_in_header), size);
	return 1;
}

static void note_init(struct session *s, uint64_t unique, const uint8_t *req, size_t n)
{
	struct {
		uint32_t major, minor, max_readahead, flags;
	} in;

	if (!body_get(&in, sizeof(in), req, n))
		return;
	s->init_unique = unique;
	s->init_offered = in.major == FUSE_KERNEL_VERSION ? in.flags : 0;
}

static void note_request(struct session *s, const uint8_t *req, size_t n)
{
	struct fuse_in_header h;
	struct fuse_write_in write;
	struct fuse_open_in open;
	struct fuse_create_in create;
	uint32_t valid;

	thread_kill_priv = 0;
	memcpy(&h, req, sizeof(h));
	switch (h.opcode) {
	case FUSE_INIT:
		note_init(s, h.unique, req, n);
		break;
	case FUSE_WRITE:
		if (body_get(&write, sizeof(write), req, n))
			thread_kill_priv = !!(write.write_flags & FUSE_WRITE_KILL_SUIDGID);
		break;
	case FUSE_OPEN:
		if (body_get(&open, sizeof(open), req, n))
			thread_kill_priv = !!(open.open_flags & FUSE_OPEN_KILL_SUIDGID);
		break;
	case FUSE_CREATE:
		if (body_get(&create, sizeof(create), req, n))
			thread_kill_priv = !!(create.open_flags & FUSE_OPEN_KILL_SUIDGID);
		break;
	case FUSE_SETATTR:
		if (body_get(&valid, sizeof(valid), req, n))
			thread_kill_priv = !!(valid & SETATTR_KILL_SUIDGID);
		break;
	default:
		break;
	}
}

/* The only place where a serving thread may be cancelled (session_exit, second call): it holds
 * nothing here. */
static ssize_t wire_read(int fd, void *buf, size_t len, void *userdata)
{
	int old;
	ssize_t n;

	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
	n = read(fd, buf, len);
	pthread_setcancelstate(old, NULL);
	if (n >= (ssize_t)sizeof(struct fuse_in_header))
		note_request(userdata, buf, (size_t)n);
	return n;
}

static int is_init_reply(const struct session *s, const struct iovec *iov, int count)
{
	struct fuse_out_header h;

	if (s->init_done || !s->init_unique || count != 2 || iov[0].iov_len != sizeof(h) ||
	    iov[1].iov_len < offsetof(struct fuse_init_out, max_background))
		return 0;
	memcpy(&h, iov[0].iov_base, sizeof(h));
	return h.unique == s->init_unique && !h.error;
}

static ssize_t wire_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct session *s = userdata;
	struct fuse_init_out *out;
	ssize_t n;

	if (!is_init_reply(s, iov, count))
		return writev(fd, iov, count);
	/* Only what this kernel offered: an unknown bit in the reply is ignored by the kernel, but
	 * init_extra says which duties are ours. */
	s->init_extra = s->init_offered & WANT_EXTRA;
	out = iov[1].iov_base; /* do_init's own struct: ours to change */
	out->flags |= s->init_extra;
	n = writev(fd, iov, count);
	if (n < 0)
		return n;
	s->init_done = 1;
	log_debug("kernel offers FUSE flags %#x, we added %#x", s->init_offered, s->init_extra);
	/* The kernel has taken the reply in when writev returns, so its own settings of the BDI are
	 * done and ours stay. */
	bdi_tune(s);
	if (s->o.on_init)
		s->o.on_init(s->o.on_init_arg);
	return n;
}

const struct fuse_custom_io wire_io = { .read = wire_read, .writev = wire_writev };
