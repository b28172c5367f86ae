#!/usr/bin/env python3
"""What compressing large models takes (docs/scale.md): time by a discrete simulation of the schedule by which `squish quantize`,
`quantize --sequential` and `calibrate` share out their work, with the models' own shapes and the unit costs that
bench/scale/unit_costs.py measured; memory, disk and network by formulas.
    bench/scale/simulate.py --costs FILE [-o FILE]
A node is 64 cores, as 4 ranks of 16. A rank takes the next input's tensors, largest first, when it is done with the last; their rows
go to its cores in runs, the factor of H to all of them. Behind --sequential each input in turn is measured on parts of the text by
all ranks, factored by each, and the runs of its tensors' rows are shared out among all. What is read and written takes no time here.
Needs nothing but Python."""
import argparse
import heapq
import json
import math
import pathlib

# hidden, intermediate, rows of k and v, blocks, weights of embedding and head
MODELS = {"Qwen2.5-1.5B": (1536, 8960, 256, 28, 151936 * 1536), "Llama-3-8B": (4096, 14336, 1024, 32, 2 * 128256 * 4096),
          "Llama-3-70B": (8192, 28672, 1024, 80, 2 * 128256 * 8192),
          "Llama-3.1-405B": (16384, 53248, 1024, 126, 2 * 128256 * 16384)}
NODES, RANKS, CORES = (1, 2, 4, 8, 16, 32, 64), 4, 16  # of a node; of a rank
TOKENS, PARTS = 262144, 32  # of the default calibration
RUN = {"trellis": 256}  # rows; others 64
SHARE_ROWS = ("int", "quip", "trellis", "vptq")
# As Method::memory has them: f32 copies of a matrix, and f64 matrices of an input while it is prepared and from then on.
MEMORY = {"int": (2, 2.1, 1.05), "quip": (2, 2.1, 1.05), "trellis": (3, 2.1, 1.05), "vptq": (3.3, 2.1, 1.05), "aqlm": (4, 0.55, 0.95)}
BITS = {"int4": 4.25, "quip": 2, "trellis": 2, "vptq": 2, "aqlm": 2}  # nearly, of a weight


def inputs_of(model):
    """Width and the matrices' rows of each input of a block, in the order in which they are handed out."""
    hidden, intermediate, kv, *_ = MODELS[model]
    return [(hidden, [hidden, kv, kv]), (hidden, [hidden]), (hidden, [intermediate] * 2), (intermediate, [hidden])]


def of_method(table, spec, other=None):
    return next((value for name, value in table.items() if spec.startswith(name)), other)


def runs_of(spec, rows):
    return math.ceil(rows / of_method(RUN, spec, 64))


def rows_seconds(cost, width, runs):
    """One core on so many runs of rows."""
    return runs * of_method(RUN, cost["spec"], 64) * (cost["per_weight"] * width + cost["per_weight_input"] * width**2)


def factor_seconds(cost, width):
    return cost["per_input_cubed"] * width**3 / CORES


def input_seconds(cost, width, rows):
    """On one rank."""
    runs = sum(runs_of(cost["spec"], m) for m in rows)
    return factor_seconds(cost, width) + cost["per_matrix"] + rows_seconds(cost, width, math.ceil(runs / CORES))


def makespan(tasks, ranks):
    """Each to the rank that is free first."""
    free = [0.0] * ranks
    for task in tasks:
        heapq.heapreplace(free, free[0] + task)
    return max(free)


def quantize(model, cost, ranks):
    tasks = sorted((input_seconds(cost, *one) for one in inputs_of(model)), reverse=True)
    return makespan([task for task in tasks for _ in range(MODELS[model][3])], ranks)


def block_pass(model, calibration, sums):
    """Core-seconds for all tokens, through a block; `sums` products of each input with itself."""
    inputs = inputs_of(model)
    weights = sum(width * sum(rows) for width, rows in inputs)
    squares = sum(width * width for width, _ in inputs)
    return TOKENS * (calibration["per_token_weight"] * weights + sums * calibration["per_token_square"] * squares)


