#include "fs/drive/paths.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/file.h"
#include "fs/base/scope.h"

#define CONF_SUFFIX ".conf"

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* An XDG variable counts only when it is an absolute path (XDG Base Directory Specification). */
static char *xdg(const char *variable, const char *home, const char *fallback)
{
	const char *v = getenv(variable);

	if (v && v[0] == '/')
		return str_printf("%s/skyflok", v);
	return str_printf("%s/%s/skyflok", home, fallback);
}

static int base_user(struct paths_base *b, struct err *e)
{
	const char *home = getenv("HOME");

	if (!home || home[0] != '/') {
		const struct passwd *pw = getpwuid(geteuid());

		home = pw ? pw->pw_dir : NULL;
	}
	if (!home || home[0] != '/')
		return err_set(e, -EINVAL,
			       "no home folder is known: set HOME, or SKYFLOK_HOME to a folder for "
			       "the drive's files");
	b->config = xdg("XDG_CONFIG_HOME", home, ".config");
	b->state = xdg("XDG_STATE_HOME", home, ".local/state");
	b->cache = xdg("XDG_CACHE_HOME", home, ".cache");
	return 0;
}

int paths_base_init(struct paths_base *b, struct err *e)
{
	const char *home = getenv("SKYFLOK_HOME");
	int rc = 0;

	memset(b, 0, sizeof(*b));
	if (home && *home) {
		if (home[0] != '/')
			return err_set(e, -EINVAL,
				       "SKYFLOK_HOME is \"%s\": it must be an absolute path", home);
		b->config = str_printf("%s/config", home);
		b->state = str_printf("%s/state", home);
		b->cache = str_printf("%s/cache", home);
	} else if (geteuid() == 0) {
		b->config = strdup("/etc/skyflok");
		b->state = strdup("/var/lib/skyflok");
		b->cache = strdup("/var/cache/skyflok");
	} else {
		rc = base_user(b, e);
	}
	if (!rc && (!b->config || !b->state || !b->cache))
		rc = out_of_memory(e);
	if (rc)
		paths_base_release(b);
	return rc;
}

void paths_base_release(struct paths_base *b)
{
	free(b->config);
	free(b->state);
	free(b->cache);
	memset(b, 0, sizeof(*b));
}

static int name_byte_ok(unsigned char c, int first)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return 1;
	return !first && (c == '.' || c == '-' || c == '_');
}

int paths_check_name(const char *name, struct err *e)
{
	size_t n = strlen(name);
	int ok = n >= 1 && n <= DRIVE_NAME_MAX;

	for (size_t i = 0; ok && i < n; i++)
		ok = name_byte_ok((unsigned char)name[i], i == 0);
	if (!ok)
		return err_set(e, -EINVAL,
			       "\"%.80s\" cannot be the name of a drive: use 1 to %d letters, "
			       "digits, dots, dashes and underscores, beginning with a letter or "
			       "digit",
			       name, DRIVE_NAME_MAX);
	return 0;
}

int paths_init(struct paths *p, const char *name, struct err *e)
{
	struct paths_base b;
	int rc;

	memset(p, 0, sizeof(*p));
	rc = paths_check_name(name, e);
	if (!rc)
		rc = paths_base_init(&b, e);
	if (rc)
		return rc;
	memcpy(p->name, name, strlen(name) + 1);
	p->config = str_printf("%s/%s" CONF_SUFFIX, b.config, name);
	p->cred = str_printf("%s/%s.cred", b.config, name);
	p->state = str_printf("%s/%s", b.state, name);
	p->cache = str_printf("%s/%s", b.cache, name);
	p->staging = str_printf("%s/%s/staging", b.state, name);
	p->database = str_printf("%s/%s/drive.db", b.state, name);
	p->header = str_printf("%s/%s/header", b.state, name);
	p->header_next = str_printf("%s/%s/header.next", b.state, name);
	p->header_lock = str_printf("%s/%s/header.lock", b.state, name);
	p->creating = str_printf("%s/%s/creating", b.state, name);
	p->lock = str_printf("%s/%s/lock", b.state, name);
	p->socket = str_printf("%s/%s/control", b.state, name);
	paths_base_release(&b);
	if (!p->config || !p->cred || !p->state || !p->cache || !p->staging || !p->database ||
	    !p->header || !p->header_next || !p->header_lock || !p->creating || !p->lock ||
	    !p->socket) {
		paths_release(p);
		return out_of_memory(e);
	}
	return 0;
}

void paths_release(struct paths *p)
{
	free(p->config);
	free(p->cred);
	free(p->state);
	free(p->cache);
	free(p->staging);
	free(p->database);
	free(p->header);
	free(p->header_next);
	free(p->header_lock);
	free(p->creating);
	free(p->lock);
	free(p->socket);
	memset(p, 0, sizeof(*p));
}

static int make_folder(const char *path, struct err *e)
{
	int rc = file_mkdirs(path, 0700);

	if (rc)
		return err_set(e, rc, "%s: cannot make this folder: %s", path, strerror(-rc));
	return 0;
}

int paths_make(const struct paths *p, struct err *e)
{
	AUTO_FREE char *config = strdup(p->config);
	int rc;

	if (!config)
		return out_of_memory(e);
	*strrchr(config, '/') = '\0';
	rc = make_folder(config, e);
	if (!rc)
		rc = make_folder(p->staging, e);
	if (!rc)
		rc = make_folder(p->cache, e);
	return rc;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* 1 when the file name is NAME.conf of a valid drive name; cuts the suffix off. */
static int is_conf(char *file)
{
	size_t n = strlen(file), s = strlen(CONF_SUFFIX);

	if (n <= s || strcmp(file + n - s, CONF_SUFFIX))
		return 0;
	file[n - s] = '\0';
	return paths_check_name(file, NULL) == 0;
}

int paths_list(char ***names, int *count, struct err *e)
{
	struct paths_base b;
	struct dirent *de;
	DIR *dir;
	int rc = paths_base_init(&b, e), cap = 0;

	*names = NULL;
	*count = 0;
	if (rc)
		return rc;
	dir = opendir(b.config);
	if (!dir && errno != ENOENT)
		rc = err_set(e, -errno, "%s: %s", b.config, strerror(errno));
	while (!rc && dir && (de = readdir(dir))) {
		if (!is_conf(de->d_name))
			continue;
		if (*count == cap) {
			char **grown = realloc(*names, sizeof(char *) * (size_t)(cap + 16));

			if (!grown) {
				rc = out_of_memory(e);
				break;
			}
			*names = grown;
			cap += 16;
		}
		(*names)[*count] = strdup(de->d_name);
		if (!(*names)[*count]) {
			rc = out_of_memory(e);
			break;
		}
		(*count)++;
	}
	if (dir)
		closedir(dir);
	paths_base_release(&b);
	if (rc) {
		paths_list_free(*names, *count);
		*names = NULL;
		*count = 0;
	} else if (*count) {
		qsort(*names, (size_t)*count, sizeof(char *), compare_names);
	}
	return rc;
}

void paths_list_free(char **names, int count)
{
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
}
