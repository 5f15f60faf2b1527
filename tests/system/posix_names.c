/* Names: files, folders, links, special files, rename, readdir, handles. */
#include "tests/system/posix_check.h"

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static void basics(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0640);
	struct stat st;

	OK(fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640 &&
	       st.st_nlink == 1 && st.st_size == 0,
	   "create a file");
	OK(st.st_uid == geteuid() && st.st_gid == getegid(), "it belongs to the caller");
	close(fd);
	FAILS(open("f", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST, "O_EXCL on an existing name");
	FAILS(open("none", O_RDONLY), ENOENT, "open an absent name");
	FAILS(open("f/x", O_RDONLY), ENOTDIR, "a file is no folder");
	FAILS(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR, "O_DIRECTORY on a file");
	OK(mkdir("d", 0750) == 0, "mkdir");
	st = stat_of("d");
	OK(S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0750 && st.st_nlink == 2,
	   "mode and link count of a new folder");
	FAILS(mkdir("d", 0777), EEXIST, "mkdir on a folder");
	FAILS(mkdir("f", 0777), EEXIST, "mkdir on a file");
	FAILS(open("d", O_WRONLY), EISDIR, "open a folder for writing");
	FAILS(open("d", O_RDWR | O_CREAT, 0600), EISDIR, "O_CREAT on a folder");
	FAILS(unlink("d"), EISDIR, "unlink a folder");
	FAILS(rmdir("f"), ENOTDIR, "rmdir a file");
	OK(mkdir("d/sub", 0755) == 0 && stat_of("d").st_nlink == 3, "a subfolder counts as link");
	FAILS(rmdir("d"), ENOTEMPTY, "rmdir of a folder that is not empty");
	OK(rmdir("d/sub") == 0 && stat_of("d").st_nlink == 2, "rmdir");
	OK(unlink("f") == 0, "unlink");
	FAILS(unlink("f"), ENOENT, "unlink again");
	FAILS(rmdir("f"), ENOENT, "rmdir of nothing");
	OK(rmdir("d") == 0, "rmdir of the empty folder");
	FAILS(access("d", F_OK), ENOENT, "it is gone");
	OK(mkdir("g", 0755) == 0 && chdir("g") == 0 && rmdir("../g") == 0, "rmdir the cwd");
	FAILS(open("x", O_RDWR | O_CREAT, 0600), ENOENT, "create in a removed folder");
	FAILS(mkdir("x", 0700), ENOENT, "mkdir in a removed folder");
}

static int listed(const char *name)
{
	DIR *d = opendir(".");
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d)))
		n += !strcmp(e->d_name, name);
	if (d)
		closedir(d);
	return n;
}

static void long_names(void)
{
	char n255[256], n256[257];

	memset(n255, 'n', 255), n255[255] = 0;
	memset(n256, 'n', 256), n256[256] = 0;
	OK(make_file(n255, "x", 0644) && listed(n255) == 1, "a name of 255 bytes");
	OK(rename(n255, "short") == 0 && rename("short", n255) == 0, "rename to 255 bytes");
	FAILS(open(n256, O_RDWR | O_CREAT, 0644), ENAMETOOLONG, "create 256 bytes");
	FAILS(mkdir(n256, 0755), ENAMETOOLONG, "mkdir 256 bytes");
	FAILS(symlink("t", n256), ENAMETOOLONG, "symlink 256 bytes");
	FAILS(link(n255, n256), ENAMETOOLONG, "link 256 bytes");
	FAILS(rename(n255, n256), ENAMETOOLONG, "rename to 256 bytes");
	FAILS(access(n256, F_OK), ENAMETOOLONG, "stat 256 bytes");
	FAILS(unlink(n256), ENAMETOOLONG, "unlink 256 bytes");
	OK(unlink(n255) == 0, "unlink 255 bytes");
}

