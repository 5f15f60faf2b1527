/* kill -9 at every step of a commit, and at moments in between. A child process works on a volume
 * whose store and database are files, and says in shared memory how far it is; it kills itself at a
 * failpoint. The parent mounts what is left and compares:
 * - each file's content is one that it had, not older than its last fsync (a prefix of its own);
 * - save by rename never shows anything but a whole version, also without fsync. */
#include "tests/unit/volume_fixture.h"

#define FILES    3
#define STEPS    4000
#define SIZE     (64u << 10)
#define VERSIONS 3000

struct shared {
	volatile uint64_t begun;         /* steps */
	volatile uint64_t synced[FILES]; /* steps that the file's last acknowledged fsync covers */
	volatile uint64_t saved, saved_synced;
};

static struct shared *sh;
static uint64_t seed;

static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed % n;
}

/* --- random changes of a few files --- */

enum op { OP_WRITE, OP_TRUNCATE, OP_PUNCH, OP_MTIME, OP_FSYNC, OP_PAUSE };

struct step {
	enum op op;
	int file;
	uint64_t off, len;
	uint8_t byte;
};

static struct step next_step(uint64_t number)
{
	struct step s = { .file = (int)rnd(FILES), .byte = (uint8_t)(1 + number % 255) };

	s.off = rnd(SIZE);
	s.len = 1 + rnd(MIN(SIZE - s.off, 20000));
	switch (rnd(20)) {
	case 0:
		s.op = OP_TRUNCATE;
		break;
	case 1:
		s.op = OP_PUNCH;
		break;
	case 2:
		s.op = OP_FSYNC;
		break;
	case 3:
		s.op = OP_MTIME;
		break;
	case 4:
		s.op = OP_PAUSE;
		break;
	default:
		s.op = OP_WRITE;
	}
	return s;
}

static int64_t mtime_of(uint64_t number)
{
	return (int64_t)number * NS_PER_S;
}

static void do_step(uint64_t number, const struct step *s, const uint64_t *inos)
{
	static uint8_t buf[20000];
	uint64_t ino = inos[s->file];
	struct stat set = { .st_mtim = timespec_of(mtime_of(number)) };

	switch (s->op) {
	case OP_WRITE:
		memset(buf, s->byte, s->len);
		ck_ok(do_write(ino, s->off, buf, s->len));
		break;
	case OP_TRUNCATE:
		ck_ok(do_truncate(ino, s->off));
		break;
	case OP_PUNCH:
		ck_ok(volume_fallocate(v, ino, 3, s->off, s->len, NULL));
		break;
	case OP_MTIME:
		ck_ok(volume_setattr(v, ino, &set, VOL_SET_MTIME, NULL, &set));
		break;
	case OP_FSYNC:
		ck_ok(do_fsync(ino));
		sh->synced[s->file] = number;
		break;
	default:
		usleep(300);
	}
}

static void child_changes(const char *fail, const uint64_t *inos)
{
	failpoint_load(fail);
	meta_up(0);
	volume_up();
	for (uint64_t n = 1; n <= STEPS; n++) {
		struct step s = next_step(n);

		sh->begun = n;
		do_step(n, &s, inos);
	}
	/* the failpoint was not reached: also an end */
	kill(getpid(), SIGKILL);
}

struct content {
	uint8_t bytes[SIZE];
	uint64_t size;
	int64_t mtime; /* as set explicitly; 0: the time of a change, which is much later */
};

static void model_step(uint64_t number, const struct step *s, struct content *c)
{
	uint64_t end = s->off + s->len;

	switch (s->op) {
	case OP_WRITE:
		memset(c->bytes + s->off, s->byte, s->len);
		c->size = MAX(c->size, end);
		c->mtime = 0;
		break;
	case OP_TRUNCATE:
		if (s->off < c->size)
			memset(c->bytes + s->off, 0, c->size - s->off);
		c->size = s->off;
		c->mtime = 0;
		break;
	case OP_PUNCH:
		if (s->off < c->size)
			memset(c->bytes + s->off, 0, MIN(end, c->size) - s->off);
		c->mtime = 0;
		break;
	case OP_MTIME:
		c->mtime = mtime_of(number);
		break;
	default:
		break;
	}
}

