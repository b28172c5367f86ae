#!/usr/bin/python3
"""What compressing a matrix of m x n costs by each method, fitted to the logs of whole checkpoints: a m n + b m n^2 + c n^3
core-seconds for a matrix, n^3 once for all with one input. For bench/scale/simulate.py and docs/scale.md.
    bench/scale/unit_costs.py --threads 2 -o COSTS.json CHECKPOINT... [--check CHECKPOINT]...
Needs NumPy."""
import argparse
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import measure  # noqa: E402

INPUTS = {"k_proj": "qkv", "v_proj": "qkv", "q_proj": "qkv", "up_proj": "gate_up", "gate_proj": "gate_up"}


def read(checkpoint, threads):
    """Of each input of the checkpoint: its width, the rows of its matrices, core-seconds in all."""
    manifest = json.loads((checkpoint / "squish.json").read_text())
    groups = {}
    for line in (checkpoint / "squish.log.jsonl").read_text().splitlines():
        entry = json.loads(line)
        *block, module, _ = entry["tensor"].split(".")
        group = groups.setdefault((*block, INPUTS.get(module, module)), [entry["cols"], {}])
        group[1][module] = (entry["rows"], entry["seconds"] * threads)
    first, *keys = manifest["job"]["spec"].split(",")
    spec = ",".join([first, *(key for key in keys if key == "code=fast")])
    calibrated = bool(manifest["job"]["calibration_sha256"])
    return (spec, calibrated), [(n, sum(m for m, _ in tensors.values()), sum(s for _, s in tensors.values()))
                                for n, tensors in groups.values()]


def terms(n, m, calibrated):
    return [m * n, m * n * n, n**3] if calibrated else [m * n, 0, 0]


def fit(groups, calibrated):
    """Least squares of relative errors, no term below zero."""
    rows = np.array([terms(n, m, calibrated) for n, m, _ in groups], float)
    seconds = np.array([s for _, _, s in groups])
    kept = [i for i in range(3) if rows[:, i].any()]
    found = np.zeros(3)
    while kept:
        part = np.linalg.lstsq(rows[:, kept] / seconds[:, None], np.ones(len(seconds)), rcond=None)[0]
        if (part >= 0).all():
            found[kept] = part
            break
        kept.pop(int(part.argmin()))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=pathlib.Path)
    parser.add_argument("--check", action="append", default=[], type=pathlib.Path, help="not fitted, but compared")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    args = parser.parse_args()
    all_groups, costs = {}, []
    for checkpoint in args.checkpoints:
        key, groups = read(checkpoint, args.threads)
        all_groups.setdefault(key, []).extend(groups)
    checks = dict(read(checkpoint, args.threads) for checkpoint in args.check)
    for key, groups in sorted(all_groups.items()):
        found = fit(groups, key[1])
        row = {"spec": key[0], "calibrated": key[1], "per_weight": found[0], "per_weight_input": found[1],
               "per_input_cubed": found[2]}

        def ratio(of):
            return float(np.dot([sum(t) for t in zip(*(terms(n, m, key[1]) for n, m, _ in of))], found)
                         / sum(s for _, _, s in of))
        row["fitted_over_measured"] = ratio(groups)
        if key in checks:
            row["check"] = {"widths": sorted({n for n, _, _ in checks[key]}), "predicted_over_measured": ratio(checks[key])}
        costs.append(row)
        print(row)
    if args.output:
        job = json.loads((args.checkpoints[0] / "squish.json").read_text())["job"]
        args.output.write_text(json.dumps(
            {"schema": "squish.unit_costs/1", "cpu": measure.cpu(), "commit": job["commit"], "isa": job["isa"],
             "threads": args.threads, "unit": "core-seconds", "costs": costs}, indent=1) + "\n")


main()
