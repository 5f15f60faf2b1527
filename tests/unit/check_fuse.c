/* fs/fuse on a real mount over a volume of a few files that do as they are told: answer at once,
 * late, when cancelled, or not until asked. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/scope.h"
#include "fs/data/volume.h"
#include "fs/fuse/session.h"

/* ---- the volume ---- */

enum { ROOT = 1, FAST, LATE, HANG, SYNC_CANCEL, WRITES, N_INO };
static const char *const names[] = { "", "", "fast", "late", "hang", "sync_cancel", "writes" };
#define CONTENT "the content of a file\n"

struct read_op {
	struct volume *v;
	void (*done)(void *arg, int result);
	void *arg;
	void *buf;
	size_t *got;
	int ended;
};

struct volume {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct read_op *late;                      /* waiting to be answered by answer_thread */
	struct read_op *hanging[64];               /* until cancelled */
	void (*fsync_done)(void *arg, int result); /* by lock: a hanging fsync */
	void *fsync_arg;                           /* by lock */
	/* Read by tests that know by way of the kernel that they are done. */
	atomic_int n_hanging, cancels, reads, ends, stop, mode, throttle;
	atomic_uint last_writer; /* its uid */
	char trace[256];         /* by lock: w(rite), s(eek), ... in order */
	void (*inval)(void *arg, uint64_t ino, int64_t off, int64_t len);
	void *inval_arg;
	atomic_long forgets, lookups;
} vol;

static void trace(char c)
{
	SCOPE_LOCK(&vol.lock);
	size_t n = strlen(vol.trace);

	if (n + 1 < sizeof(vol.trace))
		vol.trace[n] = c;
}

static void stat_fill(struct stat *st, uint64_t ino)
{
	*st = (struct stat){ .st_ino = ino,
			     .st_nlink = 1,
			     .st_mode = ino == ROOT ? S_IFDIR | 0777 : S_IFREG | 0666 };
	if (ino == WRITES && vol.mode)
		st->st_mode = S_IFREG | (mode_t)vol.mode;
	st->st_size = ino == ROOT ? 0 : (off_t)strlen(CONTENT);
	st->st_mtim.tv_sec = 1000;
}

int volume_lookup(struct volume *v, uint64_t parent, const char *name, struct entry *out)
{
	for (uint64_t i = FAST; i < N_INO; i++)
		if (!strcmp(names[i], name)) {
			stat_fill(&out->st, i);
			v->lookups++;
			return 0;
		}
	return strlen(name) > 255 ? -ENAMETOOLONG : -ENOENT;
}
void volume_forget(struct volume *v, uint64_t ino, uint64_t count)
{
	v->forgets += (long)count;
}
int volume_getattr(struct volume *v, uint64_t ino, struct stat *out)
{
	stat_fill(out, ino);
	return 0;
}
int volume_setattr(struct volume *v, uint64_t ino, const struct stat *st, int set,
		   const struct cred *cred, struct stat *out)
{
	stat_fill(out, ino);
	return 0;
}
int volume_readdir(struct volume *v, uint64_t ino, uint64_t cookie, int plus,
		   int (*emit)(void *arg, const struct volume_dirent *d), void *arg)
{
	for (uint64_t c = cookie + 1; c < 2 + N_INO - 1; c++) {
		struct stat st;
		struct volume_dirent d = { .cookie = c,
					   .ino = c <= 2 ? ROOT : c - 1,
					   .type = c <= 2 ? S_IFDIR : S_IFREG };

		d.name = c == 1 ? "." : c == 2 ? ".." : names[c - 1];
		stat_fill(&st, d.ino);
		d.st = plus ? &st : NULL;
		if (emit(arg, &d))
			return 0;
		if (plus && c > 2)
			v->lookups++;
	}
	return 0;
}
int volume_open(struct volume *v, uint64_t ino, int flags)
{
	return 0;
}
void volume_release(struct volume *v, uint64_t ino)
{
}

static void read_end(struct read_op *op, int rc)
{
	if (!rc) {
		memcpy(op->buf, CONTENT, strlen(CONTENT));
		*op->got = strlen(CONTENT);
	}
	vol.ends++;
	op->done(op->arg, rc);
	free(op);
}

