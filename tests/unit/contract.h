/* The contract of backends/backend.h as tests that run over any backend: over mem, its reference,
 * and every other one and every layer the same. */
#ifndef TESTS_UNIT_CONTRACT_H
#define TESTS_UNIT_CONTRACT_H

#include <check.h>
#include <pthread.h>

#include "backends/backend.h"

enum {
	CONTRACT_FEW = 1, /* requests cost time or money: no second page of a list, fewer at once */
	CONTRACT_NO_ABSENT_IF = 2, /* the place cannot put conditionally */
};

/* A backend to test, opened for one case. Keys are made below prefix, which ends with '/' (or is
 * "") and is unique. */
struct contract_place {
	struct backend *b;
	char prefix[64];
	unsigned flags;
	void *state; /* the factory's */
};

struct contract_factory {
	const char *name;
	/* Fills *p. NULL, or why it has to be skipped. Fails the test by ck_abort. */
	const char *(*open)(struct contract_place *p);
	void (*close)(struct contract_place *p); /* destroys p->b */
};

/* A test case for each factory, every part of the contract as a test of its own. factories: static.
 */
void contract_add(Suite *s, const struct contract_factory *factories, int n);

/* All parts, one after the other, on an open backend; for places that cannot be opened by a
 * factory. */
void contract_run(struct backend *b, const char *prefix, unsigned flags);

/* Many requests in flight, and waiting for all of them with a deadline. Also of use in other tests.
 */
struct flight {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int ended; /* by lock */
};
struct flight_req {
	struct backend_req req;
	struct flight *flight;
	struct iovec iov;
	char key[BACKEND_KEY_MAX + 1];
	int dones;  /* by flight->lock: how often done() was called */
	int result; /* by flight->lock */
};
void flight_init(struct flight *f);
void flight_release(struct flight *f);
/* Fills in a request of its own; the caller may change it before backend_submit. */
void flight_req_init(struct flight_req *r, struct flight *f, enum backend_op op, const char *key,
		     void *p, size_t n);
/* Fails the test when fewer than n have ended after 20 s. */
void flight_wait(struct flight *f, int n);
int flight_try_wait(struct flight *f, int n); /* the same without failing: how many have ended */
int flight_ended(struct flight *f);

/* Bytes that depend on seed and position. */
void pattern_fill(uint8_t *p, size_t n, unsigned seed);

/* A new folder under $TMPDIR or /tmp, and its removal with everything in it. */
void tmp_folder(char path[64]);
void tmp_folder_remove(const char *path);

#endif
