#!/usr/bin/env python3
"""What a state might look up besides two or three tables of 16: SNR by bits, state bits and form (trellis_search), the best of the
same seeds for each.
    cmake --build --preset release --target trellis_search
    bench/trellis/forms.py [--build build/release] [-o docs/results/trellis-forms.json]
Some 15 minutes on 2 cores."""
import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402
from frontier import CANDIDATES, search  # noqa: E402

FORMS = ["plain", "symmetric", "wide", "pairs"]
ISA = "avx2"  # of narrow vectors, so that steps of two weights fit few states
STATES = [(1, 12), (1, 16), (2, 12), (2, 16), (3, 12), (3, 16), (4, 13), (4, 16)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "docs/results/trellis-forms.json")
    args = parser.parse_args()
    rows = []
    for bits, width in STATES:
        found = {form: search(args.build / "trellis_search", bits, width, ISA, form) for form in FORMS}
        rows.append({"bits": bits, "state_bits": width, **{f"snr_{form}": db for form, db in found.items() if db is not None}})
        print(rows[-1], flush=True)
    args.output.write_text(json.dumps({"schema": "squish.trellis_forms/1", "command": "bench/trellis/forms.py", "cpu": measure.cpu(), "isa": ISA,
                                       "version": measure.version(args.build / "squish"), "candidates": CANDIDATES, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
