#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "backends/endpoint.h"
#include "backends/http_parse.h"
#include "backends/page.h"
#include "backends/xml.h"

struct s3_list {
	struct page *p;
	const char *strip;
	char *names[2]; /* key, next token */
	uint64_t size;
	int root, truncated, have_size;
};

#define CONTENTS "ListBucketResult/Contents"

static int keep(char **to, const char *text)
{
	free(*to);
	*to = strdup(text);
	return *to ? 0 : -ENOMEM;
}

static int start(void *arg, const char *path, const char **attrs)
{
	struct s3_list *l = arg;

	(void)attrs;
	if (!strchr(path, '/')) {
		if (strcmp(path, "ListBucketResult"))
			return -EBADMSG; /* e.g. an <Error> in a 200 */
		l->root = 1;
	}
	if (!strcmp(path, CONTENTS)) {
		free(l->names[0]);
		l->names[0] = NULL;
		l->have_size = 0;
	}
	return 0;
}

static int end_contents(struct s3_list *l)
{
	if (!l->names[0] || !l->have_size)
		return -EBADMSG;
	/* EncodingType may stand behind the contents, but encoding changes none of our keys' own
	 * characters but "/", and "%" is none of them. */
	if (url_decode(l->names[0]))
		return page_add(l->p, l->strip, "%", 0);
	return page_add(l->p, l->strip, l->names[0], l->size);
}

static int end(void *arg, const char *path, const char *text)
{
	struct s3_list *l = arg;

	if (!strcmp(path, CONTENTS "/Key"))
		return keep(&l->names[0], text);
	if (!strcmp(path, CONTENTS "/Size")) {
		l->have_size = 1;
		return http_number(text, &l->size) ? -EBADMSG : 0;
	}
	if (!strcmp(path, CONTENTS))
		return end_contents(l);
	if (!strcmp(path, "ListBucketResult/IsTruncated"))
		l->truncated = !strcasecmp(text, "true");
	if (!strcmp(path, "ListBucketResult/NextContinuationToken"))
		return strlen(text) > PAGE_TOKEN_MAX ? -EBADMSG : keep(&l->names[1], text);
	return 0;
}

int s3_list_parse(const char *text, size_t n, const char *strip, struct page *p)
{
	struct s3_list l = { .p = p, .strip = strip };
	struct xml_walk walk = { .start = start, .end = end, .arg = &l };
	int r;

	memset(p, 0, sizeof(*p));
	r = xml_parse(text, n, &walk);
	if (!r && (!l.root || (l.truncated && (!l.names[1] || !*l.names[1]))))
		r = -EBADMSG;
	if (!r && l.truncated) {
		p->next = l.names[1];
		l.names[1] = NULL;
	}
	if (!r)
		r = page_finish(p);
	free(l.names[0]);
	free(l.names[1]);
	if (r)
		page_release(p);
	return r;
}
