#!/usr/bin/env python3
"""What the trellis's codes give and what they cost the decoder: SNR by bits and state bits (trellis_search), and weights a
second and vector instructions by instruction set, of squish's kernels and of prototypes of QTIP's codes (trellis_decoders).
    cmake --build --preset release --target trellis_search trellis_decoders
    bench/trellis/frontier.py --build build/release [-o docs/results/trellis-frontier.json]
Some 15 minutes on 2 cores, of which the last, which times, want a quiet machine. Needs objdump."""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402

ROWS, COLS, PRODUCTS, ROUNDS, CANDIDATES = 768, 576, 1000, 3, 12
PUBLISHED = ["1mad", "3inst", "hyb"]


def search(program, bits, width, isa, form="plain"):
    """dB of the best of CANDIDATES codes of so many state bits and this form; None where the encoder can't."""
    tables = 2 if bits <= 2 else 3
    done = subprocess.run([program, str(bits), str(width), str(tables), str(CANDIDATES), "1", "48", "12", form],
                          env={**os.environ, "SQUISH_ISA": isa}, capture_output=True, text=True)
    if done.returncode == 2:
        return None
    done.check_returncode()
    return float(re.findall(r"bits, seed \d+: ([\d.]+) dB", done.stdout)[-1])


def sweep(program, isas):
    rows = []
    for bits in (1, 2, 3, 4):
        row = {"bits": bits}
        for width in range(8, 17):
            # Vectors of states limit how few the encoder takes.
            found = next((s for isa in reversed(isas) if (s := search(program, bits, width, isa)) is not None), None)
            if found is not None:
                row[f"snr_{width}"] = found
        rows.append(row)
        print(row, flush=True)
    return rows


def decode(program, code, isa, products):
    command = [program, code, str(ROWS), str(COLS), str(products)]
    return float(subprocess.run(command, env={**os.environ, "SQUISH_ISA": isa}, check=True, capture_output=True, text=True).stdout)


def loops(lines):
    """Of a function as objdump shows it: the mnemonics and operands of each innermost loop."""
    code = [(int(found[1], 16), found[2]) for line in lines if (found := re.match(r"\s*([0-9a-f]+):\t(.*)", line))]
    jumps = [(int(found[1], 16), at) for at, text in code if (found := re.match(r"j\w+\s+([0-9a-f]+)", text)) and int(found[1], 16) <= at]
    for first, last in jumps:
        if not any(first <= other[0] and other[1] <= last and other != (first, last) for other in jumps):
            yield [text for at, text in code if first <= at <= last]


def instructions(program, name, spec, isa):
    """Vector instructions for 64 weights in the loop (or loops) that the compiler made of the code's product, loads among them."""
    if name in PUBLISHED:
        code, dot = {"1mad": ("OneMad", "vpdpbusd|vpmaddubsw"), "3inst": ("ThreeInst", "vfmadd"), "hyb": ("Hyb", "vfmadd")}[name]
        wanted, lanes, times = f"multiply_rows<.*{code}>", 8, 1
    else:
        bits = int(re.search(r"bits=(\d)", spec)[1])
        many, narrow = str(bits > 2).lower(), str("fast" in spec and bits < 4).lower()
        wanted, dot, lanes, times = f"{isa}::.*multiply_by<{bits}, {many}, {narrow}, {many}>", "vpmaddubsw|vpdpbusd", 32, 1 + (bits > 2)
    lanes *= 1 if isa == "avx2" else 2
    text = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", program], check=True, capture_output=True, text=True).stdout
    def dots(loop):
        return sum(bool(re.match(dot, line)) for line in loop)

    found = [max(loops(part.splitlines()), key=dots) for part in text.split("\n\n") if re.match(f".*<.*{wanted}", part)]
    weights = lanes * sum(map(dots, found)) / times
    return round(64 * sum(line.startswith("v") for loop in found for line in loop) / weights, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "docs/results/trellis-frontier.json")
    parser.add_argument("--keep-search", action="store_true", help="the part of the output file that is there")
    args = parser.parse_args()
    squish = args.build / "squish"
    isas = re.search(r" of (.*?)[;)]", measure.version(squish))[1].split()
    rows = json.loads((ROOT / "docs/results/trellis-gaussian.json").read_text(encoding="utf-8"))["specs"]

    def code(spec):
        """What trellis_decoders calls it."""
        return next((name for name in PUBLISHED if name in spec), spec)

    # Prototypes for instruction sets with VBMI would be those for AVX-512.
    cells = [(code(row["spec"]), isa) for row in rows for isa in isas
             if isa in ("avx2", "avx512") or (isa != "scalar" and code(row["spec"]) not in PUBLISHED)]

    def program(isa):
        return args.build / f"trellis_decoders_{'avx2' if isa == 'avx2' else 'avx512'}"

    result = {"schema": "squish.trellis_frontier/1", "command": "bench/trellis/frontier.py", "program": measure.version(squish),
              "cpu": measure.cpu(), "candidates": CANDIDATES,
              "search": json.loads(args.output.read_text())["search"] if args.keep_search else sweep(args.build / "trellis_search", isas),
              "shape": [ROWS, COLS], "threads": 1, "rounds": ROUNDS, "rows": []}
    speeds = {cell: [] for cell in cells}
    for _ in range(ROUNDS):
        for name, isa in cells:
            speeds[name, isa].append(decode(program(isa), name, isa, PRODUCTS))
    for row in rows:
        name = code(row["spec"])
        out = {"spec": row["spec"], "snr_db": statistics.mean(row["snr_db"])}
        for isa in (isa for known, isa in cells if known == name):
            out[isa] = {"weights_per_s": max(speeds[name, isa]), "all_weights_per_s": speeds[name, isa],
                        "instructions_for_64": instructions(program(isa), name, row["spec"], isa)}
        result["rows"].append(out)
        print(out, flush=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
