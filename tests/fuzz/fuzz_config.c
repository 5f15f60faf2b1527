/* NAME.conf with the URLs in it, lists of mount options, sizes and times.
 * fuzz-sources: fs/drive/config.c fs/drive/paths.c backends/*.c crypto/digest.c crypto/sign.c
 * crypto/base64.c crypto/secmem.c fs/base/*.c fuzz-libs: -lcurl -ljansson -lexpat -linih -lcrypto
 * -lpthread */
#include <stdlib.h>
#include <string.h>
#include "backends/placement.h"
#include "fs/base/options.h"
#include "fs/drive/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct some {
	int flag;
	int64_t number, octal, time;
	uint64_t bytes;
	char *text;
	int choice;
};
#define AT(member) .offset = offsetof(struct some, member)
static const char *const words[] = { "one", "two", NULL };
static const struct option_def defs[] = {
	{ .name = "flag", .type = OPT_FLAG, AT(flag) },
	{ .name = "number", .type = OPT_INT, AT(number), .min = -5, .max = 1000 },
	{ .name = "octal", .type = OPT_OCTAL, AT(octal), .max = 0777 },
	{ .name = "time", .type = OPT_DURATION, AT(time), .max = INT64_MAX },
	{ .name = "bytes", .type = OPT_SIZE, AT(bytes), .max = INT64_MAX },
	{ .name = "text", .type = OPT_STRING, AT(text), .max = 20 },
	{ .name = "choice", .type = OPT_CHOICE, AT(choice), .choices = words },
	{ .name = NULL },
};

static void config(const char *text)
{
	struct config c = { 0 };
	struct err e = { 0 };

	if (config_parse(text, "fuzz", &c, &e)) {
		if (!e.text[0])
			abort();
		return;
	}
	if (c.n != c.k + c.m || c.n > DRIVE_MAX_BACKENDS || c.k < 1)
		abort();
	for (int i = 0; i < c.n; i++)
		free(backend_url_place(&c.backends[i].parsed));
	config_release(&c);
}

static void url(const char *text)
{
	struct backend_url u;
	struct err e = { 0 };
	uint8_t order[1];

	if (backend_url_parse(text, &u, &e))
		return;
	if (!u.provider || !u.location)
		abort();
	placement_order(&u, (int64_t[]){ 5 }, 1, order);
	free(backend_url_place(&u));
	backend_url_release(&u);
}

static void options(const char *text)
{
	struct some o;
	struct err e = { 0 };

	if (options_defaults(defs, &o, &e))
		abort();
	options_parse_list(defs, &o, text, "fuzz", &e);
	if (o.number < -5 || o.number > 1000 || o.octal < 0 || o.octal > 0777 || o.time < 0 ||
	    o.bytes > INT64_MAX || (o.text && strlen(o.text) > 20))
		abort();
	options_release(defs, &o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = size ? malloc(size) : NULL;

	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	switch (data[0] % 3) {
	case 0:
		config(text);
		break;
	case 1:
		url(text);
		break;
	case 2:
		options(text);
		break;
	}
	free(text);
	return 0;
}
