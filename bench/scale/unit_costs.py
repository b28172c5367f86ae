#!/usr/bin/python3
"""What compressing a matrix of m rows and n columns costs by each method, a m n + b m n^2 + d core-seconds, what an
input of n costs once for all its matrices, c n^3 + e n^2 (H and its factor; c is the same for all methods that make
one; AQLM makes none, and has e n^2 of each matrix), and what calibrating costs, for bench/scale/simulate.py and
docs/scale.md. Measured are processes of one thread, their user and system seconds (also what they read, judge and
write), the least of --runs: SmolLM2's first block, and matrices of few rows and many columns, in which the cost of an
input shows. `left_out`: what a fit to all others says of a sample, over what it took.
    bench/scale/unit_costs.py --squish build/release/squish --model SMOLLM2 --work DIR -o COSTS.json
A quarter of an hour; DIR needs 6 GB, and keeps what was measured for the next time. Needs NumPy."""
import argparse
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402
from random_model import write_tokenizer  # noqa: E402

SPECS = ["int4:g=128,scale=f16,clip=mse", "quip:bits=2", "trellis:bits=2,code=fast", "trellis:bits=2",
         "vptq:v=8,k=256,r=256", "aqlm:m=2,b=8,g=8"]
UNFACTORED = ("aqlm",)  # no factor of H is made
# Columns and rows of one matrix.
SAMPLES = [(n, m) for n in (1024, 2048, 4096, 8192) for m in (64, 512)] + [(1536, 1536)]
WIDEST = {(14336, 64): ("int4", "quip")}
LONG = {"aqlm": 1536 * 1536}  # weights of the largest matrix that does not take it many minutes
TOKENS = (2048, 4096)  # of the calibration; the difference is what tokens cost
ROWS = {64: "k_proj", 512: "up_proj", 1536: "up_proj"}
HEAD = 64


def cpu_seconds(command):
    return measure.seconds_of(command)[1]


