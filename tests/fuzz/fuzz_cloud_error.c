/* Error documents of S3 and Azure, and error answers of Google's token server.
 * fuzz-sources: backends/xml.c backends/gcs_auth.c backends/endpoint.c backends/http_parse.c
 * backends/credentials.c backends/ini.c crypto/sign.c crypto/base64.c fs/base/buf.c fs/base/clock.c
 * fs/base/err.c fs/base/file.c fuzz-libs: -lexpat -ljansson -lcrypto -lpthread */
#include <stdlib.h>
#include <string.h>
#include "backends/gcs_auth.h"
#include "backends/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char small[8], words[300];

	xml_value((const char *)data, size, "Error/Code", small, sizeof(small));
	if (strlen(small) >= sizeof(small))
		abort();
	gcs_token_error((const char *)data, size, words);
	if (strpbrk(words, "\r\n\033"))
		abort();
	return 0;
}
