/* Names, attributes, xattrs and ACLs of the volume. */
#include <linux/limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "fs/data/acl.h"
#include "tests/unit/volume_fixture.h"

static const struct cred user_cred = { .uid = 1000, .gid = 1000, .umask = 022 };

static uint64_t inodes(void)
{
	struct volume_state s;

	volume_state(v, &s);
	return s.totals.inodes;
}

START_TEST(name_rules)
{
	char name[300];
	struct entry e;
	uint64_t d, ino;

	up();
	d = do_mkdir(1, "d");
	do_create(d, "x");
	ck_ok(do_lookup(d, "x", &ino));
	ck_err(do_lookup(d, "y", &ino), ENOENT);
	ck_err(volume_mknod(v, d, "x", S_IFREG, 0, &root_cred, &e), EEXIST);
	ck_err(volume_mkdir(v, d, "x", 0755, &root_cred, &e), EEXIST);
	ck_err(volume_mkdir(v, ino, "y", 0755, &root_cred, &e), ENOTDIR);
	ck_err(volume_mkdir(v, 99999, "y", 0755, &root_cred, &e), ENOENT);
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	do_create(d, name);
	ck_ok(do_lookup(d, name, &ino));
	name[255] = 'n', name[256] = '\0';
	ck_err(volume_mknod(v, d, name, S_IFREG, 0, &root_cred, &e), ENAMETOOLONG);
	ck_err(do_lookup(d, name, &ino), ENAMETOOLONG);
	do_create(d, "\xff\xfe\x01 bytes\n");
	ck_ok(do_lookup(d, "\xff\xfe\x01 bytes\n", &ino));
	ck_ok(do_lookup(d, ".", &ino));
	ck_assert_uint_eq(ino, d);
	ck_ok(do_lookup(d, "..", &ino));
	ck_assert_uint_eq(ino, 1);
	ck_err(volume_rmdir(v, 1, "d"), ENOTEMPTY);
	ck_err(volume_unlink(v, 1, "d"), EISDIR);
	ck_err(volume_rmdir(v, d, "x"), ENOTDIR);
	ck_err(volume_unlink(v, d, "none"), ENOENT);
	ck_assert_int_eq(do_stat(d).st_size, 3);
	ck_assert_uint_eq(do_stat(d).st_nlink, 2);
	ck_assert_uint_eq(do_stat(1).st_nlink, 3);
	remount();
	ck_ok(do_lookup(1, "d", &ino));
	ck_assert_uint_eq(ino, d);
	ck_ok(do_lookup(d, "x", &ino));
	ck_assert_uint_eq(do_stat(1).st_nlink, 3);
	down();
}
END_TEST

START_TEST(nodes)
{
	char target[4097], back[4097];
	struct entry e;
	struct stat s;
	uint64_t l, dev;

	up();
	ck_ok(volume_mknod(v, 1, "dev", S_IFCHR | 0600, makedev(300, 70000), &root_cred, &e));
	dev = e.st.st_ino;
	ck_assert_uint_eq(e.st.st_rdev, makedev(300, 70000));
	ck_ok(volume_mknod(v, 1, "fifo", S_IFIFO | 0666, 0, &user_cred, &e));
	ck_assert_uint_eq(e.st.st_mode, S_IFIFO | 0644);
	ck_assert_uint_eq(e.st.st_uid, 1000);
	memset(target, 't', sizeof(target));
	target[4095] = '\0';
	ck_ok(volume_symlink(v, 1, "l", target, &root_cred, &e));
	l = e.st.st_ino;
	ck_assert_uint_eq(e.st.st_mode, S_IFLNK | 0777);
	ck_assert_int_eq(e.st.st_size, 4095);
	target[4095] = 't', target[4096] = '\0';
	ck_err(volume_symlink(v, 1, "l2", target, &root_cred, &e), ENAMETOOLONG);
	target[4095] = '\0';
	remount();
	ck_ok(volume_readlink(v, l, back, sizeof(back)));
	ck_assert_str_eq(back, target);
	ck_err(volume_readlink(v, dev, back, sizeof(back)), EINVAL);
	s = do_stat(dev);
	ck_assert_uint_eq(s.st_rdev, makedev(300, 70000));
	down();
}
END_TEST

