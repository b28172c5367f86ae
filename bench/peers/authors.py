"""Each method's proxy loss and time against its authors' own code, on the same W and H.

    authors.py --squish build/release/squish --model M.gguf --calib M.calib \
        --aqlm DIR --quip-sharp DIR --gptq DIR --vptq DIR [-o docs/results/peers-authors.json]

Fetches nothing: the directories are checkouts of the repositories in REPOSITORIES, at the commits
named there (another commit is an error unless --any-commit); leave out what you do not have. None of their code is here; their
modules are imported from those directories. What of them needs CUDA or a package that has no part
in the algorithm is replaced by the stand-ins below, each of which says what it stands for.

Proxy loss: tr((W - What) H (W - What)') / tr(W H W'), float64, H = E[x x'] without damping, by one
function for all. For each matrix and each seed ours and theirs run in turn, on as many threads.
Times: theirs is their call, from W and H in memory to their reconstruction; ours is the `seconds`
of squish's log (reading W and H, preparing H, coding, writing the file).
"""
import argparse
import contextlib
import importlib
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import gguf
import numpy
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from calibration import Calibration, proxy_loss, split_name

REPOSITORIES = {
    "aqlm": ("https://github.com/Vahe1994/AQLM", "e79a896ed6656fe4ed06193d42d004e7d0bbdbb2"),
    "gptq": ("https://github.com/IST-DASLab/gptq", "2d65066eeb06a5c9ff5184d8cebdf33662c67faf"),
    "quip-sharp": ("https://github.com/Cornell-RelaxML/quip-sharp",
                   "1d8f873e9a2a8b86b12bb1064c312c5689b77d98"),
    "vptq": ("https://github.com/microsoft/VPTQ (branch algorithm)",
             "5a8dfb93d2a7475151f66c559a44e057fe5322f9"),
}
TENSORS = ["model.layers.10.self_attn.q_proj.weight", "model.layers.20.mlp.gate_proj.weight",
           "model.layers.10.mlp.down_proj.weight"]
MANY = 400_000
GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}

# --- W and H ---

def read_weights(reader, tensor):
    """W as squish sees it: decoded to f32, rows of q and k back from llama.cpp's order."""
    layer, role = split_name(tensor)
    name = f"blk.{layer}.{GGUF_NAMES[role]}.weight"
    found = [t for t in reader.tensors if t.name == name]
    if not found:
        sys.exit(f"authors.py: the model has no tensor {name}")
    w = gguf.quants.dequantize(found[0].data, found[0].tensor_type).astype(numpy.float32)
    arch = bytes(reader.get_field("general.architecture").parts[-1]).decode()
    if arch == "llama" and role in ("self_attn.q_proj", "self_attn.k_proj"):
        key = "head_count" if role == "self_attn.q_proj" else "head_count_kv"
        heads = int(reader.get_field(f"{arch}.attention.{key}").parts[-1][0])
        w = w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)
    return numpy.ascontiguousarray(w)


# --- ours ---

def run_squish(args, tensor, spec, seed, w):
    """What and the log's line."""
    with tempfile.TemporaryDirectory() as folder:
        packed, plain = Path(folder) / "packed", Path(folder) / "plain"
        common = ["--threads", str(args.threads)]
        subprocess.run([args.squish, "quantize", args.model, "-o", packed, "--spec", spec,
                        "--tensor", "*=none", "--tensor", f"{tensor}={spec}",
                        "--calib", args.calib, "--seed", str(seed), *common],
                       check=True, capture_output=True)
        line = json.loads((packed / "squish.log.jsonl").read_text().splitlines()[0])
        subprocess.run([args.squish, "dequantize", packed, "-o", plain, "--type", "f32", *common],
                       check=True, capture_output=True)
        (file,) = plain.glob("*.safetensors")
        what = read_plain(file, tensor)
    if what.shape != w.shape:
        sys.exit(f"authors.py: {tensor} is {w.shape} in the model and {what.shape} from squish")
    return what, line


