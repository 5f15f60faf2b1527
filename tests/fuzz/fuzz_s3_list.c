/* Answers of ListObjectsV2.
 * fuzz-sources: backends/page.c backends/backend.c backends/s3_list.c backends/xml.c
 * backends/endpoint.c backends/http_parse.c fs/base/buf.c fs/base/clock.c fs/base/err.c fuzz-libs:
 * -lexpat -lpthread */
#include <stdlib.h>
#include <string.h>
#include "backends/page.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct page p;

	if (s3_list_parse((const char *)data, size, "p/", &p))
		return 0;
	for (size_t i = 0; i < p.n; i++) {
		if (backend_key_check(p.entries[i].key) ||
		    (i && strcmp(p.entries[i - 1].key, p.entries[i].key) >= 0))
			abort();
	}
	page_release(&p);
	return 0;
}
