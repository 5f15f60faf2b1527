#!/usr/bin/env python3
"""The soak: six places that a seeded scheduler harms every few seconds, under work that verifies itself. test_soak runs it.

soak.py SCRATCH SKYFLOK PASSFILE DURATION SEED [full]

A campaign harms up to n - k places, in one way after the other, or all at once in a blackout of more than n - k (then reads of what is not
cached may fail, within their time limit). After each campaign everything is lifted, and the drive has to disperse all of it again before
other places are harmed: so no read may fail outside of blackouts, ever. The daemon is unmounted and killed in between. At the end the
cache is wiped and everything is read from the places only, also with any two away. What happened when is in SCRATCH/journal."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import soak_places
import soak_work

K, M = 4, 2
N = K + M
TIMEOUT = 10  # s, of the mount
BOUND = TIMEOUT + 20  # s, for one call on a machine that has other work
RSS_MAX = 200 << 20
GOOD = ('ok', 'slow', 'corrupt')  # corrupt lasts for ten minutes


def field(text, name):
    for line in text.splitlines():
        if line.startswith(name + ':'):
            return int(line.split()[1])
    return 0


class Soak:
    def __init__(self, scratch, skyflok, passfile, duration, seed, full):
        self.scratch, self.skyflok, self.passfile, self.duration, self.full = scratch, skyflok, passfile, duration, full
        self.seed, self.rnd = seed, random.Random(seed)
        self.mnt, self.begin = f'{scratch}/mnt', time.time()
        self.cap = (128 if full else 64) << 20
        self.log = open(f'{scratch}/journal', 'a', buffering=1)
        self.w = soak_work.World(self.mnt, scratch, BOUND, self.say)
        self.places = None
        self.pid, self.mounts, self.kills = None, 0, 0
        self.workers, self.running = [], []
        self.harmed = {}  # place: (fault, since, requests then)
        self.watch = threading.Lock()  # held while the mount comes or goes
        self.last, self.hold, self.ended = None, False, False
        self.named, self.unnamed = set(), {}
        self.usage, self.levels, self.peaks = {}, {}, {'rss': 0, 'threads': 0, 'fds': 0, 'local': 0.0, 'status': 0.0}
        self.calms, self.campaigns, self.rates = [], 0, {}

    def say(self, text):
        self.log.write(f'{time.time() - self.begin:7.2f} {text}\n')

    # --- the drive ---

    def run(self, *args, limit=120, ok=(0,)):
        r = subprocess.run([self.skyflok, *args], capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)
        if r.returncode not in ok:
            raise SystemExit(f'skyflok {args[0]} ended with {r.returncode}: {r.stdout}{r.stderr}')
        return r

    def create(self):
        self.run('create', 't', '--data', str(K), '--parity', str(M), '--passfile', self.passfile, '--kdf-memory', '8M', '--credentials',
                 self.places.credentials, *(p.url for p in self.places.list))

    def mount(self, *more):
        begin = time.time()
        self.run('mount', 't', self.mnt, '-o', ','.join((f'passfile={self.passfile},timeout={TIMEOUT}s,cache-size={self.cap},drain=2s', *more)), '--log-file',
                 f'{self.scratch}/log', limit=90)
        self.w.killed = False
        self.pid = self.status()['pid']
        with open(f'{self.scratch}/dpid', 'w') as f:
            f.write(str(self.pid))
        self.mounts += 1
        self.say(f'mounted in {time.time() - begin:.2f} s, process {self.pid}')

    def umount(self):
        begin = time.time()
        self.run('umount', self.mnt, limit=90, ok=(0, 64))
        self.wait(60, 'the daemon ended', self.is_gone)
        self.say(f'unmounted in {time.time() - begin:.2f} s')

    def kill(self):
        self.w.killed = True
        os.kill(self.pid, signal.SIGKILL)
        self.wait(30, 'the killed daemon is gone', self.is_gone)
        self.say('killed')

    def is_gone(self):
        """Also the last thread; a zombie is gone."""
        try:
            for t in os.listdir(f'/proc/{self.pid}/task'):
                with open(f'/proc/{self.pid}/task/{t}/status') as f:
                    if not any(line.startswith('State:') and line.split()[1] in 'ZX' for line in f):
                        return False
        except (FileNotFoundError, ProcessLookupError):
            pass
        with open(f'{self.scratch}/dpid', 'w'):
            return True

    def status(self):
        return json.loads(self.run('status', self.mnt, '--json', limit=60).stdout)

    def wait(self, seconds, what, fn):
        end = time.time() + seconds
        while not fn():
            if time.time() > end:
                raise SystemExit(f'not within {seconds} s: {what}')
            if self.w.problems:
                raise SystemExit('wrong')
            time.sleep(0.03)

    # --- what it costs, and what it says ---

    def monitor(self):
        while not self.ended:
            with self.watch:
                if self.pid and not self.w.killed:
                    self.look()
            for text in self.w.hanging():
                self.w.wrong(text)
            time.sleep(0.4)

    def look(self):
        try:
            begin = time.time()
            s = self.last = self.status()
            self.peaks['status'] = max(self.peaks['status'], time.time() - begin)
            begin = time.time()
            os.statvfs(self.mnt)
            os.listdir(self.mnt)
            self.peaks['local'] = max(self.peaks['local'], time.time() - begin)
            with open(f'/proc/{self.pid}/status') as f:
                text = f.read()
            fds = len(os.listdir(f'/proc/{self.pid}/fd'))
        except (OSError, SystemExit, subprocess.TimeoutExpired) as e:
            self.w.wrong(f'status or df or ls while mounted: {e}')
            return
        self.usage = {'rss': field(text, 'VmRSS') << 10, 'threads': field(text, 'Threads'), 'fds': fds}
        for key, value in self.usage.items():
            self.peaks[key] = max(self.peaks[key], value)
        if self.usage['rss'] > RSS_MAX:
            self.w.wrong(f'the daemon takes {self.usage["rss"] >> 20} MB')
        waiting = s['bytes']['held'] + s['bytes']['dirty']
        if waiting > self.cap * .85:
            self.w.full = time.time()
        if not self.hold and waiting < self.cap * .5:
            self.w.go.set()
        elif self.hold or waiting > self.cap * .6:
            self.w.go.clear()
        for i, (fault, _, _) in list(self.harmed.items()):
            if s['backends'][i]['state'] in fault.state | {'corrupt'}:  # which lasts, with the newest reason beside it
                self.named.add((i, fault.name))

    def requests(self, i):
        r = self.last['backends'][i]['requests']
        return sum(r[op]['count'] for op in ('put', 'get', 'head', 'delete', 'list')), sum(r[op]['errors'] for op in ('put', 'get', 'head', 'delete', 'list'))

    # --- harm ---

    def put_on(self, i, fault):
        p = self.places.list[i]
        self.lift(i)
        self.named.discard((i, fault.name))
        self.say(f'{p.name}: {fault.name}')
        p.put_on(fault, self.rnd)
        self.harmed[i] = fault, self.mounts, self.requests(i)

    def lift(self, i):
        p = self.places.list[i]
        if i not in self.harmed:
            return
        fault, mounts, before = self.harmed.pop(i)
        if fault.state and mounts == self.mounts and (i, fault.name) not in self.named:
            self.was_named(p, fault, before)
        p.lift()
        self.say(f'{p.name}: {fault.name} lifted')

    def was_named(self, p, fault, before):
        """The drive got errors from there and its status never said so? Some it may repeat for a while before it calls a place down."""
        enough = 1 if fault.state & {'absent', 'denied', 'full'} else 4
        with self.watch:
            self.look()
        if self.last['backends'][p.index]['state'] not in ('ok', 'slow'):
            return  # still by the name of the fault before
        errors = self.requests(p.index)[1] - before[1]
        if errors >= enough:
            self.w.wrong(f'{p.name} had {errors} errors by "{fault.name}" and status calls it {self.last["backends"][p.index]["state"]}')
        else:
            self.unnamed[fault.name] = self.unnamed.get(fault.name, 0) + 1

    def pause(self, seconds):
        end = time.time() + seconds
        while time.time() < end:
            if self.w.problems:
                raise SystemExit('wrong')
            time.sleep(0.1)

    def campaign(self):
        self.campaigns += 1
        places = self.rnd.sample(range(N), self.rnd.choice((1, 2, 2)))
        for _ in range(self.rnd.choice((2, 3, 4))):
            for i in self.rnd.sample(places, self.rnd.randrange(1, len(places) + 1)):
                self.put_on(i, self.rnd.choice(self.places.list[i].faults))
            self.pause(self.rnd.uniform(1.5, 4))
            self.remount_if_due()

    def blackout(self):
        places = self.rnd.sample(range(N), self.rnd.choice((M + 1, M + 2, N, N)))
        self.say(f'blackout of {len(places)}')
        self.w.outages.append([time.time(), None])
        for i in places:
            p = self.places.list[i]
            self.put_on(i, self.rnd.choice([f for f in p.faults if f.outage]))
        self.pause(self.rnd.uniform(3, 8))

    def is_calm(self):
        s = self.last
        seg = s['segments']
        return (all(b['state'] in GOOD for b in s['backends']) and not seg['below_n'] and
                not (seg['open'] + seg['closed'] + seg['uploading']) and not s['bytes']['dirty'])

    def calm(self, limit=150):
        """Lifts everything; the drive disperses it all again, by itself or asked to."""
        for i in list(self.harmed):
            self.lift(i)
        begin, self.hold = time.time(), True
        self.w.go.clear()
        if self.rnd.random() < .5:
            self.run('sync', self.mnt, '--timeout', '20s', ok=(0, 64))
        with self.watch:
            self.look()
        before, at = {i: self.requests(i)[0] for i in range(N)}, time.time()
        while not self.is_calm():
            if time.time() - begin > limit:
                raise SystemExit(f'not dispersed {limit} s after all places were back: {json.dumps(self.last["segments"])} '
                                 f'{[b["state"] for b in self.last["backends"]]}')
            self.pause(0.5)
            with self.watch:
                self.look()
            now = {i: self.requests(i)[0] for i in range(N)}
            for i in range(N):
                rate = (now[i] - before[i]) / (time.time() - at)
                self.rates[i] = max(self.rates.get(i, 0), rate)
            before, at = now, time.time()
        self.calms.append(time.time() - begin)
        self.levels.setdefault(self.mounts, []).append(dict(self.usage))
        self.say(f'calm after {self.calms[-1]:.1f} s, {self.usage}')
        self.hold = False
        if self.w.outages and self.w.outages[-1][1] is None:
            self.w.outages[-1][1] = time.time()

    # --- work ---

    def make_work(self):
        w, s = self.w, self.seed
        self.archive = soak_work.Archive(w, s, 40 if self.full else 20, 4 << 20)
        self.workers = [self.archive, soak_work.Model(w, 'model-a', s + 1, rate=5), soak_work.Model(w, 'model-b', s + 2, files=120, size=1 << 16, rate=15),
                        soak_work.Fio(w, 'fio', s + 3), soak_work.Git(w, 'git', s + 4), soak_work.Sqlite(w, 'sqlite', s + 5)]

    def start_work(self):
        self.w.stop.clear()
        if self.running:
            self.workers = [x.restarted() for x in self.workers]
        self.running = self.workers
        for x in self.running:
            x.start()

    def stop_work(self):
        self.w.stop.set()
        self.w.go.set()
        for x in self.running:
            x.join(soak_work.COMMAND_LIMIT + 60)
            if x.is_alive():
                raise SystemExit(f'{x.name} does not end: {self.w.hanging()}')

    def remount_if_due(self):
        if not self.due or time.time() - self.begin < self.due[0][0]:
            return
        _, how = self.due.pop(0)
        with self.watch:
            self.hold = False
            if how == 'kill':
                self.kill()
            self.stop_work()
            if how == 'umount':
                self.umount()
            self.mount()
        if how == 'kill':
            self.kills += 1
            for x in self.workers:
                x.after_kill()
        self.start_work()

    # --- the end ---

    def verify_all(self, what):
        begin = time.time()
        self.w.stop.clear()
        threads = [threading.Thread(target=x.verify) for x in self.workers]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.say(f'verified {what} in {time.time() - begin:.1f} s')
        if self.w.problems:
            raise SystemExit('wrong')

    def wipe_cache(self):
        for folder, _, names in os.walk(os.environ['SKYFLOK_HOME']):
            if 'cache' in folder:
                for n in names:
                    os.unlink(os.path.join(folder, n))

    def without(self, away):
        """Everything from the others only, the cache wiped."""
        with self.watch:
            self.umount()
            self.wipe_cache()
            for i in away:
                p = self.places.list[i]
                p.put_on([f for f in p.faults if f.name in ('moved away', 'reset')][0], self.rnd)
            self.mount()
        self.verify_all(f'without {[self.places.list[i].name for i in away]}' if away else 'from the places only')
        for i in away:
            self.places.list[i].lift()

    def finish(self):
        self.stop_work()
        self.calm()
        self.without([])
        pairs = [(i, j) for i in range(N) for j in range(i)]
        for pair in self.rnd.sample(pairs, len(pairs) if self.full else 1):
            self.without(pair)
        with self.watch:
            self.umount()
            self.pid = None
        self.ended = True

    def level(self):
        """Threads and descriptors of one daemon do not grow from calm to calm."""
        for mounts, seen in self.levels.items():
            for key, slack in ('threads', 12), ('fds', 24):
                if len(seen) > 2 and seen[-1][key] > max(x[key] for x in seen[:2]) + slack:
                    self.w.wrong(f'{key} grow during mount {mounts}: {[x[key] for x in seen]}')
        with open('/proc/mounts') as f:
            if any(line.split()[1] == self.mnt for line in f):
                self.w.wrong('the mount is still there')

    def work(self):
        t = self.duration
        # The last part of a long run keeps one daemon, to see whether it grows.
        last = t * (.6 if self.full else .75)
        self.due = [(last * (i + 1) / (4 if self.full else 2), how) for i, how in enumerate(['umount', 'kill', 'kill', 'umount'] if self.full else ['umount', 'kill'])]
        self.make_work()
        self.archive.fill()
        with self.watch:
            self.look()
        threading.Thread(target=self.monitor, daemon=True).start()
        self.start_work()
        self.calm()
        black = self.rnd.randrange(1, 3)
        while time.time() - self.begin < t - 8:  # a campaign takes as long, and its end longer
            black -= 1
            if black == 0:
                self.blackout()
                black = self.rnd.randrange(2, 5)
            else:
                self.campaign()
            self.calm()
            self.remount_if_due()
        self.finish()
        self.level()

    def main(self):
        try:
            self.places = soak_places.Places(self.scratch, self.full)
            self.create()
            self.mount()
            self.work()
        except soak_places.Missing as e:
            print(f'skipped: {e}')
            return 77
        except (SystemExit, OSError, subprocess.SubprocessError) as e:
            self.w.wrong(str(e))
        finally:
            self.ended = self.w.killed = True  # what fails from here on says nothing
            self.w.stop.set()
            self.w.go.set()
            if self.places and (self.w.problems or self.pid is None):
                self.places.down()
        return self.report()

    def report(self):
        w = self.w
        for text in [x for x in w.problems if x != 'wrong'][:20]:
            print(f'WRONG: {text}')
        say = lambda text: print(f'test_soak: {text}')
        say(f'seed {self.seed}: {len(w.problems)} wrong in {time.time() - self.begin:.0f} s; {self.campaigns} campaigns, {len(w.outages)} blackouts, '
            f'{self.mounts} mounts, {self.kills} kills')
        say(f'done: {dict(sorted(w.counts.items()))}')
        say(f'slowest, s: { {k: round(v, 2) for k, v in sorted(w.slowest.items())} }; status {self.peaks["status"]:.2f}, df and ls {self.peaks["local"]:.2f}')
        say(f'at most {self.peaks["rss"] >> 20} MB, {self.peaks["threads"]} threads, {self.peaks["fds"]} descriptors; all dispersed after '
            f'{[round(x) for x in self.calms]} s; requests/s while healing at most {max(self.rates.values(), default=0):.0f}')
        if self.unnamed:
            say(f'faults that met too few requests to be named: {self.unnamed}')
        return 1 if w.problems else 0


def on_signal(*_):
    raise SystemExit('interrupted')


def catch_signals():
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


if __name__ == '__main__':
    catch_signals()
    a = sys.argv
    sys.exit(Soak(a[1], a[2], a[3], float(a[4]), int(a[5]), len(a) > 6 and a[6] == 'full').main())
