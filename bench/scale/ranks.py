#!/usr/bin/env python3
"""Two MPI ranks of one thread each against one process of two threads, compressing the same tensors: wall-clock seconds,
interleaved, and the ratio (docs/scale.md). Refuses to count a pair whose checkpoints differ.
    bench/scale/ranks.py --squish build/release/squish --model MODEL --calib CALIB [--blocks 10] [--pairs 3] [-o FILE] SPEC...
With --sequential and --tokens N instead of --calib: jobs that calibrate behind what they have compressed.
Needs mpirun and a machine with two quiet cores."""
import argparse
import hashlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import measure  # noqa: E402


def digest(checkpoint):
    """Of all its files but the log, which holds times."""
    total = hashlib.sha256()
    for path in sorted(checkpoint.iterdir()):
        if path.name != "squish.log.jsonl":
            total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="+", metavar="SPEC")
    parser.add_argument("--squish", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calib")
    parser.add_argument("--sequential", action="store_true")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--blocks", type=int, default=10, help="the first of the model, at most 10")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    args = parser.parse_args()
    rows = []
    for spec in args.specs:
        command = [args.squish, "quantize", args.model, "--spec", spec, "--tensor", "*=none"]
        command += ["--sequential", "--tokens", str(args.tokens)] if args.sequential else ["--calib", args.calib]
        for block in range(args.blocks):
            command += ["--tensor", f"model.layers.{block}.*={spec}"]
        ways = {"threads": command + ["--threads", "2"],
                "ranks": ["mpirun", "--allow-run-as-root", "--bind-to", "none", "-n", "2", *command]}
        seconds = {way: [] for way in ways}
        for pair in range(args.pairs):
            digests = set()
            with tempfile.TemporaryDirectory() as work:
                for way in sorted(ways, reverse=pair % 2 == 0):
                    out = pathlib.Path(work) / way
                    begin = time.monotonic()
                    subprocess.run(ways[way] + ["-o", out], check=True, stderr=subprocess.DEVNULL)
                    seconds[way].append(round(time.monotonic() - begin, 2))
                    digests.add(digest(out))
            if len(digests) != 1:
                raise SystemExit(f"{spec}: the two checkpoints differ")
        ratio = statistics.median(t / r for t, r in zip(seconds["threads"], seconds["ranks"]))
        rows.append({"spec": spec, "seconds": seconds, "speed_of_ranks_over_threads": round(ratio, 3)})
        print(rows[-1], flush=True)
        if args.output:
            args.output.write_text(json.dumps(
                {"schema": "squish.ranks/1", "program": measure.version(args.squish), "cpu": measure.cpu(), "model": pathlib.Path(args.model).name,
                 "blocks": args.blocks, "sequential_tokens": args.tokens if args.sequential else None, "rows": rows}, indent=1) + "\n")


main()
