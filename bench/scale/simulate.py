#!/usr/bin/env python3
"""What compressing large models takes (docs/scale.md): time by a discrete simulation of the schedule by which
`squish quantize`, `quantize --sequential` and `calibrate` share out their work, with the models' own shapes, the unit
costs that bench/scale/unit_costs.py measured and the assumptions below; memory, disk and network by formulas.
    bench/scale/simulate.py --costs FILE [-o FILE] [--table]
--table prints the table of memory, disk and network as docs/scale.md has it. Needs nothing but Python."""
import argparse
import heapq
import json
import math
import pathlib

# hidden, intermediate, rows of k and v, blocks, weights of embedding and head
MODELS = {"Qwen2.5-1.5B": (1536, 8960, 256, 28, 151936 * 1536),
          "Llama-3-8B": (4096, 14336, 1024, 32, 2 * 128256 * 4096),
          "Llama-3-70B": (8192, 28672, 1024, 80, 2 * 128256 * 8192),
          "Llama-3.1-405B": (16384, 53248, 1024, 126, 2 * 128256 * 16384)}
# Assumed. A node is 64 such cores as were measured, as 4 ranks of 16, all of which do a rank's work without loss, but
# for what is said to be one thread's. Each rank reads and writes FILES bytes a second, whatever the others do. In a
# merge, which puts together what all ranks have for all of them, each sends twice its bytes and receives as many,
# NETWORK bytes a second.
NODES, RANKS, CORES = (1, 2, 4, 8, 16, 32, 64), 4, 16
FILES, NETWORK = 2e9, 3e9
TOKENS, CONTEXT, PARTS = 262144, 2048, 32  # of the default calibration
SAVE_EVERY = 60  # seconds; calibrate
RUN = {"trellis": 256, "": 64}  # rows
SHARE_ROWS = ("int", "quip", "trellis", "vptq")
# Each rank learns and refits the codebooks of all rows. Counted so is all that grows with m n, also what is shared out.
UNSHARED = ("vptq",)
# Bytes of a weight that are merged behind --sequential: wanted weights and codes; VPTQ's codes and targets in up to 11
# passes.
MERGED = {"int": 4 + 4, "quip": 4 + 0.25, "trellis": 4 + 0.25, "vptq": 4 + 11 * 5 + 1, "aqlm": 0}
# As Method::memory has them: f32 copies of a matrix; f64 matrices of an input while it is prepared, and from then on.
MEMORY = {"vptq": (4.9, 2.1, 1.05), "aqlm": (4, 0.55, 0.95), "trellis": (3.8, 2.1, 1.05), "quip": (3.5, 2.1, 1.05), "int": (4.8, 2.1, 1.05)}
BITS = {"int4": 4.25, "": 2}  # of a weight, nearly


def of_method(table, spec):
    return next(value for name, value in table.items() if spec.startswith(name))


def inputs_of(model):
    """Width and the matrices' rows of each input of a block, in their order: qkv, o, gate and up, down."""
    hidden, intermediate, kv, *_ = MODELS[model]
    return [(hidden, [hidden, kv, kv]), (hidden, [hidden]), (hidden, [intermediate] * 2), (intermediate, [hidden])]


def stream_rows(model):
    """Of each input, rows of the regression of what the residual stream lacks: of those that are added to it."""
    hidden = MODELS[model][0]
    return [0, hidden, 0, hidden]


def weights_of(model):
    """Of a block."""
    return sum(width * sum(rows) for width, rows in inputs_of(model))


def products_bytes(model):
    """Of a block's inputs: triangles of doubles."""
    return sum(4 * width**2 for width, _ in inputs_of(model))


def sums_bytes(width, stream):
    """Of an input behind --sequential: its triangle, its square and the stream's rows, of doubles."""
    return 8 * (width**2 / 2 + width**2 + stream * width)


def hidden_bytes(model):
    """Of all tokens between two blocks."""
    return 4 * TOKENS * MODELS[model][0]


