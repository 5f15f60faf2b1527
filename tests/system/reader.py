#!/usr/bin/python3
"""An independent reader of skyflok drives, written from coding/FORMAT.md alone; it calls none of our code.

    reader.py unlock FOLDER... --passfile F     drive, code and generation as JSON, from folders as file:// backends hold them
    reader.py restore FOLDER... --passfile F --database D --output O
                                                all files, from the shards in any k folders; only the map of files comes from the
                                                local database D (SQLite; its rows are those of FORMAT.md, "Rows")
    reader.py selftest                          the test vectors of coding/FORMAT.md

Ends with 0; 1 damaged; 2 wrong passphrase; 3 too few headers; 77 a Python module is missing.
"""

import argparse
import hashlib
import hmac
import itertools
import json
import os
import re
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile

try:
    from argon2.low_level import Type, hash_secret_raw
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError as missing:
    print("reader.py needs python3-cryptography and python3-argon2: %s" % missing, file=sys.stderr)
    sys.exit(77)

PASSPHRASE, KEYFILE, RECOVERY = 1, 2, 3


class Damaged(Exception):
    """The bytes are not what the format says, or a tag or MAC is wrong."""


class WrongSecret(Exception):
    """A vault opened and none of its slots did."""


class TooFew(Exception):
    """Fewer than k headers fit together."""


# ---- conventions ----


