/* Reed-Solomon over GF(2^8): jerasure's reed_sol_van systematic matrix, exactly
 * `reed_sol_vandermonde_coding_matrix(k, m, 8)`. Thread-safe after code_create. Source and target
 * buffers of one call must be 64-byte aligned with sizes a multiple of 16; every caller codes in
 * aligned scratch (gf-complete asserts otherwise). */
#ifndef CODING_CODE_H
#define CODING_CODE_H

#include <stddef.h>
#include <stdint.h>

#define CODE_MAX_N 32

struct code;

/* 1 <= k, 0 <= m, 2 <= k + m <= 32. 0, -EINVAL, -ENOMEM. The field is initialised once, before any
 * thread uses it (libraries publish it too early). */
int code_create(int k, int m, struct code **out);
void code_destroy(struct code *c);
int code_k(const struct code *c);
int code_m(const struct code *c);

/* parity[0..m-1] from data[0..k-1], each size bytes. 0 or -EINVAL (alignment, size). */
int code_encode(const struct code *c, uint8_t *const *data, uint8_t *const *parity, size_t size);

/* frag[0..n-1]: all allocated; bit i of `have` set: frag[i] is good. Rebuilds every fragment in
 * `want` (bit mask, disjoint from have). Needs k good ones: -EINVAL otherwise. */
int code_rebuild(const struct code *c, uint8_t *const *frag, uint32_t have, uint32_t want,
		 size_t size);

#endif
