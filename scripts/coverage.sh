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
for test in base io linalg quant; do "tests/${test}_test" --gtest_brief=1; done
for target in tests/fuzz_*; do "$target" "../../tests/fuzz/corpus/${target#tests/fuzz_}" 2 >/dev/null; done
cd ../..
for folder in io quant; do
  gcovr --root . --filter "squish/$folder/" --exclude-throw-branches --fail-under-line 90 build/coverage
done
