/* The engine. States of a request (all moves under the engine's lock, by the network thread but
 * for the first):
 *
 *   IDLE/FINISHED --submit--> WAITING --slot free--> RUNNING --libcurl is done--> FINISHED
 *                                \--cancel, wake, deadline--------/--cancel-----> FINISHED
 *   RUNNING --prepare() parks it--> WAITING (parked)
 *
 * A FINISHED request is the caller's again as soon as done() is called, which happens without the
 * lock. The lock is a leaf: nothing is called and nothing waits under it. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "backends/http_priv.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"

#define POOL_MAX 64

struct engine {
	pthread_t thread;
	CURLM *multi;
	CURLSH *share; /* TLS sessions: else each easy handle has its own */
	pthread_mutex_t lock;
	/* guarded by lock */
	struct list sites, parked, changes;
	int64_t next_due; /* no waiting request is due before; INT64_MAX: none waits */
	int kicked, stop;
	/* network thread only */
	struct list pool;
	int pooled;
	struct http_sockets sockets;
};

/* The one engine of the process and how many sites use it: deliberately static, for one network
 * thread serves all drives and backends. */
static pthread_mutex_t users_lock = PTHREAD_MUTEX_INITIALIZER;
static struct engine *engine;
static int users;

static void kick_locked(struct engine *e)
{
	if (!e->kicked) {
		e->kicked = 1;
		curl_multi_wakeup(e->multi);
	}
}

/* Ends a request; its done() is called when `ended` is worked off. */
static void end_locked(struct http_req *r, struct list *ended)
{
	r->state = HTTP_FINISHED;
	list_remove(&r->change);
	list_remove(&r->link);
	list_push_back(ended, &r->link);
}

static void end_waiting_locked(struct http_req *r, int result, struct list *ended)
{
	r->result = result;
	if (result)
		snprintf(r->problem, sizeof(r->problem), "%s",
			 result == -ECANCELED ? "cancelled" : "no free connection in time");
	r->unasked = result == -ETIMEDOUT && !r->parked;
	end_locked(r, ended);
}

static void call_done(struct list *ended)
{
	struct list *l;

	while ((l = list_first(ended))) {
		struct http_req *r = list_entry(l, struct http_req, link);
		list_remove(l);
		r->done(r);
	}
}

static void transfer_drop(struct engine *e, struct http_transfer *t)
{
	if (e->pooled >= POOL_MAX) {
		http_transfer_destroy(t);
		return;
	}
	http_transfer_reset(t);
	list_push_back(&e->pool, &t->link);
	e->pooled++;
}

static struct http_transfer *transfer_take(struct engine *e)
{
	struct list *l = list_first(&e->pool);

	if (!l)
		return http_transfer_create();
	list_remove(l);
	e->pooled--;
	return list_entry(l, struct http_transfer, link);
}

/* libcurl is through with it. */
static void transfer_done(struct engine *e, struct http_transfer *t, CURLcode code,
			  struct list *ended)
{
	struct http_req *r = t->r;
	struct http_site *site = t->site;

	curl_multi_remove_handle(e->multi, t->easy);
	if (http_transfer_stale(t, code)) {
		r->restarted = 1;
		http_transfer_reset(t);
		if (!http_transfer_begin(t, r, site, e->share, &e->sockets) &&
		    curl_multi_add_handle(e->multi, t->easy) == CURLM_OK)
			return;
		code = CURLE_OUT_OF_MEMORY;
	}
	http_transfer_end(t, code);
	{
		SCOPE_LOCK(&e->lock);
		site->running--;
		r->transfer = NULL;
		end_locked(r, ended);
	}
	transfer_drop(e, t);
}

/* Cancelled while running: removed from the multi, which closes its connection. */
static void transfer_cancel(struct engine *e, struct http_req *r, struct list *ended)
{
	struct http_transfer *t = r->transfer;

	curl_multi_remove_handle(e->multi, t->easy);
	r->result = -ECANCELED;
	snprintf(r->problem, sizeof(r->problem), "cancelled");
	{
		SCOPE_LOCK(&e->lock);
		t->site->running--;
		r->transfer = NULL;
		end_locked(r, ended);
	}
	transfer_drop(e, t);
}

/* Cancelled or woken. Those that run are handed out in `victims`. */
static void take_changes_locked(struct engine *e, struct list *ended, struct list *victims)
{
	struct list *l;

	while ((l = list_first(&e->changes))) {
		struct http_req *r = list_entry(l, struct http_req, change);
		list_remove(l);
		if (r->state == HTTP_RUNNING && r->cancelled)
			list_push_back(victims, &r->change);
		else if (r->state == HTTP_WAITING && r->cancelled)
			end_waiting_locked(r, -ECANCELED, ended);
		else if (r->state == HTTP_WAITING && r->parked && r->woken)
			end_waiting_locked(r, 0, ended);
	}
}

