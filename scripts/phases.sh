#!/usr/bin/env bash
# Runs make targets one after the other, all of them whatever fails, and closes with what each took and what the test
# runners counted. The exit status is 1 if any target failed.
#
#     scripts/phases.sh setup check pytest
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
report=()
failed=0

for phase in "$@"; do
  printf '\n==> make %s\n' "$phase"
  start=$SECONDS
  # A pipe, not a redirection: the output is read while it runs. The runners' colours would hide their closing lines.
  if NO_COLOR=1 make "$phase" 2>&1 | tee "$logs/$phase"; then outcome=ok; else outcome=FAILED failed=1; fi
  report+=("$(printf '%-8s %5d s  %s' "$outcome" $((SECONDS - start)) "$phase")")
  # Nothing can run without it.
  if [[ $phase == setup && $outcome != ok ]]; then break; fi
done

printf '\n'
printf '%s\n' "${report[@]}" "$(printf '%-8s %5d s' total "$SECONDS")"
if [[ -f $logs/ts-test ]]; then grep -E '^(ℹ|#) (tests|pass|fail|cancelled|skipped) [0-9]+$' "$logs/ts-test"; fi
if [[ -f $logs/pytest ]]; then grep -E '^=*[^=]* in [0-9.]+s[^=]*=*$|^TOTAL ' "$logs/pytest"; fi
exit "$failed"