def read_plain(path, tensor):
    data = numpy.fromfile(path, numpy.uint8)
    size = int(data[:8].view("<u8")[0])
    entry = json.loads(bytes(data[8:8 + size]))[tensor]
    begin, end = entry["data_offsets"]
    return data[8 + size + begin:8 + size + end].view("<f4").reshape(entry["shape"]).copy()


# --- theirs ---

@contextlib.contextmanager
def modules_of(folder):
    """Imports come from `folder` first; what was imported from it is forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(str(folder)):
                del sys.modules[name]


def stand_in(name, **members):
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


class Aqlm:
    """AQEngine.quantize (aq_engine.py): k-means, then 100 steps of Adam and a beam search in turn.
    Runs on a CPU as it is."""

    settings = dict(out_group_size=1, in_group_size=8, num_codebooks=2, nbits_per_codebook=8,
                    codebook_value_nbits=16, codebook_value_num_groups=1, scale_nbits=0,
                    init_max_iter=100, init_max_points_per_centroid=None, lr=1e-4, beam_size=1,
                    max_epochs=1000, relative_mse_tolerance=0.01, steps_per_epoch=100,
                    print_frequency=10)
    source = ("README's command (in_group_size 8, relative_mse_tolerance 0.01) at its 2x8 scheme, "
              "the rest main.py's defaults; without block fine-tuning")

    def __init__(self, folder):
        with modules_of(folder):
            self.engine = importlib.import_module("aq_engine").AQEngine

    def run(self, w, h, seed):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight.data = torch.from_numpy(w.copy())
        engine = self.engine(layer)
        engine.XTX.copy_(torch.from_numpy(h))
        arguments = argparse.Namespace(devices=[torch.device("cpu")], **self.settings)
        quiet = io.StringIO()
        start = time.monotonic()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            quantized = engine.quantize(args=arguments, verbose=False)
        with torch.no_grad():
            what = quantized()
        return what.numpy(), time.monotonic() - start


class QuipSharp:
    """quip.quantize (lib/algo/quip.py) after regularize_H and division by RMS(W), as
    quantize_linear does: two-sided Hadamard transform, block LDLQ, coordinate descent."""

    source = ("quantize_finetune_llama.py's defaults (sigma_reg 0.01, quip_tune_iters 10, "
              "incoh_mode had, float32) with the README's scales (0.9 for E8P12, else the "
              "codebooks' own); without fine-tuning")
    books = {2: ("E8P12", 0.9), 3: ("E8P12RVQ3B", -1), 4: ("E8P12RVQ4B", -1)}

    def __init__(self, folder, scale):
        self.scale = scale
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
        # Their buffer of 128 columns must divide the columns: 64 where it does not.
        columns = 128 if w.shape[1] % 128 == 0 else 64
        self.quip.LDLQ_buffered = (
            lambda *rest, buf_cols: self.ldlq_buffered(*rest, buf_cols=columns))
        name, scale = self.books[bits]
        if self.scale is not None:
            scale = self.scale
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


class Vptq:
    """VPTQ.fast_vector_quant (vptq/vptq.py): k-means weighted by H's diagonal, the column loop with
    error feedback, k-means of what is left, the loop again. Their k-means is cuML's, which needs a
    GPU: scikit-learn's, with the same arguments, stands for it."""

    source = ("algorithm.md's command (vector length 8, one group, no outliers, blocks of 128 "
              "columns, enable_perm, enable_norm, ktol 1e-5, kiter 100, H + 0.01 of its mean "
              "diagonal) with 256 centroids and 256 residual centroids instead of 65536 and 256; "
              "scikit-learn's k-means instead of cuML's; without fine-tuning")

    def __init__(self, folder):
        from sklearn.cluster import KMeans

        class WeightedKMeans(KMeans):
            def fit(self, x, sample_weight):
                # For the residual they pass a weight for each number instead of each vector.
                weight = sample_weight.numpy()
                return super().fit(x, sample_weight=weight.reshape(len(x), -1).mean(axis=1))

        with modules_of(folder):
            stand_in("cuml", cluster=types.SimpleNamespace(KMeans=WeightedKMeans))
            stand_in("cupy", cuda=types.SimpleNamespace(
                Device=lambda index: contextlib.nullcontext()))
            stand_in("transformers", Conv1D=type("Conv1D", (), {}))
            stand_in("vptq").__path__ = [str(Path(folder) / "vptq")]  # without its CUDA kernels
            self.quantizer = importlib.import_module("vptq.quantizer").NPVectorQuantizer
            self.vptq = importlib.import_module("vptq.vptq").VPTQ
        torch.cuda.synchronize = lambda: None

    def run(self, w, h, seed):
        # Theirs has its seed written down: every run is the same.
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight.data = torch.from_numpy(w.copy())
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


