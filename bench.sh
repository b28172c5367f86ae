#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job: every method on a synthetic matrix, then
# on SmolLM2-135M-Instruct with WikiText-2. Arguments are passed on to `squish bench`; with
# --model-dir it is that model instead. Ends with the path of a page with figures, unless --html says
# where that goes.
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)

"$root/build.sh" release squish_app
"$root/scripts/fetch_text.sh" || true   # its sentence says what is missing; stage 2 then does without
bench=("$root/build/release/squish" bench)
[[ " $* " == *" --format"* ]] || bench+=(--markdown)
[[ " $* " == *" --html"* ]] || bench+=(--html dev/results/quant_2bit_comparison.html)
case " $* " in
  *" --model-dir"* | *" --dry-run "*) exec "${bench[@]}" "$@" ;;
esac
if model=$("$root/scripts/fetch_model.sh"); then
  exec "${bench[@]}" --model-dir "$model" "$@"
fi
echo "no model: stage 1 only" >&2
exec "${bench[@]}" --dry-run "$@"
