# Shared by test.sh and demo.sh: one virtual environment a stack, made once and reused.
# Stacks are described in scripts/constraints/*.txt and docs/install.md. `extras` is the default stack with facer and ray
# laid on top: a small environment of its own, because a PyPI torchvision beside a CPU torch breaks transformers.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# numerics of tiny models need no threads, and two cores are quickly oversubscribed
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" TOKENIZERS_PARALLELISM=false PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

stack_venv() { [ "$1" = default ] && echo "$ROOT/.venv" || echo "$ROOT/.venv-$1"; }

EVAL="datasets==4.4.2 evaluate==0.4.6 sacrebleu==2.6.0 loguru==0.7.3 tenacity pytablewriter==1.2.1 pytz decord==0.6.0 scikit-learn"

# ensure_stack default|pinned|newest: makes the venv if it is missing or its recipe has changed.
ensure_stack() {
  local stack=$1 venv recipe constraints
  constraints="$ROOT/scripts/constraints/$stack.txt"
  [ "$stack" != next ] || { echo "LLaVA-NeXT is on no registry: scripts/hosts/llava_next.sh PATH" >&2; return 2; }
  [ -f "$constraints" ] || { echo "unknown stack '$stack' (known: default, pinned, newest)" >&2; return 2; }
  venv=$(stack_venv "$stack")
  recipe=$(cat "$constraints" "$ROOT/pyproject.toml" "$ROOT/llava_face_plugin.pth" "$ROOT/scripts/lib.sh" | sha256sum)
  if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.recipe" 2>/dev/null)" = "$recipe" ]; then return; fi
  say "setting up $(basename "$venv") (stack $stack)"
  local python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
    { echo "Python 3.10 to 3.12 is needed (set PYTHON=...); $python is $("$python" --version)" >&2; return 2; }
  rm -rf "$venv"
  "$python" -m venv "$venv"
  local pip="$venv/bin/python -m pip install -qq --constraint $constraints"
  $pip --upgrade pip wheel
  # torch first and by version: anything else could pull a CUDA build of several GB
  $pip "$(grep '^torch==' "$constraints")"
  $pip --editable ".[llava,plots,dev]" peft deepspeed
  # lmms-eval's full list would pull torchvision, which does not import beside a CPU torch: what it needs by hand
  [ "$stack" != default ] || { $pip $EVAL; $pip --no-deps lmms-eval==0.7.3 trl==1.16.0; }
  # LLaVA's own pins cannot be met by any stack but the oldest (docs/install.md)
  $pip --no-deps llava-torch==1.2.2.post1
  echo "$recipe" > "$venv/.recipe"
}

EXTRAS="torchvision==0.28.0 timm==1.0.31 pyfacer==0.0.5 validators scikit-image scipy lazy_loader imageio tifffile"

# ensure_extras: .venv-extras, which sees all of .venv.
ensure_extras() {
  ensure_stack default
  local venv="$ROOT/.venv-extras" recipe
  recipe=$(cat "$ROOT/.venv/.recipe" <(echo "$EXTRAS") | sha256sum)
  if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.recipe" 2>/dev/null)" = "$recipe" ]; then return; fi
  say "setting up .venv-extras (facer, ray)"
  rm -rf "$venv"
  "$ROOT/.venv/bin/python" -m venv "$venv"
  "$ROOT/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/default-stack.pth"
  # without dependencies: pyfacer's pull Jupyter, torchvision's a CUDA build of torch
  "$venv/bin/python" -m pip install -qq --no-deps $EXTRAS
  "$venv/bin/python" -m pip install -qq --constraint "$ROOT/scripts/constraints/default.txt" "ray[data]==2.60.0"
  echo "$recipe" > "$venv/.recipe"
}
