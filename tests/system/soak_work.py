"""What works on the drive during a soak, each against what it must be: a model in memory, SQLite, git, fio, and an archive that is larger than the cache.

Each worker knows three states of the world (World below): whether to go on, whether more places are away than the drive survives (then a
read of what is not cached may end in EIO or ETIMEDOUT, and nothing else), and whether the daemon was killed (then any call may fail, and
what was acknowledged is compared after the next mount)."""
import errno
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

MAY_FAIL = (errno.EIO, errno.ETIMEDOUT)
PAGE = 4096
CALL = 64 << 10  # bytes of one read(2): one deadline of the drive each
COMMAND_LIMIT = 240  # s, for what makes many calls


class Stop(Exception):
    """The daemon is gone, or the work is over."""


class World:
    """bound: seconds that one call may take."""

    def __init__(self, mnt, out, bound, journal):
        self.mnt, self.out, self.bound, self.journal = mnt, out, bound, journal
        self.lock = threading.Lock()
        self.stop, self.go = threading.Event(), threading.Event()  # go: cleared while writers are to wait
        self.killed = False
        self.outages = []  # [begin, end or None]
        self.full = 0  # when so much had to stay here last that writers may be refused
        self.problems, self.counts, self.slowest = [], {}, {}
        self.calls = {}  # thread: (since, what)

    def count(self, what, n=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + n

    def wrong(self, text):
        with self.lock:
            self.problems.append(text)
        self.journal(f'WRONG: {text}')

    def outage(self, begin):
        """Were too many away between begin and now?"""
        return any(end is None or end >= begin for _, end in self.outages)

    def may_refuse(self, error, begin):
        """For want of space: only while what has to stay here (not on k + 1 places) comes near cache-size."""
        return error == errno.ENOSPC and self.full > begin - 10

    def call(self, what, fn, *args, local=False, space=True):
        """One call into the drive, timed and judged. None: it failed as it may. local: it does not need the places; space: it may need some."""
        begin = time.time()
        self.calls[threading.get_ident()] = (begin, what)
        try:
            return fn(*args)
        except OSError as e:
            if self.killed:
                raise Stop from e
            if not local and e.errno in MAY_FAIL and self.outage(begin):
                self.count('refused while too many were away')
            elif space and self.may_refuse(e.errno, begin):
                self.count('refused for want of space')
            else:
                self.wrong(f'{what}: {e} after {time.time() - begin:.1f} s')
            return None
        finally:
            took = time.time() - begin
            self.calls.pop(threading.get_ident(), None)
            if not self.killed:
                kind = what.split(' ')[0]
                with self.lock:
                    self.slowest[kind] = max(self.slowest.get(kind, 0), took)
                if took > self.bound:
                    self.wrong(f'{what} took {took:.1f} s')

    def hanging(self):
        now = time.time()
        return [f'{what} hangs for {now - since:.0f} s' for since, what in list(self.calls.values()) if now - since > 3 * self.bound]

    def pace(self, seconds):
        """Between two operations: 0 when it is over."""
        return not self.stop.wait(seconds)

    def may_write(self):
        while not self.go.wait(0.2):
            if self.stop.is_set():
                raise Stop
        return True


def forget(fd):
    """What the kernel has of it; the daemon is asked then."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def read_file(w, path, what, cold=False):
    """Its bytes, or None."""
    fd = w.call(f'open {what}', os.open, path, os.O_RDONLY, local=True)
    if fd is None:
        return None
    try:
        if cold:
            forget(fd)
        parts, at = [], 0
        while True:
            part = w.call(f'read {what} at {at}', os.pread, fd, CALL, at)
            if part is None:
                return None
            if not part:
                return b''.join(parts)
            parts.append(part)
            at += len(part)
    finally:
        os.close(fd)


class File:
    """states: what it was since its last fsync, the last is what it is. pending: what a call that did not return was making of it."""

    def __init__(self):
        self.states, self.pending, self.dropped = [b''], None, 0

    @property
    def now(self):
        return self.states[-1]

    def became(self, data):
        self.states.append(data)
        self.pending = None

    def synced(self):
        self.dropped += len(self.states) - 1
        self.states = self.states[-1:]

    def mixed(self, data):
        """Is data a state in between the last one and what was being made of it, page by page?"""
        if self.pending is None or not min(len(self.now), len(self.pending)) <= len(data) <= max(len(self.now), len(self.pending)):
            return False
        for at in range(0, len(data), PAGE):
            end = min(at + PAGE, len(data))
            if not any((s[at:end] + bytes(PAGE))[:end - at] == data[at:end] for s in (self.now, self.pending)):
                return False
        return True

    def may_be(self, data, floor=0):
        return data in self.states[max(0, floor - self.dropped):] or self.mixed(data)

    def is_now(self, data):
        self.states, self.pending = [data], None


class Model(threading.Thread):
    """Random operations on a folder of its own, each file compared with what it has to be."""

    def __init__(self, w, name, seed, files=40, size=1 << 20, rate=8):
        super().__init__(name=name)
        self.w, self.dir, self.rnd = w, f'{w.mnt}/{name}', random.Random(seed)
        self.limit, self.size, self.rate = files, size, rate
        self.files, self.number = {}, 0
        self.names = [{}]  # since the last fsync of anything here: name -> (File, its states below that do not count)

    def restarted(self):
        """A thread runs once."""
        new = Model.__new__(Model)
        new.__dict__.update({k: v for k, v in self.__dict__.items() if k in ('w', 'dir', 'rnd', 'limit', 'size', 'rate', 'files', 'number', 'names')})
        threading.Thread.__init__(new, name=self.name)
        return new

    def run(self):
        w = self.w
        try:
            if not os.path.isdir(self.dir):
                os.mkdir(self.dir)
                self.sync_dir()
            while w.pace(self.rnd.uniform(0, 2 / self.rate)):
                self.step()
        except Stop:
            pass
        except OSError as e:
            if not w.killed:
                w.wrong(f'{self.name}: {e!r}')

    def step(self):
        kinds = dict(create=10, overwrite=25, truncate=6, rename=7, delete=5, sync=6, read=30, readdir=3)
        kind = self.rnd.choices(list(kinds), kinds.values())[0]
        if not self.files or len(self.files) < self.limit // 4:
            kind = 'create'
        if kind == 'create' and len(self.files) >= self.limit:
            kind = 'delete'
        if kind not in ('read', 'readdir'):
            self.w.may_write()
        name = self.rnd.choice(sorted(self.files)) if self.files else None
        getattr(self, 'do_' + kind)(name)
        self.w.count(kind)
        if len(self.names) > 60:
            self.sync_dir()

    def path(self, name):
        return f'{self.dir}/{name}'

    def some_bytes(self, n):
        return self.rnd.randbytes(n) if self.rnd.random() < .8 else bytes([self.rnd.randrange(256)]) * n

    def some_size(self):
        return int(2 ** self.rnd.uniform(0, self.size.bit_length() - 1))

    def named(self):
        self.names.append({n: (f, 0) for n, f in self.files.items()})

    def change(self, name, flags, fn, after):
        """Opens, fn(fd), closes: closing brings what the kernel holds to the daemon. after: what it is then."""
        f, w = self.files[name], self.w
        f.pending = after
        fd = w.call(f'open {name}', os.open, self.path(name), flags, local=True)
        if fd is None:  # no space
            f.pending = None
            if flags & os.O_CREAT:
                del self.files[name]
                self.named()
            return
        try:
            ok = fn(fd)
        finally:
            try:
                os.close(fd)
            except OSError as e:
                ok = None
                if not w.killed and not w.may_refuse(e.errno, time.time()):
                    w.wrong(f'close {name}: {e}')
        if w.killed:
            raise Stop
        if ok is None:
            self.settle(name)
        else:
            f.became(after)
            if len(f.states) > 12:
                self.do_sync(name)

    def settle(self, name):
        """A call failed as it may in an outage: the file is what it was, or part of what it was to become."""
        f = self.files[name]
        while True:
            data = read_file(self.w, self.path(name), name)
            if data is not None:
                break
            if not self.w.pace(0.2):
                raise Stop
        if not f.may_be(data):
            self.w.wrong(f'{self.path(name)} is neither before nor after a write that failed')
        f.is_now(data)

    def write_all(self, fd, name, data, at):
        for done in range(0, len(data), CALL):
            part = data[done:done + CALL]
            n = self.w.call(f'write {name} at {at + done}', os.pwrite, fd, part, at + done)
            if n != len(part):
                if n is not None and not self.w.outage(time.time() - 60) and not self.w.full > time.time() - 60:
                    self.w.wrong(f'write {name}: {n} of {len(part)} bytes')
                return None
        return True

    def do_create(self, _):
        self.number += 1
        name = f'n{self.number}'
        data = self.some_bytes(self.some_size())
        self.files[name] = File()
        self.named()
        self.change(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, lambda fd: self.write_all(fd, name, data, 0), data)

    def do_overwrite(self, name):
        old = self.files[name].now
        at = self.rnd.randrange(len(old) + 1) if self.rnd.random() < .9 else len(old) + self.rnd.randrange(100000)
        data = self.some_bytes(min(self.some_size(), max(1, self.size - at)))
        new = bytearray(old)
        if at > len(new):
            new += bytes(at - len(new))
        new[at:at + len(data)] = data
        self.change(name, os.O_RDWR, lambda fd: self.write_all(fd, name, data, at), bytes(new))

    def do_truncate(self, name):
        old = self.files[name].now
        n = self.rnd.randrange(len(old) + 1) if self.rnd.random() < .7 else len(old) + self.rnd.randrange(50000)

        def cut(fd):
            return self.w.call(f'ftruncate {name}', lambda: os.ftruncate(fd, n) or True)
        self.change(name, os.O_RDWR, cut, (old + bytes(max(0, n - len(old))))[:n])

    def do_rename(self, name):
        self.number += 1
        to = f'n{self.number}' if self.rnd.random() < .5 else self.rnd.choice(sorted(self.files))
        if to == name:
            return
        replaces = to in self.files
        f = self.files.pop(name)
        self.files[to] = f
        self.named()
        if replaces:  # saved by renaming: then the new name never shows less than it was when it was renamed
            self.names[-1][to] = (f, f.dropped + len(f.states) - 1)
        self.w.call(f'rename {name} {to}', os.rename, self.path(name), self.path(to), local=True)

    def do_delete(self, name):
        del self.files[name]
        self.named()
        self.w.call(f'unlink {name}', os.unlink, self.path(name), local=True)

    def do_sync(self, name):
        def sync():
            fd = os.open(self.path(name), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            return True
        if self.w.call(f'fsync {name}', sync, local=True, space=False):
            self.files[name].synced()
            self.names = self.names[-1:]

    def sync_dir(self):
        def sync():
            fd = os.open(self.dir, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            return True
        if self.w.call('fsync the folder', sync, local=True, space=False):
            self.names = self.names[-1:]

    def do_read(self, name):
        data = read_file(self.w, self.path(name), name, cold=self.rnd.random() < .5)
        if data is not None and data != self.files[name].now:
            self.w.wrong(differs(self.path(name), data, self.files[name].now))

    def do_readdir(self, _):
        names = self.w.call('readdir', os.listdir, self.dir, local=True)
        if names is not None and set(names) != set(self.files):
            self.w.wrong(f'{self.dir} lists {sorted(names)} instead of {sorted(self.files)}')

    def after_kill(self):
        """Takes over what is there, when that is what may be there."""
        there = set(os.listdir(self.dir)) if os.path.isdir(self.dir) else set()
        fits = [n for n in self.names if set(n) == there]
        if not fits:
            self.w.wrong(f'{self.dir} after a kill: {sorted(there)} is none of the {len(self.names)} states since the last fsync, '
                         f'the first of them {sorted(self.names[0])}')
            return
        data = {n: read_file(self.w, self.path(n), n) for n in there}
        if None in data.values():
            return  # said already
        for names in fits:
            if all(f.may_be(data[n], floor) for n, (f, floor) in names.items()):
                break
        else:
            for n, (f, floor) in fits[-1].items():
                if not f.may_be(data[n], floor):
                    self.w.wrong(f'after a kill: {differs(self.path(n), data[n], f.now)}, one of {len(f.states)} states')
            names = fits[-1]
        self.files = {n: f for n, (f, _) in names.items()}
        for n, f in self.files.items():
            f.is_now(data[n])
            f.dropped = 0
        self.names = [{n: (f, 0) for n, f in self.files.items()}]

    def verify(self):
        """All of it, with nothing going on."""
        if set(os.listdir(self.dir)) != set(self.files):
            self.w.wrong(f'{self.dir} lists other names')
        for name, f in sorted(self.files.items()):
            data = read_file(self.w, self.path(name), name)
            if data is not None and data != f.now:
                self.w.wrong(differs(self.path(name), data, f.now))
            self.w.count('bytes verified', len(f.now))


def differs(path, got, want):
    at = next((i for i in range(min(len(got), len(want))) if got[i] != want[i]), min(len(got), len(want)))
    return f'{path}: {len(got)} bytes instead of {len(want)}, the first that differs is {at}: {got[at:at + 16].hex()} instead of {want[at:at + 16].hex()}'


class Archive(threading.Thread):
    """Files written once, more than the cache holds, and read in pieces from then on."""

    def __init__(self, w, seed, files, size):
        super().__init__(name='archive')
        self.w, self.dir, self.seed, self.count, self.size = w, f'{w.mnt}/archive', seed, files, size
        self.rnd = random.Random(seed + 1)

    def restarted(self):
        return Archive(self.w, self.seed, self.count, self.size)

    def body(self, i):
        return random.Random(self.seed * 1000 + i).randbytes(self.size)

    def fill(self):
        os.mkdir(self.dir)
        for i in range(self.count):
            with open(f'{self.dir}/a{i}', 'wb', buffering=0) as f:
                f.write(self.body(i))
        fd = os.open(self.dir, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def run(self):
        w = self.w
        try:
            while w.pace(self.rnd.uniform(0, .2)):
                i, begin = self.rnd.randrange(self.count), time.time()
                at = self.rnd.randrange(self.size)
                fd = w.call('open archive', os.open, f'{self.dir}/a{i}', os.O_RDONLY, local=True)
                if fd is None:
                    continue
                try:
                    forget(fd)
                    data = w.call(f'read archive a{i} at {at}', os.pread, fd, CALL, at)
                finally:
                    os.close(fd)
                # Fewer bytes are right when the next ones cannot be had: that is how read(2) says it.
                want = self.body(i)[at:at + CALL]
                if data is not None and (data != want[:len(data)] or len(data) < len(want) and not w.outage(begin)):
                    w.wrong(differs(f'{self.dir}/a{i} from {at}', data, want))
                w.count('cold reads')
        except Stop:
            pass
        except OSError as e:
            if not w.killed:
                w.wrong(f'archive: {e!r}')

    def verify(self):
        for i in range(self.count):
            data, want = read_file(self.w, f'{self.dir}/a{i}', f'a{i}'), self.body(i)
            if data is not None and data != want:
                self.w.wrong(differs(f'{self.dir}/a{i}', data, want))
            self.w.count('bytes verified', self.size)

    def after_kill(self):
        pass


class Command(threading.Thread):
    """A worker that runs programs. Their errors are errors of the drive, but in an outage or after a kill."""

    def __init__(self, w, name, seed):
        super().__init__(name=name)
        self.w, self.dir, self.seed, self.rnd = w, f'{w.mnt}/{name}', seed, random.Random(seed)
        self.turn = 0

    def program(self, *argv, bad=None, **more):
        """Its output, or None when it failed as it may. bad(output): says of a failure that it can never be right."""
        w, begin = self.w, time.time()
        w.calls[threading.get_ident()] = (begin + COMMAND_LIMIT, ' '.join(argv[:3]))
        try:
            r = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_LIMIT, stdin=subprocess.DEVNULL, errors='replace', **more)
        except subprocess.TimeoutExpired:
            if not w.killed:
                w.wrong(f'{argv} did not end in {COMMAND_LIMIT} s')
            return None
        finally:
            w.calls.pop(threading.get_ident(), None)
        if r.returncode == 0:
            return r.stdout
        said = (r.stdout + r.stderr)[-800:]
        if bad and bad(said):
            w.wrong(f'{argv}: {said}')
        elif w.killed:
            raise Stop
        elif w.outage(begin):
            w.count('refused while too many were away')
        elif re.search('[Nn]o space left|disk is full', said) and w.may_refuse(errno.ENOSPC, begin):
            w.count('refused for want of space')
        else:
            w.wrong(f'{argv} ended with {r.returncode}: {said}')
        return None

    def run(self):
        try:
            while self.w.pace(self.rnd.uniform(0, .6)):
                self.w.may_write()
                begin = time.time()
                try:
                    self.one()
                except OSError as e:
                    if self.w.killed or not self.w.may_refuse(e.errno, begin):
                        raise
                    self.w.count('refused for want of space')
                self.w.count(self.name + ' rounds')
        except Stop:
            pass
        except OSError as e:
            if not self.w.killed:
                self.w.wrong(f'{self.name}: {e!r}')

    def restarted(self):
        new = type(self)(self.w, self.name, self.seed)
        new.__dict__.update({k: v for k, v in self.__dict__.items() if k in ('rnd', 'turn', 'acked', 'head', 'last')})
        return new

    def after_kill(self):
        pass


class Fio(Command):
    """Writes a file in random order, reads it back and compares each block's sum; the last one is compared again at the end."""
    last = None

    def argv(self, name, size, bs, seed, *more):
        return ('fio', f'--name={name}', f'--filename={self.dir}/{name}', f'--size={size}', f'--bs={bs}', '--rw=randwrite', f'--randseed={seed}',
                '--ioengine=psync', '--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0', '--fallocate=none', '--end_fsync=1',
                '--invalidate=1', '--thread', '--minimal', *more)

    @staticmethod
    def bad(said):
        return 'verify:' in said or 'verify failed' in said or 'bad header' in said or 'bad magic' in said

    def one(self):
        os.makedirs(self.dir, exist_ok=True)
        self.turn += 1
        job = f'f{self.turn % 3}', self.rnd.choice(('1m', '3m', '6m')), self.rnd.choice(('4k', '16k', '128k')), self.rnd.randrange(1 << 30)
        if self.last and self.last[0] == job[0]:
            self.last = None
        path = f'{self.dir}/{job[0]}'
        if os.path.exists(path):
            os.unlink(path)
        if self.program(*self.argv(*job, '--do_verify=1'), bad=self.bad) is not None:
            self.last = job

    def verify(self):
        if self.last:
            self.program(*self.argv(*self.last, '--verify_only'), bad=self.bad)
            self.w.count('fio files verified')


class Git(Command):
    """Commits, repacks, checks; after a kill the last commit that git acknowledged is there."""
    head = None

    def git(self, *args, bad=None):
        return self.program('git', '-C', self.dir, '-c', 'core.fsync=all', '-c', 'gc.auto=0', '-c', 'user.name=t', '-c', 'user.email=t@example.org', *args,
                            bad=bad)

    @staticmethod
    def bad(said):
        return 'corrupt' in said or 'mismatch' in said or 'inflate' in said

    def one(self):
        if not os.path.isdir(f'{self.dir}/.git'):
            if self.program('git', 'init', '-q', self.dir) is None:
                shutil.rmtree(self.dir, ignore_errors=True)
                return
        self.turn += 1
        for _ in range(self.rnd.randrange(1, 6)):
            path = f'{self.dir}/d{self.rnd.randrange(4)}/f{self.rnd.randrange(30)}'
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path + '.new', 'wb') as f:
                f.write(self.rnd.randbytes(int(2 ** self.rnd.uniform(2, 16))).hex().encode())
            os.rename(path + '.new', path)
        self.unlock()
        if self.git('add', '-A') is None or self.git('commit', '-q', '--allow-empty', '-m', f'turn {self.turn}') is None:
            return
        head = self.git('rev-parse', 'HEAD')
        if head:
            self.head = head.strip()
        if self.turn % 6 == 0:
            self.git('gc', '-q', '--prune=now', bad=self.bad)
        if self.turn % 4 == 0:
            self.fsck()

    def unlock(self):
        """What a git that died left behind; no other one runs here."""
        for folder, _, names in os.walk(f'{self.dir}/.git'):
            for n in names:
                if n.endswith('.lock'):
                    os.unlink(os.path.join(folder, n))

    def fsck(self):
        if self.git('fsck', '--full', '--strict', bad=self.bad) is not None:
            self.w.count('git fsck')

    def after_kill(self):
        if self.head:
            self.unlock()
            if self.git('cat-file', '-e', self.head) is None:
                self.w.wrong(f'commit {self.head} was acknowledged and is gone')
            self.fsck()

    def verify(self):
        if self.head:
            self.fsck()
            self.git('cat-file', '-e', self.head)