static void byte_names(void)
{
	static const char *const names[] = {
		"\xff\xfe\x80", "\xc3\x28", "new\nline",     "tab\tcr\r", " ",
		"...",          "-rf",      "a\x01\x02\x1f", "u\xcc\x88", "\xc3\xbc",
		"back\\slash",  "quote'\"", "*?[]",          "A",         "a",
		"con",          "x.",       "skyflok:",
	};
	enum { N = sizeof(names) / sizeof(names[0]) };

	for (int i = 0; i < N; i++)
		make_file(names[i], names[i], 0644);
	for (int i = 0; i < N; i++)
		OK(listed(names[i]) == 1 && content_is(names[i], names[i], strlen(names[i])),
		   "name of bytes number %d", i);
	for (int i = 0; i < N; i++)
		OK(unlink(names[i]) == 0, "unlink name number %d", i);
}

static void hard_links(void)
{
	struct stat a, b;

	make_file("a", "content", 0644);
	OK(link("a", "b") == 0, "link");
	a = stat_of("a"), b = stat_of("b");
	OK(a.st_ino == b.st_ino && a.st_nlink == 2 && b.st_nlink == 2, "same inode, two links");
	FAILS(link("a", "b"), EEXIST, "link onto a name");
	FAILS(link("none", "c"), ENOENT, "link of nothing");
	mkdir("d", 0755);
	FAILS(link("d", "e"), EPERM, "link of a folder");
	OK(link("a", "d/c") == 0 && stat_of("a").st_nlink == 3, "link into another folder");
	int fd = open("b", O_WRONLY | O_APPEND);

	OK(write(fd, "+", 1) == 1 && close(fd) == 0 && content_is("a", "content+", 8),
	   "a write shows under all names");
	OK(unlink("a") == 0 && stat_of("b").st_nlink == 2 && content_is("d/c", "content+", 8),
	   "the others live on");
	OK(rename("b", "d/c") == 0 && stat_of("b").st_nlink == 2 && stat_of("d/c").st_nlink == 2,
	   "rename between two links of one file does nothing");
	symlink("nowhere", "s");
	OK(link("s", "s2") == 0 && S_ISLNK(stat_of("s2").st_mode) && stat_of("s").st_nlink == 2,
	   "link of a symlink links the symlink");
	OK(unlink("b") == 0 && unlink("d/c") == 0, "unlink the rest");
	make_file("m", "", 0644);
	int made = 0;
	char name[32];

	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		made += link("m", name) == 0;
	}
	OK(made == 1000 && stat_of("m").st_nlink == 1001, "1000 links");
}

static void symlinks(void)
{
	char target[PATH_MAX + 1], have[PATH_MAX + 1];
	struct stat st;

	OK(symlink("some/where", "s") == 0, "symlink");
	st = stat_of("s");
	OK(S_ISLNK(st.st_mode) && st.st_size == 10 && (st.st_mode & 0777) == 0777,
	   "its attributes");
	OK(readlink("s", have, sizeof(have)) == 10 && !memcmp(have, "some/where", 10), "readlink");
	FAILS(open("s", O_RDONLY), ENOENT, "a dangling one");
	FAILS(open("s", O_RDONLY | O_NOFOLLOW), ELOOP, "O_NOFOLLOW");
	FAILS(symlink("x", "s"), EEXIST, "onto a name");
	FAILS(readlink(".", have, sizeof(have)), EINVAL, "readlink of a folder");
	memset(target, 't', PATH_MAX), target[PATH_MAX - 1] = 0;
	OK(symlink(target, "long") == 0 && readlink("long", have, sizeof(have)) == PATH_MAX - 1 &&
	       !memcmp(have, target, PATH_MAX - 1) && stat_of("long").st_size == PATH_MAX - 1,
	   "a target of 4095 bytes");
	target[PATH_MAX - 1] = 't', target[PATH_MAX] = 0;
	FAILS(symlink(target, "long2"), ENAMETOOLONG, "a target of 4096 bytes");
	OK(symlink("\xff\n\x80", "bytes") == 0 && readlink("bytes", have, sizeof(have)) == 3 &&
	       !memcmp(have, "\xff\n\x80", 3),
	   "a target of bytes");
	make_file("f", "text", 0644);
	OK(symlink("f", "to") == 0 && content_is("to", "text", 4), "follow");
	symlink("b", "a"), symlink("a", "b");
	FAILS(open("a", O_RDONLY), ELOOP, "a loop");
	OK(rename("to", "to2") == 0 && readlink("to2", have, sizeof(have)) == 1, "rename");
	OK(unlink("to2") == 0 && content_is("f", "text", 4), "unlink leaves the target");
}

