"""Where the tasks for lmms-eval are."""

from __future__ import annotations

from pathlib import Path

from ..errors import FaceHostError


def task_folder() -> Path:
    """The folder for ``--include_path``: in a wheel it lies in the package, in a clone beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "eval_tasks", package.parent / "eval_tasks"):
        if folder.is_dir():
            return folder
    raise FaceHostError(f"eval_tasks is neither in {package} nor beside it: the installation is not whole")
