#!/usr/bin/env python3
"""SIGKILL, EIO and ENOSPC at every failpoint of the source: see test_failpoints. SEED; FULL=1: each twice and every error; POINTS="name ...": those only."""
import contextlib, glob, os, random, re, shutil, subprocess, sys, tempfile, time

from crash_check import Journal, Mismatch, describe
from crash_fsck import unhealed
from crash_drive import BASE_OPTIONS, Drive, Failed, gone, wait_until
from crash_model import data

BULK = 80 << 20  # more than the smallest cache takes
MIB = 1 << 20
# Points that no scenario here reaches, and why that is right.
ELSEWHERE = {}


def points_of(source):
    found = set()
    for path in glob.glob(source + "/fs/data/*.c") + glob.glob(source + "/fs/meta/*.c") + glob.glob(source + "/backends/*.c"):
        with open(path) as f:
            found |= set(re.findall(r'failpoint\("([^"]+)"\)', f.read()))
    return sorted(found)


class Side:
    """Files beside the workload's, each changed in one big step: what they may look like after a crash."""

    def __init__(self, folder):
        self.folder, self.may, self.growing = folder, {}, {}  # growing: any beginning of it will do

    def path(self, name):
        return os.path.join(self.folder, name)

    def tried(self, name, content):
        self.may.setdefault(name, [None]).append(content)

    def acked(self, name):
        self.may[name] = self.may[name][-1:]
        self.growing.pop(name, None)

    def sync(self, name=None):
        fd = os.open(self.path(name) if name else self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def grows(self, name, content):
        self.tried(name, content)
        self.growing[name] = content

    def write(self, name, content):
        self.grows(name, content)
        with open(self.path(name), "wb", buffering=0) as f:
            for k in range(0, len(content), MIB):
                f.write(content[k:k + MIB])
            os.fsync(f.fileno())
        self.acked(name)

    def clone(self, source, name, content):
        self.grows(name, content)
        with open(source, "rb") as s, open(self.path(name), "wb") as d:
            while os.copy_file_range(s.fileno(), d.fileno(), len(content)):
                pass
            os.fsync(d.fileno())
        self.acked(name)

    def truncate(self, name):
        self.tried(name, b"")
        os.truncate(self.path(name), 0)
        self.sync(name)
        self.acked(name)

    def unlink(self, name):
        self.tried(name, None)
        os.unlink(self.path(name))
        self.sync()
        self.acked(name)

    def check(self):
        for name, may in self.may.items():
            try:
                with open(self.path(name), "rb") as f:
                    have = f.read()
            except FileNotFoundError:
                have = None
            if have not in may and not (have is not None and self.growing.get(name, b"").startswith(have)):
                raise Mismatch(f"{name} has {'no name' if have is None else f'{len(have)} bytes'}, but was made to have {[None if m is None else len(m) for m in may]}"
                               + (" step by step: " + describe(self.growing[name], have) if name in self.growing and have else ""))


class Trial:
    def __init__(self, run, number, point, action, at):
        self.run, self.d, self.number, self.point, self.action = run, run.d, number, point, action
        self.r = random.Random(f"{run.seed}/{number}/{point}")
        self.spec = f"{point}={action}@{at}"
        self.folder, self.journal = f"p{number:04}", f"{self.d.scratch}/journal.{number}"
        self.side = Side(f"{self.d.mnt}/side{number:04}")
        self.with_cache = self.r.random() < .3
        self.removed = []
        with open(self.d.scratch + "/fired", "w"):
            pass

    def options(self, more=""):
        return ",".join(o for o in (BASE_OPTIONS, "drain=2s", "" if self.with_cache else "no_writeback", more) if o)

    def fired(self):
        with open(self.d.scratch + "/fired") as f:
            return self.point in f.read().split()

    def dead(self):
        return self.d.pid is None or gone(self.d.pid)

    @contextlib.contextmanager
    def may_fail(self):
        """The daemon may be gone in the middle of it, or refuse."""
        try:
            yield
        except OSError:
            pass

    def command(self, *args, timeout=15):
        try:
            self.d.command(*args, timeout=timeout)
        except subprocess.TimeoutExpired:
            pass  # uploads that failed are tried again later, as they should

    def start(self, more="", before=""):
        return self.d.mount_failing(self.options(more), before + self.spec)

    def work(self, count=50, push=True):
        with self.may_fail():
            self.d.work([self.folder], [self.journal], self.run.seed, self.number, self.with_cache, .3, count, push=count // 3 if push else None)

    # --- scenarios ---

    def general(self, before=""):
        """Sealing, staging, committing, uploading; a segment that dies; removing and truncating in steps; unmounting."""
        if not self.start(before=before):
            return
        self.work()
        many, s = self.d.base["many.dat"], self.side
        with self.may_fail():
            os.mkdir(s.folder)
            s.write("dies", data(f"{self.spec}.dies", 100000))
            self.command("sync", self.d.mnt)
            for name in ("rows1", "rows2"):
                s.clone(self.d.mnt + "/base/many.dat", name, many)
            s.unlink("rows1")
            s.truncate("rows2")
            s.unlink("dies")
            for k in range(40 if self.point.startswith("drop.") else 2):  # a dead segment goes when nobody uses it, after one of the next commits
                if self.fired():
                    break
                os.mkdir(s.path(f"d{k}"))
                s.sync()
        self.command("sync", self.d.mnt)
        self.command("umount", self.d.mnt)
        if self.d.pid:
            wait_until(30, "the daemon ended after umount", self.dead)

    def after_failed_sync(self):
        self.general("stage.sync=EIO@2,")

    def idle(self):
        """A while after the last commit the database's log is applied."""
        if self.start():
            self.work()
            wait_until(30, f"{self.point} is reached", lambda: self.fired() or self.dead())

    def recover(self):
        """The mount after a crash with an open segment."""
        # A staging file that no row names yet; or one of a row that says open.
        if self.d.mount_failing(self.options(), "stage.dirsync=crash@1" if self.point == "recover.orphan" else "commit.wal=crash@4"):
            self.work()
        self.d.kill()
        if self.start():
            with self.may_fail():
                os.mkdir(self.side.folder)
                self.side.write("later", data(f"{self.spec}.later", 100000))
            self.command("sync", self.d.mnt)
            self.command("umount", self.d.mnt)

    def fetch(self):
        """Reading from the backends alone."""
        self.d.forget_cache()
        if self.start():
            self.work()
            with self.may_fail():
                for name in self.d.base:
                    with open(f"{self.d.mnt}/base/{name}", "rb") as f:
                        f.read()

    def evict(self):
        """A small cache, and more to be read than it takes."""
        self.run.make_bulk()
        if self.start("cache-size=64M"):
            self.work(30)
            with self.may_fail(), open(self.d.mnt + "/bulk/file", "rb", buffering=0) as f:
                while f.read(MIB):
                    pass

    def pressure(self):
        """A small cache, more to be written than it takes, and one backend that is away: what has a quorum goes from staging. Without the kernel's cache, which drops
        pages that were refused for want of space (fsync says so) and goes on with the next ones: holes that no daemon can prevent."""
        self.with_cache = False
        self.away()
        try:
            if self.start("cache-size=64M"):
                with self.may_fail():
                    os.mkdir(self.side.folder)
                    for k in range(2):
                        self.side.write(f"grows{k}", self.run.bulk[k * BULK // 2:(k + 1) * BULK // 2])
                        self.command("sync", self.d.mnt)
        finally:
            self.back()

    def away(self):
        os.rename(self.d.backends[-1], self.d.backends[-1] + ".away")

    def back(self):
        os.rename(self.d.backends[-1] + ".away", self.d.backends[-1])

    def returns(self):
        """A backend that is away while the others get their shards, and comes back."""
        self.away()
        try:
            if not self.start():
                return
            self.work(push=False)
            self.command("sync", self.d.mnt, timeout=3)  # longer than the others need; it waits for the one that is away
        finally:
            self.back()
        wait_until(60, f"{self.point} is reached after the backend came back", lambda: self.fired() or self.dead())

    def lost(self):
        """Shards that their backend has lost: a read finds out, and they are put again."""
        self.d.forget_cache()
        self.removed = glob.glob(self.d.backends[0] + "/s/*/*")
        for path in self.removed:
            os.unlink(path)
        if self.start():
            with self.may_fail(), open(self.d.mnt + "/base/large.dat", "rb") as f:
                f.read()
            self.work(20)
            wait_until(60, f"{self.point} is reached after shards were lost", lambda: self.fired() or self.dead())

    def other_disk(self):
        """The cache on another filesystem than staging: files are copied there."""
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="skyflok-test-") as d:
            if self.start("cache-dir=" + d):
                self.work()
                self.command("sync", self.d.mnt)
                with self.may_fail():
                    self.side.folder and os.listdir(self.d.mnt)
            self.d.kill()

    SCENARIOS = {
        "stage.rewrite": after_failed_sync, "stage.resync": after_failed_sync, "meta.checkpoint": idle, "meta.checkpointed": idle,
        "recover.index": recover, "recover.closed": recover, "recover.orphan": recover, "fetch.start": fetch, "fetch.done": fetch, "file.read": fetch,
        "cache.write": fetch, "cache.evict": evict, "cache.punched": evict, "cache.evicted": evict, "cache.evict.staged": pressure, "cache.copied": other_disk,
        "heal.begin": lost, "heal.doubt": lost, "heal.listed": returns, "heal.done": returns,
    }

    # Reached once or so in their scenario.
    ONCE = {"stage.rewrite", "stage.resync", "meta.checkpoint", "meta.checkpointed", "meta.truncate", "recover.index", "recover.closed", "recover.orphan",
            "cache.evict.staged", "heal.begin", "heal.doubt", "heal.listed", "heal.done"}

    # --- one trial ---

    def do(self):
        self.SCENARIOS.get(self.point, Trial.general)(self)
        fired = self.fired()
        if self.action == "crash" and fired and self.d.pid:
            wait_until(30, "the daemon ended at its failpoint", self.dead)
        self.d.kill()
        if not self.removed:
            self.d.fsck()
        self.d.mount()
        if self.removed:
            wait_until(90, "what a backend had lost was put again", lambda: time.sleep(.1) or not unhealed(self.d.state, self.d.backends))
        if os.path.exists(self.journal):
            self.d.check(self.folder, self.journal, self.with_cache)
            os.unlink(self.journal)
        self.side.check()
        shutil.rmtree(self.side.folder, ignore_errors=True)
        self.d.verify(self.r.choice(sorted(t for t in self.d.frozen if t != "bulk")))
        if len(self.d.frozen) > 8:
            self.d.remove(sorted(t for t in self.d.frozen if t not in ("base", "bulk"))[0])
        self.d.kill()
        return fired


class Run:
    def __init__(self, seed):
        self.d, self.seed, self.bulk, self.number = Drive(), seed, data(f"{seed}.bulk", BULK), 0

    def make_bulk(self):
        if "bulk" in self.d.frozen:
            return
        self.d.mount()
        os.mkdir(self.d.mnt + "/bulk")
        with open(self.d.mnt + "/bulk/file", "wb") as f:
            f.write(self.bulk)
            os.fsync(f.fileno())
        self.d.sync()
        from crash_check import scan
        self.d.freeze("bulk", *scan(self.d.mnt + "/bulk"))
        self.d.umount()

    def trial(self, point, action, at):
        self.number += 1
        t = Trial(self, self.number, point, action, at)
        begin = time.monotonic()
        try:
            fired = t.do()
        except (Failed, Mismatch, OSError, subprocess.TimeoutExpired) as e:
            print(f"FAILED at {t.spec}, seed {self.seed}: {e}", file=sys.stderr)
            if os.path.exists(t.journal):
                print("the last operations:\n  " + "\n  ".join(Journal(t.journal).tail()), file=sys.stderr)
            print(f"Once more: SEED={self.seed} SPEC={t.spec} NUMBER={self.number} REPEAT=20 tests/system/test_failpoints; KEEP=1 leaves everything for looking at", file=sys.stderr)
            sys.exit(1)
        if os.environ.get("VERBOSE"):
            print(f"{t.spec} {'fired' if fired else 'did not fire'} ({time.monotonic() - begin:.1f} s)", flush=True)
        return fired

    def replay(self, spec):
        point, action, at = re.fullmatch(r"(.*)=(.*)@(\d+)", spec).groups()
        for _ in range(int(os.environ.get("REPEAT") or 20)):
            self.number = int(os.environ.get("NUMBER") or 1) - 1
            self.trial(point, action, int(at))
            self.d.frozen = {"base": self.d.frozen["base"]}
            self.d.mount()
            for p in glob.glob(self.d.mnt + "/p*") + glob.glob(self.d.mnt + "/side*"):
                shutil.rmtree(p)
            self.d.umount()

    def all(self, points, full):
        r = random.Random(self.seed)
        crashed, erred, wanted = set(), set(), set()
        for k, p in enumerate(points):
            if p in ELSEWHERE:
                continue
            hits = (1, r.randrange(2, 6)) if full else (r.choice((1, 1, 2, 3)),)
            hits = (1,) if p in Trial.ONCE else hits
            for at in hits:
                if self.trial(p, "crash", at):
                    crashed.add(p)
            for _ in range(3):  # another workload may come there
                if p not in crashed and self.trial(p, "crash", 1):
                    crashed.add(p)
            for n, action in enumerate(("EIO", "ENOSPC")):
                if full or (k + n + self.seed) % 4 == 0:
                    wanted.add(p)
                    if self.trial(p, action, r.choice((1, 2)) if full and p not in Trial.ONCE else 1):
                        erred.add(p)
        return crashed, wanted, erred

    def finish(self):
        """Everything once more, out of the backends alone."""
        self.d.mount()
        self.d.sync()
        self.d.umount()
        self.d.fsck(settled=True)
        self.d.forget_cache()
        self.d.mount()
        for name in sorted(self.d.frozen):
            self.d.verify(name)
        used, seen = self.d.counted()
        if used != seen:
            raise Failed(f"statfs counts {used} inodes, and {seen} can be seen")
        self.d.umount()


def main():
    e = os.environ
    points = points_of(e["SOURCE"])
    if len(points) < 50:
        sys.exit(f"only {len(points)} failpoints found in the source")
    run = Run(int(e["SEED"]))
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(run.d.scratch).st_dev:
        ELSEWHERE["cache.copied"] = "needs a second filesystem, at /dev/shm"
    run.d.mount("no_writeback")
    run.d.make_base(run.seed)
    run.d.umount()
    if e.get("SPEC"):
        return run.replay(e["SPEC"])
    begin = time.monotonic()
    chosen = e.get("POINTS", "").split() or points
    crashed, wanted, erred = run.all(chosen, bool(e.get("FULL")))
    try:
        run.finish()
    except (Failed, Mismatch) as x:
        sys.exit(f"FAILED at the end, seed {run.seed}: {x}")
    print(f"{run.number} trials in {time.monotonic() - begin:.0f} s: crashes at {len(crashed)} of {len(chosen)} points, errors at {len(erred)} of {len(wanted)} that were to fail; "
          f"mounting took {max(run.d.mount_times):.2f} s at most")
    never = [p for p in chosen if p not in crashed and p not in ELSEWHERE]
    if ELSEWHERE:
        print("not tried here: " + "; ".join(f"{p} ({why})" for p, why in ELSEWHERE.items()))
    if wanted - erred:
        print("no error came at: " + ", ".join(sorted(wanted - erred)))
    if never:
        sys.exit("never reached: " + ", ".join(never))


main()
