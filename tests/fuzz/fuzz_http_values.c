/* Dates, ranges, numbers and Retry-After, as they stand in headers.
 * fuzz-sources: backends/http_parse.c fs/base/clock.c */
#include <stdlib.h>
#include <string.h>
#include "backends/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = malloc(size + 1);
	struct http_range r;
	uint64_t v;
	int64_t t;

	memcpy(s, data, size);
	s[size] = 0;
	if (!http_date_parse(s, &t) && (t < 0 || t > 253402300800))
		abort();
	if (!http_range_parse(s, &r) && r.first <= r.last && r.last >= r.total)
		abort();
	http_number(s, &v);
	t = http_retry_after(s, 784111777);
	if (t < 0 || t > 3600000000000)
		abort();
	free(s);
	return 0;
}