START_TEST(links)
{
	struct entry e;
	uint64_t a, ino, before;

	up();
	before = inodes();
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, "data", 4));
	ck_ok(volume_link(v, a, 1, "b", &e));
	ck_assert_uint_eq(e.st.st_nlink, 2);
	ck_err(volume_link(v, a, 1, "b", &e), EEXIST);
	ck_err(volume_link(v, 1, 1, "c", &e), EPERM);
	ck_ok(volume_unlink(v, 1, "a"));
	ck_assert_uint_eq(do_stat(a).st_nlink, 1);
	ck_ok(do_rename(1, "b", 1, "c", 0));
	ck_ok(volume_link(v, a, 1, "d", &e));
	/* two names of one file: nothing happens */
	ck_ok(do_rename(1, "c", 1, "d", 0));
	ck_ok(do_lookup(1, "c", &ino));
	ck_ok(volume_unlink(v, 1, "c"));
	ck_ok(volume_unlink(v, 1, "d"));
	/* known to the kernel: still there, also after a commit, and it can be written */
	ck_ok(do_fsync(0));
	ck_ok(do_write(a, 4, "more", 4));
	ck_assert_int_eq(do_stat(a).st_size, 8);
	ck_err(volume_link(v, a, 1, "e", &e), ENOENT);
	volume_forget(v, a, 1000);
	ck_ok(do_fsync(0));
	ck_ok(do_fsync(0));
	ck_ok(do_fsync(0));
	ck_err(volume_getattr(v, a, &e.st), ENOENT);
	ck_assert_uint_eq(inodes(), before);
	down();
}
END_TEST

START_TEST(open_orphans)
{
	struct volume_state s;
	uint64_t a;
	uint8_t buf[3 * EXTENT] = { 1 };
	size_t got;

	up();
	a = do_create(1, "a");
	ck_ok(volume_open(v, a, O_RDWR));
	volume_forget(v, a, 1);
	ck_ok(do_write(a, 0, buf, sizeof(buf)));
	ck_ok(volume_unlink(v, 1, "a"));
	ck_ok(do_fsync(a));
	ck_ok(do_read(a, 0, buf, sizeof(buf), &got));
	ck_assert_uint_eq(got, sizeof(buf));
	ck_ok(do_truncate(a, 100));
	volume_release(v, a);
	ck_ok(do_fsync(0));
	ck_ok(do_fsync(0));
	volume_state(v, &s);
	ck_assert_uint_eq(s.totals.bytes, 0);
	ck_assert_uint_eq(s.totals.inodes, 1);
	/* left by an unmount: removed by the next mount */
	a = do_create(1, "b");
	ck_ok(do_write(a, 0, buf, sizeof(buf)));
	ck_ok(volume_unlink(v, 1, "b"));
	remount();
	eventually(inodes() == 1);
	volume_state(v, &s);
	ck_assert_uint_eq(s.totals.bytes, 0);
	down();
}
END_TEST

/* Thousands of rows go in steps; the folder stays usable. */
START_TEST(huge_removal)
{
	uint64_t a;
	struct volume_state s;

	vopts.commit_interval = 5 * NS_PER_MS;
	up();
	a = do_create(1, "a");
	for (int k = 0; k < 5000; k++)
		ck_ok(do_write(a, (uint64_t)k * 10000, "x", 1));
	ck_ok(do_fsync(a));
	volume_state(v, &s);
	ck_assert_uint_eq(s.totals.bytes, 5000);
	ck_ok(do_truncate(a, 15001));
	ck_ok(do_fsync(a));
	volume_state(v, &s);
	ck_assert_uint_eq(s.totals.bytes, 2);
	for (int k = 0; k < 5000; k++)
		ck_ok(do_write(a, (uint64_t)k * 10000, "x", 1));
	ck_ok(do_fsync(a));
	ck_ok(volume_unlink(v, 1, "a"));
	volume_forget(v, a, 1);
	eventually(inodes() == 1);
	volume_state(v, &s);
	ck_assert_uint_eq(s.totals.bytes, 0);
	down();
}
END_TEST

