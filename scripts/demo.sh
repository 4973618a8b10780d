#!/usr/bin/env bash
# The whole way on this machine, in under ten minutes on two cores: data, a tiny LLaVA, upstream's own training with
# face mode off and on, upstream's own evaluation, one table, pictures and a report in demo_output/.
#   scripts/demo.sh                  drawn faces, nothing is downloaded
#   scripts/demo.sh --data DIR       a folder in CelebA's or CelebAMask-HQ's layout
#   scripts/demo.sh --help           all options
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
ensure_stack default
exec .venv/bin/python scripts/demo.py "$@"
