"""Random blocks of every GGUF type and their floats, for tests/io/tensor_test.cc.

usage: gguf_types.py ../data/gguf_types   (needs numpy and gguf; written with gguf 0.19.0)
Writes TYPE.blocks (as in a file) and TYPE.f32 (gguf's dequantisation, little-endian floats).
Scales are finite F16, subnormal and negative ones among them; all other bytes are random.
"""
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

BLOCKS = 4
# Where each type has F16 values within its block.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

rng = np.random.default_rng(20240607)
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)


def scales(n):
    values = rng.integers(0, 0x7c00, n) | rng.integers(0, 2, n) << 15
    values[0] = 0x0001  # the smallest subnormal
    return values.astype("<u2")


for name, places in HALVES.items():
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for place in places:
        blocks[:, place:place + 2] = scales(BLOCKS).view(np.uint8).reshape(BLOCKS, 2)
    floats = dequantize(blocks, GGMLQuantizationType[name])
    (folder / f"{name}.blocks").write_bytes(blocks.tobytes())
    (folder / f"{name}.f32").write_bytes(floats.astype("<f4").tobytes())

halves = scales(64)
(folder / "F16.blocks").write_bytes(halves.tobytes())
(folder / "F16.f32").write_bytes(halves.view("<f2").astype("<f4").tobytes())
brain = rng.integers(0, 0x7f80, 64).astype("<u2")
(folder / "BF16.blocks").write_bytes(brain.tobytes())
floats = dequantize(brain.view(np.uint8), GGMLQuantizationType.BF16)
(folder / "BF16.f32").write_bytes(floats.astype("<f4").tobytes())
