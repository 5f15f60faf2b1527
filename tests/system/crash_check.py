#!/usr/bin/env python3
"""Compares a recovered mount with the journal of crash_work.py: crash_check.py MOUNT JOURNAL"""
import os, sys
mnt, journal = sys.argv[1:]
acked, tried, log = {}, {}, []
removing = {}  # a removal was tried after the last acknowledgement: killed before its own, it may have happened or not
for line in open(journal):
    w = line.split()
    if w[0] == "T": tried.setdefault(w[1], {})[int(w[2])] = int(w[3])
    elif w[0] == "R": removing[w[1]] = True
    elif w[0] == "S":
        acked[w[1]] = (int(w[2]), len(tried.get(w[1], {})))
        removing[w[1]] = False
    elif w[0] == "L": log.append(int(w[1]))
for name, versions in tried.items():
    path = os.path.join(mnt, name)
    last = acked.get(name, (0, 0))[0]
    if not os.path.exists(path):
        assert last == 0 or removing.get(name), f"{name}: version {last} was acknowledged and is gone"
        continue
    b = open(path, "rb").read()
    assert b, f"{name} is empty"
    ver = int(b.split(b"|")[0].split(b":")[1])
    assert b == (b"%s:%d|" % (name.encode(), ver)) * versions[ver], f"{name}: torn, zeros or other bytes in version {ver}"
    assert ver >= last, f"{name}: version {ver} is older than the acknowledged {last}"
path = os.path.join(mnt, "log")
have = [int(x) for x in open(path).read().split()] if os.path.exists(path) else []
missing = [v for v in log if v not in set(have)]
assert not missing, f"log: acknowledged records are gone: {missing[:5]}"
assert have == sorted(have)
