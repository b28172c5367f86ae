#!/usr/bin/env python3
"""How long the trellis takes to compress a model, and the high-fidelity preset a matrix: seconds of whole commands, one after the other.
    bench/trellis/times.py [-o docs/results/trellis-time.json] [--isa ISA]
Adds this machine's (CPU, instruction set and program) to those of the file, or replaces it. A quarter of an hour on 2 cores with
AVX-512, and only a quiet machine's are worth keeping."""
import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402

SPECS = ["trellis:bits=2,code=fast", "trellis:bits=2"]


def timed(command):
    seconds, cpu_seconds = measure.seconds_of(command)
    return {"seconds": seconds, "cpu_seconds": round(cpu_seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "docs/results/trellis-time.json")
    parser.add_argument("--isa", default="auto")
    args = parser.parse_args()
    squish, model = measure.squish(), measure.smollm2()
    # All at once, into the file only when all of it is there.
    machine = {"command": f"bench/trellis/times.py --isa {args.isa}", "cpu": measure.cpu(), "threads": len(os.sched_getaffinity(0)),
               "version": measure.version(squish), "date": time.strftime("%Y-%m-%d"), "rows": []}
    for spec in SPECS:
        with tempfile.TemporaryDirectory() as work:
            found = timed([squish, "quantize", model, "-o", f"{work}/out", "--spec", spec, "--isa", args.isa])
        machine["rows"].append({"model": model.name, "spec": spec, **found})
        print(machine["rows"][-1], flush=True)
    with tempfile.TemporaryDirectory() as work:
        found = timed([squish, "bench", "--preset", "high-fidelity", "--isa", args.isa, "--output", f"{work}/out.json"])
    machine["rows"].append({"preset": "high-fidelity", **found})
    print(machine["rows"][-1], flush=True)

    def key(entry):
        return entry["cpu"], entry.get("command"), entry.get("version")

    old = json.loads(args.output.read_text())["machines"] if args.output.exists() else []
    kept = [entry for entry in old if key(entry) != key(machine)]
    args.output.write_text(json.dumps({"schema": "squish.trellis_time/1", "machines": [*kept, machine]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
