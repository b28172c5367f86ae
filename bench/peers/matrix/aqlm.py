"""AQEngine.quantize (aq_engine.py): k-means, then 100 steps of Adam and a beam search in turn.
Runs on a CPU as it is."""
import argparse
import contextlib
import importlib
import io
import time

from common import checkout, layer_of, modules_of, package

SETTINGS = ("README's command (in_group_size 8, relative_mse_tolerance 0.01) at its 2x8 scheme, "
            "the rest main.py's defaults; without block fine-tuning")
CALIBRATED = True
CASES = [{"spec": "aqlm:m=2,b=8,g=8", "slow": True}]
ARGUMENTS = dict(out_group_size=1, in_group_size=8, num_codebooks=2, nbits_per_codebook=8,
                 codebook_value_nbits=16, codebook_value_num_groups=1, scale_nbits=0, init_max_iter=100,
                 init_max_points_per_centroid=None, lr=1e-4, beam_size=1, max_epochs=1000,
                 relative_mse_tolerance=0.01, steps_per_epoch=100, print_frequency=10)


def find(options):
    package("torch")
    return checkout(options.aqlm, "https://github.com/Vahe1994/AQLM", "e79a896ed6656fe4ed06193d42d004e7d0bbdbb2",
                    options.any_commit)


class Peer:
    def __init__(self, options):
        with modules_of(options.aqlm):
            self.engine = importlib.import_module("aq_engine").AQEngine

    def run(self, w, h, seed):
        import torch
        torch.manual_seed(seed)
        layer = layer_of(w)
        engine = self.engine(layer)
        engine.XTX.copy_(torch.from_numpy(h))
        arguments = argparse.Namespace(devices=[torch.device("cpu")], **ARGUMENTS)
        quiet = io.StringIO()
        start = time.monotonic()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            quantized = engine.quantize(args=arguments, verbose=False)
        with torch.no_grad():
            what = quantized()
        return what.numpy(), time.monotonic() - start
