# Shared by start.sh and stop.sh: where the test cluster keeps its state, and how its daemons are found and stopped.
STATE=/var/tmp/essential-sparsity-slurm
ETC=/etc/slurm
MARK="# The test cluster of essential-sparsity wrote this file; tests/slurm/stop.sh removes it."
HOSTS_MARK="# essential-sparsity test cluster"
NOT_INSTALLABLE=75 # exit status of start.sh where the packages cannot be had

say() { echo "$(basename "$0"): $*"; }

die() {
  say "$*" >&2
  for log in "$STATE"/log/*.log; do
    [ ! -s "$log" ] || { echo "--- $log" && tail -n 15 "$log"; }
  done >&2
  exit 1
}

# alive NAME: the daemon whose process id stands in pid/NAME.pid runs
alive() {
  local pid command
  [ -s "$STATE/pid/$1.pid" ] || return 1
  pid=$(cat "$STATE/pid/$1.pid")
  command=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) || return 1
  [[ $command == *"${1%%-*}"* ]]
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.2
  done
}

# stop_daemons NAME...: in this order, each waited for, killed after 20 seconds
stop_daemons() {
  local name pid
  for name in "$@"; do
    if alive "$name"; then
      pid=$(cat "$STATE/pid/$name.pid")
      kill "$pid"
      gone() { ! kill -0 "$pid"; }
      wait_for 20 gone || kill -9 "$pid"
    fi
    rm -f "$STATE/pid/$name.pid"
  done
}
