#!/usr/bin/env python3
"""kill -9 at random points of a random workload, or a power cut there (CUT = a program that cuts the state's disk): see test_kill and test_powercut.
SEED, ROUNDS: what and how many. ROUND, REPEAT: only that round, so many times."""
import collections, errno, os, random, subprocess, sys, time

from crash_check import Checker, Journal, Mismatch
from crash_fsck import below, not_uploaded
from crash_drive import BASE_OPTIONS, Drive, Failed

KEEP_TREES = 8
# What another writer than the one that killed may see of it first.
DEAD = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.EROFS}


class Plan:
    """What a round does; by seed and number alone."""

    def __init__(self, seed, round):
        r = random.Random(f"{seed}/{round}")
        self.with_cache = r.random() < .4
        self.writers = r.choice((1, 1, 2, 3))
        self.durable = r.choice((.03, .15, .4))
        self.count = r.randrange(30, 220)
        self.kill_op = r.randrange(1, self.count + 1)
        self.kill_after = r.choice((0, r.uniform(0, .004), r.uniform(0, .03), r.uniform(0, .4)))
        self.options = f"commit={r.choice(('100ms', '200ms', '1s'))}" + ("" if self.with_cache else ",no_writeback")
        self.options += r.choice(("", "", ",quorum=4", ",cache-size=64M"))
        # fsync waits for a quorum: few of them, for each is a segment.
        self.cloud = r.random() < .12
        if self.cloud:
            self.options, self.durable, self.count = self.options + ",fsync=cloud", .06, min(self.count, 60)
            self.kill_op = min(self.kill_op, self.count)
        # Soon after everything was told to go to the backends: the segments are being coded, put, marked and moved.
        self.push = self.put = None
        kind = r.random()
        if kind < .3:  # in the middle of a put to that backend
            self.put, self.push, self.kill_after = r.randrange(6), self.kill_op, 0
        elif kind < .6:
            self.push, self.kill_after = max(1, self.kill_op - r.choice((0, r.randrange(70)))), r.choice((0, r.uniform(.01, .3)))
        self.wipe = r.random() < .25
        self.again = r.uniform(0, .12) if r.random() < .12 else None