def calibrate(model, calibration, ranks):
    part = block_pass(model, calibration, 1) / PARTS / CORES
    return MODELS[model][3] * makespan([part] * PARTS, ranks)


def sequential(model, cost, calibration, ranks):
    """Two models' blocks are passed, and in each the products x^ x^ and (x - x^) x^ (twice the work) are summed. From these a rank
    makes the factor of H and its share of the solutions, 2 n^3 operations to the n^3 / 3 of a factor."""
    block = makespan([2 * block_pass(model, calibration, 1.5) / PARTS / CORES] * PARTS, ranks)
    for width, rows in inputs_of(model):
        block += factor_seconds(cost, width) * (2 + 6 / ranks)
        if cost["spec"].startswith(SHARE_ROWS):
            block += sum(rows_seconds(cost, width, math.ceil(math.ceil(runs_of(cost["spec"], m) / ranks) / CORES)) for m in rows)
        else:
            each = [rows_seconds(cost, width, math.ceil(runs_of(cost["spec"], m) / CORES)) for m in rows]
            block += makespan(sorted(each, reverse=True), ranks)
    return MODELS[model][3] * block


def ways(one_of):
    """By number of nodes: seconds, and efficiency relative to one node."""
    seconds = {nodes: one_of(RANKS * nodes) for nodes in NODES}
    return {"seconds": seconds, "efficiency": {n: seconds[1] / n / seconds[n] for n in NODES}}


def sizes(model):
    """Bytes; of methods that differ little, the trellis."""
    spec = "trellis"
    hidden, intermediate, _, blocks, tables = MODELS[model]
    inputs = inputs_of(model)
    weights = blocks * sum(width * sum(rows) for width, rows in inputs)
    copies, preparing, prepared = of_method(MEMORY, spec)
    peak = max(max(8 * preparing * n * n, 8 * prepared * n * n + 4 * copies * n * sum(sorted(rows)[-CORES:])) for n, rows in inputs)
    triangles = blocks * sum(4 * n * n for n, _ in inputs)
    block = 4 * sum(width * sum(rows) for width, rows in inputs)
    return {"model": model, "quantize_memory": peak,
            "calibrate_memory": block + 2 * triangles // blocks + 4 * (TOKENS // PARTS) * hidden, "model_bytes": 2 * (weights + tables), "calibration_bytes": triangles,
            "checkpoint_bytes": of_method(BITS, spec) / 8 * weights + 2 * tables,
            # Of all ranks: each part's sums and what goes from block to block, written and read.
            "calibrate_traffic": 2 * (PARTS * triangles + blocks * 4 * TOKENS * hidden),
            "quantize_traffic": 2 * weights + triangles + of_method(BITS, spec) / 8 * weights}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", type=pathlib.Path, required=True)
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON, for docs/scale.md's tables (scripts/tables.py)")
    args = parser.parse_args()
    measured = json.loads(args.costs.read_text())
    calibration = measured["calibration"]
    rows, behind = [], []
    for model in MODELS:
        rows.append({"model": model, "what": "calibrate", **ways(lambda r: calibrate(model, calibration, r))})
        for cost in measured["costs"]:
            rows.append({"model": model, "what": f"`{cost['spec']}`", **ways(lambda r: quantize(model, cost, r))})
            behind.append({"model": model, "what": f"`{cost['spec']}`", **ways(lambda r: sequential(model, cost, calibration, r))})
    text = json.dumps({"schema": "squish.simulation/2", "costs": args.costs.name, "nodes": NODES, "ranks_of_a_node": RANKS,
                       "cores_of_a_rank": CORES, "calibration_tokens": TOKENS, "rows": rows, "sequential": behind,
                       "sizes": [sizes(model) for model in MODELS]}, indent=1) + "\n"
    if args.output:
        args.output.write_text(text)
    else:
        print(text, end="")


main()
