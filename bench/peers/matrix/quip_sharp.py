"""quip.quantize (lib/algo/quip.py) after regularize_H and division by RMS(W), as quantize_linear
does: two-sided Hadamard transform, block LDLQ, coordinate descent."""
import argparse
import importlib
import time
from pathlib import Path

from common import checkout, modules_of, package, stand_in

SETTINGS = ("quantize_finetune_llama.py's defaults (sigma_reg 0.01, quip_tune_iters 10, incoh_mode "
            "had, float32) with the README's scales (0.9 for E8P12, else the codebooks' own); without "
            "fine-tuning")
CALIBRATED = True
CASES = [{"spec": f"quip:bits={bits}", "bits": bits, "slow": bits > 2} for bits in (2, 3, 4)]
BOOKS = {2: ("E8P12", 0.9), 3: ("E8P12RVQ3B", -1), 4: ("E8P12RVQ4B", -1)}


def find(options):
    package("torch")
    return checkout(options.quip_sharp, "https://github.com/Cornell-RelaxML/quip-sharp",
                    "1d8f873e9a2a8b86b12bb1064c312c5689b77d98", options.any_commit)


class Peer:
    def __init__(self, options):
        folder = options.quip_sharp
        with modules_of(folder):
            # Kernels that only inference calls; lib.utils without the parts that load models and
            # data; log and progress. The Hadamard transform that quantisation calls is theirs.
            stand_in("quiptools_cuda")
            stand_in("fast_hadamard_transform")
            stand_in("glog", info=lambda *_: None)
            utils = stand_in("lib.utils")
            utils.__path__ = [str(Path(folder) / "lib" / "utils")]
            for part in ("matmul_had", "math_utils", "misc"):
                vars(utils).update(vars(importlib.import_module(f"lib.utils.{part}")))
            stand_in("lib.utils.data_utils")
            self.utils = utils
            self.quip = importlib.import_module("lib.algo.quip")
            self.codebook = importlib.import_module("lib.codebook").get_codebook
        self.ldlq_buffered = self.quip.LDLQ_buffered

    def run(self, w, h, seed, bits):
        import torch
        # Their buffer of 128 columns must divide the columns: 64 where it does not.
        columns = 128 if w.shape[1] % 128 == 0 else 64
        self.quip.LDLQ_buffered = (
            lambda *rest, buf_cols: self.ldlq_buffered(*rest, buf_cols=columns))
        name, scale = BOOKS[bits]
        settings = argparse.Namespace(
            use_fp64=False, rescale_WH=False, incoh_mode="had", lora_rank=0, scale_override=scale,
            resid_scale_override=-1, quip_tune_iters=10, no_use_buffered=False, lowmem_ldlq=False)
        book = self.codebook(name)
        book.maybe_pack_idxs = lambda codes: codes  # a layout for their kernels
        torch.manual_seed(seed)
        weights, hessian = torch.from_numpy(w.copy()), torch.from_numpy(h).to(torch.float32)
        start = time.monotonic()
        with torch.no_grad():
            rms = weights.square().mean().sqrt()
            hessian = self.utils.regularize_H(hessian.clone(), len(hessian), 0.01)
            what, _ = self.quip.quantize(hessian, weights / rms, 0, book, settings)
            what = what * rms
        return what.numpy(), time.monotonic() - start
