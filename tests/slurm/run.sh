#!/usr/bin/env bash
# The tests on a SLURM that is started for them and taken away again, whatever happens between:
#   run.sh PYTHON MARKERS
# Exit status: that of pytest; 75 where the packages of SLURM cannot be installed.
set -euo pipefail
here=$(dirname "$0")
pytest=

finish() {
  local status=$? log
  trap '' INT TERM HUP
  if [ -n "$pytest" ]; then
    kill "$pytest" 2>/dev/null || true # interrupted: it then stops what its tests have started
    wait "$pytest" || true
  fi
  log=$(mktemp)
  "$here/stop.sh" >"$log" 2>&1 || {
    cat "$log" >&2
    status=1
  }
  rm -f "$log"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

"$here/start.sh"
"$1" -m pytest "$here" -m "$2" &
pytest=$!
status=0
wait "$pytest" || status=$?
pytest=
exit "$status"
