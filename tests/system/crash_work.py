#!/usr/bin/env python3
"""Writes until the mount dies; says on the (outside) journal what was acknowledged. Lines: S name version = fsync of name done; every file is 'name:version|' repeated."""
import os, random, sys
mnt, journal, seed = sys.argv[1], open(sys.argv[2], "a", buffering=1), int(sys.argv[3])
rnd = random.Random(seed); v = int(sys.argv[4]) * 1000000
def body(name, ver, n): return (b"%s:%d|" % (name.encode(), ver)) * n
try:
    while True:
        v += 1
        name = "f%d" % rnd.randrange(12)
        path = os.path.join(mnt, name); n = rnd.choice((1, 50, 3000, 40000))
        kind = rnd.random()
        journal.write("%s %s %d %d\n" % ("R" if .7 <= kind < .8 else "T", name, v, n)) # tried: removing, or writing
        if kind < .7: # save by rename, with or without fsync
            with open(path + ".tmp", "wb", buffering=0) as f:
                f.write(body(name, v, n))
                if kind < .35: os.fsync(f)
            os.rename(path + ".tmp", path)
            if kind < .35:
                d = os.open(mnt, os.O_RDONLY); os.fsync(d); os.close(d)
                journal.write("S %s %d\n" % (name, v))
        elif kind < .8: # remove durably
            if os.path.exists(path): os.unlink(path)
            d = os.open(mnt, os.O_RDONLY); os.fsync(d); os.close(d)
            journal.write("S %s 0\n" % name)
        else: # grows another kind of file, record by record, each fsynced
            with open(os.path.join(mnt, "log"), "ab", buffering=0) as f:
                f.write(b"%020d\n" % v); os.fsync(f)
            journal.write("L %d\n" % v)
except OSError:
    pass
