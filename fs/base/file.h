/* Small files, folders and whole-range I/O on local disks. */
#ifndef FS_BASE_FILE_H
#define FS_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "fs/base/err.h"

/* Whole range or error: 0, a negative errno, or -ENODATA when the file ends before (file_pread).
 * EINTR is retried. */
int file_pread(int fd, void *p, size_t n, uint64_t off);
int file_pwrite(int fd, const void *p, size_t n, uint64_t off);
/* A whole file of at most max bytes; *out is malloc'ed with a NUL behind it. -EFBIG when larger. */
int file_read_all(const char *path, size_t max, uint8_t **out, size_t *len);
/* Write to a temporary name in the same folder, fsync, rename over path, fsync the folder. The old
 * or the new content after a crash. */
int file_replace(const char *path, const void *p, size_t n, mode_t mode);
/* mkdir -p with mode for the new ones; each new one's parent is synced. */
int file_mkdirs(const char *path, mode_t mode);
int file_sync_dir(const char *path);
/* Makes durable what reading the first n bytes shows, though somebody's fsync of them failed: the
 * kernel then calls pages clean that never reached the disk, and no later fsync writes them. So the
 * same bytes are written once more, then synced. Nobody may write to the file meanwhile; a crash in
 * the middle changes nothing. */
int file_resync(int fd, uint64_t n);
/* Concatenates into malloc'ed memory; NULL when out of memory. */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
