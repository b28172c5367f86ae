#!/usr/bin/env python3
"""What two repairs after coding would save of a checkpoint's proxy loss, on the calibration itself: a bias
(W - What) E[x] for each layer, and for each row of What the scale that is optimal under H.
    bench/repairs.py --source PLAIN --coded PLAIN --calib CALIB --spec SPEC -o docs/results/repairs-METHOD.json
        [--layers 0,5,15,29]
PLAIN: `squish dequantize MODEL_OR_CHECKPOINT -o PLAIN --type f32`. Needs numpy and safetensors; $SQUISH names the program that compressed."""
import argparse, glob, json, pathlib

import numpy as np
from safetensors import safe_open

import measure
from calibration import Calibration

LINEAR = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]


def tensors(directory):
    files = [safe_open(path, "np") for path in glob.glob(directory + "/*.safetensors")]
    return {name: file for file in files for name in file.keys()}


def main():
    parser = argparse.ArgumentParser()
    for flag in "source", "coded", "calib", "spec", "output":
        parser.add_argument(*(["-o"] if flag == "output" else []), "--" + flag, required=True)
    parser.add_argument("--layers", default="0,5,15,29")
    args = parser.parse_args()
    source, coded, calib = tensors(args.source), tensors(args.coded), Calibration(args.calib)
    rows = []
    for layer in args.layers.split(","):
        for linear in LINEAR:
            name = f"model.layers.{layer}.{linear}"
            w, q = (t[name + ".weight"].get_tensor(name + ".weight").astype(float)
                    for t in (source, coded))
            mean, h = calib.mean(name + ".weight"), calib.hessian(name + ".weight")

            def form(error, metric):
                return np.einsum("ij,ij->", error @ metric, error)

            loss = form(w - q, h)
            scale = ((w @ h) * q).sum(1) / ((q @ h) * q).sum(1)
            rows.append({"tensor": name, "proxy_loss": loss / form(w, h), "left_by_bias": form(w - q, h - np.outer(mean, mean)) / loss,
                         "left_by_scales": form(w - scale[:, None] * q, h) / loss})
    rows.append({"tensor": "mean", **{key: np.mean([row[key] for row in rows]) for key in ("left_by_bias", "left_by_scales")}})
    pathlib.Path(args.output).write_text(json.dumps(
        {"schema": "squish.repairs/1", "command": "bench/repairs.py", "version": measure.version(measure.squish()), "spec": args.spec, "seed": 0,
         "calibration": pathlib.Path(args.calib).name, "layers": args.layers, "rows": rows}, indent=1) + "\n")


main()
