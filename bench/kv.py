#!/usr/bin/env python3
"""What it costs, and gains, to keep keys and values of past tokens as f16 or int8: predictions against those of the same
model with f32 (eval, gptq-2048), and tokens per second after as many others, in turn.
    bench/kv.py OUTPUT.json [--tokens 16384] [--generated 1536] [--rounds 5] [--data FILE] MODEL..."""
import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import sys

from measure import cpu, version

SQUISH = pathlib.Path(__file__).resolve().parents[1] / "build/release/squish"
PRECISIONS = {"quality": ("f16", "int8"), "speed": ("f32", "f16", "int8")}


def results(*words):
    run = subprocess.run([SQUISH, *words, "--format", "json"], check=True, stdout=subprocess.PIPE)
    return json.loads(run.stdout)["rows"][0]


def measure(model, args):
    rates = {kv: [] for kv in PRECISIONS["speed"]}
    for _ in range(args.rounds):
        for kv, own in rates.items():
            own.append(results("speed", model, "--kv", kv, "--tokens", str(args.generated), "--rounds", "1")["tps"]["median"])
    for kv, own in rates.items():
        row = {"model": pathlib.Path(model).name, "kv": kv}
        if own:
            row |= {"generated": args.generated,
                    "tps": {"median": statistics.median(own), "min": min(own), "max": max(own), "runs": len(own)},
                    "over_f32": statistics.median(mine / f32 for mine, f32 in zip(own, rates["f32"]))}
        if kv in PRECISIONS["quality"]:
            data = ["--ppl-data", args.data] if args.data else []
            found = results("eval", model, "--reference", model, "--kv", kv, "--ppl-tokens", str(args.tokens), *data)
            row |= {key: found[key] for key in ("ppl_protocol", "ppl", "nll_se", "delta_nll", "delta_nll_se", "kld_mean",
                                                "kld_p99", "top1_agreement")}
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--tokens", type=int, default=16384, help="of the text")
    parser.add_argument("--generated", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=5, help="of generating; 0: predictions alone")
    parser.add_argument("--data", help="the text; default: WikiText-2's test split")
    args = parser.parse_args()
    rows = [row for model in args.models for row in measure(model, args)]
    pathlib.Path(args.output).write_text(json.dumps({
        "command": shlex.join(["bench/kv.py", *sys.argv[1:]]), "squish": version(SQUISH), "cpu": cpu(), "rows": rows},
        indent=1) + "\n")


main()
