#!/usr/bin/env python3
"""Finds the constants of squish/quant/trellis_code.cc again: each by its seed, with the search and the encoder that found them.
    bench/trellis/reproduce.py [--commit COMMIT]
Needs git's history and what a build needs; some minutes, most of them the build. Exits with 1 where one differs. Later encoders
round metrics otherwise, and end in other tables (up to 0.04 dB off)."""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "squish/quant/trellis_code.cc"
COMMIT = "28c6d87"


def numbers(text):
    """Of a code's constants, whatever is between them; what a comment says apart."""
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]


def constants():
    """(bits, seed, numbers) of each code, in the order of the source."""
    found = re.findall(r"// (\d) bits: seed (\d+),.*\n\s*(\{\d+, .*)", SOURCE.read_text())
    return [(int(bits), int(seed), numbers(line)) for bits, seed, line in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default=COMMIT)
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as work:
        tree, build = f"{work}/tree", f"{work}/build"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", tree, args.commit], check=True, capture_output=True)
        try:
            for command in (["cmake", "-G", "Ninja", "-S", tree, "-B", build, "-DCMAKE_BUILD_TYPE=Release"],
                            ["cmake", "--build", build, "--target", "trellis_search"]):
                subprocess.run(command, check=True, stdout=sys.stderr)
            for bits, seed, wanted in constants():
                tables = (len(wanted) - 10) // 16
                done = subprocess.run([f"{build}/trellis_search", str(bits), str(int(wanted[0])), str(tables), "1", str(seed)],
                                      check=True, capture_output=True, text=True)
                found = numbers(done.stdout.strip().splitlines()[-1])
                same = found == wanted
                failed |= not same
                print(f"{bits} bits, {int(wanted[0])} state bits, seed {seed}: {'the same' if same else f'{found}, not {wanted}'}", flush=True)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
