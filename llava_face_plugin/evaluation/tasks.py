"""Where the tasks for lmms-eval are, and which of them a manifest can be asked about."""

from __future__ import annotations

from pathlib import Path

from ..errors import FaceDataError, FaceHostError
from .builders import BENCHMARKS, Benchmark


def task_folder() -> Path:
    """The folder for ``--include_path``: in a wheel it lies in the package, in a clone beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "eval_tasks", package.parent / "eval_tasks"):
        if folder.is_dir():
            return folder
    raise FaceHostError(f"eval_tasks is neither in {package} nor beside it: the installation is not whole")


def fitting(manifest: Path | None) -> list[Benchmark]:
    """The benchmarks that are made from this manifest's data set. Raises ``FaceDataError`` where there is none."""
    from ..data.manifest_file import load_manifest

    if manifest is None:
        raise FaceDataError("name tasks (--list shows them), or a --manifest for all tasks that fit it")
    path = manifest / "manifest.parquet" if manifest.is_dir() else manifest
    dataset = load_manifest(path).dataset
    found = [b for b in map(BENCHMARKS.__getitem__, BENCHMARKS) if dataset in b.datasets]
    if not found:
        raise FaceDataError(f"{path}: there is no task on {dataset}")
    return found
