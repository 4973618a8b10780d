"""The model arguments of ``face_llava`` (lmms-eval's ``--model_args``), checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from ...errors import FaceConfigError, FaceDataError, FaceHostError
from ...registry import unknown_name
from ...video import Sampling
from ...video.detector import detector_of
from .clips import Clips

QUESTIONS = 64
"""Questions a step where none is asked for (our default)."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

ATTENTION = ("sdpa", "eager")
"""What can take a mask of our own; flash attention cannot."""


@dataclass(frozen=True)
class Arguments:
    """Raises ``FaceConfigError`` for values out of range, ``FaceHostError`` for a device that is not there."""

    pretrained: str
    """Model directory."""
    model_base: str | None = None
    """The LLM that a LoRA or projector-only output of LLaVA's training belongs to."""
    device: str | None = None
    """torch device; the first CUDA device, or the CPU without one. With several processes each takes its own."""
    dtype: str = "auto"
    """``float32``, ``float16``, ``bfloat16``; auto: float32 on the CPU, else what the checkpoint is kept in."""
    batch_size: int = QUESTIONS
    """Questions a step. lmms-eval passes 1 where its user says nothing, so 1 means ``QUESTIONS``."""
    images_per_batch: int | None = None
    """Rows (images, or image pairs) that are answered in one step, at most. None: 1 on the CPU, where more gain nothing
    (docs/eval_model.md), else 8 (our default)."""
    cache_mb: int = 256
    """Most memory, in MB of 10^6 bytes, for visual tokens that are kept (our default)."""
    video_frames: int = 32
    """Frames a video is shown by, on hosts that read video (as lmms-eval's ``llava_hf``); for ``fps`` at most."""
    video_sampling: str = "uniform"
    """Which frames: ``uniform``, ``fps:RATE`` or ``face`` (docs/video.md)."""
    detector: str | None = None
    """Who finds the faces for ``video_sampling=face``: ``yunet``, ``retinaface`` or ``assume_cropped``."""
    detector_path: str | None = None
    """The detector's file."""
    attn_implementation: str = "sdpa"
    exact: bool = False
    """One question at a time through the host's own ``generate``: slow, for checks."""
    margin: float | None = None
    """Answers with a greedy step whose two best logits are closer than this, as a fraction of the step's largest
    absolute logit, are asked again as with ``exact``. None: 1e-4 in float32, 0 (never) in half precision."""

    def __post_init__(self) -> None:
        if self.dtype not in (*DTYPES, "auto"):
            raise FaceConfigError(f"dtype={self.dtype!r}: one of {', '.join(DTYPES)}, auto")
        if self.attn_implementation not in ATTENTION:
            raise FaceConfigError(
                f"attn_implementation={self.attn_implementation!r}: one of {', '.join(ATTENTION)} (questions that "
                "share an image need an attention mask of their own, which flash attention does not take)"
            )
        for name in ("batch_size", "images_per_batch", "video_frames"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise FaceConfigError(f"{name}={getattr(self, name)}: at least 1")
        if (self.sampling.kind == "face") != (self.detector is not None):
            raise FaceConfigError("video_sampling=face and detector belong together: give both or neither")
        if self.cache_mb < 0 or (self.margin is not None and not self.margin >= 0):
            raise FaceConfigError("cache_mb and margin cannot be negative")

    @property
    def sampling(self) -> Sampling:
        """Which frames of a video. Raises ``FaceConfigError`` for text that says none."""
        try:
            return Sampling.parse(self.video_sampling, self.video_frames)
        except FaceDataError as error:
            raise FaceConfigError(f"video_sampling: {error}") from error

    def clips(self, device: torch.device) -> Clips:
        """How videos are read. Raises ``FaceConfigError`` or ``FaceDataError`` for a detector that cannot be built."""
        if self.detector is None:
            return Clips(self.sampling)
        return Clips(self.sampling, detector_of(self.detector, self.detector_path, device=device))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Arguments:
        """From lmms-eval's keyword arguments, whose values may be text. Raises ``FaceConfigError``."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise FaceConfigError(f"{unknown_name('face_llava argument', name, known)}; known: {', '.join(known)}")
        if not given.get("pretrained"):
            raise FaceConfigError("face_llava needs pretrained=DIR, a model directory")
        values = {name: value for name, value in given.items() if value is not None}
        values["pretrained"] = str(values["pretrained"])
        for name in ("images_per_batch", "cache_mb", "video_frames"):
            if name in values:
                values[name] = _integer(name, values[name])
        values["batch_size"] = _batch_size(values.get("batch_size", 1))
        if "margin" in values:
            values["margin"] = _number("margin", values["margin"])
        if "exact" in values:
            values["exact"] = _flag("exact", values["exact"])
        return cls(**values)

    def device_for(self, local_rank: int, processes: int) -> torch.device:
        """The device of this process. Raises ``FaceConfigError`` or ``FaceHostError`` naming ``device``."""
        try:
            device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise FaceConfigError(f"device={self.device!r} is no torch device, such as cpu, cuda or cuda:1") from error
        if device.type != "cuda":
            return device
        index = local_rank if processes > 1 else device.index or 0
        if index >= torch.cuda.device_count():
            raise FaceHostError(f"device=cuda:{index}: torch finds {torch.cuda.device_count()} CUDA devices here")
        return torch.device("cuda", index)


def _batch_size(value: Any) -> int:
    if value == "auto":
        return QUESTIONS
    number = _integer("batch_size", value)
    return QUESTIONS if number == 1 else number


def _integer(name: str, value: Any) -> int:
    number = _number(name, value)
    if number != int(number):
        raise FaceConfigError(f"{name}={value!r} is not a whole number")
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise FaceConfigError(f"{name}={value!r} is not a number") from error
    if not abs(number) < float("inf"):
        raise FaceConfigError(f"{name}={value!r} is not finite")
    return number


def _flag(name: str, value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "1", "0"):
        raise FaceConfigError(f"{name}={value!r} is neither True nor False")
    return text in ("true", "1")
