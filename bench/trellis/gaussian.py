#!/usr/bin/env python3
"""SNR of the trellis on i.i.d. Gaussian matrices, over seeds: bench/trellis/gaussian.py [SIZE [SEEDS
[OUTPUT [SPEC;SPEC...]]]] prints a table and writes OUTPUT, docs/results/trellis-gaussian.json by default.
4096 and 5 by default: with AVX2 some 15 minutes a seed on 2 cores for our codes and as long for the
published ones; killed, it goes on after the last whole seed."""
import hashlib
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402

SPECS = ";".join([f"trellis:bits={bits}{code}" for code in ("", ",code=fast") for bits in (1, 2, 3, 4)] +
                 [f"trellis:bits=2,code={code}" for code in ("1mad", "3inst", "hyb")])


def rows(size, seed, specs):
    squish = measure.squish()
    version = measure.version(squish)
    program = hashlib.sha256(squish.read_bytes()).hexdigest()
    key = hashlib.sha256(f"{program} {version} {size} {seed} {specs}".encode()).hexdigest()[:16]
    output = measure.cache() / f"gaussian/{key}.json"
    if not output.exists():
        subprocess.run([squish, "bench", "--rows", str(size), "--cols", str(size), "--seed", str(seed),
                        "--methods", specs, "--output", output],
                       check=True, stdout=subprocess.DEVNULL)
    return json.loads(output.read_text())


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    output = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else ROOT / "docs/results/trellis-gaussian.json"
    specs = sys.argv[4] if len(sys.argv) > 4 else SPECS
    found = {}
    for seed in range(1, seeds + 1):
        file = rows(size, seed, specs)
        for row in file["stage1"]:
            found.setdefault(row["spec"], []).append(row)
    result = {"command": " ".join(["bench/trellis/gaussian.py", *sys.argv[1:]]), "host": file["host"],
              "squish": file["squish"], "rows": size, "cols": size, "seeds": list(range(1, seeds + 1)),
              "specs": []}
    print("| spec | stored bits | SNR (dB), mean | least | compress (s) |\n|:--|--:|--:|--:|--:|")
    for spec, found_rows in found.items():
        snr = [row["snr_db"] for row in found_rows]
        times = sorted(row["compress_ms"]["median"] / 1000 for row in found_rows)
        entry = {"spec": spec, "bpw": found_rows[0]["bpw"], "snr_db": snr,
                 "compress_s": times[len(times) // 2]}
        result["specs"].append(entry)
        print(f"| {spec} | {entry['bpw']:.4f} | {sum(snr) / len(snr):.3f} | {min(snr):.3f} "
              f"| {entry['compress_s']:.1f} |", flush=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
