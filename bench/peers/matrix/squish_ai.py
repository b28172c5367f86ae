"""encode_weight_matrix() of the package squish-ai (squish/quant/aqlm.py): codebooks by k-means of
what the ones before left, one scale for the matrix."""
import time

from common import package

SETTINGS = ("2 codebooks of 256, groups of 8; stored bits count indices of 8 bits and codebooks of f32 "
            "(it keeps indices in 16 or 32)")
CALIBRATED = False
CASES = [{"spec": "aqlm:m=2,b=8,g=8"}]


def find(_options):
    return package("squish-ai")


class Peer:
    def __init__(self, _options):
        from squish.quant import aqlm
        self.aqlm = aqlm

    def run(self, w, _h, seed):
        settings = self.aqlm.AQLMConfig(n_codebooks=2, codebook_size=256, group_size=8)
        start = time.monotonic()
        layer = self.aqlm.encode_weight_matrix(w, settings, seed=seed)
        what = self.aqlm.aqlm_dequantize(layer)
        bits = (8 * layer.indices.size + 32 * sum(book.vectors.size for book in layer.codebooks) + 32) / w.size
        return what, time.monotonic() - start, bits
