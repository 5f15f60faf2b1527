#!/usr/bin/env python3
"""What may wait, while every cloud accepts connections and answers nothing: each case has to end by its own deadline, or at once when
the one that waits gets a signal. All cases run at the same time, for they only wait.
hang_cases.py SKYFLOK T C DRIVE_T PASSFILE URL... ; T: mountpoint with fsync=disk, timeout=4s, holding cold/0.. ; C: another one with
fsync=cloud, fsync-timeout=6s. URLs: six free places of the same clouds."""
import ctypes
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

skyflok, T, C, drive, passfile, *urls = sys.argv[1:]
SLACK = float(os.environ.get('HANG_SLACK', 8))  # the machine may be busy
TIMEOUT, CLOUD = 4, 6
LOCAL = SLACK  # what must not touch the network at all; the fastest thing that does takes longer: see must_be_quick
problems, said = [], []
lock = threading.Lock()
cases = []


def case(fn):
    cases.append(fn)
    return fn


def check(ok, text):
    if not ok:
        with lock:
            problems.append(text)


def timed(fn, *args):
    begin = time.monotonic()
    try:
        r = fn(*args)
    except OSError as e:
        r = e
    return r, time.monotonic() - begin


def ends(name, fn, errnos, limit):
    """fn fails with one of errnos (0: works) within limit seconds."""
    r, took = timed(fn)
    code = r.errno if isinstance(r, OSError) else 0
    check(code in errnos and took < limit, f'{name}: {errno.errorcode.get(code, "worked")} after {took:.1f} s, expected {[errno.errorcode.get(e, "work") for e in errnos]} within {limit:.0f} s')
    with lock:
        said.append(f'{name} {took:.1f} s')


def child(fn):
    """A process that runs fn and exits with 0, or the errno."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGBUS):
            signal.signal(s, signal.SIG_DFL)
        fn()
        os._exit(0)
    except OSError as e:
        os._exit(e.errno)


def reap(pid, limit):
    """How it ended within limit seconds (as subprocess.returncode), or None."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def killed(name, fn, sig, wait=1.0):
    """fn blocks; a signal ends its process at once."""
    pid = child(fn)
    time.sleep(wait)
    if os.waitpid(pid, os.WNOHANG)[0]:
        check(False, f'{name}: did not wait at all')
        return
    os.kill(pid, sig)
    begin = time.monotonic()
    rc = reap(pid, SLACK)
    took = time.monotonic() - begin
    check(rc == -sig and took < 3, f'{name}: after signal {sig} it ended with {rc} after {took:.1f} s')


