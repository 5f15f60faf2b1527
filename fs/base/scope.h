/* Scope helpers: cleanup attributes, locks that end with their block, small arithmetic,
 * container_of. */
#ifndef FS_BASE_SCOPE_H
#define FS_BASE_SCOPE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static inline void scope_free(void *p)
{
	free(*(void **)p);
}
static inline void scope_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void scope_unlock(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}
#define AUTO_FREE        __attribute__((cleanup(scope_free)))
#define AUTO_CLOSE       __attribute__((cleanup(scope_close)))
#define SCOPE_CAT_(a, b) a##b
#define SCOPE_CAT(a, b)  SCOPE_CAT_(a, b)
/* Holds the mutex until the end of the enclosing block. */
#define SCOPE_LOCK(mutex)                                                                          \
	pthread_mutex_t *SCOPE_CAT(scope_lock_, __LINE__)                                          \
	    __attribute__((cleanup(scope_unlock), unused)) = (pthread_mutex_lock(mutex), (mutex))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))

static inline uint64_t round_up_u64(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit * unit;
}

#endif