int volume_read(struct volume *v, uint64_t ino, uint64_t off, void *buf, size_t len, size_t *got,
		struct read_op **op, void (*done)(void *arg, int result), void *arg)
{
	struct read_op *r;

	v->reads++;
	if (off || ino == FAST || ino == WRITES) {
		*got = off ? 0 : strlen(CONTENT);
		memcpy(buf, CONTENT, *got);
		return 0;
	}
	r = calloc(1, sizeof(*r));
	*r = (struct read_op){ .v = v, .done = done, .arg = arg, .buf = buf, .got = got };
	*op = r;
	SCOPE_LOCK(&v->lock);
	if (ino == LATE)
		v->late = r;
	else
		v->hanging[v->n_hanging++] = r;
	r->ended = ino == SYNC_CANCEL ? 2 : 0;
	pthread_cond_broadcast(&v->cond);
	return -EINPROGRESS;
}

void volume_read_cancel(struct volume *v, struct read_op *op)
{
	int now = 0;

	pthread_mutex_lock(&v->lock);
	v->cancels++;
	for (int i = 0; i < v->n_hanging; i++)
		if (v->hanging[i] == op) {
			v->hanging[i] = v->hanging[--v->n_hanging];
			now = op->ended == 2;
			if (!now) {
				op->ended = 1;
				v->late = op;
			}
			break;
		}
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	if (now)
		read_end(op, -EINTR);
}

