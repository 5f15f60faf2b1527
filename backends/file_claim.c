/* Binding a folder to a drive, and letting it go again. */
#include "backends/file_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/buf.h"
#include "fs/base/scope.h"

struct text_io {
	struct disk_io io;
	const char *text;
};

static int text_take(struct disk_io *io, uint64_t offset, void *p, size_t n)
{
	memcpy(p, container_of(io, struct text_io, io)->text + offset, n);
	return 0;
}

static int text_alive(struct disk_io *io)
{
	return 0;
}

/* 0 when nothing is in the folder but what a new filesystem and we ourselves put there. */
static int check_empty(struct disk *d, int root, struct err *e)
{
	int fd = openat(root, ".", DISK_DIR_FLAGS), rc = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *ent;

	if (!dir) {
		rc = disk_error(errno);
		if (fd >= 0)
			close(fd);
		return err_set(e, rc, "%s cannot be read: %s", d->root, strerror(-rc));
	}
	while (!rc && (ent = readdir(dir))) {
		static const char *const ignored[] = { ".", "..", "lost+found", DISK_HIDDEN };
		int known = 0;

		for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
			known |= strcmp(ent->d_name, ignored[i]) == 0;
		if (!known)
			rc = err_set(e, -EEXIST,
				     "%s is not empty (it holds \"%s\"): a backend needs an empty "
				     "folder of its own",
				     d->root, ent->d_name);
	}
	closedir(dir);
	return rc;
}

static int check_marker(struct disk *d, const char *found, const char *want, struct err *e)
{
	if (strcmp(found, want) == 0)
		return 0;
	return err_set(e, -EEXIST,
		       "%s belongs to another drive, or is another backend of this one: its "
		       "%s/drive says \"%.*s\"",
		       d->root, DISK_HIDDEN, (int)strcspn(found, "\n"), found);
}

int disk_claim(struct disk *d, const uint8_t drive[16], const uint8_t uuid[16], struct err *e)
{
	AUTO_CLOSE int root = -1;
	AUTO_CLOSE int dir = -1;
	AUTO_FREE void *step = malloc(DISK_STEP);
	char want[sizeof(d->marker)], found[sizeof(d->marker)];
	struct text_io t = { .io = { .take = text_take, .alive = text_alive, .step = step },
			     .text = want };
	int rc;

	if (!step)
		return err_set(e, -ENOMEM, "out of memory");
	disk_marker_text(want, sizeof(want), drive, uuid);
	root = open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0) {
		rc = errno == ENOENT || errno == ENOTDIR ? -ENODEV : disk_error(errno);
		return err_set(
		    e, rc,
		    "%s is not an accessible folder (%s): mount its disk, or create the folder",
		    d->root, strerror(errno));
	}
	rc = disk_marker_read(root, found, sizeof(found));
	if (rc == 0)
		return check_marker(d, found, want, e);
	if (rc != -ENOENT)
		return err_set(e, rc, "%s/%s/drive cannot be read: %s", d->root, DISK_HIDDEN,
			       strerror(-rc));
	rc = check_empty(d, root, e);
	if (rc)
		return rc;
	dir = disk_open_folder(d, root, DISK_HIDDEN, 1);
	rc = dir < 0 ? dir : disk_put_into(d, &t.io, root, dir, "drive", strlen(want), 1);
	/* Two drives may be created at the same time: who came first has it. */
	if (rc == -EEXIST && disk_marker_read(root, found, sizeof(found)) == 0)
		return check_marker(d, found, want, e);
	if (rc)
		return err_set(e, rc, "%s cannot be claimed for the drive: %s", d->root,
			       strerror(-rc));
	return 0;
}

/* Letting go. */

/* Ours below the root: folders that keys can have made. Not lost+found, nor what somebody else put
 * there. */
static int may_prune(const char *name)
{
	return backend_key_check(name) == 0;
}

/* Removes empty folders below fd, which is taken; with files != 0 regular files too. Whatever
 * cannot be removed stays. */
static void prune(int fd, int files)
{
	DIR *dir = fdopendir(fd);
	struct dirent *ent;

	if (!dir) {
		close(fd);
		return;
	}
	while ((ent = readdir(dir))) {
		int sub;

		if (!may_prune(ent->d_name))
			continue;
		if (files && ent->d_type == DT_REG) {
			unlinkat(fd, ent->d_name, 0);
			continue;
		}
		sub = openat(fd, ent->d_name, DISK_DIR_FLAGS);
		if (sub < 0)
			continue;
		prune(sub, files);
		unlinkat(fd, ent->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
}

int disk_unclaim(struct disk *d, const uint8_t drive[16], struct err *e)
{
	AUTO_CLOSE int root = open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char want[sizeof(d->marker)], found[sizeof(d->marker)];
	int rc, fd;

	if (root < 0)
		return err_set(e, disk_error(errno) == -ENOENT ? -ENODEV : disk_error(errno),
			       "%s is not accessible: %s", d->root, strerror(errno));
	rc = disk_marker_read(root, found, sizeof(found));
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return err_set(e, rc, "%s/%s/drive cannot be read: %s", d->root, DISK_HIDDEN,
			       strerror(-rc));
	/* Only the first line: which of the drive's backends it was does not matter now. */
	disk_marker_text(want, sizeof(want), drive, drive);
	if (strncmp(found, want, strcspn(want, "\n") + 1) != 0)
		return err_set(e, -EEXIST, "%s belongs to another drive", d->root);
	fd = openat(root, ".", DISK_DIR_FLAGS);
	if (fd >= 0)
		prune(fd, 0);
	fd = openat(root, DISK_HIDDEN "/tmp", DISK_DIR_FLAGS);
	if (fd >= 0)
		prune(fd, 1);
	/* The marker last, so that this can be repeated after a crash. */
	unlinkat(root, DISK_HIDDEN "/tmp", AT_REMOVEDIR);
	if (unlinkat(root, DISK_HIDDEN "/drive", 0))
		return err_set(e, disk_error(errno), "%s/%s/drive cannot be removed: %s", d->root,
			       DISK_HIDDEN, strerror(errno));
	unlinkat(root, DISK_HIDDEN, AT_REMOVEDIR);
	return fsync(root) ? err_set(e, disk_error(errno), "%s cannot be synced: %s", d->root,
				     strerror(errno))
			   : 0;
}
