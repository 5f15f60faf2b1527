#include "coding/code.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <jerasure.h>
#include <jerasure/galois.h>
#include <jerasure/reed_sol.h>

#define W 8 /* bits of a field element: k + m <= 256 would fit, the drive stops at 32 */

struct code {
	int k, m;
	int *matrix; /* m rows of k coefficients; NULL when m == 0 */
};

static pthread_once_t field_once = PTHREAD_ONCE_INIT;
static int field_ok;

/* galois.c publishes a field's table before it is filled, so the first use must be over before a
 * second thread can see it. That goes for w = 32 as well: jerasure adds whole regions (coefficient
 * 1) by that field, whatever the code's own is, and makes it at the first addition. */
static void field_init(void)
{
	field_ok = galois_init_default_field(W) == 0 && galois_init_default_field(32) == 0;
}

int code_create(int k, int m, struct code **out)
{
	*out = NULL;
	if (k < 1 || m < 0 || k > CODE_MAX_N || m > CODE_MAX_N || k + m < 2 || k + m > CODE_MAX_N)
		return -EINVAL; /* jerasure asserts on what it does not like: never let it see such
				   values */
	pthread_once(&field_once, field_init);
	if (!field_ok)
		return -ENOMEM;
	struct code *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->k = k, c->m = m;
	if (m > 0)
		c->matrix = reed_sol_vandermonde_coding_matrix(k, m, W);
	if (m > 0 && !c->matrix) {
		free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void code_destroy(struct code *c)
{
	if (!c)
		return;
	free(c->matrix);
	free(c);
}

int code_k(const struct code *c)
{
	return c->k;
}

int code_m(const struct code *c)
{
	return c->m;
}

/* gf-complete's SIMD kernels assert unless source and target are equal mod 16. */
static int buffer_ok(const uint8_t *p)
{
	return p && (uintptr_t)p % 64 == 0;
}

int code_encode(const struct code *c, uint8_t *const *data, uint8_t *const *parity, size_t size)
{
	char *d[CODE_MAX_N], *p[CODE_MAX_N];

	if (size == 0 || size % 16 || size > 1 << 30)
		return -EINVAL;
	for (int i = 0; i < c->k; i++) {
		if (!buffer_ok(data[i]))
			return -EINVAL;
		d[i] = (char *)data[i];
	}
	for (int i = 0; i < c->m; i++) {
		if (!buffer_ok(parity[i]))
			return -EINVAL;
		p[i] = (char *)parity[i];
	}
	if (c->m > 0)
		jerasure_matrix_encode(c->k, c->m, W, c->matrix, d, p, (int)size);
	return 0;
}

/* The row that makes fragment `target` out of the k fragments that decode was computed for: decode
 * is k x k, data[i] = sum decode[i][j] * source[j]. */
static void target_row(const struct code *c, int target, const int *decode, int *row)
{
	if (target < c->k) {
		for (int j = 0; j < c->k; j++)
			row[j] = decode[target * c->k + j];
		return;
	}
	for (int j = 0; j < c->k; j++) {
		row[j] = 0;
		for (int i = 0; i < c->k; i++)
			row[j] ^= galois_single_multiply(c->matrix[(target - c->k) * c->k + i],
							 decode[i * c->k + j], W);
	}
}

int code_rebuild(const struct code *c, uint8_t *const *frag, uint32_t have, uint32_t want,
		 size_t size)
{
	int n = c->k + c->m, good = 0;
	int erased[CODE_MAX_N], source[CODE_MAX_N], row[CODE_MAX_N],
	    decode[CODE_MAX_N * CODE_MAX_N];
	char *ptr[CODE_MAX_N];
	uint32_t all = n == 32 ? UINT32_MAX : (1u << n) - 1;

	if ((have | want) & ~all || have & want || size == 0 || size % 16 || size > 1 << 30)
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		erased[i] = !(have >> i & 1);
		good += !erased[i];
		ptr[i] = (char *)frag[i];
		if ((have | want) >> i & 1 && !buffer_ok(frag[i]))
			return -EINVAL;
	}
	if (good < c->k)
		return -EINVAL;
	if (!want)
		return 0;
	if (c->m == 0)
		return -EINVAL; /* unreachable: have is all k, so want is empty */
	if (jerasure_make_decoding_matrix(c->k, c->m, W, c->matrix, erased, decode, source) < 0)
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		if (!(want >> i & 1))
			continue;
		target_row(c, i, decode, row);
		jerasure_matrix_dotprod(c->k, W, row, source, i, ptr, ptr + c->k, (int)size);
	}
	return 0;
}
