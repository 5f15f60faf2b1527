/* Credential files, and endpoints and connection strings that stand in them.
 * fuzz-sources: backends/ini.c backends/credentials.c backends/endpoint.c backends/http_parse.c
 * fs/base/buf.c fs/base/clock.c fs/base/err.c fs/base/file.c fuzz-libs: -lpthread */
#include <stdlib.h>
#include <string.h>
#include "backends/credentials.h"
#include "backends/endpoint.h"
#include "backends/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_setting(void *arg, const char *section, const char *name, const char *value)
{
	struct endpoint ep;
	char *bucket, *prefix;

	*(size_t *)arg += strlen(section) + strlen(name) + strlen(value);
	if (!endpoint_parse(value, 0, &ep, NULL) && !ep.tls && !ep.loopback)
		abort();
	if (!path_split(value, "bucket", &bucket, &prefix, NULL)) {
		if (strstr(prefix, "//") || strstr(prefix, "/../") || strlen(prefix) > 512)
			abort();
		free(bucket);
		free(prefix);
	}
	secret_free(connection_string_get(value, "AccountKey"));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = malloc(size + 1);
	size_t sum = 0;
	int line;

	memcpy(s, data, size);
	s[size] = 0;
	ini_parse_text(s, size, on_setting, &sum, &line);
	free(s);
	return 0;
}
