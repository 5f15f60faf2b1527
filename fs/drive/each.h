/* The same blocking step on every backend, at the same time: what one that hangs costs is one
 * deadline, not n. For commands and background care; never on the path of a request. */
#ifndef FS_DRIVE_EACH_H
#define FS_DRIVE_EACH_H

/* Calls fn(arg, i) for i = 0..n-1 (n <= 32), each in a thread of its own, and waits for all. When
 * failpoints are set, or threads are short, they run one after the other: a test then knows what
 * was done before a crash. */
void each_backend(int n, void (*fn)(void *arg, int i), void *arg);

#endif
