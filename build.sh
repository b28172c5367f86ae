#!/usr/bin/env bash
# Installs what is missing and builds. Usage: ./build.sh [release|debug|asan|tsan] [target...]
# The release program is build/release/squish.
set -euo pipefail
cd "$(dirname "$0")"
preset=${1:-release}
targets=("${@:2}")

scripts/packages.sh
cmake --preset "$preset" >"/tmp/squish-configure-$$.log" 2>&1 ||
  { cat "/tmp/squish-configure-$$.log" >&2; exit 1; }
rm -f "/tmp/squish-configure-$$.log"
cmake --build --preset "$preset" ${targets:+--target "${targets[@]}"} >&2