class Sqlite(Command):
    """A program of its own (a mapped WAL index of a dead daemon is a SIGBUS) that says each commit on its output."""
    acked = 0

    def one(self):
        os.makedirs(self.dir, exist_ok=True)
        self.turn += 1
        mode = ('delete', 'wal', 'truncate')[self.turn % 3]
        out = self.program(sys.executable, os.path.realpath(__file__), 'sqlite', self.dir, mode, str(self.seed), '12', bad=self.bad)
        if out:
            self.acked = max(self.acked, *(int(x) for x in out.split()))

    def program(self, *argv, **more):
        """Commits count also when it fails later."""
        path = f'{self.w.out}/sqlite.acked'
        more.setdefault('env', dict(os.environ, SOAK_ACKED=path))
        try:
            return super().program(*argv, **more)
        finally:
            if os.path.exists(path):
                with open(path) as f:
                    self.acked = max([self.acked] + [int(x) for x in f.read().split()])

    def bad(self, said):
        # SQLite says "malformed" also for a read that ended in EIO (SQLITE_IOERR_CORRUPTFS): outside of outages any failure counts.
        if 'WRONG' not in said:
            return False
        self.keep('at-once')
        return True

    def keep(self, when):
        """For who looks into it: the files as they are now."""
        try:
            shutil.copytree(self.dir, f'{self.w.out}/sqlite-{when}', dirs_exist_ok=True)
        except (OSError, shutil.Error) as e:
            self.w.journal(f'sqlite files: {e}')

    def verify(self):
        if self.acked:
            self.program(sys.executable, os.path.realpath(__file__), 'sqlite', self.dir, 'check', str(self.seed), str(self.acked), bad=self.bad)

    after_kill = verify


