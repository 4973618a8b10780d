"""``FaceAdapter``: the face branch in one small safetensors file, for any host.

The tensors have the branch's own names (``segmentation.*``, ``fusion.*``, ``knowledge.*``); the projector, where it
was asked for, is ``projector.linear_1.weight`` and so on. One JSON header under the metadata key ``face_adapter``:
format, created_by, the ``face`` block, widths, host, vision tower, and checksums. Nothing of a language model is in it,
and nothing of a frozen facial encoder but its path and a checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__
from ..branch import FaceBranch
from ..config import FaceConfig
from ..errors import FaceConfigError, FaceDataError
from ..maps.files import atomic_path
from ..switch import check_names

FORMAT = 1
_KEY = "face_adapter"
_PROJECTOR = "projector."


@dataclass
class FaceAdapter:
    """The contents of a face adapter. Raises ``FaceDataError`` if the tensors are not those that the block describes.

    Args:
        face: the ``face`` block of the model it came from.
        vision_width, llm_width: C and D, the widths of the projector that it hung under.
        tensors: the branch's parameters by their names in it, any floating dtype.
        projector: the projector's own parameters (``linear_1.weight``, ...); empty for the branch alone.
        host: ``llava`` or ``transformers``.
        vision: ``model_type``, ``image_size``, ``patch_size`` of the vision tower, as far as they are known.
        projector_sha256: of the projector that the branch was trained with, whether it is in the file or not.
        facial_sha256: of a frozen facial encoder's weights; empty where there is none, or they were not at hand.
    """

    face: FaceConfig
    vision_width: int
    llm_width: int
    tensors: dict[str, Tensor]
    projector: dict[str, Tensor] = field(default_factory=dict)
    host: str = ""
    vision: dict[str, Any] = field(default_factory=dict)
    projector_sha256: str = ""
    facial_sha256: str = ""

    def __post_init__(self) -> None:
        check_branch(self.face, self.vision_width, self.llm_width, {n: tuple(t.shape) for n, t in self.tensors.items()})

    def write(self, path: str | Path) -> None:
        """Writes the file in one step."""
        tensors = {name: t.detach().cpu().contiguous() for name, t in self._all().items()}
        header = {
            "format": FORMAT,
            "created_by": f"llava-face-plugin {__version__}",
            "face": self.face.to_dict(),
            "vision_width": self.vision_width,
            "llm_width": self.llm_width,
            "host": self.host,
            "vision": self.vision,
            "projector_sha256": self.projector_sha256,
            "facial_sha256": self.facial_sha256,
            "tensors_sha256": checksum(tensors),
        }
        with atomic_path(Path(path)) as temporary:
            save_file(tensors, temporary, metadata={_KEY: json.dumps(header), "format": "pt"})

    @classmethod
    def read(cls, path: str | Path) -> FaceAdapter:
        """Raises ``FaceDataError`` for a file that is none, was damaged or is of a later format, ``FaceConfigError``
        for a block that this version does not know.
        """
        try:
            with safe_open(str(path), framework="pt") as stream:
                text = (stream.metadata() or {}).get(_KEY)
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
        except FileNotFoundError:
            raise FaceDataError(f"{path}: no such file", "missing") from None
        except (OSError, SafetensorError) as error:
            raise FaceDataError(f"{path}: not a readable safetensors file: {error}", "format") from error
        if text is None:
            raise FaceDataError(f"{path}: not a face adapter (`llava-face adapter save` writes them)", "format")
        return _from_header(path, text, tensors)

    def _all(self) -> dict[str, Tensor]:
        return {**self.tensors, **{_PROJECTOR + name: t for name, t in self.projector.items()}}


def _from_header(path: str | Path, text: str, tensors: dict[str, Tensor]) -> FaceAdapter:
    try:
        header = json.loads(text)
        if header["format"] != FORMAT:
            raise FaceDataError(f"{path}: a face adapter of format {header['format']}, this version reads {FORMAT}")
        if header["tensors_sha256"] != checksum(tensors):
            raise FaceDataError(f"{path}: damaged: its tensors do not have the recorded checksum", "damaged")
        return FaceAdapter(
            face=FaceConfig.parse(header["face"], str(path)),
            vision_width=int(header["vision_width"]),
            llm_width=int(header["llm_width"]),
            tensors={name: t for name, t in tensors.items() if not name.startswith(_PROJECTOR)},
            projector={n.removeprefix(_PROJECTOR): t for n, t in tensors.items() if n.startswith(_PROJECTOR)},
            host=str(header["host"]),
            vision=dict(header["vision"]),
            projector_sha256=str(header["projector_sha256"]),
            facial_sha256=str(header.get("facial_sha256", "")),  # files written before there were facial encoders
        )
    except (FaceDataError, FaceConfigError) as error:
        raise type(error)(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise FaceDataError(f"{path}: its header cannot be read: {error!r}", "format") from error


def branch_shapes(face: FaceConfig, vision_width: int, llm_width: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of that branch. Raises ``FaceConfigError`` for a part that is not registered."""
    check_names(face)
    with torch.device("meta"):
        branch = FaceBranch(face, vision_width, llm_width)
    return {name: tuple(parameter.shape) for name, parameter in branch.named_parameters()}


def check_branch(face: FaceConfig, vision_width: int, llm_width: int, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ``FaceDataError`` unless ``found`` are the names and shapes of the branch that the block describes."""
    lora = sorted(name for name in found if "lora_" in name)
    if lora:
        raise FaceDataError(f"LoRA was put into the face branch itself ({lora[0]}): merge it first (merge_and_unload)")
    wanted = branch_shapes(face, vision_width, llm_width)
    missing, strange = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or strange:
        raise FaceDataError(
            f"the face weights are not those of the face block: missing {missing[:2] or 'none'}, "
            f"unknown {strange[:2] or 'none'}"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise FaceDataError(f"{name} has shape {found[name]}, the face block makes it {shape}")


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def projector_checksum(layers: Mapping[str, Tensor]) -> str:
    """``checksum`` in float32, so that a copy in a wider dtype counts as the same projector."""
    return checksum({name: tensor.float() for name, tensor in layers.items()}) if layers else ""
