"""Looks into a drive that is not mounted: do the database, the staging files and the objects of the backends agree? crash_fsck.py STATE_DIR CACHE_DIR BACKEND..."""
import os, shutil, sqlite3, sys, tempfile

RULES = [
    ("a name without a node", "SELECT name.ino FROM name LEFT JOIN node USING(ino) WHERE node.ino IS NULL"),
    ("a name in a folder that is none", "SELECT name.parent FROM name LEFT JOIN node ON node.ino=name.parent WHERE node.ino IS NULL OR node.mode & 61440 != 16384"),
    ("a name of another type than its node", "SELECT name.ino FROM name JOIN node USING(ino) WHERE node.mode & 61440 != name.type"),
    ("a link count that is not the number of names",
     "SELECT ino, nlink FROM node WHERE mode & 61440 != 16384 AND nlink != (SELECT count(*) FROM name WHERE name.ino=node.ino)"),
    ("a folder's link count that is not 2 + folders in it",
     "SELECT ino, nlink FROM node WHERE mode & 61440 = 16384 AND nlink != 0 AND nlink != 2 + (SELECT count(*) FROM name WHERE parent=node.ino AND type=16384)"),
    ("a folder with more names than one, or none", "SELECT ino FROM node WHERE mode & 61440 = 16384 AND ino != 1 AND nlink != 0 AND (SELECT count(*) FROM name WHERE name.ino=node.ino) != 1"),
    ("a removed folder with names in it", "SELECT ino FROM node WHERE nlink = 0 AND ino IN (SELECT parent FROM name)"),
    ("a folder with a wrong parent", "SELECT node.ino FROM node JOIN name USING(ino) WHERE mode & 61440 = 16384 AND nlink != 0 AND node.parent != name.parent"),
    ("a run without a node", "SELECT run.ino FROM run LEFT JOIN node USING(ino) WHERE node.ino IS NULL"),
    ("a run behind the end", "SELECT ino, off, len, size FROM run JOIN node USING(ino) WHERE nlink != 0 AND off + len > size"),
    ("runs that overlap", "SELECT ino, off FROM (SELECT ino, off, len, lead(off) OVER (PARTITION BY ino ORDER BY off) AS next FROM run) WHERE next < off + len"),
    ("a node whose bytes are not its runs'", "SELECT ino, bytes FROM node WHERE bytes != coalesce((SELECT sum(len) FROM run WHERE run.ino=node.ino), 0)"),
    ("a run in a segment that is not there", "SELECT run.ino, run.seg, state FROM run LEFT JOIN segment ON num=seg WHERE num IS NULL OR state > 4"),
    ("a segment whose live bytes are not its runs'", "SELECT num, live FROM segment WHERE live != coalesce((SELECT sum(len) FROM run WHERE seg=num), 0)"),
    ("a sum of bytes", "SELECT bytes FROM sums WHERE bytes != (SELECT coalesce(sum(bytes), 0) FROM node)"),
    ("a sum of nodes", "SELECT inodes FROM sums WHERE inodes != (SELECT count(*) FROM node)"),
    ("an attribute of nothing", "SELECT xattr.ino FROM xattr LEFT JOIN node USING(ino) WHERE node.ino IS NULL"),
    ("a link's target of nothing", "SELECT link.ino FROM link LEFT JOIN node USING(ino) WHERE node.ino IS NULL"),
    ("a link without a target", "SELECT node.ino FROM node LEFT JOIN link USING(ino) WHERE mode & 61440 = 40960 AND link.ino IS NULL"),
    ("a coding of nothing", "SELECT seg FROM coding LEFT JOIN segment ON num=seg WHERE num IS NULL"),
]


def database(state):
    """A copy, so that nothing of the drive changes: its log is applied to the copy."""
    with tempfile.TemporaryDirectory() as d:
        for name in ("drive.db", "drive.db-wal"):
            if os.path.exists(os.path.join(state, name)):
                shutil.copy(os.path.join(state, name), d)
        db = sqlite3.connect(os.path.join(d, "drive.db"))
        db.text_factory = bytes
        yield db
        db.close()


def rows(db, settled):
    found = []
    if db.execute("PRAGMA quick_check").fetchone()[0] != b"ok":
        found.append("the database is damaged")
    for what, sql in RULES:
        bad = db.execute(sql + " LIMIT 4").fetchall()
        if bad:
            found.append(f"{what}: {bad}")
    orphans = db.execute("SELECT count(*) FROM node WHERE nlink=0").fetchone()[0]
    if settled and orphans:
        found.append(f"{orphans} nodes without a name were left behind")
    return found


def size(path):
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def files(db, state, cache, backends):
    """Every segment that a row names is here, or on k backends; and what is said to be on a backend is there (I2, I4, I6)."""
    found = []
    there = [os.path.exists(os.path.join(b, "s")) or os.path.exists(os.path.join(b, "h")) for b in backends]
    for num, id_, k, seg_state, length, live in db.execute("SELECT num, id, code_k, state, length, live FROM segment WHERE state < 5").fetchall():
        name = id_.hex() + ".seg"
        staged, cached = size(f"{state}/staging/{name}"), size(f"{cache}/{name}")
        good = 0
        for set_id, present, suspect in db.execute("SELECT coding.set_id, present, suspect FROM coding JOIN shard USING(set_id) WHERE seg=?", (num,)):
            key, n = set_id.hex(), 0
            for i, b in enumerate(backends):
                if (present & ~suspect) >> i & 1:
                    here = not there[i] or os.path.exists(f"{b}/s/{key[:2]}/{key}.{i}")
                    n += here
                    if not here:
                        found.append(f"segment {num}: shard {i} is said to be on its backend and is not")
            good = max(good, n)
        if staged is not None and seg_state > 1 and staged < length:
            found.append(f"segment {num}: its staging file has {staged} of {length} bytes")
        if live and staged is None and cached is None and good < k:
            found.append(f"segment {num} of state {seg_state} is needed, and neither here nor on {k} backends (but on {good})")
        if seg_state == 4 and good < k:
            found.append(f"segment {num} is called stored with {good} shards")
    return found


def check(state, cache, backends, settled=False):
    """What is wrong, as sentences. settled: after a clean unmount, when nothing half done may be left."""
    for db in database(state):
        return rows(db, settled) + files(db, state, cache, backends)


def not_uploaded(state):
    """(segments that no quorum has, how many of these have begun to be uploaded)."""
    for db in database(state):
        return (db.execute("SELECT count(*) FROM segment WHERE state < 4 AND live > 0").fetchone()[0],
                db.execute("SELECT count(*) FROM segment WHERE state = 3 AND live > 0").fetchone()[0])


def unhealed(state, backends):
    """Segments that are needed and not on all backends."""
    found = []
    for db in database(state):
        for num, k in db.execute("SELECT num, code_k FROM segment WHERE state < 5 AND live > 0").fetchall():
            sets = db.execute("SELECT coding.set_id, present & ~suspect FROM coding JOIN shard USING(set_id) WHERE seg=?", (num,)).fetchall()
            if not any(present == (1 << len(backends)) - 1 and all(os.path.exists(f"{b}/s/{s.hex()[:2]}/{s.hex()}.{i}") for i, b in enumerate(backends)) for s, present in sets):
                found.append(num)
    return found


if __name__ == "__main__":
    problems = check(sys.argv[1], sys.argv[2], sys.argv[3:])
    print("\n".join(problems) or "no damage found")
    sys.exit(bool(problems))
