#!/usr/bin/env bash
# The deepspeed launcher, as upstream's finetune.sh: the GPUs of this machine, or of all machines in a hostfile.
#   HOSTFILE=./hostfile MODEL_DIR=... DATA_PATH=... OUT=... bash PATH/scripts/recipes/deepspeed_hostfile.sh [--dry-run] [flags]
# HOST=transformers for transformers' own classes. A hostfile has one line a machine, "name slots=8". Needs the same
# paths and packages on each, and pdsh or another LAUNCHER. Face mode needs no variable to travel: the import hook is
# part of the installed package. What your site needs to travel goes into ~/.deepspeed_env, a line each: NAME=value.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

LAUNCH=(deepspeed --master_port "${MASTER_PORT:-29500}")
[ -z "${HOSTFILE:-}" ] || LAUNCH+=(--hostfile "$HOSTFILE" --launcher "${LAUNCHER:-pdsh}")
[ -z "${GPUS:-}" ] || LAUNCH+=(--num_gpus "$GPUS")

preflight
finetune_flags "$@"
"${LAUNCH[@]}" "$TRAIN" "${FLAGS[@]}"
check_trained
