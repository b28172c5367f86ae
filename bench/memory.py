#!/usr/bin/env python3
"""Peak anonymous memory of `squish quantize`, sampled from the kernel, against what its dry run says
and against the bound that calibrated jobs with fixed specs keep: 64 MiB, a transformer block in f32 and
three times the largest Hessian in f64. Exits with 1 where one is broken.
    bench/memory.py --squish build/release/squish --model DIR_OR_GGUF --calib CALIB -o RESULT.json
Only the first block is compressed: every block takes the same. Needs nothing but Python."""
import argparse, json, pathlib, platform, re, shutil, subprocess, sys, tempfile

import measure

SPECS = ["int4:g=128,scale=f16,clip=mse", "quip:bits=2", "quip:bits=3", "aqlm:m=2,b=8,g=8",
         "vptq:v=8,k=256,r=256"]


def main():
    parser = argparse.ArgumentParser()
    for flag in ("squish", "model", "calib"):
        parser.add_argument("--" + flag, required=True)
    parser.add_argument("--specs", default=";".join(SPECS))
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    block = "model.layers.0.*_proj.weight"
    rows, failed = [], False
    for spec in args.specs.split(";"):
        for calibrated in (False, True):
            out = tempfile.mkdtemp() + "/out"
            command = [args.squish, "quantize", args.model, "-o", out, "--spec", spec,
                       "--tensor", "*=none", "--tensor", f"{block}={spec}"]
            if calibrated:
                command += ["--calib", args.calib]
            plan = subprocess.run(command + ["--dry-run"], check=True, text=True,
                                  capture_output=True).stdout
            said = int(re.search(r"peak memory: (\d+) MB", plan)[1]) * 1e6
            seconds, peak = measure.peak_of(command)
            shutil.rmtree(pathlib.Path(out).parent)
            shapes = [(int(r), int(c)) for r, c in re.findall(r" (\d+) x (\d+) ", plan)]
            weights = sum(r * c for r, c in shapes)
            width = max(c for _, c in shapes)
            bound = (64 << 20) + 4 * weights + 3 * 8 * width * width
            ok = peak <= 1.3 * said and said <= 2 * peak and (not calibrated or peak <= bound)
            failed |= not ok
            rows.append({"spec": spec, "calibrated": calibrated, "peak_bytes": peak,
                         "dry_run_bytes": said, "bound_bytes": bound if calibrated else None,
                         "seconds": seconds, "ok": ok})
            print(f"{spec:32} {'calibrated' if calibrated else '':10} peak {peak / 1e6:7.0f} MB, "
                  f"dry run {said / 1e6:6.0f}, bound {bound / 1e6:6.0f} "
                  f"{'ok' if ok else 'BROKEN'}", flush=True)
    if args.output:
        result = {"command": " ".join(sys.argv), "squish": measure.version(args.squish), "host": platform.node(),
                  "cpu": measure.cpu(), "rows": rows}
        pathlib.Path(args.output).write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(failed)


main()