static void special_files(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int fd, fd2;
	char c = 0;

	OK(mkfifo("fifo", 0640) == 0 && S_ISFIFO(stat_of("fifo").st_mode), "fifo");
	fd = open("fifo", O_RDWR | O_NONBLOCK);
	OK(fd >= 0 && write(fd, "x", 1) == 1 && read(fd, &c, 1) == 1 && c == 'x', "it works");
	close(fd);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	       S_ISSOCK(stat_of("sock").st_mode) && listen(fd, 1) == 0,
	   "socket");
	fd2 = socket(AF_UNIX, SOCK_STREAM, 0);
	OK(connect(fd2, (struct sockaddr *)&addr, sizeof(addr)) == 0, "it works");
	close(fd), close(fd2);
	FAILS(open("sock", O_RDONLY), ENXIO, "a socket is not opened");
	OK(mknod("plain", S_IFREG | 0600, 0) == 0 && S_ISREG(stat_of("plain").st_mode),
	   "mknod of a file");
	if (!is_root()) {
		FAILS(mknod("cd", S_IFCHR | 0600, makedev(1, 3)), EPERM, "devices are for root");
		return;
	}
	OK(mknod("chr", S_IFCHR | 0666, makedev(1, 3)) == 0 && S_ISCHR(stat_of("chr").st_mode) &&
	       stat_of("chr").st_rdev == makedev(1, 3),
	   "character device");
	OK(mknod("blk", S_IFBLK | 0600, makedev(259, 300000)) == 0 &&
	       S_ISBLK(stat_of("blk").st_mode) && stat_of("blk").st_rdev == makedev(259, 300000),
	   "block device with a minor number above 255");
	fd = open("chr", O_RDWR);
	if (fd < 0 && errno == EACCES)
		skip("open a device", "mounted nodev");
	else
		OK(fd >= 0 && write(fd, "x", 1) == 1 && read(fd, &c, 1) == 0, "it is /dev/null");
}

