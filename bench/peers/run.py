#!/usr/bin/env python3
"""squish beside other people's programs, in one run: TASK is matrix (error and time on one matrix), model (quality at
equal bits) or speed (tokens per second); without one, all three.

    run.py [TASK...] --squish build/release/squish --model M.gguf --calib M.calib --work DIR [--results DIR]
        [--aqlm DIR] [--gptq DIR] [--quip-sharp DIR] [--vptq DIR]     checkouts of the authors' code: matrix
        [--llama DIR] [--ik DIR]                                      folders of their llama-bench: speed
        [--llama-ggml FILE] [--ik-ggml FILE]                          their libggml: model

What each task does, its first lines say (matrix.py, model.py, speed.py); a peer is a file in the task's folder. Peers that
are not here are left out, each with a sentence. Ours and theirs run in turn; results say which version of a peer ran and
how it was set, ratios come with their spread. What is made on the way stays in --work. Fetches nothing.
"""
import argparse
import importlib
import os
import pathlib

from common import claim, left_out, said

TASKS = ("matrix", "model", "speed")


def ratios_claimed(results):
    """What the README claims beside others, of what was run."""
    matrix = results.get("matrix", [])
    for peer in sorted({row["peer"] for row in matrix}):
        better = [row["ours_better_by_db"]["median"] for row in matrix if row["peer"] == peer]
        times = [row["time_ratio"]["median"] for row in matrix if row["peer"] == peer]
        yield (f"error, {peer}: ours lower by {min(better):+.3f} to {max(better):+.3f} dB in {len(better)} rows, in "
               f"{min(times):.3f} to {max(times):.3f} of its time")
    for row in results.get("model", []):
        if "kld_ratio" in row:
            yield (f"KL divergence, {row['name']} ({row['bits']:.3f} bits) over {row['beaten_by']}: {row['kld_ratio']:.2f}")
    for row in results.get("speed", []):
        yield f"tokens/s, {row['what']}: {row['ours']} / {row['theirs']}: {said(row)} (aim {row['aim']:g})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = pathlib.Path
    parser.add_argument("task", nargs="*", choices=(*TASKS, []), metavar="TASK")
    parser.add_argument("--squish", type=folder, required=True, help="the program")
    parser.add_argument("--model", type=folder, required=True, help="a GGUF file")
    parser.add_argument("--calib", type=folder, help="what squish calibrate wrote of it: matrix, model")
    parser.add_argument("--work", type=folder, required=True, help="a folder for what is made on the way")
    parser.add_argument("--results", type=folder, default=folder("."), help="where peers-TASK.json go")
    for name in ("aqlm", "gptq", "quip-sharp", "vptq", "llama", "ik", "llama-ggml", "ik-ggml"):
        parser.add_argument(f"--{name}", type=lambda text: folder(text).resolve())
    parser.add_argument("--any-commit", action="store_true", help="checkouts may be at others than are expected")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tensor", action="append", help="matrix: others than three of layers 10 and 20")
    parser.add_argument("--all", action="store_true", help="matrix: slow peers on large matrices, too: minutes each")
    parser.add_argument("--seeds", type=int, default=1, help="matrix: of ours and theirs, from 0 on")
    parser.add_argument("--tokens", type=int, default=81920, help="model: of the test text")
    parser.add_argument("--ours", nargs="+", help="speed: some of its specs")
    parser.add_argument("--rounds", type=int, default=5, help="speed")
    parser.add_argument("--note", default="", help="kept in the results: how peers were built")
    options = parser.parse_args()
    options.squish = options.squish.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)
    claim(options.work, options)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # of theirs, before anything reads them
        os.environ[variable] = str(options.threads)
    results = {}
    for name in options.task or TASKS:
        if name != "speed" and options.calib is None:
            left_out(name, "it needs --calib")
            continue
        try:
            task = importlib.import_module(name)
        except ModuleNotFoundError as error:
            left_out(name, f"it needs the Python package {error.name}")
            continue
        results[name] = task.main(options)
    for line in ratios_claimed(results):
        print(line)


if __name__ == "__main__":
    main()