def command(name, args, statuses, limit):
    begin = time.monotonic()
    # No pipe: the children of other cases would have its other end open as well.
    with tempfile.TemporaryFile('w+') as f:
        p = subprocess.Popen([skyflok, *args], stdout=f, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            p.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            check(False, f'{name}: not within {limit:.0f} s')
        took = time.monotonic() - begin
        f.seek(0)
        out = f.read()
    check(p.returncode in statuses, f'{name}: status {p.returncode}, expected {statuses}: {out[-300:]}')
    with lock:
        said.append(f'{name} {took:.1f} s')
    return out


def interrupted(name, args, wait=1.5):
    """The command waits for the clouds; Ctrl-C ends it at once."""
    p = subprocess.Popen([skyflok, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    time.sleep(wait)
    check(p.poll() is None, f'{name}: ended by itself with {p.returncode} before it could be interrupted')
    p.send_signal(signal.SIGINT)
    begin = time.monotonic()
    try:
        p.wait(timeout=SLACK)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
    took = time.monotonic() - begin
    check(took < 3 and p.returncode in (-signal.SIGINT, 8), f'{name}: after Ctrl-C it ended with {p.returncode} after {took:.1f} s')


def cold(i):
    return f'{T}/cold/{i}'


def read(path, flags=0, size=4096):
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        if flags & os.O_DIRECT:
            m = mmap.mmap(-1, size)
            return os.readv(fd, [m])
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


def touch_mapped(path):
    fd = os.open(path, os.O_RDONLY)
    m = mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
    ctypes.string_at(ctypes.addressof(ctypes.c_char.from_buffer_copy(m[:1])), 1)


def write(path, how=None, flags=0, size=5000):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try:
        os.write(fd, b'x' * size)
        if how:
            how(fd)
    finally:
        os.close(fd)


def sync_folder(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


NET = (errno.EIO, errno.ETIMEDOUT)


@case
def reads():
    ends('read', lambda: read(cold(0)), NET, TIMEOUT + SLACK)


@case
def reads_direct():
    ends('O_DIRECT read', lambda: read(cold(1), os.O_DIRECT), NET, TIMEOUT + SLACK)


@case
def big_reads():
    ends('read of 1 MiB', lambda: read(f'{T}/cold/big', size=1 << 20), NET, TIMEOUT + SLACK)


@case
def partial_writes():
    # The kernel's write-back cache reads the rest of a page of which a program writes a part.
    ends('write of a part of a cold page', lambda: write(cold(4)), NET + (0,), TIMEOUT + SLACK)


@case
def copies():
    r, took = timed(lambda: subprocess.run(['cp', cold(2), '/dev/null'], capture_output=True).returncode)
    check(r == 1 and took < TIMEOUT + SLACK, f'cp: {r} after {took:.1f} s')


@case
def faults():
    pid = child(lambda: touch_mapped(cold(3)))
    rc = reap(pid, TIMEOUT + SLACK)
    check(rc == -signal.SIGBUS, f'mmap fault: ended with {rc}, not by SIGBUS')


@case
def kills():
    for i, (name, fn) in enumerate([('read', lambda: read(cold(10))), ('O_DIRECT read', lambda: read(cold(11), os.O_DIRECT)), ('mmap fault', lambda: touch_mapped(cold(12)))]):
        killed(name, fn, signal.SIGKILL)


@case
def interrupts():
    killed('read', lambda: read(cold(13)), signal.SIGINT)
    killed('read', lambda: read(cold(14)), signal.SIGTERM)


@case
def fsyncs():
    ends('fsync=cloud', lambda: write(f'{C}/fsync', os.fsync), NET, CLOUD + SLACK)


@case
def fdatasyncs():
    ends('fdatasync', lambda: write(f'{C}/fdatasync', os.fdatasync), NET, CLOUD + SLACK)


@case
def sync_writes():
    ends('O_SYNC write', lambda: write(f'{C}/osync', flags=os.O_SYNC), NET, CLOUD + SLACK)


@case
def folder_syncs():
    # One of its own: the kernel keeps a folder locked during its fsync, and who looks for a new name in it waits, whatever we do.
    os.mkdir(f'{C}/folder')
    write(f'{C}/folder/a')
    ends('fsync of a folder', lambda: sync_folder(f'{C}/folder'), NET, CLOUD + SLACK)


@case
def fsyncs_killed():
    killed('fsync=cloud', lambda: write(f'{C}/killed', os.fsync), signal.SIGKILL, 0.5)


@case
def local():
    """Nothing of this needs the network: each is far below the time-out, with a hundred cold reads hanging."""
    os.makedirs(f'{T}/l/d', exist_ok=True)
    write(f'{T}/l/a')
    readers = [child(lambda i=i: read(cold(100 + i))) for i in range(100)]
    time.sleep(0.5)
    for name, fn in [('stat', lambda: os.stat(cold(20))), ('ls', lambda: os.listdir(f'{T}/cold')), ('statvfs', lambda: os.statvfs(T)),
                     ('df', lambda: subprocess.run(['df', T], check=True, capture_output=True)), ('state', lambda: os.getxattr(cold(20), 'user.skyflok.state')),
                     ('xattr', lambda: os.setxattr(cold(21), 'user.a', b'b')), ('rename', lambda: os.rename(cold(22), cold('22r'))),
                     ('unlink', lambda: os.unlink(cold(23))), ('chmod', lambda: os.chmod(cold(24), 0o600)), ('mkdir', lambda: os.mkdir(f'{T}/l/e')),
                     ('truncate', lambda: os.truncate(cold(25), 100)), ('open and close', lambda: os.close(os.open(cold(26), os.O_RDWR))),
                     ('write, fsync, close', lambda: write(f'{T}/l/b', os.fsync)), ('read of what is here', lambda: read(f'{T}/l/a')),
                     ('overwrite of cold content', lambda: write(cold(27), os.fsync, size=8192)), ('SEEK_DATA', seek_data), ('clone', clone),
                     ('fallocate', lambda: punch(cold(28)))]:
        ends(f'{name} beside 100 hanging reads', fn, (0,), 1.5 if SLACK < 4 else 3)
    for pid in readers:
        os.kill(pid, signal.SIGKILL)
    for pid in readers:
        check(reap(pid, SLACK) is not None, 'one of the hanging readers cannot be killed')


def seek_data():
    fd = os.open(cold(29), os.O_RDWR)
    os.pwrite(fd, b'x', 1 << 20)
    r = os.lseek(fd, 0, os.SEEK_DATA)
    os.close(fd)
    check(r == 0, 'SEEK_DATA')


def clone():
    a, b = os.open(cold(30), os.O_RDONLY), os.open(f'{T}/l/clone', os.O_WRONLY | os.O_CREAT)
    n = os.copy_file_range(a, b, 1 << 30)
    os.close(a)
    os.close(b)
    check(n == 65536, f'copy_file_range copied {n} bytes')


def punch(path):
    subprocess.run(['fallocate', '-p', '-o', '0', '-l', '4096', path], check=True)


@case
def locks():
    path = f'{T}/lock'
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    killed('flock', lambda: fcntl.flock(os.open(path, os.O_RDWR), fcntl.LOCK_EX), signal.SIGKILL, 0.5)
    fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    killed('fcntl lock', lambda: fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX), signal.SIGTERM, 0.5)
    os.close(fd)


@case
def asks():
    for words in ([], ['--json']):
        command('status', ['status', T, *words], (0,), LOCAL)
    command('where', ['where', cold(40)], (0,), LOCAL)
    command('list', ['list'], (0,), LOCAL)
    command('key list', ['key', 'list', drive], (0,), LOCAL)


@case
def syncs():
    command('sync --timeout 2', ['sync', T, '--timeout', '2'], (64,), 2 + SLACK)
    command('sync', ['sync', C], (64,), 60)


@case
def syncs_interrupted():
    write(f'{T}/more')
    interrupted('sync', ['sync', T], 0.5)


@case
def keys():
    interrupted('key add', ['key', 'add', drive, '--recovery', '--passfile', passfile])
    command('key add', ['key', 'add', drive, '--recovery', '--passfile', passfile], (0,), 75)


@case
def tests_of_backends():
    interrupted('backend test', ['backend', 'test', urls[0]])
    command('backend test', ['backend', 'test', urls[0]], (32,), 60)


@case
def creates():
    interrupted('create', ['create', 'n', '--data', '4', '--parity', '2', '--passfile', passfile, '--kdf-memory', '8M', *urls])
    check('there is no drive' in command('status of what was not created', ['status', 'n'], (32,), LOCAL), 'an interrupted create left a drive')
    command('create', ['create', 'o', '--data', '4', '--parity', '2', '--passfile', passfile, '--kdf-memory', '8M', *urls], (32,), 60)


@case
def destroys():
    interrupted('destroy', ['destroy', 'd', '--yes'])
    out = command('destroy', ['destroy', 'd', '--yes'], (32,), 75)
    check('Repeat' in out, f'destroy: {out}')
    command('status of what was not destroyed', ['status', 'd'], (0,), LOCAL)


def main():
    threads = []
    for fn in cases:
        def run(fn=fn):
            try:
                fn()
            except Exception as e:  # a case that breaks is a case that failed
                check(False, f'{fn.__name__}: {e!r}')
        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for t in threads:
        t.join()
    print('; '.join(said))
    for p in problems:
        print('FAILED:', p)
    sys.exit(bool(problems))


main()
