#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/buf.h"
#include "fs/base/clock.h"
#include "fs/base/err.h"
#include "fs/base/file.h"
#include "fs/base/hash.h"
#include "fs/base/list.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define assert_has(text, part)                                                                     \
	ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)

static char scratch[64];

static void scratch_make(void)
{
	snprintf(scratch, sizeof(scratch), "/tmp/check_base.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(scratch));
}

static void scratch_remove(void)
{
	char *const argv[] = { (char *)"rm", (char *)"-rf", scratch, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execv("/bin/rm", argv);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

/* ---- err ---- */

START_TEST(err_set_returns_code_and_text)
{
	struct err e = { 0 };

	ck_assert_int_eq(err_set(&e, -EINVAL, "bad %d", 7), -EINVAL);
	ck_assert_int_eq(e.code, -EINVAL);
	ck_assert_str_eq(e.text, "bad 7");
	ck_assert_int_eq(err_set(NULL, -EIO, "nobody listens"), -EIO);
	err_set(&e, -EIO, "<%s>", e.text); /* its own text as argument */
	ck_assert_str_eq(e.text, "<bad 7>");
}
END_TEST

START_TEST(err_wrap_puts_context_in_front)
{
	struct err e = { 0 };
	char big[3000];

	ck_assert_int_eq(err_wrap(&e, -ENOENT, "opening %s", "x"), -ENOENT);
	ck_assert_str_eq(e.text, "opening x: No such file or directory");
	err_wrap(&e, -EIO, "mount");
	ck_assert_str_eq(e.text, "mount: opening x: No such file or directory");
	ck_assert_int_eq(e.code, -EIO);
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_wrap(&e, -EIO, "%s", big);
	ck_assert_uint_eq(strlen(e.text), sizeof(e.text) - 1);
	ck_assert_int_eq(err_wrap(NULL, -EIO, "x"), -EIO);
}
END_TEST

START_TEST(err_text_falls_back)
{
	struct err e = { 0 };

	ck_assert_str_eq(err_text(&e, -ENOSPC), strerror(ENOSPC));
	ck_assert_str_eq(err_text(NULL, -ENOSPC), strerror(ENOSPC));
	ck_assert_str_eq(err_text(NULL, -99999), "unknown error");
	err_set(&e, -EIO, "text");
	ck_assert_str_eq(err_text(&e, -ENOSPC), "text");
}
END_TEST

/* ---- log ---- */

START_TEST(log_writes_lines_to_a_file)
{
	AUTO_FREE char *path = str_printf("%s/log", scratch);
	AUTO_FREE uint8_t *text = NULL;
	struct stat st;
	size_t len;

	ck_assert_int_eq(log_open(path, 0), 0);
	errno = EXDEV;
	log_info("first %d", 1);
	ck_assert_int_eq(errno, EXDEV);
	log_debug("not at this level");
	log_set_level(LOG_LV_ERROR);
	ck_assert_int_eq(log_get_level(), LOG_LV_ERROR);
	log_warn("not at this level either");
	log_error("forged\nline\x1b[0m");
	log_set_level(LOG_LV_INFO);
	ck_assert_int_eq(log_open("/nonexistent/log", 0), -ENOENT);
	log_info("still here");
	ck_assert_int_eq(log_open(NULL, 0), 0);

	ck_assert_int_eq(file_read_all(path, 1 << 20, &text, &len), 0);
	assert_has((char *)text, " info: first 1\n");
	assert_has((char *)text, " error: forged?line?[0m\n");
	assert_has((char *)text, "still here\n");
	ck_assert_ptr_null(strstr((char *)text, "level"));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(log_cuts_long_lines)
{
	AUTO_FREE char *path = str_printf("%s/log", scratch);
	AUTO_FREE uint8_t *text = NULL;
	AUTO_FREE char *big = calloc(1, 100001);
	size_t len;

	memset(big, 'x', 100000);
	ck_assert_int_eq(log_open(path, 0), 0);
	log_error("%s", big);
	log_error("after");
	ck_assert_int_eq(log_open(NULL, 0), 0);
	ck_assert_int_eq(file_read_all(path, 1 << 20, &text, &len), 0);
	ck_assert_uint_lt(len, 5000);
	assert_has((char *)text, "xxx\n");
	assert_has((char *)text, ": after\n");
}
END_TEST

/* ---- buf ---- */

START_TEST(buf_puts_big_endian)
{
	static const uint8_t want[] = { 1,  2,  3,  4, 5, 6, 7, 8,   9,   10,  11, 12,
					13, 14, 15, 0, 0, 0, 2, 'h', 'i', '4', '2' };
	struct buf b = { 0 };

	buf_put8(&b, 1);
	buf_put16(&b, 0x0203);
	buf_put32(&b, 0x04050607);
	buf_put64(&b, 0x08090a0b0c0d0e0f);
	buf_put_bytes32(&b, "hi", 2);
	buf_printf(&b, "%d", 42);
	ck_assert_int_eq(b.failed, 0);
	ck_assert_uint_eq(b.len, sizeof(want));
	ck_assert_mem_eq(b.p, want, sizeof(want));
	buf_release(&b);
	ck_assert_ptr_null(b.p);
	buf_put(&b, NULL, 0);
	buf_put8(&b, 7);
	ck_assert_uint_eq(b.len, 1);
	buf_release(&b);
}
END_TEST

START_TEST(buf_grows_and_terminates)
{
	struct buf b = { 0 };

	ck_assert_str_eq(buf_cstr(&b), "");
	ck_assert_ptr_nonnull(buf_extend(&b, 0));
	for (int i = 0; i < 10000; i++)
		buf_printf(&b, "%04d", i);
	ck_assert_uint_eq(b.len, 40000);
	ck_assert_uint_eq(strlen(buf_cstr(&b)), 40000);
	ck_assert_uint_eq(b.len, 40000);
	ck_assert_mem_eq(b.p + 4 * 1234, "1234", 4);
	buf_reset(&b);
	ck_assert_str_eq(buf_cstr(&b), "");
	ck_assert_uint_ge(b.cap, 40000);
	buf_release(&b);
}
END_TEST

START_TEST(buf_failure_sticks)
{
	struct buf b = { 0 };

	buf_put(&b, "abc", 3);
	ck_assert_ptr_null(buf_extend(&b, SIZE_MAX - 1));
	ck_assert_int_eq(b.failed, 1);
	ck_assert_uint_eq(b.len, 3);
	buf_put8(&b, 'd');
	buf_printf(&b, "e");
	ck_assert_uint_eq(b.len, 3);
	ck_assert_ptr_null(buf_cstr(&b));
	buf_reset(&b);
	buf_put8(&b, 'd');
	ck_assert_uint_eq(b.len, 1);
	buf_put_bytes32(&b, "", (size_t)UINT32_MAX + 1);
	ck_assert_int_eq(b.failed, 1);
	buf_release(&b);
}
END_TEST

START_TEST(rd_reads_back_and_stops_at_the_end)
{
	static const uint8_t in[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 };
	struct rd r = rd_of(in, sizeof(in));

	ck_assert_uint_eq(rd_get8(&r), 1);
	ck_assert_uint_eq(rd_get16(&r), 0x0203);
	ck_assert_uint_eq(rd_get32(&r), 0x04050607);
	ck_assert_uint_eq(rd_get64(&r), 0x08090a0b0c0d0e0f);
	ck_assert_uint_eq(r.left, 2);
	ck_assert_ptr_eq(rd_get(&r, 0), in + 15);
	ck_assert_uint_eq(rd_get32(&r), 0);
	ck_assert_int_eq(r.bad, 1);
	/* What is left does not become readable again. */
	ck_assert_uint_eq(rd_get8(&r), 0);
	ck_assert_ptr_null(rd_get(&r, 0));
}
END_TEST

START_TEST(rd_counted_bytes_are_bounded)
{
	struct buf b = { 0 };
	struct rd r;
	size_t n = 77;

	buf_put_bytes32(&b, "hello", 5);
	r = rd_of(b.p, b.len);
	ck_assert_mem_eq(rd_get_bytes32(&r, 5, &n), "hello", 5);
	ck_assert_uint_eq(n, 5);
	ck_assert_int_eq(r.bad, 0);
	r = rd_of(b.p, b.len);
	ck_assert_ptr_null(rd_get_bytes32(&r, 4, &n));
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(r.bad, 1);
	r = rd_of(b.p, b.len - 1);
	ck_assert_ptr_null(rd_get_bytes32(&r, 100, &n));
	ck_assert_int_eq(r.bad, 1);
	r = rd_of(NULL, 0);
	ck_assert_ptr_nonnull(rd_get(&r, 0));
	ck_assert_ptr_null(rd_get_bytes32(&r, 100, &n));
	buf_release(&b);
}
END_TEST

/* RFC 3720 B.4 */
START_TEST(crc32c_vectors)
{
	static const uint8_t scsi_read[48] = {
		0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, 0x28, [40] = 0x02,
	};
	uint32_t (*const impl[])(uint32_t, const void *, size_t) = { crc32c, crc32c_portable };
	uint8_t zeros[32] = { 0 }, ones[32], up[32], down[32];

	memset(ones, 0xff, 32);
	for (int i = 0; i < 32; i++)
		up[i] = (uint8_t)i, down[i] = (uint8_t)(31 - i);
	for (size_t i = 0; i < ARRAY_LEN(impl); i++) {
		ck_assert_uint_eq(impl[i](0, zeros, 32), 0x8a9136aa);
		ck_assert_uint_eq(impl[i](0, ones, 32), 0x62a8ab43);
		ck_assert_uint_eq(impl[i](0, up, 32), 0x46dd794e);
		ck_assert_uint_eq(impl[i](0, down, 32), 0x113fdb5c);
		ck_assert_uint_eq(impl[i](0, scsi_read, 48), 0xd9963a56);
		ck_assert_uint_eq(impl[i](0, "123456789", 9), 0xe3069283);
		ck_assert_uint_eq(impl[i](0, NULL, 0), 0);
	}
}
END_TEST

START_TEST(crc32c_continues_at_any_split_and_alignment)
{
	uint8_t data[200];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(hash_mix(i) >> 13);
	for (size_t start = 0; start < 9; start++) {
		for (size_t n = 0; n + start <= 120; n++) {
			uint32_t whole = crc32c_portable(0, data + start, n);

			ck_assert_uint_eq(crc32c(0, data + start, n), whole);
			for (size_t cut = 0; cut <= n; cut += 7)
				ck_assert_uint_eq(crc32c(crc32c(0, data + start, cut),
							 data + start + cut, n - cut),
						  whole);
		}
	}
}
END_TEST

START_TEST(hex_there_and_back)
{
	static const uint8_t in[] = { 0x00, 0x9a, 0xff };
	uint8_t out[3];
	char text[7];

	hex_put(text, in, 3);
	ck_assert_str_eq(text, "009aff");
	ck_assert_int_eq(hex_get(out, 3, "009AfF", 6), 0);
	ck_assert_mem_eq(out, in, 3);
	ck_assert_int_eq(hex_get(out, 3, "009aff", 5), -EINVAL);
	ck_assert_int_eq(hex_get(out, 2, "009aff", 6), -EINVAL);
	ck_assert_int_eq(hex_get(out, 3, "009afg", 6), -EINVAL);
	ck_assert_int_eq(hex_get(out, 3, "0 9aff", 6), -EINVAL);
	hex_put(text, in, 0);
	ck_assert_str_eq(text, "");
}
END_TEST

/* ---- list ---- */

struct entry {
	struct list link;
	struct hash_node node;
	int n;
};

START_TEST(list_keeps_order)
{
	struct entry a = { .n = 1 }, b = { .n = 2 }, c = { .n = 3 }, d = { .n = 4 };
	struct list l, m;
	int want = 1;

	list_init(&l);
	list_init(&m);
	ck_assert_ptr_null(list_first(&l));
	list_push_back(&l, &b.link);
	list_push_front(&l, &a.link);
	list_push_back(&m, &c.link);
	list_push_back(&m, &d.link);
	list_splice_back(&l, &m);
	list_splice_back(&l, &m); /* empty */
	ck_assert_int_eq(list_empty(&m), 1);
	list_for_each (it, &l)
		ck_assert_int_eq(list_entry(it, struct entry, link)->n, want++);
	ck_assert_int_eq(want, 5);
	list_for_each_safe (it, &l)
		list_remove(it);
	ck_assert_int_eq(list_empty(&l), 1);
	list_remove(&a.link);
	ck_assert_int_eq(list_empty(&a.link), 1);
}
END_TEST

/* ---- hash ---- */

#define ENTRIES 5000

static void count_one(struct hash_node *n, void *arg)
{
	(void)n;
	++*(int *)arg;
}

static void free_one(struct hash_node *n, void *arg)
{
	hash_remove(arg, n);
	free(container_of(n, struct entry, node));
}

START_TEST(hash_finds_and_grows)
{
	struct hash h;
	int seen = 0;

	ck_assert_int_eq(hash_init(&h, 0), 0);
	ck_assert_ptr_null(hash_find(&h, 0));
	for (int i = 0; i < ENTRIES; i++) {
		struct entry *e = calloc(1, sizeof(*e));

		e->n = i;
		hash_insert(&h, &e->node, (uint64_t)i << 40); /* badly mixed */
	}
	ck_assert_uint_eq(h.count, ENTRIES);
	ck_assert_uint_ge(h.mask + 1, ENTRIES / 2);
	for (int i = 0; i < ENTRIES; i++) {
		struct hash_node *n = hash_find(&h, (uint64_t)i << 40);

		ck_assert_ptr_nonnull(n);
		ck_assert_int_eq(container_of(n, struct entry, node)->n, i);
	}
	ck_assert_ptr_null(hash_find(&h, 1));
	hash_each(&h, count_one, &seen);
	ck_assert_int_eq(seen, ENTRIES);
	hash_each(&h, free_one, &h);
	ck_assert_uint_eq(h.count, 0);
	hash_release(&h);
	ck_assert_ptr_null(hash_find(&h, 1));
}
END_TEST

START_TEST(hash_keeps_equal_keys_apart)
{
	struct entry a = { .n = 1 }, b = { .n = 2 };
	struct hash h;

	ck_assert_int_eq(hash_init(&h, 1000), 0);
	hash_insert(&h, &a.node, 5);
	hash_insert(&h, &b.node, 5);
	hash_remove(&h, hash_find(&h, 5));
	ck_assert_ptr_nonnull(hash_find(&h, 5));
	hash_remove(&h, hash_find(&h, 5));
	ck_assert_ptr_null(hash_find(&h, 5));
	hash_remove(&h, &a.node); /* not in: no harm */
	ck_assert_uint_eq(h.count, 0);
	hash_release(&h);
}
END_TEST

START_TEST(hash_of_bytes_depends_on_all)
{
	uint8_t in[40] = { 0 };
	uint64_t first;

	for (size_t n = 0; n <= sizeof(in); n++) {
		first = hash_bytes(in, n);
		ck_assert_uint_eq(hash_bytes(in, n), first);
		if (n)
			ck_assert_uint_ne(hash_bytes(in, n - 1), first);
		for (size_t i = 0; i < n; i++) {
			in[i] ^= 1;
			ck_assert_uint_ne(hash_bytes(in, n), first);
			in[i] ^= 1;
		}
	}
	ck_assert_uint_eq(hash_mix(0), 0xe220a8397b1dcdafu); /* first output of splitmix64(0) */
}
END_TEST

/* ---- clock ---- */

START_TEST(clock_splits_times)
{
	struct timespec t = timespec_of(-1);

	ck_assert_int_eq(t.tv_sec, -1);
	ck_assert_int_eq(t.tv_nsec, 999999999);
	ck_assert_int_eq(ns_of(t), -1);
	t = timespec_of(3 * NS_PER_S + 4);
	ck_assert_int_eq(t.tv_sec, 3);
	ck_assert_int_eq(t.tv_nsec, 4);
	t = timespec_of(-2 * NS_PER_S);
	ck_assert_int_eq(t.tv_sec, -2);
	ck_assert_int_eq(t.tv_nsec, 0);
	ck_assert_int_gt(clock_real_ns(), 1600000000 * NS_PER_S);
	ck_assert_int_ge(clock_mono_ns(), 0);
	/* what 64 bits of nanoseconds cannot hold is the nearest that they can */
	ck_assert_int_eq(timespec_of(ns_of((struct timespec){ .tv_sec = 1ll << 50 })).tv_sec,
			 9223372036);
	ck_assert_int_eq(timespec_of(ns_of((struct timespec){ .tv_sec = -(1ll << 40) })).tv_sec,
			 -9223372036);
}
END_TEST

START_TEST(clock_wait_times_out)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c;
	int64_t until;
	int rc = 0;

	ck_assert_int_eq(cond_init_mono(&c), 0);
	pthread_mutex_lock(&m);
	until = clock_mono_ns() + 20 * NS_PER_MS;
	while (!rc)
		rc = cond_wait_until(&c, &m, until);
	ck_assert_int_eq(rc, -ETIMEDOUT);
	ck_assert_int_ge(clock_mono_ns(), until);
	ck_assert_int_eq(cond_wait_until(&c, &m, -5), -ETIMEDOUT);
	pthread_mutex_unlock(&m);
	pthread_cond_destroy(&c);
}
END_TEST

/* ---- file ---- */

START_TEST(file_whole_ranges)
{
	AUTO_FREE char *path = str_printf("%s/f", scratch);
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char got[16];

	ck_assert_int_eq(file_pwrite(fd, "0123456789", 10, 5), 0);
	ck_assert_int_eq(file_pread(fd, got, 10, 5), 0);
	ck_assert_mem_eq(got, "0123456789", 10);
	ck_assert_int_eq(file_pread(fd, got, 11, 5), -ENODATA);
	ck_assert_int_eq(file_pread(fd, got, 0, 500), 0);
	ck_assert_int_eq(file_pread(fd, got, 1, INT64_MAX), -EOVERFLOW);
	ck_assert_int_eq(file_pwrite(fd, got, 1, UINT64_MAX), -EOVERFLOW);
	ck_assert_int_eq(file_pread(-1, got, 1, 0), -EBADF);
}
END_TEST

START_TEST(file_read_all_bounds)
{
	AUTO_FREE char *path = str_printf("%s/f", scratch);
	AUTO_FREE uint8_t *big = malloc(100000), *got = NULL, *proc = NULL;
	size_t len = 1;

	memset(big, 'z', 100000);
	ck_assert_int_eq(file_replace(path, big, 100000, 0644), 0);
	ck_assert_int_eq(file_read_all(path, 99999, &got, &len), -EFBIG);
	ck_assert_ptr_null(got);
	ck_assert_uint_eq(len, 0);
	ck_assert_int_eq(file_read_all(path, 100000, &got, &len), 0);
	ck_assert_uint_eq(len, 100000);
	ck_assert_uint_eq(got[len], 0);
	ck_assert_mem_eq(got, big, len);
	ck_assert_int_eq(file_read_all("/proc/self/status", 1 << 20, &proc, &len), 0);
	ck_assert_uint_gt(len, 100);
	free(proc);
	ck_assert_int_eq(file_read_all(scratch, 100, &proc, &len), -EISDIR);
	ck_assert_int_eq(file_read_all("/nonexistent", 100, &proc, &len), -ENOENT);
}
END_TEST

START_TEST(file_replace_swaps_content)
{
	AUTO_FREE char *path = str_printf("%s/name", scratch);
	AUTO_FREE char *ls = str_printf("%s/no/folder", scratch);
	AUTO_FREE uint8_t *got = NULL;
	struct stat st;
	size_t len;
	mode_t old = umask(077);

	ck_assert_int_eq(file_replace(path, "first", 5, 0644), 0);
	umask(old);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0644);
	ck_assert_int_eq(file_replace(path, "2", 1, 0600), 0);
	ck_assert_int_eq(file_read_all(path, 100, &got, &len), 0);
	ck_assert_str_eq((char *)got, "2");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(file_replace(ls, "x", 1, 0600), -ENOENT);
}
END_TEST

START_TEST(file_replace_failure_leaves_nothing)
{
	AUTO_FREE char *sub = str_printf("%s/sub", scratch);
	AUTO_FREE char *dir = str_printf("%s/sub/dir", scratch);

	ck_assert_int_eq(file_mkdirs(dir, 0700), 0);
	/* A folder cannot be replaced by a file: fails at the rename, the last step that can. */
	ck_assert_int_eq(file_replace(dir, "x", 1, 0600), -EISDIR);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_int_eq(rmdir(sub), 0); /* empty: the temporary file is gone */
}
END_TEST

START_TEST(file_replace_takes_relative_and_long_names)
{
	AUTO_CLOSE int back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[256];
	AUTO_FREE uint8_t *got = NULL;
	size_t len;

	memset(name, 'n', 255);
	name[255] = '\0';
	ck_assert_int_eq(chdir(scratch), 0);
	ck_assert_int_eq(file_replace(name, "x", 1, 0600), 0);
	ck_assert_int_eq(file_read_all(name, 1, &got, &len), 0);
	ck_assert_int_eq(fchdir(back), 0);
}
END_TEST

static uint64_t written; /* bytes that pwrite was given */

ssize_t __real_pwrite64(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t off)
{
	written += n;
	return __real_pwrite64(fd, p, n, off);
}

START_TEST(file_resync_writes_all_again)
{
	static const size_t lens[] = { 0, 1, 4096, (1 << 20) + 1, 5 << 19 };
	AUTO_FREE char *path = str_printf("%s/f", scratch);

	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		size_t n = lens[i], len;
		AUTO_FREE uint8_t *p = malloc(n + 1), *got = NULL;
		AUTO_CLOSE int fd = -1;

		for (size_t j = 0; j < n; j++)
			p[j] = (uint8_t)(j * 7 + j / 251);
		ck_assert_int_eq(file_replace(path, p, n, 0600), 0);
		fd = open(path, O_RDWR | O_CLOEXEC);
		written = 0;
		ck_assert_int_eq(file_resync(fd, n), 0);
		ck_assert_uint_eq(written, n);
		ck_assert_int_eq(file_read_all(path, n, &got, &len), 0);
		ck_assert_uint_eq(len, n);
		ck_assert_mem_eq(got, p, n);
		ck_assert_int_eq(file_resync(fd, n + 1), -ENODATA);
	}
}
END_TEST

START_TEST(file_mkdirs_makes_all_levels)
{
	AUTO_FREE char *path = str_printf("%s/a//b/c/", scratch);
	AUTO_FREE char *file = str_printf("%s/a/f", scratch);
	AUTO_FREE char *below = str_printf("%s/a/f/g", scratch);
	struct stat st;

	ck_assert_int_eq(file_mkdirs(path, 0700), 0);
	ck_assert_int_eq(file_mkdirs(path, 0700), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	ck_assert_int_eq(file_mkdirs("/", 0700), 0);
	ck_assert_int_eq(file_mkdirs("", 0700), -ENOENT);
	ck_assert_int_eq(file_replace(file, "", 0, 0600), 0);
	ck_assert_int_eq(file_mkdirs(file, 0700), -ENOTDIR);
	ck_assert_int_eq(file_mkdirs(below, 0700), -ENOTDIR);
	ck_assert_int_eq(file_sync_dir(scratch), 0);
	ck_assert_int_eq(file_sync_dir(file), -ENOTDIR);
}
END_TEST

static void add_case(Suite *s, const char *name, const TTest *const *tests)
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
	for (; *tests; tests++)
		tcase_add_test(tc, *tests);
	suite_add_tcase(s, tc);
}

#define ADD(s, name, ...) add_case(s, name, (const TTest *const[]){ __VA_ARGS__, NULL })

int main(void)
{
	Suite *s = suite_create("base");
	SRunner *r;
	int failed;

	ADD(s, "err", err_set_returns_code_and_text, err_wrap_puts_context_in_front,
	    err_text_falls_back);
	ADD(s, "log", log_writes_lines_to_a_file, log_cuts_long_lines);
	ADD(s, "buf", buf_puts_big_endian, buf_grows_and_terminates, buf_failure_sticks,
	    rd_reads_back_and_stops_at_the_end, rd_counted_bytes_are_bounded, crc32c_vectors,
	    crc32c_continues_at_any_split_and_alignment, hex_there_and_back);
	ADD(s, "list", list_keeps_order);
	ADD(s, "hash", hash_finds_and_grows, hash_keeps_equal_keys_apart,
	    hash_of_bytes_depends_on_all);
	ADD(s, "clock", clock_splits_times, clock_wait_times_out);
	ADD(s, "file", file_whole_ranges, file_read_all_bounds, file_replace_swaps_content,
	    file_replace_failure_leaves_nothing, file_replace_takes_relative_and_long_names,
	    file_resync_writes_all_again, file_mkdirs_makes_all_levels);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
