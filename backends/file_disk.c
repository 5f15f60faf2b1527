#include "backends/file_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/base/buf.h"
#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

/* A temporary file this much older than a new one was left by a crash: no put lasts so long. */
#define TMP_OLD_S (24 * 3600)

int disk_error(int error)
{
	switch (error) {
	case EPERM:
	case EACCES:
	case EROFS:
		return -EACCES;
	case ENOSPC:
	case EDQUOT:
		return -ENOSPC;
	case ENODEV:
	case ENXIO:
	case ENOTCONN: /* a FUSE filesystem underneath whose daemon died */
	case EHOSTDOWN:
	case ESHUTDOWN:
		return -ENODEV;
	case EMFILE:
	case ENFILE:
	case EBUSY:
	case EAGAIN:
	case ESTALE: /* NFS: the server forgot the handle; the next try opens anew */
		return -EAGAIN;
	case ENAMETOOLONG:
		return -EINVAL;
	case ENOENT:
	case EEXIST:
	case ENOMEM:
	case ETIMEDOUT:
		return -error;
	default:
		return -EIO;
	}
}

/* The marker's text. Two lines that a person who finds the folder understands. */
void disk_marker_text(char *out, size_t n, const uint8_t drive[16], const uint8_t uuid[16])
{
	char d[33], u[33];

	hex_put(d, drive, 16);
	hex_put(u, uuid, 16);
	snprintf(out, n, "skyflok drive %s\nbackend %s\n", d, u);
}

int disk_init(struct disk *d, const char *root, const uint8_t *drive, const uint8_t *uuid)
{
	static const uint8_t none[16];

	memset(d, 0, sizeof(*d));
	d->root = strdup(root);
	if (!d->root)
		return -ENOMEM;
	if (drive)
		disk_marker_text(d->marker, sizeof(d->marker), drive, uuid ? uuid : none);
	pthread_mutex_init(&d->lock, NULL);
	return 0;
}

void disk_release(struct disk *d)
{
	for (size_t i = 0; i < d->nfolders; i++)
		free(d->folders[i]);
	free(d->folders);
	free(d->root);
	pthread_mutex_destroy(&d->lock);
}