static int same(const struct content *model, const uint8_t *bytes, const struct stat *s)
{
	return (uint64_t)s->st_size == model->size &&
	       memcmp(bytes, model->bytes, model->size) == 0 &&
	       (model->mtime ? ns_of(s->st_mtim) == model->mtime
			     : ns_of(s->st_mtim) > mtime_of(STEPS));
}

/* Which states of the file match what is there now: one must, and not before its last fsync. */
static void check_file(int file, uint64_t ino, uint64_t start_seed)
{
	static struct content c;
	static uint8_t bytes[SIZE];
	struct stat s = do_stat(ino);
	int found = 0;
	size_t got;

	ck_ok(do_read(ino, 0, bytes, SIZE, &got));
	ck_assert_int_eq((int64_t)got, s.st_size);
	memset(&c, 0, sizeof(c));
	seed = start_seed;
	for (uint64_t n = 0; n <= sh->begun; n++) {
		struct step st_ = { .file = -1 };

		if (n)
			st_ = next_step(n);
		if (st_.file == file)
			model_step(n, &st_, &c);
		if (n >= sh->synced[file] && same(&c, bytes, &s))
			found = 1;
	}
	ck_assert_msg(found, "file %d: content is none that it had since step %llu of %llu", file,
		      (unsigned long long)sh->synced[file], (unsigned long long)sh->begun);
}

static void shared_up(void)
{
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(sh, MAP_FAILED);
	memset((void *)sh, 0, sizeof(*sh));
}

/* Makes the start state; runs child() until it dies; mounts again. */
static void crash(void (*child)(const char *fail, const uint64_t *inos), const char *fail,
		  uint64_t *inos, int files)
{
	pid_t pid;
	int status;

	scratch_make();
	shared_up();
	fopts.path = store_path;
	vopts.commit_interval = 2 * NS_PER_MS;
	meta_up(1);
	volume_up();
	for (int k = 0; k < files; k++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", k);
		inos[k] = do_create(1, name);
	}
	volume_down(0);
	ck_ok(meta_close(m));
	ck_assert_int_eq(fake_destroy(st), 0);
	m = NULL, st = NULL;
	pid = fork();
	if (pid == 0) {
		child(fail, inos);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child ended with %x",
		      status);
	meta_up(0);
	volume_up();
}

static const char *const points[] = { "commit.seal",   "commit.sync", "commit.hold", "commit.rows",
				      "commit.commit", "commit.wal",  "commit.done" };
static const int at[] = { 1, 2, 5, 11, 30 };

#define CASES ((int)(ARRAY_LEN(points) * ARRAY_LEN(at)))

/* The disk takes its time: whatever may happen between two steps of a commit does. */
static void fail_spec(char *out, size_t cap, int i)
{
	const char *point = points[i % (int)ARRAY_LEN(points)];
	static const char *const slow_ones[] = { "commit.sync", "commit.hold", "commit.rows",
						 "commit.wal" };
	const char *slow = slow_ones[(i + i / CASES) % 4];

	snprintf(out, cap, "%s=crash@%d", point,
		 at[i / (int)ARRAY_LEN(points) % (int)ARRAY_LEN(at)]);
	if (strcmp(slow, point) != 0)
		snprintf(out + strlen(out), cap - strlen(out), ",%s=sleep:3*0", slow);
}

START_TEST(changes)
{
	uint64_t inos[FILES], start = 88172645463325252ull * (uint64_t)(2 * _i + 1);
	char fail[96];

	fail_spec(fail, sizeof(fail), _i);
	seed = start;
	crash(child_changes, fail, inos, FILES);
	for (int k = 0; k < FILES; k++)
		check_file(k, inos[k], start);
	down();
}
END_TEST

/* --- save by rename --- */

static size_t version_size(uint64_t n)
{
	return 3000 + n * 37 % 20000;
}

