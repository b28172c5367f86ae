"""What llama.cpp and ik_llama.cpp, a fork of it, have in common as peers."""
import ctypes
import hashlib
import json

import numpy

from common import Missing, call

MAINLINE = "https://github.com/ggml-org/llama.cpp"
IK = "https://github.com/ikawrakow/ik_llama.cpp"
BLOCK = 256


class Runtime:
    """Their llama-bench and llama-quantize, in the folder that the option `option` names."""

    def __init__(self, option, repository, types):
        self.option, self.repository, self.types, self.commit = option, repository, types, None

    def folder(self, options):
        return getattr(options, self.option)

    def find(self, options):
        folder = self.folder(options)
        for program in ("llama-bench", "llama-quantize"):
            if folder is None or not (folder / program).exists():
                raise Missing(f"no {program} in {folder}; --{self.option} DIR names what {self.repository} builds into "
                              "build/bin")
        return {"repository": self.repository}

    def quantize(self, options, source, importance, path, kind):
        return [self.folder(options) / "llama-quantize", "--imatrix", importance, "--pure", "--token-embedding-type",
                "q8_0", "--output-tensor-type", "q8_0", source, path, kind]

    def rates(self, options, model):
        out = call([self.folder(options) / "llama-bench", "-m", model, "-t", options.threads, "-p", 512, "-n", 128, "-r", 1,
                    "-o", "json"])
        rows = json.loads(out)
        self.commit = rows[0].get("build_commit")
        found = {"prompt" if row["n_prompt"] else "generate": row["avg_ts"] for row in rows}
        return found["generate"], found["prompt"]


class Types:
    """The types of the ggml library that the option `option` names, by their numbers in ggml.h."""

    def __init__(self, option, repository, numbers):
        self.option, self.repository, self.numbers = option, repository, numbers

    def find(self, options):
        path = getattr(options, self.option)
        if path is None or not path.exists():
            raise Missing(f"no library {path}; --{self.option.replace('_', '-')} FILE names the libggml of {self.repository}, "
                          "built with -DBUILD_SHARED_LIBS=ON (mainline: libggml-base.so)")
        return {"repository": self.repository, "library": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}

    def open(self, options, name):
        return Ggml(getattr(options, self.option), name, self.numbers[name])


class Ggml:
    def __init__(self, path, name, number):
        self.library = ctypes.CDLL(str(path))
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
        self.user = (ctypes.c_bool * 2)(False, False)  # quantize_user_data, which mainline lacks

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
