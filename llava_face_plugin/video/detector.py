"""A face detector for clips, by the words of a parser's block."""

from __future__ import annotations

import torch

from ..parser_config import ParserConfig
from ..parsing.build import build_detector
from ..parsing.detectors.base import Detector


def detector_of(
    name: str,
    path: str | None = None,
    *,
    model: str | None = None,
    sha256: str | None = None,
    min_score: float | None = None,
    device: torch.device | None = None,
) -> Detector:
    """``yunet`` (``path``: its ONNX file), ``retinaface`` (``model``: which) or ``assume_cropped`` (``ParserConfig``).

    Raises ``FaceConfigError`` for settings that are none, ``FaceDataError`` for files that are missing or damaged, and
    ``FaceHostError`` for a package that is not there.
    """
    given = {"detector": name, "detector_path": path, "detector_model": model, "detector_sha256": sha256,
             "min_score": min_score}  # fmt: skip
    # The block checks and completes a detector's settings; its parser is not built.
    block = {"type": "precomputed", "path": "none", **{key: value for key, value in given.items() if value is not None}}
    return build_detector(ParserConfig.parse(block, "detector"), device or torch.device("cpu"))
