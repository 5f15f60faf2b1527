#!/usr/bin/env python3
"""Crash states out of a log of tests/tools/shim.h: what a disk may hold after the power failed at some point of it.

  disk_states.py info LOG
  disk_states.py serve LOG SEED COUNT OUT KEPT ROOT...

`serve` reads lines on stdin; for each it makes the next of COUNT states (ascending cuts, chosen by SEED), removes OUT/<root> for each ROOT (its last
path component) and makes it anew, then answers with one line "state <i> cut <position> of <records> mode <mode> time <ns>"; at last "end". Files below
KEPT (the journal of the test itself) lose nothing. Roots named b... are backends: files there are linked where that is safe.

The rules are POSIX's worst case, which is more than ext4 does:
- A successful fsync or fdatasync of a file makes durable what was written to it and its size before the sync began; not its name.
- fsync of a folder makes durable the names in it (entries put, removed) from before it began; not its own name in its parent.
- Of what is not durable any part may be there: each block of 4 KiB (in some states 512 bytes) of a file has any of its contents since the durable one, the
  size is any of the sizes since then, whether the data below it came or not (zeros); each change of a folder is there or not, by itself; a rename inside one
  folder is one change, across two it is two (the file may be in both, or nowhere).
- After a sync that failed, what was waiting for it never becomes durable by a later sync (Linux calls such pages clean), but may be there all the same.
ext4 is kinder in all of them: its journal keeps the order of the changes of folders and sizes (mode "ordered" below), fsync of a new file makes its name durable,
and a rename over an existing file flushes the new one's data.
"""
import os, random, re, shutil, struct, sys

HEAD = struct.Struct("=IIQQQQQIIII")
MAGIC = 0x534B5348
WRITE, SIZE, GROW, ZERO, CREATE, MKDIR, LINK, RENAME, UNLINK, RMDIR, SYNC, SYNCED, BAD = range(1, 14)
BLOCK = 4096
NOTHING = bytes(BLOCK)


class Rec:
    __slots__ = ("op", "ino", "a", "b", "ns", "pid", "path", "path2", "data")


def read_log(path):
    buf = memoryview(open(path, "rb").read())
    at, out = 0, []
    while at < len(buf):
        magic, op, dev, ino, a, b, ns, pid, n1, n2, n3 = HEAD.unpack_from(buf, at)
        assert magic == MAGIC, f"the log is damaged at {at}"
        at += HEAD.size
        r = Rec()
        r.op, r.ino, r.a, r.b, r.ns, r.pid = op, (dev, ino), a, b, ns, pid
        r.path, r.path2, r.data = os.fsdecode(bytes(buf[at:at + n1])), os.fsdecode(bytes(buf[at + n1:at + n1 + n2])), buf[at + n1 + n2:at + n1 + n2 + n3]
        at += n1 + n2 + n3
        assert op != BAD, f"a call that the log cannot hold: {r.path2} of {r.path}"
        out.append(r)
    return out


