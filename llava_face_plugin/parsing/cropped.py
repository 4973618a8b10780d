"""``CropParser``: detector -> one crop a face -> network -> one map an image: every parser with a network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FaceHostError
from ..maps.vocabularies import by_image_side
from ..parser_config import ParserConfig
from . import geometry
from .base import Face, Parsed
from .detectors.base import Detection, Detector
from .geometry import paste
from .networks.base import Network

REVISION = 1
"""Part of every digest: to be raised when the same weights and settings give other maps than before."""

GPU_BATCH = 8
"""Faces a forward pass where the configuration leaves it open (our default). On a CPU it is 1: measured with FaRL's
output, 19 x 512 x 512, a batch of 8 took 1.8 times as long a face as one alone, for its logits leave the cache."""

_DECIDING = {"type", "model", "vocabulary", "align", "detector", "detector_model", "min_score", "faces", "max_faces"}


class View(Protocol):
    """How the network sees one face."""

    area: tuple[int, int, int, int]
    """x0, y0, x1, y1 of the image's pixels that the crop may cover."""

    def crop(self, image: Image.Image) -> Tensor:
        """(3, side, side) float32 RGB in [0, 1] of the RGB image."""
        ...

    def grid(self, x0: int, y0: int, tile: int, device: torch.device) -> Tensor:
        """See ``geometry.Grid``."""
        ...


Framing = Callable[[Detection, int, tuple[int, int], int], "View | None"]
"""(detection, index of the face, image size (width, height), side) -> its view; None where the points allow none."""


class AffineView:
    """A crop by a similarity."""

    def __init__(self, matrix: np.ndarray, size: tuple[int, int], side: int) -> None:
        self.matrix, self.side = matrix, side
        self.area = geometry.window(matrix, side, size)

    def crop(self, image: Image.Image) -> Tensor:
        return geometry.crop(image, self.matrix, self.side)

    def grid(self, x0: int, y0: int, tile: int, device: torch.device) -> Tensor:
        return geometry.affine_grid(self.matrix, self.side, x0, y0, tile).to(device)


def framing(align: str) -> Framing:
    """The framing of ``ParserConfig.align``."""

    def view(detection: Detection, face: int, size: tuple[int, int], side: int) -> View | None:
        if align == "whole":
            matrix = geometry.letterbox(size, side)
        elif align == "box":
            x0, y0, x1, y1 = (float(value) for value in detection.boxes[face])
            matrix = geometry.box_square((x0, y0, x1, y1), side)
        else:
            assert detection.points is not None  # ParserConfig asks for a detector with points
            matrix = {"celeba-hq": geometry.celeba_hq, "celebm": geometry.celebm}[align](detection.points[face], side)
        return AffineView(matrix, size, side) if geometry.usable(matrix) else None

    return view


@dataclass(frozen=True)
class _Job:
    """One face that is to be parsed."""

    image: int
    face: int
    view: View


class CropParser:
    """Detects, crops, parses in batches over the faces of all images, and paints them into one map an image."""

    def __init__(self, name: str, detector: Detector, network: Network, framing: Framing, config: ParserConfig) -> None:
        self.name = name
        self.detector, self.network, self.framing, self.config = detector, network, framing, config
        self.device = torch.device(config.device)
        self.batch_size = config.batch_size or (1 if self.device.type == "cpu" else GPU_BATCH)
        settings = config.model_dump(mode="json", include=_DECIDING)
        parts = [REVISION, settings, network.digest, network.size, list(network.to_canonical), detector.digest]
        self.digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @torch.inference_mode()
    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        """See ``base.Parser``. An image without a face has ``labels=None``; ``names`` are not needed.

        ``faces: main``: the face with the largest box alone is in the map. ``all``: the ``max_faces`` largest;
        where they overlap the larger box wins. What is no face of those is background. Raises ``FaceHostError`` if the
        network gives NaN.
        """
        images = [image.convert("RGB") for image in images]
        found = self.detector.detect(images)
        jobs = [job for i, image in enumerate(images) for job in self._jobs(i, found[i], image.size)]
        maps: dict[int, np.ndarray] = {}
        faces: dict[int, list[Face]] = {}
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            crops = torch.stack([job.view.crop(images[job.image]) for job in batch])
            for job, logits in zip(batch, self.network(crops.to(self.device)), strict=True):
                patch = paste(logits.float(), job.view.grid, job.view.area, self.network.to_canonical)
                if math.isnan(patch.confidence):
                    raise FaceHostError(f"parser {self.name}: its network gives NaN; are its weights and device sound?")
                width, height = images[job.image].size
                canvas = maps.setdefault(job.image, np.zeros((height, width), dtype=np.uint8))
                labels = by_image_side(patch.labels)
                part = canvas[patch.top : patch.top + labels.shape[0], patch.left : patch.left + labels.shape[1]]
                np.copyto(part, labels, where=labels != 0)
                detection = found[job.image]
                x0, y0, x1, y1 = (float(value) for value in detection.boxes[job.face])
                face = Face((x0, y0, x1, y1), float(detection.scores[job.face]), patch.confidence)
                faces.setdefault(job.image, []).insert(0, face)  # the largest was painted last and stands first
        return [Parsed(maps.get(i), tuple(faces.get(i, ()))) for i in range(len(images))]

    def _jobs(self, image: int, detection: Detection, size: tuple[int, int]) -> list[_Job]:
        """The image's faces in painting order: the largest, which wins, last."""
        limit = self.config.max_faces if self.config.faces == "all" else 1
        jobs: list[_Job] = []
        for face in range(len(detection.boxes)):
            if len(jobs) == limit:
                break
            view = self.framing(detection, face, size, self.network.size)
            if view is not None:
                jobs.append(_Job(image, face, view))
        return jobs[::-1]