static void unlinked_open(void)
{
	int fd = open("f", O_RDWR | O_CREAT, 0600);
	struct stat st;
	char buf[16], proc[64];
	char *map;

	OK(write(fd, "hello", 5) == 5 && unlink("f") == 0, "unlink an open file");
	OK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 5, "fstat");
	OK(pread(fd, buf, 16, 0) == 5 && !memcmp(buf, "hello", 5), "read");
	OK(fchmod(fd, 0644) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0644, "fchmod");
	OK(fchown(fd, getuid(), getgid()) == 0, "fchown");
	OK(ftruncate(fd, 8192) == 0 && fstat(fd, &st) == 0 && st.st_size == 8192, "ftruncate");
	OK(pwrite(fd, "tail", 4, 8188) == 4 && fsync(fd) == 0, "write and fsync");
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	OK(map != MAP_FAILED && !memcmp(map + 8188, "tail", 4), "mmap");
	if (map != MAP_FAILED)
		map[0] = 'J';
	OK(pread(fd, buf, 5, 0) == 5 && !memcmp(buf, "Jello", 5), "a store shows");
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && pread(fd, buf, 5, 0) == 5 &&
	       !memcmp(buf, "Jello", 5),
	   "read again without the cache");
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	int fd2 = open(proc, O_RDONLY);

	OK(fd2 >= 0 && read(fd2, buf, 5) == 5 && !memcmp(buf, "Jello", 5), "reopen by /proc");
	FAILS(linkat(AT_FDCWD, proc, AT_FDCWD, "back", AT_SYMLINK_FOLLOW), ENOENT,
	      "it cannot be linked again");
	OK(make_file("f", "other", 0644) && pread(fd, buf, 5, 0) == 5 && !memcmp(buf, "Jello", 5),
	   "a new file of that name is another one");
	OK(futimens(fd, NULL) == 0, "futimens");
	OK(close(fd) == 0 && close(fd2) == 0, "close");
	mkdir("d", 0755);
	fd = open("d", O_RDONLY | O_DIRECTORY);
	OK(rmdir("d") == 0 && fstat(fd, &st) == 0, "fstat of a removed open folder");
	close(fd);
	/* Replaced instead of unlinked. */
	make_file("old", "old content", 0644), make_file("new", "new content", 0644);
	fd = open("old", O_RDONLY);
	OK(rename("new", "old") == 0 && read(fd, buf, 11) == 11 && !memcmp(buf, "old content", 11),
	   "a replaced file reads on");
	OK(fstat(fd, &st) == 0 && st.st_nlink == 0, "and has no links");
}

static void renames(void)
{
	struct stat st;

	make_file("a", "A", 0644), make_file("b", "B", 0644);
	mkdir("d1", 0755), mkdir("d2", 0755), mkdir("d2/sub", 0755), mkdir("e", 0755);
	st = stat_of("a");
	OK(rename("a", "c") == 0 && stat_of("c").st_ino == st.st_ino && content_is("c", "A", 1),
	   "rename keeps the inode number");
	FAILS(access("a", F_OK), ENOENT, "the old name is gone");
	OK(rename("c", "b") == 0 && content_is("b", "A", 1), "rename over a file");
	FAILS(rename("none", "b"), ENOENT, "of nothing");
	FAILS(rename("b", "d1"), EISDIR, "a file over a folder");
	FAILS(rename("d1", "b"), ENOTDIR, "a folder over a file");
	OK(rename("d1", "d1") == 0, "onto itself");
	FAILS(rename("d2", "d2/sub/x"), EINVAL, "a folder into itself");
	errno = 0;
	OK(rename("e", "d2") == -1 && (errno == ENOTEMPTY || errno == EEXIST),
	   "a folder over one that is not empty");
	OK(rename("d1", "e") == 0 && access("e", F_OK) == 0, "a folder over an empty one");
	make_file("e/f", "F", 0644);
	st = stat_of(".");
	OK(rename("e", "d2/moved") == 0 && content_is("d2/moved/f", "F", 1), "move a folder");
	OK(stat_of(".").st_nlink == st.st_nlink - 1 && stat_of("d2").st_nlink == 4,
	   "link counts of both parents");
	OK(stat_of("d2/moved/..").st_ino == stat_of("d2").st_ino, "its .. is the new parent");
	OK(symlink("b", "l") == 0 && rename("l", "b") == 0 && S_ISLNK(stat_of("b").st_mode),
	   "a symlink over a file");
	FAILS(rename("d2/.", "x"), EBUSY, "of a dot");
	FAILS(rename("d2", "d2/sub"), EINVAL, "into a child of its own");
}

