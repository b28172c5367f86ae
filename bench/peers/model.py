"""The quality of other people's types at equal bits: their linear layers by our harness, so that text, protocol and
divergence are the same.

A type takes the model's linear layers to what comes back of them, as plain f32 safetensors of the original shape, which
`squish eval` judges beside our checkpoints. Types of ggml code blocks of 256 weights of a row, so rows are padded with
zeros to multiples of 256, whose importance is zero: what pads a model of such widths does the same, and a type's bits are
those of padded rows. Importance is E[x^2] of the inputs, what llama-imatrix sums up, from squish's calibration. Embedding
and norms stay as they are. Our specs take the same calibration; a row names the spec of ours of no more bits.

A file a peer in model/, whose PEER is as Types in llama_cpp.py.
"""
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy
from safetensors import safe_open
from safetensors.numpy import save_file

from common import call, make, present, write
from calibration import INPUTS, Calibration, split_name  # beside `measure`, where common.py has made a way

OURS = ["trellis:bits=2,code=fast", "quip:bits=2", "trellis:bits=3,code=fast", "quip:bits=3", "trellis:bits=4,code=fast"]


def convert(ggml, plain, calibration, threads, out):
    """Writes the model; the mean of its stored bits a weight of padded rows."""
    tensors = {}
    with safe_open(plain / "model.safetensors", "numpy") as file:
        for tensor in file.keys():
            tensors[tensor] = file.get_tensor(tensor)
    linear = [t for t in tensors if t.startswith("model.layers.") and split_name(t)[1] in INPUTS]

    def one(tensor):
        weights = tensors[tensor]
        tensors[tensor], bits = ggml.round_trip(weights, numpy.diag(calibration.hessian(tensor)))
        return bits, weights.size

    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(one, linear))
    bits = sum(bits * size for bits, size in done) / sum(size for _, size in done)
    out.mkdir()
    for path in plain.iterdir():
        if path.suffix != ".safetensors" and path.is_file():
            shutil.copy(path, out)
    (out / "bits.json").write_text(json.dumps(bits))
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})  # last: there, the model is whole
    return bits


def contestants(options, peers):
    """Directories by name, with the bits of types, in the work folder."""
    work, found = options.work, {}
    plain = make(work / "plain", [options.squish, "dequantize", options.model, "-o", work / "plain", "--type", "f32"])
    calibration = Calibration(options.calib)
    for name, peer, where in present("model", options):
        peers[name] = where
        for kind in peer.numbers:
            out = work / f"type-{name}-{kind}"
            if not (out / "model.safetensors").exists():
                print(f"making {out.name}", file=sys.stderr)
                shutil.rmtree(out, ignore_errors=True)
                convert(peer.open(options, kind), plain, calibration, options.threads, out)
            found[f"{name} {kind}"] = out, json.loads((out / "bits.json").read_text())
    for spec in OURS if found else ():
        out = work / f"spec-{spec}"
        call([options.squish, "quantize", options.model, "-o", out, "--spec", spec, "--calib", options.calib, "--resume",
              "--threads", options.threads])
        found[f"squish {spec}"] = out, None
    return found


def main(options):
    peers = {}
    found = contestants(options, peers)
    if not found:
        return []
    path = options.work / "eval.json"
    call([options.squish, "eval", *(out for out, _ in found.values()), "--reference", options.model, "--ppl-tokens",
          options.tokens, "--threads", options.threads, "--output", path, "--resume"])
    judged = {row["model"]: row for row in json.loads(path.read_text())["rows"]}
    rows = []
    for name, (out, bits) in found.items():
        row = judged[str(out)]
        rows.append({"name": name, "bits": row["bpw_linear"] if bits is None else bits} | {
            key: row[key] for key in ("ppl", "nll", "nll_se", "delta_nll", "delta_nll_se", "kld_mean", "top1_agreement",
                                      "ppl_protocol", "scored_tokens", "text_sha256")})
    ours = [row for row in rows if row["name"].startswith("squish")]
    print("|  | bits | PPL | ΔNLL | KLD | best of ours at no more bits | KLD, theirs over ours |\n|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: row["bits"]):
        # Specs store some thousandths of a bit beside their rate, types none beside theirs.
        below = [one for one in ours if one["bits"] <= row["bits"] + 0.005]
        if row not in ours and below:
            best = min(below, key=lambda one: one["kld_mean"])
            row["beaten_by"], row["kld_ratio"] = best["name"], round(row["kld_mean"] / best["kld_mean"], 3)
        print(f"| {row['name']} | {row['bits']:.3f} | {row['ppl']:.3f} | {row['delta_nll']:.4f} ± {row['delta_nll_se']:.4f} | "
              f"{row['kld_mean']:.4f} | {row.get('beaten_by', '')} | {row.get('kld_ratio', '')} |")
    write(options.results / "peers-model.json", "model", options, peers, tokens=options.tokens, note=options.note, rows=rows)
    return rows
