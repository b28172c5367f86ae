"""Decodes a checkpoint from docs/formats.md and the methods' section comments alone, and compares.

usage: decode_checkpoint.py CHECKPOINT PLAIN   (PLAIN: squish dequantize CHECKPOINT -o PLAIN --type f32)
Knows int2 to int8, vptq and aqlm; needs nothing but Python. Fails unless every weight is within two
roundings of float, and every checksum is right.
"""
import hashlib
import json
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


DECODERS = {"int": decode_int, "vptq": decode_vptq, "aqlm": decode_aqlm}


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
        # Intermediate results are rounded to float at the size that they have.
        assert worst <= 2.0**-22 * max(largest, 1e-30), (tensor, worst, largest)
assert not expected, expected.keys()
print(f"{quantised} quantised tensors decoded alike")