/* What the marker holds, as text. 0 or a negative errno; -ENOENT: there is none. */
int disk_marker_read(int root, char *out, size_t size)
{
	AUTO_CLOSE int fd = -1;
	ssize_t n;

	fd = openat(root, DISK_HIDDEN "/drive", O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOTDIR ? -ENOENT : disk_error(errno);
	do
		n = read(fd, out, size - 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return disk_error(errno);
	out[n] = 0;
	return 0;
}

int disk_open_root(struct disk *d)
{
	char text[sizeof(d->marker)];
	int fd = open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	/* A folder that is not there is an unmounted disk, not an empty backend. */
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ENODEV : disk_error(errno);
	if (!d->marker[0])
		return fd;
	rc = disk_marker_read(fd, text, sizeof(text));
	if (rc == 0 && strcmp(text, d->marker) == 0)
		return fd;
	close(fd);
	/* No marker, or another drive's: the mount point of an unmounted disk, or exchanged
	 * folders. */
	return rc == 0 || rc == -ENOENT ? -ENODEV : rc;
}

/* Known folders: those whose own names are durable, so that a put need not sync their parents
 * again. */

static size_t folder_find_locked(const struct disk *d, const char *path)
{
	size_t lo = 0, hi = d->nfolders;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(d->folders[mid], path) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int folder_known(struct disk *d, const char *path)
{
	size_t i;

	SCOPE_LOCK(&d->lock);
	i = folder_find_locked(d, path);
	return i < d->nfolders && strcmp(d->folders[i], path) == 0;
}

/* Without memory it stays unknown, and is synced once more next time. */
static void folder_learn(struct disk *d, const char *path)
{
	size_t i;
	char *copy;

	SCOPE_LOCK(&d->lock);
	i = folder_find_locked(d, path);
	if (i < d->nfolders && strcmp(d->folders[i], path) == 0)
		return;
	if (d->nfolders == d->cap) {
		size_t cap = MAX(2 * d->cap, 64u);
		char **more = reallocarray(d->folders, cap, sizeof(*more));

		if (!more)
			return;
		d->folders = more;
		d->cap = cap;
	}
	copy = strdup(path);
	if (!copy)
		return;
	memmove(d->folders + i + 1, d->folders + i, (d->nfolders - i) * sizeof(*d->folders));
	d->folders[i] = copy;
	d->nfolders++;
}

/* One step down, from the folder `at` to its entry `name`, the whole path being `path`. */
static int step_down(struct disk *d, int at, const char *name, const char *path, int create)
{
	int fd = openat(at, name, DISK_DIR_FLAGS), rc;

	if (fd < 0 && errno == ENOENT && create) {
		if (mkdirat(at, name, 0700) && errno != EEXIST)
			return disk_error(errno);
		fd = openat(at, name, DISK_DIR_FLAGS);
	} else if (fd >= 0 && (!create || folder_known(d, path))) {
		return fd;
	}
	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP ? -ENOTDIR : disk_error(errno);
	/* New, or made by somebody who may not have come to this: its name has to be durable before
	 * what is put into it counts. */
	rc = failpoint("file.sync_dir");
	if (!rc && fsync(at))
		rc = disk_error(errno);
	if (rc) {
		close(fd);
		return rc;
	}
	folder_learn(d, path);
	return fd;
}

/* Opens the folder `path` (relative, "" for the root itself), step by step so that no link is
 * followed. -ENOENT; -ENOTDIR when something else stands in the way. */
int disk_open_folder(struct disk *d, int root, const char *path, int create)
{
	char part[BACKEND_KEY_MAX + 1];
	int fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
	size_t at = 0;

	if (fd < 0)
		return disk_error(errno);
	while (path[at]) {
		size_t end = at + strcspn(path + at, "/");
		int next;

		memcpy(part, path, end);
		part[end] = 0;
		next = step_down(d, fd, part + at, part, create);
		close(fd);
		if (next < 0)
			return next;
		fd = next;
		at = path[end] ? end + 1 : end;
	}
	return fd;
}

/* The folder that holds the key's object; *base is its name there. */
static int open_parent(struct disk *d, int root, const char *key, int create, const char **base)
{
	const char *slash = strrchr(key, '/');
	char path[BACKEND_KEY_MAX + 1];
	size_t n = slash ? (size_t)(slash - key) : 0;

	memcpy(path, key, n);
	path[n] = 0;
	*base = slash ? slash + 1 : key;
	return disk_open_folder(d, root, path, create);
}

/* Removes what crashes left behind; once per instance. By the disk's own clock: that of a file
 * server may differ from ours. */
static void sweep_tmp(struct disk *d, int tmp, time_t now)
{
	struct dirent *ent;
	DIR *dir;
	int fd;

	{
		SCOPE_LOCK(&d->lock);
		if (d->swept)
			return;
		d->swept = 1;
	}
	fd = openat(tmp, ".", DISK_DIR_FLAGS);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((ent = readdir(dir))) {
		struct stat st;

		if (ent->d_name[0] == '.' || fstatat(tmp, ent->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (S_ISREG(st.st_mode) && st.st_mtime < now - TMP_OLD_S)
			unlinkat(tmp, ent->d_name, 0);
	}
	closedir(dir);
}

/* A new file in tmp; its name into name[33]. */
static int tmp_create(struct disk *d, int tmp, char name[33])
{
	uint8_t id[16];
	struct stat st;
	int fd;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	hex_put(name, id, sizeof(id));
	fd = openat(tmp, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return disk_error(errno);
	if (fstat(fd, &st) == 0)
		sweep_tmp(d, tmp, st.st_mtime);
	return fd;
}

static int write_body(int fd, struct disk_io *io, uint64_t size)
{
	int rc = failpoint("file.write");

	/* Full disks show before anything is written, and large files get few pieces; where it is
	 * not supported, write(2) tells. */
	if (!rc && size >= DISK_STEP / 4 && fallocate(fd, 0, 0, (off_t)size) &&
	    (errno == ENOSPC || errno == EDQUOT))
		rc = -ENOSPC;
	for (uint64_t at = 0; !rc && at < size;) {
		size_t n = MIN(size - at, (uint64_t)DISK_STEP);

		rc = io->take(io, at, io->step, n);
		if (!rc) {
			rc = file_pwrite(fd, io->step, n, at);
			rc = rc ? disk_error(-rc) : 0;
		}
		at += n;
	}
	if (!rc)
		rc = failpoint("file.sync");
	if (!rc && fdatasync(fd))
		rc = disk_error(errno);
	return rc;
}

/* link(2) does not replace either. NFS may answer EEXIST to its own repetition: two links tell. */
static int place_by_link(int tmp, const char *name, int dir, const char *base)
{
	struct stat st;

	if (linkat(tmp, name, dir, base, 0) == 0)
		return 0;
	if (errno == EEXIST)
		return fstatat(tmp, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 2
			   ? 0
			   : -EEXIST;
	if (errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP || errno == EMLINK ||
	    errno == EINVAL)
		return -EOPNOTSUPP;
	return disk_error(errno);
}

/* Gives the synced temporary file its name. 0: it has it, and tmp/name may or may not be left. */
static int place(int tmp, const char *name, int dir, const char *base, int if_absent)
{
	int rc;

	if (!if_absent)
		rc = renameat(tmp, name, dir, base) ? disk_error(errno) : 0;
	else if (renameat2(tmp, name, dir, base, RENAME_NOREPLACE) == 0)
		rc = 0;
	else if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
		rc = place_by_link(tmp, name, dir, base);
	else
		rc = disk_error(errno);
	/* The folder was removed after it was opened. */
	return rc == -ENOENT ? -EAGAIN : rc;
}

int disk_put_into(struct disk *d, struct disk_io *io, int root, int dir, const char *base,
		  uint64_t size, int if_absent)
{
	AUTO_CLOSE int tmp = -1;
	AUTO_CLOSE int fd = -1;
	char name[33];
	int rc, synced;

	tmp = disk_open_folder(d, root, DISK_HIDDEN "/tmp", 1);
	if (tmp < 0)
		return tmp == -ENOTDIR ? -EIO : tmp;
	fd = tmp_create(d, tmp, name);
	if (fd < 0)
		return fd;
	rc = write_body(fd, io, size);
	/* Nobody waits any more: what would appear now, or in an hour when the disk wakes up, is
	 * not wanted. */
	if (!rc)
		rc = io->alive(io);
	if (!rc)
		rc = place(tmp, name, dir, base, if_absent);
	if (rc || if_absent)
		unlinkat(tmp, name, 0); /* after a rename there is none */
	/* "Exists already" has to be as durable as "stored". */
	if (rc == 0 || rc == -EEXIST) {
		synced = failpoint("file.sync_dir");
		if (!synced && fsync(dir))
			synced = disk_error(errno);
		if (synced)
			rc = synced;
	}
	if (rc == -EOPNOTSUPP) {
		log_error("%s: this filesystem has neither rename without replacing nor hard "
			  "links, which the drive needs",
			  d->root);
		rc = -EIO;
	}
	return rc;
}

int disk_put(struct disk *d, struct disk_io *io, const char *key, uint64_t size, int if_absent)
{
	AUTO_CLOSE int root = disk_open_root(d);
	AUTO_CLOSE int dir = -1;
	const char *base;

	if (root < 0)
		return root;
	dir = open_parent(d, root, key, 1, &base);
	if (dir < 0)
		return dir == -ENOTDIR ? -EINVAL : dir;
	return disk_put_into(d, io, root, dir, base, size, if_absent);
}

/* Opens the object. -ENOENT also where a folder or anything else has its name. */
static int open_object(struct disk *d, const char *key, struct stat *st)
{
	AUTO_CLOSE int root = disk_open_root(d);
	AUTO_CLOSE int dir = -1;
	const char *base;
	int fd;

	if (root < 0)
		return root;
	dir = open_parent(d, root, key, 0, &base);
	if (dir < 0)
		return dir == -ENOTDIR ? -ENOENT : dir;
	fd = openat(dir, base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -ENOENT : disk_error(errno);
	if (fstat(fd, st) || !S_ISREG(st->st_mode)) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

int disk_get(struct disk *d, struct disk_io *io, const char *key, uint64_t offset, uint64_t want,
	     uint64_t *got)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	int rc;

	*got = 0;
	fd = open_object(d, key, &st);
	if (fd < 0)
		return fd;
	rc = failpoint("file.read");
	while (!rc && *got < want) {
		size_t n = MIN(want - *got, (uint64_t)DISK_STEP);
		ssize_t r = pread(fd, io->step, n, (off_t)(offset + *got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			rc = disk_error(errno);
		else if (r == 0)
			break;
		else
			rc = io->give(io, *got, io->step, (size_t)r);
		if (!rc)
			*got += (uint64_t)r;
	}
	return rc;
}

int disk_head(struct disk *d, const char *key, uint64_t *size)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;

	fd = open_object(d, key, &st);
	if (fd < 0)
		return fd;
	*size = (uint64_t)st.st_size;
	return 0;
}

int disk_delete(struct disk *d, const char *key)
{
	AUTO_CLOSE int root = disk_open_root(d);
	AUTO_CLOSE int dir = -1;
	const char *base;

	if (root < 0)
		return root;
	dir = open_parent(d, root, key, 0, &base);
	if (dir < 0)
		return dir == -ENOENT || dir == -ENOTDIR ? 0 : dir;
	if (unlinkat(dir, base, 0))
		return errno == ENOENT || errno == EISDIR ? 0 : disk_error(errno);
	/* An object that comes back after a power cut would rise from the dead. Empty folders stay:
	 * removing them races with puts. */
	return fsync(dir) ? disk_error(errno) : 0;
}

int disk_space(struct disk *d, uint64_t *total, uint64_t *avail)
{
	AUTO_CLOSE int root = disk_open_root(d);
	struct statvfs v;

	if (root < 0)
		return root;
	if (fstatvfs(root, &v))
		return disk_error(errno);
	*total = (uint64_t)v.f_blocks * v.f_frsize;
	*avail = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}
