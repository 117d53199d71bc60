#!/usr/bin/env bash
# Runs the Python tests: first two at a time, a file on one worker, then alone, with nothing beside them, those that are about
# time (marked `serial`). Without arguments, which are pytest's own, it also prints how much of the code they ran and fails below
# the floor that pyproject.toml sets. The exit status is not 0 if any part failed.
#
#     scripts/pytest.sh tests/server/cache -x
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# Tests make their own small models or take the demo's, which `make model` fetched: no test asks a hub.
export HF_HUB_OFFLINE=1
# The workers share the cores, so each model's thread gets one.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

ran=0
failed=0

run() {
  .venv/bin/python -m pytest "$@"
  local status=$?
  # 5: no test of this part was asked for.
  if [[ $status != 5 ]]; then ran=1; fi
  if [[ $status != 0 && $status != 5 ]]; then failed=$status; fi
}

covered=()
if [[ $# == 0 ]]; then covered=(--cov --cov-report= --cov-fail-under=0); fi
run -m 'not serial' --numprocesses 2 --dist loadfile --no-loadscope-reorder "${covered[@]}" "$@"
if [[ ${#covered[@]} != 0 ]]; then covered+=(--cov-append); fi
# Only the files that have some: importing all the others takes longer than these tests.
alone=("$@")
if [[ $# == 0 ]]; then mapfile -t alone < <(grep -rl --include='test_*.py' 'mark\.serial' tests | sort); fi
run -m serial "${covered[@]}" "${alone[@]}"
if [[ ${#covered[@]} != 0 ]]; then .venv/bin/coverage report | grep -E '^(TOTAL|Coverage failure)' || failed=1; fi
if [[ $ran == 0 ]]; then exit 5; fi
exit "$failed"
