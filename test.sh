#!/usr/bin/env bash
# Installs what is missing, builds and runs all tests. Usage: ./test.sh [release|debug|asan|tsan]
set -euo pipefail
cd "$(dirname "$0")"
preset=${1:-release}

./build.sh "$preset"
# Tests on the real model skip themselves, saying so, where it cannot be had.
scripts/fetch_model.sh >/dev/null || echo "no model: the tests that need it will be skipped" >&2
ctest --preset "$preset" --parallel "$(nproc)"
