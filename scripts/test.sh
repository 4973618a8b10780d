#!/usr/bin/env bash
# Runs the checks. Sets everything up on a fresh machine.
#   scripts/test.sh                        lint, types and all tests on the default stack
#   scripts/test.sh --stack pinned|newest  the contract suite on that stack
#   scripts/test.sh --stack extras         the tests that need facer, ray or torchvision
#   scripts/test.sh --stack all            all of the above
#   scripts/test.sh -- ARGS                arguments for pytest
# Real faces are used where FACE_TEST_DATA names the folder; else those tests skip.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

stack=default
while [ $# -gt 0 ]; do
  case "$1" in
    --stack) stack=${2:?--stack needs a name}; shift 2 ;;
    --) shift; break ;;
    -h | --help) sed -n '2,9p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "unknown argument '$1' (see --help)" >&2; exit 2 ;;
  esac
done

# Two workers: the tests wait for processes of their own half of the time. A file stays with one worker.
workers=(-n 2 --dist loadfile)

whole() {
  ensure_stack default
  local bin=.venv/bin
  say "lint and types"
  $bin/ruff check .
  $bin/ruff format --check .
  $bin/mypy
  say "tests on the default stack"
  $bin/python -m pytest -q "${workers[@]}" "$@"
}

contract() {
  ensure_stack "$1"
  say "contract suite on stack $1"
  "$(stack_venv "$1")/bin/python" -m pytest -q "${workers[@]}" -m contract "${@:2}"
}

extras() {
  ensure_extras
  say "facer and ray"
  .venv-extras/bin/python -m pytest -q -m "facer or ray" tests/parsing tests/segment tests/core/test_vit.py "$@"
  say "what needs a torchvision"
  .venv-extras/bin/python -m pytest -q tests/hosts_hf/test_hf_video_maps.py tests/evaluation/test_face_llava_families.py \
    tests/evaluation/test_face_llava_video.py tests/evaluation/test_video_tasks_in_lmms_eval.py
}

case "$stack" in
  default) whole "$@" ;;
  extras) extras "$@" ;;
  all) whole "$@"; extras; contract pinned; contract newest ;;
  *) contract "$stack" "$@" ;;
esac