static void rename_flags(void)
{
	make_file("a", "A", 0644), make_file("b", "B", 0644);
	mkdir("d", 0755), mkdir("e", 0755), mkdir("d/sub", 0755);
	FAILS(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST, "NOREPLACE");
	OK(content_is("a", "A", 1) && content_is("b", "B", 1), "nothing changed");
	OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE) == 0 &&
	       content_is("c", "A", 1),
	   "NOREPLACE to a free name");
	OK(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE) == 0 &&
	       content_is("b", "A", 1) && content_is("c", "B", 1),
	   "EXCHANGE two files");
	OK(renameat2(AT_FDCWD, "b", AT_FDCWD, "d", RENAME_EXCHANGE) == 0 &&
	       content_is("d", "A", 1) && S_ISDIR(stat_of("b").st_mode) &&
	       access("b/sub", F_OK) == 0,
	   "EXCHANGE a file and a folder that is not empty");
	nlink_t n = stat_of(".").st_nlink;

	OK(renameat2(AT_FDCWD, "b/sub", AT_FDCWD, "c", RENAME_EXCHANGE) == 0 &&
	       content_is("b/sub", "B", 1) && S_ISDIR(stat_of("c").st_mode) &&
	       stat_of(".").st_nlink == n + 1 && stat_of("b").st_nlink == 2,
	   "EXCHANGE between folders, link counts");
	OK(stat_of("c/..").st_ino == stat_of(".").st_ino, ".. follows");
	FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT,
	      "EXCHANGE with nothing");
	FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "e", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL,
	      "both flags");
	FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "b/sub", RENAME_EXCHANGE), EINVAL,
	      "EXCHANGE with a child of its own");
}

static void swap_forever(void)
{
	char name[32];

	for (int i = 0;; i++) {
		snprintf(name, sizeof(name), "tmp%d", i % 2);
		int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

		if (write(fd, i % 2 ? "odd" : "even", i % 2 ? 3 : 4) < 3 || close(fd) ||
		    rename(name, "target"))
			_exit(1);
	}
}

static void rename_atomic(void)
{
	int absent = 0, torn = 0, status;
	pid_t pid;

	make_file("target", "even", 0644);
	pid = spawn(swap_forever);
	for (int i = 0; i < 10000; i++) {
		int fd = open("target", O_RDONLY);
		char buf[8];
		ssize_t n;

		if (fd < 0) {
			absent++;
			continue;
		}
		n = read(fd, buf, sizeof(buf));
		torn += !(n == 3 && !memcmp(buf, "odd", 3)) && !(n == 4 && !memcmp(buf, "even", 4));
		close(fd);
	}
	OK(waitpid(pid, &status, WNOHANG) == 0, "the renaming process still runs");
	kill(pid, SIGKILL);
	reap(pid);
	OK(!absent, "the name was never absent (%d times)", absent);
	OK(!torn, "the content was one or the other (%d times not)", torn);
}

static void deep_paths(void)
{
	char name[] = "level-of-depth";
	int at = open(".", O_RDONLY | O_DIRECTORY), depth = 0, fd;

	for (; depth < 300; depth++) {
		if (mkdirat(at, name, 0755))
			break;
		fd = openat(at, name, O_RDONLY | O_DIRECTORY);
		close(at);
		at = fd;
		if (at < 0)
			break;
	}
	OK(depth == 300, "300 folders deep (%d)", depth);
	fd = openat(at, "leaf", O_RDWR | O_CREAT, 0644);
	OK(fd >= 0 && write(fd, "deep", 4) == 4, "a file at the bottom");
	close(fd);
	char path[PATH_MAX] = ".";

	for (int i = 0; i < 150; i++)
		strncat(path, "/level-of-depth", sizeof(path) - strlen(path) - 1);
	OK(stat_of(path).st_nlink == 3, "150 folders by path");
	OK(chdir(path) == 0 && getcwd(path, sizeof(path)) && strlen(path) > 2000,
	   "getcwd down there");
}