/* No memory in the middle of a rename: all of it or nothing, and when the first half cannot be
 * taken back, none of it is ever committed. */
START_TEST(half_a_rename)
{
	static const struct {
		const char *name, *to;
		unsigned flags;
	} cases[] = { { "a", "b", RENAME_EXCHANGE }, { "a", "b", 0 }, { "a", "new", 0 } };
	uint64_t a, b, ino;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	log_open("/dev/null", 0);
	a = do_create(1, "a");
	b = do_create(1, "b");
	ck_ok(do_fsync(0));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		failpoint_load("meta.reserve=ENOMEM@2");
		ck_err(do_rename(1, cases[i].name, 1, cases[i].to, cases[i].flags), ENOMEM);
		ck_assert_uint_ge(failpoint_count("meta.reserve"), 2);
		failpoint_load("");
		ck_ok(do_lookup(1, "a", &ino));
		ck_assert_uint_eq(ino, a);
		ck_ok(do_lookup(1, "b", &ino));
		ck_assert_uint_eq(ino, b);
		ck_err(do_lookup(1, "new", &ino), ENOENT);
	}
	ck_ok(do_fsync(0));
	failpoint_load("meta.reserve=ENOMEM@2*0");
	ck_err(do_rename(1, "a", 1, "b", 0), ENOMEM);
	failpoint_load("");
	ck_err(volume_failed(v), EIO);
	volume_down(-EIO);
	meta_close(m);
	meta_up(0);
	ck_assert_int_eq(fake_destroy(st), 0);
	st = NULL;
	volume_up();
	ck_ok(do_lookup(1, "b", &ino));
	ck_assert_uint_eq(ino, b);
	down();
}
END_TEST

