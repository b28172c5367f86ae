#!/usr/bin/env python3
"""Tokens per second beside llama.cpp and ik_llama.cpp: the same model, interleaved, ratios last.

    race.py --squish build/release/squish --model M.gguf --work DIR [--llama DIR] [--ik DIR] -o OUT.json

Makes, in --work and once, what it races: of M.gguf padded to rows of 256 (pad_gguf.py; `gguf` and `numpy`), the peers'
types by their llama-quantize (--pure, embedding and head Q8_0, all importances 1: speed does not depend on values)
and our specs by `squish quantize`, embedding and head in 8 bits, uncalibrated. Then, --rounds times, each in turn: 128
tokens generated behind a short prompt and a prompt of 512, by `squish speed` and llama-bench. --llama and --ik are
folders with llama-bench and llama-quantize (build/bin of their checkouts); one that is missing is left out, saying so.
It fetches nothing.
"""
import argparse
import json
import pathlib
import statistics
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import measure  # noqa: E402  (after the path that it is on)

OURS = {"trellis 2": "trellis:bits=2,code=fast", "trellis 3": "trellis:bits=3,code=fast",
        "trellis 4": "trellis:bits=4,code=fast", "quip 2": "quip:bits=2", "int4": "int4:sym=0,g=64",
        "int2": "int2:sym=0,g=64", "vptq 2": "vptq:v=8,k=256,r=256", "aqlm 2": "aqlm:m=2,b=8,g=8"}
TYPES = {"llama": ["F16", "Q4_0", "Q2_K", "IQ2_XXS"], "ik": ["F16", "Q4_0", "Q2_K", "IQ2_KT", "IQ2_KS", "IQ3_KT"]}


# generate or prompt, ours, theirs, the least ratio that this project is after
AIMS = [("generate", "squish trellis 2", "ik IQ2_KT", 2.5), ("generate", "squish trellis 2", "ik Q4_0", 1.5),
        ("generate", "squish int4", "ik Q4_0", 1.3), ("generate", "squish F16", "ik F16", 1.3),
        ("prompt", "squish int4", "llama Q4_0", 1)] + [
            ("prompt", f"squish {name}", "llama Q4_0", 0.5) for name in (*OURS, "F16") if name != "int4"]


def aims_of(ratios):
    """Those that were raced."""
    return [{"what": what, "ours": ours, "theirs": theirs, **ratios[f"{what}: {ours} / {theirs}"], "aim": aim}
            for what, ours, theirs, aim in AIMS if f"{what}: {ours} / {theirs}" in ratios]


def call(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stderr[-2000:].decode(errors='replace')}")
    return done.stdout


def make(path, command):
    """Runs the command, which writes `path`, unless that is there."""
    if path.exists():
        return path
    print(f"making {path.name}", file=sys.stderr)
    try:
        call(command)
    except SystemExit:
        path.unlink(missing_ok=True)  # what a peer leaves behind is no model
        raise
    return path


def flat_importance(model, path):
    """llama-imatrix's older format; some types are not made without."""
    import gguf
    tensors = [t for t in gguf.GGUFReader(model).tensors if len(t.shape) == 2 and t.name.startswith("blk.")]
    data = struct.pack("<i", len(tensors))
    for tensor in tensors:
        name, cols = tensor.name.encode(), int(tensor.shape[0])
        data += struct.pack("<i", len(name)) + name + struct.pack("<ii", 1, cols) + struct.pack("<f", 1) * cols
    path.write_bytes(data)


def peer_rates(program, model, threads):
    out = call([program / "llama-bench", "-m", model, "-t", threads, "-p", 512, "-n", 128, "-r", 1, "-o", "json"])
    rates = {"prompt" if row["n_prompt"] else "generate": row["avg_ts"] for row in json.loads(out)}
    return rates["generate"], rates["prompt"]


def our_rates(squish, model, threads):
    out = call([squish, "speed", model, "--rounds", 1, "--tokens", 128, "--threads", threads, "--format", "json"])
    result = json.loads(out)
    row = result["rows"][0]
    return row["tps"]["median"], row["prefill_tps"]["median"]


def contestants(options):
    """name -> what measures it once."""
    work, found = options.work, {}
    work.mkdir(parents=True, exist_ok=True)
    padded = make(work / "padded-f16.gguf", [sys.executable, HERE / "pad_gguf.py", options.model, work / "padded-f16.gguf"])
    for name in options.ours:
        path = work / f"squish-{name.replace(' ', '')}"
        make(path, [options.squish, "quantize", padded, "-o", path, "--spec", OURS[name], "--embed-bits", 8,
                    "--head-bits", 8, "--threads", options.threads])
        found["squish " + name] = lambda path=path: our_rates(options.squish, path, options.threads)
    importance = work / "importance.dat"
    if not importance.exists():
        flat_importance(padded, importance)
    for peer, types in TYPES.items():
        folder = getattr(options, peer)
        if folder is None or not (folder / "llama-bench").exists():
            print(f"{peer}: no llama-bench in {folder}; left out", file=sys.stderr)
            continue
        for kind in types:
            path = work / f"{peer}-{kind}.gguf"
            make(path, [folder / "llama-quantize", "--imatrix", importance, "--pure", "--token-embedding-type", "q8_0", "--output-tensor-type",
                        "q8_0", padded, path, kind])
            if kind == "F16" and "squish F16" not in found:  # the peer's own file: its head has 8 bits
                found["squish F16"] = lambda path=path: our_rates(options.squish, path, options.threads)
            found[f"{peer} {kind}"] = lambda folder=folder, path=path: peer_rates(folder, path, options.threads)
    return found


def spread(values):
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squish", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--llama", type=pathlib.Path)
    parser.add_argument("--ik", type=pathlib.Path)
    parser.add_argument("--ours", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--note", default="", help="kept in the result: what the peers are and how they were built")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    for name in ("squish", "llama", "ik"):
        if getattr(options, name) is not None:
            setattr(options, name, getattr(options, name).resolve())
    racers = contestants(options)
    rates = {name: ([], []) for name in racers}
    for turn in range(options.rounds):
        for name, once in racers.items():
            for kept, value in zip(rates[name], once()):
                kept.append(value)
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    rows = [{"name": name, "generate": spread(g), "prompt": spread(p)} for name, (g, p) in rates.items()]
    print(f"| {'':20} | generate, tokens/s | prompt of 512 |\n|:---|---:|---:|")
    for row in rows:
        print(f"| {row['name']:20} | " + " | ".join(
            f"{row[key]['median']:.1f} ({row[key]['min']:.1f} to {row[key]['max']:.1f})" for key in ("generate", "prompt")) + " |")
    ratios = {}
    for key, at in (("generate", 0), ("prompt", 1)):
        for ours in (name for name in racers if name.startswith("squish")):
            for theirs in (name for name in racers if not name.startswith("squish")):
                pairs = [a / b for a, b in zip(rates[ours][at], rates[theirs][at])]
                ratios[f"{key}: {ours} / {theirs}"] = spread(pairs)
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
    options.output.write_text(json.dumps({
        "schema": "squish.race/1", "command": " ".join(sys.argv), "cpu": measure.cpu(),
        "squish": measure.version(options.squish), "threads": options.threads, "rounds": options.rounds,
        "specs": {f"squish {name}": OURS[name] for name in options.ours}, "rows": rows, "ratios": ratios,
        "aims": aims_of(ratios), "note": options.note,
    }, indent=1) + "\n")


if __name__ == "__main__":
    main()
