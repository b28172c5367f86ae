#!/usr/bin/env bash
# Every method on a whole model, calibrated and not: calibrates on the first 85 % of WikiText-2's valid
# split (once; kept beside the results' cache), compresses by every spec and compares on the test split,
# gptq-2048. Killed, it goes on where it was. About an hour and a half for SmolLM2-135M on 2 cores.
#   bench/calibrated.sh [MODEL] [OUTPUT.json] [TOKENS of the test text, 0: all]
# Without arguments: SmolLM2-135M-Instruct, docs/results/smollm2-135m-calibrated.json, 40 windows.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-$(scripts/fetch_model.sh)}
output=${2:-docs/results/smollm2-135m-calibrated.json}
tokens=${3:-81920}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish
calibration=${SQUISH_CALIB:-$cache/$(basename "$model").calib}
squish=build/release/squish
specs='int4:g=128,scale=f16,clip=mse'
specs+=';int3:g=128,scale=f16,clip=mse'
specs+=';int2:g=128,scale=f16,clip=mse'
specs+=';quip:bits=4;quip:bits=3;quip:bits=2'
specs+=';aqlm:m=2,b=8,g=8'
specs+=';vptq:v=8,k=256,r=256'

[ -x "$squish" ] || ./build.sh
[ -e "$calibration" ] || "$squish" calibrate "$model" -o "$calibration" --resume
"$squish" bench --model-dir "$model" --calib "$calibration" --methods "$specs" \
  --ppl-tokens "$tokens" --markdown --output "$output"
