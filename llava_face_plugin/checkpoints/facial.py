"""A frozen facial encoder's weights lie in a file of their own: what an adapter and a conversion say of it."""

from __future__ import annotations

from pathlib import Path

from ..config import FaceConfig, merged
from ..encoders.vit_weights import fit
from ..errors import FaceConfigError, FaceDataError, FaceError
from ..facial_config import FacialConfig
from ..facial_files import checkpoint_of
from .adapter import FaceAdapter, checksum


def facial_checksum(facial: FacialConfig | None) -> str:
    """Of a frozen encoder's weights as the branch reads them; empty if there is none, or it is saved with the branch.

    Raises ``FaceError`` for weights that cannot be read.
    """
    if facial is None or facial.trained:
        return ""
    return checksum(fit(checkpoint_of(facial.encoder, str(facial.path)), facial))


def known_checksum(facial: FacialConfig | None) -> str:
    """``facial_checksum``, empty as well where the weights are not at hand."""
    try:
        return facial_checksum(facial)
    except FaceError:
        return ""


def check_same_weights(adapter: FaceAdapter, facial: FacialConfig | None) -> None:
    """Raises ``FaceDataError`` if a frozen encoder's weights are not those that the branch was trained with."""
    found = facial_checksum(facial)
    if adapter.facial_sha256 and found != adapter.facial_sha256:
        raise FaceDataError(
            f"weights {facial.path if facial else None}: not those that the adapter's branch was trained with (sha256 "
            f"{found[:12]}..., there {adapter.facial_sha256[:12]}...)"
        )


def placed(adapter: FaceAdapter, given: str | Path | None, notes: list[str]) -> FaceConfig:
    """The adapter's block, its frozen encoder's weights at ``given``, or where they were; a note if they are not there.

    Raises ``FaceConfigError`` for a ``given`` without use, ``FaceError`` for weights that cannot be read or are others.
    """
    face = adapter.face
    frozen = face.facial is not None and not face.facial.trained
    if not frozen:
        if given is not None:
            raise FaceConfigError("--facial names the weights of a frozen facial encoder: this adapter has none")
        return face
    if given is not None:
        path = Path(given).expanduser()
        face = FaceConfig.parse(
            merged(face.to_dict(), {"facial": {"path": str(path.absolute() if path.exists() else given)}})
        )
    elif (note := absence(face)) is not None:
        notes.append(note)
        return face
    check_same_weights(adapter, face.facial)
    return face


def absence(face: FaceConfig | None) -> str | None:
    """A remark if a frozen encoder's weights cannot be read here; else None."""
    try:
        facial_checksum(face.facial if face else None)
    except FaceError as error:
        return f"a frozen facial encoder's weights are no part of the model, and are not here: {error}"
    return None
