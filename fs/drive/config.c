#include "fs/drive/config.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/buf.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"
#include "fs/drive/paths.h"

#define CONFIG_FILE_MAX (1u << 20)
#define CONFIG_LINE_MAX 16384

const char *const config_compress_words[] = { "none", "zstd", NULL };

int config_check_extent(uint64_t bytes, const char *where, struct err *e)
{
	if (bytes & (bytes - 1))
		return err_set(e, -EINVAL,
			       "%s: extent=%llu is not a power of two; allowed: 64K, 128K, 256K, "
			       "512K, 1M",
			       where, (unsigned long long)bytes);
	return 0;
}

/* ---- parsing ---- */

/* What the [drive] section is parsed into, by table. */
struct drive_section {
	char *uuid;
	int64_t data, parity;
	uint64_t extent, quota;
	int compress;
};

static const struct option_def drive_keys[] = {
	{ .name = "uuid",
	  .type = OPT_STRING,
	  .offset = offsetof(struct drive_section, uuid),
	  .max = 64 },
	{ .name = "data",
	  .type = OPT_INT,
	  .offset = offsetof(struct drive_section, data),
	  .min = 1,
	  .max = DRIVE_MAX_BACKENDS },
	{ .name = "parity",
	  .type = OPT_INT,
	  .offset = offsetof(struct drive_section, parity),
	  .max = DRIVE_MAX_BACKENDS - 1 },
	{ .name = "extent",
	  .type = OPT_SIZE,
	  .offset = offsetof(struct drive_section, extent),
	  .min = CONFIG_EXTENT_MIN,
	  .max = CONFIG_EXTENT_MAX,
	  .dflt = "128K" },
	{ .name = "compress",
	  .type = OPT_CHOICE,
	  .offset = offsetof(struct drive_section, compress),
	  .choices = config_compress_words },
	{ .name = "quota",
	  .type = OPT_SIZE,
	  .offset = offsetof(struct drive_section, quota),
	  .max = INT64_MAX },
	{ .name = NULL },
};

struct parse {
	const char *at; /* rest of the text */
	const char *where;
	int line, inside; /* inside: the piece before did not end its line */
	int rc;           /* the first error; later calls do nothing */
	struct err *e;
	struct config *out;
	struct drive_section drive;
	uint32_t seen;              /* bit i: drive_keys[i] was given */
	uint32_t has_url, has_uuid; /* bit i: of backend i */
	struct buf mount;
};

/* fgets over memory for inih, which takes long lines piece by piece; counts lines, because inih
 * does not tell the handler. */
static char *next_piece(char *str, int num, void *stream)
{
	struct parse *p = stream;
	size_t n = strcspn(p->at, "\n") + 1, room = (size_t)num - 1;

	if (!*p->at)
		return NULL;
	if (!p->inside) {
		p->line++;
		if (n + 2 > CONFIG_LINE_MAX) {
			if (!p->rc)
				p->rc = err_set(p->e, -EINVAL, "%s, line %d: longer than %d bytes",
						p->where, p->line, CONFIG_LINE_MAX - 3);
			return NULL;
		}
	}
	p->inside = n > room;
	n = MIN(n, room);
	n = strnlen(p->at, n);
	memcpy(str, p->at, n);
	str[n] = '\0';
	p->at += n;
	return str;
}

static int fail(struct parse *p, int code, const char *what, const char *name)
{
	return err_set(p->e, code, "%s, line %d: %s \"%.64s\"", p->where, p->line, what, name);
}

static int set_drive(struct parse *p, const char *name, const char *value)
{
	AUTO_FREE char *where = str_printf("%s, line %d", p->where, p->line);

	if (!where)
		return err_set(p->e, -ENOMEM, "out of memory");
	for (unsigned i = 0; drive_keys[i].name; i++) {
		if (strcmp(drive_keys[i].name, name))
			continue;
		if (p->seen & 1u << i)
			return fail(p, -EINVAL, "given twice:", name);
		p->seen |= 1u << i;
		return options_set(drive_keys, &p->drive, name, value, where, p->e) ? -EINVAL : 0;
	}
	return fail(p, -EINVAL, "[drive] knows uuid, data, parity, extent, compress, quota; not",
		    name);
}

static int set_backend(struct parse *p, unsigned i, const char *name, const char *value)
{
	struct config_backend *b = &p->out->backends[i];
	int is_url = !strcmp(name, "url");
	uint32_t *seen = is_url ? &p->has_url : &p->has_uuid;
	struct err why = { 0 };

	if (!is_url && strcmp(name, "uuid"))
		return fail(p, -EINVAL, "a [backend] has url and uuid, not", name);
	if (*seen & 1u << i)
		return fail(p, -EINVAL, "given twice:", name);
	*seen |= 1u << i;
	if (!is_url) {
		if (hex_get(b->uuid, ID_LEN, value, strlen(value)))
			return fail(p, -EINVAL, "uuid must be 32 hexadecimal digits, not", value);
		return 0;
	}
	b->url = strdup(value);
	if (!b->url)
		return err_set(p->e, -ENOMEM, "out of memory");
	if (backend_url_parse(value, &b->parsed, &why))
		return err_set(p->e, -EINVAL, "%s, line %d: %s", p->where, p->line,
			       err_text(&why, -EINVAL));
	return 0;
}

