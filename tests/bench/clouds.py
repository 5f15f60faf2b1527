"""Shared by the benchmarks over clouds: S3 places on loopback behind a way with a delay, drives over them, and what peers need.

One VersityGW serves all places, one bucket each; delay_proxy gives each a port, and a way, of its own."""
import hashlib, hmac, http.client, json, os, random, shutil, signal, socket, subprocess, sys, tempfile, threading, time, urllib.parse
import datetime

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
BUCKETS = ["place0", "place1", "place2", "place3", "place4", "place5"]


def note(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)


def run(*cmd, **kw):
    return subprocess.run(cmd, check=True, **kw)


def free_ports(n):
    """n free ports below the range that outgoing connections take theirs from."""
    while True:
        first, taken = random.randrange(20000, 32000), []
        try:
            for p in range(first, first + n):
                s = socket.socket()
                taken.append(s)
                s.bind(("127.0.0.1", p))
            return list(range(first, first + n))
        except OSError:
            continue
        finally:
            for s in taken:
                s.close()


def drop_caches():
    os.sync()
    if os.geteuid() == 0:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")


def wait_until(what, fn, limit, step=0.01):
    end = time.monotonic() + limit
    while not fn():
        if time.monotonic() > end:
            raise SystemExit(f"{os.path.basename(sys.argv[0])}: not within {limit} s: {what}")
        time.sleep(step)