START_TEST(renames)
{
	uint64_t d, e, f, g, ino;
	struct entry en;

	up();
	d = do_mkdir(1, "d");
	e = do_mkdir(d, "e");
	f = do_create(1, "f");
	g = do_create(1, "g");
	ck_err(do_rename(1, "d", e, "x", 0), EINVAL);
	ck_err(do_rename(1, "d", d, "x", 0), EINVAL);
	ck_err(do_rename(1, "none", d, "x", 0), ENOENT);
	ck_err(do_rename(1, "f", 1, "d", 0), EISDIR);
	ck_err(do_rename(1, "d", 1, "f", 0), ENOTDIR);
	ck_err(do_rename(d, "e", 1, "d", 0), ENOTEMPTY);
	ck_err(do_rename(1, "f", 1, "g", RENAME_NOREPLACE), EEXIST);
	ck_err(do_rename(1, "f", 1, "g", 1 << 5), EINVAL);
	ck_err(do_rename(1, "f", 1, "none", RENAME_EXCHANGE), ENOENT);
	ck_err(do_rename(1, "d", e, "x", RENAME_EXCHANGE), ENOENT);
	do_create(e, "x");
	ck_err(do_rename(1, "d", e, "x", RENAME_EXCHANGE), EINVAL);
	ck_err(do_rename(e, "x", 1, "d", RENAME_EXCHANGE), EINVAL);
	ck_ok(volume_unlink(v, e, "x"));
	/* over a file */
	ck_ok(do_rename(1, "f", 1, "g", 0));
	ck_ok(do_lookup(1, "g", &ino));
	ck_assert_uint_eq(ino, f);
	ck_err(do_lookup(1, "f", &ino), ENOENT);
	ck_assert_uint_eq(do_stat(g).st_nlink, 0);
	/* a folder to another place, and over an empty one */
	do_mkdir(1, "h");
	ck_ok(do_rename(d, "e", 1, "h", 0));
	ck_ok(do_lookup(1, "h", &ino));
	ck_assert_uint_eq(ino, e);
	ck_ok(do_lookup(e, "..", &ino));
	ck_assert_uint_eq(ino, 1);
	ck_assert_uint_eq(do_stat(d).st_nlink, 2);
	ck_assert_uint_eq(do_stat(1).st_nlink, 4);
	ck_assert_int_eq(do_stat(1).st_size, 3);
	/* exchange a folder and a file over folders */
	ck_ok(do_rename(1, "g", d, "gg", 0));
	ck_ok(do_rename(d, "gg", 1, "h", RENAME_EXCHANGE));
	ck_ok(do_lookup(1, "h", &ino));
	ck_assert_uint_eq(ino, f);
	ck_ok(do_lookup(d, "gg", &ino));
	ck_assert_uint_eq(ino, e);
	ck_assert_uint_eq(do_stat(d).st_nlink, 3);
	ck_assert_uint_eq(do_stat(1).st_nlink, 3);
	ck_ok(do_lookup(e, "..", &ino));
	ck_assert_uint_eq(ino, d);
	/* a removed folder takes nothing any more */
	do_mkdir(1, "gone");
	ck_ok(do_lookup(1, "gone", &ino));
	ck_ok(volume_rmdir(v, 1, "gone"));
	ck_err(volume_mknod(v, ino, "x", S_IFREG, 0, &root_cred, &en), ENOENT);
	ck_err(do_rename(1, "h", ino, "h", 0), ENOENT);
	remount();
	ck_assert_uint_eq(do_stat(d).st_nlink, 3);
	ck_assert_uint_eq(do_stat(1).st_nlink, 3);
	ck_assert_int_eq(do_stat(1).st_size, 2);
	down();
}
END_TEST

struct list_state {
	char names[64][16];
	uint64_t cookies[64];
	int n, cap, stats;
};

static int take(void *arg, const struct volume_dirent *d)
{
	struct list_state *l = arg;

	if (l->n == l->cap)
		return 1;
	snprintf(l->names[l->n], 16, "%s", d->name);
	l->cookies[l->n++] = d->cookie;
	l->stats += d->st && d->st->st_ino == d->ino && (d->st->st_mode & S_IFMT) == d->type;
	return 0;
}

START_TEST(listing)
{
	struct list_state l = { .cap = 10 };
	struct volume_state s;
	uint64_t d, cookie = 0, before;
	int seen = 0;

	up();
	d = do_mkdir(1, "d");
	for (int k = 0; k < 100; k++) {
		char name[16];

		snprintf(name, sizeof(name), "n%02d", k);
		volume_forget(v, do_create(d, name), 1);
	}
	volume_state(v, &s);
	before = s.known_inodes;
	/* in pieces; entries that go meanwhile disturb nobody */
	for (;;) {
		l.n = 0;
		ck_ok(volume_readdir(v, d, cookie, 1, take, &l));
		if (!l.n)
			break;
		for (int k = 0; k < l.n; k++) {
			char want[16];

			if (seen >= 2)
				snprintf(want, sizeof(want), "n%02d", seen - 2);
			else
				snprintf(want, sizeof(want), "%s", seen ? ".." : ".");
			ck_assert_str_eq(l.names[k], want);
			seen++;
			if (seen > 2)
				ck_ok(volume_unlink(v, d, want));
		}
		cookie = l.cookies[l.n - 1];
	}
	ck_assert_int_eq(seen, 102);
	ck_assert_int_eq(l.stats, 102);
	volume_state(v, &s);
	ck_assert_uint_eq(s.known_inodes, before + 100);
	l.n = 0, l.cap = 64;
	ck_ok(volume_readdir(v, d, 0, 0, take, &l));
	ck_assert_int_eq(l.n, 2);
	ck_err(volume_readdir(v, do_create(1, "f"), 0, 0, take, &l), ENOTDIR);
	down();
}
END_TEST