static void dir_stream(void)
{
	enum { N = 3000 };
	static char seen[N];
	DIR *d;
	struct dirent *e;
	int dots = 0, wrong = 0, twice = 0, missing = 0;
	char name[256];

	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		close(open(name, O_WRONLY | O_CREAT, 0644));
	}
	mkdir("dir", 0755), symlink("x", "link"), mkfifo("fifo", 0644);
	d = opendir(".");
	/* Deleting while reading: what has not been deleted yet must all come, once. */
	while ((e = readdir(d))) {
		int i;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) {
			dots++;
			continue;
		}
		struct stat st = stat_of(e->d_name);

		wrong += st.st_ino != e->d_ino;
		wrong += e->d_type != DT_UNKNOWN && e->d_type != IFTODT(st.st_mode);
		if (sscanf(e->d_name, "file-%d", &i) != 1)
			continue;
		twice += seen[i]++;
		if (i % 3)
			unlink(e->d_name);
	}
	for (int i = 0; i < N; i++)
		missing += !seen[i];
	OK(dots == 2, "both dots");
	OK(!wrong, "inode numbers and types agree with stat (%d do not)", wrong);
	OK(!missing && !twice, "deleting while reading: %d missing, %d twice", missing, twice);
	rewinddir(d);
	int left = 0;

	while ((e = readdir(d)))
		left += !strncmp(e->d_name, "file-", 5);
	OK(left == N / 3, "after rewinddir the rest is there (%d)", left);
	rewinddir(d);
	for (int i = 0; i < 500; i++)
		e = readdir(d);
	long pos = telldir(d);

	e = readdir(d);
	snprintf(name, sizeof(name), "%s", e ? e->d_name : "");
	while (readdir(d))
		;
	seekdir(d, pos);
	e = readdir(d);
	OK(e && !strcmp(e->d_name, name), "seekdir to a told position");
	closedir(d);
	/* Adding while reading: the old ones once each. */
	memset(seen, 0, sizeof(seen));
	twice = missing = 0;
	d = opendir(".");
	for (int n = 0; (e = readdir(d));) {
		int i;

		if (sscanf(e->d_name, "file-%d", &i) == 1)
			twice += seen[i]++;
		snprintf(name, sizeof(name), "new-%d", n++);
		if (n < 500)
			close(open(name, O_WRONLY | O_CREAT, 0644));
	}
	closedir(d);
	for (int i = 0; i < N; i += 3)
		missing += !seen[i];
	OK(!missing && !twice, "adding while reading: %d missing, %d twice", missing, twice);
	OK(mkdir("empty", 0755) == 0 && (d = opendir("empty")) != NULL, "open an empty folder");
	left = 0;
	while (readdir(d))
		left++;
	OK(left == 2, "it has its dots only");
	make_file("empty/later", "", 0644);
	rewinddir(d);
	left = 0;
	while (readdir(d))
		left++;
	OK(left == 3, "rewinddir sees what was added");
	closedir(d);
}

static void many_open(void)
{
	enum { WANT = 20000 };
	static int fds[WANT];
	struct rlimit lim;
	char name[32], buf[32];
	int opened = 0, right = 0, n;

	getrlimit(RLIMIT_NOFILE, &lim);
	if (is_root() && lim.rlim_max < WANT + 100) {
		struct rlimit more = { WANT + 100, WANT + 100 };

		setrlimit(RLIMIT_NOFILE, &more);
		getrlimit(RLIMIT_NOFILE, &lim);
	}
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	n = lim.rlim_cur > WANT + 100 ? WANT : (int)lim.rlim_cur - 100;
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		fds[i] = open(name, O_RDWR | O_CREAT, 0600);
		opened += fds[i] >= 0 && write(fds[i], name, strlen(name)) == (ssize_t)strlen(name);
	}
	OK(opened == n, "%d files open at once (%d)", n, opened);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		right += pread(fds[i], buf, sizeof(buf), 0) == (ssize_t)strlen(name) &&
			 !memcmp(buf, name, strlen(name));
		unlink(name);
		close(fds[i]);
	}
	OK(right == n, "each has its own content (%d)", right);
}

