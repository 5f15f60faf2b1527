#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backends/http_parse.h"
#include "backends/page.h"
#include "backends/xml.h"

#define BLOB "EnumerationResults/Blobs/Blob"

struct azure_list {
	struct page *p;
	const char *strip;
	char *name;
	uint64_t size;
	int root, blobs, have_size, foreign, folder;
};

static int start(void *arg, const char *path, const char **attrs)
{
	struct azure_list *l = arg;

	if (!strchr(path, '/')) {
		if (strcmp(path, "EnumerationResults"))
			return -EBADMSG;
		l->root = 1;
	}
	if (!strcmp(path, "EnumerationResults/Blobs"))
		l->blobs = 1;
	if (!strcmp(path, BLOB)) {
		free(l->name);
		l->name = NULL;
		l->size = 0;
		l->have_size = l->foreign = l->folder = 0;
	}
	/* Encoded="true": a name with characters that XML cannot hold, so none of ours. */
	if (!strcmp(path, BLOB "/Name") && attrs && attrs[0])
		l->foreign = 1;
	return 0;
}

static int end(void *arg, const char *path, const char *text)
{
	struct azure_list *l = arg;

	if (!strcmp(path, BLOB "/Name")) {
		free(l->name);
		l->name = strdup(text);
		return l->name ? 0 : -ENOMEM;
	}
	if (!strcmp(path, BLOB "/Properties/Content-Length")) {
		l->have_size = 1;
		return http_number(text, &l->size) ? -EBADMSG : 0;
	}
	/* Accounts with a hierarchical namespace list folders, too. */
	if (!strcmp(path, BLOB "/Properties/ResourceType"))
		l->folder = !strcmp(text, "directory");
	if (!strcmp(path, BLOB)) {
		if (l->folder)
			return 0;
		if (!l->name || !l->have_size)
			return -EBADMSG;
		return page_add(l->p, l->strip, l->foreign ? "%" : l->name, l->size);
	}
	if (!strcmp(path, "EnumerationResults/NextMarker") && *text) {
		if (strlen(text) > PAGE_TOKEN_MAX || l->p->next)
			return -EBADMSG;
		l->p->next = strdup(text);
		return l->p->next ? 0 : -ENOMEM;
	}
	return 0;
}

int azure_list_parse(const char *text, size_t n, const char *strip, struct page *p)
{
	struct azure_list l = { .p = p, .strip = strip };
	struct xml_walk walk = { .start = start, .end = end, .arg = &l };
	int r;

	memset(p, 0, sizeof(*p));
	r = xml_parse(text, n, &walk);
	if (!r && (!l.root || !l.blobs))
		r = -EBADMSG;
	if (!r)
		r = page_finish(p);
	free(l.name);
	if (r)
		page_release(p);
	return r;
}