static int set_mode(uint64_t ino, mode_t mode, const struct cred *c)
{
	struct stat s = { .st_mode = mode };

	return volume_setattr(v, ino, &s, VOL_SET_MODE, c, &s);
}

START_TEST(attributes)
{
	struct stat s = { .st_atim = { 5, 6 }, .st_mtim = { -7, 8 }, .st_uid = 5, .st_gid = 6 }, t;
	uint64_t a, d;
	struct entry e;

	vopts.commit_interval = 60 * NS_PER_S;
	up();
	a = do_create(1, "a");
	ck_ok(do_write(a, 0, "hello", 5));
	ck_ok(volume_setattr(v, a, &s, VOL_SET_ATIME | VOL_SET_MTIME, NULL, &t));
	ck_assert_int_eq(t.st_mtim.tv_sec, -7);
	ck_assert_int_eq(t.st_mtim.tv_nsec, 8);
	ck_assert_int_eq(t.st_atim.tv_sec, 5);
	remount();
	t = do_stat(a);
	ck_assert_int_eq(t.st_mtim.tv_sec, -7);
	ck_assert_int_eq(t.st_mtim.tv_nsec, 8);
	ck_assert_int_eq(t.st_size, 5);
	/* also when the content was committed before */
	s.st_mtim.tv_sec = 1234;
	ck_ok(volume_setattr(v, a, &s, VOL_SET_MTIME, NULL, &t));
	remount();
	ck_assert_int_eq(do_stat(a).st_mtim.tv_sec, 1234);
	/* setuid and setgid go with writing, truncating, chown */
	ck_ok(set_mode(a, 06777, &root_cred));
	ck_ok(do_write(a, 0, "x", 1));
	ck_assert_uint_eq(do_stat(a).st_mode, S_IFREG | 06777);
	{
		struct wait w;

		wait_init(&w);
		ck_ok(wait_for(&w, volume_write(v, a, 0, "x", 1, 0, &user_cred, wait_done, &w)));
	}
	ck_assert_uint_eq(do_stat(a).st_mode, S_IFREG | 0777);
	ck_ok(set_mode(a, 06767, &root_cred));
	s.st_size = 3;
	ck_ok(volume_setattr(v, a, &s, VOL_SET_SIZE, &user_cred, &t));
	ck_assert_uint_eq(t.st_mode, S_IFREG | 02767); /* no group execution: setgid stays */
	ck_ok(set_mode(a, 06755, &root_cred));
	ck_ok(volume_setattr(v, a, &s, VOL_SET_UID | VOL_SET_GID, &root_cred, &t));
	ck_assert_uint_eq(t.st_mode, S_IFREG | 0755);
	ck_assert_uint_eq(t.st_uid, 5);
	ck_assert_uint_eq(t.st_gid, 6);
	/* setgid folders hand on their group, folders the bit as well */
	d = do_mkdir(1, "d");
	ck_ok(volume_setattr(v, d, &s, VOL_SET_GID, &root_cred, &t));
	ck_ok(set_mode(d, 02777, &root_cred));
	ck_ok(volume_mkdir(v, d, "sub", 0777, &user_cred, &e));
	ck_assert_uint_eq(e.st.st_mode, S_IFDIR | 02755);
	ck_assert_uint_eq(e.st.st_gid, 6);
	ck_ok(volume_mknod(v, d, "f", S_IFREG | 0666, 0, &user_cred, &e));
	ck_assert_uint_eq(e.st.st_mode, S_IFREG | 0644);
	ck_assert_uint_eq(e.st.st_gid, 6);
	ck_assert_uint_eq(e.st.st_uid, 1000);
	down();
}
END_TEST

