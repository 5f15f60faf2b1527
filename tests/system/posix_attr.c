/* Attributes: modes, owners, set-id bits, sticky folders, times, extended attributes, ACLs. */
#include "tests/system/posix_check.h"

#include <limits.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>

static void modes(void)
{
	int bad = 0;

	make_file("f", "x", 0644);
	for (mode_t m = 0; m <= 07777; m += 0111)
		bad += chmod("f", m) != 0 || (stat_of("f").st_mode & 07777) != m;
	OK(!bad, "chmod, many modes (%d wrong)", bad);
	umask(027);
	close(open("u", O_CREAT | O_WRONLY, 0666)), mkdir("ud", 0777), mkfifo("uf", 0666);
	umask(022);
	OK((stat_of("u").st_mode & 07777) == 0640 && (stat_of("ud").st_mode & 07777) == 0750 &&
	       (stat_of("uf").st_mode & 07777) == 0640,
	   "umask");
	OK(mkdir("st", 01777) == 0 && (stat_of("st").st_mode & 07777) == 01755, "mkdir 01777");
	struct statvfs v;

	OK(statvfs(".", &v) == 0 && v.f_namemax == 255 && v.f_bsize && v.f_frsize && v.f_blocks &&
	       v.f_bavail <= v.f_bfree && v.f_bfree <= v.f_blocks,
	   "statvfs");
}

static void user_makes(void)
{
	struct stat st;

	make_file("mine", "x", 0644);
	mkdir("dir", 0755), symlink("x", "link"), mkfifo("fifo", 0644);
	st = stat_of("mine");
	OK(st.st_uid == TEST_UID && st.st_gid == TEST_UID, "a file belongs to its creator");
	OK(stat_of("dir").st_uid == TEST_UID && stat_of("link").st_uid == TEST_UID &&
	       stat_of("fifo").st_gid == TEST_UID,
	   "so do the others");
	FAILS(open("secret", O_RDONLY), EACCES, "mode 0600 of root");
	FAILS(open("readable", O_WRONLY), EACCES, "0644 for writing");
	OK(open("readable", O_RDONLY) >= 0, "0644 for reading");
	FAILS(access("closed/x", F_OK), EACCES, "no search permission");
	FAILS(open("readonly/new", O_CREAT | O_WRONLY, 0644), EACCES, "create in a foreign folder");
	FAILS(unlink("readonly/x"), EACCES, "unlink in it");
	FAILS(rename("readonly/x", "stolen"), EACCES, "rename out of it");
	FAILS(chmod("readable", 0777), EPERM, "chmod of a foreign file");
	FAILS(chown("mine", 0, (gid_t)-1), EPERM, "give a file away");
	FAILS(chown("mine", (uid_t)-1, 0), EPERM, "to a foreign group");
	OK(chown("mine", TEST_UID, TEST_UID) == 0, "to oneself");
	FAILS(truncate("readable", 0), EACCES, "truncate a foreign file");
	struct timespec t[2] = { { 1, 0 }, { 1, 0 } };

	FAILS(utimensat(AT_FDCWD, "readable", t, 0), EPERM, "set times of a foreign file");
	FAILS(utimensat(AT_FDCWD, "readable", NULL, 0), EACCES, "touch a foreign file");
	OK(utimensat(AT_FDCWD, "writable", NULL, 0) == 0, "touch a writable one");
	FAILS(utimensat(AT_FDCWD, "writable", t, 0), EPERM, "but not any time");
}

static void owners(void)
{
	if (!is_root()) {
		skip("other users", "needs root");
		return;
	}
	make_file("secret", "s", 0600), make_file("readable", "r", 0644);
	make_file("writable", "w", 0666);
	mkdir("closed", 0700), make_file("closed/x", "", 0644);
	mkdir("readonly", 0755), make_file("readonly/x", "", 0666);
	OK(as_user(TEST_UID, user_makes) == 0, "as another user");
	OK(chown("secret", TEST_UID, OTHER_UID) == 0 && stat_of("secret").st_uid == TEST_UID &&
	       stat_of("secret").st_gid == OTHER_UID,
	   "chown by root");
	OK(chown("secret", (uid_t)-1, 7) == 0 && stat_of("secret").st_uid == TEST_UID &&
	       stat_of("secret").st_gid == 7,
	   "-1 keeps");
	OK(lchown("link", 5, 6) == 0 && stat_of("link").st_uid == 5, "lchown of a symlink");
	OK(chown("secret", 4000000000u, 4000000001u) == 0 &&
	       stat_of("secret").st_uid == 4000000000u && stat_of("secret").st_gid == 4000000001u,
	   "numbers above 2^31");
}

