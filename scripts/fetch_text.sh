#!/usr/bin/env bash
# Makes sure that `squish` finds WikiText-2's raw test split: nothing to do where $SQUISH_DATA,
# ../shared/data/wikitext-2 or the cache has it; else it is fetched into the cache and checked, and the valid split, to
# calibrate on, with it (from the same archive).
set -euo pipefail
cd "$(dirname "$0")/.."

digest=173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08
home=https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip
cache=${XDG_CACHE_HOME:-$HOME/.cache}/squish/data
files=(wiki.test.raw wiki.valid.raw)

[ -z "${SQUISH_DATA:-}" ] || exit 0   # the user's choice; `squish` says if it is not there
[ -f ../shared/data/wikitext-2/wiki.test.raw ] && exit 0
echo "$digest  $cache/wiki.test.raw" | sha256sum --check --status 2>/dev/null && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching WikiText-2 (raw) into $cache" >&2
python3 - "$home" "$work" "${files[@]}" >&2 <<'PYTHON' ||
import io, sys, urllib.request, zipfile
try:
    with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    for name in sys.argv[3:]:
        archive.extract(f"wikitext-2-raw/{name}", sys.argv[2])
except Exception as error:
    sys.exit(f"fetch_text: {sys.argv[1]}: {error}")
PYTHON
  { echo "fetch_text: put WikiText-2's wiki.test.raw into $cache (sha256 $digest)" >&2; exit 1; }
echo "$digest  $work/wikitext-2-raw/wiki.test.raw" | sha256sum --check --quiet >&2 ||
  { echo "fetch_text: the file at $home does not have the sha256 $digest" >&2; exit 1; }
mkdir -p "$cache"
for name in "${files[@]}"; do
  mv "$work/wikitext-2-raw/$name" "$cache/$name.$$.partial"
  mv "$cache/$name.$$.partial" "$cache/$name"
done
