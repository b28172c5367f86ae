#!/usr/bin/env bash
# Specs on a whole model, each as a checkpoint of its own, calibrated on WikiText-2's valid split, all judged
# in one pass over its test split (gptq-2048). Killed, it goes on. About 40 minutes for the trellis at 2, 3
# and 4 bits, SmolLM2-135M and 40 windows on 2 cores with AVX-512.
#   bench/specs.sh MODEL OUTPUT.json TOKENS 'SPEC;SPEC...'     (TOKENS of the test text, 0: all)
set -euo pipefail
cd "$(dirname "$0")/.."
model=$1
output=$2
tokens=$3
IFS=';' read -r -a specs <<<"$4"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish
work=$cache/specs/$(basename "$model")
calibration=${SQUISH_CALIB:-$cache/$(basename "$model").calib}
squish=${SQUISH:-build/release/squish}

[ -x "$squish" ] || ./build.sh
mkdir -p "$work"
[ -e "$calibration" ] || "$squish" calibrate "$model" -o "$calibration" --resume
for spec in "${specs[@]}"; do
  "$squish" quantize "$model" -o "$work/$spec" --resume --spec "$spec" --calib "$calibration"
done
"$squish" eval "${specs[@]/#/$work/}" --reference "$model" --ppl-tokens "$tokens" --output "$output" --resume
