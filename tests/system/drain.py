#!/usr/bin/env python3
"""After an outage: no storm when the places return, and healing that is paced, said, and survives restarts. test_drain runs it.

drain.py SCRATCH SKYFLOK PASSFILE"""
import os
import random
import re
import subprocess
import sys
import threading
import time

import soak
import soak_places

SEGMENTS, PIECE = 20, 1 << 20
LATE = dict(do='delay', ms=100, times=0)
HEAL_RATE = 1 << 20


class Drain(soak.Soak):
    def write(self, name, size):
        """A segment of its own: a sync closes it, and is not waited for."""
        body = random.Random(name).randbytes(size)
        fd = os.open(f'{self.mnt}/{name}', os.O_WRONLY | os.O_CREAT)
        os.write(fd, body)
        os.fsync(fd)
        os.close(fd)
        before = self.closed
        c = subprocess.Popen([self.skyflok, 'sync', self.mnt], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait(20, 'its segment is closed', lambda: self.segments() > before or c.poll() is not None)
        self.closed = self.segments()
        c.kill()
        c.wait()

    def segments(self):
        s = self.status()['segments']
        return s['closed'] + s['uploading'] + s['stored'] + s['dispersed']

    def check(self, names, size):
        for n in names:
            with open(f'{self.mnt}/{n}', 'rb') as f:
                if f.read() != random.Random(n).randbytes(size):
                    raise SystemExit(f'{n}: other bytes')

    def away(self, which):
        for i in which:
            p = self.places.list[i]
            p.put_on([f for f in p.faults if f.name in ('moved away', '500')][0], self.rnd)

    def asked(self):
        """Requests that each proxy has seen since its rules were set."""
        return [p.fired() for p in self.proxies]

    def all_there(self):
        s = self.status()
        g = s['segments']
        return not g['below_n'] and not g['open'] + g['closed'] + g['uploading'] and all(b['state'] in soak.GOOD for b in s['backends'])

    def storm(self):
        self.away(range(soak.N))
        names = [f's{i}' for i in range(SEGMENTS)]
        for n in names:
            self.write(n, PIECE)
        self.say('all are written')
        before, at = self.asked(), time.time()
        time.sleep(2)
        idle = max(b - a for a, b in zip(before, self.asked())) / (time.time() - at)
        if idle > 3:
            raise SystemExit(f'{idle:.1f} requests a second while everything is away')
        staged = self.status()['segments']
        if staged['closed'] + staged['uploading'] < SEGMENTS * .8:
            raise SystemExit(f'too few segments wait, this proves nothing: {staged}')
        for p in self.places.list:
            p.lift()
        for p in self.proxies:
            p.rules(LATE, soak_places.COUNT)
        begin, seen = time.time(), []
        while not self.all_there():
            seen.append((time.time(), max(self.asked())))
            if time.time() - begin > 90:
                raise SystemExit(f'not dispersed after 90 s: {self.status()["segments"]}')
            time.sleep(0.1)
        seen.append((time.time(), max(self.asked())))
        rate = max(((n2 - n1) / (t2 - t1) for t1, n1 in seen for t2, n2 in seen if 1 <= t2 - t1 < 2), default=0)
        total, segments = seen[-1][1], self.segments()
        if rate > 64:
            raise SystemExit(f'{rate:.0f} requests a second at one place')
        if total > 2 * segments + 20:
            raise SystemExit(f'{total} requests for {segments} segments at one place')
        for p in self.proxies:
            p.rules(soak_places.COUNT)
        self.say('drained')
        self.check(names, PIECE)
        print(f'test_drain: {SEGMENTS} MB drained in {time.time() - begin:.1f} s by itself: {total} requests for {segments} segments at one place, at most {rate:.0f}/s '
              f'({idle:.1f}/s while away)')

    def below(self):
        return self.status()['segments']['below_n']

    def heal(self):
        self.away((1, 5))
        names = [f'h{i}' for i in range(12)]
        for n in names:
            self.write(n, PIECE // 2)
        self.say('written with two away')
        self.wait(60, 'all is stored on four', lambda: self.below() >= len(names) and not self.status()['segments']['uploading'])
        told = self.run('status', self.mnt).stdout
        if not re.search(rf'Stored     {self.below()} segments? (is|are) on enough backends, but not on all', told):
            raise SystemExit(f'status does not say how many segments lack shards: {told}')
        self.umount()
        self.mount('heal-rate=1M')
        if self.below() < len(names):
            raise SystemExit(f'{self.below()} of {len(names)} segments are known to lack shards after a remount')
        self.kill()
        # One wrong bit in one answer: the marker that is read once per mount names another backend.
        self.proxies[0].rules(dict(do='corrupt', byte=1 << 30, method='GET', path='skyflok', times=1), soak_places.COUNT)
        self.mount('heal-rate=1M')
        self.wait(30, 'a place with a foreign marker is absent', lambda: self.status()['backends'][4]['state'] == 'absent')
        if self.below() < len(names):
            raise SystemExit(f'{self.below()} of {len(names)} segments are known to lack shards after a kill')
        left = self.status()['bytes']['to_heal']
        for i in 1, 5:
            self.places.list[i].lift()
        self.wait(60, 'healing begins', lambda: self.below() < len(names))
        self.say('healing')
        begin, slowest = time.time(), 0.0
        while self.below():
            if time.time() - begin > 60 + 4 * left / HEAL_RATE:
                raise SystemExit(f'{self.below()} segments still lack shards')
            t = time.time()
            with open(f'{self.mnt}/s{self.rnd.randrange(SEGMENTS)}', 'rb') as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                f.read(65536)
            slowest = max(slowest, time.time() - t)
            time.sleep(0.05)
        took = time.time() - begin
        if took < .6 * left / HEAL_RATE:
            raise SystemExit(f'{left} bytes were healed in {took:.1f} s, at heal-rate=1M')
        self.wait(60, 'all is on six', self.all_there)
        self.check(names, PIECE // 2)
        print(f'test_drain: {left / 1e6:.1f} MB healed in {took:.1f} s at 1 MiB/s, also after a remount and a kill; a read meanwhile took at most {slowest:.2f} s')

    def work(self):
        self.closed = self.segments()
        self.proxies = [p for p in self.places.list if isinstance(p, soak_places.Proxied)]
        self.storm()
        self.heal()
        self.without((0, 4))
        self.check([f's{i}' for i in range(SEGMENTS)], PIECE)
        self.check([f'h{i}' for i in range(12)], PIECE // 2)
        self.umount()
        self.pid = None

    def report(self):
        for text in self.w.problems:
            print(f'WRONG: {text}')
        return 1 if self.w.problems else 0


if __name__ == '__main__':
    soak.catch_signals()
    sys.exit(Drain(*sys.argv[1:4], 0, 1, False).main())
