#!/usr/bin/env python3
"""Reads squish's checkpoints with NumPy, written from docs/format.md (whose tables it uses) alone, so
that tests have a second opinion on what squish's own decoders make of the same bytes.

    squish_reader.py CHECKPOINT                        lists the tensors
    squish_reader.py CHECKPOINT -o PLAIN.safetensors   writes all of them as F32
    squish_reader.py CHECKPOINT --compare PLAIN_DIR    compares with what squish dequantize wrote
"""

import argparse
import hashlib
import json
import math
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parent.parent / "docs" / "format.md"
FLOATS = {"f16": "<f2", "f32": "<f4"}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}
BLOCKS = {  # of GGUF: elements, bytes
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
    "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210)}
GAINS = {5: (1.12, 0.138), 6: (1.2, 0.152), 7: (1.22, 0.078), 8: (1.3, 0.078)}  # g1, g2 by rate


TOLERANCES = {"aqlm": -20, "quip": -19, "trellis": -19}  # powers of two; -22 of the others


def ceil(a, b):
    """a / b, rounded up."""
    return -(-a // b)


@lru_cache(maxsize=None)
def table(name):
    """The lines of a table of the page, cut into words."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n```{name}\n")[1].split("\n```")[0]
    return [line.split() for line in text.split("\n")]


def unpack(rows, bits, count):
    """The first `count` packed codes of each row of bytes."""
    start = bits * np.arange(count)
    rows = np.pad(rows, ((0, 0), (0, 5)))
    words = sum(rows[:, start // 8 + k].astype(np.int64) << 8 * k for k in range((bits + 14) // 8))
    return words >> start % 8 & (1 << bits) - 1


# Decoders of a matrix take its spec's keys, its shape and take(section, type, *shape).
def decode_int(keys, m, n, take):
    bits, group = int(keys["bits"]), int(keys["g"]) or n
    codes = unpack(take("q", "u1", m, ceil(bits * n, 8)), bits, n)
    groups, of_columns = (m, ceil(n, group)), np.arange(n) // group
    scale = take("scale", FLOATS[keys["scale"]], *groups)[:, of_columns]
    if keys["sym"] == "1":
        return scale * (codes - 2 ** (bits - 1))
    return scale * codes + take("zero", FLOATS[keys["scale"]], *groups)[:, of_columns]


def decode_vptq(keys, m, n, take):
    v, k, r, groups, ov, ok = (int(keys[key]) for key in ("v", "k", "r", "groups", "ov", "ok"))
    outliers = min(n, math.ceil(float(keys["outliers"]) / 100 * n))
    parts = [(outliers, ov, ok, 1)]  # width, length of a vector, sizes of the codebooks
    parts += [((g + 1) * (n - outliers) // groups - g * (n - outliers) // groups, v, k, r)
              for g in range(groups)]
    parts = [part for part in parts if part[0]]
    part_of, bits = np.zeros(n, int), (len(parts) - 1).bit_length()
    if bits:
        part_of = unpack(take("columns", "u1", 1, ceil(bits * n, 8)), bits, n)[0]
    widths = [(k.bit_length() - 1, r.bit_length() - 1) for _, _, k, r in parts]
    sizes = [ceil(m, v) * ceil((a + b) * w, 8) for (w, v, _, _), (a, b) in zip(parts, widths)]
    book_sizes = [(k + (r if r > 1 else 0)) * v for _, v, k, r in parts]
    codes = np.split(take("q", "u1", sum(sizes)), np.cumsum(sizes)[:-1])
    books = np.split(take("codebook", "<f2", sum(book_sizes)), np.cumsum(book_sizes)[:-1])
    weights = np.zeros((m, n))
    for p, ((width, v, k, r), (a, b)) in enumerate(zip(parts, widths)):
        found = unpack(codes[p].reshape(ceil(m, v), -1), a + b, width)
        book = books[p].reshape(-1, v)
        vectors = book[found & k - 1] + (book[k + (found >> a)] if r > 1 else 0)
        weights[:, part_of == p] = vectors.swapaxes(1, 2).reshape(-1, width)[:m]
    return weights * take("scale", "<f4", n)


def decode_aqlm(keys, m, n, take):
    books, bits, g = (int(keys[key]) for key in "mbg")
    codes = books * ceil(n, g)  # of a row
    codes = unpack(take("q", "u1", m, ceil(bits * codes, 8)), bits, codes)
    book = take("codebook", "<f2", books, 2**bits, g)
    sums = sum(book[t][codes[:, t::books]] for t in range(books)).reshape(m, -1)[:, :n]
    return sums * take("scale", "<f2", m, 1) * take("gain", "<f4", 1)


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


def decode_trellis(keys, m, n, take):
    form = {"columns": trellis_columns, "tiles": trellis_tiles}[keys["form"]]
    return turn_back(form(float(keys["bits"]), keys["code"], m, n, take), take)


def is_prime(q):
    return q > 1 and all(q % d for d in range(2, math.isqrt(q) + 1))


def circulant(first):
    """Each row is the first, moved to the right by its number."""
    i = np.arange(len(first))
    return np.array(first, float)[(i - i[:, None]) % len(first)]


def squares(q):
    """The circulant matrix with 1 where column - row is a square other than 0 modulo q, else -1."""
    return circulant(np.where(np.isin(np.arange(q), np.arange(1, q) ** 2 % q), 1, -1))


@lru_cache(maxsize=None)
def hadamard(order):
    """H of this order, or None where there is none."""
    rows, half = [row[2] for row in table("williamson") if row[0] == str(order)], order // 2
    if rows:
        a, b, c, d = (circulant([1 if sign == "+" else -1 for sign in row]) for row in rows)
        return np.block([[a, b, c, d], [-b, a, -d, c], [-c, d, a, -b], [-d, -c, b, a]])
    if is_prime(order - 1):
        h = np.ones((order, order))
        h[0, 1:] = -1
        h[1:, 1:] = -squares(order - 1)
        return h
    if half % 4 == 2 and is_prime(half - 1):
        s, one = np.ones((half, half)), np.eye(half)
        s[1:, 1:] = squares(half - 1)
        np.fill_diagonal(s, 0)
        return np.block([[s + one, s - one], [s - one, -s - one]])
    return None


def blocks_of(n):
    """The blocks of U_n as (H, order of the power of two): the Kronecker product of both."""
    p = n & -n
    k = 4 * n // p
    while n != p and k <= 512 and k // (n // p) <= p:
        if hadamard(k) is not None:
            return [(hadamard(k), n // k)]
        k *= 2
    return [(np.eye(1), 1 << bit) for bit in reversed(range(n.bit_length())) if n >> bit & 1]


def rotate(x):
    """U_N times a matrix of N rows."""
    done, begin = [], 0
    for h, q in blocks_of(len(x)):
        size = len(h) * q
        y = h @ x[begin:begin + size].reshape(len(h), -1) / math.sqrt(size)
        for bit in range(q.bit_length() - 1):
            y = y.reshape(size >> bit + 1, 2, -1)
            y = np.stack([y[:, 0] + y[:, 1], y[:, 0] - y[:, 1]], axis=1)
        done.append(y.reshape(size, -1))
        begin += size
    return np.concatenate(done)


def turn_back(r, take):
    """W of R."""
    d_out, d_in = (1 - 2 * unpack(take(name, "u1", 1, ceil(size, 8)), 1, size)[0]
                   for name, size in zip(("signs_out", "signs_in"), r.shape))
    return d_out[:, None] * rotate(rotate(r * take("scale", "<f4", 1)).T).T * d_in


def grid(*coordinates):
    """All vectors of 8 of these coordinates; in lexicographic order if they ascend."""
    return np.array(coordinates)[np.indices((len(coordinates),) * 8).reshape(8, -1).T]


def e8(coordinates, *norms):
    """Those of them with an even sum and one of these squared norms."""
    v = grid(*coordinates)
    return v[(v.sum(1) % 2 == 0) & np.isin((v * v).sum(1), norms)]


@lru_cache(maxsize=None)
def e8p():
    more = ("123 023 013 012 367 357 347 356 346 345 267 257 247 256 246 245 167 157 147 156 146 "
            "045 067 057 047 056 046 014 237").split()
    rows = grid(0.5, 1.5, 2.5)
    rows = np.concatenate([rows[(rows**2).sum(1) <= 10],
                           [[0.5 if i in three else 1.5 for i in "01234567"] for three in more]])
    s, size = np.arange(65536) & 255, np.repeat(rows, 256, axis=0)
    p = unpack(s[:, None], 1, 8).sum(1) & 1
    negative = (s ^ p)[:, None] >> np.array([0, 4, 1, 5, 2, 6, 3, 7]) & 1
    negative[:, 7] ^= size.sum(1) % 2 == 1
    return np.where(negative, -size, size) + np.where(p, -0.25, 0.25)[:, None]


@lru_cache(maxsize=None)
def e81b():
    unit = 2 * np.eye(8)
    return np.concatenate([e8((-1, 0, 1), 0, 2), e8((-0.5, 0.5), 2), unit, -unit[:7]])


@lru_cache(maxsize=None)
def gain_lines():
    """L: 256 unit vectors."""
    def half_shell(norm):
        v = np.concatenate([e8((-2, -1, 0, 1, 2), norm), e8((-1.5, -0.5, 0.5, 1.5), norm)])
        v = v[np.lexsort(v.T[::-1])]
        return v[v[np.arange(len(v)), (v != 0).argmax(1)] > 0]

    inner, outer = half_shell(2), half_shell(4)
    taken, cost = [], np.zeros(len(outer))
    for _ in range(136):
        taken.append(cost.argmin())
        cost += (outer @ outer[taken[-1]]) ** 4
        cost[taken[-1]] = np.inf
    return np.concatenate([inner / math.sqrt(2), outer[taken] / 2])


@lru_cache(maxsize=None)
def trellis_values(code, bits):
    """The values of a code's 2^L states: one a row, or two (hyb)."""
    state = np.arange(2**16)
    if code == "1mad":
        z = 34038481 * state + 76625530
        values = sum(z >> shift & 255 for shift in (0, 8, 16, 24)) - 510.0
    elif code == "3inst":
        z = 89226354 * state + 64248484
        halves = (z & 0x8FFF8FFF ^ 0x3B603B60).astype("<u4").view("<f2").reshape(-1, 2)
        values = (halves[:, 0] + halves[:, 1]).astype(float)
    elif code == "hyb":
        words = np.array([int(word, 16) for row in table("hyb") for word in row], "<u4")
        z = state * (state + 1)
        values = words.view("<f2").astype(float).reshape(-1, 2)[z >> 6 & 511, ::-1]
        values[:, 0] *= 1 - 2 * (z >> 15 & 1)
    else:
        rows = table("hash")
        at = {(row[1], row[3]): i for i, row in enumerate(rows)}[code, str(bits)]
        columns, t0, t1, t2 = (np.array(row[1:], int) for row in rows[at + 1:at + 5])
        state = np.arange(2 ** int(rows[at][5]))
        h = state & 255
        for bit, column in enumerate(columns, 8):
            h = h ^ (state >> bit & 1) * column
        values = float(rows[at][7]) * (t0[h & 15] + t1[h >> 4] + t2[state >> 4 & 15])
    if code in ("1mad", "3inst"):
        values = values / math.sqrt((values**2).mean())
    return values.reshape(len(state), -1)


def ring_values(symbols, bits, values):
    """The values of the places of rings, which run along axis 0."""
    symbols, size = symbols.astype(np.int32), len(values).bit_length() - 1
    states = sum(np.roll(symbols, -k, 0) << bits * k for k in range(ceil(size, bits)))
    return values[states & len(values) - 1]


def codes_of(rate):
    """The codes of columns of a rate: of each its gain, its first run and its bits."""
    high = ceil(rate, 2)
    return [(1, 0, rate)] if rate <= 4 else zip(GAINS[rate], (0, high), (high, rate - high))


def trellis_columns(bits, code, m, n, take):
    floor = int(bits)
    wider = min((*range(0, n, 64), n), key=lambda h: abs(h - (bits - floor) * n))
    rates = [floor + 1] * (wider > 0) + [floor] * (wider < n)
    least = max(ceil(len(trellis_values(code, k)).bit_length() - 1, 2 * k)
                for rate in rates for _, _, k in codes_of(rate))
    groups = max(least, ceil(m, 8))
    stream = ceil(groups, ceil(8 * groups, 384))
    if 0 < groups % stream < least:
        groups += least - groups % stream
    data, end, blocks = take("codes", "u1", groups, floor * n + wider), 0, []
    for column in range(0, n, 64):
        rate, width = floor + (column < wider), min(64, n - column)
        begin, end = end, end + rate * width
        runs = data[:, begin:end].reshape(groups, rate, width)
        blocks.append(sum(gain * stream_values(runs[:, run:run + k], code, k, stream)
                          for gain, run, k in codes_of(rate)))
    return np.concatenate(blocks, axis=1)[:m]


def stream_values(runs, code, bits, stream):
    """What one code gives, from its runs of bytes: groups x runs x columns."""
    values, width = trellis_values(code, bits), runs.shape[2]
    rows = values.shape[1]  # of a symbol
    number = sum(runs[:, k].astype(np.int64) << 8 * k for k in range(bits))
    symbols = number[:, None] >> rows * bits * np.arange(8 // rows)[:, None]
    symbols &= (1 << rows * bits) - 1
    rings = (symbols[begin:begin + stream] for begin in range(0, len(symbols), stream))
    found = [ring_values(ring.reshape(-1, width), rows * bits, values) for ring in rings]
    return np.concatenate(found).swapaxes(1, 2).reshape(-1, width)


def trellis_tiles(bits, code, m, n, take):
    bits, down, across = int(bits), ceil(m, 16), ceil(n, 16)
    values = trellis_values(code, bits)
    cells = values.shape[1]  # of a symbol
    symbols = unpack(take("codes", "u1", down * across, 32 * bits), cells * bits, 256 // cells)
    tiles = ring_values(symbols.T, cells * bits, values).swapaxes(0, 1)
    return tiles.reshape(down, across, 16, 16).swapaxes(1, 2).reshape(16 * down, -1)[:m, :n]


DECODERS = {f"int{bits}": decode_int for bits in range(2, 9)} | {
    "vptq": decode_vptq, "aqlm": decode_aqlm, "quip": decode_quip, "trellis": decode_trellis}


def take_from(left):
    """The function that takes sections out of a dict of bytes, as arrays (floats as doubles)."""
    def take(name, dtype, *shape):
        expected = np.dtype(dtype).itemsize * math.prod(shape)
        if len(left.get(name, b"")) != expected:
            raise ValueError(f"section {name} does not have {expected} bytes")
        numbers = np.frombuffer(left.pop(name), dtype).reshape(shape)
        return numbers.astype(float) if numbers.dtype.kind == "f" else numbers
    return take


def decode(spec, shape, sections):
    """The matrix of a spec in full, from the bytes of its sections by name."""
    left, (method, _, keys) = dict(sections), spec.partition(":")
    try:
        keys = {"bits": method[-1]} | dict(key.partition("=")[::2] for key in keys.split(","))
        weights = DECODERS[method](keys, *shape, take_from(left))
    except KeyError as error:
        raise ValueError(f"spec '{spec}': {error} is unknown or missing") from None
    if left:
        raise ValueError(f"section {min(left)} is not of spec '{spec}'")
    return weights


def decode_plain(kind, shape, data):
    """A tensor that stays as it is."""
    if kind in BLOCKS:
        return decode_blocks(kind, data).reshape(shape)
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").reshape(shape) * 1.0
    return np.frombuffer(data, FLOATS[kind.lower()]).astype(float).reshape(shape)


def decode_blocks(kind, data):
    """The elements of GGUF's blocks, a row each."""
    rest = np.frombuffer(data, "u1").reshape(-1, BLOCKS[kind][1])

    def take(count, dtype="u1", *shape):
        nonlocal rest
        part, rest = rest[:, :count].copy().view(dtype), rest[:, count:]
        return part.astype(float if dtype == "<f2" else int).reshape(len(part), *shape or (-1,))

    def halves(codes):
        return np.concatenate([codes & 15, codes >> 4], axis=-2)

    if kind == "Q6_K":
        c = halves(take(128, "u1", 2, 2, 32))
        c |= (take(64, "u1", 2, 1, 32) >> 2 * np.arange(4)[:, None] & 3) << 4
        s = np.repeat(take(16, "i1"), 16, axis=1)
        return take(2, "<f2") * s * (c.reshape(s.shape) - 32)
    d = take(2, "<f2")
    if kind == "Q8_0":
        return d * take(32, "i1")
    m = d * {"Q4_0": -8, "Q5_0": -16}[kind] if kind.endswith("_0") else take(2, "<f2")
    if kind.endswith("_K"):
        a, b, c = take(12, "u1", 3, 4).swapaxes(0, 1)
        scales = d * np.concatenate([a & 63, c & 15 | a >> 6 << 4], axis=1)
        minima = m * np.concatenate([b & 63, c >> 4 | b >> 6 << 4], axis=1)
        fifth = take(32, "u1", 1, 32) >> np.arange(8)[:, None] & 1 if kind == "Q5_K" else 0
        codes = halves(take(128, "u1", 4, 1, 32)).reshape(-1, 8, 32) | fifth << 4
        return scales[:, :, None] * codes - minima[:, :, None]
    fifth = take(4, "<u4") >> np.arange(32) & 1 if kind.startswith("Q5") else 0
    return d * (halves(take(16, "u1", 1, 16)).reshape(-1, 32) | fifth << 4) + m


def read_header(path, alignment=1):
    """A safetensors file's __metadata__ and its tensors: type, shape, begin, end."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        at = start = 8 + int.from_bytes(file.read(8), "little")
        if start > size or start % alignment:
            raise ValueError(f"{path}: its data should begin at {start} of {size} bytes")
        header = json.loads(file.read(start - 8))
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (start + offset for offset in about["data_offsets"])
        padding = alignment > 1 and name.startswith("__padding__.")
        expected = at + ITEM_BYTES.get(about["dtype"], 0) * math.prod(about["shape"])
        if begin != at or begin % alignment and not padding or end != expected:
            raise ValueError(f"{path}: {name} is not where or not as long as it should be")
        if not padding:
            tensors[name] = [about["dtype"], about["shape"], begin, end]
        at = end
    if at != size:
        raise ValueError(f"{path}: has {size} bytes, not {at}")
    return metadata, tensors


def stored_as(name, entry):
    """The stored tensors of an entry: name, type and shape, checksum."""
    kind, shape = entry["type"], entry.get("shape", [])
    if kind == "shared" and len(entry["sections"]) == 1 or kind == "squish" and len(shape) == 2:
        return [(f"{name}.{section['name']}", ["U8", [section["bytes"]]], section["sha256"])
                for section in entry["sections"]]
    if kind in BLOCKS and shape[-1] % BLOCKS[kind][0] == 0:
        size = math.prod(shape) // BLOCKS[kind][0] * BLOCKS[kind][1]
        return [(name, ["U8", [size]], entry["sha256"])]
    if kind in ("F32", "F16", "BF16"):
        return [(name, [kind, shape], entry["sha256"])]
    raise TypeError(f"{name} has the type {kind} and the shape {shape}")


class Checkpoint:
    """A directory that squish quantize wrote."""

    def __init__(self, path):
        self._tensors = {}  # name: entry, file, (begin, end, checksum) of each stored tensor
        file = Path(path) / "squish.json"
        if not file.is_file():
            raise ValueError(f"{file}: is missing, so this is no whole checkpoint")
        try:
            manifest = json.loads(file.read_bytes())
            if (manifest["format"], manifest["format_version"]) != ("squish", 1):
                raise ValueError(f"{file}: is not of the format squish, version 1")
            for name, entries in manifest["files"].items():
                file = file.with_name(name)
                self._open_file(file, entries)
        except (KeyError, TypeError, IndexError, AttributeError, json.JSONDecodeError,
                UnicodeDecodeError) as error:
            raise ValueError(f"{file}: {type(error).__name__}: {error}") from None

    def _open_file(self, path, entries):
        metadata, stored = read_header(path, alignment=64)
        if metadata["format"] != "squish" or json.loads(metadata["tensors"]) != entries:
            raise ValueError(f"{path}: its __metadata__ is not what squish.json says")
        for name, entry in entries.items():
            if name in self._tensors:
                raise ValueError(f"{path}: {name} is in {self._tensors[name][1]}, too")
            self._tensors[name] = entry, path, []
            for part, expected, checksum in stored_as(name, entry):
                *found, begin, end = stored.pop(part, [None, None, 0, 0])
                if found != expected:
                    raise ValueError(f"{path}: {part} is {found}, not {expected}")
                self._tensors[name][2].append((begin, end, checksum))
        if stored:
            raise ValueError(f"{path}: {min(stored)} is of no tensor")

    def names(self):
        return [name for name, about in self._tensors.items() if about[0]["type"] != "shared"]

    def shared(self):
        return self._tensors.keys() - set(self.names())

    def entry(self, name):
        return self._tensors[name][0]

    def stored_bytes(self, name):
        return sum(end - begin for begin, end, _ in self._tensors[name][2])

    def read(self, name):
        """A tensor's weights, as doubles."""
        entry, path, _ = self._tensors[name]
        data = self._stored(name)
        if entry["type"] != "squish":
            return decode_plain(entry["type"], entry["shape"], data[0])
        try:
            return decode(entry["spec"], entry["shape"], self._sections(name, data))
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}") from None

    def _stored(self, name):
        """The bytes of its stored tensors."""
        _, path, parts = self._tensors[name]
        data = [np.fromfile(path, "u1", end - begin, offset=begin) for begin, end, _ in parts]
        if any(hashlib.sha256(d).hexdigest() != part[2] for d, part in zip(data, parts)):
            raise ValueError(f"{path}: {name} has another checksum than squish.json says")
        return data

    def _sections(self, name, data):
        """By name, from the bytes of each; what it shares included."""
        entry = self._tensors[name][0]
        sections = {section["name"]: d for section, d in zip(entry["sections"], data)}
        if "shared" in entry:
            other = entry["shared"]
            if other not in self.shared():
                raise ValueError(f"{other}, which it shares, is missing")
            sections |= self._sections(other, self._stored(other))
        return sections


def show(checkpoint):
    for name in sorted(checkpoint.shared()):
        print(f"{name}  shared  {checkpoint.stored_bytes(name)} bytes")
    for name in checkpoint.names():
        entry, size = checkpoint.entry(name), checkpoint.stored_bytes(name)
        shape, weights = "x".join(map(str, entry["shape"])), math.prod(entry["shape"])
        print(f"{name}  {shape}  {entry.get('spec', entry['type'])}  {size} bytes  "
              f"{8 * size / weights:.4g} bits per weight")


def write_plain(checkpoint, path):
    """All tensors as one safetensors file of F32."""
    header, end = {}, 0
    for name in checkpoint.names():
        shape, begin = checkpoint.entry(name)["shape"], end
        end += 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in checkpoint.names():
            file.write(checkpoint.read(name).astype("<f4").tobytes())


def compare(checkpoint, directory):
    """Prints and returns whether anything differs from the tensors of a directory."""
    plain = {name: (path, *about) for path in Path(directory).glob("*.safetensors")
             for name, about in read_header(path)[1].items()}
    names, worst = set(checkpoint.names()), 0.0
    off = plain.keys() ^ names
    for name in plain.keys() & names:
        path, kind, shape, begin, end = plain[name]
        theirs = decode_plain(kind, shape, np.fromfile(path, "u1", end - begin, offset=begin))
        ours, spec = checkpoint.read(name), checkpoint.entry(name).get("spec", "")
        bound = np.abs(theirs).max() * 2.0 ** TOLERANCES.get(spec.partition(":")[0], -22)
        same_shape = ours.shape == theirs.shape
        difference = np.abs(ours - theirs).max() if same_shape else np.inf
        worst = max(worst, difference / bound if bound else 0)
        if not difference <= bound:
            off.add(name)
    print(f"{len(off)} of {len(names)} tensors differ{f', such as {min(off)}' if off else ''}; "
          f"the largest difference is {worst:.2g} of the tolerance")
    return bool(off)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("-o", dest="plain", help="a safetensors file to write all to, as F32")
    parser.add_argument("--compare", help="a directory that squish dequantize --type f32 wrote")
    arguments = parser.parse_args()
    try:
        checkpoint = Checkpoint(arguments.checkpoint)
        if arguments.plain:
            write_plain(checkpoint, arguments.plain)
        if arguments.compare:
            return compare(checkpoint, arguments.compare)
        if not arguments.plain:
            show(checkpoint)
    except (ValueError, OSError) as error:
        return f"squish_reader.py: {error}"


if __name__ == "__main__":
    sys.exit(main())