/* ---- set-id bits ---- */

static const char *const kill_names[] = { "w", "t", "ft", "otrunc", "falloc", "cfr", "dio" };

static void user_writes(void)
{
	int fd = open("w", O_WRONLY), src = open("src", O_RDONLY);

	if (write(fd, "x", 1) != 1)
		OK(0, "write");
	struct stat st;

	OK(fstat(fd, &st) == 0 && !(st.st_mode & 06000), "fstat shows it at once");
	close(fd);
	OK(truncate("t", 3) == 0, "truncate");
	fd = open("ft", O_RDWR);
	OK(ftruncate(fd, 2) == 0, "ftruncate");
	close(fd);
	OK(open("otrunc", O_WRONLY | O_TRUNC) >= 0, "open with O_TRUNC");
	fd = open("falloc", O_RDWR);
	OK(fallocate(fd, 0, 0, 5000) == 0, "fallocate");
	fd = open("cfr", O_RDWR);
	OK(copy_file_range(src, NULL, fd, NULL, 3, 0) == 3, "copy_file_range");
	fd = open("dio", O_RDWR | O_DIRECT);
	static char block[4096] __attribute__((aligned(4096)));

	OK(fd < 0 || write(fd, block, 4096) == 4096, "O_DIRECT");
	fd = open("gid", O_WRONLY);
	OK(write(fd, "x", 1) == 1, "write to a file with setgid but without group execution");
	fd = open("cap", O_WRONLY);
	OK(write(fd, "x", 1) == 1, "write to a file with capabilities");
}

static void set_caps(const char *name)
{
	struct vfs_cap_data c = { .magic_etc = VFS_CAP_REVISION_2 };

	c.data[0].permitted = 1 << CAP_NET_RAW;
	OK(setxattr(name, "security.capability", &c, sizeof(c), 0) == 0, "set capabilities");
}

static int has_caps(const char *name)
{
	char buf[64];

	return getxattr(name, "security.capability", buf, sizeof(buf)) > 0;
}

static void user_chowns(void)
{
	OK(chown("own", (uid_t)-1, TEST_UID) == 0, "chown by the owner");
	OK(chmod("own2", 06755) == 0 && (stat_of("own2").st_mode & 07777) == 06755,
	   "an owner may set the bits within his group");
	OK(chmod("own3", 02755) == 0 && !(stat_of("own3").st_mode & S_ISGID),
	   "setgid for a foreign group is dropped");
}

static void set_id_bits(void)
{
	if (!is_root()) {
		skip("set-id bits", "needs root");
		return;
	}
	make_file("src", "source", 0644);
	for (size_t i = 0; i < sizeof(kill_names) / sizeof(kill_names[0]); i++)
		make_file(kill_names[i], "content", 06777);
	/* The user is in its group: for others newer kernels clear it on some filesystems. */
	make_file("gid", "x", 0766), chown("gid", 0, TEST_UID), chmod("gid", 02766);
	make_file("cap", "x", 0777), set_caps("cap");
	/* So that the kernel has the attributes cached. */
	for (size_t i = 0; i < sizeof(kill_names) / sizeof(kill_names[0]); i++)
		OK((stat_of(kill_names[i]).st_mode & 07777) == 06777, "%s is 06777", kill_names[i]);
	OK(has_caps("cap"), "cap has capabilities");
	OK(as_user(TEST_UID, user_writes) == 0, "a user writes");
	for (size_t i = 0; i < sizeof(kill_names) / sizeof(kill_names[0]); i++)
		OK((stat_of(kill_names[i]).st_mode & 07777) == 0777 ||
		       (!strcmp(kill_names[i], "dio") && stat_of("dio").st_size == 7),
		   "%s has lost them (%o)", kill_names[i],
		   (unsigned)stat_of(kill_names[i]).st_mode & 07777);
	OK((stat_of("gid").st_mode & 07777) == 02766, "mandatory-lock style setgid stays");
	OK(!has_caps("cap"), "capabilities are gone");
	make_file("root", "x", 06755);
	int fd = open("root", O_WRONLY | O_APPEND);

	OK(write(fd, "y", 1) == 1 && fsync(fd) == 0 && (stat_of("root").st_mode & 07777) == 06755,
	   "root's write keeps them");
	set_caps("root");
	OK(write(fd, "z", 1) == 1 && !has_caps("root"), "but capabilities go with any write");
	close(fd);
	make_file("own", "x", 06755), make_file("own2", "x", 0755), make_file("own3", "x", 0755);
	OK(chown("own", TEST_UID, TEST_UID) == 0 && chown("own2", TEST_UID, TEST_UID) == 0 &&
	       chown("own3", TEST_UID, OTHER_UID) == 0,
	   "give files to the user");
	OK(chmod("own", 06755) == 0 && as_user(TEST_UID, user_chowns) == 0, "he changes them");
	OK((stat_of("own").st_mode & 07777) == 0755, "chown clears");
	make_file("rc", "x", 06755), set_caps("rc");
	OK(chown("rc", 1, 1) == 0 && (stat_of("rc").st_mode & 07777) == 0755 && !has_caps("rc"),
	   "chown by root clears too");
	make_file("rc2", "x", 02644);
	OK(chown("rc2", 1, 1) == 0 && (stat_of("rc2").st_mode & 07777) == 02644,
	   "setgid without execution stays");
	mkdir("dir", 0755), chmod("dir", 06755);
	OK(chown("dir", 1, 1) == 0 && (stat_of("dir").st_mode & 07777) == 06755,
	   "a folder keeps them");
}

