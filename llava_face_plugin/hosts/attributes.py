"""A face model asked for attributes: LLaVA's own loader and image processing around ``attribute_probabilities``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import guard
from ..config import FaceConfig, KnowledgeConfig
from ..errors import FaceConfigError, FaceHostError
from ..labels import NO_MAP
from ..model_files import read_config
from ..parser_config import ParserConfig
from .label_channel import FaceImageProcessor
from .llava_v1.load import load_llava
from .parsers import build_parser


class FaceModel:
    """A loaded face model with a knowledge block. ``FaceModel.load`` makes one."""

    def __init__(self, model: Any, processor: Any, knowledge: KnowledgeConfig) -> None:
        self.model = model
        self.processor = processor
        self.knowledge = knowledge

    @classmethod
    def load(cls, model_dir: Path, base: str | None = None, device: str = "cpu", maps: Path | None = None) -> FaceModel:
        """Through ``llava.model.builder.load_pretrained_model``, whatever the directory is called.

        On a GPU the model runs in float16, as LLaVA loads it. On the CPU the parts that are used here are brought to
        float32; the LLM's layers are not used and stay as they are.

        Args:
            model_dir: a checkpoint, or the output of a LoRA or projector-only training.
            base: the LLM that such an output belongs to, a directory or hub name.
            maps: a map store or ``index.json`` that is asked about the images' pixels, instead of the model's own
                ``segmentation.parser``.

        Raises ``FaceConfigError`` if face mode or its knowledge is off in the directory, it has no vision tower yet or
        ``base`` does not fit it,
        ``FaceHostError`` if llava is not installed or cannot load it, the device is not there, or images are cut
        into tiles (anyres), and what the parser raises that cannot be built.
        """
        knowledge = knowledge_of(model_dir)
        _check_base(model_dir, base)
        if read_config(model_dir).get("mm_vision_tower") in (None, "", guard.TOWER_MARK):
            raise FaceConfigError(
                f"{model_dir}: not trained yet (its config.json names no mm_vision_tower): train it with LLaVA's "
                "--vision_tower first, and name the training's output"
            )
        _check_device(device)
        _, model, processor = load_llava(model_dir, base, device)
        if torch.device(device).type == "cpu":  # float16 is slow on a CPU, and not implemented on all
            model.get_vision_tower().float()
            model.get_model().mm_projector.float()
        if maps is not None:
            processor = _use_maps(model, maps)
        face = cls(model, processor, knowledge)
        face.prepare(Image.new("RGB", (64, 64)))  # builds the parser: what is wrong with it is no image's fault
        return face

    def prepare(self, image: Image.Image) -> Tensor:
        """An RGB image by LLaVA's ``process_images``: (4, H, W) float32, the last channel its label map.

        Raises ``FaceDataError`` for a stored map that does not fit the image.
        """
        from llava.mm_utils import process_images

        pixels = process_images([image], self.processor, self.model.config)[0]
        if pixels.ndim != 3:
            raise FaceHostError("image_aspect_ratio 'anyres' cuts an image into tiles; attributes need one image")
        return pixels.float()

    def probabilities(self, images: Sequence[Tensor]) -> np.ndarray:
        """``prepare``d images -> (B, A) float64 in [0, 1], in the order of ``knowledge.vocabulary``."""
        parameter = next(self.model.get_model().mm_projector.parameters())
        batch = torch.stack(list(images)).to(parameter.device, parameter.dtype)
        return self.model.attribute_probabilities(batch).double().cpu().numpy()

    def map_source(self) -> str:
        """One line: where label maps come from."""
        parser = self.model.face_config.segmentation.parser
        if parser is None:
            return "none: no parser is configured (face.segmentation.parser), so the learned no-map state is used"
        return f"parser {parser.type}" + (f", {parser.path}" if parser.path else "")


def knowledge_of(model_dir: Path) -> KnowledgeConfig:
    """The knowledge block of a model directory. Raises ``FaceConfigError`` where there is none, saying what to do."""
    face = FaceConfig.of(read_config(model_dir), str(model_dir / "config.json"))
    if face is None:
        raise FaceConfigError(f"{model_dir}: face mode is off; `llava-face enable` it with --knowledge FILE, and train")
    if face.knowledge is None:
        raise FaceConfigError(
            f"{model_dir}: its face block has no knowledge, so it knows no attributes: enable face mode with "
            "--knowledge FILE, and train"
        )
    return face.knowledge


def has_map(prepared: Tensor) -> bool:
    """Whether a label map came with a ``prepare``d image."""
    return bool((prepared[3] != NO_MAP).any())


def _use_maps(model: Any, maps: Path) -> Any:
    """As if the model's configuration named these maps; returns the image processor that reads them."""
    segmentation = model.face_config.segmentation.model_copy(
        update={"parser": ParserConfig(type="precomputed", path=str(maps))}
    )
    model.face_config = model.face_config.model_copy(update={"segmentation": segmentation})
    tower = model.get_vision_tower()
    build = functools.partial(build_parser, model.face_config)
    tower.image_processor = FaceImageProcessor(tower.image_processor.processor, build)  # the old one's was bound before
    return tower.image_processor


def _check_base(model_dir: Path, base: str | None) -> None:
    whole = any(file for pattern in ("model*.safetensors", "pytorch_model*.bin") for file in model_dir.glob(pattern))
    if base is None and not whole:
        raise FaceConfigError(f"{model_dir}: holds no whole model; name the LLM it was trained on by --model-base")
    part = any((model_dir / name).exists() for name in ("adapter_config.json", "mm_projector.bin"))
    if base is not None and not part:
        raise FaceConfigError(f"{model_dir}: holds no LoRA and no mm_projector.bin; leave --model-base out")


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise FaceConfigError(f"--device {device!r} is no torch device, such as cpu, cuda or cuda:1") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise FaceHostError(f"--device {device}: torch finds no CUDA device here")
