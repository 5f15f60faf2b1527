/* The control socket of a mounted drive: STATE/NAME/control, mode 0600, for the owner and root.
 * One JSON object per line. A request has "cmd"; the answer is any number of {"progress": {...}}
 * lines and then one {"ok": true, ...} or {"ok": false, "errno": N, "error": "sentence"}. Several
 * requests may follow each other on one connection.
 */
#ifndef FS_DRIVE_CONTROL_H
#define FS_DRIVE_CONTROL_H

#include <jansson.h>
#include "fs/base/err.h"

/* A JSON string of text that may not be UTF-8 (paths are bytes): such bytes become '?'. */
json_t *control_text(const char *text);

/* ---- the daemon's side ---- */

struct control;
struct control_conn;

struct control_command {
	const char *name;
	/* Runs in a thread of the connection; may block, but looks at control_cancelled at least
	 * once a second. On success *reply (may stay NULL) is an object, taken. 0 or a negative
	 * errno with *e. */
	int (*run)(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		   struct err *e);
};

/* Listens; replaces a socket file that a dead daemon left (the caller holds the drive's lock).
 * commands end with .name = NULL; at most 16 connections at a time. 0 or errno with *e. */
int control_serve(const char *path, const struct control_command *commands, void *arg,
		  struct control **out, struct err *e);
/* Sends a progress line (fields is taken). -EPIPE when the other side has gone. */
int control_progress(struct control_conn *conn, json_t *fields);
/* 1 when the client has gone or the server stops: a waiting command should end. */
int control_cancelled(struct control_conn *conn);
/* Stops listening, makes commands end, waits for them, removes the socket file. NULL is fine. */
void control_stop(struct control *c);

/* ---- the commands' side ---- */

struct control_client;

/* -ENOENT, -ECONNREFUSED: nobody listens (not mounted); -EACCES. No sentence: expected results. */
int control_connect(const char *path, struct control_client **out);
/* Sends {"cmd": cmd, ...args} (args taken, may be NULL) and waits for the answer; progress lines go
 * to progress (may be NULL). timeout in ns between lines; 0: none. *reply belongs to the caller. 0;
 * the daemon's errno and sentence; -EPIPE the daemon ended meanwhile; -ETIMEDOUT. */
int control_call(struct control_client *c, const char *cmd, json_t *args, int64_t timeout,
		 void (*progress)(void *arg, const json_t *fields), void *progress_arg,
		 json_t **reply, struct err *e);
/* The same in two steps, for a command that sends a progress line as soon as it runs: control_begin
 * returns when it does, control_await waits for the answer. */
int control_begin(struct control_client *c, const char *cmd, json_t *args, int64_t timeout,
		  struct err *e);
int control_await(struct control_client *c, int64_t timeout,
		  void (*progress)(void *arg, const json_t *fields), void *progress_arg,
		  json_t **reply, struct err *e);
/* Waits until the daemon closes its side, which it does when it ends. 0 or -ETIMEDOUT. */
int control_wait_end(struct control_client *c, int64_t timeout);
void control_disconnect(struct control_client *c);

#endif
