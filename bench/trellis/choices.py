#!/usr/bin/env python3
"""What the trellis's keys do to SmolLM2's proxy SNR and to the time: every linear layer compressed by each of SPECS, calibrated.
    bench/trellis/choices.py [-o docs/results/trellis-choices.json]
Mean over the tensors of what the log has, on the text of the calibration ($SQUISH_CALIB, or bench/specs.sh's). Some 10 minutes on 2 cores with AVX-512."""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402

SPECS = [f"trellis:bits=2,code=fast{keys}" for keys in ("", ",damp=0.003", ",damp=0.03", ",sweeps=1", ",sweeps=3", ",form=tiles")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "docs/results/trellis-choices.json")
    args = parser.parse_args()
    squish, model = measure.squish(), measure.smollm2()
    calibration = measure.calibration_of(model)
    rows = []
    for spec in SPECS:
        with tempfile.TemporaryDirectory() as work:
            _, cpu_seconds = measure.seconds_of([squish, "quantize", model, "-o", f"{work}/out", "--spec", spec, "--calib", calibration])
            log = [json.loads(line) for line in (pathlib.Path(work) / "out/squish.log.jsonl").read_text().splitlines()]
        proxy = [entry["proxy_snr_db"] for entry in log if "proxy_snr_db" in entry]
        rows.append({"spec": spec, "tensors": len(proxy), "proxy_snr_db": statistics.mean(proxy), "cpu_s": round(cpu_seconds, 1)})
        print(rows[-1], flush=True)
    args.output.write_text(json.dumps({"schema": "squish.trellis_choices/1", "command": "bench/trellis/choices.py", "cpu": measure.cpu(),
                                       "version": measure.version(squish), "model": model.name, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
