"""quants.quantize() of the package gguf: llama.cpp's types without importance, as its converter
writes them. Not Q4_1, which is what the models at hand come in."""
import importlib
import time

from common import package

SETTINGS = "quants.quantize() and dequantize()"
CALIBRATED = False
CASES = [{"spec": "int4:sym=1,g=32,scale=f16,clip=mse", "kind": "Q4_0"},
         {"spec": "int8:sym=1,g=32,scale=f16", "kind": "Q8_0"}]


def find(_options):
    return package("gguf")


class Peer:
    def __init__(self, _options):
        self.quants = importlib.import_module("gguf.quants")
        self.kinds = importlib.import_module("gguf").GGMLQuantizationType

    def run(self, w, _h, _seed, kind):
        start = time.monotonic()
        stored = self.quants.quantize(w, self.kinds[kind])
        what = self.quants.dequantize(stored, self.kinds[kind])
        return what, time.monotonic() - start, 8 * stored.nbytes / w.size
