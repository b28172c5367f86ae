"""Decodes a checkpoint from docs/format.md and the methods' section comments alone, and compares.

usage: decode_checkpoint.py CHECKPOINT PLAIN   (PLAIN: squish dequantize CHECKPOINT -o PLAIN --type f32)
Knows every method (but the trellis's codes 3inst and hyb; rotations where rows and columns have 2^k or
2^k (q + 1) entries, q a prime that is 3 mod 4); needs nothing but Python. Fails unless every weight is within a few roundings of float, and every
checksum is right.
"""
import functools
import hashlib
import itertools
import json
import re
import struct
import sys
from pathlib import Path


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if not name.startswith("__padding__") and "tensors" in metadata:
            assert (8 + length + begin) % 64 == 0, name
        tensors[name] = (entry["dtype"], entry["shape"], data[8 + length + begin : 8 + length + end])
    return metadata, tensors


def floats(kind, data):
    if kind == "bf16":
        return [struct.unpack("<f", b"\0\0" + data[i : i + 2])[0] for i in range(0, len(data), 2)]
    code, size = {"f32": ("f", 4), "f16": ("e", 2)}[kind]
    return list(struct.unpack(f"<{len(data) // size}{code}", data))


def codes(data, bits, count):
    """`count` numbers of `bits` bits, LSB first."""
    number = int.from_bytes(data, "little")
    return [number >> (i * bits) & ((1 << bits) - 1) for i in range(count)]


def rows_of_codes(data, bits, count, rows):
    """The same, each row starting on a byte."""
    size = (bits * count + 7) // 8
    assert len(data) == size * rows
    return [codes(data[i * size : (i + 1) * size], bits, count) for i in range(rows)]


