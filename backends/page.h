/* One page of a listing, as the clouds' parsers deliver it. The texts come from outside. */
#ifndef BACKENDS_PAGE_H
#define BACKENDS_PAGE_H

#include "backends/backend.h"

#define PAGE_ENTRIES_MAX 10000 /* we ask for 1000; the clouds' own maximum is 5000 */
#define PAGE_TOKEN_MAX   4096

struct page {
	struct backend_entry *entries; /* malloc'ed */
	size_t n, cap;
	char *next;     /* malloc'ed token of the next page, NULL: none */
	size_t foreign; /* objects whose names are no keys of ours */
};

void page_release(struct page *p);
/* Adds an object by its full name; `strip` (the backend's prefix with its slash, or "") is taken
 * off. What does not begin with it, or is no key then, is counted as foreign. 0, -ENOMEM,
 * -EBADMSG (too many). */
int page_add(struct page *p, const char *strip, const char *name, uint64_t size);
/* Sorts by key. -EBADMSG when one stands twice. */
int page_finish(struct page *p);

/* Parsers of the answers of ListObjectsV2, List Blobs and the JSON API's objects.list. 0, -EBADMSG
 * (not such an answer), -ENOMEM. On failure *p is released. */
int s3_list_parse(const char *text, size_t n, const char *strip, struct page *p);
int azure_list_parse(const char *text, size_t n, const char *strip, struct page *p);
int gcs_list_parse(const char *text, size_t n, const char *strip, struct page *p);

#endif
