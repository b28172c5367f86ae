#!/usr/bin/env bash
# Which lines of the readers (squish/io) and the methods (squish/quant) their own tests and the fuzzers' corpus run: prints a table
# by file and fails where a folder has less than 90 %.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh gcovr
cmake --preset coverage >/dev/null
cmake --build --preset coverage --parallel "$(nproc)" >/dev/null
cd build/coverage
find . -name '*.gcda' -delete
tests/io_test --gtest_brief=1 &
readers=$!
tests/quant_test --gtest_brief=1
wait "$readers"
for target in tests/fuzz_*; do "$target" "../../tests/fuzz/corpus/${target#tests/fuzz_}" 2 >/dev/null; done
cd ../..
for folder in io quant; do
  # Threads count without a lock, so that a count may come out wrong (even negative): whether a line ran does not.
  gcovr --root . --filter "squish/$folder/" --exclude-throw-branches --gcov-ignore-parse-errors --fail-under-line 90 build/coverage
done