static void user_in_sticky(void)
{
	FAILS(unlink("tmp/root"), EPERM, "unlink another's file");
	FAILS(rename("tmp/root", "tmp/mine2"), EPERM, "rename another's file");
	make_file("tmp/mine", "m", 0644);
	FAILS(rename("tmp/mine", "tmp/root"), EPERM, "replace another's file");
	OK(rename("tmp/mine", "tmp/mine3") == 0 && unlink("tmp/mine3") == 0, "one's own");
	FAILS(rmdir("tmp/dir"), EPERM, "rmdir another's folder");
}

static void user_in_setgid(void)
{
	make_file("sg/f", "x", 0644), mkdir("sg/d", 0755), symlink("x", "sg/l");
	OK(stat_of("sg/f").st_gid == OTHER_UID && stat_of("sg/d").st_gid == OTHER_UID &&
	       stat_of("sg/l").st_gid == OTHER_UID && stat_of("sg/f").st_uid == TEST_UID,
	   "new entries take the group");
	OK((stat_of("sg/d").st_mode & S_ISGID) && !(stat_of("sg/f").st_mode & S_ISGID),
	   "folders also the bit");
	close(open("sg/x", O_CREAT | O_WRONLY, 02775));
	OK(!(stat_of("sg/x").st_mode & S_ISGID), "no setgid program for a foreign group");
}

static void dir_bits(void)
{
	if (!is_root()) {
		skip("sticky and setgid folders", "needs root");
		return;
	}
	mkdir("tmp", 0777), chmod("tmp", 01777), make_file("tmp/root", "r", 0666);
	mkdir("tmp/dir", 0777);
	OK(as_user(TEST_UID, user_in_sticky) == 0, "in a sticky folder");
	mkdir("sg", 0777), chown("sg", 0, OTHER_UID), chmod("sg", 02777);
	OK(as_user(TEST_UID, user_in_setgid) == 0, "in a setgid folder");
}

/* ---- times ---- */

static int newer(const char *name, struct stat old, int want_m, int want_c)
{
	struct stat st = stat_of(name);

	return (ts_cmp(st.st_mtim, old.st_mtim) > 0) == want_m &&
	       (ts_cmp(st.st_ctim, old.st_ctim) > 0) == want_c;
}

#define TIMES(name, call, m, c, text)                                                              \
	do {                                                                                       \
		struct stat old_ = stat_of(name);                                                  \
		tick();                                                                            \
		int done_ = (call);                                                                \
		OK(done_ &&newer(name, old_, m, c), text);                                         \
	} while (0)

static int append_byte(const char *name)
{
	int fd = open(name, O_WRONLY | O_APPEND);

	return write(fd, "x", 1) == 1 && close(fd) == 0;
}

