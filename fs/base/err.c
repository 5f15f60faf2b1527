#include "fs/base/err.h"

#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
	char text[sizeof(e->text)];
	va_list ap;

	if (!e)
		return code;
	/* By way of a second buffer, so that e->text may be among the arguments. */
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	memcpy(e->text, text, sizeof(text));
	e->code = code;
	return code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char text[sizeof(e->text)];
	size_t room;
	va_list ap;
	int n;

	if (!e)
		return code;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n < sizeof(text)) {
		room = sizeof(text) - (size_t)n;
		/* A cut tail is better than no message: the cause nearest to the user is in front.
		 */
		if (snprintf(text + n, room, ": %s", err_text(e, code)) < 0)
			text[n] = '\0';
	}
	memcpy(e->text, text, sizeof(text));
	e->code = code;
	return code;
}

const char *err_text(const struct err *e, int code)
{
	const char *s;

	if (e && e->text[0])
		return e->text;
	/* Not strerror(): its buffer for unknown numbers is shared between threads. */
	s = strerrordesc_np(code < 0 ? -code : code);
	return s ? s : "unknown error";
}
