# shellcheck shell=bash
# Sourced by the recipes: paths, the checks before and after a run, and the flags of the training script.
# Every variable can be set from outside. `--dry-run` as a recipe's first argument: the same on a tiny model (dry_run.sh).
#   HOST=llava         LLaVA 1.5's own train_mem.py, unchanged, with the flags of upstream's scripts/v1_5/finetune.sh;
#                      run the recipes from the root of a LLaVA checkout, as upstream's scripts are
#   HOST=transformers  transformers' own Llava classes: train_hf.py of this folder, or your script as TRAIN
set -euo pipefail
RECIPES=${RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}
HOST=${HOST:-llava}
if [ "${1:-}" = --dry-run ]; then
  shift
  source "$RECIPES/dry_run.sh"
fi

case "$HOST" in
  llava)
    MODEL_DIR=${MODEL_DIR:-./checkpoints/vicuna-7b-v1.5-face}   # made by `llava-face enable ... --out`
    OUT=${OUT:-./checkpoints/llava-v1.5-7b-face}                # "llava" must be in the name, for LoRA also "lora"
    VISION_TOWER=${VISION_TOWER:-openai/clip-vit-large-patch14-336}
    ADAPTER=${ADAPTER-./checkpoints/llava-v1.5-7b-pretrain/mm_projector.bin}  # from stage 1; empty: none
    DEEPSPEED_CONFIG=${DEEPSPEED_CONFIG-./scripts/zero3.json}                 # empty: without deepspeed
    TRAIN=${TRAIN:-llava/train/train_mem.py} ;;
  transformers)
    MODEL_DIR=${MODEL_DIR:-./checkpoints/llava-1.5-7b-hf-face}  # made by `llava-face enable ... --out`
    OUT=${OUT:-./checkpoints/llava-1.5-7b-hf-face-tuned}
    DEEPSPEED_CONFIG=${DEEPSPEED_CONFIG-$RECIPES/deepspeed/zero3.json}
    TRAIN=${TRAIN:-$RECIPES/train_hf.py} ;;
  *) echo "HOST=$HOST: known are llava and transformers" >&2; exit 2 ;;
esac
DATA_PATH=${DATA_PATH:-./playground/data/faces.json}
IMAGE_FOLDER=${IMAGE_FOLDER:-./playground/data}
BATCH=${BATCH:-16}                                          # a GPU
ACCUMULATION=${ACCUMULATION:-1}                             # upstream: 8 GPUs x 16 x 1 = 128 samples a step
REPORT_TO=${REPORT_TO:-none}                                # upstream: wandb

# Before anything is spent: the plugin gets loaded, the versions are known ones, face mode is on in MODEL_DIR.
preflight() { llava-face doctor --on "$MODEL_DIR"; }

# After the run: the checkpoint holds face weights, and plain LLaVA would refuse it.
check_trained() { llava-face doctor --trained "$OUT"; }

# The command line of the training script. What the caller adds comes last, and the last of two equal flags counts.
finetune_flags() {
  FLAGS=(
    --model_name_or_path "$MODEL_DIR" --data_path "$DATA_PATH" --image_folder "$IMAGE_FOLDER" --output_dir "$OUT"
    --bf16 True --tf32 True --num_train_epochs 1
    --per_device_train_batch_size "$BATCH" --gradient_accumulation_steps "$ACCUMULATION"
    --save_strategy steps --learning_rate 2e-5 --weight_decay 0. --warmup_ratio 0.03 --lr_scheduler_type cosine
    --logging_steps 1 --gradient_checkpointing True --dataloader_num_workers 4 --report_to "$REPORT_TO"
  )
  if [ "$HOST" = llava ]; then
    FLAGS+=(
      --version v1 --vision_tower "$VISION_TOWER" --mm_projector_type mlp2x_gelu --mm_vision_select_layer -2
      --mm_use_im_start_end False --mm_use_im_patch_token False --image_aspect_ratio pad --group_by_modality_length True
      --per_device_eval_batch_size 4 --evaluation_strategy no --save_steps 50000 --save_total_limit 1
      --model_max_length 2048 --lazy_preprocess True
    )
    [ -z "$ADAPTER" ] || FLAGS+=(--pretrain_mm_mlp_adapter "$ADAPTER")
  else
    FLAGS+=(--save_steps 500 --save_total_limit 2)
  fi
  [ -z "$DEEPSPEED_CONFIG" ] || FLAGS+=(--deepspeed "$DEEPSPEED_CONFIG")
  FLAGS+=(${DRY_RUN_FLAGS[@]+"${DRY_RUN_FLAGS[@]}"} "$@")
}
