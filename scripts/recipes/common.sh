# shellcheck shell=bash
# Sourced by the recipes: paths, the checks before and after a run, and the flags of upstream's scripts/v1_5/finetune.sh.
# Every variable can be set from outside. Run the recipes from the root of a LLaVA checkout, as upstream's scripts are.
set -euo pipefail

MODEL_DIR=${MODEL_DIR:-./checkpoints/vicuna-7b-v1.5-face}   # made by `llava-face enable ... --out`
OUT=${OUT:-./checkpoints/llava-v1.5-7b-face}                # "llava" must be in the name, for LoRA also "lora"
DATA_PATH=${DATA_PATH:-./playground/data/faces.json}
IMAGE_FOLDER=${IMAGE_FOLDER:-./playground/data}
VISION_TOWER=${VISION_TOWER:-openai/clip-vit-large-patch14-336}
ADAPTER=${ADAPTER-./checkpoints/llava-v1.5-7b-pretrain/mm_projector.bin}  # from stage 1; empty: none
DEEPSPEED_CONFIG=${DEEPSPEED_CONFIG-./scripts/zero3.json}                 # empty: without deepspeed
TRAIN=${TRAIN:-llava/train/train_mem.py}
BATCH=${BATCH:-16}                                          # a GPU
ACCUMULATION=${ACCUMULATION:-1}                             # upstream: 8 GPUs x 16 x 1 = 128 samples a step
REPORT_TO=${REPORT_TO:-none}                                # upstream: wandb

# Before anything is spent: the plugin gets loaded, the versions are known ones, face mode is on in MODEL_DIR.
preflight() { llava-face doctor --on "$MODEL_DIR"; }

# After the run: the checkpoint holds face weights, and plain LLaVA would refuse it.
check_trained() { llava-face doctor --trained "$OUT"; }

# The command line of train_mem.py. What the caller adds comes last, and the last of two equal flags counts.
finetune_flags() {
  FLAGS=(
    --model_name_or_path "$MODEL_DIR" --version v1
    --data_path "$DATA_PATH" --image_folder "$IMAGE_FOLDER" --vision_tower "$VISION_TOWER"
    --mm_projector_type mlp2x_gelu --mm_vision_select_layer -2
    --mm_use_im_start_end False --mm_use_im_patch_token False
    --image_aspect_ratio pad --group_by_modality_length True
    --bf16 True --tf32 True --output_dir "$OUT" --num_train_epochs 1
    --per_device_train_batch_size "$BATCH" --per_device_eval_batch_size 4
    --gradient_accumulation_steps "$ACCUMULATION"
    --evaluation_strategy no --save_strategy steps --save_steps 50000 --save_total_limit 1
    --learning_rate 2e-5 --weight_decay 0. --warmup_ratio 0.03 --lr_scheduler_type cosine
    --logging_steps 1 --model_max_length 2048 --gradient_checkpointing True
    --dataloader_num_workers 4 --lazy_preprocess True --report_to "$REPORT_TO"
  )
  [ -z "$DEEPSPEED_CONFIG" ] || FLAGS+=(--deepspeed "$DEEPSPEED_CONFIG")
  [ -z "$ADAPTER" ] || FLAGS+=(--pretrain_mm_mlp_adapter "$ADAPTER")
  FLAGS+=("$@")
}
