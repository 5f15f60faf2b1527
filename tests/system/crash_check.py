"""Compares a recovered mount with the model, as DESIGN.md promises: names and attributes are those after some number j of operations, not before the last one that
was acknowledged as durable; the content of each file is what it was at some point of its own history, not before its own last such point, nor before a
rename that made it appear over another name."""
import json, os, stat

from crash_model import DURABLE, EXCHANGE, NOTHING, Model

BLOCK = 4096
FINE = 64


class Mismatch(Exception):
    pass


class Journal:
    def __init__(self, path):
        self.ops, self.results, self.errors, self.killed_at, self.bad = [], {}, {}, None, None
        with open(path) as f:
            for line in f:
                kind, *rest = line.rstrip("\n").split(" ", 2)
                if kind == "T":
                    self.ops.append(json.loads(rest[1]))
                elif kind == "A":
                    self.results[int(rest[0])] = json.loads(rest[1])
                elif kind == "E":
                    self.errors[int(rest[0])] = (int(rest[1]), self.killed_at is not None)
                elif kind == "K":
                    self.killed_at = len(self.ops)
                elif kind == "B":
                    self.bad = rest

    def acked(self, i):
        return i in self.results

    def tail(self, n=12):
        out = []
        for i in range(max(1, len(self.ops) - n), len(self.ops) + 1):
            out.append(f"{i} {json.dumps(self.ops[i - 1])} " + (f"acknowledged {self.results[i]}" if i in self.results else f"error {self.errors.get(i)}"))
        return out


def scan(folder):
    """{path: (kind, mode, nlink, target, xattrs, ino)} and {path: content} of a real folder."""
    shape, content = {}, {}
    todo = [""]
    while todo:
        path = todo.pop()
        full = os.path.join(folder, path) if path else folder
        st = os.lstat(full)
        kind = "d" if stat.S_ISDIR(st.st_mode) else "l" if stat.S_ISLNK(st.st_mode) else "f"
        xattrs = {}
        if kind != "l":
            xattrs = {n: os.getxattr(full, n) for n in os.listxattr(full) if n != "user.skyflok.state"}
        shape[path] = (kind, stat.S_IMODE(st.st_mode), st.st_nlink, os.readlink(full) if kind == "l" else None, tuple(sorted(xattrs.items())), st.st_ino)
        if kind == "d":
            todo += [path + "/" + n if path else n for n in os.listdir(full)]
        elif kind == "f":
            with open(full, "rb") as f:
                content[path] = f.read()
            if len(content[path]) != st.st_size:
                raise Mismatch(f"{path}: stat says {st.st_size} bytes, reading gives {len(content[path])}")
    return shape, content


def same_shape(model, real):
    """None, or what differs first."""
    for p in model.keys() | real.keys():
        if p not in model:
            return f"{p} is there"
        if p not in real:
            return f"{p} is missing"
        m, r = model[p], real[p]
        if m[:5] != r[:5]:
            return f"{p} is {show(r)} and should be {show(m)}"
        if m[5].ino is not None and m[5].ino != r[5]:
            return f"{p} is another file (inode {r[5]} instead of {m[5].ino})"
    seen = {}
    for p, m in model.items():
        if m[0] != "d" and seen.setdefault(m[5].id, real[p][5]) != real[p][5]:
            return f"{p} is not the same file as its other name"
    return None


def show(s):
    return f"({s[0]} {s[1]:o} {s[2]} links, target {str(s[3])[:20]}, {[(n, len(v)) for n, v in s[4]]})"


