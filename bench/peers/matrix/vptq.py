"""VPTQ.fast_vector_quant (vptq/vptq.py): k-means weighted by H's diagonal, the column loop with
error feedback, k-means of what is left, the loop again. Their k-means is cuML's, which needs a GPU:
scikit-learn's, with the same arguments, stands for it."""
import contextlib
import importlib
import time
import types
from pathlib import Path

import numpy

from common import checkout, layer_of, modules_of, package, stand_in

SETTINGS = ("algorithm.md's command (vector length 8, one group, no outliers, blocks of 128 columns, "
            "enable_perm, enable_norm, ktol 1e-5, kiter 100, H + 0.01 of its mean diagonal) with 256 "
            "centroids and 256 residual centroids instead of 65536 and 256; scikit-learn's k-means "
            "instead of cuML's; without fine-tuning")
CALIBRATED = True
CASES = [{"spec": "vptq:v=8,k=256,r=256"}]


def find(options):
    package("torch")
    package("scikit-learn")
    return checkout(options.vptq, "https://github.com/microsoft/VPTQ (branch algorithm)",
                    "5a8dfb93d2a7475151f66c559a44e057fe5322f9", options.any_commit)


class Peer:
    def __init__(self, options):
        import torch
        from sklearn.cluster import KMeans

        class WeightedKMeans(KMeans):
            def fit(self, x, sample_weight):
                # For the residual they pass a weight for each number instead of each vector.
                weight = sample_weight.numpy()
                return super().fit(x, sample_weight=weight.reshape(len(x), -1).mean(axis=1))

        with modules_of(options.vptq):
            stand_in("cuml", cluster=types.SimpleNamespace(KMeans=WeightedKMeans))
            stand_in("cupy", cuda=types.SimpleNamespace(
                Device=lambda index: contextlib.nullcontext()))
            stand_in("transformers", Conv1D=type("Conv1D", (), {}))
            stand_in("vptq").__path__ = [str(Path(options.vptq) / "vptq")]  # without its CUDA kernels
            self.quantizer = importlib.import_module("vptq.quantizer").NPVectorQuantizer
            self.vptq = importlib.import_module("vptq.vptq").VPTQ
        torch.cuda.synchronize = lambda: None

    def run(self, w, h, seed):
        import torch
        # Theirs has its seed written down: every run is the same.
        layer = layer_of(w)
        log = types.SimpleNamespace(info=lambda *_: None)
        start = time.monotonic()
        with torch.no_grad():
            # As utils/hessian.py regularises it, and inverted as vptq() would; they load both.
            hessian = torch.from_numpy(h / numpy.diag(h).mean()).to(torch.float32)
            hessian += 0.01 * torch.eye(len(h))
            perm = torch.argsort(torch.diag(hessian), descending=True)
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian[perm][:, perm]))
            inverse = torch.linalg.cholesky(inverse, upper=True)
            quantizer = self.quantizer(
                layer_name="", logger=log, vector_lens=(-1, 8), num_centroids=(-1, 256),
                num_res_centroids=(-1, 256), npercent=0, group_size=-1, group_num=1,
                kmeans_mode="hessian", iter=100, tol=1e-5, enable_norm=True, norm_dim=0)
            vptq = self.vptq(layer, quantizer, hessian, inverse, perm, None, log, block_size=128,
                             enable_perm=True, enable_norm=True, norm_dim=0)
            vptq.fast_vector_quant()
        return vptq.qweight.numpy(), time.monotonic() - start
