#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backends/page.h"

void page_release(struct page *p)
{
	free(p->entries);
	free(p->next);
	memset(p, 0, sizeof(*p));
}

int page_add(struct page *p, const char *strip, const char *name, uint64_t size)
{
	size_t n = strlen(strip);

	if (p->n + p->foreign >= PAGE_ENTRIES_MAX)
		return -EBADMSG;
	if (strncmp(name, strip, n) || backend_key_check(name + n)) {
		p->foreign++;
		return 0;
	}
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		struct backend_entry *more = realloc(p->entries, cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		p->entries = more;
		p->cap = cap;
	}
	/* a checked key has at most BACKEND_KEY_MAX characters */
	memcpy(p->entries[p->n].key, name + n, strlen(name + n) + 1);
	p->entries[p->n++].size = size;
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct backend_entry *)a)->key,
		      ((const struct backend_entry *)b)->key);
}

int page_finish(struct page *p)
{
	if (!p->n)
		return 0;
	qsort(p->entries, p->n, sizeof(*p->entries), by_key);
	for (size_t i = 1; i < p->n; i++) {
		if (!strcmp(p->entries[i - 1].key, p->entries[i].key))
			return -EBADMSG;
	}
	return 0;
}
