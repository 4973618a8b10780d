"""What a ``face`` block says, in a few words: for the commands' output and the doctor."""

from __future__ import annotations

from .config import FaceConfig, FusionConfig
from .facial_config import FacialConfig
from .fusion import FUSIONS


def sources(face: FaceConfig) -> str:
    """What of a face is read: ``part-embedding``, ``facial encoder farl``, or both."""
    facial = f"facial encoder {face.facial.encoder}" if face.facial else None
    return " and ".join(name for name in (face.segmentation.encoder, facial) if name) or "no face (a control)"


def facial(config: FacialConfig | None) -> str:
    """Encoder, how it is held, and what is read of it."""
    if config is None:
        return "none"
    held = "frozen, read from" if not config.trained else "trained and saved with the branch, from"
    taps = ", ".join(map(str, config.taps))
    return f"{config.encoder}, {held} {config.path or 'fresh weights'}; taps {taps} at {config.size} px"


def fusion(config: FusionConfig) -> str:
    """Type, its size where it has one, and whether it reads the prompt."""
    said = [config.type]
    if config.type == "moe":
        said.append(f"{config.top_k} of {config.experts} experts a patch, {config.dispatch} dispatch")
    if FUSIONS[config.type].reads_prompt:  # type: ignore[attr-defined]
        said.append("reads the prompt")
    return ", ".join(said)
