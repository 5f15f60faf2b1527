#include "fs/drive/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "crypto/secmem.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define PASSPHRASE_MAX 1024

void secret_release(struct secret *s)
{
	secmem_free(s->p);
	memset(s, 0, sizeof(*s));
}

static int start(struct secret *s, struct err *e)
{
	memset(s, 0, sizeof(*s));
	s->kind = KEYSLOT_PASSPHRASE;
	s->p = secmem_alloc(SECRET_MAX + 1);
	return s->p ? 0 : err_set(e, -ENOMEM, "out of memory for the passphrase");
}

/* Cuts the end of line that editors and echo leave, and judges the length. */
static int finish_passphrase(struct secret *s, const char *what, struct err *e)
{
	char *p = s->p;

	if (s->len && p[s->len - 1] == '\n')
		s->len--;
	if (s->len && p[s->len - 1] == '\r')
		s->len--;
	p[s->len] = '\0';
	if (!s->len)
		return err_set(e, -EINVAL, "%s: the passphrase is empty", what);
	if (s->len > PASSPHRASE_MAX)
		return err_set(e, -EINVAL, "%s: the passphrase is longer than %d bytes", what,
			       PASSPHRASE_MAX);
	return 0;
}

static int read_to_end(int fd, struct secret *s, const char *what, struct err *e)
{
	for (;;) {
		ssize_t n = read(fd, (char *)s->p + s->len, SECRET_MAX + 1 - s->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "%s: %s", what, strerror(errno));
		if (!n)
			return 0;
		s->len += (size_t)n;
		if (s->len > SECRET_MAX)
			return err_set(e, -EINVAL, "%s: larger than %u bytes", what, SECRET_MAX);
	}
}

/* A secret that others can read is none. */
static int check_mode(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "%s: this is a folder, not a file with a passphrase",
			       path);
	if (!S_ISREG(st.st_mode))
		return 0; /* a pipe of the shell, <(pass show drive): nothing is stored */
	if (st.st_mode & 077)
		return err_set(e, -EACCES,
			       "%s: others may read this secret (mode %04o): run \"chmod 600 %s\"",
			       path, (unsigned)(st.st_mode & 07777), path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(e, -EACCES, "%s: belongs to another user: make it your own", path);
	return 0;
}

/* trusted: systemd made it and guards its folder (its mode may be 0440 there). */
static int from_file(const char *path, int trusted, enum keyslot_kind kind, struct secret *s,
		     struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int rc;

	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	rc = trusted ? 0 : check_mode(fd, path, e);
	if (!rc)
		rc = read_to_end(fd, s, path, e);
	if (rc)
		return rc;
	s->kind = kind;
	if (kind == KEYSLOT_KEYFILE)
		return s->len ? 0 : err_set(e, -EINVAL, "%s: the key file is empty", path);
	return finish_passphrase(s, path, e);
}

static int from_fd(int fd, struct secret *s, struct err *e)
{
	char what[48];
	int rc;

	snprintf(what, sizeof(what), "file descriptor %d", fd);
	rc = read_to_end(fd, s, what, e);
	return rc ? rc : finish_passphrase(s, what, e);
}

/* 0 found, -ENOENT none. */
static int from_credentials(const char *name, struct secret *s, struct err *e)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	AUTO_FREE char *own = NULL;
	AUTO_FREE char *common = NULL;

	if (!dir || !*dir)
		return -ENOENT;
	own = str_printf("%s/skyflok-%s", dir, name);
	common = str_printf("%s/passphrase", dir);
	if (!own || !common)
		return err_set(e, -ENOMEM, "out of memory");
	if (access(own, F_OK) == 0)
		return from_file(own, 1, KEYSLOT_PASSPHRASE, s, e);
	if (access(common, F_OK) == 0)
		return from_file(common, 1, KEYSLOT_PASSPHRASE, s, e);
	return -ENOENT;
}

/* ---- terminal ---- */

static int tty_fd = -1;
static struct termios tty_saved;
static const int tty_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
static struct sigaction tty_actions[ARRAY_LEN(tty_signals)];
static volatile sig_atomic_t tty_caught;