def sqlite_blob(seed, i):
    return random.Random(seed * 1000003 + i).randbytes(100 + i * 7919 % 9000)


def sqlite_main(folder, mode, seed, n):
    """n commits, the database checked before; or, `check`: n rows at least have to be there."""
    c = sqlite3.connect(f'{folder}/t.db', timeout=60, isolation_level=None)
    ok = c.execute('pragma integrity_check').fetchall()
    if any('unable to get the page' in row[0] or 'failed to get page' in row[0] for row in ok):
        raise SystemExit(f'refused: {ok[0]}')
    if ok != [('ok',)]:
        raise SystemExit(f'WRONG: integrity_check says {ok[:3]}')
    if mode != 'check':
        c.execute(f'pragma journal_mode={mode}')
    c.execute('pragma synchronous=extra')  # also the folder, after the journal is gone
    c.execute('pragma cache_size=-64')
    c.execute('create table if not exists t (i integer primary key, b blob)')
    last = c.execute('select coalesce(max(i), 0), count(*) from t').fetchone()
    if last[0] != last[1]:
        raise SystemExit(f'WRONG: the last of {last[1]} rows is {last[0]}')
    if mode == 'check':
        if last[0] < n:
            raise SystemExit(f'WRONG: {n} rows were committed, {last[0]} are there')
        for i, b in c.execute('select i, b from t'):
            if b != sqlite_blob(seed, i):
                raise SystemExit(f'WRONG: row {i}')
        return
    with open(os.environ['SOAK_ACKED'], 'w', buffering=1) as acked:
        for i in range(last[0] + 1, last[0] + 1 + n):
            c.execute('begin immediate')
            c.execute('insert into t values (?, ?)', (i, sqlite_blob(seed, i)))
            c.execute('commit')
            acked.write(f'{i}\n')
            print(i)
            j = 1 + hash((seed, i)) % i
            if c.execute('select b from t where i = ?', (j,)).fetchone() != (sqlite_blob(seed, j),):
                raise SystemExit(f'WRONG: row {j}')
    c.close()


if __name__ == '__main__':
    sqlite_main(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
