#!/usr/bin/env bash
# Runs a job array of `cargo xtask reproduce --launcher slurm` on a real SLURM of one machine, and compares its results with those
# of the same runs without SLURM, bit for bit. Needs Debian or Ubuntu, and root: it installs slurm-wlm and munge if they are
# missing, and starts them with files in a temporary folder of its own.
#
#   tools/slurm/test.sh [TRAINER]      TRAINER: a built `convnn`, target/release/convnn by default
#
# Six runs of a small family, at most two at a time. The time limit is shorter than the longest run, so that this one is stopped by
# SLURM's signal, saves, is queued again and resumed. A requeued task waits about two minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
trainer=$(realpath "${1:-target/release/convnn}")
cargo build --release --quiet --package xtask
xtask=$(realpath target/release/xtask)

if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y slurm-wlm munge
fi

work=$(mktemp -d)
export SLURM_CONF=$work/slurm.conf
mkdir -p "$work"/{state,spool,cgroup,experiments}
cat >"$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=localhost
AuthType=auth/munge
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
OverTimeLimit=0
NodeName=localhost CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
END
cat >"$work/cgroup.conf" <<END
CgroupPlugin=cgroup/v1
CgroupMountpoint=$work/cgroup
CgroupAutomount=no
END
finish() {
    scancel --user=root 2>/dev/null || true
    for daemon in slurmd slurmctld; do
        pid=$(cat "$work/$daemon.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || true
        # They end their tasks first, and need munge for that.
        for _ in $(seq 30); do
            kill -0 "$pid" 2>/dev/null || continue 2
            sleep 1
        done
        kill -9 "$pid" 2>/dev/null || true
    done
    if [ -n "${munged:-}" ]; then kill "$munged" 2>/dev/null || true; fi
}
trap finish EXIT
if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    mkdir -p /run/munge
    chown munge: /run/munge
    [ -e /etc/munge/munge.key ] || mungekey
    setpriv --reuid=munge --regid=munge --clear-groups munged --foreground >"$work/munged.log" 2>&1 &
    munged=$!
    sleep 1
fi
slurmctld
slurmd -N localhost
for _ in $(seq 60); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q '^idle$' && break
    sleep 1
done
sinfo

cp xtask/experiments/budgets.toml "$work/experiments/"
# Six runs; two of them outlast the time limit, at a second or two an epoch.
cat >"$work/experiments/array.toml" <<'END'
title = "Array"
about = "Six small runs, of which two take many times as long."
[[axes]]
name = "ratio"
key = "layer.branch_ratio"
values = [0.0, 0.5, 1.0]
[[overrides]]
when = { ratio = 1 }
set = { "model.features" = [12, "M", 24, 24, "M", 48] }
[budgets.quick]
preset = "vgg11_compact"
sample = true
epochs = 40
seeds = 2
set = { "model.features" = ["M", 4, "M", 8, "M"], batch_size = 32 }
END
options=(quick --experiments "$work/experiments" --trainer "$trainer" --threads 1)
"$xtask" reproduce "${options[@]}" --out "$work/slurm" --launcher slurm --throttle 2 \
    --time-limit 00:01:00 --signal-before 15
started=$SECONDS
while [ -n "$(squeue --noheader)" ]; do
    [ $((SECONDS - started)) -lt 1500 ] || { echo "the array did not end in 25 minutes" >&2; squeue; exit 1; }
    sleep 5
done
echo "the array took $((SECONDS - started)) s"
stopped=$(grep -l 'everything is saved' "$work"/slurm/slurm/logs/*.log | wc -l)
resumed=$(grep -l 'resumed from' "$work"/slurm/slurm/logs/*.log | wc -l)
echo "tasks stopped by the time limit: $stopped; resumed: $resumed"
[ "$stopped" -ge 1 ] && [ "$resumed" = "$stopped" ]
"$xtask" reproduce "${options[@]}" --out "$work/slurm" --collect >/dev/null
"$xtask" reproduce "${options[@]}" --out "$work/local" >/dev/null
for run in "$work"/local/runs/*; do
    name=$(basename "$run")
    cmp "$run/weights/model.safetensors" "$work/slurm/runs/$name/weights/model.safetensors"
    echo "$name: the same weights"
done
[ "$(ls "$work/local/runs" | wc -l)" = 6 ]
finish
trap - EXIT
rm -rf "$work"
echo "passed"
