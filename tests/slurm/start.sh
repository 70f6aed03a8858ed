#!/usr/bin/env bash
# Start a real SLURM on this machine for tests: munge, accounting (slurmdbd on MariaDB), one controller, two nodes with
# one fake GPU each, all on loopback, without systemd. Installs what is missing from Debian's packages. Run again, it
# starts only what is not running. `stop.sh` takes all of it away. Needs root.
set -euo pipefail
. "$(dirname "$0")/common.sh"

NODES=2
CPUS=8 # claimed by each node, whatever the machine has: requests as on a cluster are then scheduled
MEMORY_MB=32000

[ "$(id -u)" = 0 ] || die "needs root: it installs packages and writes $ETC"
if [ -e "$ETC/slurm.conf" ] && ! grep -qF "$MARK" "$ETC/slurm.conf"; then
  die "$ETC/slurm.conf was written by somebody else: this machine belongs to a real cluster"
fi

# Packages: those that were not there are noted, so that stop.sh removes just them.
packages() { dpkg-query -W -f='${db:Status-Abbrev} ${binary:Package}\n' | awk '$1 != "un" && $1 != "rc" {print $2}' | sort; }
missing=()
for package in munge slurmctld slurmd slurm-client slurmdbd mariadb-server; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
mkdir -p "$STATE"/{log,pid,controller,database} "$ETC"
chmod 755 "$STATE" "$STATE"/{log,pid,controller}
if [ "${#missing[@]}" -gt 0 ]; then
  say "installing ${missing[*]}"
  before=$(packages)
  note_installed() { comm -13 <(echo "$before") <(packages) >>"$STATE/installed"; }
  export DEBIAN_FRONTEND=noninteractive
  {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
  } >"$STATE/log/apt.log" 2>&1 || {
    tail -n 20 "$STATE/log/apt.log" >&2
    note_installed
    say "the packages could not be installed"
    exit "$NOT_INSTALLABLE"
  }
  note_installed
fi

# Daemons listen on loopback alone; for that the host's own name must lead there (in containers it often does not).
HOST=$(hostname -s)
address() { getent ahostsv4 "$HOST" | awk '{print $1; exit}'; }
if [[ $(address) != 127.* ]]; then
  # /etc/hosts is often a mount of its own: written in place, not renamed over
  kept=$(cat /etc/hosts)
  printf '127.0.0.1 %s %s\n%s\n' "$HOST" "$HOSTS_MARK" "$kept" >/etc/hosts
fi
ADDRESS=$(address)
[[ $ADDRESS == 127.* ]] || die "the name $HOST leads to ${ADDRESS:-no address}, not to this machine's loopback"

# SLURM_CONF elsewhere would not do: the executor plugin strips SLURM_* from its jobs.
cat >"$ETC/slurm.conf.new" <<CONF
$MARK
ClusterName=test
SlurmctldHost=$HOST($ADDRESS)
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=cred_expire=15
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$STATE/controller
SlurmdSpoolDir=$STATE/spool-%n
SlurmctldPidFile=$STATE/pid/slurmctld.pid
SlurmdPidFile=$STATE/pid/slurmd-%n.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
MessageTimeout=30
SlurmdTimeout=60
MinJobAge=600
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
DefMemPerCPU=256
SlurmdParameters=config_overrides
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$ADDRESS
AccountingStoragePort=16819
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
NodeName=gpunode[1-$NODES] NodeHostname=$HOST NodeAddr=$ADDRESS Port=[17001-$((17000 + NODES))] CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEMORY_MB Gres=gpu:1 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 PriorityTier=1 State=UP
PartitionName=cpu Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=10 State=UP
CONF
# A GPU must be a character device, or its number never reaches CUDA_VISIBLE_DEVICES; every machine has these.
cat >"$ETC/gres.conf.new" <<CONF
$MARK
AutoDetect=off
NodeName=gpunode1 Name=gpu File=/dev/null
NodeName=gpunode2 Name=gpu File=/dev/zero
CONF
# SLURM 24.05 and newer load a control-group plugin even when nothing uses it; older ones do not know this line.
version=$(slurmd -V | awk '{print $2}')
if [ "$(printf '%s\n' 24.05 "$version" | sort -V | head -n 1)" = 24.05 ]; then
  printf '%s\nCgroupPlugin=disabled\n' "$MARK" >"$ETC/cgroup.conf"