static void child_saves(const char *fail, const uint64_t *inos)
{
	static uint8_t buf[24000];

	(void)inos;
	failpoint_load(fail);
	meta_up(0);
	volume_up();
	for (uint64_t n = 1; n <= VERSIONS; n++) {
		size_t size = version_size(n), half = size / 2;
		uint64_t ino = do_create(1, "tmp");

		memset(buf, (int)(1 + n % 255), size);
		ck_ok(do_write(ino, 0, buf, half));
		if (n % 7 == 0)
			usleep(500);
		ck_ok(do_write(ino, half, buf, size - half));
		if (n % 5 == 0)
			ck_ok(do_fsync(ino));
		sh->saved = n;
		if (n % 3)
			ck_ok(do_rename(1, "tmp", 1, "f0", 0));
		else
			ck_ok(do_rename(1, "tmp", 1, "f0", RENAME_EXCHANGE));
		if (n % 11 == 0) {
			ck_ok(do_fsync(1));
			sh->saved_synced = n;
		}
		if (n % 3 == 0)
			ck_ok(volume_unlink(v, 1, "tmp"));
		volume_forget(v, ino, 1);
	}
	kill(getpid(), SIGKILL);
}

START_TEST(saves)
{
	static uint8_t buf[24000];
	uint64_t inos[1], ino, n;
	struct stat s;
	char fail[96];
	size_t got;

	fail_spec(fail, sizeof(fail), _i);
	crash(child_saves, fail, inos, 1);
	ck_ok(do_lookup(1, "f0", &ino));
	s = do_stat(ino);
	ck_ok(do_read(ino, 0, buf, sizeof(buf), &got));
	ck_assert_int_eq((int64_t)got, s.st_size);
	/* which version is it? */
	for (n = sh->saved; n > 0; n--)
		if (version_size(n) == got && buf[0] == 1 + n % 255)
			break;
	ck_assert_uint_ge(n, sh->saved_synced);
	ck_assert_msg(n || got == 0, "neither the first nor any later version");
	for (size_t k = 0; k < got; k++)
		if (buf[k] != 1 + n % 255) /* an assertion costs a system call */
			ck_abort_msg("version %llu is torn", (unsigned long long)n);
	down();
}
END_TEST

/* --- folders: names are a prefix, every name has its node --- */

static void child_names(const char *fail, const uint64_t *inos)
{
	(void)inos;
	failpoint_load(fail);
	meta_up(0);
	volume_up();
	for (uint64_t n = 1; n <= VERSIONS; n++) {
		char name[16];
		uint64_t ino;

		sh->begun = n;
		snprintf(name, sizeof(name), "n%llu", (unsigned long long)n);
		ino = n % 4 ? do_create(1, name) : do_mkdir(1, name);
		volume_forget(v, ino, 1);
		if (n > 10) {
			snprintf(name, sizeof(name), "n%llu", (unsigned long long)n - 10);
			if ((n - 10) % 4)
				ck_ok(volume_unlink(v, 1, name));
			else
				ck_ok(volume_rmdir(v, 1, name));
		}
		if (n % 50 == 0) {
			ck_ok(do_fsync(1));
			sh->synced[0] = n;
		}
	}
	kill(getpid(), SIGKILL);
}

START_TEST(names_prefix)
{
	uint64_t inos[1], first = 0, last = 0, count = 0;
	struct volume_state vs;
	struct stat s;
	char fail[96];

	fail_spec(fail, sizeof(fail), _i);
	crash(child_names, fail, inos, 1);
	for (uint64_t n = 1; n <= sh->begun; n++) {
		char name[16];
		uint64_t ino;

		snprintf(name, sizeof(name), "n%llu", (unsigned long long)n);
		if (do_lookup(1, name, &ino))
			continue;
		ck_assert_int_eq(S_ISDIR(do_stat(ino).st_mode), n % 4 == 0);
		first = first ? first : n;
		last = n;
		count++;
	}
	ck_assert_uint_eq(count, last ? last - first + 1 : 0);
	ck_assert_uint_le(count, 11);
	ck_assert_uint_ge(last, sh->synced[0]);
	if (last > 10)
		ck_assert_uint_ge(count, 10);
	s = do_stat(1);
	ck_assert_uint_eq((uint64_t)s.st_size, count + 1);
	eventually((volume_state(v, &vs), vs.totals.inodes) == count + 2);
	down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume after kill -9");
	TCase *t = tcase_create("crash");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, changes, 0, CASES);
	tcase_add_loop_test(t, saves, 0, 4 * CASES);
	tcase_add_loop_test(t, names_prefix, 0, CASES);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
