#!/usr/bin/env python3
"""merge.py OUTPUT CHECKPOINT...: one file of the evaluations CHECKPOINT.json, with the seconds that the
checkpoint's tensors took and the mean of what each loses of its output's energy."""
import json
import pathlib
import sys


def row(checkpoint):
    file = json.loads(pathlib.Path(f"{checkpoint}.json").read_text())
    log = [json.loads(line) for line in (checkpoint / "squish.log.jsonl").read_text().splitlines()]
    lost = [10 ** (-tensor["proxy_snr_db"] / 10) for tensor in log]
    return file, {**file["rows"][0], "quantize_s": round(sum(t["seconds"] for t in log), 1),
                  "mean_proxy_loss": sum(lost) / len(lost)}


files, rows = zip(*(row(pathlib.Path(name)) for name in sys.argv[2:]))
result = {key: files[0][key] for key in ("host", "squish", "config")} | {"rows": rows}
pathlib.Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
