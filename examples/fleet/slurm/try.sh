#!/bin/bash
# Starts a Slurm of one node on this machine, without touching one that is installed, and prunes the bundled model on four shards: once
# undisturbed, once with the process of one shard killed. Both must give the same bytes.
#
#   apt-get install slurm-wlm   # Debian, Ubuntu
#   npm run build && sudo examples/fleet/slurm/try.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
[ "$(id -u)" = 0 ] || { echo 'slurmd starts processes of other users, so it needs root.' >&2; exit 2; }
for program in munged slurmctld slurmd sbatch; do
  command -v "$program" >/dev/null || { echo "$program is missing: apt-get install slurm-wlm" >&2; exit 2; }
done

work=$(mktemp -d)
chmod 755 "$work"
pids=()
stop() {
  status=$?
  scancel --user=root 2>/dev/null || true
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ $status = 0 ]; then rm -rf "$work"; else echo "failed; the logs are in $work" >&2; fi
}
trap stop EXIT
trap 'exit 130' INT TERM

mkdir "$work/munge" "$work/state" "$work/spool"
chmod 700 "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 status=none
chmod 400 "$work/munge/key"
munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed" >"$work/munged.log" 2>&1 &
pids+=($!)

free_port() { node -e "const s = require('net').createServer().listen(0, () => { console.log(s.address().port); s.close(); })"; }
host=$(hostname -s)
export SLURM_CONF="$work/slurm.conf"
# `cred_expire`: a task that is queued again waits until its old credential has expired, two minutes otherwise.
cat >"$SLURM_CONF" <<CONF
ClusterName=fang
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=5
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF

for ((i = 0; i < 50; i++)); do [ -S "$work/munge/socket" ] && break; sleep 0.1; done
slurmctld -D -f "$SLURM_CONF" >"$work/slurmctld.out" 2>&1 &
pids+=($!)
slurmd -D -f "$SLURM_CONF" >"$work/slurmd.out" 2>&1 &
pids+=($!)
for ((i = 0; i < 100; i++)); do sinfo --noheader --format=%t 2>/dev/null | grep -q idle && break; sleep 0.2; done
sinfo

export MODEL="$root/examples/models/tiny-llama" SHARDS=4 SPARSITY=30%
export WINDOWS='--windows 16 --window-length 256' FANG_PRUNE="node $root/dist/cli.js"

# Submits the example's jobs; $1 names the folder. Waits until the last of them has ended.
prune() {
  export WORK="$work/$1"
  last=$("$here/submit.sh" --cpus-per-task=1)
  [ "$1" = undisturbed ] || kill_a_shard
  while state=$(squeue --noheader --job="$last" --format=%T:%r 2>/dev/null) && [ -n "$state" ]; do
    case "$state" in
      *DependencyNeverSatisfied*) break ;;
      COMPLETED* | FAILED* | CANCELLED* | TIMEOUT*) break ;;
    esac
    sleep 0.5
  done
  [ -e "$WORK/pruned/config.json" ] || { cat "$WORK"/*.log; echo "$1: there is no result" >&2; exit 1; }
}

# Ends the process of shard 2 as the kernel does where memory is short, once it has kept something.
kill_a_shard() {
  for ((i = 0; i < 1200; i++)); do
    if compgen -G "$WORK/shards/2.partial/*.entry" >/dev/null; then
      # The library's process runs in one of its own, below the one that the command line is.
      mapfile -t found < <(pgrep -f -- "--out $WORK/shards/2 ")
      [ "${#found[@]}" -gt 0 ] && kill -KILL "${found[@]}" && return
    fi
    sleep 0.05
  done
  echo 'shard 2 ended before it could be killed' >&2
  exit 1
}

prune undisturbed
prune killed
grep -h 'queued again\|resumed from' "$work"/killed/*.log
cd "$work"
for folder in undisturbed killed; do
  (cd "$folder" && find statistics pruned -name '*.onnx*' -o -name '*.safetensors' | sort | xargs sha256sum) >"$folder.sums"
done
cat killed.sums
cmp undisturbed.sums killed.sums
echo 'four shards, one of them killed and run again: the same bytes'
