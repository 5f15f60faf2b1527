"""Six places for a drive, each with the faults that it can have: folders (two of them on a small disk of their own where that is allowed), and
real servers behind the fault proxy. A fault is put on, and lifted; what it destroyed is put back by hand, for the soak is about what a
drive survives: n - k backends' data, not more."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.realpath(__file__))
SERVERS = os.path.join(HERE, '../servers')
PROXY = os.path.join(HERE, '../tools/fault_proxy.py')
AZURE_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='  # Azurite's, published
COUNT = dict(do=None, times=0)  # lets everything through and counts it


class Missing(Exception):
    """A server that cannot be had here."""


def free_port(n=1):
    """The first of n in a row."""
    while True:
        held = []
        try:
            with socket.socket() as s:
                s.bind(('127.0.0.1', 0))
                port = s.getsockname()[1]
            for i in range(n):
                held.append(socket.socket())
                held[-1].bind(('127.0.0.1', port + i))
            return port
        except (OSError, OverflowError):
            continue
        finally:
            for s in held:
                s.close()


def wait_port(port):
    end = time.time() + 30
    while time.time() < end:
        with socket.socket() as s:
            if not s.connect_ex(('127.0.0.1', port)):
                return
        time.sleep(0.05)
    raise SystemExit(f'nothing listens on {port}')


class Fault:
    """data: bytes are destroyed (and put back when lifted); reads: it cannot be read from; state: the words of `status` for it."""

    def __init__(self, name, state, reads=True, data=False, outage=False, rule=None):
        self.name, self.state, self.reads, self.data, self.outage, self.rule = name, state, reads, data, outage, rule


# outage: good for a blackout, in which nothing of the place can be had.
FOLDER_FAULTS = [
    Fault('moved away', {'absent'}, outage=True),
    Fault('replaced by a file', {'absent', 'down', 'denied'}, outage=True),
    Fault('emptied', set(), data=True),
    Fault('bytes flipped', set(), data=True),
]
DISK_FAULTS = [
    Fault('disk full', {'full'}, reads=False),
    Fault('disk read-only', {'denied'}, reads=False),
]
PROXY_FAULTS = [
    Fault('hang', set(), outage=True, rule=dict(do='hang')),
    Fault('500', {'down'}, outage=True, rule=dict(do='status', code=500)),
    Fault('503, Retry-After', {'down'}, outage=True, rule=dict(do='status', code=503, headers={'Retry-After': '1'})),
    Fault('429', {'down'}, rule=dict(do='status', code=429)),
    Fault('403', {'denied'}, outage=True, rule=dict(do='status', code=403, body='<Error><Code>AccessDenied</Code></Error>')),
    Fault('507 on puts', {'full'}, reads=False, rule=dict(do='status', code=507, method='PUT|POST')),
    Fault('reset', {'down'}, outage=True, rule=dict(do='reset', at='before')),
    Fault('cut in the request', {'down'}, rule=dict(do='reset', at='request', byte=1000)),
    Fault('slow', set(), rule=dict(do='slow', rate=20000)),
    Fault('late', set(), rule=dict(do='delay', ms=1500)),
    Fault('truncated answers', set(), rule=dict(do='truncate', byte=100, method='GET')),
    Fault('corrupt answers', set(), rule=dict(do='corrupt', byte=777, method='GET')),
    Fault('answers lost', set(), rule=dict(do='lose')),
]


class Folder:
    def __init__(self, scratch, i, disk):
        self.index, self.name = i, f'folder{i}'
        self.disk = f'{scratch}/disk{i}' if disk else None
        if disk:
            os.mkdir(self.disk)
            subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={disk},mode=700', f'skyflok-soak{i}', self.disk], check=True)
        base = self.disk or scratch
        self.path, self.aside, self.keep = f'{base}/b{i}', f'{base}/away{i}', f'{base}/kept{i}'
        self.size = disk
        os.mkdir(self.path)
        self.url = f'file://{self.path}?provider=prov{i}&location=L{i}'
        self.faults = FOLDER_FAULTS + (DISK_FAULTS if disk else [])
        self.fault, self.hurt = None, []

    def objects(self, top=None):
        for folder, _, names in os.walk(f'{top or self.path}/s'):
            for name in names:
                if not name.startswith('.') and '.tmp' not in name:
                    yield os.path.join(folder, name)

    def put_on(self, fault, rng):
        self.fault, self.hurt = fault, []
        if fault.name == 'moved away':
            os.rename(self.path, self.aside)
        elif fault.name == 'replaced by a file':
            os.rename(self.path, self.aside)
            with open(self.path, 'w') as f:
                f.write('not a folder\n')
        elif fault.name in ('emptied', 'bytes flipped'):
            self.destroy(fault.name == 'emptied', rng)
        elif fault.name == 'disk full':
            self.remount(lambda: f'size={self.used()}')
        elif fault.name == 'disk read-only':
            self.remount(lambda: 'ro')

    def used(self):
        v = os.statvfs(self.disk)
        return max((v.f_blocks - v.f_bfree) * v.f_frsize, 65536)

    def remount(self, option):
        """Refused while a shard is being written, or has grown beyond the size meanwhile."""
        end = time.time() + 20
        while subprocess.run(['mount', '-o', f'remount,{option()}', self.disk], capture_output=True).returncode:
            if time.time() > end:
                raise SystemExit(f'{self.disk} cannot be remounted with {option()}')
            time.sleep(0.02)

    def destroy(self, empty, rng):
        for path in sorted(self.objects()):
            kept = f'{self.keep}/{os.path.relpath(path, self.path)}'
            try:
                os.makedirs(os.path.dirname(kept), exist_ok=True)
                if empty:
                    os.rename(path, kept)
                else:
                    shutil.copyfile(path, kept)
                    with open(path, 'r+b') as f:  # in every part: header, MACs, bodies
                        size = os.fstat(f.fileno()).st_size
                        for _ in range(20):
                            at = rng.randrange(size)
                            f.seek(at)
                            b = f.read(1)
                            f.seek(at)
                            f.write(bytes([b[0] ^ 1 << rng.randrange(8)]))
                self.hurt.append((kept, path))
            except FileNotFoundError:
                pass  # being replaced just now

    def lift(self):
        fault, self.fault = self.fault, None
        if fault.name in ('moved away', 'replaced by a file'):
            if fault.name != 'moved away':
                os.unlink(self.path)
            os.rename(self.aside, self.path)
        elif fault.name == 'disk full':
            self.remount(lambda: f'size={self.size}')
        elif fault.name == 'disk read-only':
            self.remount(lambda: 'rw')
        for kept, path in self.hurt:
            self.restore(kept, path)
        self.hurt = []
        shutil.rmtree(self.keep, ignore_errors=True)

    @staticmethod
    def restore(kept, path):
        """The right bytes are there, whether the drive has replaced them already, is just about to, or never noticed."""
        with open(kept, 'rb') as f:
            good = f.read()
        try:
            with open(path, 'rb') as f:
                if f.read() == good:
                    return
        except FileNotFoundError:
            pass
        with open(path + '.tmp-soak', 'wb') as f:
            f.write(good)
        os.rename(path + '.tmp-soak', path)

    def healed(self):
        """All that was destroyed is back by the drive's own doing."""
        return all(os.path.exists(path) for _, path in self.hurt)

    def fired(self):
        return None

    def down(self):
        if self.fault:
            self.lift()


