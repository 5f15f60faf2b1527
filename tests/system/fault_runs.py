#!/usr/bin/env python3
"""Fails the n-th call underneath a whole run of the program: mount, work, sync, umount; then a mount without faults must hold all that was acknowledged.

  fault_runs.py KIND ERROR once|ever N [KIND ERROR MODE N]...   these
  fault_runs.py seeded SEED RUNS                               a stratified choice
  fault_runs.py all SEED                                       every n of the calls on files, until the run ends without the fault, and every STRIDE-th
                                                               allocation (default 17, from a random one on; an hour or two. STRIDE=1: half a day)

KIND: file (write, sync, size, open, names), read, alloc; crashed-KIND: the mount is one after a kill -9, so that recovery meets the fault.
Environment (test_nth_fault sets it): SKYFLOK, SHIM, SCRATCH with home, b0.., pass; pristine/ has copies of home, b..; crashed/ too, and their model."""
import ctypes, errno, glob, os, random, shutil, signal, struct, subprocess, sys, time

S, SKYFLOK, SHIM = os.environ["SCRATCH"], os.environ["SKYFLOK"], os.environ["SHIM"]
HERE = os.path.dirname(os.path.abspath(__file__))
MNT, HOME, CONTROL, MODEL, LOG = (os.path.join(S, x) for x in ("mnt", "home", "control", "model", "log"))
CLASSES = {"file": 1 | 2 | 4 | 8 | 16, "sync": 2, "read": 32, "alloc": 64}
FORMAT = struct.Struct("=7Q")  # struct shim_control
HANG = 60
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the daemon becomes our child, and its end tells


def control(n=0, classes=0, error=0, ever=0):
    with open(CONTROL, "wb") as f:
        f.write(FORMAT.pack(n, classes, error, ever, 0, 0, 0))


def disarm():
    fd = os.open(CONTROL, os.O_RDWR)
    os.pwrite(fd, bytes(8), 0)
    os.close(fd)


def counted():
    return FORMAT.unpack(open(CONTROL, "rb").read())[4:6]


