#!/usr/bin/env bash
# Fuzzes every reader of files, and every decoder and kernel, for so many seconds each (two at a time on two cores) from
# tests/fuzz/corpus, with address and undefined behaviour checked: ./fuzz.sh SECONDS [TARGET...]
# New inputs stay in build/fuzz/corpus/TARGET for the next time; what fails is in build/fuzz/findings, and the exit status 1.
# ./fuzz.sh --keep [TARGET...]: instead, brings the inputs under 4 KiB that cover most into tests/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?./fuzz.sh SECONDS|--keep [TARGET...]}
shift
scripts/packages.sh clang libclang-rt-14-dev
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --parallel "$(nproc)"
if [ $# -gt 0 ]; then targets=("$@"); else
  targets=()
  for source in tests/fuzz/*.cc; do
    name=$(basename "$source" .cc)
    [ "$name" = replay ] || targets+=("$name")
  done
fi
mkdir -p build/fuzz/findings

one() {
  name=$1
  inputs=build/fuzz/corpus/$name kept=tests/fuzz/corpus/$name
  mkdir -p "$inputs" "$kept"
  program=build/fuzz/tests/fuzz_$name
  if [ "$seconds" = --keep ]; then
    mkdir -p "$inputs.new"
    "$program" -merge=1 -max_len=4096 "$inputs.new" "$kept" "$inputs" >"build/fuzz/$name.log" 2>&1
    rm -rf "$kept" && mv "$inputs.new" "$kept"
    return
  fi
  # What a reader asks for at once is bounded by what the file holds.
  if ! "$program" -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=256 \
      -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$name-" "$inputs" "$kept" >"build/fuzz/$name.log" 2>&1; then
    echo "$name: FAILED; build/fuzz/$name.log" && return 1
  fi
  echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$name.log") runs," \
    "$(grep -o 'cov: [0-9]*' "build/fuzz/$name.log" | tail -1), the last new input" \
    "$(grep -E '^#[0-9]+\s+NEW' "build/fuzz/$name.log" | tail -1 | sed 's/^#\([0-9]*\).*/at run \1/')"
}
export -f one
export seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I {} bash -c 'one {}'