START_TEST(times)
{
	struct stat s, t;
	uint64_t a, d;
	struct entry e;
	char c;
	size_t got;

	up();
	d = do_mkdir(1, "d");
	a = do_create(d, "a");
	s = do_stat(a), t = do_stat(d);
	usleep(2000);
	ck_ok(volume_link(v, a, 1, "b", &e));
	ck_assert_int_gt(ns_of(e.st.st_ctim), ns_of(s.st_ctim));
	ck_assert_int_eq(ns_of(e.st.st_mtim), ns_of(s.st_mtim));
	ck_assert_int_eq(ns_of(do_stat(d).st_mtim), ns_of(t.st_mtim));
	s = do_stat(a);
	usleep(2000);
	ck_ok(do_rename(d, "a", d, "c", 0));
	ck_assert_int_gt(ns_of(do_stat(a).st_ctim), ns_of(s.st_ctim));
	ck_assert_int_gt(ns_of(do_stat(d).st_mtim), ns_of(t.st_mtim));
	/* relatime: the first read after a change, not the second */
	ck_ok(do_write(a, 0, "x", 1));
	s = do_stat(a);
	usleep(2000);
	ck_ok(do_read(a, 0, &c, 1, &got));
	t = do_stat(a);
	ck_assert_int_gt(ns_of(t.st_atim), ns_of(s.st_atim));
	usleep(2000);
	ck_ok(do_read(a, 0, &c, 1, &got));
	ck_assert_int_eq(ns_of(do_stat(a).st_atim), ns_of(t.st_atim));
	remount();
	ck_assert_int_eq(ns_of(do_stat(a).st_atim), ns_of(t.st_atim));
	ck_assert_int_eq(ns_of(do_stat(a).st_mtim), ns_of(s.st_mtim));
	down();
}
END_TEST

START_TEST(xattrs)
{
	AUTO_FREE char *big = calloc(1, 70000);
	char value[64], names[600];
	uint64_t a;
	size_t n;

	up();
	a = do_create(1, "a");
	ck_err(volume_getxattr(v, a, "user.x", value, sizeof(value), &n), ENODATA);
	ck_ok(volume_listxattr(v, a, names, sizeof(names), &n));
	ck_assert_uint_eq(n, 0);
	ck_ok(volume_setxattr(v, a, "user.x", "one", 3, XATTR_CREATE, &root_cred));
	ck_err(volume_setxattr(v, a, "user.x", "two", 3, XATTR_CREATE, &root_cred), EEXIST);
	ck_err(volume_setxattr(v, a, "user.y", "two", 3, XATTR_REPLACE, &root_cred), ENODATA);
	ck_ok(volume_setxattr(v, a, "user.x", "three", 5, XATTR_REPLACE, &root_cred));
	ck_ok(volume_setxattr(v, a, "trusted.empty", "", 0, 0, &root_cred));
	ck_ok(volume_setxattr(v, a, "user.big", big, 65536, 0, &root_cred));
	ck_err(volume_setxattr(v, a, "user.big", big, 65537, 0, &root_cred), E2BIG);
	ck_err(volume_setxattr(v, a, "other.x", "1", 1, 0, &root_cred), EOPNOTSUPP);
	ck_ok(volume_getxattr(v, a, "user.x", value, 0, &n));
	ck_assert_uint_eq(n, 5);
	ck_err(volume_getxattr(v, a, "user.x", value, 4, &n), ERANGE);
	ck_ok(volume_listxattr(v, a, names, 0, &n));
	ck_assert_uint_eq(n, 7 + 14 + 9);
	ck_err(volume_listxattr(v, a, names, 10, &n), ERANGE);
	remount();
	ck_ok(volume_getxattr(v, a, "user.x", value, sizeof(value), &n));
	ck_assert_int_eq(memcmp(value, "three", 5), 0);
	ck_ok(volume_getxattr(v, a, "trusted.empty", value, sizeof(value), &n));
	ck_assert_uint_eq(n, 0);
	ck_ok(volume_removexattr(v, a, "user.x", &root_cred));
	ck_err(volume_removexattr(v, a, "user.x", &root_cred), ENODATA);
	ck_err(volume_getxattr(v, a, "user.x", value, sizeof(value), &n), ENODATA);
	/* capabilities go with a write, whoever writes */
	ck_ok(volume_setxattr(v, a, "security.capability", "cap", 3, 0, &root_cred));
	ck_ok(volume_getxattr(v, a, "security.capability", value, sizeof(value), &n));
	ck_ok(do_write(a, 0, "x", 1));
	ck_err(volume_getxattr(v, a, "security.capability", value, sizeof(value), &n), ENODATA);
	ck_ok(volume_getxattr(v, a, "user.big", value, 0, &n));
	/* the list is bounded */
	for (int k = 0;; k++) {
		char name[256];
		int rc;

		memset(name, 'a', sizeof(name));
		snprintf(name, sizeof(name), "user.%0248d", k);
		rc = volume_setxattr(v, a, name, "", 0, 0, &root_cred);
		if (rc) {
			ck_err(rc, ENOSPC);
			ck_assert_int_gt(k, 200);
			break;
		}
	}
	/* removed with the file */
	ck_ok(volume_unlink(v, 1, "a"));
	volume_forget(v, a, 100);
	down();
}
END_TEST

