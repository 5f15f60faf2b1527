#include "fs/cmd/serve_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"
#include "fs/cmd/mounts.h"
#include "fs/drive/status.h"

static const char *phase_word(enum phase p)
{
	switch (p) {
	case PHASE_STARTING:
		return "starting";
	case PHASE_MOUNTED:
		return "mounted";
	case PHASE_DRAINING:
		return "draining";
	default:
		return "closing";
	}
}

/* The drive, held for this command; NULL with -ESHUTDOWN when it is closing. Pairs with give_back.
 */
static struct drive *borrow(struct serve *s, struct err *e)
{
	pthread_rwlock_rdlock(&s->in_use);
	if (s->drive)
		return s->drive;
	pthread_rwlock_unlock(&s->in_use);
	err_set(e, -ESHUTDOWN, "the drive is being closed");
	return NULL;
}

static void give_back(struct serve *s)
{
	pthread_rwlock_unlock(&s->in_use);
}

static enum phase phase_now(struct serve *s)
{
	SCOPE_LOCK(&s->lock);

	return serve_phase_locked(s);
}

static int run_status(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		      struct err *e)
{
	struct serve *s = arg;
	struct drive *d = borrow(s, e);
	json_t *o;

	if (!d)
		return -ESHUTDOWN;
	o = status_live(d);
	give_back(s);
	json_object_set_new(o, "state", json_string(phase_word(phase_now(s))));
	json_object_set_new(o, "mountpoint", control_text(s->mountpoint));
	json_object_set_new(o, "pid", json_integer(getpid()));
	json_object_set_new(o, "since", json_integer(s->since));
	json_object_set_new(o, "read_only", json_boolean(s->o->read_only));
	json_object_set_new(o, "fsync", json_string(s->o->fsync ? "cloud" : "disk"));
	*reply = o;
	return 0;
}

static int run_where(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		     struct err *e)
{
	struct serve *s = arg;
	json_int_t ino = json_integer_value(json_object_get(request, "ino"));
	struct drive *d = ino > 0 ? borrow(s, e) : NULL;
	int rc;

	if (!d)
		return ino > 0 ? -ESHUTDOWN : err_set(e, -EINVAL, "where: no inode number");
	rc = status_where(d, (uint64_t)ino, reply, e);
	give_back(s);
	return rc;
}

/* The backends that a person has to look after. */
static json_t *troubled(struct drive *d)
{
	json_t *list = json_array();

	for (int i = 0; i < drive_config(d)->n; i++) {
		struct health_info h;

		drive_health(d, i, &h);
		if (h.state != HEALTH_OK && h.state != HEALTH_SLOW)
			json_array_append_new(
			    list,
			    json_pack("{s:o,s:s}", "provider",
				      control_text(drive_config(d)->backends[i].parsed.provider),
				      "state", health_word(h.state)));
	}
	return list;
}

struct sync_wait {
	struct serve *s;
	struct drive *d;
	struct control_conn *conn;
};

static int sync_tick(void *arg)
{
	struct sync_wait *w = arg;

	/* An unmount drains by itself; the command that waits here is told to ask there. */
	if (control_cancelled(w->conn) || phase_now(w->s) != PHASE_MOUNTED)
		return 1;
	return control_progress(w->conn, status_left(w->d));
}

/* Everything written before, to all backends that can be reached. level: what it has reached. */
static int run_sync(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		    struct err *e)
{
	struct serve *s = arg;
	json_int_t seconds = json_integer_value(json_object_get(request, "timeout"));
	int64_t deadline = seconds > 0 ? clock_mono_ns() + seconds * NS_PER_S : 0;
	struct drive *d = borrow(s, e);
	struct sync_wait w = { .s = s, .d = d, .conn = conn };
	const char *level = "none";
	json_t *left, *trouble;
	int rc;

	if (!d)
		return -ESHUTDOWN;
	rc = drive_flush(d, SEG_STAGED, deadline, sync_tick, &w);
	if (!rc) {
		level = "staged";
		rc = drive_flush(d, SEG_STORED, deadline, sync_tick, &w);
	}
	if (!rc && strcmp(level, "none")) {
		level = "stored";
		rc = drive_flush(d, SEG_DISPERSED, deadline, sync_tick, &w);
	}
	if (!rc)
		level = "dispersed";
	left = status_left(d);
	trouble = troubled(d);
	give_back(s);
	if (!strcmp(level, "none")) {
		json_decref(left);
		json_decref(trouble);
		return err_set(e, rc, "what was written could not be made durable here: %s",
			       strerror(-rc));
	}
	*reply = json_pack("{s:s,s:i,s:s,s:o,s:o}", "level", level, "errno", -rc, "reason",
			   rc == -ETIMEDOUT ? "the time is over"
			   : rc == -EIO     ? ""
			   : rc             ? strerror(-rc)
					    : "",
			   "left", left, "trouble", trouble);
	return 0;
}

