# shellcheck shell=bash
# Sourced by common.sh for `--dry-run`: a tiny random model, drawn faces and three steps, in DRY_RUN_DIR (default: a
# new folder below the temporary one). Without a GPU it trains on the CPU, two processes a machine unless GPUS says else.
DRY_RUN_DIR=${DRY_RUN_DIR:-$(mktemp -d)/dry-run}
MODEL_DIR=$DRY_RUN_DIR/$HOST-face
DATA_PATH=$DRY_RUN_DIR/faces/train.json IMAGE_FOLDER=$DRY_RUN_DIR/faces
VISION_TOWER=$DRY_RUN_DIR/base/clip ADAPTER='' BATCH=2
OUT=${OUT:-$DRY_RUN_DIR/llava-$HOST-trained}
DRY_RUN_FLAGS=(--max_steps 3 --warmup_ratio 0 --learning_rate 1e-3 --dataloader_num_workers 0 --save_steps 50000)

# On the first machine; the others of the same run wait for it.
make_dry_run() {
  mkdir -p "$DRY_RUN_DIR"
  [ -d "$DRY_RUN_DIR/faces" ] || llava-face prepare made --out "$DRY_RUN_DIR/faces" --train 40 --val 4 > /dev/null
  if [ "$HOST" = llava ]; then
    [ -d "$DRY_RUN_DIR/base" ] || llava-face tiny-model "$DRY_RUN_DIR/base" > /dev/null
  else
    [ -d "$DRY_RUN_DIR/base-hf" ] || python "$RECIPES/tiny_hf.py" "$DRY_RUN_DIR/base-hf"
  fi
  local base=$DRY_RUN_DIR/base
  [ "$HOST" = llava ] || base=$DRY_RUN_DIR/base-hf
  llava-face enable "$base" --preset light --knowledge made --out "$MODEL_DIR.part" > /dev/null
  mv "$MODEL_DIR.part" "$MODEL_DIR"
}

if [ "$HOST" = llava ] && [ -z "${TRAIN:-}" ]; then
  TRAIN=$(python -c 'import importlib.util as i; print(i.find_spec("llava").submodule_search_locations[0])')/train/train_mem.py
  # A config of upstream's checkout: this folder's say the same.
  DEEPSPEED_CONFIG=${DEEPSPEED_CONFIG-$RECIPES/deepspeed/zero3.json}
fi
if [ "$(python -c 'import torch; print(torch.cuda.device_count())')" = 0 ]; then
  export LLAVA_FACE_CPU_DRY_RUN=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
  GPUS=${GPUS:-2}
  DRY_RUN_FLAGS+=(--bf16 False --tf32 False)
fi
[ -d "$MODEL_DIR" ] || [ "${NODE_RANK:-0}" != 0 ] || make_dry_run
for _ in $(seq 300); do [ -d "$MODEL_DIR" ] && break || sleep 1; done
