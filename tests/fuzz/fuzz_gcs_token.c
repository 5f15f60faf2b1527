/* Answers of Google's token server.
 * fuzz-sources: backends/gcs_auth.c backends/endpoint.c backends/http_parse.c
 * backends/credentials.c backends/ini.c crypto/sign.c crypto/base64.c fs/base/buf.c fs/base/clock.c
 * fs/base/err.c fs/base/file.c fuzz-libs: -ljansson -lcrypto -lpthread */
#include <stdlib.h>
#include <string.h>
#include "backends/gcs_auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t seconds;
	char *token;

	if (gcs_token_parse((const char *)data, size, &token, &seconds))
		return 0;
	/* It goes into a header. */
	if (seconds < 1 || seconds > 86400 || !*token || strpbrk(token, "\r\n "))
		abort();
	free(token);
	return 0;
}