/* Sets what it is given; says what holds. */
static int run_limit(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		     struct err *e)
{
	json_t *want[] = { json_object_get(request, "up"), json_object_get(request, "down") };
	struct serve *s = arg;
	struct drive *d = borrow(s, e);
	uint64_t rate[2];
	int rc = 0;

	if (!d)
		return -ESHUTDOWN;
	drive_bandwidth(d, &rate[0], &rate[1]);
	for (int i = 0; i < 2 && !rc; i++) {
		if (want[i] && (!json_is_integer(want[i]) || json_integer_value(want[i]) < 0))
			rc = err_set(e, -EINVAL, "limit: bytes per second, 0 for none");
		else if (want[i])
			rate[i] = (uint64_t)json_integer_value(want[i]);
	}
	if (!rc && (want[0] || want[1])) {
		rc = drive_set_bandwidth(d, rate[0], rate[1], e);
		if (!rc)
			log_info("bandwidth: at most %llu bytes/s up, %llu down (0: no limit)",
				 (unsigned long long)rate[0], (unsigned long long)rate[1]);
	}
	give_back(s);
	if (!rc)
		*reply =
		    json_pack("{s:I,s:I}", "up", (json_int_t)rate[0], "down", (json_int_t)rate[1]);
	return rc;
}

/* Before an unmount: how long may the daemon drain afterwards. */
static int run_set_drain(void *arg, const json_t *request, struct control_conn *conn,
			 json_t **reply, struct err *e)
{
	json_t *limit = json_object_get(request, "limit");

	if (!json_is_integer(limit) || json_integer_value(limit) < 0)
		return err_set(e, -EINVAL, "set-drain: limit in ms is missing");
	serve_set_drain(arg, json_integer_value(limit) * NS_PER_MS);
	return 0;
}

/* Unmounted by the kernel, while our threads have not seen it yet? */
static int still_mounted(const struct serve *s)
{
	struct mount_entry m;
	const char *drive;
	int yes;

	if (mounts_at(s->mountpoint, &m) != 1)
		return 0;
	drive = mount_entry_drive(&m);
	yes = drive && !strcmp(drive, s->paths->name);
	mount_entry_release(&m);
	return yes;
}

/* A new mount wants the drive: a daemon that only drains makes room. */
static int run_release(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		       struct err *e)
{
	struct serve *s = arg;
	enum phase phase = phase_now(s);

	if (phase == PHASE_STARTING || (phase == PHASE_MOUNTED && still_mounted(s)))
		return err_set(e, -EBUSY, "mounted on %s", s->mountpoint);
	serve_set_drain(s, 0);
	return 0;
}

/* Asked before the unmount: progress while it drains, the answer when the drive is closed. */
static int run_wait_end(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
			struct err *e)
{
	struct serve *s = arg;

	/* "Begun": from now on the answer comes, however fast the drive is closed. */
	if (control_progress(conn, json_object()))
		return -EPIPE;
	pthread_mutex_lock(&s->lock);
	while (s->phase != PHASE_CLOSED) {
		json_t *left = s->left ? json_deep_copy(s->left) : NULL;
		int64_t until = clock_mono_ns() + NS_PER_S / 2;

		pthread_mutex_unlock(&s->lock);
		if (left && control_progress(conn, left))
			return -EPIPE;
		if (control_cancelled(conn) && phase_now(s) != PHASE_CLOSED)
			return -ECANCELED;
		pthread_mutex_lock(&s->lock);
		while (s->phase != PHASE_CLOSED && clock_mono_ns() < until)
			cond_wait_until(&s->changed, &s->lock, until);
	}
	*reply = json_pack("{s:b,s:i,s:s,s:O?}", "drained", !s->drained, "result", -s->result,
			   "staging", s->paths->staging, "left", s->left);
	pthread_mutex_unlock(&s->lock);
	return *reply ? 0 : -ENOMEM;
}

static int run_log(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		   struct err *e)
{
	static const char *const words[] = { "error", "warn", "info", "debug" };
	const char *want = json_string_value(json_object_get(request, "level"));

	for (size_t i = 0; want && i < ARRAY_LEN(words); i++)
		if (!strcmp(words[i], want)) {
			log_set_level((enum log_level)i);
			return 0;
		}
	return err_set(e, -EINVAL, "log level is error, warn, info or debug");
}

const struct control_command serve_commands[] = {
	{ "status", run_status },       { "where", run_where },     { "sync", run_sync },
	{ "set-drain", run_set_drain }, { "release", run_release }, { "wait-end", run_wait_end },
	{ "limit", run_limit },         { "log", run_log },         { NULL, NULL },
};