class Costs:
    """Of one method, on a rank; `cubed`: of a factor, also where it makes none."""

    def __init__(self, cost, cubed):
        self.cost, self.spec, self.cubed = cost, cost["spec"], cubed
        self.per_weight, self.feedback = cost["per_weight"], cost["per_weight_input"]
        self.run = of_method(RUN, self.spec)

    def factor(self, width):
        return self.cubed * width**3 / CORES

    def of_input(self, width):
        """What goes with the square is one thread's: its digest, and the columns of the factor one after the other."""
        return self.factor(width) + self.cost["per_input_squared"] * width**2 if "per_input_cubed" in self.cost else 0

    def of_matrix(self, width):
        """Besides what grows with its rows."""
        return self.cost["per_matrix"] + self.cost.get("per_matrix_squared", 0) * width**2 / CORES

    def of_rows(self, width, rows, per_weight, feedback, ranks=1):
        """The longest that a core has to do, of runs that go to all cores of these ranks."""
        runs = math.ceil(rows / self.run)
        return math.ceil(math.ceil(runs / ranks) / CORES) * self.run * (per_weight * width + feedback * width**2)


def makespan(tasks, ranks):
    """Each to the rank that is free first."""
    free = [0.0] * ranks
    for task in tasks:
        heapq.heapreplace(free, free[0] + task)
    return max(free)


def share(part, ranks, collect=0.0, begin=0.0, save=0.0):
    """PARTS parts, each to the rank that asks first. On each that is done the first rank spends `collect` before it
    hands out the next, and `save` where it is a minute that it last did. Each rank begins `begin` late."""
    at_work = [begin + part] * min(ranks, PARTS)
    free = saved = 0.0
    for done in range(1, PARTS + 1):
        free = max(free, heapq.heappop(at_work)) + collect
        if free - saved >= SAVE_EVERY and done < PARTS:
            free = saved = free + save
        if done + len(at_work) < PARTS:
            heapq.heappush(at_work, free + part)
    return free


def quantize(model, costs, ranks):
    def seconds(width, rows):
        files = (2 + of_method(BITS, costs.spec) / 8) * width * sum(rows) + 4 * width**2
        encoding = costs.of_rows(width, sum(rows), costs.per_weight, costs.feedback)
        return costs.of_input(width) + len(rows) * costs.of_matrix(width) + encoding + files / FILES
    tasks = sorted((seconds(*one) for one in inputs_of(model)), reverse=True)
    return makespan([task for task in tasks for _ in range(MODELS[model][3])], ranks)


def calibrate(model, measured, ranks):
    """Sums have digests, which are checked by one thread, and made by one for each input."""
    calibration, checking = measured["calibration"], measured["adding"]["checked_and_added"]
    products, inputs = products_bytes(model), inputs_of(model)
    squares = sum(width**2 for width, _ in inputs)
    passed = calibration["per_token_weight"] * weights_of(model) + calibration["per_token_square"] * squares
    part = TOKENS * passed / PARTS / CORES + (2 * hidden_bytes(model) / PARTS + products) / FILES
    part += checking * max(4 * width**2 for width, _ in inputs)
    alone = products * (1 / FILES + checking)  # the first rank reads and adds a part's sums, or writes the block's
    block = share(part, ranks, alone, 2 * weights_of(model) / FILES, alone) + alone
    return MODELS[model][3] * (block + alone + products / FILES)  # all blocks' sums are read and written once more


def measuring(model, measured, at):
    """Of an input of --sequential: seconds of a part, and of the first rank to add it."""
    inputs, stream = inputs_of(model), stream_rows(model)[at]
    width, sums = inputs[at][0], sums_bytes(inputs[at][0], stream)
    # Two models, from the beginning of this half of the block on. Products with another matrix are no triangle: twice
    # the work.
    before = inputs[at - 1][0] * sum(inputs[at - 1][1]) if at % 2 else 0
    products = (1 + 2) * width**2 + 2 * stream * width
    calibration = measured["calibration"]
    passed = 2 * calibration["per_token_weight"] * before + calibration["per_token_square"] * products
    part = TOKENS * passed / PARTS / CORES + (2 * hidden_bytes(model) / PARTS + sums) / FILES
    part += sums * measured["adding"]["checked_and_added"]  # they have digests
    return part, sums * (1 / FILES + measured["adding"]["copied_and_added"])


