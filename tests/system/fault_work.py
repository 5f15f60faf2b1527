#!/usr/bin/env python3
"""What is done on a mount while something underneath fails, and what must hold afterwards (test_nth_fault, test_disk_trouble).

  fault_work.py old MNT            makes the files that are there before
  fault_work.py work MNT MODEL     does a bit of everything; writes down what was acknowledged. Exit 3: a wrong byte was read
  fault_work.py sure MODEL         all that was done counts as acknowledged (sync or umount said so)
  fault_work.py look MNT MODEL     like check, but a file may also be unreadable
  fault_work.py check MNT MODEL    exit 0: everything acknowledged is there, byte for byte, and nothing else is in any file

The model: per name the list of contents that it had, in order (null: no such file), how many were there at the last acknowledgement, and whether a prefix of the
newest will do (a large write may be cut between its pieces)."""
import base64, json, os, random, sys


def body(tag, n):
    return random.Random(tag).randbytes(n)


OLD = {"cold": body("cold", 400000), "patched": body("patched", 200000), "doc": body("doc 0", 30000), "doomed": body("doomed", 5000), "shrunk": body("shrunk", 90000)}


class Model:
    def __init__(self):
        self.files = {n: {"versions": [b], "acked": 0, "prefix": False} for n, b in OLD.items()}
        self.errors, self.wrong = [], []

    def tried(self, name, content, prefix=False):
        f = self.files.setdefault(name, {"versions": [None], "acked": 0, "prefix": False})
        f["versions"].append(content)
        f["prefix"] = prefix

    def acked(self, name):
        self.files[name].update(acked=len(self.files[name]["versions"]) - 1, doubt=False)

    def doubt(self, before):
        """A call of this step failed: what it tried since may have happened or not, and no later sync says more."""
        for n, f in self.files.items():
            if len(f["versions"]) != before.get(n, 0):
                f["doubt"] = True

    def sure(self):
        for n, f in self.files.items():
            if not f.get("doubt"):
                self.acked(n)

    def save(self, path):
        pack = lambda b: None if b is None else base64.b64encode(b).decode()
        json.dump({"files": {n: dict(f, versions=[pack(v) for v in f["versions"]]) for n, f in self.files.items()}, "errors": self.errors, "wrong": self.wrong},
                  open(path, "w"))

    @classmethod
    def load(cls, path):
        m, d = cls(), json.load(open(path))
        m.files = {n: dict(f, versions=[None if v is None else base64.b64decode(v) for v in f["versions"]]) for n, f in d["files"].items()}
        m.errors, m.wrong = d["errors"], d["wrong"]
        return m

    def bad(self, name, have):
        """None, or what is wrong with this content (None: no such file)."""
        f = self.files[name]
        allowed = f["versions"][f["acked"]:]
        if have in allowed or (f["prefix"] and len(allowed) > 1 and have is not None and allowed[-1][:len(have)] == have):
            return None
        old = [i for i, v in enumerate(f["versions"]) if v == have]
        what = "gone" if have is None else f"version {old[0]}, older than what was acknowledged" if old else f"{len(have)} bytes that were never written so"
        return f"{name}: {what} (acknowledged {f['acked']} of {len(f['versions']) - 1})"


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def old(mnt):
    for n, b in OLD.items():
        with open(os.path.join(mnt, n), "wb") as f:
            f.write(b)
    os.mkdir(os.path.join(mnt, "dir"))


def work(mnt, model_path):
    m = Model()
    at = lambda n: os.path.join(mnt, n)

    def step(what, fn):
        before = {n: len(f["versions"]) for n, f in m.files.items()}
        try:
            fn()
        except OSError as e:
            m.errors.append(f"{what}: {e.strerror}")
            m.doubt(before)
        except MemoryError:
            pass

    def fsync(fd_or_path):
        fd = os.open(fd_or_path, os.O_RDONLY) if isinstance(fd_or_path, str) else fd_or_path
        try:
            os.fsync(fd)
        finally:
            if isinstance(fd_or_path, str):
                os.close(fd)

    def fresh(name, content):
        m.tried(name, b"")
        fd = os.open(at(name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            m.tried(name, content, True)
            done = 0
            while done < len(content):
                done += os.write(fd, content[done:])
            os.fsync(fd)
            folder = os.path.dirname(at(name))
            fsync(folder)
            m.acked(name)
        finally:
            os.close(fd)

    def patch():
        new = bytearray(OLD["patched"])
        new[8192:12288] = body("patch", 4096)
        fd = os.open(at("patched"), os.O_RDWR)
        try:
            m.tried("patched", bytes(new))
            os.pwrite(fd, new[8192:12288], 8192)
            os.fsync(fd)
            m.acked("patched")
        finally:
            os.close(fd)

    def save(i, sync):
        new = body(f"doc {i}", 30000 + i)
        with open(at("doc.tmp"), "wb", buffering=0) as f:
            f.write(new)
            if sync:
                os.fsync(f)
        m.tried("doc", new)
        os.rename(at("doc.tmp"), at("doc"))
        if sync:
            fsync(mnt)
            m.acked("doc")

    def doomed():
        m.tried("doomed", None)
        os.unlink(at("doomed"))
        fsync(mnt)
        m.acked("doomed")

    def shrink():
        m.tried("shrunk", OLD["shrunk"][:12345])
        os.truncate(at("shrunk"), 12345)
        fsync(at("shrunk"))
        m.acked("shrunk")

    def see(name):
        have = read(at(name))
        f = m.files[name]
        # While mounted the newest is seen, or what an operation that failed left: any version, a prefix of a large one.
        if have not in f["versions"] and not (f["prefix"] and have is not None and f["versions"][-1][:len(have)] == have):
            m.wrong.append(f"{name}: read back {len(have or b'')} other bytes")

    step("list", lambda: os.listdir(mnt))
    step("new", lambda: fresh("small", body("small", 5000)))
    step("save", lambda: save(1, True))
    step("large", lambda: fresh("large", body("large", 700000)))
    step("patch", patch)
    step("cold", lambda: see("cold"))
    step("many", lambda: [fresh(f"dir/{i}", body(f"many {i}", 100 * i)) for i in range(8)])
    step("remove", doomed)
    step("shrink", shrink)
    step("save", lambda: save(2, True))
    step("save", lambda: save(3, False))
    step("statfs", lambda: os.statvfs(mnt))
    for n in list(m.files):
        step("read " + n, lambda: see(n))
    m.save(model_path)
    print(len(m.errors), "errors", "; ".join(m.errors[:3]))
    for w in m.wrong:
        print("WRONG", w)
    return 3 if m.wrong else 0


def check(mnt, model_path, errors=False):
    m, bad = Model.load(model_path), []
    for n in m.files:
        try:
            why = m.bad(n, read(os.path.join(mnt, n)))
        except OSError as e:
            why = None if errors else f"{n}: {e.strerror}"
        if why:
            bad.append(why)
    for b in bad:
        print(b)
    return 1 if bad else 0


def look(mnt, model_path):
    return check(mnt, model_path, True)


def sure(model_path):
    m = Model.load(model_path)
    m.sure()
    m.save(model_path)


if __name__ == "__main__":
    sys.exit({"old": old, "work": work, "check": check, "look": look, "sure": sure}[sys.argv[1]](*sys.argv[2:]))
