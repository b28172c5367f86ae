#!/usr/bin/env bash
# The trellis at 2, 3 and 4 bits on a whole model, calibrated on WikiText-2's valid split, judged on its
# test split (gptq-2048). About 40 minutes for SmolLM2-135M and 40 windows on 2 cores; killed, it goes on.
#   bench/trellis/model.sh [MODEL] [OUTPUT.json] [TOKENS of the test text, 0: all] [KEYS, ",code=fast"]
set -euo pipefail
cd "$(dirname "$0")/../.."
model=${1:-$(scripts/fetch_model.sh)}
output=${2:-docs/results/smollm2-135m-trellis.json}
tokens=${3:-81920}
keys=${4:-}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish
work=$cache/trellis/$(basename "$model")$keys-$tokens
calibration=${SQUISH_CALIB:-$cache/$(basename "$model").calib}
squish=build/release/squish

[ -x "$squish" ] || ./build.sh
mkdir -p "$work"
[ -e "$calibration" ] || "$squish" calibrate "$model" -o "$calibration" --resume
for bits in 2 3 4; do
  "$squish" quantize "$model" -o "$work/$bits" --resume --spec "trellis:bits=$bits$keys" \
    --calib "$calibration"
  [ -e "$work/$bits.json" ] || "$squish" eval "$work/$bits" --reference "$model" \
    --ppl-tokens "$tokens" --output "$work/$bits.json"
done
python3 bench/trellis/merge.py "$output" "$work"/{2,3,4}