/* Without SA_RESTART the read returns and the terminal gets its echo back before the signal acts.
 */
static void tty_on_signal(int sig)
{
	tty_caught = sig;
}

static void tty_quiet(void)
{
	struct sigaction sa = { .sa_handler = tty_on_signal };
	struct termios t = tty_saved;

	tty_caught = 0;
	for (size_t i = 0; i < ARRAY_LEN(tty_signals); i++)
		sigaction(tty_signals[i], &sa, &tty_actions[i]);
	t.c_lflag &= (tcflag_t) ~(ECHO | ECHONL);
	t.c_lflag |= ICANON | ISIG;
	tcsetattr(tty_fd, TCSAFLUSH, &t);
}

static void tty_restore(void)
{
	tcsetattr(tty_fd, TCSAFLUSH, &tty_saved);
	for (size_t i = 0; i < ARRAY_LEN(tty_signals); i++)
		sigaction(tty_signals[i], &tty_actions[i], NULL);
}

static void tty_say(const char *text)
{
	(void)!write(tty_fd, text, strlen(text));
}

static int tty_line(const char *prompt, struct secret *s, struct err *e)
{
	int rc = 0;

	tty_say(prompt);
	tty_quiet();
	while (!s->len || ((char *)s->p)[s->len - 1] != '\n') {
		ssize_t n = read(tty_fd, (char *)s->p + s->len, SECRET_MAX - s->len);

		if (n < 0 && errno == EINTR && !tty_caught)
			continue;
		if (n < 0 || tty_caught) {
			rc = err_set(e, -EINTR, "interrupted");
			break;
		}
		if (!n)
			break;
		s->len += (size_t)n;
		if (s->len >= SECRET_MAX)
			break;
	}
	tty_restore();
	tty_say("\n");
	if (tty_caught)
		raise(tty_caught);
	return rc ? rc : finish_passphrase(s, "terminal", e);
}

static int no_terminal(const struct secret_source *src, struct err *e)
{
	return err_set(e, -ENOTTY,
		       "the passphrase of \"%s\" is needed and there is no terminal to ask on: "
		       "give it by --passfile FILE (mode 0600), -o passfile=FILE, --passfd N, or "
		       "systemd's LoadCredential=skyflok-%s:FILE",
		       src->name, src->name);
}

static int from_terminal(const struct secret_source *src, struct secret *s, struct err *e)
{
	struct secret again;
	int rc;

	if (src->no_prompt)
		return no_terminal(src, e);
	tty_fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	if (tty_fd < 0 || tcgetattr(tty_fd, &tty_saved)) {
		if (tty_fd >= 0)
			close(tty_fd);
		return no_terminal(src, e);
	}
	rc = tty_line(src->prompt, s, e);
	if (!rc && src->confirm) {
		rc = start(&again, e);
		if (!rc)
			rc = tty_line("The same again: ", &again, e);
		if (!rc && (again.len != s->len || !secmem_equal(again.p, s->p, s->len)))
			rc = err_set(e, -EINVAL, "the two passphrases differ; nothing was changed");
		secret_release(&again);
	}
	close(tty_fd);
	tty_fd = -1;
	return rc;
}

int secret_get(const struct secret_source *src, struct secret *out, struct err *e)
{
	int rc = start(out, e);

	if (rc)
		return rc;
	if (src->passfile) {
		rc = from_file(src->passfile, 0, KEYSLOT_PASSPHRASE, out, e);
	} else if (src->passfd >= 0) {
		rc = from_fd(src->passfd, out, e);
	} else if (src->keyfile) {
		rc = from_file(src->keyfile, 0, KEYSLOT_KEYFILE, out, e);
	} else {
		rc = src->no_credentials ? -ENOENT : from_credentials(src->name, out, e);
		if (rc == -ENOENT)
			rc = from_terminal(src, out, e);
	}
	if (rc)
		secret_release(out);
	return rc;
}

int secret_recovery(const struct secret *s, uint8_t key[32])
{
	return s->kind == KEYSLOT_PASSPHRASE && recovery_key_parse(s->p, key) == 0;
}
