/* Answers of List Blobs.
 * fuzz-sources: backends/page.c backends/backend.c backends/azure_list.c backends/xml.c
 * backends/http_parse.c fs/base/clock.c fuzz-libs: -lexpat -lpthread */
#include <stdlib.h>
#include <string.h>
#include "backends/page.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct page p;

	if (azure_list_parse((const char *)data, size, "p/", &p))
		return 0;
	for (size_t i = 0; i < p.n; i++) {
		if (backend_key_check(p.entries[i].key) ||
		    (i && strcmp(p.entries[i - 1].key, p.entries[i].key) >= 0))
			abort();
	}
	page_release(&p);
	return 0;
}
