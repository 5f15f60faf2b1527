/* What systemd is told of a service with Type=notify (sd_notify(3)), without its library. Nothing
 * happens where $NOTIFY_SOCKET is not set. */
#ifndef FS_CMD_NOTIFY_H
#define FS_CMD_NOTIFY_H

/* printf; lines of VARIABLE=VALUE, such as "READY=1\nSTATUS=...". Never blocks. */
void notify_service(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
