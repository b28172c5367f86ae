"""quantize_layer_trellis_rht() of the package glq (glq/trellis.py): QTIP's LDLQ over 16 x 16 tiles
behind a random Hadamard transform, with its codes 3INST and HYB. Runs on a CPU."""
import time

from common import package

SETTINGS = "its driver's call: L = 16, damping 0.01, transforms of both sides, one block-diagonal"
CALIBRATED = True
CASES = [{"spec": "trellis:bits=2", "variant": variant, "slow": True} for variant in ("3inst", "hyb")]


def find(_options):
    package("torch")
    package("scipy")  # HYB's table is fitted with it
    return package("glq")


class Peer:
    def __init__(self, _options):
        from glq.trellis import TrellisCodebook, quantize_layer_trellis_rht
        self.codebook, self.quantize = TrellisCodebook, quantize_layer_trellis_rht
        self.books = {}  # fitted or tabulated once, apart from matrices

    def run(self, w, h, seed, variant):
        import torch
        if variant not in self.books:
            self.books[variant] = self.codebook(variant, K=2)
        book = self.books[variant]
        torch.manual_seed(seed)
        weights, hessian = torch.from_numpy(w.copy()), torch.from_numpy(h).to(torch.float32)
        start = time.monotonic()
        with torch.no_grad():
            what, stored = self.quantize(weights, hessian, book)
        seconds = time.monotonic() - start
        bits = 8 * sum(part.numel() * part.element_size() for part in stored.values()) / w.size
        return what.numpy(), seconds, bits
