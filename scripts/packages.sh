#!/usr/bin/env bash
# The one list of Debian packages that squish needs; installs what is missing, and the packages
# that are named. build.sh, bench.sh, test.sh and .ci/run all come through here.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache git ca-certificates
  python3 python3-numpy python3-pip  # pip fetches the test model
  libfmt-dev nlohmann-json3-dev libcli11-dev
  libopenblas-dev liblapacke-dev libpcre2-dev libutf8proc-dev libssl-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  libopenmpi-dev openmpi-bin
  clang-format-14
  dpkg-dev file  # cpack's
  "$@"
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
echo "installing: ${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends \
  "${missing[@]}" >&2
