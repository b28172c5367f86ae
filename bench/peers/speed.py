"""Tokens per second beside other runtimes: the same model, in turn, ratios last.

Makes, in the work folder and once, what it races: of the model padded to rows of 256 (pad_gguf.py), the peers' types by
their llama-quantize (--pure, embedding and head Q8_0, all importances 1: speed does not depend on values) and our specs
by `squish quantize`, embedding and head in 8 bits, uncalibrated. Then, --rounds times, each in turn: 128 tokens
generated behind a short prompt and a prompt of 512, by `squish speed` and the peer's benchmark.

A file a peer in speed/, whose PEER is as Runtime in llama_cpp.py: types are what of theirs is raced; find() says where
it comes from, or raises Missing; quantize() gives the command that makes a model, rates() tokens per second, generated
and of a prompt; commit is known after that.
"""
import json
import struct
import sys

import gguf

from common import HERE, call, make, present, said, spread, write

OURS = {"trellis 2": "trellis:bits=2,code=fast", "trellis 3": "trellis:bits=3,code=fast",
        "trellis 4": "trellis:bits=4,code=fast", "quip 2": "quip:bits=2", "int4": "int4:sym=0,g=64",
        "int2": "int2:sym=0,g=64", "vptq 2": "vptq:v=8,k=256,r=256", "aqlm 2": "aqlm:m=2,b=8,g=8"}

# generate or prompt, ours, theirs, the least ratio that this project is after
AIMS = [("generate", "squish trellis 2", "ik IQ2_KT", 2.5), ("generate", "squish trellis 2", "ik Q4_0", 1.5),
        ("generate", "squish int4", "ik Q4_0", 1.3), ("generate", "squish F16", "ik F16", 1.3),
        ("prompt", "squish int4", "llama Q4_0", 1)] + [
            ("prompt", f"squish {name}", "llama Q4_0", 0.5) for name in (*OURS, "F16") if name != "int4"]


def aims_of(ratios):
    """Those that were raced."""
    return [{"what": what, "ours": ours, "theirs": theirs, **ratios[f"{what}: {ours} / {theirs}"], "aim": aim}
            for what, ours, theirs, aim in AIMS if f"{what}: {ours} / {theirs}" in ratios]


def flat_importance(model, path):
    """llama-imatrix's older format; some types are not made without."""
    tensors = [t for t in gguf.GGUFReader(model).tensors if len(t.shape) == 2 and t.name.startswith("blk.")]
    data = struct.pack("<i", len(tensors))
    for tensor in tensors:
        name, cols = tensor.name.encode(), int(tensor.shape[0])
        data += struct.pack("<i", len(name)) + name + struct.pack("<ii", 1, cols) + struct.pack("<f", 1) * cols
    path.write_bytes(data)


def our_rates(options, model):
    out = call([options.squish, "speed", model, "--rounds", 1, "--tokens", 128, "--threads", options.threads, "--format",
                "json"])
    row = json.loads(out)["rows"][0]
    return row["tps"]["median"], row["prefill_tps"]["median"]


def rates_of(options, peer, path, where):
    rates = peer.rates(options, path)
    where["commit"] = peer.commit
    return rates


def contestants(options, peers):
    """name -> what measures it once; fills in `peers`, where they come from."""
    work, found = options.work, {}
    padded = make(work / "padded-f16.gguf", [sys.executable, HERE / "pad_gguf.py", options.model, work / "padded-f16.gguf"])
    for name in options.ours or OURS:
        path = work / f"squish-{name.replace(' ', '')}"
        make(path, [options.squish, "quantize", padded, "-o", path, "--spec", OURS[name], "--embed-bits", 8,
                    "--head-bits", 8, "--threads", options.threads])
        found["squish " + name] = lambda path=path: our_rates(options, path)
    importance = work / "importance.dat"
    if not importance.exists():
        flat_importance(padded, importance)
    for name, peer, where in present("speed", options):
        peers[name] = where
        for kind in peer.types:
            path = work / f"{name}-{kind}.gguf"
            make(path, peer.quantize(options, padded, importance, path, kind))
            if kind == "F16" and "squish F16" not in found:  # the peer's own file: its head has 8 bits
                found["squish F16"] = lambda path=path: our_rates(options, path)
            found[f"{name} {kind}"] = lambda peer=peer, path=path, where=where: rates_of(options, peer, path, where)
    return found


def main(options):
    peers = {}
    racers = contestants(options, peers)
    rates = {name: ([], []) for name in racers}
    for turn in range(options.rounds):
        for name, once in racers.items():
            for kept, value in zip(rates[name], once()):
                kept.append(value)
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    rows = [{"name": name, "generate": spread(g), "prompt": spread(p)} for name, (g, p) in rates.items()]
    print("|  | generated, tokens/s | prompt of 512 |\n|:---|---:|---:|")
    for row in rows:
        print(f"| {row['name']} | {said(row['generate'], 1)} | {said(row['prompt'], 1)} |")
    ratios = {}
    for key, at in (("generate", 0), ("prompt", 1)):
        for ours in (name for name in racers if name.startswith("squish")):
            for theirs in (name for name in racers if not name.startswith("squish")):
                pairs = [a / b for a, b in zip(rates[ours][at], rates[theirs][at])]
                ratios[f"{key}: {ours} / {theirs}"] = spread(pairs)
    for name, ratio in ratios.items():
        print(f"{name}: {said(ratio)}")
    aims = aims_of(ratios)
    write(options.results / "peers-speed.json", "speed", options, peers, rounds=options.rounds,
          specs={f"squish {name}": OURS[name] for name in options.ours or OURS}, rows=rows, ratios=ratios, aims=aims,
          note=options.note)
    return aims
