"""The model of a small filesystem that the crash tests compare with: names, links, attributes and content after any number of operations.

An operation is a list, [kind, arguments...], as the journal has it; paths are relative to the round's folder, handles are numbers of the workload's own.
  create h path mode          make a new file and open it            open h path           open it once more
  close h                                                            flush h               what closing one more handle does: the kernel's pages go to the daemon
  write h off len tag         pwrite                                 append h len tag      write at the end (O_APPEND)
  swrite path off len tag     pwrite through O_SYNC: durable          mstore h off len tag  store through a map, then msync: durable
  trunc h size | ptrunc path size                                    falloc h mode off len (FALLOC_FL_*)
  clone h off h2 off2 len     copy_file_range                        rename a b flags (RENAME_*)
  link a b | symlink target a | unlink a | mkdir a mode | rmdir a    setx path name len tag | rmx path name | chmod path mode
  fsync h | fdatasync h | fsyncdir path                              durable
"""
import random

PUNCH, ZERO, KEEP = 2, 16, 1  # FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_KEEP_SIZE
NOREPLACE, EXCHANGE = 1, 2
DURABLE = {"fsync", "fdatasync", "fsyncdir", "swrite", "mstore"}
NOTHING = {"open", "close", "flush", "fsync", "fdatasync", "fsyncdir"}  # change neither names nor content
_NO_ZEROS = bytes([1]) + bytes(range(1, 256))


def data(tag, length):
    """Bytes that only this operation writes, no zero among them: what shows zeros never got data, and what shows another tag's bytes is foreign."""
    return random.Random(tag).randbytes(length).translate(_NO_ZEROS)


class Node:
    __slots__ = ("id", "kind", "mode", "nlink", "xattrs", "entries", "target", "content", "ino")

    def __init__(self, id, kind, mode):
        self.id, self.kind, self.mode, self.ino = id, kind, mode, None
        self.nlink = 2 if kind == "d" else 1
        self.xattrs, self.entries, self.target = {}, {} if kind == "d" else None, None
        self.content = bytearray() if kind == "f" else None


class Model:
    """base: content of the files that every round finds beside it and never changes (handles opened on '@name')."""

    def __init__(self, base=None):
        self.count = 0
        self.replaced = False  # by the last rename
        self.closed = None     # by the last close
        self.root = self.node("d", 0o755)
        self.handles = {}
        self.base = {}
        for name, content in sorted((base or {}).items()):
            n = self.base["@" + name] = self.node("f", 0o644)
            n.content = content

    def node(self, kind, mode):
        self.count += 1
        return Node(self.count, kind, mode)

    def find(self, path):
        if path.startswith("@"):
            return self.base[path]
        n = self.root
        for part in path.split("/") if path else ():
            n = n.entries[part]
        return n

    def parent(self, path):
        head, _, name = path.rpartition("/")
        return self.find(head), name

    def paths(self, kind=None):
        """[(path, node)], folders before what is in them; the root is ''."""
        out, todo = [], [("", self.root)]
        while todo:
            path, n = todo.pop()
            if kind is None or n.kind == kind:
                out.append((path, n))
            if n.kind == "d":
                todo += [(path + "/" + name if path else name, c) for name, c in n.entries.items()]
        return out

    def shape(self):
        """{path: everything but content, which is compared for itself}."""
        return {p: (n.kind, n.mode, n.nlink, n.target, tuple(sorted(n.xattrs.items())), n) for p, n in self.paths()}

    # --- operations ---

    def apply(self, op, result=None):
        """Does it. Returns the nodes whose content it may have changed, as [(node, from, to)]; to None: up to the end of what was or is."""
        return getattr(self, "op_" + op[0])(*op[1:], result=result) or []

    def put(self, n, off, b):
        begin = min(off, len(n.content))
        if off > begin:
            n.content.extend(bytes(off - begin))
        n.content[off:off + len(b)] = b
        return [(n, begin, off + len(b))]

    def resize(self, n, size):
        old = len(n.content)
        if size < old:
            del n.content[size:]
        else:
            n.content.extend(bytes(size - old))
        return [(n, min(old, size), None)]

    def op_create(self, h, path, mode, result):
        d, name = self.parent(path)
        n = d.entries[name] = self.handles[h] = self.node("f", mode)
        n.ino = result
        return [(n, 0, None)]

    def op_open(self, h, path, result):
        self.handles[h] = self.find(path)

    def op_close(self, h, result):
        self.closed = self.handles.pop(h)

    def op_flush(self, h, result):
        pass

    op_fsync = op_fdatasync = op_flush

    def op_fsyncdir(self, path, result):
        pass

    def op_write(self, h, off, length, tag, result):
        return self.put(self.handles[h], off, data(tag, length))

    op_mstore = op_write

    def op_append(self, h, length, tag, result):
        n = self.handles[h]
        return self.put(n, len(n.content), data(tag, length))

    def op_swrite(self, path, off, length, tag, result):
        return self.put(self.find(path), off, data(tag, length))

    def op_trunc(self, h, size, result):
        return self.resize(self.handles[h], size)

    def op_ptrunc(self, path, size, result):
        return self.resize(self.find(path), size)

    def op_falloc(self, h, mode, off, length, result):
        n, end = self.handles[h], off + length
        changed = []
        if mode & (PUNCH | ZERO):
            stop = min(end, len(n.content))
            if off < stop:
                n.content[off:stop] = bytes(stop - off)
            changed = [(n, off, end)]
        if not mode & KEEP and end > len(n.content):
            changed += self.resize(n, end)
        return changed

    def op_clone(self, h, off, h2, off2, length, result):
        src, dst = self.handles[h], self.handles[h2]
        n = length if result is None else result
        b = bytes(src.content[off:off + n])
        return self.put(dst, off2, b) if b else []

    def op_rename(self, a, b, flags, result):
        da, na = self.parent(a)
        db, nb = self.parent(b)
        n, old = da.entries[na], db.entries.get(nb)
        self.replaced = old is not None and old is not n
        if flags & EXCHANGE:
            da.entries[na], db.entries[nb] = old, n
            self.moved(old, db, da)
        else:
            if old is n:
                return
            del da.entries[na]
            db.entries[nb] = n
            if old is not None:
                self.drop(old, db)
        self.moved(n, da, db)

    def moved(self, n, src, dst):
        if n.kind == "d":
            src.nlink -= 1
            dst.nlink += 1

    def drop(self, n, parent):
        n.nlink -= 1
        if n.kind == "d":
            parent.nlink -= 1

    def op_link(self, a, b, result):
        n = self.find(a)
        d, name = self.parent(b)
        d.entries[name] = n
        n.nlink += 1

    def op_symlink(self, target, a, result):
        d, name = self.parent(a)
        n = d.entries[name] = self.node("l", 0o777)
        n.target = target

    def op_unlink(self, a, result):
        d, name = self.parent(a)
        self.drop(d.entries.pop(name), d)

    op_rmdir = op_unlink

    def op_mkdir(self, a, mode, result):
        d, name = self.parent(a)
        d.entries[name] = self.node("d", mode)
        d.nlink += 1

    def op_setx(self, path, name, length, tag, result):
        self.find(path).xattrs[name] = data(tag, length)

    def op_rmx(self, path, name, result):
        del self.find(path).xattrs[name]

    def op_chmod(self, path, mode, result):
        self.find(path).mode = mode
