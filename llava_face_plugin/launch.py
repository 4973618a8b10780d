"""``python -m llava_face_plugin.launch script.py args...``: loads the plugin, then runs the script unchanged.

For places where a ``.pth`` hook is unwelcome. Also ``torchrun -m llava_face_plugin.launch script.py`` and
``deepspeed --module llava_face_plugin.launch script.py`` (whose ``--local_rank`` comes before the script's name).
"""

from __future__ import annotations

import os
import runpy
import sys

from llava_face_plugin.hosts import loader


def main(arguments: list[str]) -> None:
    """Runs the script named by the first argument that is no ``--local_rank``."""
    rank = [a for a in arguments[:1] if a.startswith("--local")]
    rest = arguments[len(rank) :]
    if not rest or rest[0].startswith("-"):
        raise SystemExit("usage: python -m llava_face_plugin.launch script.py [arguments ...]")
    script = rest[0]
    loader.install("launch")
    sys.argv = [script, *rank, *rest[1:]]
    sys.path[0] = os.path.dirname(os.path.abspath(script))  # as `python script.py` sets it
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