static void times_follow(void)
{
	make_file("f", "content", 0644), mkdir("d", 0755);
	TIMES("f", append_byte("f"), 1, 1, "write: mtime and ctime");
	TIMES("f", truncate("f", 3) == 0, 1, 1, "truncate: mtime and ctime");
	TIMES("f", chmod("f", 0600) == 0, 0, 1, "chmod: ctime");
	TIMES("f", chown("f", getuid(), getgid()) == 0, 0, 1, "chown: ctime");
	TIMES("f", link("f", "g") == 0, 0, 1, "link: ctime");
	TIMES("f", unlink("g") == 0, 0, 1, "unlink of another name: ctime");
	TIMES("f", setxattr("f", "user.x", "1", 1, 0) == 0, 0, 1, "setxattr: ctime");
	TIMES("f", removexattr("f", "user.x") == 0, 0, 1, "removexattr: ctime");
	TIMES("f", access("f", R_OK) == 0, 0, 0, "access: nothing");
	struct stat before = stat_of("f");

	tick();
	OK(rename("f", "h") == 0 && newer("h", before, 0, 1), "rename: ctime");
	OK(rename("h", "f") == 0, "rename back");
	TIMES("d", make_file("d/a", "", 0644), 1, 1, "create: folder");
	TIMES("d", append_byte("d/a"), 0, 0, "a write inside: not the folder");
	TIMES("d", rename("d/a", "d/b") == 0, 1, 1, "rename inside: folder");
	TIMES("d", symlink("x", "d/s") == 0, 1, 1, "symlink: folder");
	TIMES("d", mkdir("d/sub", 0755) == 0, 1, 1, "mkdir: folder");
	TIMES("d", rmdir("d/sub") == 0, 1, 1, "rmdir: folder");
	TIMES("d", link("f", "d/l") == 0, 1, 1, "link: folder");
	TIMES("d", unlink("d/l") == 0, 1, 1, "unlink: folder");
	TIMES("d", rename("d/b", "b") == 0, 1, 1, "rename out: folder");
	TIMES(".", rename("b", "d/b") == 0, 1, 1, "rename into another: the old folder");
	TIMES("d", mkfifo("d/p", 0644) == 0, 1, 1, "mknod: folder");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	OK(labs(stat_of("d").st_mtim.tv_sec - now.tv_sec) < 60, "the clock is the machine's");
}

static int times_are(const char *name, struct timespec a, struct timespec m)
{
	struct stat st = stat_of(name);

	return !ts_cmp(st.st_atim, a) && !ts_cmp(st.st_mtim, m);
}

static void times_set(void)
{
	struct timespec t[2] = { { 1000000000, 123456789 }, { 1100000000, 987654321 } };
	struct timespec odd[2] = { { -1000, 1 }, { 4102444800, 999999999 } };
	struct timespec part[2] = { { 0, UTIME_OMIT }, { 1200000000, 5 } };
	static char big[3 << 20];
	int fd;

	make_file("f", "x", 0644), symlink("f", "l"), mkdir("d", 0755);
	OK(utimensat(AT_FDCWD, "f", t, 0) == 0 && times_are("f", t[0], t[1]), "nanoseconds");
	OK(utimensat(AT_FDCWD, "f", odd, 0) == 0 && times_are("f", odd[0], odd[1]),
	   "before 1970, and 2100");
	OK(utimensat(AT_FDCWD, "f", t, 0) == 0 && utimensat(AT_FDCWD, "f", part, 0) == 0 &&
	       times_are("f", t[0], part[1]),
	   "UTIME_OMIT");
	OK(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW) == 0 && times_are("l", t[0], t[1]) &&
	       times_are("f", t[0], part[1]),
	   "of a symlink");
	OK(utimensat(AT_FDCWD, "d", t, 0) == 0 && times_are("d", t[0], t[1]), "of a folder");
	/* What tar and cp -p do: the write-back at close must not win. */
	fd = open("g", O_RDWR | O_CREAT, 0644);
	write(fd, big, sizeof(big));
	OK(futimens(fd, t) == 0 && times_are("g", t[0], t[1]), "futimens after writes");
	close(fd);
	OK(times_are("g", t[0], t[1]), "after close");
	fd = open("g", O_RDWR);
	fsync(fd), syncfs(fd), posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	OK(times_are("g", t[0], t[1]), "after fsync");
	close(fd);
	fd = open("g", O_RDWR);
	write(fd, "x", 1);
	close(fd);
	OK(utimensat(AT_FDCWD, "g", t, 0) == 0 && times_are("g", t[0], t[1]), "set after close");
	fd = open("g", O_RDONLY);
	syncfs(fd);
	OK(times_are("g", t[0], t[1]), "after syncfs");
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (fd >= 0 && write(fd, "3", 1) == 1)
		OK(times_are("g", t[0], t[1]), "after the kernel has forgotten the inode");
	OK(append_byte("g") && stat_of("g").st_mtim.tv_sec > 1600000000,
	   "a later write sets mtime");
	OK(utimensat(AT_FDCWD, "f", NULL, 0) == 0 && stat_of("f").st_mtim.tv_sec > 1600000000,
	   "now");
	char *map;

	make_file("m", "mapped", 0644), utimensat(AT_FDCWD, "m", t, 0);
	fd = open("m", O_RDWR);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	map[0] = 'M';
	msync(map, 4096, MS_SYNC);
	OK(stat_of("m").st_mtim.tv_sec > 1600000000, "a store through a mapping sets mtime");
}

