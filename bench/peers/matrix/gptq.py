"""GPTQ.fasterquant (gptq.py): the column loop with error feedback."""
import contextlib
import importlib
import io
import time

from common import checkout, layer_of, modules_of, package, stand_in

SETTINGS = ("llama.py's settings (asymmetric, percdamp 0.01, --act-order) with --groupsize 64 "
            "--static-groups, so that groups are those of the columns as they lie")
CALIBRATED = True
CASES = [{"spec": f"int{bits}:sym=0,g=64", "bits": bits} for bits in (2, 3, 4)]


def find(options):
    package("torch")
    return checkout(options.gptq, "https://github.com/IST-DASLab/gptq", "2d65066eeb06a5c9ff5184d8cebdf33662c67faf",
                    options.any_commit)


class Peer:
    def __init__(self, options):
        import torch
        with modules_of(options.gptq), contextlib.redirect_stdout(io.StringIO()):
            stand_in("transformers", Conv1D=type("Conv1D", (), {}))  # one type of layer
            self.gptq = importlib.import_module("gptq").GPTQ
            self.quantizer = importlib.import_module("quant").Quantizer
        torch.cuda.synchronize = lambda: None

    def run(self, w, h, seed, bits):
        import torch
        layer = layer_of(w)
        start = time.monotonic()
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            gptq = self.gptq(layer)
            gptq.quantizer = self.quantizer()
            gptq.quantizer.configure(bits, perchannel=True, sym=False, mse=False)
            gptq.H = torch.from_numpy(2 * h).to(torch.float32)
            gptq.fasterquant(percdamp=0.01, groupsize=64, actorder=True, static_groups=True)
        return layer.weight.data.numpy(), time.monotonic() - start
