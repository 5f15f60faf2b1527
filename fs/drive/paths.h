/* Where a drive keeps what on this machine.
 *
 *   SKYFLOK_HOME=DIR   DIR/config, DIR/state, DIR/cache: a portable drive, or a test
 *   root               /etc/skyflok, /var/lib/skyflok, /var/cache/skyflok
 *   anybody else       $XDG_CONFIG_HOME/skyflok (~/.config), $XDG_STATE_HOME (~/.local/state),
 *                      $XDG_CACHE_HOME (~/.cache)
 *
 * A drive NAME has CONFIG/NAME.conf, CONFIG/NAME.cred (credentials of backends, optional),
 * STATE/NAME/ and CACHE/NAME/. Everything is made with modes 0700 and 0600.
 */
#ifndef FS_DRIVE_PATHS_H
#define FS_DRIVE_PATHS_H

#include "fs/base/err.h"

#define DRIVE_NAME_MAX 63

/* The three folders that hold all drives. Owned strings, absolute. */
struct paths_base {
	char *config, *state, *cache;
};
/* From the environment. -EINVAL (a relative SKYFLOK_HOME, no home folder), -ENOMEM. */
int paths_base_init(struct paths_base *b, struct err *e);
void paths_base_release(struct paths_base *b);

/* Everything of one drive. Owned strings. */
struct paths {
	char name[DRIVE_NAME_MAX + 1];
	char *config;   /* CONFIG/NAME.conf */
	char *cred;     /* CONFIG/NAME.cred */
	char *state;    /* STATE/NAME */
	char *cache;    /* CACHE/NAME; replaced by -o cache-dir= */
	char *staging;  /* STATE/NAME/staging */
	char *database; /* STATE/NAME/drive.db */
	char *header;   /* STATE/NAME/header: local copy of the newest header */
	char
	    *header_next; /* STATE/NAME/header.next: a generation that is not on all backends yet */
	char *header_lock; /* STATE/NAME/header.lock: flock of whoever writes a generation */
	char *creating;    /* STATE/NAME/creating: journal of an unfinished create or destroy */
	char *lock;        /* STATE/NAME/lock: flock of the mounted daemon */
	char *socket;      /* STATE/NAME/control */
};

/* 0, or -EINVAL with a sentence: 1..63 of letters, digits, dot, dash and underscore, beginning with
 * a letter or digit. */
int paths_check_name(const char *name, struct err *e);
/* Checks the name and fills *p. Touches no file. */
int paths_init(struct paths *p, const char *name, struct err *e);
void paths_release(struct paths *p);

/* Makes the folders of a drive (config, state, staging, cache). 0 or errno with *e. */
int paths_make(const struct paths *p, struct err *e);

/* Names of all drives that have a NAME.conf, sorted; *names malloc'ed, each name too. */
int paths_list(char ***names, int *count, struct err *e);
void paths_list_free(char **names, int count);

#endif
