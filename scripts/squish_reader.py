#!/usr/bin/env python3
"""Reads the checkpoints of squish with NumPy alone, written from docs/format.md and from nothing else.

    squish_reader.py CHECKPOINT                        lists the tensors
    squish_reader.py CHECKPOINT -o PLAIN.safetensors   writes all of them as F32
    squish_reader.py CHECKPOINT --compare PLAIN_DIR    compares with what squish dequantize wrote
"""

import argparse
import hashlib
import json
import math
import sys
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parent.parent / "docs" / "format.md"
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}
BLOCKS = {  # of GGUF: elements, bytes
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
    "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210)}
FLOATS = {"f16": "<f2", "f32": "<f4"}


def ceil(a, b):
    """a / b, rounded up."""
    return -(-a // b)


@lru_cache(maxsize=None)
def table(name):
    """The lines of a table of the page, each cut into words."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n```{name}\n")[1].split("\n```")[0]
    return [line.split() for line in text.split("\n")]


def unpack(rows, bits, count):
    """The first `count` packed codes of each row of bytes."""
    start = bits * np.arange(count)
    rows = np.pad(rows, ((0, 0), (0, 5)))
    words = sum(rows[:, start // 8 + k].astype(np.int64) << 8 * k for k in range((bits + 14) // 8))
    return words >> start % 8 & (1 << bits) - 1


# --- int, vptq, aqlm: decoders take the keys of the spec, the shape and Sections.take -----------


def decode_int(keys, m, n, take, bits):
    group = int(keys["g"]) or n
    codes = unpack(take("q", "u1", m, ceil(bits * n, 8)), bits, n)

    def of_columns(section):
        numbers = take(section, FLOATS[keys["scale"]], m, ceil(n, group))
        return numbers[:, np.arange(n) // group]

    if keys["sym"] == "1":
        return of_columns("scale") * (codes - 2 ** (bits - 1))
    return of_columns("scale") * codes + of_columns("zero")


def decode_vptq(keys, m, n, take):
    v, k, r = (int(keys[key]) for key in "vkr")
    a, bits = k.bit_length() - 1, k.bit_length() + r.bit_length() - 2
    codes = unpack(take("q", "u1", ceil(m, v), ceil(bits * n, 8)), bits, n)
    book = take("codebook", "<f2", k + (r if r > 1 else 0), v)
    vectors = book[codes & k - 1]
    if r > 1:
        vectors = vectors + book[k + (codes >> a)]
    return vectors.transpose(0, 2, 1).reshape(-1, n)[:m] * take("scale", "<f4", n)


def decode_aqlm(keys, m, n, take):
    books, bits, g = (int(keys[key]) for key in "mbg")
    groups = ceil(n, g)
    codes = unpack(take("q", "u1", m, ceil(books * bits * groups, 8)), bits, books * groups)
    book = take("codebook", "<f2", books, 2**bits, g)
    sums = sum(book[t][codes[:, t::books]] for t in range(books))
    return sums.reshape(m, -1)[:, :n] * take("scale", "<f2", m, 1) * take("gain", "<f4", 1)


# --- Rotations ----------------------------------------------------------------------------------


def is_prime(q):
    return q > 1 and all(q % d for d in range(2, math.isqrt(q) + 1))


def circulant(first):
    """Each row is the first, moved to the right by its number."""
    i = np.arange(len(first))
    return np.asarray(first)[(i - i[:, None]) % len(first)]


def squares(q):
    """Which of 0 .. q - 1 are squares other than 0 modulo q."""
    return np.isin(np.arange(q), np.arange(1, q) ** 2 % q)


@lru_cache(maxsize=None)
def hadamard(order):
    """H of this order, or None where the page has none."""
    rows = {row[1]: row[2] for row in table("williamson") if int(row[0]) == order}
    if rows:
        a, b, c, d = (circulant([1 if sign == "+" else -1 for sign in rows[x]]) for x in "abcd")
        return np.block([[a, b, c, d], [-b, a, -d, c], [-c, d, a, -b], [-d, -c, b, a]])
    if is_prime(order - 1):
        h = np.ones((order, order), int)
        h[0, 1:] = -1
        h[1:, 1:] = circulant(np.where(squares(order - 1), -1, 1))
        return h
    half = order // 2
    if half % 4 == 2 and is_prime(half - 1):
        s, one = np.ones((half, half), int), np.eye(half, dtype=int)
        s[1:, 1:] = circulant(np.where(squares(half - 1), 1, -1))
        np.fill_diagonal(s, 0)
        return np.block([[s + one, s - one], [s - one, -s - one]])
    return None


def blocks_of(n):
    """U_n's diagonal blocks as pairs (H or None, order of the power of two beside it)."""
    p = n & -n
    order = 4 * n // p
    while n != p and order <= 512 and order // (n // p) <= p:
        if hadamard(order) is not None:
            return [(hadamard(order), n // order)]
        order *= 2
    return [(None, 1 << bit) for bit in reversed(range(n.bit_length())) if n >> bit & 1]


def rotate(x):
    """U_N times a matrix of N rows."""
    done, begin = [], 0
    for h, q in blocks_of(len(x)):
        k = 1 if h is None else len(h)
        y = x[begin:begin + k * q] / math.sqrt(k * q)
        if h is not None:
            y = h.astype(float) @ y.reshape(k, -1)
        step = 1
        while step < q:
            y = y.reshape(k * q // (2 * step), 2, -1)
            y = np.stack([y[:, 0] + y[:, 1], y[:, 0] - y[:, 1]], axis=1)
            step *= 2
        done.append(y.reshape(k * q, -1))
        begin += k * q
    return np.concatenate(done)


def turn_back(r, take):
    """W of R."""
    m, n = r.shape
    sign_out, sign_in = (1 - 2 * unpack(take(section, "u1", 1, ceil(size, 8)), 1, size)[0]
                         for section, size in (("signs_out", m), ("signs_in", n)))
    turned = rotate(rotate(r * take("scale", "<f4", 1)).T).T
    return sign_out[:, None] * turned * sign_in


# --- quip ---------------------------------------------------------------------------------------


def grid(*coordinates):
    """All vectors of 8 of these coordinates, in lexicographic order of the coordinates' places."""
    return np.array(coordinates)[np.indices((len(coordinates),) * 8).reshape(8, -1).T]


def even(vectors, *norms):
    """Those with an even sum and one of the squared norms."""
    return vectors[(vectors.sum(1) % 2 == 0) & np.isin((vectors**2).sum(1), norms)]


@lru_cache(maxsize=None)
def e8p():
    rows = grid(0.5, 1.5, 2.5)
    rows = rows[(rows**2).sum(1) <= 10]
    more = """123 023 013 012 367 357 347 356 346 345 267 257 247 256 246 245 167 157 147 156 146 045
              067 057 047 056 046 014 237""".split()
    rows = np.concatenate([rows, [[0.5 if str(i) in three else 1.5 for i in range(8)]
                                  for three in more]])
    code = np.arange(65536)
    parity = unpack(code[:, None] & 255, 1, 8).sum(1) & 1
    negative = ((code & 255 ^ parity)[:, None] >> np.array([0, 4, 1, 5, 2, 6, 3, 7])) & 1
    size = rows[code >> 8]
    negative[:, 7] ^= size.sum(1) % 2 == 1
    return np.where(negative, -size, size) + np.where(parity, -0.25, 0.25)[:, None]


@lru_cache(maxsize=None)
def e81b():
    unit = 2 * np.eye(8)
    return np.concatenate([even(grid(-1, 0, 1), 0, 2), even(grid(-0.5, 0.5), 2), unit, -unit[:7]])


@lru_cache(maxsize=None)
def gain_lines():
    """L of form=gain: 256 unit vectors."""
    def half_of_shell(norm):
        v = np.concatenate([even(grid(-2, -1, 0, 1, 2), norm), even(grid(-1.5, -.5, .5, 1.5), norm)])
        v = v[np.lexsort(v.T[::-1])]
        return v[v[np.arange(len(v)), (v != 0).argmax(1)] > 0]

    inner, outer = half_of_shell(2), half_of_shell(4)
    taken, cost = [], np.zeros(len(outer))
    for _ in range(136):
        taken.append(cost.argmin())
        cost += (outer @ outer[taken[-1]]) ** 4
        cost[taken[-1]] = np.inf
    return np.concatenate([inner / math.sqrt(2), outer[taken] / 2])


def decode_quip(keys, m, n, take):
    count = m * ceil(n, 8)
    if keys["form"] == "gain":
        vectors = gain_lines()[take("codes", "u1", count)] * take("gain", "<f2", count, 1)
    else:
        vectors = e8p()[take("codes", "<u2", count)]
        if keys["bits"] == "3":
            vectors = vectors + e81b()[take("residual", "u1", count)] / 2.04
        elif keys["bits"] == "4":
            vectors = vectors + e8p()[take("residual", "<u2", count)] / 3.45
    return turn_back(vectors.reshape(m, -1)[:, :n], take)


# --- trellis ------------------------------------------------------------------------------------


@lru_cache(maxsize=None)
def trellis_values(code, bits):
    """The values of a code's 2^L states, one a row (hyb: two)."""
    state = np.arange(2**16)
    if code in ("hash", "fast"):
        rows = iter(table("hash"))
        head = next(row for row in rows if row[:4] == ["code", code, "bits", str(bits)])
        columns, t0, t1, t2 = (np.array(next(rows)[1:], int) for _ in range(4))
        state = state[:2 ** int(head[5])]
        h = state & 255
        for bit, column in enumerate(columns):
            h = h ^ (state >> 8 + bit & 1) * column
        values = float(head[7]) * (t0[h & 15] + t1[h >> 4] + t2[state >> 4 & 15])
    elif code == "1mad":
        z = 34038481 * state + 76625530
        values = sum(z >> shift & 255 for shift in (0, 8, 16, 24)) - 510.0
    elif code == "3inst":
        z = 89226354 * state + 64248484
        u = (z & 0x8FFF8FFF ^ 0x3B603B60).astype("<u4")
        values = u.view("<f2").reshape(-1, 2).sum(1, dtype=np.float16).astype(float)
    elif code == "hyb":
        words = np.array([int(word, 16) for line in table("hyb") for word in line], "<u4")
        z = state * (state + 1)
        values = words.view("<f2").reshape(-1, 2)[z >> 6 & 511, ::-1].astype(float)
        values[:, 0] *= np.where(z >> 15 & 1, -1, 1)
    else:
        raise ValueError(f"the code {code} is not known")
    if code in ("1mad", "3inst"):
        values = values / math.sqrt((values**2).mean())
    return values.reshape(len(state), -1)


def ring(symbols, bits, values):
    """The values of the places of rings of symbols, which run along axis 0."""
    symbols, size = symbols.astype(np.int32), len(values).bit_length() - 1
    states = sum(np.roll(symbols, -k, 0) << bits * k for k in range(ceil(size, bits)))
    return values[states & len(values) - 1]


GAINS = {5: (1.12, 0.138), 6: (1.2, 0.152), 7: (1.22, 0.078), 8: (1.3, 0.078)}


def codes_of(code, rate):
    """The codes of a column of this rate: of each its gain, its bits and its values."""
    if rate <= 4:
        return [(1, rate, trellis_values(code, rate))]
    parts = (ceil(rate, 2), rate // 2)
    return [(gain, bits, trellis_values(code, bits)) for gain, bits in zip(GAINS[rate], parts)]


def decode_columns(rate, code, m, n, take):
    floor = int(rate)
    h = min((*range(0, n, 64), n), key=lambda h: abs(h - (rate - floor) * n))
    parts = [(k, width) for k, width in ((floor + 1, h), (floor, n - h)) if width]
    least = max(ceil(len(values).bit_length() - 1, 2 * bits)
                for k, _ in parts for _, bits, values in codes_of(code, k))
    groups = max(least, ceil(m, 8))
    stream = ceil(groups, ceil(8 * groups, 384))
    if 0 < groups % stream < least:
        groups += least - groups % stream
    data = take("codes", "u1", groups, sum(k * width for k, width in parts))
    return np.concatenate([
        sum(gain * decode_streams(runs, bits, values, stream) for gain, bits, values, runs in
            split_runs(data, parts, part, code)) for part in range(len(parts))], axis=1)[:m]


def split_runs(data, parts, part, code):
    """The runs of bytes, groups x runs x columns, of each code of the columns of one rate."""
    rate, width = parts[part]
    begin = sum(k * w for k, w in parts[:part])
    data = data[:, begin:begin + rate * width]
    whole = width // 64 * 64
    blocks = data[:, :rate * whole].reshape(len(data), -1, rate, 64).swapaxes(1, 2)
    runs = np.concatenate([blocks.reshape(len(data), rate, whole),
                           data[:, rate * whole:].reshape(len(data), rate, -1)], axis=2)
    first = 0
    for gain, bits, values in codes_of(code, rate):
        yield gain, bits, values, runs[:, first:first + bits]
        first += bits


def decode_streams(runs, bits, values, stream):
    """One code's share of the columns."""
    groups, _, width = runs.shape
    rows = values.shape[1]  # of a symbol
    number = sum(runs[:, k].astype(np.int64) << 8 * k for k in range(bits))
    shifts = rows * bits * np.arange(8 // rows)[:, None]
    symbols = number[:, None] >> shifts & (1 << rows * bits) - 1
    rings = (symbols[begin:begin + stream].reshape(-1, width)
             for begin in range(0, groups, stream))
    found = np.concatenate([ring(one, rows * bits, values) for one in rings])
    return found.swapaxes(1, 2).reshape(-1, width)


def decode_tiles(rate, code, m, n, take):
    down, across = ceil(m, 16), ceil(n, 16)
    values = trellis_values(code, rate)
    bits = rate * values.shape[1]
    symbols = unpack(take("codes", "u1", down * across, 32 * rate), bits, 256 * rate // bits)
    tiles = ring(symbols.T, bits, values).swapaxes(0, 1).reshape(down, across, 16, 16)
    return tiles.swapaxes(1, 2).reshape(16 * down, -1)[:m, :n]


def decode_trellis(keys, m, n, take):
    rate = Fraction(keys["bits"])
    if keys["form"] == "tiles":
        return turn_back(decode_tiles(int(rate), keys["code"], m, n, take), take)
    return turn_back(decode_columns(rate, keys["code"], m, n, take), take)


# --- Any matrix ---------------------------------------------------------------------------------


class Sections:
    """The sections of a matrix, of which each is to be taken once."""

    def __init__(self, sections):
        self.left = dict(sections)

    def take(self, name, dtype, *shape):
        """A section as an array, numbers with a point as doubles."""
        if name not in self.left:
            raise ValueError(f"section {name} is missing")
        data, expected = self.left.pop(name), np.dtype(dtype).itemsize * math.prod(shape)
        if len(data) != expected:
            raise ValueError(f"section {name} has {len(data)} bytes instead of {expected}")
        numbers = np.frombuffer(data, dtype).reshape(shape)
        return numbers.astype(float) if numbers.dtype.kind == "f" else numbers


DECODERS = {"vptq": decode_vptq, "aqlm": decode_aqlm, "quip": decode_quip,
            "trellis": decode_trellis}
DECODERS |= {f"int{bits}": lambda *matrix, bits=bits: decode_int(*matrix, bits)
             for bits in range(2, 9)}


def decode(spec, shape, sections):
    """The matrix of a spec in full and of sections by name."""
    method, _, keys = spec.partition(":")
    if method not in DECODERS:
        raise ValueError(f"the method of spec '{spec}' is not known")
    left = Sections(sections)
    try:
        keys = dict(key.split("=", 1) for key in keys.split(","))
        weights = DECODERS[method](keys, *shape, left.take)
    except KeyError as error:
        raise ValueError(f"spec '{spec}' lacks the key {error} or has a value that is not known")
    if left.left:
        raise ValueError(f"section {min(left.left)} does not belong to spec '{spec}'")
    return weights


def decode_blocks(kind, data):
    """The elements of GGUF's blocks, a row each."""
    elements, size = BLOCKS[kind]
    blocks = np.frombuffer(data, "u1").reshape(-1, size)
    count, at = len(blocks), 0

    def take(bytes_, dtype="u1"):
        nonlocal at
        at += bytes_
        taken = blocks[:, at - bytes_:at].copy().view(dtype)
        return taken.astype(float if taken.dtype.kind == "f" else int)

    def halves(codes):
        return np.stack([codes & 15, codes >> 4], axis=-2)

    if kind == "Q6_K":
        low, high = take(128).reshape(-1, 2, 2, 32), take(64).reshape(-1, 2, 1, 32)
        s, d = np.repeat(take(16, "i1"), 16, axis=1), take(2, "<f2")
        low = np.concatenate([low & 15, low >> 4], axis=2)
        c = low | (high >> 2 * np.arange(4)[:, None] & 3) << 4
        return d * s * (c.reshape(count, 256) - 32)
    d = take(2, "<f2")
    if kind == "Q8_0":
        return d * take(32, "i1")
    if kind in ("Q4_0", "Q5_0"):
        m = d * (-8 if kind == "Q4_0" else -16)
    else:
        m = take(2, "<f2")
    if kind in ("Q4_K", "Q5_K"):
        a, b, c = take(12).reshape(-1, 3, 4).swapaxes(0, 1)
        s = np.concatenate([a & 63, c & 15 | a >> 6 << 4], axis=1)[:, :, None]
        minimum = np.concatenate([b & 63, c >> 4 | b >> 6 << 4], axis=1)[:, :, None]
        fifth = take(32)[:, None] >> np.arange(8)[:, None] & 1 if kind == "Q5_K" else 0
        codes = halves(take(128).reshape(-1, 4, 32)).reshape(-1, 8, 32) | fifth << 4
        return (d[:, :, None] * s * codes - m[:, :, None] * minimum).reshape(count, 256)
    fifth = take(4, "<u4") >> np.arange(32) & 1 if kind in ("Q5_0", "Q5_1") else 0
    return d * (halves(take(16)).reshape(-1, 32) | fifth << 4) + m


def decode_plain(kind, shape, data):
    """A tensor that stays as it is."""
    if kind in BLOCKS:
        return decode_blocks(kind, data).reshape(shape)
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(float).reshape(shape)
    return np.frombuffer(data, FLOATS[kind.lower()]).astype(float).reshape(shape)


# --- Files --------------------------------------------------------------------------------------


def read_json(text, path):
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def read_header(path, alignment=1):
    """__metadata__ of a safetensors file, and (type, shape, begin, end) of its tensors."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        if not 10 <= start <= size or start % alignment:
            raise ValueError(f"{path}: the header ends at byte {start} of {size}")
        header = read_json(file.read(start - 8), path)
    metadata, tensors, at = header.pop("__metadata__", {}), {}, start
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (start + offset for offset in about["data_offsets"])
        padding = alignment > 1 and name.startswith("__padding__.")
        if begin != at or begin % alignment and not padding:
            raise ValueError(f"{path}: {name} begins at byte {begin}, after {at}")
        bytes_ = ITEM_BYTES.get(about["dtype"], 0) * math.prod(about["shape"])
        if end - begin != bytes_ or end > size:
            raise ValueError(f"{path}: {name} has {end - begin} bytes instead of {bytes_}")
        if not padding:
            tensors[name] = (about["dtype"], about["shape"], begin, end)
        at = end
    if at != size:
        raise ValueError(f"{path}: has {size} bytes instead of {at}")
    return metadata, tensors


def read_bytes(path, begin, end):
    with open(path, "rb") as file:
        file.seek(begin)
        return file.read(end - begin)


def stored_as(name, entry, path):
    """What an entry says of stored tensors: name, (type, shape), checksum."""
    kind, shape = entry["type"], entry["shape"]
    if kind == "squish":
        if len(shape) != 2:
            raise ValueError(f"{path}: {name} is quantised, but no matrix")
        return [(f"{name}.{section['name']}", ("U8", [section["bytes"]]), section["sha256"])
                for section in entry["sections"]]
    if kind in BLOCKS:
        elements, size = BLOCKS[kind]
        if not shape or shape[-1] % elements:
            raise ValueError(f"{path}: {name} has rows that are no whole blocks of {kind}")
        return [(name, ("U8", [math.prod(shape) // elements * size]), entry["sha256"])]
    if kind not in ("F32", "F16", "BF16"):
        raise ValueError(f"{path}: {name} has the type {kind}, which is not known")
    return [(name, (kind, shape), entry["sha256"])]


class Checkpoint:
    """A directory that squish quantize wrote."""

    def __init__(self, path):
        manifest_path = Path(path) / "squish.json"
        if not manifest_path.is_file():
            raise ValueError(f"{path}: no whole checkpoint, squish.json is missing")
        self.manifest = read_json(manifest_path.read_text(encoding="utf-8"), manifest_path)
        version = self.manifest.get("format"), self.manifest.get("format_version")
        if version != ("squish", 1):
            raise ValueError(f"{manifest_path}: of format {version} instead of ('squish', 1)")
        self.tensors = {}  # name: entry, file, bytes of the file and checksum of each stored tensor
        for name, entries in self.manifest["files"].items():
            self.open_file(Path(path) / name, entries)

    def open_file(self, path, entries):
        metadata, stored = read_header(path, alignment=64)
        if metadata.get("format") != "squish" or read_json(metadata["tensors"], path) != entries:
            raise ValueError(f"{path}: its __metadata__ is not what squish.json says")
        for name, entry in entries.items():
            if name in self.tensors:
                raise ValueError(f"{path}: {name} is in {self.tensors[name][1]}, too")
            parts = []
            for stored_name, expected, checksum in stored_as(name, entry, path):
                *found, begin, end = stored.pop(stored_name, (None, None, 0, 0))
                if found != list(expected):
                    raise ValueError(f"{path}: {stored_name} is {found} instead of {expected}")
                parts.append((begin, end, checksum))
            self.tensors[name] = entry, path, parts
        if stored:
            raise ValueError(f"{path}: {min(stored)} is of no tensor")

    def names(self):
        return list(self.tensors)

    def entry(self, name):
        return self.tensors[name][0]

    def stored_bytes(self, name):
        return sum(end - begin for begin, end, _ in self.tensors[name][2])

    def read(self, name):
        """The weights of a tensor."""
        entry, path, parts = self.tensors[name]
        data = [read_bytes(path, begin, end) for begin, end, _ in parts]
        for bytes_, (_, _, checksum) in zip(data, parts):
            if hashlib.sha256(bytes_).hexdigest() != checksum:
                raise ValueError(f"{path}: {name} has another checksum than squish.json says")
        if entry["type"] != "squish":
            return decode_plain(entry["type"], entry["shape"], data[0])
        sections = {section["name"]: bytes_ for section, bytes_ in zip(entry["sections"], data)}
        try:
            return decode(entry["spec"], entry["shape"], sections)
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}") from None


# --- The command --------------------------------------------------------------------------------


def show(checkpoint):
    bits = weights = 0
    for name in checkpoint.names():
        entry, stored = checkpoint.entry(name), checkpoint.stored_bytes(name)
        count = math.prod(entry["shape"])
        bits, weights = bits + 8 * stored, weights + count
        print(f"{name}  {'x'.join(map(str, entry['shape']))}  {entry.get('spec', entry['type'])}  "
              f"{stored} bytes  {8 * stored / max(count, 1):.4g} bits per weight")
    print(f"{len(checkpoint.names())} tensors, {bits / max(weights, 1):.4g} bits per weight")


def write_plain(checkpoint, path):
    """All tensors as one safetensors file of F32."""
    header, at = {}, 0
    for name in checkpoint.names():
        shape = checkpoint.entry(name)["shape"]
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in checkpoint.names():
            file.write(checkpoint.read(name).astype("<f4").tobytes())


def compare(checkpoint, directory):
    """What differs from the tensors of a directory, and the largest difference in tolerances."""
    plain = {name: (path, *about) for path in sorted(Path(directory).glob("*.safetensors"))
             for name, about in read_header(path)[1].items()}
    off, worst = sorted(plain.keys() ^ set(checkpoint.names())), 0.0
    for name in checkpoint.names():
        if name in off:
            continue
        path, kind, shape, begin, end = plain[name]
        rotated = checkpoint.entry(name).get("spec", "").startswith(("quip", "trellis"))
        ours, theirs = checkpoint.read(name), decode_plain(kind, shape, read_bytes(path, begin, end))
        if ours.shape != theirs.shape:
            off.append(name)
        elif ours.size:
            difference, largest = np.abs(ours - theirs).max(), np.abs(theirs).max()
            share = difference / (largest or 1) * (2.0**19 if rotated else 2.0**22)
            worst = max(worst, share)
            if not share <= 1:
                off.append(name)
    return off, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("-o", "--output", help="write all tensors as F32 to this safetensors file")
    parser.add_argument("--compare", help="a directory that squish dequantize --type f32 wrote")
    arguments = parser.parse_args()
    try:
        checkpoint = Checkpoint(arguments.checkpoint)
        if arguments.output:
            write_plain(checkpoint, arguments.output)
        if arguments.compare:
            off, worst = compare(checkpoint, arguments.compare)
            verdict = f"{len(off)} differ, such as {off[0]}" if off else "none differs"
            print(f"{arguments.checkpoint}: of {len(checkpoint.names())} tensors {verdict}; "
                  f"largest difference {worst:.2g} of the tolerance")
            return bool(off)
        if not arguments.output:
            show(checkpoint)
    except (ValueError, OSError) as error:
        print(f"squish_reader.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
