#!/usr/bin/env python3
"""Load on a mounted drive while its daemon's memory and threads are watched: memory_load.py MNT PID FILES THREADS SECONDS
FILES files are opened and kept open; THREADS readers each of cold content (MNT/pool/*) and of what is open, and as many writers run
for SECONDS. Prints one line of JSON: the highest VmRSS (KiB), the lowest and highest number of threads, what was done, and errors."""
import json
import os
import random
import resource
import sys
import threading
import time

mnt, pid, files, threads, seconds = sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:6])
out = {'rss': 0, 'rss_before': 0, 'threads_low': 1 << 30, 'threads_high': 0, 'opened': 0, 'read': 0, 'written': 0, 'errors': []}
stop = threading.Event()
lock = threading.Lock()


def look():
    with open(f'/proc/{pid}/status') as f:
        v = {line.split(':')[0]: line.split()[1] for line in f if line.startswith(('VmRSS', 'Threads'))}
    out['rss'] = max(out['rss'], int(v['VmRSS']))
    out['threads_low'] = min(out['threads_low'], int(v['Threads']))
    out['threads_high'] = max(out['threads_high'], int(v['Threads']))
    return int(v['VmRSS'])


def watch():
    while not stop.wait(0.05):
        look()


def add(key, n):
    with lock:
        out[key] += n


def guarded(fn, *args):
    try:
        fn(*args)
    except OSError as e:
        with lock:
            out['errors'].append(str(e))


def hold(first, last, told, end):
    """In a child, for a process may have fewer files open: opens, writes, tells, and at the end reads each."""
    fds = [os.open(f'{mnt}/open/{i}', os.O_RDWR | os.O_CREAT, 0o644) for i in range(first, last)]
    for i, fd in enumerate(fds, first):
        os.write(fd, b'%d\n' % i)
    os.write(told, b'R')
    os.read(end, 1)
    os._exit(any(os.pread(fd, 16, 0) != b'%d\n' % i for i, fd in enumerate(fds, first)))


def open_all():
    os.makedirs(f'{mnt}/open', exist_ok=True)
    told, end = os.pipe(), os.pipe()
    children, step = [], resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64
    for first in range(0, files, step):
        child = os.fork()
        if not child:
            os.close(end[1])
            hold(first, min(first + step, files), told[1], end[0])
        children.append(child)
    for child in children:
        os.read(told[0], 1)
    out['opened'] = files
    return children, end[1]


def reader(seed):
    rnd = random.Random(seed)
    pool = sorted(os.listdir(f'{mnt}/pool'))
    while not stop.is_set():
        name = rnd.choice(pool)
        fd = os.open(f'{mnt}/pool/{name}', os.O_RDONLY)
        size = os.fstat(fd).st_size
        for _ in range(8):
            n = len(os.pread(fd, 1 << 18, rnd.randrange(size >> 12) << 12))
            add('read', n)
            if stop.is_set():
                break
        os.close(fd)


def writer(seed):
    rnd = random.Random(-seed)
    data = rnd.randbytes(1 << 20)
    fd = os.open(f'{mnt}/w{seed}', os.O_RDWR | os.O_CREAT, 0o644)
    at = 0
    while not stop.is_set():
        n = os.pwrite(fd, data[rnd.randrange(1 << 19):], at)
        add('written', n)
        at = (at + n) % (4 << 20)
        if rnd.random() < 0.1:
            os.fsync(fd)
    os.close(fd)


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    out['rss_before'] = look()
    children, end = open_all()
    look()
    work = [threading.Thread(target=guarded, args=(fn, i + 1)) for i in range(threads) for fn in (reader, writer)]
    threading.Thread(target=watch, daemon=True).start()
    for t in work:
        t.start()
    time.sleep(seconds)
    stop.set()
    for t in work:
        t.join()
    os.close(end)
    for child in children:
        if os.waitpid(child, 0)[1]:
            out['errors'].append('an open file lost its content')
    print(json.dumps(out))


main()
