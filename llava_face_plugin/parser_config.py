"""``ParserConfig``: which parser makes the maps, and of what. The block ``face.segmentation.parser``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import FaceConfigError
from .explain import explain

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

NETWORKS = ("facer", "torchscript", "segformer", "compact")
"""Parsers that run a network, in need of a detector; the other one looks stored maps up."""


class ParserConfig(BaseModel):
    """A parser by its type and the files it is made of. All paths are local: nothing is downloaded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    type: Literal["precomputed", "facer", "torchscript", "segformer", "compact"]
    """``precomputed``: maps on disk. ``facer``: FaRL through pyfacer. ``torchscript``, ``segformer``, ``compact``:
    a checkpoint of yours (``compact`` is what ``scripts/train_parser.py`` writes as safetensors)."""
    path: str | None = None
    """precomputed: an ``index.json``, a map store, a folder of maps, or a parquet file. The others: the checkpoint;
    facer without a path uses the file in facer's own cache."""
    model: Literal["farl/lapa/448", "farl/celebm/448"] = "farl/celebm/448"
    """facer: which of its two parsing networks."""
    vocabulary: Literal["celebamask-hq", "celebm", "lapa", "bisenet"] | None = None
    """Whose ids the network or the stored maps have (segformer: its own ``id2label``). Default: celebamask-hq."""
    sha256: Sha256 | None = None
    """Of the checkpoint. Needed for a TorchScript file that is not in the recorded table: TorchScript is code."""
    align: Literal["whole", "box", "celeba-hq", "celebm"] = "celeba-hq"
    """torchscript, segformer, compact: what the network is shown: the whole image, a square about the detector's
    box, or the face brought to the place where CelebAMask-HQ (or facer's celebm crop) has it."""
    size: int | None = Field(default=None, ge=32, le=1024)
    """torchscript (needed) and segformer (default: its preprocessor's): side of the network's input in pixels."""
    detector: Literal["retinaface", "yunet", "assume_cropped"] = "assume_cropped"
    """Who finds the faces: facer's RetinaFace, OpenCV's YuNet, or nobody: the whole image is one face."""
    detector_path: str | None = None
    """retinaface: state dict (default: facer's own cache); yunet: ONNX file."""
    detector_model: Literal["mobilenet", "resnet50"] = "mobilenet"
    """retinaface: which network."""
    detector_sha256: Sha256 | None = None
    min_score: float = Field(default=0.6, ge=0.0, le=1.0)
    """Detections below this score do not count. Default with retinaface: 0.8, as facer has it."""
    faces: Literal["main", "all"] = "main"
    """``main``: the face with the largest box. ``all``: every face, up to ``max_faces``, in one map."""
    max_faces: int = Field(default=16, ge=1, le=256)
    device: str = "cpu"
    """torch device of the network, for example ``cuda`` or ``cuda:1``."""
    batch_size: int | None = Field(default=None, ge=1)
    """Faces a forward pass of the network. Default: 8 on a GPU, 1 on a CPU, where a batch is slower (measured)."""

    @model_validator(mode="after")
    def _possible(self) -> ParserConfig:
        if self.path is None and self.type != "facer":
            raise ValueError(f"parser type {self.type!r} needs a path")
        if self.detector == "yunet" and self.detector_path is None:
            raise ValueError("detector 'yunet' needs detector_path, its ONNX file")
        if self.type == "facer" and self.detector == "assume_cropped":
            raise ValueError("parser type 'facer' aligns by five points: it needs detector 'retinaface' or 'yunet'")
        if self.type in NETWORKS and self.detector == "assume_cropped" and self.align not in ("whole", "box"):
            raise ValueError(f"align {self.align!r} needs a detector's points; with 'assume_cropped' use 'whole'")
        if self.type == "torchscript" and self.size is None:
            raise ValueError("parser type 'torchscript' needs size, the side of its input in pixels")
        for name, types in (("vocabulary", ("torchscript", "precomputed")), ("size", ("torchscript", "segformer"))):
            if getattr(self, name) is not None and self.type not in types:
                raise ValueError(f"{name} is for parser types {' and '.join(types)}; {self.type!r} knows its own")
        return self

    @field_validator("sha256", "detector_sha256", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        """The detector and crop that fit the type, where they are left out."""
        if not isinstance(given, dict):
            return given
        out = dict(given)
        if out.get("type") == "facer":
            out.setdefault("detector", "retinaface")
        if out.get("detector") == "retinaface":
            out.setdefault("min_score", 0.8)
        if out.get("detector", "assume_cropped") == "assume_cropped":
            out.setdefault("align", "whole")
        return out

    @classmethod
    def parse(cls, block: Any, where: str) -> ParserConfig:
        """Validates a block. Raises ``FaceConfigError`` naming ``where`` and every wrong key."""
        if not isinstance(block, dict):
            raise FaceConfigError(f'{where}: a parser is an object such as {{"type": "compact", "path": ...}}')
        try:
            return cls.model_validate(block)
        except ValidationError as error:
            raise FaceConfigError(explain(error, where, "", {"": cls})) from None
