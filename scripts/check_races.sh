#!/usr/bin/env bash
# What threads share, under ThreadSanitizer: the tests of base, linalg, model and compress, and those of kernels and methods that
# are about threads, but for encoders that it makes slow. ./test.sh tsan runs everything, which takes hours.
set -euo pipefail
cd "$(dirname "$0")/.."
slow='*/trellis:*/trellis_bits_?:*/trellis_code_hyb'  # L = 16; the code is that of the fast ones
declare -A tests=([base]='*' [linalg]='*' [model]='*' [compress]='*' [kernels]='*NumbersOfThreads*'
                  [quant]="*Threads*:-$slow")
cmake --preset tsan >/dev/null
cmake --build --preset tsan --parallel "$(nproc)" --target $(printf "%s_test " "${!tests[@]}") >/dev/null
for folder in "${!tests[@]}"; do printf '%s\0' "--gtest_filter=${tests[$folder]}" "build/tsan/tests/${folder}_test"; done |
  xargs -0 -n 2 -P "$(nproc)" sh -c '"$1" "$0" --gtest_brief=1'