def sequential(model, costs, measured, ranks):
    product = measured["calibration"]["per_token_weight"]  # a float with another
    merging = 2 / NETWORK  # of a byte
    seconds = 2 * weights_of(model) / FILES  # each rank reads the block
    inputs = inputs_of(model)
    for at, ((width, rows), stream) in enumerate(zip(inputs, stream_rows(model))):
        part, collect = measuring(model, measured, at)
        seconds += share(part, ranks, collect)
        # All sums: the first rank writes them with digests, the others read them.
        seconds += sums_bytes(width, stream) * (2 / FILES + measured["adding"]["checked_and_added"])
        # A factor for each regression; solving for n rows is 6 times one.
        for solved in filter(None, (width, stream)):
            runs = math.ceil(math.ceil(math.ceil(solved / 64) / ranks) / CORES)
            seconds += costs.factor(width) + runs * 64 * 6 * costs.cubed * width**2 + merging * 4 * solved * width
        seconds += costs.of_input(width)
        # The loss is judged twice: each time m n^2 products of doubles, of which a factor has n^3 / 3.
        judging = 3 * costs.cubed * width**2 / CORES
        if costs.spec.startswith(SHARE_ROWS):
            shared = 0 if costs.spec.startswith(UNSHARED) else costs.per_weight
            feedback = max(0, costs.feedback - 3 * costs.cubed) + product  # and the product with the regression
            for m in rows:
                seconds += costs.of_rows(width, m, shared, feedback, ranks) + costs.of_matrix(width)
                seconds += (costs.per_weight - shared) * m * width / CORES
                seconds += merging * of_method(MERGED, costs.spec) * m * width
            seconds += 2 * judging * max(rows)  # each tensor by another rank
        else:
            each = [costs.of_rows(width, m, costs.per_weight, costs.feedback + product) + costs.of_matrix(width)
                    + judging * m for m in sorted(rows, reverse=True)]
            seconds += makespan(each, ranks)
        if at % 2:  # both models through this half of the block
            passed = 2 * product * sum(n * sum(m) for n, m in inputs[at - 1:at + 1])
            seconds += share(TOKENS * passed / PARTS / CORES + 4 * hidden_bytes(model) / PARTS / FILES, ranks)
    return MODELS[model][3] * seconds


def ways(one_of):
    """By number of nodes: seconds, and efficiency relative to one node."""
    seconds = {nodes: one_of(RANKS * nodes) for nodes in NODES}
    return {"seconds": seconds, "efficiency": {n: seconds[1] / n / seconds[n] for n in NODES}}


def quantize_memory(model, spec):
    """compress::peak_memory, calibrated, all tensors of an input at a time."""
    copies, preparing, prepared = of_method(MEMORY, spec)
    return 16e6 + max(max(8 * preparing * n * n, 8 * prepared * n * n + 4 * copies * n * sum(rows))
                      for n, rows in inputs_of(model))


