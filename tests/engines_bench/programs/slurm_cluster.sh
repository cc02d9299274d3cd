# slurm_cluster.sh srun|array PYTHON STOCK: a cluster of Slurm with one node, this host, gone at the end, and four tasks
# of slurm_task.py on it. STOCK finds free ports.
set -euo pipefail
kind=$1 python=$2 stock=$3 task=${BASH_SOURCE[0]%/*}/slurm_task.py
place=$(mktemp -d) host=$(hostname -s) user=$(id -un) cwd=$PWD
read -r first second < <("$stock" -S -c '
import socket
ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(x.getsockname()[1] for x in ports))')

cleanup() {
  local status=$?
  for daemon in slurmd slurmctld munged; do
    [[ -s $place/$daemon.pid ]] && kill "$(<"$place/$daemon.pid")" || true
  done
  ((status == 0)) || tail -n 30 "$place"/*.log "$place"/*.out >&2
  # The daemons write their state when they end.
  for _ in {1..100}; do
    compgen -G "$place/slurm*.pid" >/dev/null || break
    sleep 0.05
  done
  rm -rf "$place"
}
trap cleanup EXIT

mkdir "$place/state" "$place/spool"
head -c 1024 /dev/urandom >"$place/munge.key"
chmod 400 "$place/munge.key"
munged --force --key-file="$place/munge.key" --socket="$place/munge.socket" --pid-file="$place/munged.pid" \
  --log-file="$place/munged.log" --seed-file="$place/munge.seed"
# More tasks than processors: config_overrides lets the node have four.
cat >"$place/slurm.conf" <<END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$first
SlurmdPort=$second
SlurmUser=$user
SlurmdUser=$user
AuthInfo=socket=$place/munge.socket
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=4
PartitionName=all Nodes=ALL Default=YES
END
export SLURM_CONF=$place/slurm.conf
# What workers have in their environment the daemons have not.
for daemon in slurmctld slurmd; do
  env -u PYLAUNCH_PRELOAD -u PYLAUNCH_IMAGE "$daemon" 2>>"$place/start.log"
done
for _ in {1..200}; do
  [[ $(sinfo -h -o %t) != idle ]] || break
  sleep 0.05
done

env -u PYLAUNCH_PRELOAD -u PYLAUNCH_IMAGE "$stock" "${task%/*}/tell.py"
if [[ $kind == srun ]]; then
  srun -n4 "$python" "$task" | sort
else
  cat >"$place/job.sh" <<END
#!/bin/bash
#SBATCH --array=0-3
#SBATCH --output=$place/%a.out
#SBATCH --chdir=$cwd
exec "$python" "$task"
END
  sbatch --wait "$place/job.sh" | sed 's/[0-9]*$//'
  cat "$place"/[0-3].out
fi
