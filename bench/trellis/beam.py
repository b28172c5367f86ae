#!/usr/bin/env python3
"""The beam of fewer survivors over a longer memory beside the Viterbi algorithm (16 state bits, all 65,536 survivors): dB, over streams.
    cmake --build --preset release --target trellis_beam
    bench/trellis/beam.py [--build build/release] [-o docs/results/trellis-beam.json]
A quarter of an hour on 2 cores."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402

WEIGHTS = {2: 6144, 3: 3072, 4: 3072}
SEEDS = range(1, 6)
# State bits, survivors, at which bits a weight.
BEAMS = [(16, 65536, (2, 3, 4)), (16, 4096, (2,)), (20, 4096, (2,)), (24, 1024, (2,)), (24, 4096, (2, 3, 4)), (24, 16384, (2,)),
         (32, 4096, (2,))]


def code(program, bits, width, survivors, seed):
    """dB and microseconds a weight of one stream."""
    command = [program, str(bits), str(width), str(survivors), str(WEIGHTS[bits]), str(seed)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(number) for number in re.search(r": ([\d.]+) dB, ([\d.]+) us", said).groups()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "docs/results/trellis-beam.json")
    args = parser.parse_args()
    program, rows = args.build / "trellis_beam", []
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for width, survivors, rates in BEAMS:
            row = {"state_bits": width, "survivors": survivors}
            for bits in rates:
                found = list(pool.map(lambda seed, b=bits, w=width, s=survivors: code(program, b, w, s, seed), SEEDS))
                row[f"beam_{bits}"] = statistics.mean(db for db, _ in found)
                row[f"streams_{bits}"] = [db for db, _ in found]
                row[f"us_{bits}"] = min(us for _, us in found)
            rows.append(row)
            print(row, flush=True)
    args.output.write_text(json.dumps({"schema": "squish.trellis_beam/1", "command": "bench/trellis/beam.py", "cpu": measure.cpu(),
                                       "version": measure.version(args.build / "squish"), "seeds": list(SEEDS),
                                       "weights": WEIGHTS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
