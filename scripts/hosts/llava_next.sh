#!/usr/bin/env bash
# Tests the LLaVA-NeXT host against a checkout of yours. LLaVA-NeXT is on no package registry.
#   scripts/hosts/llava_next.sh PATH                  its own pin (transformers 4.40.2, .venv-next)
#   scripts/hosts/llava_next.sh PATH --stack default  transformers 4.57.6 (.venv), with the opt-in mends
#   scripts/hosts/llava_next.sh PATH --stack all      both
#   scripts/hosts/llava_next.sh PATH -- ARGS          arguments for pytest
# The checkout is only read. Environments are made once.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

usage() { sed -n '2,7p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }

checkout=
stack=next
while [ $# -gt 0 ]; do
  case "$1" in
    --stack) stack=${2:?--stack needs a name}; shift 2 ;;
    --) shift; break ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "unknown argument '$1' (see --help)" >&2; exit 2 ;;
    *) [ -z "$checkout" ] || { echo "one checkout only: '$checkout' or '$1'?" >&2; exit 2; }; checkout=$1; shift ;;
  esac
done
case "$stack" in next | default | all) ;; *) echo "unknown stack '$stack' (known: next, default, all)" >&2; exit 2 ;; esac
[ -n "$checkout" ] || { usage >&2; exit 2; }
[ -f "$checkout/llava/model/language_model/llava_qwen.py" ] ||
  { echo "$checkout is no checkout of LLaVA-NeXT: llava/model/language_model/llava_qwen.py is missing" >&2; exit 2; }
checkout=$(cd "$checkout" && pwd)

# What LLaVA-NeXT imports beside torch, transformers and their kin.
NEXT_NEEDS="transformers tokenizers accelerate peft datasets pandas pyarrow sentencepiece protobuf requests regex psutil
  av decord einops tyro opencv-python-headless pytest pytest-xdist setuptools wheel ninja py-cpuinfo hjson msgpack"
OVERLAY="$ROOT/.venv-next-overlay"
OVERLAY_NEEDS="av==15.1.0 tyro==1.0.17 docstring_parser==0.18.0 typeguard==4.6.0"

ensure_next() {
  local venv="$ROOT/.venv-next" constraints="$ROOT/scripts/constraints/next.txt" recipe
  recipe=$(cat "$constraints" "$ROOT/pyproject.toml" "$ROOT/llava_face_plugin.pth" <(echo $NEXT_NEEDS) | sha256sum)
  if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.recipe" 2>/dev/null)" = "$recipe" ]; then return; fi
  say "setting up $(basename "$venv")"
  rm -rf "$venv"
  "${PYTHON:-python3}" -m venv "$venv"
  local pip="$venv/bin/python -m pip install -qq --constraint $constraints"
  $pip "$(grep '^torch==' "$constraints")"
  $pip $NEXT_NEEDS
  # its setup.py imports torch, and must find a setuptools that still has pkg_resources
  DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $pip --no-build-isolation "$(grep '^deepspeed==' "$constraints")"
  $pip --editable .
  echo "$recipe" > "$venv/.recipe"
}

# The default stack stays as it is: what it lacks lies in a folder of its own.
ensure_overlay() {
  ensure_stack default
  if [ "$(cat "$OVERLAY/.recipe" 2>/dev/null)" = "$OVERLAY_NEEDS" ]; then return; fi
  say "setting up $(basename "$OVERLAY")"
  rm -rf "$OVERLAY"
  .venv/bin/python -m pip install -qq --no-deps --target "$OVERLAY" $OVERLAY_NEEDS
  echo "$OVERLAY_NEEDS" > "$OVERLAY/.recipe"
}

versions() {
  "$1" - <<'PYTHON'
from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in
    ("torch", "transformers", "tokenizers", "accelerate", "peft", "deepspeed", "numpy", "decord")))
PYTHON
}

# run_on NAME PYTHON PYTHONPATH COMPAT ARGS...
run_on() {
  local name=$1 python=$2 path=$3 compat=$4
  shift 4
  say "LLaVA-NeXT on stack $name: $(versions "$python")"
  # Before everything else: this environment may hold LLaVA 1.5's package, which is called `llava` too.
  LLAVA_NEXT_ROOT="$checkout" PYTHONPATH="$path" LLAVA_FACE_NEXT_COMPAT="$compat" LLAVA_FACE_CPU_DRY_RUN=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    "$python" -m pytest -q tests/hosts_next "$@"
}

commit=$(git -C "$checkout" rev-parse HEAD 2>/dev/null) || commit="no git checkout: its commit is not known"
[ -z "$(git -C "$checkout" status --porcelain --untracked-files=no 2>/dev/null)" ] || commit+=", changed"
say "LLaVA-NeXT: $checkout ($commit)"
if [ "$stack" != default ]; then
  ensure_next
  run_on next "$ROOT/.venv-next/bin/python" "$checkout" "" "$@"
fi
if [ "$stack" != next ]; then
  ensure_overlay
  run_on default "$ROOT/.venv/bin/python" "$checkout:$OVERLAY" 1 "$@"
fi
