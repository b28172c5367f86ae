#!/usr/bin/env bash
# clang-tidy with what .clang-tidy names as errors, over the sources that differ from COMMIT (default: HEAD), or over all of them
# (some 12 s each): scripts/check_tidy.sh [COMMIT|--all]. Wants a release build, whose commands it uses.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh clang-tidy-16
if [ "${1:-}" = --all ]; then files=$(git ls-files 'squish/*.cc' 'apps/*.cc'); else
  files=$(git diff --name-only --diff-filter=d "${1:-HEAD}" -- 'squish/*.cc' 'apps/*.cc')
fi
# Hot loops are compiled by other commands, one for each instruction set.
grep -v '\.isa\.cc$' <<<"$files" | xargs -r -P "$(nproc)" -n 1 clang-tidy-16 -p build/release --quiet