class Scratch:
    """A folder, and everything in it that has to be stopped, in reverse order."""

    def __init__(self, args, prefix):
        self.dir = tempfile.mkdtemp(prefix=prefix, dir=args.work)
        self.stops = []

    def __enter__(self):
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, self.interrupted)
        return self

    def interrupted(self, *_):
        raise SystemExit("interrupted")

    def __exit__(self, *_):
        for stop in reversed(self.stops):
            try:
                stop()
            except Exception as e:  # what follows has to be stopped all the same
                note(f"while stopping: {e}")
        left = [m.split()[1] for m in open("/proc/mounts") if m.split()[1].startswith(self.dir + "/")]
        for m in left:
            note(f"still mounted: {m}")
            subprocess.run(["umount", "-l", m], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


class Places:
    def __init__(self, scratch, build, rtt_ms, more=()):
        self.dir = os.path.join(scratch.dir, "gw")
        self.server = os.path.join(HERE, "../servers/versitygw")
        self.rtt = rtt_ms
        gw, *self.ports = free_ports(1 + len(BUCKETS))
        up = subprocess.run([self.server, "up", self.dir, str(gw)], stderr=subprocess.PIPE, text=True)
        if up.returncode:
            raise SystemExit(up.stderr)
        scratch.stops.append(lambda: run(self.server, "down", self.dir))
        self.direct = gw
        for name in [*BUCKETS, *more]:
            os.mkdir(os.path.join(self.dir, "data", name))
        self.proxy = subprocess.Popen([os.path.join(build, "tests/delay_proxy"), str(rtt_ms / 2), *(f"{p}={gw}" for p in self.ports)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        scratch.stops.append(self.stop_proxy)
        if self.proxy.stdout.readline() != "ready\n":
            raise SystemExit("delay_proxy does not start")

    def stop_proxy(self):
        self.proxy.stdin.close()
        self.proxy.wait(10)

    def delay(self, i, factor=1):
        """From now on place i is so many times as far away."""
        self.proxy.stdin.write(f"delay {i} {self.rtt / 2 * factor}\n")
        self.proxy.stdin.flush()
        if self.proxy.stdout.readline() != "ok\n":
            raise SystemExit("delay_proxy does not answer")

    def urls(self):
        return [f"s3://{b}?endpoint=http://127.0.0.1:{p}&provider=p{i}" for i, (b, p) in enumerate(zip(BUCKETS, self.ports))]

    def objects(self, bucket):
        """How many there are, by the server's disk (its own folders left out)."""
        n = 0
        for root, dirs, files in os.walk(os.path.join(self.dir, "data", bucket)):
            dirs[:] = [d for d in dirs if not d.startswith(".sgwtmp")]
            n += len(files)
        return n

    def log_mark(self):
        return os.path.getsize(os.path.join(self.dir, "access.log"))

    def puts(self, since, want=lambda bucket, key: True):
        """By the server's own log: {bucket: PUTs of data, parts of multipart uploads included}."""
        count = {}
        with open(os.path.join(self.dir, "access.log")) as f:
            f.seek(since)
            for line in f:
                w = line.split()
                if len(w) > 8 and w[7] in ("s3_PutObject", "s3_UploadPart", "s3_UploadPartCopy", "s3_CopyObject") and want(w[1], w[8]):
                    count[w[1]] = count.get(w[1], 0) + 1
        return count


class Drive:
    """A drive of 4 + 2 over the six places."""

    def __init__(self, scratch, build, places, options=()):
        self.exe = os.path.join(build, "fs/cmd/skyflok")
        self.base = os.path.join(scratch.dir, "skyflok")
        self.dir = os.path.join(self.base, "mnt")
        os.makedirs(self.dir)
        self.env = dict(os.environ, SKYFLOK_HOME=os.path.join(self.base, "home"), AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="SK")
        for v in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            self.env.pop(v, None)
        self.pw = os.path.join(self.base, "pw")
        with open(os.open(self.pw, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write("bench\n")
        self.options = ["passfile=" + self.pw, "cache-size=8G", *options]
        self.mounted = False
        run(self.exe, "create", "bench", "--data", "4", "--parity", "2", "--kdf-memory", "8M", "--passfile", self.pw, *places.urls(),
            env=self.env, stdout=subprocess.DEVNULL)
        scratch.stops.append(self.umount)

    def mount(self):
        run(self.exe, "mount", "bench", self.dir, "-o", ",".join(self.options), "--log-file", os.path.join(self.base, "log"), env=self.env)
        self.mounted = True

    def umount(self):
        if self.mounted:
            self.mounted = False
            run(self.exe, "umount", self.dir, env=self.env, stdout=subprocess.DEVNULL)

    def sync(self):
        out = run(self.exe, "sync", self.dir, env=self.env, stdout=subprocess.PIPE, text=True).stdout
        if "on all backends" not in out:
            raise SystemExit(f"skyflok sync: {out}")

    def status(self):
        return json.loads(subprocess.check_output([self.exe, "status", self.dir, "--json"], env=self.env))

    def cold(self):
        """Mounted anew, with nothing in its own cache nor in the kernel's."""
        self.umount()
        for root, _, files in os.walk(os.path.join(self.base, "home")):
            if "/cache" in root:
                for f in files:
                    os.unlink(os.path.join(root, f))
        drop_caches()
        self.mount()


class Raw:
    """A plain parallel client, without any filesystem: what the servers take and give."""

    def __init__(self, places, connections=24):
        self.places, self.n = places, connections

    @staticmethod
    def sign(method, host, path):
        now = datetime.datetime.now(datetime.timezone.utc)
        date, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        signed = "host;x-amz-content-sha256;x-amz-date"
        text = f"{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{date}\n\n{signed}\nUNSIGNED-PAYLOAD"
        scope = f"{day}/us-east-1/s3/aws4_request"
        key = b"AWS4SK"
        for part in (day, "us-east-1", "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(text.encode()).hexdigest()}"
        return {"x-amz-date": date, "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
                "Authorization": f"AWS4-HMAC-SHA256 Credential=AK/{scope},SignedHeaders={signed},Signature={hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"}

    def all(self, method, jobs):
        """jobs: (place, path, body or size). In parallel, each connection kept; returns the seconds that all took."""
        todo, lock, problems = list(reversed(jobs)), threading.Lock(), []

        def work(w):
            conns, room = {}, bytearray(MIB)
            try:
                while True:
                    with lock:
                        # Each connection stays with its place as long as that has work.
                        i = next((i for i in range(len(todo) - 1, -1, -1) if todo[i][0] == w % len(BUCKETS)), len(todo) - 1)
                        if i < 0 or problems:
                            return
                        place, path, what = todo.pop(i)
                    c = conns.setdefault(place, http.client.HTTPConnection("127.0.0.1", self.places.ports[place], timeout=60))
                    body = what if method == "PUT" else None
                    c.request(method, path, body=body, headers=self.sign(method, f"127.0.0.1:{self.places.ports[place]}", path))
                    r = c.getresponse()
                    got = 0
                    while n := r.readinto(room):
                        got += n
                    if r.status != 200 or (method == "GET" and got != what):
                        raise RuntimeError(f"{method} {path}: {r.status}, {got} bytes")
            except Exception as e:
                problems.append(e)

        t = time.monotonic()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(self.n)]
        for th in threads:
            th.start()
        for th in threads:
            th.join()
        if problems:
            raise SystemExit(f"the plain client: {problems[0]}")
        return time.monotonic() - t
