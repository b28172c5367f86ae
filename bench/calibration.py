"""A calibration file of squish, for the scripts beside this one. Needs numpy."""
import json

import numpy

INPUTS = {"self_attn.q_proj": "self_attn.qkv", "self_attn.k_proj": "self_attn.qkv",
          "self_attn.v_proj": "self_attn.qkv", "self_attn.o_proj": "self_attn.o_proj",
          "mlp.gate_proj": "mlp.gate_up", "mlp.up_proj": "mlp.gate_up",
          "mlp.down_proj": "mlp.down_proj"}


def split_name(tensor):
    parts = tensor.split(".")
    return parts[2], ".".join(parts[3:5])  # layer, role


class Calibration:
    """A calibration file of squish (docs/format.md)."""

    def __init__(self, path):
        self.data = numpy.memmap(path, numpy.uint8, "r")
        size = int(self.data[:8].view("<u8")[0])
        self.header = json.loads(bytes(self.data[8:8 + size]))
        self.inputs = json.loads(self.header["__metadata__"]["calibration"])["inputs"]
        self.base = 8 + size

    def hessian(self, tensor):
        """E[x x'] of the tensor's input, float64."""
        upper = self._mean_of(tensor, "products")
        n = len(self.mean(tensor))
        h = numpy.zeros((n, n))
        h[numpy.triu_indices(n)] = upper
        return h + numpy.triu(h, 1).T

    def mean(self, tensor):
        """E[x]."""
        return self._mean_of(tensor, "sum")

    def _mean_of(self, tensor, sums):
        layer, role = split_name(tensor)
        name = f"model.layers.{layer}.{INPUTS[role]}"
        begin, end = self.header[f"{name}.{sums}"]["data_offsets"]
        return self.data[self.base + begin:self.base + end].view("<f8") / self.inputs[name]["tokens"]


def proxy_loss(w, what, h):
    """tr((W - What) H (W - What)') / tr(W H W'); h None: H = I."""
    w, error = w.astype(numpy.float64), w.astype(numpy.float64) - what.astype(numpy.float64)
    return float(((error if h is None else error @ h) * error).sum() / ((w if h is None else w @ h) * w).sum())
