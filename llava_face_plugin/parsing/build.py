"""From the configuration to a parser. What is not asked for is not imported."""

from __future__ import annotations

import torch

from ..errors import FaceConfigError, FaceHostError
from ..parser_config import ParserConfig
from .base import Parser
from .detectors.base import Detector
from .networks.base import Network

_VOCABULARY = "celebamask-hq"


def build_parser(config: ParserConfig) -> Parser:
    """The parser that the block ``face.segmentation.parser`` describes.

    Raises ``FaceDataError`` for files that are missing, damaged or not allowed, ``FaceConfigError`` for settings that
    do not fit them, and ``FaceHostError`` for a package or device that is not there.
    """
    if config.type == "precomputed":
        from .precomputed import PrecomputedParser

        assert config.path is not None  # ParserConfig asks for it
        return PrecomputedParser(config.path, config.vocabulary or _VOCABULARY)
    device = _device(config.device)
    if config.type == "facer":
        from .facer import FacerParser

        return FacerParser(build_detector(config, device), config)
    from .cropped import CropParser, framing

    network = _network(config, device)
    return CropParser(config.type, build_detector(config, device), network, framing(config.align), config)


def build_detector(config: ParserConfig, device: torch.device) -> Detector:
    """The configured detector. Small faces beside large ones count only where all faces are asked for."""
    every = config.faces == "all"
    if config.detector == "retinaface":
        from .detectors.retinaface import RetinaFace

        return RetinaFace(
            config.detector_model, config.detector_path, config.min_score, device, config.detector_sha256, every=every
        )
    if config.detector == "yunet":
        from .detectors.yunet import YuNet

        assert config.detector_path is not None  # ParserConfig asks for it
        return YuNet(config.detector_path, config.min_score, config.detector_sha256, every=every)
    from .detectors.whole import WholeImage

    return WholeImage()


def _network(config: ParserConfig, device: torch.device) -> Network:
    assert config.path is not None  # ParserConfig asks for it
    if config.type == "segformer":
        from .networks.segformer import load_segformer

        return load_segformer(config.path, device, config.size, config.sha256)
    if config.type == "compact":
        from .networks.compact import load_compact

        return load_compact(config.path, device, config.sha256)
    from .networks.torchscript import load_torchscript

    assert config.size is not None  # ParserConfig asks for it
    return load_torchscript(config.path, device, config.vocabulary or _VOCABULARY, config.size, config.sha256)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise FaceConfigError(f"parser device {name!r} is none that torch knows ({error})") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FaceHostError(f"parser device {name!r}: torch finds {torch.cuda.device_count()} CUDA devices here")
    return device
