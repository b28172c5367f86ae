#!/usr/bin/env bash
# What two programs find in squish/ and apps/ without running them, as errors: cppcheck in all sources, but for what scripts/cppcheck.txt
# names; clang-tidy, by .clang-tidy, in those that differ from COMMIT (default: HEAD) or include a header that does, or in all (some 5 s
# each). Wants a release build, whose commands it uses.
#   scripts/check_static.sh [COMMIT|--all]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh clang-tidy-16 cppcheck
# Hot loops are compiled by other commands, one for each instruction set, and are written in vectors, which cppcheck does not read.
sources=("squish/*.cc" "apps/*.cc" ":!*.isa.cc")
git ls-files "${sources[@]}" | cppcheck --file-list=- -j "$(nproc)" --std=c++20 --language=c++ \
  --enable=warning,performance,portability --suppressions-list=scripts/cppcheck.txt --error-exitcode=1 -I. -q
if [ "${1:-}" = --all ]; then files=$(git ls-files "${sources[@]}"); else
  since=${1:-HEAD}
  files=$(
    {
      git diff --name-only --diff-filter=d "$since" -- "${sources[@]}"
      git ls-files --others --exclude-standard -- "${sources[@]}"
      git diff --name-only --diff-filter=d "$since" -- "squish/*.h" "apps/*.h" | while read -r header; do
        git grep -lF "#include \"$header\"" -- "${sources[@]}" || true
      done
    } | sort -u
  )
fi
echo "check_static: clang-tidy over $(grep -c . <<<"$files") files" >&2
xargs -r -P "$(nproc)" -n 1 clang-tidy-16 -p build/release --quiet <<<"$files" 2> >(grep -v ' warnings\? generated' >&2 || true)