static void expire_list_locked(struct engine *e, struct list *waiting, int64_t now,
			       struct list *ended)
{
	list_for_each_safe (l, waiting) {
		struct http_req *r = list_entry(l, struct http_req, link);
		if (r->due <= now)
			end_waiting_locked(r, -ETIMEDOUT, ended);
		else if (r->due < e->next_due)
			e->next_due = r->due;
	}
}

static void expire_locked(struct engine *e, struct list *ended)
{
	int64_t now = clock_mono_ns();

	if (now < e->next_due)
		return;
	e->next_due = INT64_MAX;
	expire_list_locked(e, &e->parked, now, ended);
	list_for_each (l, &e->sites)
		expire_list_locked(e, &list_entry(l, struct http_site, link)->queue, now, ended);
}

/* Moves what may run now to `starting`. */
static void pick_locked(struct engine *e, struct list *starting)
{
	list_for_each (l, &e->sites) {
		struct http_site *s = list_entry(l, struct http_site, link);
		while (s->running < s->max && !list_empty(&s->queue)) {
			struct http_req *r =
			    list_entry(list_first(&s->queue), struct http_req, link);
			list_remove(&r->link);
			r->state = HTTP_RUNNING;
			s->running++;
			list_push_back(starting, &r->link);
		}
	}
}

/* Its turn has come, but it does not go on the wire now: parked, or ended. */
static void not_started(struct engine *e, struct http_req *r, int why, struct list *ended)
{
	SCOPE_LOCK(&e->lock);
	r->site->running--;
	if (why == HTTP_PARK) {
		r->parked = 1;
		r->state = HTTP_WAITING;
		list_push_back(&e->parked, &r->link);
		e->next_due = MIN(e->next_due, r->due);
		return;
	}
	r->result = why;
	r->unasked = 1;
	end_locked(r, ended);
}

static void start_one(struct engine *e, struct http_req *r, struct list *ended)
{
	struct http_transfer *t;
	int why = r->prepare ? r->prepare(r) : 0;

	list_remove(&r->link);
	t = why ? NULL : transfer_take(e);
	if (t && !http_transfer_begin(t, r, r->site, e->share, &e->sockets) &&
	    curl_multi_add_handle(e->multi, t->easy) == CURLM_OK) {
		/* transfer is read by this thread only */
		r->transfer = t;
		return;
	}
	if (t)
		transfer_drop(e, t);
	not_started(e, r, why ? why : -ENOMEM, ended);
}

static void read_outcomes(struct engine *e, struct list *ended)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(e->multi, &left))) {
		struct http_transfer *t = NULL;
		CURLcode code = m->data.result;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		transfer_done(e, t, code, ended);
	}
}

/* One round. Returns 0 when the engine is to stop, else sets how long poll may sleep. */
static int engine_round(struct engine *e, int *sleep_ms)
{
	struct list ended, victims, starting, *l;
	int64_t due, left;
	int running;

	list_init(&ended);
	list_init(&victims);
	list_init(&starting);
	{
		SCOPE_LOCK(&e->lock);
		if (e->stop)
			return 0;
		e->kicked = 0;
		take_changes_locked(e, &ended, &victims);
		expire_locked(e, &ended);
		pick_locked(e, &starting);
	}
	while ((l = list_first(&victims))) {
		list_remove(l);
		transfer_cancel(e, list_entry(l, struct http_req, change), &ended);
	}
	while ((l = list_first(&starting)))
		start_one(e, list_entry(l, struct http_req, link), &ended);
	curl_multi_perform(e->multi, &running);
	read_outcomes(e, &ended);
	*sleep_ms = list_empty(&ended) ? 60000 : 0; /* slots are free: others may start */
	call_done(&ended);
	{
		SCOPE_LOCK(&e->lock);
		due = e->next_due;
	}
	left = due == INT64_MAX ? *sleep_ms : (due - clock_mono_ns()) / NS_PER_MS + 1;
	*sleep_ms = (int)MAX(0, MIN(left, *sleep_ms));
	return 1;
}

static void *engine_run(void *arg)
{
	struct engine *e = arg;
	int sleep_ms = 0;

	pthread_setname_np(pthread_self(), "http");
	while (engine_round(e, &sleep_ms))
		curl_multi_poll(e->multi, NULL, 0, sleep_ms, NULL);
	return NULL;
}

static void engine_free(struct engine *e)
{
	struct list *l;

	while ((l = list_first(&e->pool))) {
		list_remove(l);
		http_transfer_destroy(list_entry(l, struct http_transfer, link));
	}
	if (e->multi)
		curl_multi_cleanup(e->multi);
	if (e->share)
		curl_share_cleanup(e->share);
	pthread_mutex_destroy(&e->lock);
	free(e);
	curl_global_cleanup();
}

/* All signals are blocked in the thread; that also turns SIGPIPE, which OpenSSL's writes may raise,
 * into EPIPE. */
