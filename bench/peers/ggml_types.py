"""A model whose linear layers went through a type of ggml (llama.cpp, ik_llama.cpp), as plain
safetensors that squish evaluates as it evaluates its own: same text, protocol and divergence.

    ggml_types.py --ggml libggml.so --type iq2_xxs=16 --plain DIR --calib M.calib -o OUT
    squish eval OUT --reference M.gguf ...

Fetches nothing. libggml.so is built, outside this repository, of
https://github.com/ikawrakow/ik_llama.cpp at 8337e4cd3861406fc04e0854b1409cd1b027fbc9, folder ggml,
with -DBUILD_SHARED_LIBS=ON (README.md beside this file). A type is its name and its number in
ggml.h: iq2_xxs=16, iq2_xs=17, q2_k=10, iq2_ks=145, iq2_k=137. DIR is `squish dequantize M.gguf -o
DIR --type f32`.

ggml's types code blocks of 256 weights of a row, so rows are padded with zeros to a multiple of
256, whose importance is zero: what pads a model of such widths does the same, and the bits it
prints are of padded rows. Importance is E[x^2] of the inputs, what llama-imatrix sums up, from
squish's calibration. Embedding and norms stay as they are.
"""
import argparse
import ctypes
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from safetensors import safe_open
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from calibration import Calibration, INPUTS, split_name

BLOCK = 256


class Ggml:
    def __init__(self, path, name, number):
        self.library = ctypes.CDLL(path)
        self.number = number
        self.decode = getattr(self.library, f"dequantize_row_{name}")
        self.decode.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        self.decode.restype = None
        encode = self.library.ggml_quantize_chunk
        encode.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                           ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        encode.restype = ctypes.c_size_t
        self.library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
        self.library.ggml_row_size.restype = ctypes.c_size_t

        class Parameters(ctypes.Structure):
            _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p),
                        ("no_alloc", ctypes.c_bool)]

        self.library.ggml_init.argtypes = [Parameters]
        self.library.ggml_init.restype = ctypes.c_void_p
        self.library.ggml_init(Parameters(1 << 20, None, False))  # fills its tables
        self.library.ggml_quantize_init.argtypes = [ctypes.c_int]
        self.library.ggml_quantize_init(number)
        self.user = (ctypes.c_bool * 2)(False, False)  # quantize_user_data

    def round_trip(self, w, importance):
        """What `w` becomes, and its stored bits a weight of the padded rows."""
        rows, cols = w.shape
        padded = -(-cols // BLOCK) * BLOCK
        source = numpy.zeros((rows, padded), numpy.float32)
        source[:, :cols] = w
        weight = numpy.zeros(padded, numpy.float32)
        weight[:cols] = importance
        size = self.library.ggml_row_size(self.number, padded)
        stored = numpy.zeros((rows, size), numpy.uint8)
        written = self.library.ggml_quantize_chunk(
            self.number, source.ctypes.data, stored.ctypes.data, 0, rows, padded,
            weight.ctypes.data, ctypes.addressof(self.user))
        assert written == stored.size, (written, stored.size)
        out = numpy.empty_like(source)
        for row in range(rows):
            self.decode(stored[row].ctypes.data, out[row].ctypes.data, padded)
        return numpy.ascontiguousarray(out[:, :cols]), 8 * size / padded


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ggml", required=True, help="libggml.so")
    parser.add_argument("--type", required=True, help="NAME=NUMBER")
    parser.add_argument("--plain", required=True, help="the model as f32 safetensors")
    parser.add_argument("--calib", required=True, help="what squish calibrate wrote of it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", required=True, help="a directory that is not there")
    args = parser.parse_args()

    name, number = args.type.split("=")
    ggml, calibration = Ggml(args.ggml, name, int(number)), Calibration(args.calib)
    plain, out = Path(args.plain), Path(args.output)
    out.mkdir(parents=True)
    tensors = {}
    with safe_open(plain / "model.safetensors", "numpy") as file:
        for tensor in file.keys():
            tensors[tensor] = file.get_tensor(tensor)
    linear = [t for t in tensors if t.startswith("model.layers.") and split_name(t)[1] in INPUTS]

    def convert(tensor):
        w = tensors[tensor]
        what, bits = ggml.round_trip(w, numpy.diag(calibration.hessian(tensor)))
        tensors[tensor] = what
        return numpy.square(w).sum(), numpy.square(w - what).sum(), bits

    with ThreadPoolExecutor(args.threads) as pool:
        done = list(pool.map(convert, linear))
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    for path in plain.iterdir():
        if path.suffix != ".safetensors" and path.is_file():
            shutil.copy(path, out)
    signal, noise = sum(d[0] for d in done), sum(d[1] for d in done)
    print(json.dumps({"type": name, "tensors": len(done), "bits_of_padded_rows": done[0][2],
                      "snr_db": round(float(10 * numpy.log10(signal / noise)), 3)}))


if __name__ == "__main__":
    main()