def calibration_memory(model):
    """compress::calibration_memory."""
    hidden, intermediate, kv, *_ = MODELS[model]
    passing = CONTEXT * (4 * hidden + 4 * kv + 2 * intermediate)
    return 32e6 + 4 * (weights_of(model) + passing + TOKENS // PARTS * hidden) + 2 * products_bytes(model)


def sequential_memory(model):
    """compress::sequential_memory."""
    hidden, intermediate, kv, *_ = MODELS[model]
    floats = 2 * (TOKENS // PARTS * hidden + CONTEXT * kv + weights_of(model) + CONTEXT * intermediate)
    passing = CONTEXT * (4 * hidden + 2 * kv + 2 * intermediate)
    return 4 * (floats + passing) + 3 * sums_bytes(intermediate, hidden)


def needs_to_calibrate(model, ranks):
    blocks, products = MODELS[model][3], products_bytes(model)
    return {"memory": calibration_memory(model), "first_rank_adds": blocks * PARTS * products,
            "disk": (2 * blocks + PARTS) * products + 2 * hidden_bytes(model),
            "files": blocks * (ranks * 2 * weights_of(model) + (2 * PARTS + 3) * products + 2 * hidden_bytes(model))}


def needs(model, spec, ranks):
    """Bytes: memory of a rank; on disk besides the model; read and written by all ranks; sent by each in merges."""
    *_, blocks, tables = MODELS[model]
    weights, products, hidden = blocks * weights_of(model), blocks * products_bytes(model), hidden_bytes(model)
    codes = of_method(BITS, spec) / 8 * weights
    checkpoint = codes + 2 * tables
    widths = [(width, stream) for (width, _), stream in zip(inputs_of(model), stream_rows(model))]
    sums = [sums_bytes(*one) for one in widths]
    merged = of_method(MERGED, spec) * weights_of(model) + sum(4 * width * (width + stream) for width, stream in widths)
    behind = {"memory": quantize_memory(model, spec) + sequential_memory(model),
              "disk": checkpoint + (PARTS + 1) * max(sums) + 4 * hidden,
              "files": ranks * (2 * weights + codes) + checkpoint
                       + blocks * ((2 * PARTS + ranks) * sum(sums) + 16 * hidden),
              "first_rank_adds": blocks * PARTS * sum(sums), "messages": 2 * blocks * merged}
    return {"memory": quantize_memory(model, spec), "disk": checkpoint + products,
            "files": 2 * weights + products + checkpoint, "sequential": behind}


def size(count):
    if count > 1e12:
        return f"{1e-12 * count:.1f} TB"
    return f"{1e-9 * count:.1f} GB" if count < 1e10 else f"{1e-9 * count:.0f} GB"


def table(rows):
    titles = {"memory": "Memory", "disk": "Disk", "files": "Files", "first_rank_adds": "Added", "messages": "Messages"}
    names = [*titles.values()]
    lines = ["| Model | | " + " | ".join([*names[:4], f"`--sequential`: {names[0].lower()}", *names[1:]]) + " |",
             "|:--|:--" + "|--:" * 9 + "|"]
    for row in rows:
        cells = [size(row[key]) if key in row else "–" for key in [*titles][:4]]
        cells += [size(row["sequential"][key]) if "sequential" in row else "–" for key in titles]
        lines.append("| " + " | ".join([f"{row['model']}, {size(row['model_bytes'])}", row["what"], *cells]) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", type=pathlib.Path, required=True)
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON, for scripts/tables.py")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    measured = json.loads(args.costs.read_text())
    cubed = max(cost.get("per_input_cubed", 0) for cost in measured["costs"])
    rows, behind, needed = [], [], []
    ranks = 16 * RANKS
    for model in MODELS:
        named = {"model": model, "model_bytes": 2 * (MODELS[model][3] * weights_of(model) + MODELS[model][4])}
        rows.append({"model": model, "what": "calibrate", **ways(lambda r: calibrate(model, measured, r))})
        needed.append({**named, "what": "calibrate", **needs_to_calibrate(model, ranks)})
        for cost in measured["costs"]:
            what, costs = f"`{cost['spec']}`", Costs(cost, cubed)
            rows.append({"model": model, "what": what, **ways(lambda r: quantize(model, costs, r))})
            behind.append({"model": model, "what": what, **ways(lambda r: sequential(model, costs, measured, r))})
            need = needs(model, cost["spec"], ranks)
            if {**needed[-1], **need} == needed[-1]:
                needed[-1]["what"] += ", " + what
            else:
                needed.append({**named, "what": what, **need})
    text = json.dumps({"schema": "squish.simulation/3", "costs": args.costs.name, "nodes": NODES,
                       "ranks_of_a_node": RANKS, "cores_of_a_rank": CORES, "files_bytes_per_second": FILES,
                       "network_bytes_per_second": NETWORK,
                       "calibration_tokens": TOKENS, "rows": rows, "sequential": behind, "needs_on_ranks": ranks,
                       "needs": needed}, indent=1) + "\n"
    if args.output:
        args.output.write_text(text)
    if args.table:
        print(table(needed), end="")
    elif not args.output:
        print(text, end="")


main()