static int engine_thread(struct engine *e)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&e->thread, NULL, engine_run, e);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

static int engine_create(struct engine **out)
{
	struct engine *e;

	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		return -ENOMEM;
	e = calloc(1, sizeof(*e));
	if (!e) {
		curl_global_cleanup();
		return -ENOMEM;
	}
	pthread_mutex_init(&e->lock, NULL);
	list_init(&e->sites);
	list_init(&e->parked);
	list_init(&e->changes);
	list_init(&e->pool);
	e->next_due = INT64_MAX;
	e->multi = curl_multi_init();
	e->share = curl_share_init();
	if (!e->multi || !e->share)
		goto free_engine;
	curl_multi_setopt(e->multi, CURLMOPT_MAXCONNECTS, 256L);
	curl_multi_setopt(e->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_share_setopt(e->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	if (engine_thread(e))
		goto free_engine;
	*out = e;
	return 0;
free_engine:
	engine_free(e);
	return -EAGAIN;
}

static int site_set_ca(struct http_site *s, const char *ca, struct err *e)
{
	struct stat st;

	if (!ca)
		ca = getenv("SSL_CERT_FILE");
	if (!ca || !*ca)
		return 0;
	if (stat(ca, &st))
		return err_set(e, -errno, "certificates: %s: %s", ca, strerror(errno));
	s->ca_is_dir = S_ISDIR(st.st_mode);
	s->ca = strdup(ca);
	return s->ca ? 0 : -ENOMEM;
}

static int engine_use(struct http_site *s, struct err *e)
{
	int r;

	SCOPE_LOCK(&users_lock);
	if (!engine) {
		r = engine_create(&engine);
		if (r)
			return err_set(e, r, "the network thread cannot be started: %s",
				       strerror(-r));
	}
	users++;
	SCOPE_LOCK(&engine->lock);
	list_push_back(&engine->sites, &s->link);
	return 0;
}

int http_site_open(const struct http_conf *conf, struct http_site **out, struct err *e)
{
	struct http_site *s = calloc(1, sizeof(*s));
	int r;

	*out = NULL;
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->max = conf->max ? conf->max : 32;
	s->direct = conf->direct;
	list_init(&s->queue);
	r = site_set_ca(s, conf->ca, e);
	if (!r)
		r = engine_use(s, e);
	if (r) {
		free(s->ca);
		free(s);
		return r;
	}
	*out = s;
	return 0;
}

void http_site_close(struct http_site *s)
{
	struct engine *e;

	if (!s)
		return;
	SCOPE_LOCK(&users_lock);
	e = engine;
	{
		SCOPE_LOCK(&e->lock);
		list_remove(&s->link);
		if (!--users) {
			e->stop = 1;
			kick_locked(e);
		}
	}
	free(s->ca);
	free(s);
	if (users)
		return;
	pthread_join(e->thread, NULL);
	engine_free(e);
	engine = NULL;
}

void http_submit(struct http_site *s, struct http_req *r)
{
	/* A site exists, so the engine does, and will as long as the site. */
	struct engine *e = __atomic_load_n(&engine, __ATOMIC_RELAXED);

	buf_reset(&r->text);
	buf_reset(&r->answer);
	r->result = r->unasked = r->status = 0;
	r->got = 0;
	r->problem[0] = 0;
	r->site = s;
	r->transfer = NULL;
	r->cancelled = r->woken = r->restarted = 0;
	r->due = r->deadline;
	list_init(&r->change);
	SCOPE_LOCK(&e->lock);
	r->state = HTTP_WAITING;
	list_init(&r->link);
	list_push_back(r->parked ? &e->parked : &s->queue, &r->link);
	e->next_due = MIN(e->next_due, r->due);
	kick_locked(e);
}

static void change(struct http_req *r, int cancel)
{
	struct engine *e = __atomic_load_n(&engine, __ATOMIC_RELAXED);

	if (!r->site)
		return; /* never submitted */
	SCOPE_LOCK(&e->lock);
	if (r->state != HTTP_WAITING && r->state != HTTP_RUNNING)
		return;
	if (cancel)
		r->cancelled = 1;
	else
		r->woken = 1;
	if (list_empty(&r->change))
		list_push_back(&e->changes, &r->change);
	kick_locked(e);
}

void http_cancel(struct http_req *r)
{
	change(r, 1);
}

void http_wake(struct http_req *r)
{
	change(r, 0);
}

void http_req_release(struct http_req *r)
{
	buf_release(&r->text);
	buf_release(&r->answer);
}

const char *http_header(const struct http_req *r, const char *name)
{
	size_t n = strlen(name);
	const char *p = (const char *)r->answer.p, *end = p + r->answer.len;

	for (; p < end; p += strlen(p) + 1) {
		if (strncasecmp(p, name, n) || p[n] != ':')
			continue;
		p += n + 1;
		return p + strspn(p, " \t");
	}
	return NULL;
}