class Gptq:
    """GPTQ.fasterquant (gptq.py): the column loop with error feedback."""

    source = ("llama.py's settings (asymmetric, percdamp 0.01, --act-order) with --groupsize 64 "
              "--static-groups, so that groups are those of the columns as they lie")

    def __init__(self, folder):
        with modules_of(folder), contextlib.redirect_stdout(io.StringIO()):
            stand_in("transformers", Conv1D=type("Conv1D", (), {}))  # one type of layer
            self.gptq = importlib.import_module("gptq").GPTQ
            self.quantizer = importlib.import_module("quant").Quantizer
        torch.cuda.synchronize = lambda: None

    def run(self, w, h, seed, bits):
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight.data = torch.from_numpy(w.copy())
        start = time.monotonic()
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            gptq = self.gptq(layer)
            gptq.quantizer = self.quantizer()
            gptq.quantizer.configure(bits, perchannel=True, sym=False, mse=False)
            gptq.H = torch.from_numpy(2 * h).to(torch.float32)
            gptq.fasterquant(percdamp=0.01, groupsize=64, actorder=True, static_groups=True)
        return layer.weight.data.numpy(), time.monotonic() - start


def check_commit(folder, name, any_commit):
    url, expected = REPOSITORIES[name]
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True,
                          capture_output=True, text=True).stdout.strip()
    if head != expected:
        message = f"{folder} is at {head}, expected {url} at {expected}"
        if not any_commit:
            sys.exit(f"authors.py: {message} (--any-commit to go on)")
        print(message, file=sys.stderr)
    return {"repository": url, "commit": head}


def cpu_name():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")),
                platform.processor())


