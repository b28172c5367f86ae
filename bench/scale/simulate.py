#!/usr/bin/env python3
"""How long ranks take that share out a model's tensors as `squish quantize` does (docs/scale.md): a discrete simulation of the
dynamic schedule with the models' own shapes and the unit costs that bench/scale/unit_costs.py measured.
    bench/scale/simulate.py --costs FILE [--cores 64] [-o FILE]
Every rank is a machine of so many cores. It takes the next input's tensors, largest first, when it is done with the last; their
rows go to its cores in runs of 64, the factor of H to all of them. Needs nothing but Python."""
import argparse
import heapq
import json
import math
import pathlib

# hidden, intermediate, rows of k and v, blocks
MODELS = {"Qwen2.5-1.5B": (1536, 8960, 256, 28), "Llama-3-8B": (4096, 14336, 1024, 32),
          "Llama-3-70B": (8192, 28672, 1024, 80), "Llama-3.1-405B": (16384, 53248, 1024, 126)}
RANKS = (1, 2, 4, 8, 16, 32, 64)
RUN = 64  # rows


def inputs_of(hidden, intermediate, kv):
    """Width and the matrices' rows, of each input of a block, in the order in which they are handed out."""
    return [(hidden, [hidden, kv, kv]), (hidden, [hidden]), (hidden, [intermediate] * 2), (intermediate, [hidden])]


def seconds(width, rows, cost, cores):
    """On one machine."""
    runs = sum(math.ceil(m / RUN) for m in rows)
    a, b, c = cost["per_weight"], cost["per_weight_input"], cost["per_input_cubed"]
    return c * width**3 / cores + math.ceil(runs / cores) * RUN * (a * width + b * width**2)


def makespan(tasks, ranks):
    """Each to the rank that is free first."""
    free = [0.0] * ranks
    for task in tasks:
        heapq.heapreplace(free, free[0] + task)
    return max(free)


def sequential(inputs, cost, cores, ranks):
    """Of a block whose inputs are waited for, each tensor by one rank (which prepares its input); passes of the text apart."""
    return sum(makespan(sorted((seconds(width, [m], cost, cores) for m in rows), reverse=True), ranks) for width, rows in inputs)


def simulate(model, cost, cores):
    hidden, intermediate, kv, blocks = MODELS[model]
    inputs = inputs_of(hidden, intermediate, kv)
    tasks = [seconds(width, rows, cost, cores) for width, rows in inputs] * blocks
    in_order = {ranks: makespan(tasks, ranks) for ranks in RANKS}
    times = {ranks: makespan(sorted(tasks, reverse=True), ranks) for ranks in RANKS}
    waiting = {ranks: blocks * sequential(inputs, cost, cores, ranks) for ranks in RANKS}
    return {"model": model, "spec": cost["spec"], "calibrated": cost["calibrated"], "cores": cores, "tasks": len(tasks),
            "seconds": times, "efficiency": {r: times[1] / r / times[r] for r in RANKS},
            "efficiency_in_order": {r: in_order[1] / r / in_order[r] for r in RANKS},
            "efficiency_sequential": {r: times[1] / r / waiting[r] for r in RANKS}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=64)
    parser.add_argument("--costs", type=pathlib.Path, required=True)
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON, for docs/scale.md's tables (scripts/tables.py)")
    args = parser.parse_args()
    costs = json.loads(args.costs.read_text())["costs"]
    rows = [simulate(model, cost, args.cores) for model in MODELS for cost in costs if cost["calibrated"]]
    text = json.dumps({"schema": "squish.simulation/1", "costs": args.costs.name, "rows": rows}, indent=1) + "\n"
    if args.output:
        args.output.write_text(text)
    else:
        print(text, end="")


main()