class Proxied:
    def __init__(self, i, name, port, url, env):
        self.index, self.name, self.port = i, name, free_port()
        self.child = subprocess.Popen([sys.executable, PROXY, str(self.port), str(port)], env=env)
        wait_port(self.port)
        self.url = url.format(self.port) + f'provider=prov{i}&location=L{i}'
        self.faults, self.fault = PROXY_FAULTS, None
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.rules(COUNT)

    def rules(self, *rules):
        body = json.dumps(rules).encode()
        self.opener.open(urllib.request.Request(f'http://127.0.0.1:{self.port}/__rules', data=body, method='PUT'), timeout=20).read()

    def fired(self):
        """How often the first rule acted."""
        return json.load(self.opener.open(f'http://127.0.0.1:{self.port}/__rules', timeout=20))[0].get('fired', 0)

    def put_on(self, fault, rng):
        self.fault = fault
        self.rules(dict(fault.rule, times=0), COUNT)

    def lift(self):
        self.fault = None
        self.rules(COUNT)

    def healed(self):
        return True

    def down(self):
        self.child.kill()
        self.child.wait()


class Places:
    """full: every kind of server; else four folders and two places on one."""

    def __init__(self, scratch, full):
        self.scratch, self.running, self.list = scratch, [], []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(('AWS_', 'AZURE_', 'GOOGLE_', 'STORAGE_')) and 'proxy' not in k.lower()}
        self.env.setdefault('SKYFLOK_TEST_CACHE', os.path.expanduser('~/.cache/skyflok-tests'))
        disk = '400m' if os.geteuid() == 0 else None
        if full:
            moto, rgw, azurite, gcs = self.up('moto'), self.up('rgw', 3), self.up('azurite'), self.up('fakegcs')
            self.bucket('s3', f'http://127.0.0.1:{moto}', 'one')
            self.bucket('s3', f'http://127.0.0.1:{rgw}', 'two')
            self.bucket('azure', f'http://127.0.0.1:{azurite}/devstoreaccount1', 'three')
            self.bucket('gcs', f'http://127.0.0.1:{gcs}', 'four')
            self.list = [Folder(scratch, 0, disk), Folder(scratch, 1, None),
                         self.proxied(2, 'moto', moto, 's3://one/p?endpoint=http://127.0.0.1:{0}&credentials=any&'),
                         self.proxied(3, 'rgw', rgw, 's3://two?endpoint=http://127.0.0.1:{0}&credentials=any&'),
                         self.proxied(4, 'azurite', azurite, 'azure://devstoreaccount1/three/p?endpoint=http://127.0.0.1:{0}&credentials=az&'),
                         self.proxied(5, 'fakegcs', gcs, 'gs://four?endpoint=http://127.0.0.1:{0}&credentials=none&')]
        else:
            moto = self.up('moto')
            for b in 'one', 'two':
                self.bucket('s3', f'http://127.0.0.1:{moto}', b)
            self.list = [Folder(scratch, i, disk if i < 2 else None) for i in range(4)]
            self.list += [self.proxied(4 + i, b, moto, f's3://{b}/p?endpoint=http://127.0.0.1:{{0}}&credentials=any&') for i, b in enumerate(('one', 'two'))]
        self.credentials = f'{scratch}/clouds.ini'
        with os.fdopen(os.open(self.credentials, os.O_WRONLY | os.O_CREAT, 0o600), 'w') as f:
            f.write(f'[any]\naccess_key_id = AK\nsecret_access_key = SK\n[az]\naccount_key = {AZURE_KEY}\n')

    def up(self, name, ports=1):
        port, folder = free_port(ports), f'{self.scratch}/servers/{name}'
        self.running.append((name, folder))
        rc = subprocess.run([f'{SERVERS}/{name}', 'up', folder, str(port)], env=self.env).returncode
        if rc == 77:
            raise Missing(f'{name} cannot be had here')
        if rc:
            raise SystemExit(f'{name} does not start')
        return port

    def bucket(self, kind, endpoint, name):
        subprocess.run([f'{SERVERS}/bucket', kind, endpoint, name], check=True, env=self.env)

    def proxied(self, i, name, port, url):
        return Proxied(i, name, port, url, self.env)

    def down(self):
        for p in self.list:
            try:
                p.down()
            except OSError as e:
                print(f'{p.name}: {e}', file=sys.stderr)
        for name, folder in self.running:
            subprocess.run([f'{SERVERS}/{name}', 'down', folder], env=self.env)
        for p in self.list:
            if getattr(p, 'disk', None):
                subprocess.run(['umount', '-l', p.disk], check=False)