/* Collects the [mount] section as an -o list; mount itself judges names and values. */
static int set_mount(struct parse *p, const char *name, const char *value)
{
	if (p->mount.len)
		buf_put8(&p->mount, ',');
	buf_put(&p->mount, name, strlen(name));
	buf_put8(&p->mount, '=');
	for (const char *c = value; *c; c++) {
		if (*c == ',')
			buf_put8(&p->mount, '\\');
		buf_put8(&p->mount, (uint8_t)*c);
	}
	return 0;
}

static int handle(void *user, const char *section, const char *name, const char *value)
{
	struct parse *p = user;
	unsigned i;
	int end = 0;

	if (p->rc)
		return 0;
	if (!strcmp(section, "drive"))
		p->rc = set_drive(p, name, value);
	else if (!strcmp(section, "mount"))
		p->rc = set_mount(p, name, value);
	else if (sscanf(section, "backend \"%2u\"%n", &i, &end) == 1 && end && !section[end] &&
		 i < DRIVE_MAX_BACKENDS)
		p->rc = set_backend(p, i, name, value);
	else
		p->rc = fail(p, -EINVAL,
			     "sections are [drive], [mount] and [backend \"0\"] to [backend "
			     "\"31\"], not",
			     section);
	return !p->rc;
}

/* What only shows when all lines are read. */
static int check_whole(struct parse *p)
{
	struct config *c = p->out;
	const struct drive_section *d = &p->drive;
	uint32_t all;

	for (unsigned i = 0; i < 3; i++)
		if (!(p->seen & 1u << i))
			return err_set(p->e, -EINVAL, "%s: \"%s = ...\" is missing in [drive]",
				       p->where, drive_keys[i].name);
	if (hex_get(c->drive, ID_LEN, d->uuid, strlen(d->uuid)))
		return err_set(p->e, -EINVAL, "%s: uuid must be 32 hexadecimal digits", p->where);
	if (d->data + d->parity < 2 || d->data + d->parity > DRIVE_MAX_BACKENDS)
		return err_set(p->e, -EINVAL,
			       "%s: data + parity is %d; it must be between 2 and %d", p->where,
			       (int)(d->data + d->parity), DRIVE_MAX_BACKENDS);
	if (config_check_extent(d->extent, p->where, p->e))
		return -EINVAL;
	c->k = (int)d->data;
	c->m = (int)d->parity;
	c->n = c->k + c->m;
	c->extent_max = (uint32_t)d->extent;
	c->compress = d->compress;
	c->quota = d->quota;
	all = c->n == 32 ? UINT32_MAX : (1u << c->n) - 1;
	for (int i = 0; i < DRIVE_MAX_BACKENDS; i++) {
		int url = p->has_url >> i & 1, uuid = p->has_uuid >> i & 1;

		if ((all >> i & 1) && (!url || !uuid))
			return err_set(p->e, -EINVAL,
				       "%s: [backend \"%d\"] has no %s (data + parity is %d, so "
				       "there must be backends 0 to %d)",
				       p->where, i, url ? "uuid" : "url", c->n, c->n - 1);
		if (!(all >> i & 1) && (url || uuid))
			return err_set(p->e, -EINVAL,
				       "%s: [backend \"%d\"] is one too many: data + parity is %d",
				       p->where, i, c->n);
	}
	return 0;
}

int config_parse(const char *text, const char *where, struct config *out, struct err *e)
{
	struct parse p = { .at = text, .where = where, .e = e, .out = out };
	int bad;

	memset(out, 0, sizeof(*out));
	p.rc = options_defaults(drive_keys, &p.drive, e);
	if (!p.rc) {
		/* Debian's inih takes these at run time. URLs may hold ';' and be long. */
		ini_use_stack = false;
		ini_allow_realloc = true;
		ini_max_line = CONFIG_LINE_MAX;
		ini_allow_multiline = false;
		ini_allow_inline_comments = false;
		ini_stop_on_first_error = true;
		bad = ini_parse_stream(next_piece, &p, handle, &p);
		if (bad == -2)
			p.rc = err_set(e, -ENOMEM, "out of memory");
		else if (bad && !p.rc)
			p.rc = err_set(e, -EINVAL,
				       "%s, line %d: neither \"[section]\" nor \"name = value\"",
				       where, bad);
	}
	if (!p.rc)
		p.rc = check_whole(&p);
	if (!p.rc && p.mount.len) {
		buf_put8(&p.mount, 0);
		out->mount_options = p.mount.failed ? NULL : strdup((char *)p.mount.p);
		if (!out->mount_options)
			p.rc = err_set(e, -ENOMEM, "out of memory");
	}
	buf_release(&p.mount);
	options_release(drive_keys, &p.drive);
	if (p.rc)
		config_release(out);
	return p.rc;
}

