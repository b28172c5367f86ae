#!/usr/bin/env bash
# Installs what is missing, builds and runs the tests; --all: those of many minutes as well, static checks and, in builds of
# their own, what threads share under ThreadSanitizer and which lines of readers and methods are run.
# Usage: ./test.sh [--all|release|debug|asan|tsan]
set -euo pipefail
cd "$(dirname "$0")"
preset=${1:-release}
[ "$preset" != --all ] || preset=all

./build.sh "${preset/#all/release}"
# What a browser makes of the results page is not tried where there is none to be had.
scripts/packages.sh iproute2 || echo "no iproute2: ranks are not tried on several hosts" >&2
scripts/packages.sh chromium || echo "no chromium: the results page is not tried in a browser" >&2
if [ "$preset" = all ]; then
  scripts/packages.sh debootstrap || echo "no debootstrap: the package is not tried in a clean Debian" >&2
fi
# Tests on the real model skip themselves, saying so, where it cannot be had.
scripts/fetch_model.sh >/dev/null || echo "no model: the tests that need it will be skipped" >&2
ctest --preset "$preset" --parallel "$(nproc)"
if [ "$preset" = all ]; then
  scripts/check_static.sh --all
  scripts/check_races.sh
  scripts/coverage.sh
fi
