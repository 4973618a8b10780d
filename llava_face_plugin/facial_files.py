"""The weights that ``face.facial.path`` names, read before anything is built of them: by ``enable`` and the doctor."""

from __future__ import annotations

from pathlib import Path

from .encoders import READERS
from .encoders.vit_weights import VitCheckpoint, fit
from .errors import FaceConfigError, FaceDataError, FaceError
from .facial_config import FacialConfig
from .registry import unknown_name

_LFS = b"version https://git-lfs"
_SHOWN = 300
"""Characters of a reader's message: transformers writes pages."""
_WHERE = "(docs/method.md says where FaRL's are)"


def checkpoint_of(encoder: str, path: str) -> VitCheckpoint:
    """What lies at that path.

    Raises ``FaceConfigError`` for an encoder that is not registered, and ``FaceError`` of one line for weights that are
    missing, damaged or of another kind.
    """
    if encoder not in READERS:
        raise FaceConfigError(f"face.facial.encoder: {unknown_name(READERS.kind, encoder, READERS)}")
    _check_kind(encoder, Path(path))
    try:
        return READERS[encoder](path)
    except FaceError as error:
        if getattr(error, "reason", "") == "damaged":  # torch's own words advise to run what the file holds
            raise FaceDataError(
                f"weights {path}: damaged, cut off or another kind of file {_WHERE}", "damaged"
            ) from error
        text = " ".join(str(error).split())
        raise type(error)(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...") from None


def check_weights(config: FacialConfig) -> None:
    """Reads the weights at ``config.path`` and fits them. Raises as ``checkpoint_of``."""
    fit(checkpoint_of(config.encoder, str(config.path)), config)


def _check_kind(encoder: str, path: Path) -> None:
    if encoder == "farl" and path.is_dir():
        raise FaceDataError(
            f"weights {path}: a directory; encoder 'farl' reads a file {_WHERE}, and facial.encoder=transformers a "
            "directory",
            "format",
        )
    if encoder == "farl" and not path.exists():
        raise FaceDataError(f"weights {path}: no such file {_WHERE}", "missing")
    if encoder == "transformers" and path.is_file():
        raise FaceDataError(
            f"weights {path}: a file; encoder 'transformers' reads a directory, and facial.encoder=farl a file",
            "format",
        )
    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.bin")]
    for file in files:
        if _is_pointer(file):
            raise FaceDataError(f"weights {file}: a pointer of Git LFS, not the file: run `git lfs pull`", "format")


def _is_pointer(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(len(_LFS)) == _LFS
