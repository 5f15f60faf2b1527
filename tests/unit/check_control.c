/* The control socket: calls, progress, cancelling, stopping. */
#include "tests/unit/drive_fixture.h"

#include <errno.h>
#include <pthread.h>

#include "fs/base/clock.h"
#include "fs/drive/control.h"

static struct control *server;
static char *path;
static int cancelled; /* atomic: a waiting command saw it */

static int run_echo(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		    struct err *e)
{
	*reply = json_pack("{s:O}", "said", json_object_get(request, "say"));
	return 0;
}

static int run_fail(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		    struct err *e)
{
	return err_set(e, -EBUSY, "a sentence with \xff in it");
}

static int run_count(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		     struct err *e)
{
	for (int i = 0; i < 3; i++)
		if (control_progress(conn, json_pack("{s:i}", "i", i)))
			return -EPIPE;
	return 0;
}

static int run_wait(void *arg, const json_t *request, struct control_conn *conn, json_t **reply,
		    struct err *e)
{
	while (!control_cancelled(conn))
		usleep(2000);
	__atomic_store_n(&cancelled, 1, __ATOMIC_RELEASE);
	return -ECANCELED;
}

static const struct control_command commands[] = {
	{ "echo", run_echo }, { "fail", run_fail }, { "count", run_count },
	{ "wait", run_wait }, { NULL, NULL },
};

static void setup(void)
{
	struct err e = { 0 };
	char folder[200];

	fixture_setup();
	cancelled = 0;
	/* Longer than sun_path holds. */
	memset(folder, 'x', sizeof(folder) - 1);
	folder[sizeof(folder) - 1] = '\0';
	ck_assert_int_eq(mkdir(at(folder), 0700), 0);
	path = keep(str_printf("%s/%s/control", scratch, folder));
	ck_assert_msg(!control_serve(path, commands, NULL, &server, &e), "%s", e.text);
}

static void teardown(void)
{
	control_stop(server);
	server = NULL;
	fixture_teardown();
}

static struct control_client *client(void)
{
	struct control_client *c;

	ck_assert_int_eq(control_connect(path, &c), 0);
	return c;
}

static void count_progress(void *arg, const json_t *fields)
{
	int *next = arg;

	ck_assert_int_eq(json_integer_value(json_object_get(fields, "i")), *next);
	++*next;
}

START_TEST(calls)
{
	struct control_client *c = client();
	json_t *reply;
	struct err e = { 0 };
	struct stat st;
	int n = 0;

	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(control_call(c, "echo", json_pack("{s:i}", "say", i),
					      10 * NS_PER_S, NULL, NULL, &reply, &e),
				 0);
		ck_assert_int_eq(json_integer_value(json_object_get(reply, "said")), i);
		json_decref(reply);
	}
	ck_assert_int_eq(control_call(c, "fail", NULL, 10 * NS_PER_S, NULL, NULL, &reply, &e),
			 -EBUSY);
	ck_assert_str_eq(e.text, "a sentence with ? in it");
	ck_assert_int_eq(control_call(c, "nonsense", NULL, 10 * NS_PER_S, NULL, NULL, &reply, &e),
			 -EINVAL);
	ck_assert_int_eq(
	    control_call(c, "count", NULL, 10 * NS_PER_S, count_progress, &n, &reply, &e), 0);
	ck_assert_int_eq(n, 3);
	json_decref(reply);
	control_disconnect(c);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
}
END_TEST

START_TEST(client_goes)
{
	struct control_client *c = client();
	json_t *reply;
	struct err e = { 0 };

	ck_assert_int_eq(control_call(c, "wait", NULL, 20 * NS_PER_MS, NULL, NULL, &reply, &e),
			 -ETIMEDOUT);
	control_disconnect(c);
	for (int i = 0; i < 5000 && !__atomic_load_n(&cancelled, __ATOMIC_ACQUIRE); i++)
		usleep(1000);
	ck_assert_int_eq(cancelled, 1);
}
END_TEST

static void *call_wait(void *arg)
{
	json_t *reply;
	struct err e = { 0 };

	return (void *)(intptr_t)control_call(arg, "wait", NULL, 0, NULL, NULL, &reply, &e);
}

START_TEST(server_stops)
{
	struct control_client *c = client(), *idle = client();
	pthread_t thread;
	void *result;

	ck_assert_int_eq(pthread_create(&thread, NULL, call_wait, c), 0);
	usleep(20000); /* so that it mostly waits inside; right either way */
	control_stop(server);
	server = NULL;
	pthread_join(thread, &result);
	ck_assert((int)(intptr_t)result == -ECANCELED || (int)(intptr_t)result == -EPIPE);
	ck_assert_int_eq(control_wait_end(idle, 10 * NS_PER_S), 0);
	control_disconnect(c);
	control_disconnect(idle);
	ck_assert_int_eq(control_connect(path, &c), -ENOENT);
}
END_TEST

START_TEST(stale_socket)
{
	struct control_client *c;
	struct err e = { 0 };

	control_stop(server);
	ck_assert_int_eq(file_replace(path, "", 0, 0600), 0); /* what a dead daemon leaves */
	ck_assert_int_eq(control_connect(path, &c), -ECONNREFUSED);
	ck_assert_int_eq(control_serve(path, commands, NULL, &server, &e), 0);
	control_disconnect(client());
}
END_TEST

START_TEST(too_many)
{
	struct control_client *many[20], *c;
	json_t *reply;
	struct err e = { 0 };

	for (int i = 0; i < 20; i++)
		many[i] = client();
	/* Those above the limit are hung up on, the others work, and afterwards there is room. */
	ck_assert_int_eq(control_wait_end(many[19], 10 * NS_PER_S), 0);
	ck_assert_int_eq(control_call(many[0], "echo", json_pack("{s:i}", "say", 1), 10 * NS_PER_S,
				      NULL, NULL, &reply, &e),
			 0);
	json_decref(reply);
	for (int i = 0; i < 20; i++)
		control_disconnect(many[i]);
	for (int i = 0; i < 1000; i++) {
		int rc;

		c = client();
		rc = control_call(c, "echo", json_pack("{s:i}", "say", 1), 10 * NS_PER_S, NULL,
				  NULL, &reply, &e);
		control_disconnect(c);
		if (!rc) {
			json_decref(reply);
			return;
		}
		usleep(1000);
	}
	ck_abort_msg("no room after the others had gone");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("control");
	TCase *tc = tcase_create("control");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, calls);
	tcase_add_test(tc, client_goes);
	tcase_add_test(tc, server_stops);
	tcase_add_test(tc, stale_socket);
	tcase_add_test(tc, too_many);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