static size_t make_acl(uint8_t *out, const struct acl_entry *e, int n)
{
	struct acl a = { .n = n };

	memcpy(a.e, e, (size_t)n * sizeof(*e));
	acl_format(&a, out);
	return ACL_XATTR_SIZE(n);
}

START_TEST(acls)
{
	static const struct acl_entry full[] = {
		{ ACL_TAG_USER_OBJ, 7, 0 }, { ACL_TAG_USER, 6, 1000 }, { ACL_TAG_GROUP_OBJ, 5, 0 },
		{ ACL_TAG_MASK, 6, 0 },     { ACL_TAG_OTHER, 1, 0 },
	};
	static const struct acl_entry plain[] = { { ACL_TAG_USER_OBJ, 6, 0 },
						  { ACL_TAG_GROUP_OBJ, 4, 0 },
						  { ACL_TAG_OTHER, 0, 0 } };
	uint8_t value[128], back[128];
	struct entry e;
	struct acl a;
	uint64_t f, d;
	size_t n, len;
	mode_t bits;

	up();
	f = do_create(1, "f");
	len = make_acl(value, full, 5);
	ck_ok(volume_setxattr(v, f, ACL_ACCESS_XATTR, value, len, 0, &root_cred));
	ck_assert_uint_eq(do_stat(f).st_mode, S_IFREG | 0761);
	ck_ok(volume_getxattr(v, f, ACL_ACCESS_XATTR, back, sizeof(back), &n));
	ck_assert_uint_eq(n, len);
	ck_assert_int_eq(memcmp(value, back, n), 0);
	/* chmod changes the mask, not the group's entry */
	ck_ok(set_mode(f, 0741, &root_cred));
	ck_ok(volume_getxattr(v, f, ACL_ACCESS_XATTR, back, sizeof(back), &n));
	ck_ok(acl_parse(&a, back, n));
	ck_assert_uint_eq(a.e[3].perm, 4);
	ck_assert_uint_eq(a.e[2].perm, 5);
	/* one that mode bits can say is not kept */
	len = make_acl(value, plain, 3);
	ck_ok(volume_setxattr(v, f, ACL_ACCESS_XATTR, value, len, 0, &root_cred));
	ck_assert_uint_eq(do_stat(f).st_mode, S_IFREG | 0640);
	ck_err(volume_getxattr(v, f, ACL_ACCESS_XATTR, back, sizeof(back), &n), ENODATA);
	/* default ACLs: folders only; inherited, the umask then has no say */
	len = make_acl(value, full, 5);
	ck_err(volume_setxattr(v, f, ACL_DEFAULT_XATTR, value, len, 0, &root_cred), EACCES);
	d = do_mkdir(1, "d");
	ck_ok(volume_setxattr(v, d, ACL_DEFAULT_XATTR, value, len, 0, &root_cred));
	ck_assert_uint_eq(do_stat(d).st_mode, S_IFDIR | 0755);
	remount();
	ck_ok(volume_mknod(v, d, "f", S_IFREG | 0666, 0, &user_cred, &e));
	ck_assert_uint_eq(e.st.st_mode, S_IFREG | 0660);
	ck_ok(volume_getxattr(v, e.st.st_ino, ACL_ACCESS_XATTR, back, sizeof(back), &n));
	ck_ok(acl_parse(&a, back, n));
	ck_assert_int_eq(acl_mode(&a, &bits), 0);
	ck_assert_uint_eq(bits, 0660);
	ck_assert_uint_eq(a.e[1].perm, 6);
	ck_err(volume_getxattr(v, e.st.st_ino, ACL_DEFAULT_XATTR, back, sizeof(back), &n), ENODATA);
	ck_ok(volume_mkdir(v, d, "sub", 0777, &user_cred, &e));
	ck_assert_uint_eq(e.st.st_mode, S_IFDIR | 0761);
	ck_ok(volume_getxattr(v, e.st.st_ino, ACL_DEFAULT_XATTR, back, sizeof(back), &n));
	ck_assert_int_eq(memcmp(value, back, n), 0);
	/* malformed ones are refused */
	value[4] = 3;
	ck_err(volume_setxattr(v, d, ACL_DEFAULT_XATTR, value, len, 0, &root_cred), EINVAL);
	ck_err(volume_setxattr(v, d, ACL_ACCESS_XATTR, value, len - 8, 0, &root_cred), EINVAL);
	ck_err(volume_setxattr(v, d, ACL_ACCESS_XATTR, value, 3, 0, &root_cred), EINVAL);
	value[0] = 9;
	ck_err(volume_setxattr(v, d, ACL_ACCESS_XATTR, value, len, 0, &root_cred), EOPNOTSUPP);
	down();
}
END_TEST

