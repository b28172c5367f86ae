#!/usr/bin/env bash
# Fuzzes every reader of files, and every decoder and kernel, with address and undefined behaviour checked:
# ./fuzz.sh SECONDS [TARGET...] for so many seconds of CPU time each, ./fuzz.sh --keep [TARGET...] to bring what was found worth keeping into
# tests/fuzz/corpus. What it does and where it writes: tests/fuzz/drive.py.
set -euo pipefail
cd "$(dirname "$0")"
[ $# -gt 0 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
scripts/packages.sh clang-16 libclang-rt-16-dev
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --parallel "$(nproc)"
python3 tests/fuzz/drive.py "$@"
