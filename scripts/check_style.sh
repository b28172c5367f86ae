#!/usr/bin/env bash
# Formatting, file sizes and the direction of dependencies; prints each offence, fails if any.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
offence() { echo "check_style: $*" >&2; status=1; }

mapfile -t sources < <(git ls-files '*.cc' '*.h')
format=$(command -v clang-format-14 || command -v clang-format)
"$format" --dry-run --Werror "${sources[@]}" || offence "run $format -i on the files above"

for file in "${sources[@]}"; do
  lines=$(wc -l <"$file")
  [ "$lines" -le 600 ] || offence "$file has $lines lines, at most 600"
done

# A folder of squish/ may include only itself and the folders before it (ARCHITECTURE.md).
order=(base linalg quant kernels io model compress evaluate report)
for i in "${!order[@]}"; do
  for later in "${order[@]:i+1}"; do
    if found=$(grep -rln "#include \"squish/$later/" "squish/${order[i]}"); then
      offence "squish/${order[i]} includes squish/$later in" $found
    fi
  done
done

# Every path that a document names in backquotes exists, or is one that the document has people write.
for document in README.md ARCHITECTURE.md CONTRIBUTING.md docs/*.md docs/*/*.md bench/*/*.md; do
  [ -f "$document" ] || continue
  while read -r path; do
    [ -e "$path" ] || grep -q "^<!-- file $path -->" "$document" || offence "$document names $path, which does not exist"
  done < <(grep -oE '`(squish|apps|tests|scripts|docs|cmake|bench)/[A-Za-z0-9_./-]+`' "$document" |
             tr -d '`' | sort -u)
done
exit $status