START_TEST(many_inodes)
{
	struct volume_state s;
	uint64_t first = 0;

	vopts.inode_cache = 100;
	vopts.commit_interval = 20 * NS_PER_MS;
	up();
	for (int k = 0; k < 5000; k++) {
		char name[16];
		uint64_t ino;

		snprintf(name, sizeof(name), "n%d", k);
		ino = do_create(1, name);
		first = first ? first : ino;
		ck_ok(do_write(ino, 0, name, strlen(name)));
	}
	ck_ok(do_fsync(0));
	volume_state(v, &s);
	ck_assert_uint_le(s.cached_inodes, 101);
	ck_assert_uint_eq(s.known_inodes, 5000);
	for (int k = 0; k < 5000; k++) {
		char name[16], back[16] = "";
		size_t got;

		snprintf(name, sizeof(name), "n%d", k);
		ck_ok(do_read(first + (uint64_t)k, 0, back, sizeof(back), &got));
		ck_assert_str_eq(back, name);
	}
	for (int k = 0; k < 5000; k++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", k);
		ck_ok(volume_unlink(v, 1, name));
		volume_forget(v, first + (uint64_t)k, 1);
	}
	eventually(inodes() == 1);
	volume_state(v, &s);
	ck_assert_uint_eq(s.known_inodes, 0);
	ck_assert_uint_eq(s.totals.bytes, 0);
	down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume names");
	TCase *t = tcase_create("names");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, name_rules);
	tcase_add_test(t, nodes);
	tcase_add_test(t, links);
	tcase_add_test(t, open_orphans);
	tcase_add_test(t, huge_removal);
	tcase_add_test(t, half_a_rename);
	tcase_add_test(t, renames);
	tcase_add_test(t, listing);
	tcase_add_test(t, attributes);
	tcase_add_test(t, times);
	tcase_add_test(t, xattrs);
	tcase_add_test(t, acls);
	tcase_add_test(t, many_inodes);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
