#!/usr/bin/env bash
# All GPUs of one machine with torchrun (upstream's own scripts use the deepspeed launcher: deepspeed_hostfile.sh).
#   MODEL_DIR=... DATA_PATH=... IMAGE_FOLDER=... OUT=... bash PATH/scripts/recipes/torchrun.sh [--dry-run] [flags]
# HOST=transformers for transformers' own classes. Several machines: the same on each, with NNODES, NODE_RANK and
# MASTER_ADDR set.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

NNODES=${NNODES:-1} NODE_RANK=${NODE_RANK:-0} MASTER_ADDR=${MASTER_ADDR:-127.0.0.1} MASTER_PORT=${MASTER_PORT:-29500}
GPUS=${GPUS:-$(python -c 'import torch; print(torch.cuda.device_count())')}

preflight
finetune_flags "$@"
torchrun --nnodes "$NNODES" --node_rank "$NODE_RANK" --nproc_per_node "$GPUS" \
  --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT" "$TRAIN" "${FLAGS[@]}"
[ "$NODE_RANK" != 0 ] || check_trained
