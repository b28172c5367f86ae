#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job: every method on a synthetic matrix, then
# on SmolLM2-135M-Instruct with WikiText-2. Arguments are passed on to `squish bench`.
set -euo pipefail
cd "$(dirname "$0")"

./build.sh release squish_app
scripts/fetch_text.sh || true   # its sentence says what is missing; stage 2 then does without
if model=$(scripts/fetch_model.sh); then
  exec build/release/squish bench --model-dir "$model" --markdown "$@"
fi
echo "no model: stage 1 only" >&2
exec build/release/squish bench --dry-run --markdown "$@"