class Run:
    def __init__(self, drive, seed):
        self.d, self.seed, self.stats, self.cut = drive, seed, collections.Counter(), os.environ.get("CUT")
        self.judging = None

    def crash(self, plan):
        """The workload has killed the daemon, or cut its disk. A look at what it left, before anything recovers."""
        self.d.kill()
        if self.cut:
            subprocess.run([self.cut, "back"], check=True)
        pending, begun = not_uploaded(self.d.state, self.d.backends)
        self.stats["kills"] += 1
        self.stats["segments not on a quorum"] += pending > 0
        self.stats["in the middle of uploading"] += begun > 0
        self.d.fsck()
        if plan.cloud:
            self.cloud(plan)
        if plan.wipe:
            self.d.forget_cache()
            self.stats["cache wiped"] += 1
        if plan.again is not None and not self.cut:
            self.d.mount_and_kill(BASE_OPTIONS, plan.again)
            self.stats["killed again while recovering"] += 1
            self.d.fsck()

    def cloud(self, plan):
        """What fsync=cloud acknowledged is on k backends at least, whatever the machine knows of it."""
        for name in plan.names:
            inos = Checker(Journal(self.journal(name)), self.d.base, plan.with_cache).synced()
            self.stats["files acknowledged as stored"] += len(inos)
            bad = below(self.d.state, self.d.backends, inos, 4)
            if bad:
                raise Failed(f"{name}: fsync=cloud acknowledged what is not on 4 backends: (inode, segment, backends) {bad[:5]}")

    def round(self, n, name):
        """Expects the drive to be mounted with the plan's options, leaves it killed."""
        plan = Plan(self.seed, n)
        plan.names = [name] + [f"{name}.{w}" for w in range(1, plan.writers)]
        while len(self.d.frozen) > KEEP_TREES:
            self.d.remove(sorted(t for t in self.d.frozen if t != "base")[0])
        kill = (plan.kill_op, plan.kill_after, [self.cut, "cut"] if self.cut else self.d.pid,
                None if plan.put is None else self.d.backends[plan.put] + "/.skyflok/tmp")
        self.d.work(plan.names, [self.journal(w) for w in plan.names], self.seed, n, plan.with_cache, plan.durable, plan.count, kill, plan.push)
        self.crash(plan)
        return plan

    def journal(self, name):
        return f"{self.d.scratch}/journal.{name}"

    def judge(self, plan):
        """Each writer's folder for itself: what it did in it was one after the other."""
        lost = middle = 0
        for name in plan.names:
            self.judging = name
            c = self.d.check(name, self.journal(name), plan.with_cache)
            for i, (code, killed) in c.j.errors.items():
                if not killed and not (name != plan.names[0] and code in DEAD):
                    raise Failed(f"operation {i} {c.j.ops[i - 1]} failed with error {code} before anything was killed")
            self.stats["operations"] += c.n
            self.stats["bytes behind the kernel's order"] += c.holes
            middle |= bool(c.n and not c.j.acked(c.n))
            lost |= c.upto < c.n or c.lost > 0
        self.stats["in the middle of an operation"] += middle
        self.stats["uncommitted work lost"] += lost
        self.stats["with the kernel's cache"] += plan.with_cache
        self.stats["several writers"] += plan.writers > 1
        for name in plan.names:
            os.unlink(self.journal(name))
        self.d.verify(random.Random(f"{self.seed}:{plan.names[0]}").choice(sorted(self.d.frozen)))

    def all(self, numbers):
        """Each mount serves the check of one round and the work of the next."""
        plan = None
        self.at = 0
        try:
            for k, n in enumerate(numbers):
                self.d.mount(Plan(self.seed, n).options)
                if plan:
                    self.judge(plan)
                self.at = n
                plan = self.round(n, f"r{k:05}")
            self.d.mount()
            self.judge(plan)
            self.finish()
        except (Failed, Mismatch, OSError) as e:
            self.failed(e)

    def finish(self):
        """Everything once more, out of the backends alone."""
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

    def failed(self, e):
        print(f"FAILED in round {self.at} of seed {self.seed}: {e}", file=sys.stderr)
        journal = self.journal(self.judging) if self.judging else None
        if journal and os.path.exists(journal):
            print(f"the last operations in {self.judging}:\n  " + "\n  ".join(Journal(journal).tail()), file=sys.stderr)
        print(f"Once more: SEED={self.seed} ROUND={self.at} REPEAT=20 tests/system/{os.path.basename(os.environ['TEST'])}; KEEP=1 leaves everything for looking at", file=sys.stderr)
        sys.exit(1)


def main():
    e = os.environ
    seed, rounds = int(e["SEED"]), int(e["ROUNDS"])
    run = Run(Drive(), seed)
    run.d.mount("no_writeback")
    run.d.make_base(seed)
    run.d.umount()
    begin = time.monotonic()
    run.all([int(e["ROUND"])] * int(e.get("REPEAT") or 20) if e.get("ROUND") else range(1, rounds + 1))
    s, times = run.stats, sorted(run.d.mount_times)
    print(f"{s['kills']} kills in {time.monotonic() - begin:.0f} s, {s['operations']} operations: " + ", ".join(f"{k} {s[k]}" for k in s if k not in ("kills", "operations")))
    print(f"mounting took {times[len(times) // 2]:.2f} s in the middle and {times[-1]:.2f} s at most")
    for what, share in (("uncommitted work lost", 4), ("segments not on a quorum", 4), ("in the middle of uploading", 40)):
        if s[what] * share < s["kills"] and s["kills"] >= 100:
            sys.exit(f"only {s[what]} of {s['kills']} kills met this: {what}. The test proves little")


main()
