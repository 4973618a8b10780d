#!/usr/bin/env bash
# One GPU, plain python, without deepspeed. 8 x 16 samples make upstream's step of 128.
#   MODEL_DIR=... DATA_PATH=... IMAGE_FOLDER=... OUT=... bash PATH/scripts/recipes/single_gpu.sh [--dry-run] [flags]
# HOST=transformers for transformers' own classes. LLaVA's with the flags of finetune_lora.sh, where memory is short:
#   OUT=./checkpoints/llava-v1.5-7b-face-lora bash PATH/scripts/recipes/single_gpu.sh \
#     --lora_enable True --lora_r 128 --lora_alpha 256 --mm_projector_lr 2e-5 --learning_rate 2e-4
DEEPSPEED_CONFIG=${DEEPSPEED_CONFIG-} ACCUMULATION=${ACCUMULATION:-8}
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}   # with several, plain python would make torch's DataParallel
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

preflight
finetune_flags "$@"
python "$TRAIN" "${FLAGS[@]}"
check_trained