def hkdf(key, info, salt=b"", length=32):
    """HKDF-SHA256, RFC 5869."""
    prk = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    block, out = b"", b""
    for i in range(1, (length + 31) // 32 + 1):
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out += block
    return out[:length]


def open_sealed(key, nonce, aad, sealed):
    """AES-256-GCM; Damaged when the tag is wrong."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Damaged("a tag is wrong") from None


class Bytes:
    """A bounded reader."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def get(self, n):
        if n > len(self.data) - self.at:
            raise Damaged("ends too early")
        self.at += n
        return self.data[self.at - n : self.at]

    def num(self, n):
        return int.from_bytes(self.get(n), "big")

    def i64(self):
        return struct.unpack(">q", self.get(8))[0]

    def bytes32(self, limit):
        n = self.num(4)
        if n > limit:
            raise Damaged("a length is out of range")
        return self.get(n)

    def end(self):
        if self.at != len(self.data):
            raise Damaged("bytes left over")


def need(condition, what):
    if not condition:
        raise Damaged(what)


# ---- keys ----


class Keys:
    """What the root key and the master-key table give."""

    def __init__(self, drive, root, masters):
        self.drive, self.root, self.masters = drive, root, masters

    def data_key(self, number):
        return hkdf(self.masters[number], b"skyflok1/data" + self.drive)

    def mac_key(self, number):
        return hkdf(self.masters[number], b"skyflok1/mac" + self.drive)

    def log_key(self, number):
        return hkdf(self.masters[number], b"skyflok1/log" + self.drive)

    def segment_key(self, number, segment):
        return hkdf(self.data_key(number), b"skyflok1/segment" + segment)

    def shard_key(self, number):
        return hkdf(self.mac_key(number), b"skyflok1/shard")

    def fragment_key(self, number, set_id, segment, k, m, shard):
        info = b"skyflok1/fragment" + segment + bytes([k, m, shard])
        return hkdf(self.mac_key(number), info, set_id)


def field_tables():
    """GF(2^8) with 0x11d: exponents of the generator 2 and their logarithms."""
    exp, log, v = [0] * 255, [0] * 256, 1
    for i in range(255):
        exp[i], log[v] = v, i
        v = v << 1 ^ (0x11D if v & 0x80 else 0)
    return exp, log


def combine(shares):
    """The drive secret from {x: share}."""
    exp, log = field_tables()
    secret = bytearray(32)
    for xi, share in shares.items():
        weight = 0  # logarithm of the product
        for xj in shares:
            if xj != xi:
                weight += log[xj] - log[xi ^ xj]
        for b in range(32):
            if share[b]:
                secret[b] ^= exp[(log[share[b]] + weight) % 255]
    return bytes(secret)


def recovery_key(text):
    """The 32 bytes of a written recovery key, or None."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    chars = re.sub(r"[\s\-_.:]", "", text).upper().replace("O", "0").replace("I", "1").replace("L", "1")
    if len(chars) != 56 or any(c not in alphabet for c in chars):
        return None
    value = 0
    for c in chars:
        value = value << 5 | alphabet.index(c)
    raw = value.to_bytes(35, "big")
    good = hashlib.sha256(b"skyflok1/recovery" + raw[:32]).digest()[:3] == raw[32:]
    return raw[:32] if good else None


# ---- header objects ----


class Header:
    """The clear layout of one header object; nothing of it is trusted yet."""

    def __init__(self, data):
        r = Bytes(data)
        need(r.get(8) == b"SKYFLOKH", "not a header object")
        version, features = r.num(4), r.num(8)
        need(version == 1, "header version %d" % version)
        need(features == 0, "unknown required-feature bits 0x%x" % features)
        self.drive = r.get(16)
        self.generation = r.num(8)
        self.k, self.n = r.num(1), r.num(1)
        need(self.generation >= 1 and 2 <= self.n <= 32 and 1 <= self.k <= self.n, "k, n or generation")
        self.commitments = [r.get(32) for _ in range(self.n)]
        self.common = data[: r.at]
        self.x, self.share = r.num(1), r.get(32)
        need(self.x <= self.n or self.x == 255, "x")
        start = r.at
        self.vault = r.bytes32(8192)
        self.manifest = r.bytes32(1 << 20)
        self.sealed = data[start : r.at]
        self.mac = r.get(32)
        r.end()
        need(len(self.vault) >= 16 and len(self.manifest) >= 28, "a sealed part is too short")

    def share_matches(self):
        if not 1 <= self.x <= self.n:
            return False
        told = b"skyflok1/share" + self.drive + struct.pack(">QB", self.generation, self.x) + self.share
        return hashlib.sha256(told).digest() == self.commitments[self.x - 1]

    def authentic(self, root):
        key = hkdf(root, b"skyflok1/header-mac" + self.drive)
        return hmac.compare_digest(hmac.new(key, self.common + self.sealed, hashlib.sha256).digest(), self.mac)


def read_slots(text):
    r = Bytes(text)
    count = r.num(1)
    need(1 <= count <= 16, "number of slots")
    slots = []
    for _ in range(count):
        start = r.at
        s = {"number": r.num(4), "kind": r.num(1)}
        length = r.num(1)
        need(length <= 64, "label of a slot")
        s["label"] = r.get(length)
        s["created"] = r.i64()
        s["mem"], s["passes"], s["lanes"] = r.num(4), r.num(4), r.num(4)
        s["salt"] = r.get(32)
        s["aad"] = text[start : r.at]
        s["nonce"], s["sealed"], s["check"] = r.get(12), r.get(48), r.get(32)
        if s["kind"] == RECOVERY:
            need(s["mem"] == s["passes"] == s["lanes"] == 0, "cost of a recovery slot")
        else:
            need(s["kind"] in (PASSPHRASE, KEYFILE), "kind of a slot")
            need(1 <= s["lanes"] <= 8 and 1 <= s["passes"] <= 16, "cost of a slot")
            need(8 * s["lanes"] <= s["mem"] <= 1 << 20, "memory of a slot")
        slots.append(s)
    r.end()
    need(len({s["number"] for s in slots}) == count, "slot numbers")
    return slots


def open_slot(slot, drive, secret):
    """The root key, or None when this is not the slot's secret."""
    if slot["kind"] == RECOVERY:
        stretched = secret
    else:
        stretched = hash_secret_raw(secret, slot["salt"], time_cost=slot["passes"], memory_cost=slot["mem"],
                                    parallelism=slot["lanes"], hash_len=32, type=Type.ID, version=0x13)
    info = b"skyflok1/slot" + drive + struct.pack(">IB", slot["number"], slot["kind"])
    keys = hkdf(stretched, info, slot["salt"], 64)
    if not hmac.compare_digest(keys[32:], slot["check"]):
        return None
    return open_sealed(keys[:32], slot["nonce"], slot["aad"], slot["sealed"])


def open_manifest(header, root):
    """(master keys {number: key}, manifest as a dictionary)."""
    key = hkdf(root, b"skyflok1/manifest" + header.drive)
    r = Bytes(open_sealed(key, header.manifest[:12], header.common, header.manifest[12:]))
    t = Bytes(r.bytes32(1 << 20))
    count = t.num(4)
    need(1 <= count <= 4096, "number of master keys")
    masters, last = {}, 0
    for _ in range(count):
        number = t.num(4)
        need(number > last, "order of the master keys")
        masters[number], last = t.get(32), number
    t.end()
    mf = {"drive": r.get(16).hex(), "generation": r.num(8), "k": r.num(1), "m": r.num(1)}
    need(mf["drive"] == header.drive.hex() and mf["generation"] == header.generation, "manifest of another header")
    need(mf["k"] == header.k and mf["k"] + mf["m"] == header.n, "code in the manifest")
    mf["extent_max"], mf["compress"] = r.num(4), r.num(4)
    mf["quota"], mf["segment_size"], mf["created"] = r.num(8), r.num(8), r.i64()
    mf["label"] = r.bytes32(63).decode(errors="replace")
    need(r.num(1) == header.n, "number of backends")
    mf["backends"] = []
    for _ in range(header.n):
        url, provider, location = (r.bytes32(4096).decode(errors="replace") for _ in range(3))
        mf["backends"].append({"url": url, "provider": provider, "location": location, "uuid": r.get(16).hex()})
    r.bytes32(1 << 20)  # extensions
    r.end()
    return masters, mf


def group_vault(group):
    """The slots of the first vault that the shares of this group open. TooFew, Damaged."""
    first = group[0]
    secrets = [h.share for h in group if h.x == 0]
    shares = {h.x: h.share for h in group if h.share_matches()}
    if len(shares) >= first.k:
        secrets.append(combine(dict(list(shares.items())[: first.k])))
    if not secrets:
        raise TooFew("%d of the %d headers that generation %d needs" % (len(shares), first.k, first.generation))
    for secret in secrets:
        key = hkdf(secret, b"skyflok1/vault" + first.drive + struct.pack(">Q", first.generation))
        for h in group:
            try:
                return read_slots(open_sealed(key, bytes(12), h.common, h.vault))
            except Damaged:
                pass
    raise Damaged("no vault of generation %d opens" % first.generation)


def group_unlock(group, kind, secret):
    slots = group_vault(group)
    for slot in slots:
        if slot["kind"] != kind:
            continue
        root = open_slot(slot, group[0].drive, secret)
        if root is None:
            continue
        for h in group:
            if h.authentic(root):
                return (root,) + open_manifest(h, root)
        raise Damaged("no MAC of generation %d is right" % group[0].generation)
    raise WrongSecret("no slot of generation %d opens" % group[0].generation)


def unlock(objects, passphrase=None, keyfile=None, recovery=None):
    """From header objects (bytes) and one secret (bytes): (Keys, manifest, indexes of wrong objects)."""
    kind, secret = next((k, s) for k, s in ((PASSPHRASE, passphrase), (KEYFILE, keyfile), (RECOVERY, recovery)) if s)
    headers, liars, groups = {}, set(), {}
    for i, data in enumerate(objects):
        try:
            headers[i] = Header(data)
        except Damaged:
            liars.add(i)
            continue
        if 1 <= headers[i].x <= headers[i].n and not headers[i].share_matches():
            liars.add(i)
        groups.setdefault(headers[i].common, []).append(headers[i])
    best, failures = None, []
    for group in groups.values():
        if best and best[2]["generation"] >= group[0].generation:
            continue
        try:
            best = group_unlock(group, kind, secret)
        except (Damaged, WrongSecret, TooFew) as e:
            failures.append(e)
    if not best:
        for worst in (Damaged, WrongSecret, TooFew):
            for e in failures:
                if isinstance(e, worst):
                    raise e
        raise TooFew("no header object")
    root, masters, manifest = best
    liars |= {i for i, h in headers.items() if not h.authentic(root)}
    return Keys(bytes.fromhex(manifest["drive"]), root, masters), manifest, sorted(liars)


# ---- shards ----

EXP, LOG = field_tables()
INDEX_NUMBER = 8192
ZSTD, INDEX, VOID = 1, 2, 4


def mul(a, b):
    return EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0


def div(a, b):
    return EXP[(LOG[a] - LOG[b]) % 255] if a else 0


def coding_matrix(k, m):
    """The m rows of parity, by the four steps of FORMAT.md, "Code"."""
    n = k + m
    v = [[1] + [0] * (k - 1)]
    for r in range(1, n):
        row = [1]
        for _ in range(k - 1):
            row.append(mul(row[-1], r))
        v.append(row)
    v[n - 1] = [0] * (k - 1) + [1]
    for i in range(1, k):
        below = next(r for r in range(i, n) if v[r][i])
        v[i], v[below] = v[below], v[i]
        by = v[i][i]
        for row in v:
            row[i] = div(row[i], by)
        for c in range(k):
            factor = v[i][c]
            if c != i and factor:
                for row in v:
                    row[c] ^= mul(factor, row[i])
    for c in range(k):
        by = v[k][c] if m else 1
        for row in v[k:]:
            row[c] = div(row[c], by)
    for row in v[k + 1 :]:
        by = row[0]
        row[:] = [div(x, by) for x in row]
    return v[k:]


def inverted(matrix):
    """Gauss-Jordan in the field."""
    k = len(matrix)
    a = [list(row) + [int(i == j) for j in range(k)] for i, row in enumerate(matrix)]
    for i in range(k):
        p = next(r for r in range(i, k) if a[r][i])
        a[i], a[p] = a[p], a[i]
        by = a[i][i]
        a[i] = [div(x, by) for x in a[i]]
        for r in range(k):
            factor = a[r][i]
            if r != i and factor:
                a[r] = [x ^ mul(factor, y) for x, y in zip(a[r], a[i])]
    return [row[k:] for row in a]


def combination(row, fragments):
    """XOR over i of row[i] x fragments[i], for each byte position."""
    total = 0
    for factor, fragment in zip(row, fragments):
        if factor:
            times = bytes(mul(factor, b) for b in range(256))
            total ^= int.from_bytes(fragment.translate(times), "big")
    return total.to_bytes(len(fragments[0]), "big")


def decode(k, m, fragments):
    """The sealed bytes from {shard: fragment} of k of them."""
    numbers = sorted(fragments)[:k]
    if numbers == list(range(k)):
        return b"".join(fragments[i] for i in numbers)
    parity = coding_matrix(k, m)
    rows = [[int(i == s) for i in range(k)] if s < k else parity[s - k] for s in numbers]
    inverse, have = inverted(rows), [fragments[s] for s in numbers]
    return b"".join(fragments[i] if i in fragments else combination(inverse[i], have) for i in range(k))


def gmac(key, number, fragment):
    told = struct.pack(">II", number, len(fragment)) + fragment
    return AESGCM(key).encrypt(struct.pack(">I8x", number), b"", told)


class Extent:
    def __init__(self, number, flags, file_len, stored, random):
        self.number, self.flags, self.file_len, self.stored, self.random = number, flags, file_len, stored, random

    def sealed_len(self, k):
        return (self.stored + 16 + 16 * k - 1) // (16 * k) * (16 * k)

    def nonce(self):
        return struct.pack(">I", self.number) + self.random

    def aad(self, drive, key_number, segment, k):
        lengths = struct.pack(">IIIIB", self.number, self.file_len, self.stored, self.sealed_len(k), self.flags)
        return drive + struct.pack(">I", key_number) + segment + lengths


class Shard:
    """One shard object, its header verified."""

    def __init__(self, path, keys):
        with open(path, "rb") as f:
            head = f.read(256)
        self.path = path
        need(len(head) == 256 and head[:8] == b"SKYSHRD1", "not a shard")
        self.key_number = struct.unpack_from(">I", head, 12)[0]
        need(self.key_number in keys.masters, "key number of a shard")
        right = hmac.new(keys.shard_key(self.key_number), head[:224], hashlib.sha256).digest()
        need(hmac.compare_digest(right, head[224:]), "MAC of a shard header")
        version, features = struct.unpack_from(">HH", head, 8)
        need(version == 1, "shard version %d" % version)
        need(features == 0, "unknown required-feature bits 0x%x" % features)
        need(head[16:32] == keys.drive, "shard of another drive")
        self.segment, self.set = head[32:48], head[48:64]
        self.k, self.m, self.shard = head[64], head[65], head[66]
        need(self.k >= 1 and self.k + self.m <= 32 and self.shard < self.k + self.m, "k, m or shard")
        self.extents, self.index_at, self.index_len = struct.unpack_from(">IQI", head, 68)
        self.length = struct.unpack_from(">Q", head, 88)[0]
        self.index_random = head[96:104]
        need(self.extents <= 8192 and self.length < 1 << 30, "lengths of a shard")
        need(self.length == self.index_at + self.index_len + 16 and self.index_len % 16 == 0, "index of a shard")
        self.key = keys.fragment_key(self.key_number, self.set, self.segment, self.k, self.m, self.shard)

    def fragment(self, number, at, length):
        """None when its MAC is wrong."""
        with open(self.path, "rb") as f:
            f.seek(at)
            data = f.read(length + 16)
        if len(data) != length + 16 or not hmac.compare_digest(gmac(self.key, number, data[:-16]), data[-16:]):
            return None
        return data[:-16]


class Segment:
    """A segment, from the shards of one set id alone."""

    def __init__(self, shards, keys):
        self.shards, self.keys, self.wrong = shards, keys, set()
        first = shards[0]
        self.k, self.m = first.k, first.m
        index = Extent(INDEX_NUMBER, INDEX, first.k * first.index_len - 16, first.k * first.index_len - 16,
                       first.index_random)
        text = Bytes(self.open(index, first.index_at))
        need(text.get(4) == b"SKYI" and text.num(2) == 1, "index")
        entry, count = text.num(2), text.num(4)
        need(entry >= 33 and count == first.extents, "count of extents")
        text.get(8)
        self.extents, self.at = [], [256]
        for number in range(count):
            e = Bytes(text.get(entry))
            self.extents.append(Extent(number, e.num(1), e.num(4), e.num(4), e.get(8)))
            self.at.append(self.at[-1] + self.extents[-1].sealed_len(self.k) // self.k + 16)
        need(self.at[-1] == first.index_at, "place of the index")
        self.kept = {}

    def open(self, extent, at):
        fragments = {}
        for s in self.shards:
            data = s.fragment(extent.number, at, extent.sealed_len(self.k) // self.k)
            if data is None:
                self.wrong.add(s.path)
            else:
                fragments[s.shard] = data
            if len(fragments) == self.k:
                break
        need(len(fragments) >= self.k, "fewer than k good fragments of extent %d" % extent.number)
        key_number, segment = self.shards[0].key_number, self.shards[0].segment
        aad = extent.aad(self.keys.drive, key_number, segment, self.k)
        key = self.keys.segment_key(key_number, segment)
        text = open_sealed(key, extent.nonce(), aad, decode(self.k, self.m, fragments))
        need(not any(text[extent.stored :]), "padding")
        return text[: extent.stored]

    def content(self, number):
        """The file bytes of a data extent."""
        if number not in self.kept:
            extent = self.extents[number]
            need(not extent.flags & VOID, "void extent")
            text = self.open(extent, self.at[number])
            if extent.flags & ZSTD:
                text = subprocess.run(["zstd", "-dcq"], input=text, stdout=subprocess.PIPE, check=True).stdout
            need(len(text) == extent.file_len, "length of an extent")
            self.kept = {number: text, **dict(list(self.kept.items())[:64])}
        return self.kept[number]

    def run(self, first, skip, length):
        """length bytes of the concatenated extents first, first + 1, ... from skip on."""
        while length:
            need(first < len(self.extents), "run beyond its segment")
            size = self.extents[first].file_len
            if skip < size:
                part = self.content(first)[skip : skip + length]
                yield part
                length -= len(part)
                skip = size
            skip -= size
            first += 1


def find_shards(folders, keys):
    """{segment id: [Shard, ...] of one set id with at least k shards}, and paths of files that are no shards."""
    sets, wrong = {}, []
    for folder in folders:
        for top, _, names in os.walk(os.path.join(folder, "s")):
            for name in sorted(names):
                try:
                    shard = Shard(os.path.join(top, name), keys)
                    need(name == "%s.%d" % (shard.set.hex(), shard.shard), "name of a shard")
                except Damaged:
                    wrong.append(os.path.join(top, name))
                    continue
                sets.setdefault((shard.segment, shard.set), []).append(shard)
    found = {}
    for (segment, _), shards in sets.items():
        if len(shards) >= shards[0].k:
            found[segment] = sorted(shards, key=lambda s: s.shard)
    return found, wrong


# ---- files ----


class Tree:
    """The map of files, from the database."""

    def __init__(self, path, shards, keys):
        self.db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
        self.db.text_factory = bytes
        self.ids = {num: bytes(i) for num, i in self.db.execute("SELECT num, id FROM segment")}
        self.shards, self.keys = shards, keys
        self.last = (None, None)
        self.wrong = set()

    def segment(self, number):
        if self.last[0] != number:
            need(self.ids.get(number) in self.shards, "segment %d has fewer than k shards here" % number)
            self.last = (number, Segment(self.shards[self.ids[number]], self.keys))
        return self.last[1]

    def restore_file(self, ino, size, path):
        runs = self.db.execute("SELECT off, len, skip, seg, first FROM run WHERE ino = ? ORDER BY off", (ino,))
        with open(path, "wb") as f:
            for off, length, skip, seg, first in runs.fetchall():
                f.seek(off)
                for part in self.segment(seg).run(first, skip, length):
                    f.write(part)
                self.wrong |= self.segment(seg).wrong
            f.truncate(size)

    def restore(self, ino, path):
        """What node ino is, as path."""
        mode, size = self.db.execute("SELECT mode, size FROM node WHERE ino = ?", (ino,)).fetchone()
        if stat.S_ISLNK(mode):
            target = self.db.execute("SELECT target FROM link WHERE ino = ?", (ino,)).fetchone()[0]
            os.symlink(target, path)
            return
        if stat.S_ISDIR(mode):
            os.makedirs(path, exist_ok=True)
            for name, child in self.db.execute("SELECT name, ino FROM name WHERE parent = ?", (ino,)).fetchall():
                self.restore(child, os.path.join(path, bytes(name)))
        elif stat.S_ISREG(mode):
            self.restore_file(ino, size, path)
        else:
            return
        os.chmod(path, stat.S_IMODE(mode))


def restore_all(folders, passfile, database, output):
    keys, _, liars = unlock_folders(folders, passfile)
    shards, wrong = find_shards(folders, keys)
    tree = Tree(database, shards, keys)
    tree.restore(1, os.fsencode(output))
    for path in sorted(set(liars) | set(wrong) | tree.wrong):
        print("wrong bytes: %s" % path, file=sys.stderr)


# ---- command line ----


def header_files(folders):
    found = []
    for folder in folders:
        h = os.path.join(folder, "h")
        for name in sorted(os.listdir(h)) if os.path.isdir(h) else []:
            if re.fullmatch("[0-9a-f]{16}", name):
                found.append(os.path.join(h, name))
    return found


def read(path):
    with open(path, "rb") as f:
        return f.read()


def unlock_folders(folders, passfile):
    """As unlock, from folders and a file with a passphrase or a written recovery key; the paths of wrong objects last."""
    paths = header_files(folders)
    secret = read(passfile)
    secret = secret[:-1] if secret.endswith(b"\n") else secret
    recovery = recovery_key(secret.decode("ascii", errors="replace"))
    given = {"recovery": recovery} if recovery else {"passphrase": secret}
    keys, manifest, liars = unlock([read(p) for p in paths], **given)
    return keys, manifest, [paths[i] for i in liars]


def crc32c(data):
    """RFC 3720, B.4."""
    crc = 0xFFFFFFFF
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def vector_segment(keys, segment, set_id, k, m):
    """(segment file, shards) of the vector in "Code", made as FORMAT.md says."""
    texts = [b"The quick brown fox jumps over the lazy dog", bytes(7 * i % 256 for i in range(100))]
    extents = [Extent(i, 0, len(t), len(t), bytes([0x66 + 0x11 * i]) * 8) for i, t in enumerate(texts)]
    hints = [(7, 0), (7, 43)]
    before = 256 + sum(e.sealed_len(k) // k + 16 for e in extents) + 16
    text = b"SKYI" + struct.pack(">HHIq", 1, 33, len(extents), 1700000000)
    for e, (ino, off) in zip(extents, hints):
        text += struct.pack(">BII", e.flags, e.file_len, e.stored) + e.random + struct.pack(">QQ", ino, off)
    f = 16
    while k * f < len(text) + 16 or (before + f) % 4096:
        f += 16
    extents.append(Extent(INDEX_NUMBER, INDEX, k * f - 16, k * f - 16, b"\x88" * 8))
    texts.append(text.ljust(k * f - 16, b"\0"))
    hints.append((0, 0))
    head = b"SKYSEGM1" + struct.pack(">HHI", 1, 0, 1) + keys.drive + segment + bytes([k])
    head = head.ljust(124, b"\0")
    staged = head + struct.pack(">I", crc32c(head))
    sealed = []
    for e, t, (ino, off) in zip(extents, texts, hints):
        padded = t.ljust(e.sealed_len(k) - 16, b"\0")
        sealed.append(AESGCM(keys.segment_key(1, segment)).encrypt(e.nonce(), padded, e.aad(keys.drive, 1, segment, k)))
        record = b"SKYR" + struct.pack(">IIIIB3x", e.number, e.file_len, e.stored, e.sealed_len(k), e.flags)
        record = (record + e.random + struct.pack(">QQ", ino, off)).ljust(60, b"\0")
        staged += record + struct.pack(">I", crc32c(segment + record)) + sealed[-1]
    shards, parity = [], coding_matrix(k, m)
    for shard in range(k + m):
        key = keys.fragment_key(1, set_id, segment, k, m, shard)
        body = b""
        for e, data in zip(extents, sealed):
            size = len(data) // k
            parts = [data[i * size : (i + 1) * size] for i in range(k)]
            part = parts[shard] if shard < k else combination(parity[shard - k], parts)
            body += part + gmac(key, e.number, part)
        head = b"SKYSHRD1" + struct.pack(">HHI", 1, 0, 1) + keys.drive + segment + set_id + bytes([k, m, shard, 0])
        head += struct.pack(">IQIIQ", len(extents) - 1, 256 + len(body) - f - 16, f, 0, 256 + len(body))
        head = (head + b"\x88" * 8).ljust(224, b"\0")
        shards.append(head + hmac.new(keys.shard_key(1), head, hashlib.sha256).digest() + body)
    return staged, shards


def selftest_segment(keys, text):
    """The vector of "Code": made, compared, and read back from each k shards, also with one of them damaged."""
    segment, set_id = b"\x33" * 16, b"\x44" * 16
    staged, shards = vector_segment(keys, segment, set_id, 4, 2)
    told = re.findall(r"^(\w[\w ]*?) +([0-9a-f]{64})$", text, re.M)
    have = [("segment file", staged)] + [("shard %d" % i, s) for i, s in enumerate(shards)]
    assert [(n, hashlib.sha256(d).hexdigest()) for n, d in have] == told, "hashes of the segment's vector"
    with tempfile.TemporaryDirectory() as top:
        folder = os.path.join(top, "s", set_id.hex()[:2])
        os.makedirs(folder)
        paths = [os.path.join(folder, "%s.%d" % (set_id.hex(), i)) for i in range(6)]
        for away in itertools.combinations(range(6), 2):
            for i in range(6):
                damaged = bytearray(shards[i])
                damaged[270] ^= i == away[0]
                with open(paths[i], "wb") as f:
                    f.write(damaged)
            os.remove(paths[away[1]])
            found, _ = find_shards([top], keys)
            read_back = Segment(found[segment], keys)
            assert b"".join(read_back.run(0, 40, 103)) == b"dog" + bytes(7 * i % 256 for i in range(100))
            assert read_back.wrong <= {paths[away[0]]}


def selftest():
    """The vectors of FORMAT.md."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "..", "coding", "FORMAT.md"), encoding="utf-8") as f:
        whole = f.read()
    text = whole.split("## Test vectors")[1].split("\n## ")[0]
    keys = Keys(b"\x11" * 16, b"\x22" * 32, {1: b"\x55" * 32})
    seg, set_id = b"\x33" * 16, b"\x44" * 16
    told = dict(re.findall(r"^(\w[\w ]* key) +([0-9a-f]{64})$", text, re.M))
    have = {
        "data key": keys.data_key(1), "MAC key": keys.mac_key(1), "log key": keys.log_key(1),
        "segment key": keys.segment_key(1, seg), "shard key": keys.shard_key(1),
        "fragment key": keys.fragment_key(1, set_id, seg, 4, 2, 5),
        "manifest key": hkdf(keys.root, b"skyflok1/manifest" + keys.drive),
        "header MAC key": hkdf(keys.root, b"skyflok1/header-mac" + keys.drive),
    }
    assert {n: v.hex() for n, v in have.items()} == told, "derived keys"
    written = re.search(r"((?:[0-9A-Z]{4}-){13}[0-9A-Z]{4})", text).group(1)
    assert recovery_key(written) == bytes((8 * i + 1) & 255 for i in range(32)), "recovery key"
    assert recovery_key(written[:-1] + "Y") is None, "checksum of the recovery key"
    blocks = [re.sub(r"\s", "", b) for b in re.findall(r"```\n([0-9a-f\s]+)\n```", text)]
    root, objects = blocks[0], [bytes.fromhex(b) for b in blocks[1:3]]
    for given in ({"passphrase": b"open sesame"}, {"recovery": b"thirty-two bytes of recovery key"}):
        unlocked, manifest, liars = unlock(objects, **given)
        assert unlocked.root.hex() == root and manifest["k"] == 2 and manifest["m"] == 1 and not liars
    for bad, error in ((objects[:1], TooFew), ([objects[0][:-1], objects[1]], TooFew)):
        try:
            unlock(bad, passphrase=b"open sesame")
            raise AssertionError("unlocked what is not enough")
        except error:
            pass
    selftest_segment(keys, whole.split("### Test vector (`tests/unit/check_segment_io.c`)")[1].split("\n## ")[0])
    print("ok")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    unlocking = commands.add_parser("unlock", help="open the headers in these folders")
    unlocking.add_argument("folder", nargs="+")
    unlocking.add_argument("--passfile", required=True, help="file with the passphrase or recovery key")
    restoring = commands.add_parser("restore", help="all files from the shards in these folders")
    restoring.add_argument("folder", nargs="+")
    restoring.add_argument("--passfile", required=True, help="file with the passphrase or recovery key")
    restoring.add_argument("--database", required=True, help="the local database, for the map of files")
    restoring.add_argument("--output", required=True, help="folder that is made")
    commands.add_parser("selftest", help="check the vectors of coding/FORMAT.md")
    args = parser.parse_args()
    if args.command == "selftest":
        selftest()
        return 0
    try:
        if args.command == "restore":
            restore_all(args.folder, args.passfile, args.database, args.output)
            return 0
        keys, manifest, liars = unlock_folders(args.folder, args.passfile)
    except (Damaged, WrongSecret, TooFew) as e:
        print("%s: %s" % (type(e).__name__, e), file=sys.stderr)
        return {Damaged: 1, WrongSecret: 2, TooFew: 3}[type(e)]
    shown = {n: manifest[n] for n in ("drive", "k", "m", "generation", "label", "backends")}
    print(json.dumps({**shown, "current_key": max(keys.masters), "liars": liars}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
