#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "backends/credentials.h"
#include "backends/ini.h"
#include "fs/base/file.h"
#include "fs/base/scope.h"

#define FILE_MAX (1024 * 1024)

void secret_free(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static void scope_secret(char **s)
{
	secret_free(*s);
}
#define AUTO_SECRET __attribute__((cleanup(scope_secret)))

static char **fields(struct credentials *c, size_t i)
{
	char **all[] = { &c->access_key_id,     &c->secret_access_key,
			 &c->session_token,     &c->region,
			 &c->account_key,       &c->sas_token,
			 &c->connection_string, &c->service_account };

	return i < ARRAY_LEN(all) ? all[i] : NULL;
}

void credentials_release(struct credentials *c)
{
	for (size_t i = 0; fields(c, i); i++) {
		secret_free(*fields(c, i));
		*fields(c, i) = NULL;
	}
	memset(c, 0, sizeof(*c));
}

int credentials_equal(const struct credentials *a, const struct credentials *b)
{
	for (size_t i = 0; fields((struct credentials *)a, i); i++) {
		const char *x = *fields((struct credentials *)a, i);
		const char *y = *fields((struct credentials *)b, i);
		if (!x != !y || (x && strcmp(x, y)))
			return 0;
	}
	return a->none == b->none && a->metadata == b->metadata;
}

char *connection_string_get(const char *s, const char *key)
{
	size_t klen = strlen(key);

	while (*s) {
		size_t n = strcspn(s, ";");
		if (n > klen && s[klen] == '=' && !strncasecmp(s, key, klen))
			return strndup(s + klen + 1, n - klen - 1);
		s += n + (s[n] == ';');
	}
	return NULL;
}

static int set_field(char **field, const char *value)
{
	secret_free(*field);
	*field = strdup(value);
	return *field ? 0 : -ENOMEM;
}

static const char *home(void)
{
	const char *h = getenv("HOME");

	return h && *h ? h : "/root";
}

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

/* "~/x" to the home folder; a relative name lies beside `beside` (a file) when that is given. */
static char *resolve(const char *path, const char *beside)
{
	const char *slash = beside ? strrchr(beside, '/') : NULL;

	if (path[0] == '~' && path[1] == '/')
		return str_printf("%s%s", home(), path + 1);
	if (path[0] != '/' && slash)
		return str_printf("%.*s/%s", (int)(slash - beside), beside, path);
	return strdup(path);
}

/* -- sections ------------------------------------------------------------------------------- */

struct section {
	const char *want, *want2; /* names of the section; want2 may be NULL */
	const char *const *known; /* names of settings; NULL: others are passed over */
	struct credentials *c;
	char *service_account_file;
	int found, err;
	char hint[64]; /* a setting that says how credentials come that we do not support */
	char unknown[64];
};

static int on_setting(void *arg, const char *section, const char *name, const char *value)
{
	static const struct {
		const char *name;
		size_t offset;
	} map[] = {
		{ "access_key_id", offsetof(struct credentials, access_key_id) },
		{ "aws_access_key_id", offsetof(struct credentials, access_key_id) },
		{ "secret_access_key", offsetof(struct credentials, secret_access_key) },
		{ "aws_secret_access_key", offsetof(struct credentials, secret_access_key) },
		{ "session_token", offsetof(struct credentials, session_token) },
		{ "aws_session_token", offsetof(struct credentials, session_token) },
		{ "region", offsetof(struct credentials, region) },
		{ "account_key", offsetof(struct credentials, account_key) },
		{ "sas_token", offsetof(struct credentials, sas_token) },
		{ "connection_string", offsetof(struct credentials, connection_string) },
	};
	struct section *s = arg;

	if (strcmp(section, s->want) && (!s->want2 || strcmp(section, s->want2)))
		return 0;
	s->found = 1;
	if (!strcmp(name, "service_account_file")) {
		secret_free(s->service_account_file);
		s->service_account_file = strdup(value);
		return s->service_account_file ? 0 : ENOMEM;
	}
	for (size_t i = 0; i < ARRAY_LEN(map); i++) {
		if (!strcmp(name, map[i].name))
			return set_field((char **)((char *)s->c + map[i].offset), value) ? ENOMEM
											 : 0;
	}
	if (!strcmp(name, "role_arn") || !strcmp(name, "credential_process") ||
	    !strncmp(name, "sso_", 4))
		snprintf(s->hint, sizeof(s->hint), "%s", name);
	else if (!s->unknown[0])
		snprintf(s->unknown, sizeof(s->unknown), "%s", name);
	return 0;
}

static int read_sections(const char *path, char *text, size_t n, struct section *s, struct err *e)
{
	int line, r = ini_parse_text(text, n, on_setting, s, &line);

	explicit_bzero(text, n);
	if (r == -EINVAL)
		return err_set(e, -EACCES, "%s, line %d: neither [section] nor name = value", path,
			       line);
	return r ? err_set(e, -ENOMEM, "out of memory") : 0;
}

/* The drive's own file holds secrets of several providers: nobody else may read it. -ENOENT
 * (silent): there is none. */
static int check_private(const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st))
		return errno == ENOENT
			   ? -ENOENT
			   : err_set(e, -EACCES, "credential file %s: %s", path, strerror(errno));
	if (st.st_mode & 077)
		return err_set(e, -EACCES,
			       "credential file %s can be read by others (mode %04o): chmod 600 it",
			       path, (unsigned)st.st_mode & 07777);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(e, -EACCES, "credential file %s belongs to another user", path);
	return 0;
}