static void relatime(void)
{
	struct timespec old[2] = { { 1000000000, 0 }, { 1100000000, 0 } };
	struct statvfs v;
	char c;
	int fd;

	statvfs(".", &v);
	if (v.f_flag & ST_NOATIME) {
		skip("atime", "mounted noatime");
		return;
	}
	make_file("f", "content", 0644);
	fd = open("f", O_RDWR);
	fsync(fd), posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	OK(futimens(fd, old) == 0, "an access older than the change");
	tick(); /* else atime becomes the same as ctime, which counts as older */
	OK(read(fd, &c, 1) == 1 && stat_of("f").st_atim.tv_sec > 1600000000, "reading sets atime");
	OK(stat_of("f").st_mtim.tv_sec == 1100000000, "and not mtime");
	struct timespec first = stat_of("f").st_atim;

	tick();
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	lseek(fd, 0, SEEK_SET);
	OK(read(fd, &c, 1) == 1 && !ts_cmp(stat_of("f").st_atim, first),
	   "reading again does not (relatime)");
}

/* ---- extended attributes ---- */

static void xattrs(void)
{
	static char value[65537], have[65536];
	char name[XATTR_NAME_MAX + 2], list[8192];
	ssize_t n;

	make_file("f", "x", 0644), mkdir("d", 0755), symlink("f", "l");
	OK(setxattr("f", "user.a", "value", 5, 0) == 0, "set");
	OK(getxattr("f", "user.a", have, sizeof(have)) == 5 && !memcmp(have, "value", 5), "get");
	OK(getxattr("f", "user.a", NULL, 0) == 5, "length");
	FAILS(getxattr("f", "user.a", have, 4), ERANGE, "a short buffer");
	FAILS(getxattr("f", "user.none", have, 4), ENODATA, "an absent one");
	FAILS(setxattr("f", "user.a", "v", 1, XATTR_CREATE), EEXIST, "XATTR_CREATE");
	FAILS(setxattr("f", "user.none", "v", 1, XATTR_REPLACE), ENODATA, "XATTR_REPLACE");
	OK(setxattr("f", "user.a", "other", 5, XATTR_REPLACE) == 0 &&
	       getxattr("f", "user.a", have, 9) == 5 && !memcmp(have, "other", 5),
	   "replace");
	OK(setxattr("f", "user.empty", "", 0, 0) == 0 && getxattr("f", "user.empty", have, 9) == 0,
	   "an empty value");
	OK(setxattr("f", "user.zero", "a\0b", 3, 0) == 0 &&
	       getxattr("f", "user.zero", have, 9) == 3 && !memcmp(have, "a\0b", 3),
	   "a value with zero bytes");
	n = listxattr("f", list, sizeof(list));
	OK(n >= 28 && memmem(list, (size_t)n, "user.a", 7) &&
	       memmem(list, (size_t)n, "user.empty", 11) &&
	       memmem(list, (size_t)n, "user.zero", 10),
	   "list");
	OK(listxattr("f", NULL, 0) == n, "length of the list");
	FAILS(listxattr("f", list, 5), ERANGE, "a short buffer for the list");
	OK(removexattr("f", "user.a") == 0, "remove");
	FAILS(removexattr("f", "user.a"), ENODATA, "remove again");
	OK(setxattr("d", "user.d", "1", 1, 0) == 0 && getxattr("d", "user.d", have, 9) == 1,
	   "of a folder");
	FAILS(lsetxattr("l", "user.l", "1", 1, 0), EPERM, "user.* of a symlink");
	memcpy(name, "user.", 5), memset(name + 5, 'n', 250), name[255] = 0;
	OK(setxattr("f", name, "long", 4, 0) == 0 && getxattr("f", name, have, 9) == 4,
	   "a name of 255 bytes");
	name[255] = 'n', name[256] = 0;
	FAILS(setxattr("f", name, "v", 1, 0), ERANGE, "a name of 256 bytes");
	FAILS(setxattr("f", "nothing", "v", 1, 0), EOPNOTSUPP, "a name without a namespace");
	FAILS(setxattr("f", "user.big", value, 65537, 0), E2BIG, "64 KiB + 1");
	int bad = 0, many = on_fuse() ? 200 : 20;

	for (int i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "user.many-%d", i);
		bad += setxattr("d", name, name, strlen(name), 0) != 0;
	}
	for (int i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "user.many-%d", i);
		bad += getxattr("d", name, have, 99) != (ssize_t)strlen(name) ||
		       memcmp(have, name, strlen(name));
	}
	OK(!bad, "%d attributes of one folder", many);
	OK(rename("f", "g") == 0 && getxattr("g", "user.zero", have, 9) == 3, "they move along");
	if (on_fuse()) {
		fill(value, sizeof(value), 9);
		OK(setxattr("g", "user.big", value, 65536, 0) == 0 &&
		       getxattr("g", "user.big", have, sizeof(have)) == sizeof(have) &&
		       !memcmp(value, have, 65536),
		   "a value of 64 KiB");
	} else {
		skip("a value of 64 KiB", "plain disks have their own limits");
	}
	if (is_root()) {
		OK(setxattr("g", "trusted.t", "1", 1, 0) == 0 &&
		       lsetxattr("l", "trusted.l", "1", 1, 0) == 0,
		   "trusted.* by root, also of a symlink");
		OK(setxattr("g", "security.mine", "1", 1, 0) == 0, "security.*");
	}
}

