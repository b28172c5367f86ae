#!/usr/bin/env python3
"""Calibrates and quantises a model of random weights with Llama-3-8B's shapes (bench/random_model.py; one of its 32 blocks unless
told otherwise: each takes the same) within --max-memory, and says what anonymous memory the kernel saw at the peak. Exits with 1
where it was more.
    bench/scale/large_model.py --squish build/release/squish --work DIR -o RESULT.json
DIR needs 6 GB free, and holds the model for the next time. Needs nothing but Python and a text (--text)."""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402

SPECS = ["int4:g=128,scale=f16,clip=mse", "quip:bits=2", "trellis:bits=2,code=fast"]
GIB = 1 << 30


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squish", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--text", help="default: squish calibrate's")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--specs", nargs="*", default=SPECS)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    args = parser.parse_args()
    model, calib = args.work / "model", args.work / "calib"
    if not (model / "tokenizer.json").exists():
        subprocess.run([sys.executable, ROOT / "bench/random_model.py", model, "--shapes", "llama-3-8b", "--layers",
                        str(args.layers), "--shards", "4"], check=True)
    limit = ["--max-memory", f"{args.gib:g}GiB"]
    calibrate = [args.squish, "calibrate", model, "-o", calib, "--tokens", str(args.tokens), *limit]
    if args.text:
        calibrate += ["--text", args.text]
    rows = []

    def add(what, command):
        print(" ".join(map(str, command)), file=sys.stderr, flush=True)
        seconds, peak = measure.peak_of(command)
        rows.append({"what": what, "seconds": seconds, "peak_anonymous_bytes": peak, "limit_bytes": int(args.gib * GIB)})
        print(rows[-1], flush=True)

    if not calib.exists():
        add("calibrate", calibrate)
    for i, spec in enumerate(args.specs):
        out = args.work / f"out{i}"  # stays: bench/scale/unit_costs.py reads its log
        shutil.rmtree(out, ignore_errors=True)
        add(f"quantize {spec}", [args.squish, "quantize", model, "-o", out, "--spec", spec, "--calib", calib, *limit])
    if args.output:
        args.output.write_text(json.dumps(
            {"schema": "squish.large_model/1", "program": measure.version(args.squish), "cpu": measure.cpu(), "shapes": "llama-3-8b", "layers": args.layers,
             "calibration_tokens": args.tokens, "rows": rows}, indent=1) + "\n")
    sys.exit(any(row["peak_anonymous_bytes"] > row["limit_bytes"] for row in rows))


main()
