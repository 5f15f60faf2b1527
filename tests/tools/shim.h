/* A library for LD_PRELOAD that stands between a program and its disk, for the crash and fault
 * tests.
 *
 * It sees the calls of the whole process, of SQLite and the other libraries too, that change a file
 * or a folder below the roots. SKYFLOK_SHIM_ROOTS    folders, absolute, separated by ':'
 *   SKYFLOK_SHIM_LOG      records every change with its data, and every sync, in this file;
 * disk_states.py makes crash states of it SKYFLOK_SHIM_CONTROL  struct shim_control in this file:
 * which call is to fail. Shared with forked children and with the test, which reads the counters
 * and may disarm it. All integers in the machine's order.
 *
 *   With it, SIGSEGV, SIGBUS and SIGABRT leave a list of files and functions in the file's name
 * plus ".crash".
 *
 * One process-wide lock is held across a call and its record, so the log has the order of the
 * calls. Syncs have two records, and what was logged before the first is durable when the second is
 * there. Several processes append to one log: each record is one write(2). */
#ifndef TESTS_TOOLS_SHIM_H
#define TESTS_TOOLS_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum shim_class { /* bits of shim_control.classes */
		  SHIM_WRITE = 1,
		  SHIM_SYNC = 2,
		  SHIM_SIZE = 4, /* ftruncate, fallocate */
		  SHIM_OPEN = 8,
		  SHIM_NAME = 16, /* rename, link, mkdir, unlink, rmdir */
		  SHIM_READ = 32,
		  SHIM_ALLOC = 64, /* memory: everywhere, not only below the roots */
};

struct shim_control {
	uint64_t n; /* the n-th call of the classes fails; 0: none, only counted */
	uint64_t classes;
	uint64_t error;
	uint64_t forever; /* and all after it */
	uint64_t count;
	uint64_t fired; /* how often a call was made to fail */
	uint64_t die;   /* the next change below the roots ends the process by SIGKILL, between two
			   changes: a signal from outside would hit one whose record is not written */
};

enum shim_op {
	OP_WRITE = 1, /* a: offset; data */
	OP_SIZE,      /* a: size */
	OP_GROW,      /* a: size at least */
	OP_ZERO,      /* a: offset, b: length; the size stays */
	OP_CREATE,    /* path */
	OP_MKDIR,     /* path */
	OP_LINK,      /* path: one more name of the inode */
	OP_RENAME,    /* path, path2 */
	OP_UNLINK,    /* path */
	OP_RMDIR,     /* path */
	OP_SYNC,      /* a: number of the sync: begins */
	OP_SYNCED,    /* a: its number, b: errno or 0 */
	OP_BAD,       /* path: a call that the log cannot hold; no crash state may be made of it */
};

/* Before path, path2 and data, in this order, in the log. */
struct shim_record {
	uint32_t magic, op;
	uint64_t dev, ino, a, b;
	uint64_t ns; /* CLOCK_MONOTONIC */
	uint32_t pid, path_len, path2_len, data_len;
};
#define SHIM_MAGIC 0x534b5348u

/* A file below the roots. */
struct shim_target {
	uint64_t dev, ino;
	char path[4096];
};

/* 1 and *t when fd is a file or folder below the roots and anybody is interested. errno stays. */
int shim_target(int fd, struct shim_target *t);
/* The same for a name relative to dirfd; dev and ino are 0 when there is nothing (yet). */
int shim_target_at(int dirfd, const char *path, struct shim_target *t);
/* Fills dev and ino anew, by descriptor or by path. */
void shim_stat(int fd, struct shim_target *t);
/* 0, or the errno with which this call of that class is to fail. */
int shim_fails(enum shim_class c);
/* Held across a call and its record; no signal ends the thread meanwhile. */
void shim_lock(void);
void shim_unlock(void);
void shim_log(enum shim_op op, const struct shim_target *t, const char *path2, uint64_t a,
	      uint64_t b, const void *data, size_t n);

#endif