static void user_lists(void)
{
	char list[1000], have[10];
	ssize_t n = listxattr("f", list, sizeof(list));

	OK(n > 0 && memmem(list, (size_t)n, "user.u", 7) && !memmem(list, (size_t)n, "trusted.", 8),
	   "a user sees user.* and not trusted.*");
	errno = 0;
	OK(getxattr("f", "trusted.t", have, 10) < 0 && (errno == ENODATA || errno == EPERM),
	   "nor its value");
	FAILS(setxattr("f", "user.u", "2", 1, 0), EACCES, "nor may he change a foreign file's");
	FAILS(setxattr("f", "trusted.x", "2", 1, 0), EPERM, "or set trusted.*");
}

static void xattr_users(void)
{
	if (!is_root()) {
		skip("attributes and other users", "needs root");
		return;
	}
	make_file("f", "", 0644);
	setxattr("f", "user.u", "1", 1, 0), setxattr("f", "trusted.t", "1", 1, 0);
	OK(as_user(TEST_UID, user_lists) == 0, "as a user");
}

/* ---- access control lists ---- */

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};
struct acl {
	uint32_t version;
	struct acl_entry e[8];
};
#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
#define NOBODY  0xffffffffu

static int acl_set(const char *name, const char *which, const struct acl *a, int n)
{
	return setxattr(name, which, a, 4 + 8 * (size_t)n, 0);
}

static int acl_get(const char *name, const char *which, struct acl *a)
{
	ssize_t n = getxattr(name, which, a, sizeof(*a));

	return n < 4 ? -1 : (int)(n - 4) / 8;
}

static const struct acl user_rw = { 2,
				    { { USER_OBJ, 6, NOBODY },
				      { USER, 6, TEST_UID },
				      { GROUP_OBJ, 4, NOBODY },
				      { MASK, 6, NOBODY },
				      { OTHER, 0, NOBODY } } };

static void user_with_acl(void)
{
	OK(access("f", R_OK | W_OK) == 0 && open("f", O_RDWR) >= 0, "the list lets him in");
}

