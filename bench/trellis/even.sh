#!/usr/bin/env bash
# A tenth of a bit a weight spent evenly (every tensor's first columns one bit more) beside the same bits spent by
# --target-bpw, by the trellis's fast code, calibrated, judged on WikiText-2's test split (gptq-2048). Some 15
# minutes for SmolLM2-135M on 2 cores with AVX-512; killed, it goes on.
#   bench/trellis/even.sh [MODEL] [OUTPUT.json] [TOKENS of the test text, 0: all]
set -euo pipefail
cd "$(dirname "$0")/../.."
model=${1:-$(scripts/fetch_model.sh)}
output=${2:-docs/results/trellis-even.json}
tokens=${3:-81920}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish
work=$cache/trellis/$(basename "$model")-even
calibration=${SQUISH_CALIB:-$cache/$(basename "$model").calib}
squish=${SQUISH:-build/release/squish}

[ -x "$squish" ] || ./build.sh
mkdir -p "$work"
[ -e "$calibration" ] || "$squish" calibrate "$model" -o "$calibration" --resume
"$squish" quantize "$model" -o "$work/even" --resume --spec trellis:bits=2.1,code=fast --calib "$calibration"
specs=$(printf "trellis:bits=%s,code=fast;" 1 2 3 4 5)
"$squish" quantize "$model" -o "$work/chosen" --resume --target-bpw 2.1 --spec "${specs%;}" --calib "$calibration"
"$squish" eval "$work/even" "$work/chosen" --reference "$model" --ppl-tokens "$tokens" --output "$output" --resume
