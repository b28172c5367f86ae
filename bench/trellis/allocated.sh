#!/usr/bin/env bash
# The trellis at 2.1, 3.1 and 4.1 bits with each tensor's rate chosen by --target-bpw from 1 to 5 bits,
# calibrated on WikiText-2's valid split, judged on its test split (gptq-2048). On 2 cores about 33 minutes
# for SmolLM2-135M's candidates, 5 a target and 8 a model for the whole test text with AVX-512, with AVX2 88
# (12 by code=fast), 9 and 18; killed, it goes on.
#   bench/trellis/allocated.sh [MODEL] [OUTPUT.json] [TOKENS of the test text, 0: all] [KEYS, ",code=fast"] [RATES]
set -euo pipefail
cd "$(dirname "$0")/../.."
model=${1:-$(scripts/fetch_model.sh)}
output=${2:-docs/results/smollm2-135m-trellis-allocated.json}
tokens=${3:-0}
keys=${4:-}
read -r -a rates <<<"${5:-2.1 3.1 4.1}"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish
work=$cache/trellis/$(basename "$model")$keys-allocated
calibration=${SQUISH_CALIB:-$cache/$(basename "$model").calib}
squish=${SQUISH:-build/release/squish}

[ -x "$squish" ] || ./build.sh
mkdir -p "$work"
[ -e "$calibration" ] || "$squish" calibrate "$model" -o "$calibration" --resume
specs=$(printf "trellis:bits=%s$keys;" 1 2 3 4 5)
for bits in "${rates[@]}"; do
  "$squish" quantize "$model" -o "$work/$bits" --resume --target-bpw "$bits" --spec "${specs%;}" \
    --calib "$calibration" --candidates "$work/candidates"
done
"$squish" eval "${rates[@]/#/$work/}" --reference "$model" --ppl-tokens "$tokens" --output "$output" --resume
