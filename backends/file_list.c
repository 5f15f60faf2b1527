/* LIST over folders: depth first, in the order of the keys, one page at a time. */
#include "backends/file_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/scope.h"

#define PAGE 1000

struct walk {
	struct disk_io *io;
	const char *prefix, *token; /* token NULL: from the start */
	size_t prefix_len;
	char path[BACKEND_KEY_MAX + 2]; /* of the folder, with the slash behind; "" for the root */
	struct backend_entry *entries;
	size_t n;
	int more; /* the page is full and there is at least one more */
};

/* A folder's name has its slash behind, because that is how it sorts among the keys: "a-b" < "a/c"
 * < "a0". */
struct name {
	char *text;
	int is_folder;
};

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static void names_free(struct name *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i].text);
	free(names);
}

/* 1 folder, 0 file, -1 neither, or gone. */
static int kind_of(int fd, const struct dirent *ent)
{
	struct stat st;

	if (ent->d_type == DT_DIR)
		return 1;
	if (ent->d_type == DT_REG)
		return 0;
	if (ent->d_type != DT_UNKNOWN || fstatat(fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW))
		return -1;
	return S_ISDIR(st.st_mode) ? 1 : S_ISREG(st.st_mode) ? 0 : -1;
}

/* 1 when keys under this path can be wanted: they agree with the prefix and are not all before the
 * token. */
static int folder_wanted(const struct walk *w, const char *path)
{
	size_t len = strlen(path);

	if (strncmp(path, w->prefix, MIN(len, w->prefix_len)) != 0)
		return 0;
	return !w->token || strcmp(path, w->token) > 0 || strncmp(path, w->token, len) == 0;
}

static int file_wanted(const struct walk *w, const char *path)
{
	if (strncmp(path, w->prefix, w->prefix_len) != 0)
		return 0;
	return !w->token || strcmp(path, w->token) > 0;
}

/* w->path ‖ name when that is a key, or the beginning of one, that is wanted. */
static int name_wanted(struct walk *w, const char *name, int is_folder)
{
	char path[BACKEND_KEY_MAX + 2];
	size_t len = strlen(w->path), add = strlen(name);

	/* What begins with a dot is ours or the system's; other names that are no keys were not put
	 * there by us. */
	if (name[0] == '.' || len + add + (size_t)is_folder > BACKEND_KEY_MAX || strchr(name, '/'))
		return 0;
	memcpy(path, w->path, len);
	memcpy(path + len, name, add + 1);
	if (backend_key_check(path))
		return 0;
	if (!is_folder)
		return file_wanted(w, path);
	path[len + add] = '/';
	path[len + add + 1] = 0;
	return folder_wanted(w, path);
}

/* The wanted names of a folder, sorted. Takes fd. */
static int names_read(struct walk *w, int fd, struct name **out, size_t *count)
{
	DIR *dir = fdopendir(fd);
	struct name *names = NULL;
	size_t n = 0, cap = 0;
	struct dirent *ent;
	int rc = 0;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	for (;;) {
		int kind;
		size_t len;

		errno = 0;
		ent = readdir(dir);
		if (!ent) {
			rc = errno ? disk_error(errno) : 0;
			break;
		}
		kind = kind_of(fd, ent);
		if (kind < 0 || !name_wanted(w, ent->d_name, kind))
			continue;
		if (n == cap) {
			struct name *more;

			cap = MAX(2 * cap, 64u);
			more = reallocarray(names, cap, sizeof(*names));
			if (!more) {
				rc = -ENOMEM;
				break;
			}
			names = more;
		}
		len = strlen(ent->d_name);
		names[n].text = malloc(len + 2);
		if (!names[n].text) {
			rc = -ENOMEM;
			break;
		}
		memcpy(names[n].text, ent->d_name, len);
		memcpy(names[n].text + len, kind ? "/" : "", kind ? 2 : 1);
		names[n++].is_folder = kind;
	}
	closedir(dir);
	if (rc) {
		names_free(names, n);
		return rc;
	}
	if (n)
		qsort(names, n, sizeof(*names), by_text);
	*out = names;
	*count = n;
	return 0;
}

static int add_file(struct walk *w, int fd, const char *name)
{
	struct backend_entry *e;
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : disk_error(errno);
	if (!S_ISREG(st.st_mode))
		return 0;
	if (w->n == PAGE) {
		w->more = 1;
		return 0;
	}
	e = &w->entries[w->n++];
	/* name_wanted saw that it fits. */
	memcpy(e->key, w->path, strlen(w->path));
	memcpy(e->key + strlen(w->path), name, strlen(name) + 1);
	e->size = (uint64_t)st.st_size;
	return 0;
}

/* Takes fd. The depth is bounded by the length of keys. */
static int walk_folder(struct walk *w, int fd)
{
	AUTO_CLOSE int at = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	size_t len = strlen(w->path), n = 0;
	struct name *names = NULL;
	int rc = names_read(w, fd, &names, &n);

	if (!rc && at < 0)
		rc = -EAGAIN; /* out of descriptors */
	for (size_t i = 0; !rc && !w->more && i < n; i++) {
		size_t add;
		int sub;

		if (!names[i].is_folder) {
			rc = add_file(w, at, names[i].text);
			continue;
		}
		rc = w->io->alive(w->io);
		if (rc)
			break;
		/* Without the slash: with it, a link would be followed. */
		names[i].text[strlen(names[i].text) - 1] = 0;
		sub = openat(at, names[i].text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0) {
			rc = errno == ENOENT || errno == ENOTDIR || errno == ELOOP
				 ? 0
				 : disk_error(errno);
			continue;
		}
		add = strlen(names[i].text);
		memcpy(w->path + len, names[i].text, add);
		memcpy(w->path + len + add, "/", 2);
		rc = walk_folder(w, sub);
		w->path[len] = 0;
	}
	names_free(names, n);
	return rc;
}

int disk_list(struct disk *d, struct disk_io *io, const char *prefix, const char *token,
	      struct backend_entry **entries, size_t *n, char **next_token)
{
	struct walk w = {
		.io = io, .prefix = prefix, .token = token, .prefix_len = strlen(prefix)
	};
	int root = disk_open_root(d), rc;

	if (root < 0)
		return root;
	w.entries = calloc(PAGE, sizeof(*w.entries));
	if (!w.entries) {
		close(root);
		return -ENOMEM;
	}
	rc = walk_folder(&w, root);
	if (!rc && w.more) {
		*next_token = strdup(w.entries[w.n - 1].key);
		if (!*next_token)
			rc = -ENOMEM;
	}
	if (rc || w.n == 0) {
		free(w.entries);
		return rc;
	}
	*entries = w.entries;
	*n = w.n;
	return 0;
}
