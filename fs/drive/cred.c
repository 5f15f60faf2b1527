#include "fs/drive/cred.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/ini.h"
#include "fs/base/buf.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define CRED_MAX (1u << 20)
#define SERVICE  "service_account_file"

static void wipe(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	buf_release(b);
}

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int check_mode(const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st))
		return err_set(e, -EACCES, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EACCES, "%s is not a file", path);
	if (st.st_mode & 077)
		return err_set(e, -EACCES,
			       "%s holds credentials and others may read or change it (mode %04o): "
			       "chmod 600 it",
			       path, (unsigned)st.st_mode & 07777);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(e, -EACCES, "%s holds credentials and belongs to another user",
			       path);
	return 0;
}

static int nothing(void *arg, const char *section, const char *name, const char *value)
{
	return 0;
}

/* The parser changes what it reads. */
static int check_ini(const char *path, const char *text, size_t n, struct err *e)
{
	struct buf copy = { 0 };
	int line = 0, rc;

	buf_put(&copy, text, n);
	buf_put8(&copy, 0);
	if (copy.failed) {
		wipe(&copy);
		return out_of_memory(e);
	}
	rc = ini_parse_text((char *)copy.p, n, nothing, NULL, &line);
	wipe(&copy);
	if (rc == -EINVAL)
		return err_set(e, rc, "%s, line %d: neither [section] nor name = value", path,
			       line);
	return rc ? out_of_memory(e) : 0;
}

/* The value of "service_account_file = VALUE" when that is a relative name, else NULL. */
static const char *relative_service(const char *line, size_t n)
{
	const char *s = line + strspn(line, " \t");

	if (strncmp(s, SERVICE, strlen(SERVICE)))
		return NULL;
	s += strlen(SERVICE);
	s += strspn(s, " \t");
	if (*s != '=')
		return NULL;
	s++;
	s += strspn(s, " \t");
	return s < line + n && *s != '/' && *s != '~' && *s != '\n' && *s != '\r' ? s : NULL;
}

static int rewrite(const char *path, const char *text, struct buf *out, struct err *e)
{
	AUTO_FREE char *real = realpath(path, NULL);
	size_t folder = real ? (size_t)(strrchr(real, '/') - real) : 0;

	if (!real)
		return err_set(e, -EACCES, "%s: %s", path, strerror(errno));
	while (*text) {
		size_t n = strcspn(text, "\n");
		const char *value;

		n += text[n] == '\n';
		value = relative_service(text, n);
		if (value) {
			buf_put(out, text, (size_t)(value - text));
			buf_printf(out, "%.*s/", (int)folder, real);
			buf_put(out, value, (size_t)(text + n - value));
		} else {
			buf_put(out, text, n);
		}
		text += n;
	}
	return out->failed ? out_of_memory(e) : 0;
}

/* What is to stand in `to`. 1: it stands there already. */
static int prepare(const char *from, const char *to, struct buf *out, struct err *e)
{
	uint8_t *text = NULL, *there = NULL;
	size_t n = 0, m = 0;
	int rc = check_mode(from, e);

	if (rc)
		return rc;
	rc = file_read_all(from, CRED_MAX, &text, &n);
	if (rc)
		return err_set(e, rc == -ENOMEM ? rc : -EACCES, "%s: %s", from, strerror(-rc));
	if (strlen((char *)text) != n)
		rc = err_set(e, -EINVAL, "%s is not a text file", from);
	if (!rc)
		rc = check_ini(from, (char *)text, n, e);
	if (!rc)
		rc = rewrite(from, (char *)text, out, e);
	if (!rc && !file_read_all(to, CRED_MAX, &there, &m)) {
		rc = m == out->len && !memcmp(there, out->p, m);
		if (!rc)
			rc = err_set(e, -EEXIST,
				     "there is a credential file %s already, and it differs: move "
				     "it away, or leave out --credentials to use it",
				     to);
	}
	explicit_bzero(text, n);
	free(text);
	if (there)
		explicit_bzero(there, m);
	free(there);
	return rc;
}

int cred_check(const char *from, const char *to, struct err *e)
{
	struct buf b = { 0 };
	int rc = prepare(from, to, &b, e);

	wipe(&b);
	return rc < 0 ? rc : 0;
}

int cred_take(const char *from, const char *to, struct err *e)
{
	struct buf b = { 0 };
	int rc = prepare(from, to, &b, e);

	if (!rc) {
		rc = file_replace(to, b.p, b.len, 0600);
		rc = rc ? err_set(e, rc, "%s: cannot write: %s", to, strerror(-rc)) : 1;
	} else if (rc == 1) {
		rc = check_mode(to, e);
	}
	wipe(&b);
	return rc;
}
