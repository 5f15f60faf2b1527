"""A drive under test, as lib.sh made it: mounted, killed, looked at from outside. Needs lib.sh's SKYFLOK, SKYFLOK_HOME, SCRATCH, MNT and PASS in the environment."""
import glob, json, os, shutil, signal, subprocess, sys, time, traceback

import crash_check, crash_fsck, crash_work
from crash_check import Mismatch
from crash_model import data

# A mount after a crash takes well under a second; this is what a loaded machine may make of "seconds, by itself".
MOUNT_MAX = 20
BASE_OPTIONS = "commit=100ms"


class Failed(Exception):
    pass


def wait_until(seconds, what, ready):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(.003)


def gone(pid):
    """Also a zombie, but only when its last thread is gone: one may still sit in fdatasync with every file open."""
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        try:
            with open(path) as f:
                if next(line for line in f if line.startswith("State:")).split()[1] not in "XZ":
                    return False
        except (OSError, StopIteration):
            pass
    return True


class Drive:
    def __init__(self):
        e = os.environ
        self.program, self.scratch, self.mnt, self.passfile = e["SKYFLOK"], e["SCRATCH"], e["MNT"], e["PASS"]
        self.state, self.cache = e["SKYFLOK_HOME"] + "/state/t", e["SKYFLOK_HOME"] + "/cache/t"
        self.backends = sorted(glob.glob(self.scratch + "/b[0-9]"))
        self.log = self.scratch + "/log"
        self.base, self.frozen, self.mount_times = {}, {}, []
        self.pid = None

    def command(self, *args, env=None, timeout=120):
        return subprocess.run([self.program, *args], env={**os.environ, **(env or {})}, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def mount_args(self, options):
        return ["mount", "t", self.mnt, "-o", ",".join(o for o in ("passfile=" + self.passfile, options) if o), "--log-file", self.log]

    def lock_pid(self):
        try:
            with open(self.state + "/lock") as f:
                return json.load(f)["pid"]
        except (OSError, ValueError, KeyError):
            return None

    def set_pid(self, pid):
        self.pid = pid
        with open(self.scratch + "/dpid", "w") as f:  # for lib.sh's cleanup
            f.write(str(pid or ""))

    def mount(self, options=BASE_OPTIONS):
        begin = time.monotonic()
        try:
            r = self.command(*self.mount_args(options), timeout=MOUNT_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"mounting takes more than {MOUNT_MAX} s")
        if r.returncode:
            raise Failed(f"mounting failed: {r.stdout}")
        self.mount_times.append(time.monotonic() - begin)
        self.set_pid(self.lock_pid())

    def mount_failing(self, options, fail):
        """With SKYFLOK_FAIL set: the point may lie on the way to the mount. False: it is not mounted now."""
        r = self.command(*self.mount_args(options), env={"SKYFLOK_FAIL": fail, "SKYFLOK_FAIL_LOG": self.scratch + "/fired"}, timeout=60)
        pid = self.lock_pid()
        up = r.returncode == 0 and pid and not gone(pid)
        self.set_pid(pid if up else None)
        return up

    def mount_and_kill(self, options, delay):
        """Kills the daemon in the middle of recovering, or shortly after."""
        old = self.lock_pid()
        p = subprocess.Popen([self.program, *self.mount_args(options)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while p.poll() is None and self.lock_pid() in (old, None):
                pass
            pid = self.lock_pid()
            if pid not in (old, None):
                time.sleep(delay)
                os.kill(pid, signal.SIGKILL)
                wait_until(20, "the daemon is gone", lambda: gone(pid))
            p.wait(30)
        except ProcessLookupError:
            pass
        finally:
            p.kill()

    def kill(self):
        if self.pid is None:
            return
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        wait_until(30, f"daemon {self.pid} is gone", lambda: gone(self.pid))
        self.set_pid(None)

    def sync(self):
        r = self.command("sync", self.mnt)
        if r.returncode:
            raise Failed("sync: " + r.stdout)

    def umount(self):
        r = self.command("umount", self.mnt)
        if r.returncode:
            raise Failed("umount: " + r.stdout)
        wait_until(60, "the daemon ended after umount", lambda: gone(self.pid))
        self.set_pid(None)

    def forget_cache(self):
        """With the drive unmounted: what can be fetched again is gone."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def fsck(self, settled=False):
        problems = crash_fsck.check(self.state, self.cache, self.backends, settled)
        if problems:
            raise Failed("database, staging and backends do not agree: " + "; ".join(problems[:5]))

    # --- what rounds find beside them ---

    def make_base(self, seed):
        """Files whose content lies in segments on the backends; many.dat has more rows than one step removes (without
        the kernel's cache, which would write whole pages)."""
        many = bytearray(2500 * 64)
        for k in range(2500):
            many[k * 64:k * 64 + 32] = data(f"{seed}.many.{k}", 32)
        self.base = {"large.dat": data(f"{seed}.large", 3 << 20), "small.dat": data(f"{seed}.small", 5000), "many.dat": bytes(many)}
        os.mkdir(self.mnt + "/base")
        for name, content in self.base.items():
            with open(f"{self.mnt}/base/{name}", "wb", buffering=0) as f:
                if name == "many.dat":
                    for k in range(2500):
                        os.pwrite(f.fileno(), content[k * 64:k * 64 + 32], k * 64)
                    f.truncate(len(content))
                else:
                    f.write(content)
                os.fsync(f.fileno())
        self.sync()
        self.freeze("base", *crash_check.scan(self.mnt + "/base"))

    # --- trees that do not change any more ---

    def freeze(self, name, shape, content):
        self.frozen[name] = (shape, {p: hash(c) for p, c in content.items()})

    def verify(self, name):
        shape, content = crash_check.scan(f"{self.mnt}/{name}")
        old_shape, old_content = self.frozen[name]
        for p in old_shape.keys() | shape.keys():
            if old_shape.get(p) != shape.get(p):
                raise Mismatch(f"{name}/{p} was recovered as {old_shape.get(p)} and is now {shape.get(p)}")
        for p, h in old_content.items():
            if hash(content[p]) != h:
                raise Mismatch(f"the content of {name}/{p} was recovered and is now another")

    def remove(self, name):
        del self.frozen[name]
        shutil.rmtree(f"{self.mnt}/{name}", ignore_errors=True)

    def counted(self):
        """Inodes that statfs says are in use, and those that can be seen."""
        st = os.statvfs(self.mnt)
        seen = set()
        for d, dirs, names in os.walk(self.mnt):
            seen |= {os.lstat(os.path.join(d, n)).st_ino for n in dirs + names}
        return st.f_files - st.f_ffree, len(seen) + 1

    # --- work ---

    def work(self, folders, journals, seed, round, with_cache, durable, count, kill=None, push=None):
        """The workloads, each in a process and a folder of its own; the first one kills. push: from that operation on everything is being uploaded."""
        for folder in folders:
            os.mkdir(f"{self.mnt}/{folder}")
            os.chmod(f"{self.mnt}/{folder}", 0o755)
        fd = os.open(f"{self.mnt}/{folders[0]}", os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        sys.stdout.flush()
        children = {}
        for k, (folder, journal) in enumerate(zip(folders, journals)):
            child = os.fork()
            if not child:
                try:
                    crash_work.run(f"{self.mnt}/{folder}", self.mnt + "/base", self.base, journal, seed, f"{round}.{k}" if k else round, with_cache, durable, count,
                                   None if k else kill, push and (push, [self.program, "sync", self.mnt]) if not k else None)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            children[child] = journal
        failed = []

        def ended():
            for child in list(children):
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    journal = children.pop(pid)
                    # A store through a map ends in SIGBUS when there is no daemon any more.
                    bus = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS
                    if status and not (bus and crash_check.Journal(journal).ops[-1][0] == "mstore"):
                        failed.append(status)
            return not children

        try:
            wait_until(90, "the workload ended", ended)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
        if failed:
            raise Failed(f"the workload itself failed (status {failed[0]})")

    def check(self, folder, journal, with_cache):
        """Compares, and freezes what is there. Returns the checker, whose j is the operation up to which it came."""
        j = crash_check.Journal(journal)
        if j.bad:
            raise Mismatch(f"while it ran, operation {j.bad[0]} read something else than was written from {j.bad[1]}")
        shape, content = crash_check.scan(f"{self.mnt}/{folder}")
        c = crash_check.Checker(j, self.base, with_cache)
        c.upto = c.content(c.names(shape), content)
        self.freeze(folder, shape, content)
        return c
