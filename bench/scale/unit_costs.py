#!/usr/bin/python3
"""What compressing a matrix of m x n costs by each method, a m n + b m n^2 + c n^3 + d core-seconds (n^3 once for all with one input),
and what calibrating costs, for bench/scale/simulate.py and docs/scale.md: compresses matrices of SmolLM2, and of random ones with
Qwen2.5-1.5B's and Llama-3-8B's shapes, on one thread each, two at a time. `left_out`: what a fit to all other matrices says of those
of one input, over what they took.
    bench/scale/unit_costs.py --squish build/release/squish --model SMOLLM2 --work DIR -o COSTS.json
Half an hour on two quiet cores; DIR needs 6 GB, and keeps what it has for the next time. Needs NumPy."""
import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402

SAMPLES = [("middle", "*.down_proj.*"), ("small", "model.layers.0.*"), ("middle", "*.o_proj.*"), ("large", "*.k_proj.*")]
SPECS = ["int4:g=128,scale=f16,clip=mse", "quip:bits=2", "trellis:bits=2,code=fast", "trellis:bits=2", "vptq:v=8,k=256,r=256",
         "aqlm:m=2,b=8,g=8"]
TOKENS = 8192


def run(command):
    print(" ".join(map(str, command)), file=sys.stderr, flush=True)
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return time.monotonic() - begin


def samples_of(checkpoint):
    """Of each of its inputs: width, the rows of its matrices, how many they are, core-seconds in all."""
    inputs = {}
    for line in (checkpoint / "squish.log.jsonl").read_text().splitlines():
        entry = json.loads(line)
        *block, module, _ = entry["tensor"].split(".")
        name = {"k_proj": "qkv", "v_proj": "qkv", "q_proj": "qkv", "up_proj": "gate", "gate_proj": "gate"}.get(module, module)
        found = inputs.setdefault((*block, name), [entry["cols"], 0, 0, 0.0])
        found[1] += entry["rows"]
        found[2] += 1
        found[3] += entry["seconds"]
    return [tuple(found) for found in inputs.values()]


def terms(n, m, matrices):
    return [m * n, m * n * n, n**3, matrices]


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
    def __init__(self, args):
        self.args = args
        self.models = {"small": args.model, "middle": args.work / "middle", "large": args.work / "large"}

    def prepare(self):
        """Models and calibrations that are not there; core-seconds that calibrating takes."""
        self.args.work.mkdir(parents=True, exist_ok=True)
        for name, shapes in ("middle", "qwen2.5-1.5b"), ("large", "llama-3-8b"):
            if not (self.models[name] / "tokenizer.json").exists():
                run([sys.executable, ROOT / "bench/random_model.py", self.models[name], "--shapes", shapes, "--layers", "1"])
        rows = []
        for name, model in self.models.items():
            done = self.args.work / f"{name}.calibrated.json"
            if not done.exists():
                out = self.args.work / f"{name}.calib"
                out.unlink(missing_ok=True)
                seconds = run([self.args.squish, "calibrate", model, "-o", out, "--tokens", str(TOKENS), "--ctx", "2048"])
                config = self.shapes(model)
                done.write_text(json.dumps({"shapes": config, "core_seconds": 2 * seconds}))  # two threads
            rows.append(json.loads(done.read_text()))
        return rows

    def shapes(self, model):
        """Weights of the linear layers, and of their inputs the squares of the widths."""
        text = subprocess.run([self.args.squish, "quantize", model, "-o", self.args.work / "none", "--spec", "int4", "--dry-run"],
                              capture_output=True, text=True, check=True).stdout
        weights = squares = 0
        for line in text.splitlines():
            found = re.search(r"(\w)\w*_proj\.weight .* (\d+) x (\d+)  ", line)
            if found:
                m, n = int(found[2]), int(found[3])
                weights += m * n
                squares += n * n * (found[1] in "qogd")  # one for each input
        return {"weights": weights, "squares": squares}

    def compress(self, spec, sample):
        model, tensors = sample
        out = self.args.work / f"{spec}-{model}-{tensors}".translate(str.maketrans(":*.,=", "-----"))
        if not (out / "squish.json").exists():
            run([self.args.squish, "quantize", self.models[model], "--calib", self.args.work / f"{model}.calib", "--spec", spec, "-o", out,
                 "--resume", "--threads", "1", "--tensor", "*=none", "--tensor", f"{tensors}={spec}"])
        return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squish", required=True)
    parser.add_argument("--model", required=True, help="SmolLM2, a directory or a .gguf file")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--specs", nargs="*", default=SPECS)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    args = parser.parse_args()
    all_of = Measurement(args)
    calibrated = all_of.prepare()
    with concurrent.futures.ThreadPoolExecutor(2) as two:
        jobs = {(spec, sample): two.submit(all_of.compress, spec, sample) for sample in SAMPLES for spec in reversed(args.specs)}
        done = {key: samples_of(job.result()) for key, job in jobs.items()}
    costs = []
    for spec in args.specs:
        inputs = [one for sample in SAMPLES for one in done[spec, sample]]

        def fitted(to):
            return fit([terms(*shape) for *shape, _ in to], [seconds for *_, seconds in to])
        found = fitted(inputs)
        samples = []
        for i, (n, m, matrices, seconds) in enumerate(inputs):
            others = fitted(inputs[:i] + inputs[i + 1:])
            samples.append({"cols": n, "rows": m, "matrices": matrices, "core_seconds": seconds,
                            "left_out": float(np.dot(terms(n, m, matrices), others)) / seconds})
        costs.append({"spec": spec, "per_weight": found[0], "per_weight_input": found[1], "per_input_cubed": found[2],
                      "per_matrix": found[3], "samples": samples})
        print(costs[-1], flush=True)
    found = fit([[TOKENS * row["shapes"]["weights"], TOKENS * row["shapes"]["squares"]] for row in calibrated],
                [row["core_seconds"] for row in calibrated])
    calibration = {"tokens": TOKENS, "per_token_weight": found[0], "per_token_square": found[1], "samples": calibrated}
    print(calibration)
    if args.output:
        args.output.write_text(json.dumps(
            {"schema": "squish.unit_costs/2", "cpu": measure.cpu(), "program": measure.version(args.squish), "unit": "core-seconds",
             "costs": costs, "calibration": calibration}, indent=1) + "\n")


main()