/* Answers what is late, 700 ms after it came, and what was cancelled, at once. */
static void *answer_thread(void *arg)
{
	struct volume *v = arg;

	pthread_mutex_lock(&v->lock);
	while (!v->stop) {
		struct read_op *r = v->late;

		if (!r) {
			pthread_cond_wait(&v->cond, &v->lock);
			continue;
		}
		v->late = NULL;
		pthread_mutex_unlock(&v->lock);
		if (!r->ended)
			usleep(700000);
		read_end(r, r->ended ? -EINTR : 0);
		pthread_mutex_lock(&v->lock);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static void fsync_hangs(struct volume *v, void (*done)(void *arg, int result), void *arg)
{
	SCOPE_LOCK(&v->lock);

	v->fsync_done = done, v->fsync_arg = arg;
}

/* Answers what hangs. */
static void fsync_end(void)
{
	void (*done)(void *arg, int result);
	void *arg;

	pthread_mutex_lock(&vol.lock);
	done = vol.fsync_done, arg = vol.fsync_arg;
	vol.fsync_done = NULL;
	pthread_mutex_unlock(&vol.lock);
	done(arg, 0);
}

int volume_write(struct volume *v, uint64_t ino, uint64_t off, const void *buf, size_t len,
		 int from_cache, const struct cred *cred, void (*done)(void *arg, int result),
		 void *arg)
{
	trace('w');
	if (!from_cache)
		v->last_writer = cred->uid;
	if (!v->throttle)
		return 0;
	fsync_hangs(v, done, arg);
	return -EINPROGRESS;
}
int volume_fsync(struct volume *v, uint64_t ino, int datasync, void (*done)(void *arg, int result),
		 void *arg)
{
	trace('f');
	if (ino != HANG)
		return 0;
	fsync_hangs(v, done, arg);
	return -EINPROGRESS;
}
int volume_lseek(struct volume *v, uint64_t ino, uint64_t off, int whence, uint64_t *out)
{
	trace('s');
	*out = whence == SEEK_DATA ? off : strlen(CONTENT);
	return 0;
}
int volume_statfs(struct volume *v, struct statvfs *out)
{
	*out = (struct statvfs){
		.f_bsize = 4096, .f_frsize = 4096, .f_blocks = 100, .f_namemax = 255
	};
	return 0;
}
int volume_getxattr(struct volume *v, uint64_t ino, const char *name, void *value, size_t cap,
		    size_t *n)
{
	return -ENODATA;
}
int volume_listxattr(struct volume *v, uint64_t ino, char *list, size_t cap, size_t *n)
{
	static const char all[] = "user.a\0trusted.b\0user.c";

	memcpy(list, all, sizeof(all));
	*n = sizeof(all);
	return 0;
}
void volume_set_inval(struct volume *v,
		      void (*inval)(void *arg, uint64_t ino, int64_t off, int64_t len), void *arg)
{
	v->inval = inval, v->inval_arg = arg;
}

void volume_end_waits(struct volume *v)
{
}

/* What these tests do not use. */
#define UNUSED(name, ...)                                                                          \
	int name(struct volume *v, __VA_ARGS__)                                                    \
	{                                                                                          \
		return -EIO;                                                                       \
	}
UNUSED(volume_mknod, uint64_t p, const char *n, mode_t m, dev_t d, const struct cred *c,
       struct entry *o)
UNUSED(volume_mkdir, uint64_t p, const char *n, mode_t m, const struct cred *c, struct entry *o)
UNUSED(volume_symlink, uint64_t p, const char *n, const char *t, const struct cred *c,
       struct entry *o)
UNUSED(volume_readlink, uint64_t i, char *t, size_t c)
UNUSED(volume_link, uint64_t i, uint64_t p, const char *n, struct entry *o)
UNUSED(volume_unlink, uint64_t p, const char *n)
UNUSED(volume_rmdir, uint64_t p, const char *n)
UNUSED(volume_rename, uint64_t p, const char *n, uint64_t np, const char *nn, unsigned f,
       void (*done)(void *arg, int result), void *arg)
UNUSED(volume_fallocate, uint64_t i, int m, uint64_t o, uint64_t l, const struct cred *c)
UNUSED(volume_copy_range, uint64_t i, uint64_t oi, uint64_t o, uint64_t oo, uint64_t l, uint64_t *n,
       const struct cred *c)
UNUSED(volume_setxattr, uint64_t i, const char *n, const void *p, size_t s, int f,
       const struct cred *c)
UNUSED(volume_removexattr, uint64_t i, const char *n, const struct cred *c)

/* ---- the mount ---- */

static char mnt[64];
static struct session *session;
static pthread_t loop_tid, answer_tid;
static atomic_int inited;
static int loop_rc = -1;

static void on_init(void *arg)
{
	inited = 1;
}

static void *loop(void *arg)
{
	loop_rc = session_loop(session);
	return NULL;
}

static void wait_until(int64_t ms, int (*is)(void), const char *what)
{
	int64_t end = clock_mono_ns() + ms * NS_PER_MS;

	while (!is()) {
		ck_assert_msg(clock_mono_ns() < end, "not in time: %s", what);
		usleep(1000);
	}
}
static int is_inited(void)
{
	return inited;
}
static int is_hanging(void)
{
	return vol.n_hanging > 0;
}

static int is_parked(void)
{
	return is_hanging() && session_parked(session) == 1;
}
static int is_fsyncing(void)
{
	SCOPE_LOCK(&vol.lock);

	return vol.fsync_done != NULL;
}

static void path_of(char out[512], const char *name)
{
	snprintf(out, 512, "%s/%s", mnt, name);
}

static int file_open(const char *name, int flags)
{
	char path[512];
	int fd;

	path_of(path, name);
	fd = open(path, flags);
	ck_assert_msg(fd >= 0, "open %s: %s", path, strerror(errno));
	return fd;
}

static void mount_with(struct session_opts *o)
{
	struct err e = { 0 };

	o->mountpoint = mnt, o->volume = &vol, o->name = "a,b\\c";
	o->on_init = on_init;
	ck_assert_msg(!session_create(o, &session, &e), "%s", e.text);
	ck_assert(!pthread_create(&answer_tid, NULL, answer_thread, &vol));
	ck_assert(!pthread_create(&loop_tid, NULL, loop, NULL));
	wait_until(5000, is_inited, "INIT");
}

static char mnt_prefix[32];

/* A test that failed or was killed leaves its mount, at which others would hang. */
static void clean_up(void)
{
	char line[1024], path[512];
	FILE *f = fopen("/proc/self/mounts", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %511s", path) == 1 &&
		    !strncmp(path, mnt_prefix, strlen(mnt_prefix))) {
			umount2(path, MNT_FORCE | MNT_DETACH);
			rmdir(path);
		}
	if (f)
		fclose(f);
}

static void setup(void)
{
	snprintf(mnt, sizeof(mnt), "%s-XXXXXX", mnt_prefix);
	ck_assert(mkdtemp(mnt));
	pthread_mutex_init(&vol.lock, NULL);
	pthread_cond_init(&vol.cond, NULL);
}

static void end_loop_and_all(void)
{
	pthread_join(loop_tid, NULL);
	ck_assert_int_eq(loop_rc, 0);
	session_destroy(session);
	ck_assert_ptr_null(vol.inval);
	pthread_mutex_lock(&vol.lock);
	vol.stop = 1;
	pthread_cond_broadcast(&vol.cond);
	pthread_mutex_unlock(&vol.lock);
	pthread_join(answer_tid, NULL);
	ck_assert_int_eq(rmdir(mnt), 0); /* also: it is not mounted any more */
}

static void unmount_all(void)
{
	ck_assert_msg(!umount2(mnt, 0), "umount: %s", strerror(errno));
	end_loop_and_all();
}

static void mount_default(void)
{
	struct session_opts o;

	session_opts_default(&o);
	o.kernel_options = "allow_other";
	mount_with(&o);
}

/* ---- tests ---- */

START_TEST(reads_and_lists)
{
	char path[512], buf[64], list[64], line[512];
	struct dirent *e;
	struct stat st;
	int fd, n = 0, found = 0;
	DIR *d;
	FILE *f;

	mount_default();
	fd = file_open("fast", O_RDONLY);
	ck_assert_int_eq(read(fd, buf, sizeof(buf)), strlen(CONTENT));
	close(fd);
	fd = file_open("late", O_RDONLY);
	ck_assert_int_eq(read(fd, buf, sizeof(buf)), strlen(CONTENT));
	ck_assert(!memcmp(buf, CONTENT, strlen(CONTENT)));
	close(fd);
	for (int i = 0; i < 2; i++) {
		d = opendir(mnt);
		for (n = 0; (e = readdir(d)); n++) {
			path_of(path, e->d_name);
			ck_assert(e->d_name[0] == '.' ||
				  (!stat(path, &st) && st.st_ino == e->d_ino));
		}
		closedir(d);
		ck_assert_int_eq(n, 2 + N_INO - FAST);
	}
	path_of(path, "none");
	ck_assert(stat(path, &st) == -1 && errno == ENOENT);
	path_of(path, "fast");
	ck_assert_int_eq(listxattr(path, list, sizeof(list)), 24);
	/* Comma and backslash in the name survive every layer of option parsing. */
	f = fopen("/proc/self/mounts", "r");
	while (fgets(line, sizeof(line), f))
		found |= strstr(line, mnt) && strstr(line, "skyflok:a,b\\134c ") &&
			 strstr(line, "fuse.skyflok");
	fclose(f);
	ck_assert(found);
	unmount_all();
	ck_assert_int_eq(vol.cancels, 0);
}
END_TEST

START_TEST(presents_owner)
{
	struct session_opts o;
	struct stat st;
	char path[512];

	session_opts_default(&o);
	o.uid = 123, o.gid = 456, o.umask = 027;
	o.writeback = 0;
	mount_with(&o);
	path_of(path, "fast");
	ck_assert(!stat(path, &st));
	ck_assert(st.st_uid == 123 && st.st_gid == 456 && (st.st_mode & 07777) == 0750);
	unmount_all();
}
END_TEST

/* A child that a signal ends: Check's own handlers, inherited, would end the whole group. */
static pid_t fork_plain(void)
{
	pid_t pid = fork();

	if (!pid) {
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		/* Else the mount lives as long as a child that hangs in it. */
		close(session_fd(session));
	}
	return pid;
}

/* O_DIRECT: a request of its own that the reader waits for. Of a read through the page cache the
 * reader waits for the page only, and can always be killed. */
static pid_t reader_of(const char *name)
{
	pid_t pid = fork_plain();
	char buf[64];
	int fd;

	if (pid)
		return pid;
	fd = file_open(name, O_RDONLY | O_DIRECT);
	_exit(read(fd, buf, sizeof(buf)) < 0 ? 1 : 0);
}

static int64_t reap_ms(pid_t pid, int *status)
{
	int64_t start = clock_mono_ns();

	ck_assert_int_eq(waitpid(pid, status, 0), pid);
	return (clock_mono_ns() - start) / NS_PER_MS;
}

static void kill_reader(const char *name, int sig)
{
	pid_t pid;
	int status;

	pid = reader_of(name);
	wait_until(5000, is_parked, "the read hangs");
	kill(pid, sig);
	ck_assert_int_lt(reap_ms(pid, &status), 3000);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == sig);
}

/* A hanging read does not make its process immortal. */
START_TEST(hanging_read_dies)
{
	mount_default();
	kill_reader("hang", SIGKILL);
	ck_assert_int_eq(vol.cancels, 1);
	kill_reader("hang", SIGTERM);
	ck_assert_int_eq(vol.cancels, 2);
	kill_reader("sync_cancel", SIGINT);
	ck_assert_int_eq(vol.cancels, 3);
	ck_assert_int_eq(vol.ends, 3);
	unmount_all();
}
END_TEST

static void on_alarm(int sig)
{
}

/* A timer's signal does not make read(2) of a file fail. */
START_TEST(timer_does_not_interrupt)
{
	struct itimerval t = { { 0, 50000 }, { 0, 50000 } };
	struct sigaction sa = { .sa_handler = on_alarm };
	char buf[64];
	int fd;

	mount_default();
	fd = file_open("late", O_RDONLY);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	ck_assert_int_eq(read(fd, buf, sizeof(buf)), strlen(CONTENT));
	t = (struct itimerval){ 0 };
	setitimer(ITIMER_REAL, &t, NULL);
	close(fd);
	ck_assert_int_eq(vol.cancels, 0);
	unmount_all();
}
END_TEST

/* Who is killed in a hanging fsync, or in a write that is slowed down, goes at once; the volume's
 * answer later finds nobody, and nothing breaks. */
START_TEST(hanging_fsync_dies)
{
	pid_t pid;
	int status, fd;

	mount_default();
	pid = fork_plain();
	if (!pid)
		_exit(fsync(file_open("hang", O_RDWR)) ? 1 : 0);
	wait_until(5000, is_fsyncing, "the fsync hangs");
	usleep(50000);
	kill(pid, SIGTERM);
	ck_assert_int_lt(reap_ms(pid, &status), 3000);
	ck_assert(WIFSIGNALED(status));
	fsync_end();
	vol.throttle = 1;
	pid = fork_plain();
	if (!pid) {
		fd = file_open("writes", O_WRONLY | O_DIRECT);
		_exit(write(fd, "x", 1) == 1 ? 0 : 1);
	}
	wait_until(5000, is_fsyncing, "the write hangs");
	usleep(50000);
	kill(pid, SIGKILL);
	ck_assert_int_lt(reap_ms(pid, &status), 3000);
	vol.throttle = 0;
	fsync_end();
	unmount_all();
}
END_TEST

/* SEEK_DATA on a file that somebody writes: the dirty page comes first. */
START_TEST(seek_launders)
{
	char *w, *s;
	int fd;

	mount_default();
	fd = file_open("writes", O_RDWR);
	ck_assert_int_eq(pwrite(fd, "dirty", 5, 0), 5);
	ck_assert_int_eq(lseek(fd, 0, SEEK_DATA), 0);
	pthread_mutex_lock(&vol.lock);
	w = strchr(vol.trace, 'w'), s = strchr(vol.trace, 's');
	ck_assert_msg(w && s && w < s, "order: %s", vol.trace);
	pthread_mutex_unlock(&vol.lock);
	close(fd);
	unmount_all();
}
END_TEST

/* The volume learns who may keep setuid bits, and the kernel that they went. */
START_TEST(kills_set_id)
{
	char path[512];
	struct stat st;
	pid_t pid;
	int fd, status;

	vol.mode = 06777;
	mount_default();
	path_of(path, "writes");
	ck_assert(!stat(path, &st) && (st.st_mode & 07777) == 06777);
	fd = file_open("writes", O_WRONLY | O_DIRECT);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	ck_assert_int_eq(vol.last_writer, 0);
	close(fd);
	fd = file_open("writes", O_WRONLY);
	vol.last_writer = 0;
	pid = fork_plain();
	if (!pid) {
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(1);
		_exit(write(fd, "y", 1) == 1 ? 0 : 2);
	}
	reap_ms(pid, &status);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(vol.last_writer, 65534);
	vol.mode = 0777; /* what a volume does */
	close(fd);
	unmount_all();
}
END_TEST

/* Through a mount that a process still uses: flushed, detached, cut off after 5 s. */
START_TEST(exit_while_busy)
{
	int64_t start;
	char buf[8];
	int fd;

	mount_default();
	fd = file_open("writes", O_RDWR);
	ck_assert_int_eq(pwrite(fd, "dirty", 5, 0), 5);
	start = clock_mono_ns();
	session_exit(session);
	end_loop_and_all();
	ck_assert(strchr(vol.trace, 'w'));
	ck_assert_int_lt((clock_mono_ns() - start) / NS_PER_MS, 10000);
	ck_assert(pread(fd, buf, 1, 4096) <= 0);
	close(fd);
}
END_TEST

/* Nobody uses it: at once. */
START_TEST(exit_while_idle)
{
	int64_t start = clock_mono_ns();

	mount_default();
	session_exit(session);
	end_loop_and_all();
	ck_assert_int_lt((clock_mono_ns() - start) / NS_PER_MS, 3000);
}
END_TEST

/* Twice: at once, whatever hangs. */
START_TEST(exit_twice)
{
	int64_t start;
	pid_t pid;
	int status;

	mount_default();
	pid = reader_of("hang");
	wait_until(5000, is_hanging, "the read hangs");
	start = clock_mono_ns();
	session_exit(session);
	session_exit(session);
	end_loop_and_all();
	ck_assert_int_lt((clock_mono_ns() - start) / NS_PER_MS, 4000);
	ck_assert_int_eq(vol.ends, 1);
	reap_ms(pid, &status);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}
END_TEST

static void refuses(const char *where, int code, const char *text, struct session_opts *o)
{
	struct err e = { 0 };
	int rc;

	o->mountpoint = where, o->volume = &vol;
	rc = session_create(o, &session, &e);
	ck_assert_msg(rc == code, "%s: %d %s", where, rc, e.text);
	ck_assert_msg(strstr(e.text, text) != NULL, "%s", e.text);
	ck_assert_ptr_null(session);
}

START_TEST(sentences)
{
	struct session_opts o;
	char path[512];

	session_opts_default(&o);
	refuses("/nonexistent/folder", -ENOENT, "does not exist", &o);
	refuses("/etc/hostname", -ENOTDIR, "not a folder", &o);
	refuses("/etc", -ENOTEMPTY, "nonempty", &o);
	o.threads = 65;
	refuses(mnt, -EINVAL, "1 to 64", &o);
	o.threads = 6;
	o.kernel_options = "no_such_option";
	refuses(mnt, -EINVAL, "no_such_option", &o);
	o.kernel_options = NULL;
	/* nonempty lets it through. */
	path_of(path, "hidden");
	close(open(path, O_CREAT | O_WRONLY, 0600));
	refuses(mnt, -ENOTEMPTY, "not empty", &o);
	o.nonempty = 1;
	mount_with(&o);
	ck_assert(access(path, F_OK) == -1);
	ck_assert(!umount2(mnt, 0));
	pthread_join(loop_tid, NULL);
	session_destroy(session);
	ck_assert(!unlink(path) && !rmdir(mnt));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fuse");
	TCase *t = tcase_create("mount");
	SRunner *r;
	int failed;

	if (geteuid() || access("/dev/fuse", R_OK | W_OK)) {
		puts("skipped: needs root and /dev/fuse");
		return 77;
	}
	snprintf(mnt_prefix, sizeof(mnt_prefix), "/tmp/check_fuse-%d", (int)getpid());
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_set_timeout(t, 40);
	tcase_add_test(t, reads_and_lists);
	tcase_add_test(t, presents_owner);
	tcase_add_test(t, hanging_read_dies);
	tcase_add_test(t, timer_does_not_interrupt);
	tcase_add_test(t, hanging_fsync_dies);
	tcase_add_test(t, seek_launders);
	tcase_add_test(t, kills_set_id);
	tcase_add_test(t, exit_while_busy);
	tcase_add_test(t, exit_while_idle);
	tcase_add_test(t, exit_twice);
	tcase_add_test(t, sentences);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	clean_up();
	return failed ? 1 : 0;
}