/* "there is no drive x; there are: a, b" */
static int no_such_drive(const char *path, const char *name, struct err *e)
{
	struct buf known = { 0 };
	char **names;
	int count, rc;

	if (paths_list(&names, &count, NULL))
		count = 0, names = NULL;
	for (int i = 0; i < count; i++)
		buf_printf(&known, "%s%s", i ? ", " : "", names[i]);
	if (count)
		rc = err_set(e, -ENOENT, "there is no drive \"%s\" here (%s); there %s: %s", name,
			     path, count == 1 ? "is" : "are", buf_cstr(&known));
	else
		rc = err_set(e, -ENOENT,
			     "there is no drive \"%s\" here (%s); \"skyflok create %s ...\" makes "
			     "it",
			     name, path, name);
	paths_list_free(names, count);
	buf_release(&known);
	return rc;
}

int config_read(const char *path, const char *name, struct config *out, struct err *e)
{
	AUTO_FREE uint8_t *text = NULL;
	size_t n;
	int rc = file_read_all(path, CONFIG_FILE_MAX, &text, &n);

	memset(out, 0, sizeof(*out));
	if (rc == -ENOENT)
		return no_such_drive(path, name, e);
	if (rc)
		return err_set(e, rc, "%s: %s", path, strerror(-rc));
	if (memchr(text, 0, n))
		return err_set(e, -EINVAL, "%s: damaged: it holds a NUL byte", path);
	return config_parse((const char *)text, path, out, e);
}

void config_release(struct config *c)
{
	for (int i = 0; i < DRIVE_MAX_BACKENDS; i++) {
		free(c->backends[i].url);
		backend_url_release(&c->backends[i].parsed);
	}
	free(c->mount_options);
	memset(c, 0, sizeof(*c));
}

/* ---- writing ---- */

/* In the largest unit that divides, as parse_size reads it. */
static void put_size(struct buf *b, const char *key, uint64_t v)
{
	static const char units[] = "\0KMGT";
	int u = 0;

	for (; u < 4 && v && v % 1024 == 0; u++)
		v /= 1024;
	buf_printf(b, "%s = %llu%.1s\n", key, (unsigned long long)v, &units[u]);
}

int config_write(const char *path, const char *name, const struct config *c, struct err *e)
{
	struct buf b = { 0 };
	char hex[2 * ID_LEN + 1];
	int rc;

	hex_put(hex, c->drive, ID_LEN);
	buf_printf(&b,
		   "# The skyflok drive \"%s\": any %d of its %d backends hold all of it.\n"
		   "# Change a url when a backend has moved; the rest belongs to the drive and is\n"
		   "# checked. Keep a copy of this file with your passphrase: it says where the\n"
		   "# backends are.\n"
		   "[drive]\nuuid = %s\ndata = %d\nparity = %d\n",
		   name, c->k, c->n, hex, c->k, c->m);
	put_size(&b, "extent", c->extent_max);
	buf_printf(&b, "compress = %s\n", config_compress_words[c->compress]);
	put_size(&b, "quota", c->quota);
	buf_printf(&b,
		   "\n# Defaults for \"mount -o\", one per line, for example: cache-size = 20G\n"
		   "[mount]\n");
	for (int i = 0; i < c->n; i++) {
		hex_put(hex, c->backends[i].uuid, ID_LEN);
		buf_printf(&b, "\n[backend \"%d\"]\nurl = %s\nuuid = %s\n", i, c->backends[i].url,
			   hex);
	}
	rc = b.failed ? -ENOMEM : file_replace(path, b.p, b.len, 0600);
	buf_release(&b);
	if (rc)
		return err_set(e, rc, "%s: cannot write: %s", path, strerror(-rc));
	return 0;
}

int config_check_manifest(const struct config *c, const char *path, const struct manifest *mf,
			  struct err *e)
{
	const char *key = NULL;

	if (memcmp(c->drive, mf->drive, ID_LEN))
		key = "uuid";
	else if (c->k != mf->k)
		key = "data";
	else if (c->m != mf->m)
		key = "parity";
	else if (c->extent_max != mf->extent_max)
		key = "extent";
	if (key)
		return err_set(e, -EINVAL,
			       "%s: \"%s\" is not what the drive's header says: put back what "
			       "\"skyflok create\" wrote",
			       path, key);
	for (int i = 0; i < c->n; i++)
		if (memcmp(c->backends[i].uuid, mf->backends[i].uuid, ID_LEN))
			return err_set(e, -EINVAL,
				       "%s: the uuid of [backend \"%d\"] is not what the drive's "
				       "header says: put back what \"skyflok create\" wrote",
				       path, i);
	return 0;
}
