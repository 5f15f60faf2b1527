#include "fs/drive/guard.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cloud.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define OPEN_AGAIN (5 * NS_PER_S)

struct guard {
	struct backend b;
	const struct backend_url *url;
	struct backend_env env;
	struct backend *real; /* atomic; once set it stays until destroy */
	int foreign;          /* atomic: it carries another drive's marker, as was answered last */
	pthread_mutex_t lock; /* guards the rest */
	int64_t tried;
	int trying;
	struct err why; /* it is closed or foreign */
};

static struct guard *guard_of(struct backend *b);

/* Opening reads the credential file, no more: short enough for whoever asks, and seldom. */
static struct backend *guard_real(struct guard *g)
{
	struct backend *real = __atomic_load_n(&g->real, __ATOMIC_ACQUIRE);
	int64_t now = clock_mono_ns();
	struct err why = { 0 };
	int rc;

	if (real)
		return real;
	pthread_mutex_lock(&g->lock);
	if (g->trying || g->real || now < g->tried + OPEN_AGAIN) {
		pthread_mutex_unlock(&g->lock);
		return __atomic_load_n(&g->real, __ATOMIC_ACQUIRE);
	}
	g->trying = 1;
	g->tried = now;
	pthread_mutex_unlock(&g->lock);
	rc = backend_open(g->url, &g->env, &real, &why);
	pthread_mutex_lock(&g->lock);
	g->trying = 0;
	if (rc)
		g->why = why;
	else
		__atomic_store_n(&g->real, real, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&g->lock);
	if (!rc)
		log_info("backend %s: its credentials were found", g->b.name);
	return real;
}

static void guard_submit(struct backend *b, struct backend_req *req)
{
	struct guard *g = guard_of(b);
	struct backend *real = guard_real(g);

	if (real && !__atomic_load_n(&g->foreign, __ATOMIC_ACQUIRE)) {
		real->ops->submit(real, req);
		return;
	}
	req->result = real ? -ENODEV : -EACCES;
	req->done(req);
}

/* A request that was answered here has no part that the cloud would know. */
static void guard_cancel(struct backend *b, struct backend_req *req)
{
	struct backend *real = __atomic_load_n(&guard_of(b)->real, __ATOMIC_ACQUIRE);

	if (real && req->impl[0])
		real->ops->cancel(real, req);
}

static void guard_destroy(struct backend *b)
{
	struct guard *g = guard_of(b);

	backend_destroy(g->real);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

static int closed(struct guard *g, struct err *e)
{
	SCOPE_LOCK(&g->lock);
	return err_set(e, -EACCES, "%s", err_text(&g->why, -EACCES));
}

static int guard_claim(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		       struct err *e)
{
	struct backend *real = guard_real(guard_of(b));

	return real ? backend_claim(real, drive, uuid, e) : closed(guard_of(b), e);
}

static int guard_unclaim(struct backend *b, const uint8_t drive[16], struct err *e)
{
	struct backend *real = guard_real(guard_of(b));

	return real ? backend_unclaim(real, drive, e) : closed(guard_of(b), e);
}

static int guard_look(struct backend *b, const uint8_t drive[16], const uint8_t uuid[16],
		      int64_t timeout, struct err *e)
{
	struct backend *real = guard_real(guard_of(b));

	return real ? backend_verify(real, drive, uuid, timeout, e) : closed(guard_of(b), e);
}

static const struct backend_ops guard_ops = {
	.name = "guard",
	.submit = guard_submit,
	.cancel = guard_cancel,
	.destroy = guard_destroy,
	.claim = guard_claim,
	.unclaim = guard_unclaim,
	.verify = guard_look,
};

static struct guard *guard_of(struct backend *b)
{
	return b->ops == &guard_ops ? container_of(b, struct guard, b) : NULL;
}

int guard_open(const struct backend_url *u, const struct backend_env *env, struct backend **out,
	       struct err *e)
{
	struct backend *real = NULL;
	struct err why = { 0 };
	struct guard *g;
	int rc = backend_open(u, env, &real, &why);

	*out = NULL;
	if (rc && rc != -EACCES)
		return err_set(e, rc, "%s", err_text(&why, rc));
	if (real && !real->ops->verify) {
		*out = real;
		return 0;
	}
	g = calloc(1, sizeof(*g));
	if (!g) {
		backend_destroy(real);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*g = (struct guard){ .url = u, .env = *env, .real = real, .tried = clock_mono_ns() };
	g->b.ops = &guard_ops;
	g->b.timeout = env->timeout;
	g->b.stop = env->stop;
	g->why = why;
	pthread_mutex_init(&g->lock, NULL);
	if (real)
		memcpy(g->b.name, real->name, sizeof(g->b.name));
	else
		snprintf(g->b.name, sizeof(g->b.name), "%s%s%s", u->provider,
			 u->location[0] ? " " : "", u->location);
	*out = &g->b;
	return 0;
}

/* The place answered, and has no marker of any drive. */
static void mark_again(struct guard *g, struct backend *real, int may_claim)
{
	struct err e = { 0 };

	if (may_claim && !backend_claim(real, g->env.drive, g->env.uuid, &e))
		log_warn("backend %s was empty, the drive's marker had gone with the rest: it is "
			 "marked again. What it should hold is missing",
			 g->b.name);
	else
		log_warn("backend %s: the drive's marker is missing; objects may have been deleted "
			 "there. %s",
			 g->b.name, e.text);
}

int guard_verify(struct backend *b, int may_claim, int64_t timeout)
{
	struct guard *g = guard_of(b);
	struct backend *real = g ? guard_real(g) : NULL;
	struct err e = { 0 };
	int rc;

	if (!g)
		return 1;
	if (!real)
		return 0;
	rc = backend_verify(real, g->env.drive, g->env.uuid, timeout, &e);
	if (rc == -EEXIST) {
		pthread_mutex_lock(&g->lock);
		g->why = e;
		pthread_mutex_unlock(&g->lock);
		if (!__atomic_exchange_n(&g->foreign, 1, __ATOMIC_ACQ_REL))
			log_error("%s. It is not used; the drive goes on with the others", e.text);
		return 0; /* the marker has no MAC: one wrong bit on the way says the same */
	}
	if (rc == -ENOENT && !guard_foreign(b))
		mark_again(g, real, may_claim);
	if (!rc && __atomic_exchange_n(&g->foreign, 0, __ATOMIC_ACQ_REL))
		log_info("backend %s carries this drive's marker now: it is used again", g->b.name);
	return !rc || (rc == -ENOENT && !guard_foreign(b));
}

int guard_foreign(struct backend *b)
{
	struct guard *g = guard_of(b);

	return g && __atomic_load_n(&g->foreign, __ATOMIC_ACQUIRE);
}

void guard_words(struct backend *b, char *out, size_t size)
{
	struct guard *g = guard_of(b);
	struct backend *real = g ? __atomic_load_n(&g->real, __ATOMIC_ACQUIRE) : NULL;

	*out = '\0';
	if (real && !__atomic_load_n(&g->foreign, __ATOMIC_ACQUIRE)) {
		cloud_words(real, out, size);
	} else if (g) {
		SCOPE_LOCK(&g->lock);
		snprintf(out, size, "%s", g->why.text);
	}
}