def decode_int(spec, section, rows, cols):
    bits = int(spec["method"][3:])
    group = int(spec["g"]) or cols
    groups = -(-cols // group)
    scale = floats(spec["scale"], section["scale"])
    zero = floats(spec["scale"], section["zero"]) if spec["sym"] == "0" else None
    low = -(1 << (bits - 1)) if zero is None else 0
    out = []
    for i, row in enumerate(rows_of_codes(section["q"], bits, cols, rows)):
        for j, code in enumerate(row):
            g = i * groups + j // group
            out.append(scale[g] * (code + low) + (0 if zero is None else zero[g]))
    return out


def decode_vptq(spec, section, rows, cols):
    v, k, r = (int(spec[key]) for key in ("v", "k", "r"))
    main_bits, residual_bits = k.bit_length() - 1, r.bit_length() - 1
    scale = floats("f32", section["scale"])
    book = floats("f16", section["codebook"])
    blocks = rows_of_codes(section["q"], main_bits + residual_bits, cols, -(-rows // v))
    out = []
    for i in range(rows):
        for j, code in enumerate(blocks[i // v]):
            w = book[(code & (k - 1)) * v + i % v]
            if r > 1:
                w += book[(k + (code >> main_bits)) * v + i % v]
            out.append(w * scale[j])
    return out


def decode_aqlm(spec, section, rows, cols):
    m, b, g = (int(spec[key]) for key in ("m", "b", "g"))
    groups = -(-cols // g)
    scale, book = floats("f16", section["scale"]), floats("f16", section["codebook"])
    (gain,) = floats("f32", section["gain"])
    out = []
    for i, row in enumerate(rows_of_codes(section["q"], b, groups * m, rows)):
        for j in range(cols):
            indices = row[j // g * m : (j // g + 1) * m]
            w = sum(book[((book_number << b) + index) * g + j % g]
                    for book_number, index in enumerate(indices))
            out.append(w * scale[i] * gain)
    return out


def sylvester(n):
    return [[-1 if bin(i & j).count("1") % 2 else 1 for j in range(n)] for i in range(n)]


def paley(order):
    q = order - 1
    assert q % 4 == 3 and all(q % d for d in range(2, q)), order
    squares = {x * x % q for x in range(1, q)}
    inner = [[1] + [-1 if (c - r) % q in squares else 1 for c in range(q)] for r in range(q)]
    return [[1] + [-1] * q] + inner


@functools.cache
def rotation(n):
    """U = (Hd_K x S) / sqrt(n), K = 4 times the odd part of n, or 1."""
    odd = n // (n & -n)
    factor = [[1]] if odd == 1 else paley(4 * odd)
    inner = sylvester(n // len(factor))
    return [[a * b / n**0.5 for a in outer for b in row] for outer in factor for row in inner]


@functools.cache
def e8p_points():
    halves = ("123 023 013 012 367 357 347 356 346 345 267 257 247 256 246 245 167 157 147 156 "
              "146 045 067 057 047 056 046 014 237").split()
    rows = [v for v in itertools.product((0.5, 1.5, 2.5), repeat=8) if sum(x * x for x in v) <= 10]
    rows += [tuple(0.5 if str(i) in h else 1.5 for i in range(8)) for h in halves]
    assert len(rows) == 256
    return rows


def e8p(code, rows):
    row, byte = rows[code >> 8], code & 255
    parity = bin(byte).count("1") % 2
    position = (0, 4, 1, 5, 2, 6, 3, 7)  # of a coordinate's sign
    sign = [-1 if (byte ^ parity) >> position[i] & 1 else 1 for i in range(8)]
    if sum(row) % 2:
        sign[7] = -sign[7]
    return [x * s + (-0.25 if parity else 0.25) for x, s in zip(row, sign)]


def e8_points(low, high):
    """Of squared norm low to high, integers first, each kind in lexicographic order."""
    points = []
    for coordinates in (range(-4, 5, 2), range(-5, 6, 2)):  # doubled
        partial = [()]
        for _ in range(8):
            partial = [v + (x,) for v in partial for x in coordinates
                       if sum(y * y for y in v) + x * x <= 4 * high]
        points += [v for v in partial if sum(v) % 4 == 0 and sum(x * x for x in v) >= 4 * low]
    return points


@functools.cache
def e81b_points():
    points = e8_points(0, 2)
    points += [tuple(sign * 4 * (i == j) for j in range(8)) for sign in (1, -1) for i in range(8)]
    return [[x / 2 for x in v] for v in points[:256]]


@functools.cache
def e8_lines():
    def half(points):
        return sorted(v for v in points if next(x for x in v if x) > 0)

    lines, shell = half(e8_points(2, 2)), half(e8_points(4, 4))
    crowding, following = [0] * len(shell), 0
    while len(lines) < 256:
        chosen = shell[following]
        lines.append(chosen)
        for i, v in enumerate(shell):
            crowding[i] += sum(a * b for a, b in zip(v, chosen)) ** 4
        crowding[following] = 1 << 60
        following = crowding.index(min(crowding))
    return [[x / sum(y * y for y in v) ** 0.5 for x in v] for v in lines]


def signs(data, n):
    return [1 - 2 * bit for bit in codes(data, 1, n)]


def transpose(m):
    return [list(column) for column in zip(*m)]


def product(a, b):
    columns = transpose(b)
    return [[sum(x * y for x, y in zip(row, column)) for column in columns] for row in a]


def decode_quip(spec, section, rows, cols):
    bits, gain, vectors = int(spec["bits"]), spec["form"] == "gain", -(-cols // 8)
    (scale,) = floats("f32", section["scale"])
    count = rows * vectors
    if gain:
        lines, gains = e8_lines(), floats("f16", section["gain"])
        values = [[x * gains[v] for x in lines[code]] for v, code in enumerate(section["codes"])]
    else:
        table = e8p_points()
        values = [e8p(code, table) for code in codes(section["codes"], 16, count)]
        if bits > 2:
            rho = 2.04 if bits == 3 else 3.45
            small = e81b_points()
            rest = codes(section["residual"], 8 * (bits - 2), count)
            extra = [small[c] if bits == 3 else e8p(c, table) for c in rest]
            values = [[x + y / rho for x, y in zip(a, b)] for a, b in zip(values, extra)]
    flat = [[x * scale for v in values[i * vectors : (i + 1) * vectors] for x in v][:cols]
            for i in range(rows)]
    left, right = signs(section["signs_out"], rows), signs(section["signs_in"], cols)
    plain = product(product(rotation(rows), flat), transpose(rotation(cols)))
    return [left[i] * plain[i][j] * right[j] for i in range(rows) for j in range(cols)]


@functools.cache
def linear_hash_codes(name):
    """(state bits, columns of the hash, tables, unit) for 1 to 4 bits: the constants are squish's own."""
    source = (Path(__file__).resolve().parents[2] / "squish/quant/trellis_code.cc").read_text()
    table = re.search(rf"k{name.capitalize()}Codes\[4\] = {{(.*?)\n}};", source, re.S)[1]
    found = []
    for line in table.splitlines():
        if line.strip().startswith("{"):
            state_bits, columns, tables, unit = re.fullmatch(
                r"\s*{(\d+), {([^}]*)}, {(.*)}, ([\d.e-]+)f},", line).groups()
            tables = [[int(v) for v in t.split(",")] for t in re.findall(r"{([^{}]*)}", tables)]
            found.append((int(state_bits), [int(c) for c in columns.split(",")], tables, float(unit)))
    return found


@functools.cache
def trellis_values(name, bits):
    """State bits, and the value of each state."""
    if name in ("hash", "fast"):
        state_bits, columns, tables, unit = linear_hash_codes(name)[bits - 1]
        values = []
        for state in range(1 << state_bits):
            byte = state & 255
            for i, column in enumerate(columns):
                byte ^= column if state >> (8 + i) & 1 else 0
            third = tables[2][state >> 4 & 15] if len(tables) > 2 else 0
            values.append(unit * (tables[0][byte & 15] + tables[1][byte >> 4] + third))
        return state_bits, values
    assert name == "1mad"
    raw = [sum((34038481 * x + 76625530 & 0xFFFFFFFF).to_bytes(4, "little")) - 510
           for x in range(1 << 16)]
    rms = (sum(v * v for v in raw) / len(raw)) ** 0.5
    return 16, [v / rms for v in raw]


def ring_value(bits, symbols, at, code):
    state_bits, values = code
    state = 0
    for k in range(-(-state_bits // bits)):
        state |= symbols[(at + k) % len(symbols)] << (bits * k)
    return values[state & ((1 << state_bits) - 1)]


def trellis_tiles(spec, data, rows, cols):
    bits, across = int(spec["bits"]), -(-cols // 16)
    code, flat = trellis_values(spec["code"], bits), [[0.0] * cols for _ in range(rows)]
    for tile in range(-(-rows // 16) * across):
        symbols = codes(data[32 * bits * tile : 32 * bits * (tile + 1)], bits, 256)
        for place in range(256):
            i, j = tile // across * 16 + place // 16, tile % across * 16 + place % 16
            if i < rows and j < cols:
                flat[i][j] = ring_value(bits, symbols, place, code)
    return flat


def trellis_stages(name, bits):
    """(bits, values by state, gain) of the codes that are added up."""
    if bits <= 4:
        return [(bits, trellis_values(name, bits), 1)]
    first = (bits + 1) // 2
    wide, narrow = {5: (1.12, 0.138), 6: (1.2, 0.152), 7: (1.22, 0.078), 8: (1.3, 0.078)}[bits]
    return [(first, trellis_values(name, first), wide),
            (bits - first, trellis_values(name, bits - first), narrow)]


def trellis_columns(spec, data, rows, cols):
    low, blocks = int(float(spec["bits"])), -(-cols // 64)
    wanted = (float(spec["bits"]) - low) * cols
    high = min(range(blocks + 1), key=lambda n: abs(min(64 * n, cols) - wanted))  # one bit more
    rates = [low + (block < high) for block in range(blocks)]
    widths = [min(64, cols - 64 * block) for block in range(blocks)]
    group_bytes = sum(rate * width for rate, width in zip(rates, widths))
    groups = len(data) // group_bytes
    streams = -(-groups * 8 // 384)
    stream_groups = -(-groups // streams)
    flat, before = [[0.0] * cols for _ in range(rows)], 0
    for block, (rate, width) in enumerate(zip(rates, widths)):
        for bits, code, gain in trellis_stages(spec["code"], rate):
            for column in range(width):
                symbols = []
                for group in range(groups):
                    first = group * group_bytes + before + column
                    symbols += codes(bytes(data[first + b * width] for b in range(bits)), bits, 8)
                for i in range(rows):
                    first = i // 8 // stream_groups * stream_groups * 8
                    ring = symbols[first : first + 8 * stream_groups]
                    flat[i][64 * block + column] += gain * ring_value(bits, ring, i - first, code)
            before += bits * width
    return flat


def decode_trellis(spec, section, rows, cols):
    (scale,) = floats("f32", section["scale"])
    form = trellis_tiles if spec["form"] == "tiles" else trellis_columns
    flat = [[scale * x for x in row] for row in form(spec, section["codes"], rows, cols)]
    left, right = signs(section["signs_out"], rows), signs(section["signs_in"], cols)
    plain = product(product(rotation(rows), flat), transpose(rotation(cols)))
    return [left[i] * plain[i][j] * right[j] for i in range(rows) for j in range(cols)]


DECODERS = {"int": decode_int, "vptq": decode_vptq, "aqlm": decode_aqlm, "quip": decode_quip,
            "trellis": decode_trellis}


def decode(entry, section):
    method, _, keys = entry["spec"].partition(":")
    spec = dict(pair.split("=") for pair in keys.split(","))
    spec["method"] = method
    return DECODERS[method.rstrip("0123456789")](spec, section, *entry["shape"])


checkpoint, plain = Path(sys.argv[1]), Path(sys.argv[2])
manifest = json.loads((checkpoint / "squish.json").read_text())
assert manifest["format"] == "squish" and manifest["format_version"] == 0
expected = read_safetensors(plain / "model.safetensors")[1]
quantised = 0
for name, entries in manifest["files"].items():
    metadata, stored = read_safetensors(checkpoint / name)
    assert json.loads(metadata["tensors"]) == entries
    for tensor, entry in entries.items():
        if entry["type"] == "squish":
            section = {}
            for part in entry["sections"]:
                data = stored[f"{tensor}.{part['name']}"][2]
                assert hashlib.sha256(data).hexdigest() == part["sha256"]
                assert len(data) == part["bytes"]
                section[part["name"]] = data
            ours = decode(entry, section)
            quantised += 1
        else:
            data = stored[tensor][2]
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
            ours = floats(entry["type"].lower(), data)
        dtype, shape, data = expected.pop(tensor)
        assert dtype == "F32" and shape == entry["shape"], tensor
        theirs = floats("f32", data)
        assert len(ours) == len(theirs), tensor
        largest = max(map(abs, theirs))
        worst = max(abs(a - b) for a, b in zip(ours, theirs))
        # Intermediate results are rounded to float at the size that they have, the rotations' often.
        rounding = 2.0**-19 if entry.get("spec", "").startswith(("quip", "trellis")) else 2.0**-22
        assert worst <= rounding * max(largest, 1e-30), (tensor, worst, largest)
assert not expected, expected.keys()
print(f"{quantised} quantised tensors decoded alike")