def run(*cmd, limit=HANG, shim=False):
    env = dict(os.environ, SKYFLOK_HOME=HOME)
    if shim:
        env.update(SKYFLOK_SHIM_ROOTS=HOME, SKYFLOK_SHIM_CONTROL=CONTROL, LD_PRELOAD=SHIM)
    out = open(os.path.join(S, "out"), "w+")
    p = subprocess.Popen(cmd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    end = time.monotonic() + limit
    while p.poll() is None and time.monotonic() < end:
        try:
            p.wait(.2)
        except subprocess.TimeoutExpired:
            pass
    rc = p.poll()
    if rc is None:
        p.kill()
        p.wait()
    out.seek(0)
    return rc, out.read()


def children():
    return [int(p) for t in glob.glob("/proc/self/task/*/children") for p in open(t).read().split()]


def reap(limit):
    """Waits for the daemon's end: its wait statuses, or None."""
    got, end = [], time.monotonic() + limit
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return got
        if pid:
            got.append(status)
        elif time.monotonic() > end:
            return None
        else:
            time.sleep(.02)


def mounted():
    return any(line.split()[1] == MNT for line in open("/proc/mounts"))


def dead():
    try:
        os.statvfs(MNT)
    except OSError as e:
        return e.errno == errno.ENOTCONN
    return False


def restore(base):
    for d in [HOME] + glob.glob(S + "/b[0-9]*"):
        shutil.rmtree(d, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", os.path.join(base, os.path.basename(d)), d], check=True)
    for f in (MODEL, LOG, CONTROL + ".crash"):
        if os.path.exists(f):
            os.unlink(f)
    if os.path.exists(base + "/model"):
        shutil.copy(base + "/model", MODEL)


def descriptors(most=(0, 0)):
    """Those of the daemon; with `most`, uploads that a failed sync left under way may end first."""
    end = time.monotonic() + 15
    while True:
        have = descriptors_now()
        if not any(most) or time.monotonic() > end or (have[0] <= most[0] and have[1] <= most[1]):
            return have
        time.sleep(.1)


def descriptors_now():
    pids = children()
    return (len(os.listdir(f"/proc/{pids[0]}/fd")), len(os.listdir(f"/proc/{pids[0]}/task"))) if len(pids) == 1 else (0, 0)


class Bad(Exception):
    pass


# Libraries that do not survive a failing allocation of their own, before anything is mounted. libcrypto 3.0: its first fetch with a half-made context.
LIBRARIES = ("libcrypto.so",)
by_library = {}


def crash():
    """Innermost first: the function and library in which the program died; None when it is our own."""
    try:
        lines = [x.split() for x in open(CONTROL + ".crash")]
    except FileNotFoundError:
        return None
    lines = [x for x in lines if not any(s in x[0] for s in ("skyflok_shim", "libc.so", "linux-vdso"))]
    if lines and any(s in lines[0][0] for s in LIBRARIES):
        named = [x[1] for x in lines if len(x) > 1 and any(s in x[0] for s in LIBRARIES)]
        return f"{os.path.basename(lines[0][0])}: {named[-1] if named else '?'}"
    return None


def work_phase(notes):
    """Mounted: work and sync. What `sync` acknowledged is noted in the model."""
    rc, out = run(sys.executable, HERE + "/fault_work.py", "work", MNT, MODEL)
    notes.append("work: " + out.strip())
    if rc == 3:
        raise Bad("a wrong byte was read: " + out)
    if rc is None:
        raise Bad("the work hangs")
    if rc:
        raise Bad("the work did not end: " + out)
    rc, out = run(SKYFLOK, "sync", MNT)
    notes.append(f"sync {rc} {out.strip()}")
    if rc is None:
        raise Bad("sync hangs")
    if rc == 0:
        run(sys.executable, HERE + "/fault_work.py", "sure", MODEL)


def look_phase(notes):
    """Mounted after a crash: what was acknowledged then is there, or an error."""
    rc, out = run(sys.executable, HERE + "/fault_work.py", "look", MNT, MODEL)
    notes.append(f"look {rc} " + out.strip())
    if rc is None:
        raise Bad("reading hangs")
    if rc:
        raise Bad("reading: " + out)
    try:
        with open(MNT + "/after", "w") as f:
            f.write("after")
            f.flush()
            os.fsync(f.fileno())
    except OSError as e:
        notes.append(str(e))
    rc, out = run(SKYFLOK, "sync", MNT)
    notes.append(f"sync {rc} {out.strip()}")
    if rc is None:
        raise Bad("sync hangs")


def end_phase(notes, alive):
    rc, out = run(SKYFLOK, "umount", MNT)
    notes.append(f"umount {rc} {out.strip()}")
    disarm()  # now there is memory and a disk again: whatever went on, it ends
    if rc is None:
        raise Bad("umount hangs")
    if rc == 0 and alive:
        run(sys.executable, HERE + "/fault_work.py", "sure", MODEL)
    if mounted() and children():
        rc, out = run(SKYFLOK, "umount", MNT)
        notes.append(f"umount again {rc} {out.strip()}")
    ended = reap(HANG)
    if ended is None:
        raise Bad("the daemon does not end")
    for status in ended:
        if os.WIFSIGNALED(status):
            raise Bad(f"the daemon died by {signal.Signals(os.WTERMSIG(status)).name}")
        notes.append(f"daemon {os.WEXITSTATUS(status)}")


def verify(notes):
    rc, out = run(SKYFLOK, "mount", "t", MNT, "-o", f"passfile={S}/pass", "--log-file", LOG)
    if rc:
        raise Bad(f"the next mount: {rc} {out}")
    if os.path.exists(MODEL):
        rc, out = run(sys.executable, HERE + "/fault_work.py", "check", MNT, MODEL)
        if rc:
            raise Bad("after the next mount: " + out)
    try:
        with open(MNT + "/again", "w") as f:
            f.write("again")
            f.flush()
            os.fsync(f.fileno())
    except OSError as e:
        raise Bad(f"after the next mount: {e}")
    rc, out = run(SKYFLOK, "umount", MNT)
    if rc or "all backends" not in out:
        raise Bad(f"umount after the next mount: {rc} {out}")
    if reap(HANG) is None:
        raise Bad("the next daemon does not end")
    left = [f for f in glob.glob(HOME + "/**/*", recursive=True) if f.endswith(".tmp") or "/.skyflok-" in f]
    if left:
        raise Bad(f"left behind: {left}")


def clear():
    for p in children():
        os.kill(p, signal.SIGKILL)
    reap(10)
    if mounted():
        subprocess.run(["umount", "-l", MNT])


usual = (0, 0)


def one(kind, error, ever, n):
    """True when the fault fired."""
    global usual
    notes, crashed = [], kind.startswith("crashed-")
    restore(S + ("/crashed" if crashed else "/pristine"))
    control(n, CLASSES[kind.removeprefix("crashed-")], error, ever)
    try:
        rc, out = run(SKYFLOK, "mount", "t", MNT, "-o", f"passfile={S}/pass,commit=200ms,drain=20s", "--log-file", LOG, shim=True)
        notes.append(f"mount {rc} {out.strip()} (calls: {counted()[0]})")
        if rc is None:
            raise Bad("mount hangs")
        if "by signal" in out or rc < 0:
            where = crash()
            if not where:
                raise Bad("the daemon died")
            by_library[where] = by_library.get(where, 0) + 1
        if rc == 0:
            (look_phase if crashed else work_phase)(notes)
            most = (usual[0] + 6, usual[1] + 16)
            have = descriptors(most if n else (0, 0))
            if n == 0:
                usual = max(usual, have)
            elif have[0] > most[0] or have[1] > most[1]:
                raise Bad(f"{have} descriptors and threads instead of {usual}")
            end_phase(notes, not crashed)
        elif reap(10) is None:
            raise Bad("mount said no and left a process")
        disarm()
        if mounted():
            if rc == 0:
                raise Bad("a mount is left")
            # A daemon that gets no byte of memory any more cannot find out whether the mount is still its own, and must not unmount another's:
            # then it leaves a dead one, which the next mount (in verify) clears.
            if not (kind.endswith("alloc") and ever and dead()):
                raise Bad("mount said no and is mounted")
        count, fired = counted()
        verify(notes)
        return fired, count, notes
    except Bad as e:
        print(f"FAILED: {kind} {errno.errorcode.get(error, error)} {'ever' if ever else 'once'} {n}: {e}")
        for x in notes:
            print("   ", x)
        if os.path.exists(LOG):
            print("    log:", open(LOG, errors="replace").read()[-1500:].replace("\n", "\n    "))
        sys.stdout.flush()
        clear()
        return None
    finally:
        clear()


def total(kind):
    """Calls of a run, and of its mount alone."""
    got = one(kind, 0, 0, 0)
    return (got[1], int(got[2][0].split("calls: ")[1][:-1])) if got else (0, 0)


def seeded(seed, runs):
    """n spread evenly over what a run makes; every fourth one small, and after a crash half of them where recovery is: late in the mount."""
    rnd, plan = random.Random(int(seed)), []
    runs = int(runs)
    for kind, share in (("file", .35), ("alloc", .25), ("read", .1), ("crashed-file", .1), ("crashed-alloc", .15), ("crashed-read", .05)):
        n, mounting = total(kind)
        if not n:
            return [None]
        k = max(2, round(runs * share))
        print(f"{kind}: {n} calls in a run, {k} of them fail", flush=True)
        for i in range(k):
            at = 1 + int((i + rnd.random()) / k * n)
            if kind.startswith("crashed-") and i % 2:
                at = rnd.randrange(mounting * 19 // 20, mounting + 1)
            elif i % 4 == 3:
                at = max(1, int(n ** rnd.random()))
            error = errno.ENOMEM if "alloc" in kind else errno.EIO if "read" in kind else rnd.choice((errno.EIO, errno.ENOSPC))
            plan.append((kind, error, rnd.random() < .5, at))
    return plan


def main(args):
    if args[0] == "seeded":
        plan = seeded(*args[1:])
    elif args[0] == "all":
        one("file", 0, 0, 0)
        stride = {"alloc": int(os.environ.get("STRIDE", 17))}
        first = random.Random(int(args[1])).randrange(stride["alloc"])
        plan = ((c + k, e, ever, n) for c in ("", "crashed-") for k, es in (("file", (errno.EIO, errno.ENOSPC)), ("read", (errno.EIO,)), ("alloc", (errno.ENOMEM,)))
                for e in es for ever in (0, 1) for n in range(1 + (first if k in stride else 0), 1000000, stride.get(k, 1)))
    else:
        one("file", 0, 0, 0)
        plan = [(args[i], getattr(errno, args[i + 1]), args[i + 2] == "ever", int(args[i + 3])) for i in range(0, len(args), 4)]
    done, fired, failed, over = 0, 0, 0, set()
    for p in plan:
        if p is None or p[:3] in over:
            failed += p is None
            continue
        got = one(*p)
        done += 1
        if got is None:
            failed += 1
        elif got[0]:
            fired += 1
        elif args[0] == "all":
            over.add(p[:3])
        if os.environ.get("VERBOSE") and got:
            print(*p, got, flush=True)
    for where, count in by_library.items():
        print(f"{count} mounts died inside of a library, before anything was mounted: {where}")
    print(f"{done} runs, the fault fired in {fired}, {failed} failed")
    return 1 if failed or fired * 2 < done else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
