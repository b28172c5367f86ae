"""Each method against other people's code for it, on the same matrices of a model: error and time.

Peers that take H are judged by proxy loss, tr((W - What) H (W - What)') / tr(W H W'), float64, H = E[x x'] without
damping; those that see the weights alone by the same with H = I, beside ours without calibration. Bits are stated where
they are not the spec's own. By one function for all. For each matrix and each seed ours and theirs run in turn,
on as many threads. Times: theirs is their call, from W and H in memory to their reconstruction; ours is the `seconds`
of squish's log (reading W and H, preparing H, coding, writing the file).

A file a peer in matrix/: SETTINGS says what of theirs is set, CALIBRATED whether it sees H, CASES which of our
specs meets which of its settings; find() says where it comes from, or raises Missing; Peer(options).run(w, h, seed,
**case) gives What and seconds and, where it is not the spec's own, its stored bits.
"""
import importlib.util
import json
import math
import sys
import tempfile
from pathlib import Path

import gguf
import numpy

from common import call, present, said, spread, write
from calibration import Calibration, proxy_loss, split_name  # beside `measure`, where common.py has made a way

MANY = 400_000
TENSORS = ["model.layers.10.self_attn.q_proj.weight", "model.layers.20.mlp.gate_proj.weight",
           "model.layers.10.mlp.down_proj.weight"]
GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def read_weights(reader, tensor):
    """W as squish sees it: decoded to f32, rows of q and k back from llama.cpp's order."""
    layer, role = split_name(tensor)
    name = f"blk.{layer}.{GGUF_NAMES[role]}.weight"
    found = [t for t in reader.tensors if t.name == name]
    if not found:
        sys.exit(f"matrix.py: the model has no tensor {name}")
    w = gguf.quants.dequantize(found[0].data, found[0].tensor_type).astype(numpy.float32)
    arch = bytes(reader.get_field("general.architecture").parts[-1]).decode()
    if arch == "llama" and role in ("self_attn.q_proj", "self_attn.k_proj"):
        key = "head_count" if role == "self_attn.q_proj" else "head_count_kv"
        heads = int(reader.get_field(f"{arch}.attention.{key}").parts[-1][0])
        w = w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)
    return numpy.ascontiguousarray(w)


def run_squish(options, tensor, spec, seed, w, calibrated):
    """What and the log's line."""
    with tempfile.TemporaryDirectory() as folder:
        packed, plain = Path(folder) / "packed", Path(folder) / "plain"
        threads = ["--threads", options.threads]
        call([options.squish, "quantize", options.model, "-o", packed, "--spec", spec, "--tensor", "*=none",
              "--tensor", f"{tensor}={spec}", *(["--calib", options.calib] if calibrated else []), "--seed", seed,
              *threads])
        line = json.loads((packed / "squish.log.jsonl").read_text().splitlines()[0])
        call([options.squish, "dequantize", packed, "-o", plain, "--type", "f32", *threads])
        (file,) = plain.glob("*.safetensors")
        what = read_plain(file, tensor)
    if what.shape != w.shape:
        sys.exit(f"matrix.py: {tensor} is {w.shape} in the model and {what.shape} from squish")
    return what, line


def read_plain(path, tensor):
    data = numpy.memmap(path, numpy.uint8, "r")  # it holds all tensors
    size = int(data[:8].view("<u8")[0])
    entry = json.loads(bytes(data[8:8 + size]))[tensor]
    begin, end = entry["data_offsets"]
    return data[8 + size + begin:8 + size + end].view("<f4").reshape(entry["shape"]).copy()


def decibels(loss):
    return -10 * math.log10(max(loss, 1e-30))  # 0: the model came in that very type


def race(options, module, peer, case, tensor, w, h):
    """One row: ours and theirs in turn, a seed at a time."""
    arguments = {key: value for key, value in case.items() if key not in ("spec", "slow")}
    row = {"spec": case["spec"], "case": arguments, "tensor": tensor, "shape": list(w.shape),
           "calibrated": module.CALIBRATED, "ours": [], "theirs": []}
    for seed in range(options.seeds):
        what, line = run_squish(options, tensor, case["spec"], seed, w, module.CALIBRATED)
        row["ours"].append({"loss": proxy_loss(w, what, h), "seconds": line["seconds"], "bpw": line["bpw"]})
        row["spec_in_full"] = line["spec"]
        what, seconds, *bits = peer.run(w, h, seed, **arguments)
        row["theirs"].append({"loss": proxy_loss(w, what, h), "seconds": seconds} | (
            {"bpw": bits[0]} if bits else {}))
    pairs = list(zip(row["ours"], row["theirs"]))
    row["ours_better_by_db"] = spread([decibels(a["loss"]) - decibels(b["loss"]) for a, b in pairs], 3)
    row["time_ratio"] = spread([a["seconds"] / b["seconds"] for a, b in pairs], 4)
    return row


def main(options):
    found = {name: (module, where) for name, module, where in present("matrix", options)}
    if importlib.util.find_spec("torch"):
        importlib.import_module("torch").set_num_threads(options.threads)
    reader, calibration, rows = gguf.GGUFReader(options.model), Calibration(options.calib), []
    peers = {name: {**where, "settings": module.SETTINGS} for name, (module, where) in found.items()}
    print("| theirs | squish | matrix | bits, theirs | ours | ours better by, dB | time, ours over theirs |\n"
          "|---|---|---|---|---|---|---|")
    for tensor in options.tensor or TENSORS:
        w = read_weights(reader, tensor)
        for name, (module, _) in found.items():
            h = calibration.hessian(tensor) if module.CALIBRATED else None
            peer = module.Peer(options)
            for case in module.CASES:
                if case.get("slow") and w.size > MANY and not options.all:
                    continue
                row = {"peer": name, **race(options, module, peer, case, tensor, w, h)}
                rows.append(row)
                bits = row["theirs"][0].get("bpw")
                print(f"| {name} {row['case'] or ''} | `{row['spec']}` | {tensor.removeprefix('model.layers.')} "
                      f"| {'' if bits is None else f'{bits:.3f}'} | {row['ours'][0]['bpw']:.3f} "
                      f"| {said(row['ours_better_by_db'], 3)} | {said(row['time_ratio'], 3)} |", flush=True)
                # After every row: a run that is stopped is not lost.
                write(options.results / "peers-matrix.json", "matrix", options, peers, seeds=options.seeds, note=options.note,
                      rows=rows)
    return rows