def write_model(directory, hidden, rows):
    """A block of random weights: q, k and v of 64 rows, gate and up of `rows`; a tokenizer of 256 bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    attention, mlp = "model.layers.0.self_attn.", "model.layers.0.mlp."
    shapes = {"model.embed_tokens.weight": (258, hidden), "model.norm.weight": (hidden,),
              **{f"{attention}{name}_proj.weight": (HEAD, hidden) for name in "qkv"},
              f"{attention}o_proj.weight": (hidden, HEAD), f"{mlp}down_proj.weight": (hidden, rows),
              **{f"{mlp}{name}_proj.weight": (rows, hidden) for name in ("gate", "up")},
              **{f"model.layers.0.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}}
    rng = np.random.default_rng(0)
    header, pieces, offset = {}, [], 0
    for name, shape in shapes.items():
        values = np.ones(shape, np.float32) if len(shape) == 1 else (0.02 * rng.standard_normal(shape, np.float32))
        pieces.append((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())  # BF16
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(pieces[-1])]}
        offset += len(pieces[-1])
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *pieces]))
    (directory / "config.json").write_text(json.dumps(
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 258,
         "hidden_size": hidden, "intermediate_size": rows, "num_hidden_layers": 1, "num_attention_heads": 1,
         "num_key_value_heads": 1, "head_dim": HEAD, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": True}))
    write_tokenizer(directory)


def fit(rows, seconds):
    """Least squares of relative errors, no term below zero."""
    rows, seconds = np.array(rows, float), np.array(seconds)
    kept, found = list(range(rows.shape[1])), np.zeros(rows.shape[1])
    while kept:
        part = np.linalg.lstsq(rows[:, kept] / seconds[:, None], np.ones(len(seconds)), rcond=None)[0]
        if (part >= 0).all():
            found[kept] = part
            break
        kept.pop(int(part.argmin()))
    return found


class Measurement:
    """What was measured is in DIR/measured.json."""

    def __init__(self, args):
        self.args = args
        self.file = args.work / "measured.json"
        args.work.mkdir(parents=True, exist_ok=True)
        self.known = json.loads(self.file.read_text()) if self.file.exists() else {}

    def least(self, key, run):
        times = self.known.setdefault(key, [])
        while len(times) < self.args.runs:
            times.append(run())
            self.file.write_text(json.dumps(self.known, indent=1))
        return min(times)

    def model(self, width):
        """The directory of the model of that width; 0: SmolLM2."""
        if width == 0:
            return self.args.model
        directory = self.args.work / f"wide-{width}"
        if not (directory / "tokenizer.json").exists():
            write_model(directory, width, 1536 if width == 1536 else 512)
        return directory

    def calibration(self, width, tokens):
        return self.args.work / f"wide-{width}-{tokens}.calib"

    def calibrate(self, width, tokens, context=2048):
        out = self.calibration(width, tokens)

        def run():
            out.unlink(missing_ok=True)
            return cpu_seconds([self.args.squish, "calibrate", self.model(width), "-o", out, "--threads", "1",
                                "--tokens", str(tokens), "--ctx", str(context)])
        return self.least(f"calibrate {width} {tokens}", run)

    def quantize(self, width, spec, tensors, calibrated=True):
        out = self.args.work / "out"

        def run():
            shutil.rmtree(out, ignore_errors=True)
            calib = ["--calib", self.calibration(width, TOKENS[-1])] if calibrated else []
            return cpu_seconds([self.args.squish, "quantize", self.model(width), *calib, "--spec", spec, "-o", out,
                                "--threads", "1", "--tensor", "*=none", "--tensor", f"{tensors}={spec}"])
        return self.least(f"quantize {width} {spec} {tensors} {calibrated}", run)

    def idle(self, width):
        """What a job takes besides, nearly: the model's digest, what is kept; 64 rows uncalibrated in 4 bits."""
        return self.quantize(width, "int4", "model.layers.0.*.k_proj.*", calibrated=False)

    def sample(self, spec, width, rows):
        name = ROWS[rows]
        seconds = self.quantize(width, spec, f"*.{name}.*") - self.idle(width)
        return {"inputs": [width], "rows": [rows], "matrices": [1], "core_seconds": seconds}

    def first_block(self, spec):
        seconds = self.quantize(0, spec, "model.layers.0.*") - self.idle(0)
        return {"inputs": [576, 576, 576, 1536], "rows": [960, 576, 3072, 576], "matrices": [3, 1, 2, 1],
                "core_seconds": seconds}


def terms(spec, sample):
    """m n, m n^2, matrices, n^2, n^3."""
    pairs, factored = list(zip(sample["inputs"], sample["rows"])), not spec.startswith(UNFACTORED)
    squares = sum(n * n * (1 if factored else count) for n, count in zip(sample["inputs"], sample["matrices"]))
    return [sum(m * n for n, m in pairs), sum(m * n * n for n, m in pairs), sum(sample["matrices"]), squares,
            factored * sum(n**3 for n in sample["inputs"])]


def compressing_costs(measured):
    samples = []
    for spec in SPECS:
        most = next((weights for name, weights in LONG.items() if spec.startswith(name)), math.inf)
        shapes = SAMPLES + [shape for shape, names in WIDEST.items() if spec.startswith(names)]
        samples.append((spec, measured.first_block(spec)))
        samples += [(spec, measured.sample(spec, n, m)) for n, m in shapes if m * n <= most]

    def row(spec, sample):
        """Each method has its own terms, but for the last."""
        found = [0] * (4 * len(SPECS) + 1)
        at = 4 * SPECS.index(spec)
        *found[at:at + 4], found[-1] = terms(spec, sample)
        return found

    def fitted(to):
        return fit([row(*one) for one in to], [sample["core_seconds"] for _, sample in to])
    found = fitted(samples)
    for i, (spec, sample) in enumerate(samples):
        others = fitted(samples[:i] + samples[i + 1:])
        sample["left_out"] = float(np.dot(row(spec, sample), others)) / sample["core_seconds"]
    costs = []
    for i, spec in enumerate(SPECS):
        weight, feedback, matrix, squared = found[4 * i:4 * i + 4]
        cost = {"spec": spec, "per_weight": weight, "per_weight_input": feedback, "per_matrix": matrix}
        if spec.startswith(UNFACTORED):
            cost["per_matrix_squared"] = squared
        else:
            cost |= {"per_input_squared": squared, "per_input_cubed": found[-1]}
        costs.append(cost | {"samples": [sample for of, sample in samples if of == spec]})
    return costs