static int load_service_account(const char *path, struct credentials *c, struct err *e)
{
	uint8_t *text;
	size_t n;
	int r = file_read_all(path, FILE_MAX, &text, &n);

	if (r)
		return err_set(e, r == -ENOMEM ? r : -EACCES, "service account key %s: %s", path,
			       strerror(-r));
	secret_free(c->service_account);
	c->service_account = (char *)text;
	return 0;
}

/* The section q->name of the drive's file. -ENOENT (silent) when there is no such section. */
static int from_drive_file(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	struct section s = { .want = q->name, .c = c };
	AUTO_SECRET char *service = NULL;
	AUTO_FREE char *path = NULL;
	uint8_t *text;
	size_t n;
	int r;

	if (!q->file)
		return -ENOENT;
	r = check_private(q->file, e);
	if (r)
		return r;
	r = file_read_all(q->file, FILE_MAX, &text, &n);
	if (r)
		return err_set(e, -EACCES, "credential file %s: %s", q->file, strerror(-r));
	r = read_sections(q->file, (char *)text, n, &s, e);
	free(text);
	service = s.service_account_file;
	if (r)
		return r;
	if (!s.found)
		return -ENOENT;
	snprintf(c->source, sizeof(c->source), "section [%.60s] of %.160s", q->name, q->file);
	if (s.unknown[0])
		return err_set(e, -EACCES, "%s: unknown setting \"%s\"", c->source, s.unknown);
	if (!service)
		return 0;
	path = resolve(service, q->file);
	return path ? load_service_account(path, c, e) : err_set(e, -ENOMEM, "out of memory");
}

/* -- S3 ------------------------------------------------------------------------------------- */

/* One of the two files of the AWS tools; 0 also when it is not there. */
static int read_aws_file(const char *env_name, const char *dflt, struct section *s, char **shown,
			 struct err *e)
{
	AUTO_FREE uint8_t *text = NULL;
	const char *given = env(env_name);
	size_t n;
	int r;

	*shown = given ? resolve(given, NULL) : str_printf("%s/.aws/%s", home(), dflt);
	if (!*shown)
		return err_set(e, -ENOMEM, "out of memory");
	r = file_read_all(*shown, FILE_MAX, &text, &n);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r)
		return err_set(e, -EACCES, "%s: %s", *shown, strerror(-r));
	return read_sections(*shown, (char *)text, n, s, e);
}

static int from_profile(const char *profile, const char *backend, struct credentials *c,
			struct err *e)
{
	AUTO_FREE char *keys = NULL, *config = NULL, *long_name = str_printf("profile %s", profile);
	struct section s = { .want = profile, .want2 = long_name, .c = c };
	int r;

