#include "tests/unit/alloc_fault.h"

#include <stddef.h>

static int countdown; /* atomic; 0: off */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t m);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t m);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void alloc_fault_arm(int n)
{
	__atomic_store_n(&countdown, n, __ATOMIC_SEQ_CST);
}

int alloc_fault_disarm(void)
{
	return __atomic_exchange_n(&countdown, 0, __ATOMIC_SEQ_CST) < 0;
}

/* Counts down to 1, fires, and stays at -1. */
static int fails(void)
{
	int v = __atomic_load_n(&countdown, __ATOMIC_SEQ_CST);

	while (v > 0)
		if (__atomic_compare_exchange_n(&countdown, &v, v == 1 ? -1 : v - 1, 0,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return v == 1;
	return 0;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fails() ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t m)
{
	return fails() ? NULL : __real_reallocarray(p, n, m);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return fails() ? NULL : __real_strndup(s, n);
}