def calibration_costs(measured):
    """Of a token: for each weight, and for an input's product with itself, for each of n^2. Attention is in these."""
    samples = []
    text = subprocess.run([measured.args.squish, "quantize", measured.args.model, "--spec", "int4", "--dry-run"],
                          capture_output=True, text=True, check=True).stdout
    matrices = [(int(m), int(n), name) for name, m, n in re.findall(r"(\w+)_proj\.weight .* (\d+) x (\d+)  ", text)]
    for width in (0, 1024, 2048, 4096, 8192):
        if width == 0:
            weights = sum(m * n for m, n, _ in matrices)
            squares = sum(n * n for _, n, name in matrices if name in ("q", "o", "gate", "down"))
        else:
            weights, squares = width * (4 * HEAD + 3 * 512), 2 * width**2 + HEAD**2 + 512**2
        seconds = measured.calibrate(width, TOKENS[1]) - measured.calibrate(width, TOKENS[0])
        samples.append({"weights": weights, "squares": squares, "core_seconds": seconds / (TOKENS[1] - TOKENS[0])})
    found = fit([[sample["weights"], sample["squares"]] for sample in samples],
                [sample["core_seconds"] for sample in samples])
    return {"per_token_weight": found[0], "per_token_square": found[1], "samples": samples}


def adding_costs(measured):
    """Of a byte of sums that the first rank takes from a file: checked and added as `calibrate` does; copied and added
    as --sequential does, for which stands NumPy."""
    measured.calibrate(8192, 1024, 1024)
    files = [measured.calibration(8192, tokens) for tokens in (*TOKENS, 1024)]

    def merge(many):
        out = measured.args.work / "merged.calib"

        def run():
            out.unlink(missing_ok=True)
            return cpu_seconds([measured.args.squish, "calibrate", "--merge", *many, "-o", out, "--threads", "1"])
        return measured.least(f"merge {len(many)}", run)
    checked = (merge(files) - merge(files[:2])) / files[0].stat().st_size
    total, part, copy = np.zeros(1 << 25), np.ones(1 << 25), np.zeros(1 << 25)

    def run():
        begin = time.process_time()
        np.copyto(copy, part)
        np.add(total, copy, out=total)
        return time.process_time() - begin
    added = min(run() for _ in range(7)) / part.nbytes
    return {"checked_and_added": checked, "copied_and_added": added}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squish", required=True)
    parser.add_argument("--model", required=True, help="SmolLM2, a directory or a .gguf file")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    args = parser.parse_args()
    measured = Measurement(args)
    calibration = calibration_costs(measured)
    print(calibration, flush=True)
    adding = adding_costs(measured)
    print(adding, flush=True)
    for width in sorted({n for n, _ in [*SAMPLES, *WIDEST]}):
        measured.calibrate(width, TOKENS[-1])
    costs = compressing_costs(measured)
    for cost in costs:
        print(cost, flush=True)
    if args.output:
        args.output.write_text(json.dumps(
            {"schema": "squish.unit_costs/3", "cpu": measure.cpu(), "program": measure.version(args.squish),
             "unit": "core-seconds: user and system seconds of a process of one thread, the least of its runs",
             "runs": sorted({len(times) for times in measured.known.values()}),
             "costs": costs, "calibration": calibration, "adding": adding}, indent=1) + "\n")


main()