fi
changed=no
for name in slurm gres; do
  cmp -s "$ETC/$name.conf.new" "$ETC/$name.conf" || changed=yes
  mv "$ETC/$name.conf.new" "$ETC/$name.conf"
done
if [ "$changed" = yes ]; then
  stop_daemons slurmd-gpunode1 slurmd-gpunode2 slurmctld
  rm -rf "$STATE"/controller/* "$STATE"/spool-*
fi

munge_answers() { munge -n | unmunge; }
if ! munge_answers >/dev/null 2>&1; then
  say "starting munged"
  install -d -o munge -g munge -m 755 /run/munge
  if [ ! -s /etc/munge/munge.key ]; then
    (umask 077 && head -c 128 /dev/urandom >/etc/munge/munge.key)
    chown munge: /etc/munge/munge.key
  fi
  setpriv --reuid munge --regid munge --init-groups munged || die "munged did not start"
  cp /run/munge/munged.pid "$STATE/pid/munged.pid"
  wait_for 10 munge_answers || die "munged does not answer"
fi

sql() { mariadb --no-defaults --socket="$STATE/database/socket" -e "$1"; }
if ! alive mariadbd; then
  say "starting mariadbd"
  chown mysql "$STATE/database"
  [ -d "$STATE/database/mysql" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/database" \
    --auth-root-authentication-method=normal --skip-test-db >"$STATE/log/mariadb-install.log" 2>&1 || die "mariadb-install-db"
  setsid mariadbd --no-defaults --user=mysql --datadir="$STATE/database" --socket="$STATE/database/socket" \
    --pid-file="$STATE/database/pid" --bind-address=127.0.0.1 --port=16306 --innodb-buffer-pool-size=64M \
    --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 >"$STATE/log/mariadbd.log" 2>&1 </dev/null &
  echo $! >"$STATE/pid/mariadbd.pid"
  wait_for 60 timeout 10 mariadb-admin --no-defaults --socket="$STATE/database/socket" ping || die "mariadbd does not answer"
  sql "create database if not exists slurm_acct_db;
    create user if not exists slurm@'127.0.0.1' identified by 'slurm';
    create user if not exists slurm@localhost identified by 'slurm';
    grant all on slurm_acct_db.* to slurm@'127.0.0.1';
    grant all on slurm_acct_db.* to slurm@localhost;"
fi

cat >"$ETC/slurmdbd.conf" <<CONF
$MARK
AuthType=auth/munge
DbdHost=localhost
DbdAddr=$ADDRESS
DbdPort=16819
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
PidFile=$STATE/pid/slurmdbd.pid
LogFile=$STATE/log/slurmdbd.log
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=16306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
chmod 600 "$ETC/slurmdbd.conf"
if ! alive slurmdbd; then
  say "starting slurmdbd"
  slurmdbd || die "slurmdbd did not start"
  wait_for 60 timeout 10 sacctmgr -n show cluster || die "slurmdbd does not answer"
fi
known() { timeout 20 sacctmgr -n -P show "$@" | grep -q .; }
known cluster test || timeout 20 sacctmgr -i -Q add cluster test >/dev/null || true
known account lab || timeout 20 sacctmgr -i -Q add account lab Cluster=test >/dev/null || true
known assoc user=root account=lab || timeout 20 sacctmgr -i -Q add user root Account=lab >/dev/null || true

controller_answers() { timeout 10 scontrol ping | grep -q "is UP"; }
if ! alive slurmctld; then
  say "starting slurmctld"
  slurmctld || die "slurmctld did not start"
  wait_for 30 controller_answers || die "slurmctld does not answer"
fi
for node in $(seq -f "gpunode%g" "$NODES"); do
  alive "slurmd-$node" || {
    say "starting slurmd of $node"
    mkdir -p "$STATE/spool-$node"
    slurmd -N "$node" || die "slurmd of $node did not start"
  }
done
ready() { [ "$(timeout 10 sinfo -h -N -p gpu -o %T | grep -cE '^(idle|mixed|allocated|completing)$')" = "$NODES" ]; }
ready || timeout 10 scontrol update "nodename=gpunode[1-$NODES]" state=resume 2>/dev/null || true
wait_for 60 ready || die "the nodes are not idle: $(timeout 10 sinfo -R)"
say "ready: $(timeout 10 sinfo -h -N -p gpu -o '%N %T %G' | tr '\n' ';')"
