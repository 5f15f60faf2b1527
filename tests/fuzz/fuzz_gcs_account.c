/* Key files of service accounts and users' grants.
 * fuzz-sources: backends/gcs_auth.c backends/endpoint.c backends/http_parse.c
 * backends/credentials.c backends/ini.c crypto/sign.c crypto/base64.c fs/base/buf.c fs/base/clock.c
 * fs/base/err.c fs/base/file.c fuzz-libs: -ljansson -lcrypto -lpthread */
#include "backends/gcs_auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gcs_account a;
	struct buf form = { 0 };

	if (gcs_account_parse((const char *)data, size, "fuzz", &a, NULL))
		return 0;
	gcs_token_form(&a, 1000000000, &form);
	buf_release(&form);
	gcs_account_release(&a);
	return 0;
}
