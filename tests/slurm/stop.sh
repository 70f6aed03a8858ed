#!/usr/bin/env bash
# Take away what start.sh brought: jobs, daemons, state, configuration, and the packages that it installed. Client tools
# without a controller would make every later `snakemake` on this machine wait.
set -euo pipefail
. "$(dirname "$0")/common.sh"

[ -d "$STATE" ] || exit 0
if alive slurmctld; then
  timeout 20 scancel --full --user="$(id -un)" || true
  queue_empty() { [ -z "$(timeout 10 squeue -h -t all -o '%T' | grep -E 'RUNNING|COMPLETING|PENDING')" ]; }
  wait_for 20 queue_empty || say "jobs are still in the queue"
fi
stop_daemons slurmd-gpunode1 slurmd-gpunode2 slurmctld slurmdbd mariadbd munged
for name in slurm gres slurmdbd cgroup; do
  if grep -qsF "$MARK" "$ETC/$name.conf"; then rm -f "$ETC/$name.conf"; fi
done
if grep -qF "$HOSTS_MARK" /etc/hosts; then
  kept=$(grep -vF "$HOSTS_MARK" /etc/hosts) && echo "$kept" >/etc/hosts
fi
if [ -s "$STATE/installed" ]; then
  say "removing the packages that start.sh installed"
  mapfile -t packages <"$STATE/installed"
  DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq "${packages[@]}" >"$STATE/log/apt.log" 2>&1 ||
    die "the packages could not be removed"
fi
rm -rf "$STATE"
rmdir --ignore-fail-on-non-empty "$ETC" 2>/dev/null || true
say "done"
