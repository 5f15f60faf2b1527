/* Header objects as a hostile backend may serve them, and what a holder of the keys could have put
 * inside.
 * fuzz-sources: fs/drive/header_build.c fs/drive/header_parse.c fs/drive/header_unlock.c crypto/*.c
 * fs/base/*.c fuzz-libs: -lcrypto -largon2 -lgfshare -lpthread */
#include <stdlib.h>
#include <string.h>
#include "fs/drive/header_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *data, size_t size)
{
	struct keyslot slots[KEYSLOT_MAX];
	struct header_blob *b[2];
	struct err e;
	int n;

	if (header_parse(data, size, &b[0])) {
		header_why(data, size, &e);
		return;
	}
	char key[32];
	header_key(key, header_generation(b[0]));
	if (header_shard(b[0]) >= header_count(b[0]) || header_threshold(b[0]) > header_count(b[0]))
		abort();
	b[1] = b[0];
	header_slots(b, 2, slots, &n);
	header_free(b[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t drive[ID_LEN], root[KEY_LEN];
	struct keyslot slots[KEYSLOT_MAX];
	struct manifest mf;
	struct keyring *keys;
	const uint8_t *table;
	size_t len;
	int n;

	if (!size)
		return 0;
	/* The first byte chooses the parser; the inner ones normally see authentic bytes only. */
	switch (data[0] % 3) {
	case 0:
		parse(data + 1, size - 1);
		break;
	case 1:
		keyslots_get(data + 1, size - 1, slots, &n);
		break;
	case 2:
		if (manifest_get(data + 1, size - 1, &mf, &table, &len))
			break;
		if (!keyring_from_root(drive, root, table, len, &keys))
			keyring_destroy(keys);
		manifest_release(&mf);
		break;
	}
	return 0;
}