class Track:
    """One real file compared with the growing content of a model's file: only what an operation changed is compared again."""

    def __init__(self, real):
        self.real, self.wrong = real, set(range((len(real) + BLOCK - 1) // BLOCK))

    def changed(self, content, begin, end):
        top = end
        if end is None:  # and behind the end of both there is nothing
            top = max(len(self.real), len(content))
            self.wrong = {b for b in self.wrong if b * BLOCK < top}
        for b in range(begin // BLOCK, (top + BLOCK - 1) // BLOCK):
            at = b * BLOCK
            if self.real[at:at + BLOCK] == content[at:at + BLOCK]:
                self.wrong.discard(b)
            else:
                self.wrong.add(b)

    def matches(self, content):
        return len(content) == len(self.real) and not self.wrong


class Checker:
    def __init__(self, journal, base, with_cache):
        self.j, self.base, self.with_cache = journal, base, with_cache
        self.n = len(journal.ops)
        self.lost = 0   # files and names that are older than what the workload saw: allowed, and what a kill is for
        self.holes = 0  # bytes that the kernel's order of writing left as holes in what was never synced
        self.durable = [i for i in range(1, self.n + 1) if journal.ops[i - 1][0] in DURABLE and journal.acked(i)]

    def forward(self):
        """Yields (number, model, changed) after each operation; 0 first. One that was refused on the way (only syncs may be) changed nothing; the last one may
        have happened although nobody was told."""
        m = Model(self.base)
        yield 0, m, []
        for i in range(1, self.n + 1):
            op = self.j.ops[i - 1]
            does = op[0] != "read" and (self.j.acked(i) or i == self.n)
            yield i, m, m.apply(op, self.j.results.get(i)) if does else []

    # --- names ---

    def note(self, i, op, m):
        """From when on content must be there: floor[node], after a sync; over[node], as of renames that showed it in place of something else. With the kernel's cache
        the latter are about what the daemon had been given, by closing above all."""
        if op[0] in ("close", "flush", "fsync", "fdatasync", "mstore", "swrite"):
            n = m.closed if op[0] == "close" else m.find(op[1]) if op[0] == "swrite" else m.handles[op[1]]
            self.given[n.id] = i
            if i in self.durable_set:
                self.floor[n.id] = i
        if op[0] == "rename" and m.replaced:
            for p in (op[2], op[1]) if op[3] & EXCHANGE else (op[2],):
                n = m.find(p).id
                self.over.setdefault(n, []).append((i, self.given.get(n, 0) if self.with_cache else i))

    def names(self, real):
        """Every j whose names are the real ones, as [(j, {path: node id})]."""
        self.floor, self.over, self.given, self.durable_set = {}, {}, {}, set(self.durable)
        last, found, diff, nodes = max(self.durable, default=0), [], "", {}
        for i, m, _ in self.forward():
            op = self.j.ops[i - 1] if i else ["none"]
            if i and (self.j.acked(i) or i == self.n):
                self.note(i, op, m)
            if i < last:
                continue
            if i == last or op[0] not in NO_NAMES:
                shape = m.shape()
                diff = same_shape(shape, real)
                nodes = {p: s[5].id for p, s in shape.items() if s[0] == "f"}
            if diff is None:
                found.append((i, nodes))
        if not found:
            raise Mismatch(f"no state between operation {last} (acknowledged) and {self.n} has these names; compared with the last one: {diff}")
        return found

    # --- content ---

    def content(self, found, real):
        """Every file as it was at a point of its own history. Returns the largest j for which that is true."""
        groups, problem = {}, None
        for j, nodes in found:
            groups.setdefault(tuple(sorted(nodes.items())), []).append(j)
        for nodes, js in sorted(groups.items(), key=lambda g: -max(g[1])):
            self.lost = self.holes = 0
            try:
                self.histories(dict(nodes), max(js), real)
                return max(js)
            except Mismatch as e:
                problem = problem or e
        raise problem

    def histories(self, nodes, j, real):
        tracks = {n: (p, Track(real[p])) for p, n in nodes.items()}
        versions = {n: [] for n in tracks}
        for i, _, changed in self.forward():
            for node, begin, end in changed:
                if node.id in tracks:
                    t = tracks[node.id][1]
                    t.changed(node.content, begin, end)
                    versions[node.id].append((i, t.matches(node.content)))
        for n, (path, t) in tracks.items():
            floor = max([self.floor.get(n, 0)] + [at for i, at in self.over.get(n, []) if i <= j])
            v = versions[n]
            # A version stands until the next one: it will do when that came after the floor.
            good = [i for k, (i, match) in enumerate(v) if match and (k + 1 == len(v) or v[k + 1][0] > floor)]
            if not good:
                self.examine(path, t.real, self.of_node(n), floor)
            self.lost += not good or good[-1] != v[-1][0]

    def of_node(self, n):
        """[(number, content)] of one node."""
        out = []
        for i, _, changed in self.forward():
            for node, _, _ in changed:
                if node.id == n:
                    out.append((i, bytes(node.content)))
        return out

    def examine(self, path, real, versions, floor):
        """No version as a whole: an operation in part, or, with the kernel's cache, bytes in its order."""
        for (_, old), (i, new) in zip(versions, versions[1:]):
            if i > floor and in_part(self.j.ops[i - 1], old, new, real, i == self.n and not self.j.acked(i)):
                return
        valid = [c for k, (i, c) in enumerate(versions) if k + 1 == len(versions) or versions[k + 1][0] > floor]
        where = mixture(real, valid) if self.with_cache else None
        if where is None or isinstance(where, str):
            best = min(versions, key=lambda v: distance(v[1], real))
            raise Mismatch(f"{path} ({len(real)} bytes) is nothing that it was since operation {floor}: {where or ''} nearest is operation {best[0]} "
                           f"({len(best[1])} bytes): {describe(best[1], real)}; it had versions {[(i, len(c)) for i, c in versions][-12:]}")
        self.holes += where


NO_NAMES = NOTHING | {"read", "write", "append", "swrite", "mstore", "trunc", "ptrunc", "falloc", "clone"}


def in_part(op, old, new, real, last):
    """Is real what stood in the middle of that operation? A write comes to the daemon in requests that end at pages (the kernel ends one at each page that it does not
    know whole), a store through a map page by page in any order. A clone is one request, but may do less than it was asked for: nobody was told how much."""
    if op[0] in ("write", "append", "swrite") or op[0] == "clone" and last:
        off = {"write": 2, "swrite": 2, "clone": 4}.get(op[0])
        off = len(old) if off is None else op[off]
        same = next((k for k, (a, b) in enumerate(zip(real[off:], new[off:])) if a != b), min(len(real), len(new)) - off)
        cuts = {len(real) - off, same, (off + same) // BLOCK * BLOCK - off}
        return any(n >= 0 and (op[0] == "clone" or (off + n) % BLOCK == 0) and real == old[:off] + bytes(max(0, off - len(old))) + new[off:off + n] + old[off + n:] for n in cuts)
    if op[0] == "mstore" and len(real) == len(old):
        return all(real[a:a + BLOCK] in (old[a:a + BLOCK], new[a:a + BLOCK]) for a in range(0, len(real), BLOCK))
    return False


def mixture(real, valid):
    """Is each byte one that the file had there since it was synced? Returns a number of bytes that show a hole where data was on its way, or a complaint."""
    if not min(len(c) for c in valid) <= len(real) <= max(len(c) for c in valid):
        return f"its size was never between {min(len(c) for c in valid)} and {max(len(c) for c in valid)};"
    holes, short = 0, min(len(c) for c in valid)
    for a in range(0, len(real), FINE):
        piece = real[a:a + FINE]
        if any(c[a:a + FINE] == piece for c in valid):
            continue
        for b in range(a, a + len(piece)):
            if any(b < len(c) and c[b] == real[b] for c in valid):
                continue
            if real[b] or b < short:
                return f"byte {b} is {real[b]}, which was never there;"
            holes += 1
    return holes


def distance(a, b):
    return sum(a[k:k + BLOCK] != b[k:k + BLOCK] for k in range(0, max(len(a), len(b)), BLOCK))


def describe(want, have):
    """The first and last difference, and how it looks."""
    diff = [k for k in range(0, max(len(want), len(have)), FINE) if want[k:k + FINE] != have[k:k + FINE]]
    if not diff:
        return "equal"
    a, z = diff[0], diff[-1] + FINE
    zeros = not any(have[a:z])
    return f"bytes {a} to {z} differ in {len(diff)} pieces of {FINE}, {'all zeros' if zeros else have[a:a + 8].hex()} instead of {want[a:a + 8].hex()}"