static void file_handles(void)
{
	struct {
		struct file_handle h;
		unsigned char space[MAX_HANDLE_SZ];
	} file, dir;
	int mount_id, at, fd;
	char buf[8];

	if (!is_root()) {
		skip("open_by_handle_at", "needs root");
		return;
	}
	make_file("f", "handle", 0644), mkdir("d", 0755), make_file("d/x", "", 0644);
	file.h.handle_bytes = dir.h.handle_bytes = MAX_HANDLE_SZ;
	OK(!name_to_handle_at(AT_FDCWD, "f", &file.h, &mount_id, 0), "handle of a file");
	OK(!name_to_handle_at(AT_FDCWD, "d", &dir.h, &mount_id, 0), "handle of a folder");
	at = open(".", O_RDONLY | O_DIRECTORY);
	OK(rename("f", "d/g") == 0, "rename it");
	/* So that the kernel really has to ask. */
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (fd >= 0 && write(fd, "2", 1) == 1)
		close(fd);
	fd = open_by_handle_at(at, &file.h, O_RDONLY);
	OK(fd >= 0 && read(fd, buf, 8) == 6 && !memcmp(buf, "handle", 6), "open by handle");
	close(fd);
	fd = open_by_handle_at(at, &dir.h, O_RDONLY | O_DIRECTORY);
	OK(fd >= 0 && faccessat(fd, "g", F_OK, 0) == 0, "open a folder by handle");
	if (fd >= 0) {
		struct stat up = { 0 };

		OK(fstatat(fd, "..", &up, 0) == 0 && up.st_ino == stat_of(".").st_ino,
		   "and its parent");
		close(fd);
	}
	unlink("d/g");
	errno = 0;
	OK(open_by_handle_at(at, &file.h, O_RDONLY) < 0 && errno == ESTALE,
	   "the handle of a deleted file is stale");
	make_file("f2", "", 0644);
	OK(open_by_handle_at(at, &file.h, O_RDONLY) < 0, "and stays so");
}

static void make_500(void)
{
	char name[64];

	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "p%d-%d", (int)getpid(), i);
		int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

		if (fd < 0 || write(fd, name, strlen(name)) < 0 || close(fd))
			_exit(1);
		if (i % 2 && unlink(name))
			_exit(2);
	}
}

static void race_create(void)
{
	for (int i = 0; i < 200; i++) {
		char name[32];

		snprintf(name, sizeof(name), "race-%d", i);
		int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

		if (fd >= 0 && (write(fd, "1", 1) != 1 || close(fd)))
			_exit(1);
		if (fd < 0 && errno != EEXIST)
			_exit(2);
		fd = open("log", O_WRONLY | O_APPEND);
		if (fd < 0 || close(fd))
			_exit(3);
	}
}

static void parallel(void)
{
	pid_t pids[4];
	int bad = 0, n = 0;
	DIR *d;

	for (int i = 0; i < 4; i++)
		pids[i] = spawn(make_500);
	for (int i = 0; i < 4; i++)
		bad += reap(pids[i]) != 0;
	d = opendir(".");
	while (readdir(d))
		n++;
	closedir(d);
	OK(!bad && n == 1002, "4 processes make and unlink in one folder (%d entries)", n);
	make_file("log", "", 0644);
	for (int i = 0; i < 4; i++)
		pids[i] = spawn(race_create);
	bad = 0;
	for (int i = 0; i < 4; i++)
		bad += reap(pids[i]) != 0;
	OK(!bad, "O_EXCL races");
}

const struct check name_checks[] = {
	{ "basics", basics },
	{ "long_names", long_names },
	{ "byte_names", byte_names },
	{ "hard_links", hard_links },
	{ "symlinks", symlinks },
	{ "special_files", special_files },
	{ "unlinked_open", unlinked_open },
	{ "renames", renames },
	{ "rename_flags", rename_flags },
	{ "rename_atomic", rename_atomic },
	{ "deep_paths", deep_paths },
	{ "dir_stream", dir_stream },
	{ "many_open", many_open },
	{ "file_handles", file_handles },
	{ "parallel", parallel },
	{ NULL, NULL },
};
