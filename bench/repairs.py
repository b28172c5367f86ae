#!/usr/bin/env python3
"""What two repairs after coding would save of a checkpoint's proxy loss, on the calibration itself: a bias
(W - What) E[x] for each layer, and for each row of What the scale that is optimal under H.
    bench/repairs.py --source PLAIN --coded PLAIN --calib CALIB [--layers 0,5,15,29]
PLAIN: `squish dequantize MODEL_OR_CHECKPOINT -o PLAIN --type f32`. Needs numpy and safetensors."""
import argparse, glob

import numpy as np
from safetensors import safe_open

from calibration import Calibration

LINEAR = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]


def tensors(directory):
    files = [safe_open(path, "np") for path in glob.glob(directory + "/*.safetensors")]
    return {name: file for file in files for name in file.keys()}


def main():
    parser = argparse.ArgumentParser()
    for flag in "source", "coded", "calib":
        parser.add_argument("--" + flag, required=True)
    parser.add_argument("--layers", default="0,5,15,29")
    args = parser.parse_args()
    source, coded, calib = tensors(args.source), tensors(args.coded), Calibration(args.calib)
    shares = []
    print("| tensor | proxy loss | left by a bias | left by row scales |\n|:--|--:|--:|--:|")
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
            left = (form(w - q, h - np.outer(mean, mean)) / loss, form(w - scale[:, None] * q, h) / loss)
            shares.append(left)
            print(f"| {name} | {loss / form(w, h):.5f} | {left[0]:.4f} | {left[1]:.4f} |")
    print("| mean | | {:.4f} | {:.4f} |".format(*np.mean(shares, 0)))


main()
