#include <errno.h>
#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "backends/xml.h"

#define DEPTH_MAX 16
#define TEXT_MAX  8192

struct parse {
	XML_Parser parser;
	const struct xml_walk *walk;
	int result, depth;
	char path[512];
	size_t path_len, text_len;
	char text[TEXT_MAX + 1];
};

static void stop(struct parse *p, int why)
{
	p->result = why;
	XML_StopParser(p->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attrs)
{
	struct parse *p = arg;
	size_t n = strlen(name);
	int r;

	if (p->result)
		return;
	if (p->depth == DEPTH_MAX || p->path_len + n + 2 > sizeof(p->path) || strchr(name, '/')) {
		stop(p, -EBADMSG);
		return;
	}
	if (p->depth++)
		p->path[p->path_len++] = '/';
	memcpy(p->path + p->path_len, name, n + 1);
	p->path_len += n;
	p->text_len = 0;
	r = p->walk->start ? p->walk->start(p->walk->arg, p->path, attrs) : 0;
	if (r)
		stop(p, r);
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
	struct parse *p = arg;
	char *slash;
	int r;

	(void)name;
	if (p->result)
		return;
	p->text[p->text_len] = 0;
	r = p->walk->end(p->walk->arg, p->path, p->text);
	slash = strrchr(p->path, '/');
	p->path_len = slash ? (size_t)(slash - p->path) : 0;
	p->path[p->path_len] = 0;
	p->depth--;
	p->text_len = 0;
	if (r)
		stop(p, r);
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int len)
{
	struct parse *p = arg;

	if (p->result)
		return;
	if ((size_t)len > TEXT_MAX - p->text_len) {
		stop(p, -EBADMSG);
		return;
	}
	memcpy(p->text + p->text_len, s, (size_t)len);
	p->text_len += (size_t)len;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid,
			       const XML_Char *pubid, int internal)
{
	(void)name, (void)sysid, (void)pubid, (void)internal;
	stop(arg, -EBADMSG);
}

int xml_parse(const char *text, size_t n, const struct xml_walk *walk)
{
	struct parse p = { .walk = walk };
	enum XML_Status status;

	if (n > INT_MAX)
		return -EBADMSG;
	p.parser = XML_ParserCreate(NULL);
	if (!p.parser)
		return -ENOMEM;
	XML_SetUserData(p.parser, &p);
	XML_SetElementHandler(p.parser, on_start, on_end);
	XML_SetCharacterDataHandler(p.parser, on_text);
	XML_SetStartDoctypeDeclHandler(p.parser, on_doctype);
	status = XML_Parse(p.parser, text, (int)n, 1);
	if (status != XML_STATUS_OK && !p.result)
		p.result = XML_GetErrorCode(p.parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EBADMSG;
	XML_ParserFree(p.parser);
	return p.result;
}

struct find {
	const char *path;
	char *out;
	size_t size;
};

static int find_end(void *arg, const char *path, const char *text)
{
	struct find *f = arg;

	if (strcmp(path, f->path))
		return 0;
	snprintf(f->out, f->size, "%s", text);
	return 1;
}

int xml_value(const char *text, size_t n, const char *path, char *out, size_t size)
{
	struct find f = { .path = path, .out = out, .size = size };
	struct xml_walk walk = { .end = find_end, .arg = &f };
	int r;

	*out = 0;
	r = xml_parse(text, n, &walk);
	return r == 1 ? 0 : r ? r : -ENOENT;
}
