/* Errors that a person reads. Functions return 0 or a negative errno; where a command or a mount
 * may have to explain itself, they also fill a struct err with one sentence that names the thing,
 * the allowed range and the remedy.
 *
 * Expected values, the same everywhere: -ENOENT absent, -EBADMSG tag, MAC or checksum wrong,
 * -ESTALE lost a race, -EAGAIN retryable, -ENOSPC quota or cap, -EACCES credentials, -ETIMEDOUT
 * deadline, -ECANCELED cancelled, -EIO else.
 */
#ifndef FS_BASE_ERR_H
#define FS_BASE_ERR_H

#include <stdarg.h>

struct err {
	int code;        /* 0 or negative errno */
	char text[1024]; /* one or more sentences, no trailing newline, never a secret */
};

/* Fills *e (ignored when NULL) and returns code, so that `return err_set(e, -EINVAL, "...")` works.
 * An error that is already set is replaced. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<fmt>: " in front of the text that is there (strerror of code when the text is empty).
 * Returns e->code. */
int err_wrap(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The text, or strerror(code) when nothing was set. Valid as long as *e. */
const char *err_text(const struct err *e, int code);

#endif
