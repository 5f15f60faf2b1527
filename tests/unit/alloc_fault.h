/* Fails the n-th allocation of the program under test (not of libc's insides), so that unwinding is
 * proven. Linked with -Wl,--wrap for each of malloc, calloc, realloc, reallocarray, strdup,
 * strndup. */
#ifndef TESTS_UNIT_ALLOC_FAULT_H
#define TESTS_UNIT_ALLOC_FAULT_H

/* The n-th allocation from now on, of any thread, fails; 1: the next. */
void alloc_fault_arm(int n);
/* Ends it. 1 when it fired. */
int alloc_fault_disarm(void);

#endif