static void user_masked(void)
{
	OK(open("f", O_RDONLY) >= 0, "reading is left");
	FAILS(open("f", O_RDWR), EACCES, "the mask keeps writing out");
	FAILS(setxattr("f", ACCESS, &user_rw, 44, 0), EPERM, "the list is the owner's");
}

static void other_with_acl(void)
{
	FAILS(open("f", O_RDONLY), EACCES, "it lets nobody else in");
}

static void acls(void)
{
	struct acl a, def = { 2,
			      { { USER_OBJ, 7, NOBODY },
				{ USER, 5, TEST_UID },
				{ GROUP_OBJ, 5, NOBODY },
				{ MASK, 7, NOBODY },
				{ OTHER, 0, NOBODY } } };

	make_file("f", "acl", 0640), mkdir("d", 0755);
	if (acl_set("f", ACCESS, &user_rw, 5) && errno == EOPNOTSUPP) {
		skip("ACLs", "not supported here");
		return;
	}
	OK(acl_get("f", ACCESS, &a) == 5 && !memcmp(&a, &user_rw, 44), "set and get");
	OK((stat_of("f").st_mode & 07777) == 0660, "the mask shows as group bits");
	if (is_root()) {
		OK(as_user(TEST_UID, user_with_acl) == 0, "as the named user");
		OK(as_user(OTHER_UID, other_with_acl) == 0, "as another one");
	}
	OK(chmod("f", 0644) == 0 && acl_get("f", ACCESS, &a) == 5 && a.e[3].perm == 4 &&
	       a.e[4].perm == 4 && a.e[2].perm == 4,
	   "chmod changes the mask");
	if (is_root())
		OK(as_user(TEST_UID, user_masked) == 0, "masked");
	OK(removexattr("f", ACCESS) == 0 && acl_get("f", ACCESS, &a) == -1 &&
	       (stat_of("f").st_mode & 07777) == 0644,
	   "remove");
	struct acl bad = user_rw;

	bad.e[3].tag = 77;
	FAILS(acl_set("f", ACCESS, &bad, 5), EINVAL, "a bad tag");
	FAILS(acl_set("f", ACCESS, &user_rw, 3), EINVAL, "an incomplete list");
	FAILS(acl_set("f", DEFAULT, &def, 5), EACCES, "a default list for a file");
	OK(acl_set("d", DEFAULT, &def, 5) == 0 && acl_get("d", DEFAULT, &a) == 5, "default list");
	umask(077);
	make_file("d/plain", "", 0644);
	unlink("d/plain");
	close(open("d/f", O_CREAT | O_WRONLY, 0666));
	mkdir("d/sub", 0777);
	umask(022);
	OK((stat_of("d/f").st_mode & 07777) == 0660, "it replaces the umask (%o)",
	   (unsigned)stat_of("d/f").st_mode & 07777);
	OK(acl_get("d/f", ACCESS, &a) == 5 && a.e[1].id == TEST_UID && a.e[3].perm == 6,
	   "a new file inherits it");
	OK(acl_get("d/sub", DEFAULT, &a) == 5 && acl_get("d/sub", ACCESS, &a) == 5 &&
	       (stat_of("d/sub").st_mode & 07777) == 0770,
	   "a new folder inherits both");
	OK(symlink("x", "d/l") == 0 && (stat_of("d/l").st_mode & 0777) == 0777,
	   "a symlink does not");
	OK(removexattr("d", DEFAULT) == 0 && acl_get("d", DEFAULT, &a) == -1, "remove the default");
	close(open("d/g", O_CREAT | O_WRONLY, 0666));
	OK((stat_of("d/g").st_mode & 07777) == 0644, "then the umask counts again");
	struct acl minimal = {
		2, { { USER_OBJ, 6, NOBODY }, { GROUP_OBJ, 0, NOBODY }, { OTHER, 4, NOBODY } }
	};

	OK(acl_set("f", ACCESS, &minimal, 3) == 0 && (stat_of("f").st_mode & 07777) == 0604,
	   "a list that a mode can express becomes one");
}

const struct check attr_checks[] = {
	{ "modes", modes },
	{ "owners", owners },
	{ "set_id_bits", set_id_bits },
	{ "dir_bits", dir_bits },
	{ "times_follow", times_follow },
	{ "times_set", times_set },
	{ "relatime", relatime },
	{ "xattrs", xattrs },
	{ "xattr_users", xattr_users },
	{ "acls", acls },
	{ NULL, NULL },
};
