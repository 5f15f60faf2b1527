#!/usr/bin/env python3
"""crash_work.py MOUNT JOURNAL SEED ROUND [COUNT]: a seeded mix of operations in MOUNT/w<ROUND>, with the journal JOURNAL.<ROUND>, for crash_check.py. Every operation stands in a journal outside the drive before it is tried ("T number operation") and after it was
acknowledged ("A number result"), or refused ("E number errno"); "K" is written before the daemon is killed, "B" when a read showed what it must not."""
import ctypes, errno, fcntl, json, mmap, os, random, select, signal, subprocess, sys, threading

from crash_model import EXCHANGE, KEEP, NOREPLACE, PUNCH, ZERO, Model, data

PAGE = 4096
SIZE_MAX = 2 << 20
HANDLES_MAX = 6
IN_CREATE = 0x100
libc = ctypes.CDLL(None, use_errno=True)


class Generator:
    """Draws operations that succeed. The model has each of them before the next one is drawn, so seed and round determine them all.

    with_cache: the kernel collects writes. It hands them to the daemon when it likes, but not before an operation that the daemon sees at once; so those that
    depend on the size are preceded by a flush here, or a crash would show the holes that the kernel's order makes."""

    def __init__(self, model, seed, round, with_cache, durable):
        self.m, self.r = model, random.Random(f"{seed}.{round}")
        self.tag, self.with_cache, self.durable = f"{seed}.{round}", with_cache, durable
        self.n = self.names = self.fds = 0

    def fresh(self):
        self.names += 1
        return f"n{self.names}"

    def handle(self):
        self.fds += 1
        return self.fds

    def new_tag(self):
        self.n += 1
        return f"{self.tag}.{self.n}"

    def length(self):
        return self.r.choice((1, 17, 300, 4096, 5000, 20000, 70000, 131072, 200000))

    def folder(self):
        return self.r.choice(self.m.paths("d"))[0]

    def place(self):
        d = self.folder()
        return (d + "/" if d else "") + self.fresh()

    def some(self, kind="f"):
        """A path of that kind, or None."""
        all_ = [p for p, n in self.m.paths(kind) if p]
        return self.r.choice(all_) if all_ else None

    def own(self):
        """A handle of a file of this round, or None."""
        hs = [h for h, n in self.m.handles.items() if n not in self.m.base.values()]
        return self.r.choice(hs) if hs else None

    def offset(self, size, length):
        kind = self.r.random()
        if kind < .25 or not size:
            off = size
        elif kind < .35:
            off = size + self.r.randrange(1, 300000)  # leaves a hole
        else:
            off = self.r.randrange(size)
        return min(off, SIZE_MAX - length)

    def settle(self, node):
        for h, n in self.m.handles.items():
            if self.with_cache and n is node:
                yield ["flush", h]
                return

    def maybe_durable(self, h):
        if self.r.random() < self.durable:
            yield [self.r.choice(("fsync", "fdatasync")), h]

    # --- scripts ---

    def create(self):
        if len(self.m.handles) >= HANDLES_MAX:
            yield from self.close()
        h = self.handle()
        yield ["create", h, self.place(), self.r.choice((0o600, 0o644, 0o640))]
        if self.r.random() < .8:
            yield ["write", h, 0, self.length(), self.new_tag()]
        yield from self.maybe_durable(h)

    def open(self):
        p = self.some()
        if p and len(self.m.handles) < HANDLES_MAX:
            yield ["open", self.handle(), p]

    def close(self):
        if self.m.handles:
            yield ["close", self.r.choice(sorted(self.m.handles))]

    def write(self):
        h = self.own()
        if h is None:
            return
        for _ in range(self.r.randrange(1, 5)):
            n = self.length()
            yield ["write", h, self.offset(len(self.m.handles[h].content), n), n, self.new_tag()]
        yield from self.maybe_durable(h)

    def append(self):
        h = self.own()
        n = self.length()
        if h is not None and len(self.m.handles[h].content) + n <= SIZE_MAX:
            yield ["append", h, n, self.new_tag()]
            yield from self.maybe_durable(h)

    def synced_write(self):
        p = self.some()
        if p:
            n, node = self.length(), self.m.find(p)
            yield from self.settle(node)
            yield ["swrite", p, self.offset(len(node.content), n), n, self.new_tag()]

    def map_store(self):
        h = self.own()
        size = len(self.m.handles[h].content) if h is not None else 0
        if size:
            off = self.r.randrange(size)
            yield from self.settle(self.m.handles[h])
            yield ["mstore", h, off, min(size - off, self.length()), self.new_tag()]

    def truncate(self):
        if self.r.random() < .6:
            h = self.own()
            if h is None:
                return
            node, op = self.m.handles[h], ["trunc", h]
        else:
            p = self.some()
            if not p:
                return
            node, op = self.m.find(p), ["ptrunc", p]
        size = len(node.content)
        yield from self.settle(node)
        yield op + [self.r.choice((0, size // 2, self.r.randrange(size + 1), min(SIZE_MAX, size + self.r.randrange(200000))))]

    def allocate(self):
        h = self.own()
        if h is None:
            return
        size = len(self.m.handles[h].content)
        mode = self.r.choice((0, KEEP, PUNCH | KEEP, PUNCH | KEEP, ZERO, ZERO | KEEP))
        yield from self.settle(self.m.handles[h])
        yield ["falloc", h, mode, self.r.randrange(size + 5000), self.r.choice((1, 4096, 10000, 150000))]
        yield from self.maybe_durable(h)

    def clone(self):
        """A piece, or all, of a file of this round or of one that was there before (whose extents lie in segments that are on the backends)."""
        if len(self.m.handles) > HANDLES_MAX - 2:
            yield from self.close()
        src = self.handle()
        p = self.some() if self.r.random() < .5 else None
        if not p and not self.m.base and not self.some():
            return
        yield ["open", src, p or self.r.choice(sorted(self.m.base) or [self.some()])]
        dst = self.own() if self.r.random() < .5 else None
        if dst is None or self.m.handles[dst] is self.m.handles[src]:
            dst = self.handle()
            yield ["create", dst, self.place(), 0o644]
        s, d = self.m.handles[src], self.m.handles[dst]
        yield from self.settle(s)
        yield from self.settle(d)
        off = 0 if self.r.random() < .5 else self.r.randrange(len(s.content) + 1)
        to = self.r.choice((0, len(d.content), self.r.randrange(len(d.content) + 1)))
        left = min(len(s.content) - off, self.r.choice((5000, 300000, SIZE_MAX)), SIZE_MAX - to)
        while left > 0:
            before = len(d.content)
            yield ["clone", src, off, dst, to, left]
            if self.done <= 0:
                break
            off, to, left = off + self.done, to + self.done, left - self.done
        yield from self.maybe_durable(dst)
        yield ["close", src]

    def save(self):
        """As editors do: a new file, renamed over the old one; with fsync or without."""
        target = self.some() or self.place()
        h, tmp = self.handle(), target + ".tmp"
        yield ["create", h, tmp, 0o644]
        for k in range(self.r.randrange(1, 4)):
            yield ["append", h, self.length(), self.new_tag()]
        yield from self.maybe_durable(h)
        yield ["close", h]
        yield ["rename", tmp, target, 0]
        if self.r.random() < self.durable:
            yield ["fsyncdir", target.rpartition("/")[0]]

    def rename(self):
        kind = self.r.choice(("f", "f", "l", "d", None))
        a = self.some(kind)
        if not a:
            return
        n = self.m.find(a)
        if self.r.random() < .4:
            b, flags = self.place(), self.r.choice((0, NOREPLACE))
        else:
            b, flags = self.some(kind if n.kind == "d" else "f"), self.r.choice((0, EXCHANGE))
            if not b or b == a or b.startswith(a + "/") or a.startswith(b + "/"):
                return
            other = self.m.find(b)
            if flags == 0 and (n.kind == "d") != (other.kind == "d") or flags == 0 and other.entries:
                return
        if n.kind == "d" and (b + "/").startswith(a + "/"):
            return
        yield ["rename", a, b, flags]

    def link(self):
        p = self.some(self.r.choice(("f", "l")))
        if p:
            yield ["link", p, self.place()]

    def symlink(self):
        yield ["symlink", self.r.choice(("x", "../" * 20 + "y", "z" * 3000)), self.place()]

    def unlink(self):
        p = self.some(self.r.choice(("f", "f", "f", "l")))
        if p:
            yield ["unlink", p]

    def unlink_open(self):
        """Goes on writing to what has no name any more."""
        p = self.some()
        if not p or len(self.m.handles) >= HANDLES_MAX:
            return
        h = self.handle()
        yield ["open", h, p]
        yield ["unlink", p]
        yield ["write", h, 0, self.length(), self.new_tag()]
        yield from self.maybe_durable(h)

    def mkdir(self):
        yield ["mkdir", self.place(), self.r.choice((0o755, 0o700))]

    def rmdir(self):
        empty = [p for p, n in self.m.paths("d") if p and not n.entries]
        if empty:
            yield ["rmdir", self.r.choice(empty)]

    def attributes(self):
        p, n = self.r.choice([x for x in self.m.paths() if x[0] and x[1].kind != "l"] or [("", None)])
        if not n:
            return
        kind = self.r.random()
        if kind < .5:
            yield ["setx", p, self.r.choice(("user.a", "user.b")), self.r.choice((1, 50, 3000)), self.new_tag()]
        elif kind < .7 and n.xattrs:
            yield ["rmx", p, self.r.choice(sorted(n.xattrs))]
        else:
            yield ["chmod", p, self.r.choice((0o700, 0o750, 0o755)) if n.kind == "d" else self.r.choice((0o600, 0o660, 0o604))]

    def sync(self):
        h = self.own()
        if self.r.random() < .5 and h is not None:
            yield [self.r.choice(("fsync", "fdatasync")), h]
        else:
            yield ["fsyncdir", self.folder()]

    def read(self):
        p = self.some() if self.r.random() < .8 or not self.m.base else self.r.choice(sorted(self.m.base))
        if p:
            yield ["read", p]

    def run(self, count):
        """Yields operations; its user says send(result) after each."""
        scripts = [(self.create, 8), (self.open, 3), (self.close, 3), (self.write, 16), (self.append, 5), (self.synced_write, 3), (self.map_store, 3),
                   (self.truncate, 6), (self.allocate, 6), (self.clone, 6), (self.save, 9), (self.rename, 9), (self.link, 4), (self.symlink, 2), (self.unlink, 4),
                   (self.unlink_open, 3), (self.mkdir, 4), (self.rmdir, 2), (self.attributes, 7), (self.sync, int(20 * self.durable)), (self.read, 3)]
        done = 0
        for s in (self.mkdir, self.create, self.create, self.create):
            for op in s():
                self.done = yield op
                done += 1
        while done < count:
            for op in self.r.choices([s for s, w in scripts], [w for s, w in scripts])[0]():
                self.done = yield op
                done += 1


class Executor:
    def __init__(self, folder, base, model):
        self.folder, self.base, self.m, self.fds = folder, base, model, {}

    def path(self, p):
        return os.path.join(self.base, p[1:]) if p.startswith("@") else os.path.join(self.folder, p) if p else self.folder

    def do(self, op):
        return getattr(self, "do_" + op[0])(*op[1:])

    def call(self, rc):
        if rc < 0:
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e))

    def do_create(self, h, path, mode):
        self.fds[h] = os.open(self.path(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        return os.fstat(self.fds[h]).st_ino

    def do_open(self, h, path):
        self.fds[h] = os.open(self.path(path), os.O_RDONLY if path.startswith("@") else os.O_RDWR)

    def do_close(self, h):
        os.close(self.fds.pop(h))

    def do_flush(self, h):
        os.close(os.dup(self.fds[h]))

    def do_fsync(self, h):
        os.fsync(self.fds[h])

    def do_fdatasync(self, h):
        os.fdatasync(self.fds[h])

    def do_fsyncdir(self, path):
        fd = os.open(self.path(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def whole(self, n, length):
        if n != length:
            raise OSError(errno.EIO, "short write")

    def do_write(self, h, off, length, tag):
        self.whole(os.pwrite(self.fds[h], data(tag, length), off), length)

    def do_append(self, h, length, tag):
        fcntl.fcntl(self.fds[h], fcntl.F_SETFL, os.O_APPEND)
        self.whole(os.write(self.fds[h], data(tag, length)), length)
        fcntl.fcntl(self.fds[h], fcntl.F_SETFL, 0)

    def do_swrite(self, path, off, length, tag):
        fd = os.open(self.path(path), os.O_RDWR | os.O_SYNC)
        try:
            self.whole(os.pwrite(fd, data(tag, length), off), length)
        finally:
            os.close(fd)

    def do_mstore(self, h, off, length, tag):
        begin = off // PAGE * PAGE
        with mmap.mmap(self.fds[h], off + length - begin, offset=begin) as m:
            m[off - begin:] = data(tag, length)
            m.flush()

    def do_trunc(self, h, size):
        os.ftruncate(self.fds[h], size)

    def do_ptrunc(self, path, size):
        os.truncate(self.path(path), size)

    def do_falloc(self, h, mode, off, length):
        self.call(libc.fallocate(self.fds[h], mode, ctypes.c_longlong(off), ctypes.c_longlong(length)))

    def do_clone(self, h, off, h2, off2, length):
        return os.copy_file_range(self.fds[h], self.fds[h2], length, off, off2)

    def do_rename(self, a, b, flags):
        self.call(libc.renameat2(-100, self.path(a).encode(), -100, self.path(b).encode(), flags))

    def do_link(self, a, b):
        os.link(self.path(a), self.path(b), follow_symlinks=False)

    def do_symlink(self, target, a):
        os.symlink(target, self.path(a))

    def do_unlink(self, a):
        os.unlink(self.path(a))

    def do_mkdir(self, a, mode):
        os.mkdir(self.path(a), mode)

    def do_rmdir(self, a):
        os.rmdir(self.path(a))

    def do_setx(self, path, name, length, tag):
        os.setxattr(self.path(path), name, data(tag, length))

    def do_rmx(self, path, name):
        os.removexattr(self.path(path), name)

    def do_chmod(self, path, mode):
        os.chmod(self.path(path), mode)

    def do_read(self, path):
        """Also a comparison while it runs: the daemon's bytes (the kernel's clean pages are dropped first) with the model's."""
        with open(self.path(path), "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if f.read() != self.m.find(path).content:
                raise ValueError(path)


def run(folder, base_folder, base, journal, seed, round, with_cache, durable, count, kill=None, push=None):
    """Works until all is done, or an operation fails. kill: (number of the operation, seconds after its beginning, pid of the
    daemon, or a command that takes the disk from under it, folder or None: not before something is made in that folder, if that is within a second) or None.
    push: (number of the operation, command that has everything uploaded) or None: begun then, and not waited for.
    fsync that fails ends nothing without the kernel's cache: what it would have acknowledged is only not acknowledged."""
    os.umask(0)
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    model = Model(base)
    gen, ex = Generator(model, seed, round, with_cache, durable), Executor(folder, base_folder, model)
    timer = pushing = None

    def say(*words):
        os.write(fd, (" ".join(str(w) for w in words) + "\n").encode())

    def shoot():
        if kill[3]:
            watch = libc.inotify_init1(os.O_CLOEXEC)
            libc.inotify_add_watch(watch, kill[3].encode(), IN_CREATE)
            select.select([watch], [], [], 1)
            os.close(watch)
        say("K")
        if isinstance(kill[2], list):
            subprocess.run(kill[2], check=True)
        else:
            os.kill(kill[2], signal.SIGKILL)

    ops = gen.run(count)
    op, i, result = next(ops, None), 0, None
    while op:
        i += 1
        if kill and kill[0] == i:
            timer = threading.Timer(kill[1], shoot)
            timer.start()
        if push and push[0] == i:
            pushing = subprocess.Popen(push[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        say("T", i, json.dumps(op))
        try:
            result = ex.do(op)
            say("A", i, json.dumps(result))
        except ValueError as e:
            say("B", i, e)
            break
        except OSError as e:
            say("E", i, e.errno)
            if with_cache or op[0] not in ("fsync", "fdatasync", "fsyncdir") or e.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                break
        if op[0] != "read":
            model.apply(op, result)
        try:
            op = ops.send(result)
        except StopIteration:
            break
    if kill and not timer:
        timer = threading.Timer(0, shoot)
        timer.start()
    if timer:
        timer.join()
    if pushing:
        pushing.wait(60)


def main(mnt, journal, seed, round, count="200"):
    folder = f"{mnt}/w{round}"
    try:
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    except OSError:
        return  # nothing to say: there is no journal then
    run(folder, None, {}, f"{journal}.{round}", seed, round, True, .3, int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
