/* CONFIG/NAME.cred: the credentials of a drive's clouds, taken over by `create --credentials`. */
#ifndef FS_DRIVE_CRED_H
#define FS_DRIVE_CRED_H

#include "fs/base/err.h"

/* Copies the ini file `from` to `to`, 0600, all or nothing. Relative names of service_account_file
 * become absolute: they meant a file beside `from`. -EACCES: others may read it, it belongs to
 * somebody else, or it cannot be read; -EINVAL: it is no ini file (with the line); -EEXIST: `to`
 * exists and holds something else. 1 when it was written, 0 when it stands there already. */
int cred_take(const char *from, const char *to, struct err *e);
/* The checks of cred_take alone, before anything is made. */
int cred_check(const char *from, const char *to, struct err *e);

#endif
