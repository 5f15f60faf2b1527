/* Locks between processes, and that a waiter can be interrupted and killed. */
#include "tests/system/posix_check.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/time.h>
#include <time.h>

static int lock(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	return fcntl(fd, cmd, &l);
}

static int ready[2], go[2];

static void tell(int *p)
{
	if (write(p[1], "x", 1) != 1)
		_exit(9);
}

static void await(int *p)
{
	char c;

	if (read(p[0], &c, 1) != 1)
		_exit(9);
}

static void hold_range(void)
{
	int fd = open("f", O_RDWR);

	if (lock(fd, F_SETLK, F_WRLCK, 100, 100))
		_exit(1);
	tell(ready);
	await(go);
}

static void on_alarm(int sig)
{
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void alarm_in(int ms)
{
	struct sigaction sa = { .sa_handler = on_alarm }; /* no SA_RESTART */
	struct itimerval t = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
}

static void wait_range(void)
{
	int fd = open("f", O_RDWR);

	tell(ready);
	_exit(lock(fd, F_SETLKW, F_WRLCK, 100, 100) ? 1 : 0);
}

static int flock_held; /* a lock lasts until every copy of its descriptor is closed */

static void wait_flock(void)
{
	int fd = open("f", O_RDWR);

	close(flock_held);

	tell(ready);
	_exit(flock(fd, LOCK_EX) ? 1 : 0);
}

static void posix_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 150, .l_len = 1 };
	int fd;
	pid_t pid, waiter;
	double t;

	make_file("f", "0123456789", 0644);
	fd = open("f", O_RDWR);
	if (pipe(ready) || pipe(go))
		return;
	pid = spawn(hold_range);
	await(ready);
	FAILS(lock(fd, F_SETLK, F_WRLCK, 150, 10), EAGAIN, "a range that another process holds");
	FAILS(lock(fd, F_SETLK, F_RDLCK, 199, 1), EAGAIN, "also for reading");
	OK(lock(fd, F_SETLK, F_WRLCK, 0, 100) == 0 && lock(fd, F_SETLK, F_WRLCK, 200, 0) == 0,
	   "the ranges beside it");
	OK(fcntl(fd, F_GETLK, &l) == 0 && l.l_type == F_WRLCK && l.l_pid == pid && l.l_start == 100,
	   "F_GETLK says who");
	t = seconds();
	alarm_in(300);
	FAILS(lock(fd, F_SETLKW, F_WRLCK, 150, 1), EINTR, "a signal ends the wait");
	OK(seconds() - t < 5, "at once");
	waiter = spawn(wait_range);
	await(ready);
	tick();
	kill(waiter, SIGKILL);
	OK(reap(waiter) == -1, "a waiter can be killed");
	waiter = spawn(wait_range);
	await(ready);
	tick();
	tell(go);
	OK(reap(pid) == 0 && reap(waiter) == 0, "the next one gets it when the holder ends");
	OK(lock(fd, F_SETLK, F_WRLCK, 100, 100) == 0, "free again");
	OK(lock(fd, F_SETLK, F_UNLCK, 120, 10) == 0, "unlock a part");
	pid = spawn(hold_range);
	OK(reap(pid) == 1, "the rest is still ours");
	int fd2 = open("f", O_RDWR);

	close(fd2);
	pid = spawn(hold_range);
	await(ready);
	tell(go);
	OK(reap(pid) == 0, "closing any descriptor of the file drops them, as POSIX wants");
	OK(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10) == 0, "open file description lock");
	fd2 = open("f", O_RDWR);
	FAILS(lock(fd2, F_OFD_SETLK, F_WRLCK, 0, 10), EAGAIN, "it excludes another description");
	int ro = open("f", O_RDONLY);

	FAILS(lock(ro, F_SETLK, F_WRLCK, 500, 1), EBADF,
	      "a write lock needs a writable descriptor");
}

static void hold_ranges_crosswise(void)
{
	int fd = open("f", O_RDWR);

	lock(fd, F_SETLK, F_WRLCK, 1, 1);
	tell(ready);
	await(go);
	_exit(lock(fd, F_SETLKW, F_WRLCK, 0, 1) == 0 ? 0 : errno == EDEADLK ? 1 : 2);
}

static void deadlocks(void)
{
	int fd, mine;
	pid_t pid;

	make_file("f", "", 0644);
	fd = open("f", O_RDWR);
	if (pipe(ready) || pipe(go))
		return;
	lock(fd, F_SETLK, F_WRLCK, 0, 1);
	pid = spawn(hold_ranges_crosswise);
	await(ready);
	tell(go);
	tick();
	mine = lock(fd, F_SETLKW, F_WRLCK, 1, 1) == -1 && errno == EDEADLK;
	lock(fd, F_SETLK, F_UNLCK, 0, 0);
	OK(reap(pid) + mine == 1, "one of two processes that wait for each other gets EDEADLK");
}

static void flocks(void)
{
	int a, b;
	pid_t waiter;
	double t;

	make_file("f", "", 0644);
	flock_held = a = open("f", O_RDWR), b = open("f", O_RDONLY);
	if (pipe(ready) || pipe(go))
		return;
	OK(flock(a, LOCK_SH) == 0 && flock(b, LOCK_SH) == 0, "two shared locks");
	FAILS(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK, "no exclusive one beside them");
	OK(flock(b, LOCK_UN) == 0 && flock(a, LOCK_EX | LOCK_NB) == 0, "alone it is possible");
	FAILS(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK, "no shared one beside it");
	t = seconds();
	alarm_in(300);
	FAILS(flock(b, LOCK_EX), EINTR, "a signal ends the wait");
	OK(seconds() - t < 5, "at once");
	waiter = spawn(wait_flock);
	await(ready);
	tick();
	kill(waiter, SIGKILL);
	OK(reap(waiter) == -1, "a waiter can be killed");
	waiter = spawn(wait_flock);
	await(ready);
	tick();
	close(a);
	OK(reap(waiter) == 0, "closing the holder's descriptor lets the waiter in");
	OK(flock(b, LOCK_EX | LOCK_NB) == 0, "free again");
	int d = open(".", O_RDONLY);

	OK(flock(d, LOCK_EX | LOCK_NB) == 0, "a folder can be locked");
}

const struct check lock_checks[] = {
	{ "posix_locks", posix_locks },
	{ "deadlocks", deadlocks },
	{ "flocks", flocks },
	{ NULL, NULL },
};
