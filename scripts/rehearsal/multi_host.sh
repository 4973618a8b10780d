#!/usr/bin/env bash
# A training over several hosts on one machine: each host is a network namespace with its own address and hostname
# (hosts.sh). The recipes run as they are, on the tiny model; ssh, pdsh, srun and scontrol are stubs that enter the hosts.
#   sudo scripts/rehearsal/multi_host.sh [torchrun|deepspeed|slurm] [2]     HOST=transformers for the other host package
# Needs root (or an own user namespace), iproute2, and the plugin's environment first in PATH. Cleans up after itself.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RECIPES=$HERE/../recipes
WAY=${1:-torchrun} N=${2:-2}
export HOST=${HOST:-llava} RECIPES
source "$HERE/hosts.sh"
trap hosts_down EXIT
trap 'exit 130' INT TERM

export DRY_RUN_DIR=$REHEARSAL/shared GPUS=1
export OUT=$DRY_RUN_DIR/llava-$WAY GLOO_SOCKET_IFNAME=eth0
hosts_up "$N"

rehearse_torchrun() {
  local i running=()
  for i in $(seq "$N"); do
    NNODES=$N NODE_RANK=$((i - 1)) MASTER_ADDR=host1 on "host$i" bash "$RECIPES/torchrun.sh" --dry-run 2>&1 |
      sed -u "s/^/host$i: /" &
    running+=($!)
  done
  for i in "${running[@]}"; do wait "$i"; done
}

rehearse_deepspeed() {
  for i in $(seq "$N"); do echo "host$i slots=1"; done > "$REHEARSAL/hostfile"
  # The launcher takes this along to every host; ssh itself takes nothing.
  printf '%s\n' LLAVA_FACE_CPU_DRY_RUN=1 OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=eth0 > "$REHEARSAL/env"
  DS_ENV_FILE=$REHEARSAL/env HOSTFILE=$REHEARSAL/hostfile PATH=$HERE/shims:$PATH \
    on host1 bash "$RECIPES/deepspeed_hostfile.sh" --dry-run
}

rehearse_slurm() {
  local nodes
  nodes=$(seq -s, -f 'host%g' "$N")
  SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=$N SLURM_JOB_NODELIST=$nodes PATH=$HERE/shims:$PATH \
    on host1 bash "$RECIPES/slurm.sbatch" --dry-run
}

"rehearse_$WAY"
python "$HERE/check_run.py" "$OUT" "$N"
for i in $(seq "$N"); do echo "host$i sent $(bytes_sent "host$i") bytes to the others"; done
for i in $(seq "$N"); do  # fewer than the weights: it has trained alone
  [ "$(bytes_sent "host$i")" -gt "$(stat -c %s "$OUT/model.safetensors")" ]
done
echo "$WAY over $N hosts, $HOST: ok"
