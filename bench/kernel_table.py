#!/usr/bin/env python3
"""kernel_table.py OUTPUT.json RESULT.json...: what kernel_bench wrote with --benchmark_format=json, as a
Markdown table of 10^9 weights a second (docs have theirs by scripts/tables.py) and as one small file."""
import json
import pathlib
import subprocess
import sys

results = [json.loads(pathlib.Path(name).read_text()) for name in sys.argv[2:]]
rates = {}
for result in results:
    for run in result["benchmarks"]:
        spec, shape, isa, threads, what, _ = run["name"].rsplit("/", 5)
        if "weights/s" in run:
            rates.setdefault((spec, shape, what), {})[f"{isa}/{threads}"] = round(run["weights/s"] / 1e9, 1)
root = pathlib.Path(__file__).resolve().parents[1]
context = results[0]["context"]
cpu = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
       if line.startswith("model name")][0]
file = {"command": "kernel_bench --benchmark_format=json", "date": context["date"], "cpu": cpu,
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True,
                                 text=True).stdout.strip(),
        "unit": "10^9 weights a second, by instruction set and threads",
        "rows": [{"spec": spec, "shape": shape, "what": what, **rate}
                 for (spec, shape, what), rate in rates.items()]}
pathlib.Path(sys.argv[1]).write_text(json.dumps(file, indent=1) + "\n")
columns = list(dict.fromkeys(column for rate in rates.values() for column in rate))
print("| spec | shape | | " + " | ".join(columns) + " |\n|:--|:--|:--|" + "--:|" * len(columns))
for (spec, shape, what), rate in rates.items():
    print(f"| {spec} | {shape} | {what} | " + " | ".join(str(rate.get(c, "–")) for c in columns) + " |")
