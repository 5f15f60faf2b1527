/* Logging: to stderr (-f), to a file (--log-file), or to syslog, which journald reads. Thread-safe.
 * Never give it a secret. */
#ifndef FS_BASE_LOG_H
#define FS_BASE_LOG_H

enum log_level { LOG_LV_ERROR, LOG_LV_WARN, LOG_LV_INFO, LOG_LV_DEBUG };

/* Chooses the target; may be called again. path != NULL: appends to that file (0600 when created).
 * Else use_syslog != 0: syslog with ident "skyflok". Else stderr. Returns 0 or the negative errno
 * of opening path (the target then stays as it was). */
int log_open(const char *path, int use_syslog);

/* Messages above this level are dropped. Default LOG_LV_INFO. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* One line; a newline is added. Use the macros. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LV_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LV_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LV_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_get_level() >= LOG_LV_DEBUG)                                               \
			log_write(LOG_LV_DEBUG, __VA_ARGS__);                                      \
	} while (0)

#endif