class Content:
    """The bytes of a file: blocks that were written, and a size."""
    def __init__(self, size=0, blocks=None):
        self.size, self.blocks = size, blocks if blocks is not None else {}

    def copy(self):
        return Content(self.size, dict(self.blocks))

    def put(self, off, data, keep=None, unit=BLOCK):
        """Writes data; of its pieces of `unit` bytes only those for which keep(piece number) holds."""
        at, n = off, len(data)
        end = off + n
        while at < end:
            stop = min(end, (at // unit + 1) * unit)
            if keep is None or keep(at // unit):
                b, o = at // BLOCK, at % BLOCK
                piece = bytes(data[at - off:stop - off])
                if len(piece) == BLOCK:
                    self.blocks[b] = piece
                else:
                    old = self.blocks.get(b, NOTHING)
                    self.blocks[b] = old[:o] + piece + old[o + len(piece):]
            at = stop

    def zero(self, off, n, keep=None, unit=BLOCK):
        end = min(off + n, max(self.size, (max(self.blocks, default=-1) + 1) * BLOCK))
        while off < end:
            stop = min(end, (off // BLOCK + 1) * BLOCK)
            if off // BLOCK in self.blocks:
                self.put(off, bytes(stop - off), keep, unit)
            off = stop

    def cut(self, size):
        """What is beyond is gone, and zeros when the file grows again."""
        for b in [b for b in self.blocks if b * BLOCK >= size]:
            del self.blocks[b]
        b = size // BLOCK
        if b in self.blocks:
            self.blocks[b] = self.blocks[b][:size % BLOCK] + bytes(BLOCK - size % BLOCK)

    def store(self, path):
        with open(path, "wb", buffering=0, opener=lambda p, f: os.open(p, f, 0o600)) as f:
            todo = sorted(b for b in self.blocks if b * BLOCK < self.size)
            i = 0
            while i < len(todo):
                j = i + 1
                while j < len(todo) and todo[j] == todo[j - 1] + 1 and j - i < 256:
                    j += 1
                run = b"".join(self.blocks[b] for b in todo[i:j])
                os.pwrite(f.fileno(), run[:max(0, self.size - todo[i] * BLOCK)], todo[i] * BLOCK)
                i = j
            os.ftruncate(f.fileno(), self.size)


def apply(c, op):
    """One change of a file, whole."""
    kind, a, b = op
    if kind == WRITE:
        c.put(a, b)
        c.size = max(c.size, a + len(b))
    elif kind == SIZE:
        c.cut(a)
        c.size = a
    elif kind == GROW:
        c.size = max(c.size, a)
    elif kind == ZERO:
        c.zero(a, b)


def without(p, start, end):
    """A doubtful change without what was written anew since."""
    index, (kind, a, b), doubt = p
    stop = a + (len(b) if kind == WRITE else b)
    if end <= a or start >= stop:
        return [p]
    part = lambda x, y: [index, (kind, x, b[x - a:y - a] if kind == WRITE else y - x), doubt]
    return ([part(a, start)] if start > a else []) + ([part(end, stop)] if end < stop else [])


class File:
    def __init__(self):
        self.durable, self.pending = Content(), []  # pending: [record index, change, doubtful]
        self.kept = None  # where the durable content stands, for a link, while it does not change

    def sync(self, begun, failed):
        if failed:
            self.pending = [[p[0], p[1], p[2] or p[0] < begun] for p in self.pending]
            return
        doubtful, rest = [], []
        for p in self.pending:
            index, (kind, a, b), doubt = p
            if index >= begun:
                rest.append(p)
            elif doubt and kind in (WRITE, ZERO):
                doubtful.append(p) # its size is in the filesystem's journal, its data nowhere
                if kind == WRITE:
                    self.durable.size = max(self.durable.size, a + len(b))
            else:
                apply(self.durable, p[1])
                self.kept = None
                end = {WRITE: lambda: a + len(b), ZERO: lambda: a + b, SIZE: lambda: 1 << 62, GROW: lambda: a}[kind]()
                doubtful = [q for p in doubtful for q in without(p, a, end)]
        self.pending = doubtful + rest

    def state(self, rnd, mode):
        if not self.pending or mode == "lost":
            return self.durable
        c = self.durable.copy()
        ops = [p[1] for p in self.pending]
        if mode == "all":
            for op in ops:
                apply(c, op)
            return c
        unit = rnd.choice((512, BLOCK))
        sizes = rnd.randrange(len(ops) + 1)  # the sizes of the first so many changes came
        if mode in ("ordered", "zeros"):
            sizes = len(ops)
        last = {}  # piece -> how many of the changes its content has seen
        def keep(piece):
            if mode == "zeros":
                return False
            if piece not in last:
                last[piece] = rnd.choice((0, len(ops), rnd.randrange(len(ops) + 1)))
            return i < last[piece]
        for i, (kind, a, b) in enumerate(ops):
            if kind == WRITE:
                c.put(a, b, keep, unit)
                if i < sizes:
                    c.size = max(c.size, a + len(b))
            elif kind == ZERO:
                c.zero(a, b, keep, unit)
            elif i < sizes:
                apply(c, (kind, a, b))
        return c


class Folder:
    def __init__(self):
        self.durable, self.pending = {}, []  # pending: (record index, [(name, node or None)])

    def sync(self, begun, failed):
        rest = []
        for index, change in self.pending:
            if index >= begun or failed:
                rest.append((index, change))
            else:
                self.change(self.durable, change)
        self.pending = rest

    @staticmethod
    def change(names, change):
        for name, node in change:
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node

    def state(self, rnd, mode, limit, p):
        names = dict(self.durable)
        for index, change in self.pending:
            if mode == "all" or mode == "zeros" or (mode == "ordered" and index < limit) or (mode == "any" and rnd.random() < p):
                self.change(names, change)
        return names


class Disk:
    def __init__(self, roots, kept, store):
        self.roots = {r: Folder() for r in roots}
        self.live = {id(f): {} for f in self.roots.values()}  # names as the program sees them
        self.nodes, self.syncs, self.paths = {}, {}, dict(self.roots)
        self.kept, self.store, self.stored = kept, store, 0
        shutil.rmtree(store, ignore_errors=True)
        os.makedirs(store)

    def where(self, path):
        """The folder and the name in it, as the program sees it now."""
        root = next(r for r in self.roots if path == r or path.startswith(r + "/"))
        parts = path[len(root) + 1:].split("/")
        at = self.roots[root]
        for p in parts[:-1]:
            at = self.live[id(at)][p]
        return at, parts[-1]

    def put(self, i, *changes):
        """changes: (path, node or None). Those of one folder are one change."""
        by = {}
        for path, node in changes:
            folder, name = self.where(path)
            by.setdefault(id(folder), (folder, []))[1].append((name, node))
        for folder, change in by.values():
            Folder.change(self.live[id(folder)], change)
            folder.pending.append((i, change))

    lie = os.environ.get("LIE") # syncs of paths that match are ignored: shows that the comparison notices

    def sure(self, path):
        return path == self.kept or path.startswith(self.kept + "/")

    def feed(self, i, r):
        if r.op in (CREATE, MKDIR):
            node = File() if r.op == CREATE else Folder()
            if r.op == MKDIR:
                self.live[id(node)] = {}
            self.nodes[r.ino] = node
            self.put(i, (r.path, node))
        elif r.op == LINK:
            self.put(i, (r.path, self.nodes[r.ino]))
        elif r.op == RENAME:
            folder, name = self.where(r.path)
            self.put(i, (r.path, None), (r.path2, self.live[id(folder)][name]))
        elif r.op in (UNLINK, RMDIR):
            self.put(i, (r.path, None))
        elif r.op == SYNC:
            self.syncs[r.pid, r.a] = i
        elif r.op == SYNCED:
            node = self.roots.get(r.path) or self.nodes.get(r.ino)
            begun = self.syncs.pop((r.pid, r.a))
            if self.lie and re.search(self.lie, r.path):
                return
            node.sync(begun, r.b != 0)
        else:
            data = {WRITE: r.data, ZERO: r.b}.get(r.op)
            self.nodes[r.ino].pending.append([i, (r.op, r.a, data), False])
        if r.path and self.sure(r.path):
            for f in self.roots.values():
                if f is self.roots.get(self.kept):
                    f.sync(i + 1, False)
            if r.ino in self.nodes:
                self.nodes[r.ino].sync(i + 1, False)

    def build(self, out, rnd, mode, cut):
        limit, p = rnd.randrange(max(0, cut - 400), cut + 1), rnd.choice((.1, .5, .9))
        made = {}
        def one(node, path, mode, objects):
            if isinstance(node, Folder):
                os.mkdir(path, 0o700)
                for name, child in sorted(node.state(rnd, mode, limit, p).items()):
                    one(child, os.path.join(path, name), mode, objects)
            elif id(node) in made:
                os.link(made[id(node)], path)
            else:
                made[id(node)] = path
                whole = objects and not node.pending # objects never change: a link does
                if whole and node.kept:
                    os.link(node.kept, path)
                    return
                node.state(rnd, mode).store(path)
                if whole:
                    self.stored += 1
                    node.kept = os.path.join(self.store, str(self.stored))
                    os.link(path, node.kept)
        for root, folder in self.roots.items():
            to = os.path.join(out, os.path.basename(root))
            if os.path.lexists(to):
                shutil.rmtree(to)
            one(folder, to, "all" if root == self.kept else mode, os.path.basename(root)[0] == "b")


MODES = ("lost", "zeros", "ordered", "any", "any", "any", "all")


def phases(recs, kept):
    """Where the journal begins: what is before (create, mount) is short and gets a third of the cuts."""
    return next((i for i, r in enumerate(recs) if r.op == WRITE and r.path.startswith(os.path.join(kept, "journal"))), len(recs) // 2)


def serve(log, seed, count, out, kept, *roots):
    recs = read_log(log)
    rnd = random.Random(int(seed))
    work, count = phases(recs, kept), int(count)
    first = next(i for i, r in enumerate(recs) if r.path.startswith(kept))
    # A third in what is before, a third anywhere, a third near what is rare among a log's many writes.
    rare = [i for i, r in enumerate(recs) if i >= work and (r.op in (CREATE, RENAME, UNLINK, SIZE, ZERO) or (r.op == SYNCED and (r.b or r.path.endswith(".db"))))] or [work]
    cuts = [rnd.randrange(first, work) for _ in range(count // 3)] + [rnd.randrange(work, len(recs) + 1) for _ in range(count // 3)]
    cuts += [min(len(recs), rnd.choice(rare) + rnd.randrange(1, 12)) for _ in range(count - len(cuts))]
    if Disk.lie:
        cuts = [rnd.randrange(work, len(recs) + 1) for _ in range(count)]
    cuts.sort()
    disk, fed = Disk(roots, kept, os.path.join(out, "store")), 0
    for n, cut in enumerate(cuts):
        if not sys.stdin.readline():
            return
        while fed < cut:
            disk.feed(fed, recs[fed])
            fed += 1
        one = random.Random(int(seed) * 100003 + n)
        mode = one.choice(MODES)
        disk.build(out, one, mode, cut)
        print(f"state {n} cut {cut} of {len(recs)} mode {mode} time {recs[cut - 1].ns}", flush=True)
    sys.stdin.readline()
    print("end", flush=True)


def info(log):
    recs = read_log(log)
    names = "write size grow zero create mkdir link rename unlink rmdir sync synced".split()
    count = {}
    for r in recs:
        count[names[r.op - 1]] = count.get(names[r.op - 1], 0) + 1
    print(len(recs), "records,", sum(len(r.data) for r in recs) >> 10, "KiB:", " ".join(f"{v} {k}" for k, v in sorted(count.items())))


if __name__ == "__main__":
    {"serve": serve, "info": info}[sys.argv[1]](*sys.argv[2:])