	if (!long_name)
		return err_set(e, -ENOMEM, "out of memory");
	/* The credentials file wins, so it is read last. */
	r = read_aws_file("AWS_CONFIG_FILE", "config", &s, &config, e);
	if (!r)
		r = read_aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials", &s, &keys, e);
	free(s.service_account_file);
	if (r)
		return r;
	snprintf(c->source, sizeof(c->source), "profile %.60s in %.180s", profile, keys);
	if (c->access_key_id && c->secret_access_key)
		return 0;
	if (s.hint[0])
		return err_set(
		    e, -EACCES,
		    "%s: profile \"%s\" gets its keys by %s, which is not supported: give "
		    "access keys (aws configure export-credentials prints some)",
		    backend, profile, s.hint);
	if (s.found)
		return err_set(e, -EACCES,
			       "%s: profile \"%s\" in %s and %s lacks aws_access_key_id or "
			       "aws_secret_access_key",
			       backend, profile, keys, config);
	return -ENOENT;
}

static int take_env(char **field, const char *name)
{
	return env(name) ? set_field(field, env(name)) : 0;
}

static int s3_from_env(struct credentials *c, struct err *e)
{
	if (take_env(&c->access_key_id, "AWS_ACCESS_KEY_ID") ||
	    take_env(&c->secret_access_key, "AWS_SECRET_ACCESS_KEY") ||
	    take_env(&c->session_token, "AWS_SESSION_TOKEN"))
		return err_set(e, -ENOMEM, "out of memory");
	snprintf(c->source, sizeof(c->source), "environment (AWS_ACCESS_KEY_ID)");
	if (!c->secret_access_key)
		return err_set(e, -EACCES,
			       "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not");
	return 0;
}

/* The region of the environment wins over a profile's. */
static int s3_region_from_env(struct credentials *c)
{
	const char *r = env("AWS_REGION") ? env("AWS_REGION") : env("AWS_DEFAULT_REGION");

	return r ? set_field(&c->region, r) : 0;
}

static int special(const struct credentials_query *q, struct credentials *c)
{
	memset(c, 0, sizeof(*c));
	if (!q->name || strcmp(q->name, "none"))
		return 0;
	c->none = 1;
	snprintf(c->source, sizeof(c->source), "none");
	return 1;
}

/* Ends a search: what was half found is freed. */
static int finish(struct credentials *c, int r)
{
	if (r)
		credentials_release(c);
	return r;
}

static int no_section(const struct credentials_query *q, const char *else_where, struct err *e)
{
	if (q->file && !access(q->file, F_OK))
		return err_set(e, -EACCES, "%s: credentials=%s: there is no section [%s] in %s%s",
			       q->backend, q->name, q->name, q->file, else_where);
	return err_set(e, -EACCES,
		       "%s: credentials=%s: the drive has no credential file (create --credentials "
		       "FILE)%s",
		       q->backend, q->name, else_where);
}

static int find_s3(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	const char *profile = env("AWS_PROFILE") ? env("AWS_PROFILE") : "default";
	int r;

	if (q->name) {
		r = from_drive_file(q, c, e);
		if (r == 0 && (!c->access_key_id || !c->secret_access_key))
			return err_set(e, -EACCES, "%s lacks access_key_id or secret_access_key",
				       c->source);
		if (r == -ENOENT)
			r = from_profile(q->name, q->backend, c, e);
		return r == -ENOENT ? no_section(q, " and no profile of that name in ~/.aws", e)
				    : r;
	}
	if (env("AWS_ACCESS_KEY_ID"))
		r = s3_from_env(c, e);
	else
		r = from_profile(profile, q->backend, c, e);
	if (r == -ENOENT)
		return err_set(
		    e, -EACCES,
		    "%s: no credentials: looked for AWS_ACCESS_KEY_ID in the environment "
		    "and for the profile \"%s\" in ~/.aws/credentials. credentials=NAME in "
		    "the URL names a section of the drive's credential file, "
		    "credentials=none sends none",
		    q->backend, profile);
	if (!r && s3_region_from_env(c))
		return err_set(e, -ENOMEM, "out of memory");
	return r;
}

int credentials_s3(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	return special(q, c) ? 0 : finish(c, find_s3(q, c, e));
}

/* -- Azure ---------------------------------------------------------------------------------- */