def decibels(loss):
    return -10 * math.log10(loss)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squish", required=True, help="the program")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--calib", required=True, help="what squish calibrate wrote of it")
    parser.add_argument("--aqlm", help="a checkout of AQLM")
    parser.add_argument("--gptq", help="a checkout of gptq")
    parser.add_argument("--quip-sharp", help="a checkout of quip-sharp")
    parser.add_argument("--vptq", help="a checkout of VPTQ's branch algorithm")
    parser.add_argument("--any-commit", action="store_true")
    parser.add_argument("--tensor", action="append", help="default: " + ", ".join(TENSORS))
    parser.add_argument("--all", action="store_true",
                        help=f"AQLM, and QuIP# above 2 bits, also where there are more than "
                        f"{MANY} weights: their code takes minutes each")
    parser.add_argument("--bits", default="2,3,4", help="of QuIP#")
    parser.add_argument("--scale", type=float, help="QuIP#'s scale_override for all, not theirs")
    parser.add_argument("--seeds", type=int, default=1, help="of ours and theirs, from 0 on")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quip-spec", default="quip:bits={bits}")
    parser.add_argument("--gptq-spec", default="int{bits}:sym=0,g=64")
    parser.add_argument("--aqlm-spec", default="aqlm:m=2,b=8,g=8")
    parser.add_argument("--vptq-spec", default="vptq:v=8,k=256,r=256")
    parser.add_argument("-o", "--output", help="JSON; a run is added to those in it")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    jobs, repositories = [], {}
    if args.quip_sharp:
        repositories["quip-sharp"] = check_commit(args.quip_sharp, "quip-sharp", args.any_commit)
        peer = QuipSharp(args.quip_sharp, args.scale)
        repositories["quip-sharp"]["settings"] = peer.source
        for bits in map(int, args.bits.split(",")):
            jobs.append(("quip-sharp", args.quip_spec.format(bits=bits), bits > 2,
                         lambda w, h, seed, bits=bits: peer.run(w, h, seed, bits)))
    if args.gptq:
        repositories["gptq"] = check_commit(args.gptq, "gptq", args.any_commit)
        gptq = Gptq(args.gptq)
        repositories["gptq"]["settings"] = gptq.source
        for bits in (2, 3, 4):
            jobs.append(("gptq", args.gptq_spec.format(bits=bits), False,
                         lambda w, h, seed, bits=bits: gptq.run(w, h, seed, bits)))
    if args.aqlm:
        repositories["aqlm"] = check_commit(args.aqlm, "aqlm", args.any_commit)
        aqlm = Aqlm(args.aqlm)
        repositories["aqlm"]["settings"] = aqlm.source
        jobs.append(("aqlm", args.aqlm_spec, True, aqlm.run))
    if args.vptq:
        repositories["vptq"] = check_commit(args.vptq, "vptq", args.any_commit)
        vptq = Vptq(args.vptq)
        repositories["vptq"]["settings"] = vptq.source
        jobs.append(("vptq", args.vptq_spec, False, vptq.run))

    reader, calibration, rows = gguf.GGUFReader(args.model), Calibration(args.calib), []
    version = subprocess.run([args.squish, "--version"], check=True, capture_output=True,
                             text=True).stdout.strip()
    run = {"command": " ".join(["bench/peers/authors.py", *sys.argv[1:]]), "squish": version,
           "cpu": cpu_name(), "threads": args.threads, "torch": torch.__version__,
           "seeds": list(range(args.seeds)), "repositories": repositories, "rows": rows}
    output = args.output and Path(args.output)
    runs = json.loads(output.read_text())["runs"] if output and output.exists() else []
    print("| theirs | squish | tensor | shape | loss, theirs | ours | ours better by, dB "
          "| s, theirs | ours | ratio |\n|---|---|---|---|---|---|---|---|---|---|")
    for tensor in args.tensor or TENSORS:
        w, h = read_weights(reader, tensor), calibration.hessian(tensor)
        for name, spec, is_slow, run_theirs in jobs:
            if is_slow and w.size > MANY and not args.all:
                continue
            row = {"peer": name, "spec": spec, "tensor": tensor, "shape": list(w.shape),
                   "ours": [], "theirs": []}
            for seed in range(args.seeds):
                what, line = run_squish(args, tensor, spec, seed, w)
                row["ours"].append({"loss": proxy_loss(w, what, h), "seconds": line["seconds"],
                                    "bpw": line["bpw"]})
                row["spec_in_full"] = line["spec"]
                what, seconds = run_theirs(w, h, seed)
                row["theirs"].append({"loss": proxy_loss(w, what, h), "seconds": seconds})
            mean = {who: {key: sum(once[key] for once in row[who]) / args.seeds
                          for key in ("loss", "seconds")} for who in ("ours", "theirs")}
            row["ours_better_by_db"] = decibels(mean["ours"]["loss"]) - decibels(
                mean["theirs"]["loss"])
            row["time_ratio"] = mean["ours"]["seconds"] / mean["theirs"]["seconds"]
            row["mean"] = mean
            rows.append(row)
            print(f"| {name} | {spec} | {tensor} | {w.shape[0]} x {w.shape[1]} "
                  f"| {mean['theirs']['loss']:.6f} | {mean['ours']['loss']:.6f} "
                  f"| {row['ours_better_by_db']:+.3f} | {mean['theirs']['seconds']:.2f} "
                  f"| {mean['ours']['seconds']:.2f} | {row['time_ratio']:.3f} |", flush=True)
            if output:  # after every row: a killed run is not lost
                output.write_text(json.dumps({"runs": [*runs, run]}, indent=1, sort_keys=True) +
                                  "\n")


if __name__ == "__main__":
    main()
