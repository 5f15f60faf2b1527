#include <errno.h>
#include <jansson.h>
#include <string.h>
#include "backends/http_parse.h"
#include "backends/page.h"

static int add_items(const json_t *items, const char *strip, struct page *p)
{
	size_t i;
	json_t *item;

	if (items && !json_is_array(items))
		return -EBADMSG;
	json_array_foreach(items, i, item)
	{
		const char *name = json_string_value(json_object_get(item, "name"));
		const char *size = json_string_value(json_object_get(item, "size"));
		uint64_t bytes;
		int r;

		if (!name || !size || http_number(size, &bytes))
			return -EBADMSG;
		r = page_add(p, strip, name, bytes);
		if (r)
			return r;
	}
	return 0;
}

int gcs_list_parse(const char *text, size_t n, const char *strip, struct page *p)
{
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	const json_t *next;
	int r;

	memset(p, 0, sizeof(*p));
	if (!json_is_object(root) || json_object_get(root, "error")) {
		json_decref(root);
		return -EBADMSG;
	}
	r = add_items(json_object_get(root, "items"), strip, p);
	next = json_object_get(root, "nextPageToken");
	if (!r && next) {
		const char *s = json_string_value(next);
		if (!s || strlen(s) > PAGE_TOKEN_MAX)
			r = -EBADMSG;
		else if (*s && !(p->next = strdup(s)))
			r = -ENOMEM;
	}
	json_decref(root);
	if (!r)
		r = page_finish(p);
	if (r)
		page_release(p);
	return r;
}