/* A connection string may hold the account's key or a SAS, and where the account is. */
static int split_connection(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	AUTO_FREE char *account = NULL;

	if (!c->connection_string)
		return 0;
	account = connection_string_get(c->connection_string, "AccountName");
	if (account && q->account && strcmp(account, q->account))
		return err_set(
		    e, -EACCES,
		    "%s: the connection string (%s) is of account \"%.80s\", the URL names "
		    "account \"%s\"",
		    q->backend, c->source, account, q->account);
	if (!c->account_key)
		c->account_key = connection_string_get(c->connection_string, "AccountKey");
	if (!c->sas_token)
		c->sas_token = connection_string_get(c->connection_string, "SharedAccessSignature");
	return 0;
}

static int azure_from_env(struct credentials *c)
{
	static const char *const names[] = { "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY",
					     "AZURE_STORAGE_SAS_TOKEN" };
	char **to[] = { &c->connection_string, &c->account_key, &c->sas_token };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!env(names[i]))
			continue;
		snprintf(c->source, sizeof(c->source), "environment (%s)", names[i]);
		return set_field(to[i], env(names[i]));
	}
	return -ENOENT;
}

static int find_azure(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	int r = q->name ? from_drive_file(q, c, e) : azure_from_env(c);

	if (r == -ENOENT && q->name)
		return no_section(q, "", e);
	if (r == -ENOENT)
		return err_set(
		    e, -EACCES,
		    "%s: no credentials: looked for AZURE_STORAGE_CONNECTION_STRING, "
		    "AZURE_STORAGE_KEY and AZURE_STORAGE_SAS_TOKEN in the environment. "
		    "credentials=NAME in the URL names a section of the drive's credential "
		    "file, credentials=none sends none",
		    q->backend);
	if (!r)
		r = split_connection(q, c, e);
	if (!r && !c->account_key && !c->sas_token)
		return err_set(
		    e, -EACCES,
		    "%s lacks account_key, sas_token or connection_string (with AccountKey "
		    "or SharedAccessSignature)",
		    c->source);
	if (!r && c->sas_token && c->sas_token[0] == '?')
		memmove(c->sas_token, c->sas_token + 1, strlen(c->sas_token));
	return r == -ENOMEM ? err_set(e, r, "out of memory") : r;
}

int credentials_azure(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	return special(q, c) ? 0 : finish(c, find_azure(q, c, e));
}

/* -- Google --------------------------------------------------------------------------------- */

static int find_gcs(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	AUTO_FREE char *path = NULL;
	int r;

	if (q->name && !strcmp(q->name, "metadata")) {
		c->metadata = 1;
		snprintf(c->source, sizeof(c->source), "metadata server of this machine");
		return 0;
	}
	if (q->name) {
		r = from_drive_file(q, c, e);
		if (r == -ENOENT)
			return no_section(q, "", e);
		if (!r && !c->service_account && !(c->access_key_id && c->secret_access_key))
			return err_set(e, -EACCES,
				       "%s lacks service_account_file, or access_key_id and "
				       "secret_access_key",
				       c->source);
		return r;
	}
	if (env("GOOGLE_APPLICATION_CREDENTIALS")) {
		path = strdup(env("GOOGLE_APPLICATION_CREDENTIALS"));
		snprintf(c->source, sizeof(c->source),
			 "environment (GOOGLE_APPLICATION_CREDENTIALS)");
	} else {
		path = str_printf("%s/.config/gcloud/application_default_credentials.json", home());
		if (path && access(path, F_OK))
			return err_set(
			    e, -EACCES,
			    "%s: no credentials: looked for GOOGLE_APPLICATION_CREDENTIALS "
			    "in the environment and for %s. credentials=NAME in the URL "
			    "names a section of the drive's credential file, =metadata "
			    "this machine's metadata server, =none sends none",
			    q->backend, path);
		snprintf(c->source, sizeof(c->source), "%s", path ? path : "");
	}
	return path ? load_service_account(path, c, e) : err_set(e, -ENOMEM, "out of memory");
}

int credentials_gcs(const struct credentials_query *q, struct credentials *c, struct err *e)
{
	return special(q, c) ? 0 : finish(c, find_gcs(q, c, e));
}
