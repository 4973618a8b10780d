"""Maps and attribute labels for LLaVA's dataset and collator, wrapped from outside.

A sample of the usual LLaVA JSON may carry ``"face_map": "relative/path.png"`` (below the image folder) and
``"face_attributes": {"Smiling": 1, "Bald": 0}`` (missing = unknown).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..config import FaceConfig
from ..errors import FaceDataError
from ..maps.files import image_size, read_map, same_aspect
from ..registry import unknown_name
from . import label_channel

UNKNOWN = -1


class FaceDataset(Dataset):
    """Upstream's ``LazySupervisedDataset`` with a 4th image channel and ``face_attributes`` (A,) int8.

    Raises ``FaceDataError`` at once for a sample without conversations or with wrong attributes, naming it.
    """

    def __init__(self, base: Any, config: FaceConfig) -> None:
        self.base = base
        self.config = config
        samples = base.list_data_dict
        for index, sample in enumerate(samples):
            check_sample(sample, index)
        self.attributes = attribute_matrix(samples, config.knowledge.vocabulary if config.knowledge else ())
        if config.knowledge is None and any("face_attributes" in sample for sample in samples):
            warnings.warn("the data has face_attributes, but face.knowledge is off: they are not used", stacklevel=2)
        self.bad_maps = 0

    def __len__(self) -> int:
        return len(self.base)

    def __getattr__(self, name: str) -> Any:
        if name == "base" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.base, name)  # lengths, modality_lengths, list_data_dict, ...

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        sample = self.base.list_data_dict[i]
        try:
            processor = getattr(self.base.data_args, "image_processor", None)
            with label_channel.parser_asleep(processor, asleep=bool(sample.get("face_map"))):
                item = self.base[i]
        except (OSError, SyntaxError) as error:  # what Pillow raises on a missing or damaged image
            raise FaceDataError(f"image {sample.get('image')} (sample {sample_name(sample, i)}): {error}") from error
        if "image" in item:
            label_map = self._label_map(sample, i) if "image" in sample else None
            has_channel = item["image"].shape[-3] > 3
            if label_map is not None or not has_channel:
                item["image"] = label_channel.join(item["image"], label_map)
        item["face_attributes"] = torch.from_numpy(self.attributes[i].copy())
        return item

    def _label_map(self, sample: Mapping[str, Any], index: int) -> Tensor | None:
        """The sample's own map in the geometry of its image; None where it names none."""
        if not sample.get("face_map"):
            return None
        try:
            return self._read(sample, index)
        except FaceDataError as error:
            if self.config.segmentation.bad_map == "error":
                raise
            self.bad_maps += 1
            warnings.warn(f"trained without a map ({self.bad_maps} so far in this worker): {error}", stacklevel=2)
            return None

    def _read(self, sample: Mapping[str, Any], index: int) -> Tensor:
        args = self.base.data_args
        labels = sample_map(sample, index, Path(args.image_folder or ""))
        if args.image_aspect_ratio == "pad":
            labels = label_channel.square(labels)
        return label_channel.through_processor(labels, args.image_processor)


class FaceCollator:
    """Upstream's collator, plus one batch key: ``face_attributes`` (B, A) int8, -1 = unknown."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def __getattr__(self, name: str) -> Any:
        if name == "base" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.base, name)

    def __call__(self, instances: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch = self.base(instances)
        batch["face_attributes"] = torch.stack([instance["face_attributes"] for instance in instances])
        return batch


def sample_name(sample: Mapping[str, Any], index: int) -> str:
    """How a sample is named in errors: its id and its place in the file."""
    return f"{sample.get('id', '?')!r}, row {index}"


def sample_map(sample: Mapping[str, Any], index: int, folder: Path) -> np.ndarray:
    """(H, W) uint8 map of a sample that names one; it may be smaller than its image, but not of another shape.

    Raises ``FaceDataError`` naming file and sample if the map or the image cannot be read, or they do not fit.
    """
    name = sample_name(sample, index)
    labels = read_map(folder / sample["face_map"], sample=name)
    size = image_size(folder / sample["image"], sample=name)
    if not same_aspect(size, labels.shape[::-1]):
        raise FaceDataError(
            f"face map {folder / sample['face_map']} (sample {name}): size {labels.shape[1]}x{labels.shape[0]} "
            f"does not have the shape of its image, {size[0]}x{size[1]}"
        )
    return labels


def check_sample(sample: Any, index: int) -> None:
    """Raises ``FaceDataError`` for a row that is not a LLaVA sample."""
    if not isinstance(sample, Mapping):
        raise FaceDataError(f"training data, row {index}: expected an object, found {type(sample).__name__}")
    turns = sample.get("conversations")
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise FaceDataError(f"training data, sample {sample_name(sample, index)}: no conversations")
    if "face_map" in sample and "image" not in sample:
        raise FaceDataError(f"training data, sample {sample_name(sample, index)}: a face_map without an image")


def attribute_matrix(samples: Sequence[Mapping[str, Any]], vocabulary: Sequence[str]) -> np.ndarray:
    """(N, A) int8 of 1, 0, -1 = unknown, from the samples' ``face_attributes``; see ``checked_attributes``."""
    out = np.full((len(samples), len(vocabulary)), UNKNOWN, dtype=np.int8)
    column = {name: i for i, name in enumerate(vocabulary)}
    if vocabulary:
        for index, sample in enumerate(samples):
            for name, value in checked_attributes(sample, index, column).items():
                out[index, column[name]] = int(value)
    return out


def checked_attributes(sample: Mapping[str, Any], index: int, vocabulary: Collection[str]) -> Mapping[str, int]:
    """The ``face_attributes`` of a sample: name -> 1, 0 or -1; empty where it has none.

    Raises ``FaceDataError`` naming the sample for an attribute outside the vocabulary or a value other than
    1, 0 and -1 (true and false count as 1 and 0).
    """
    given = sample.get("face_attributes")
    if given is None:
        return {}
    where = f"training data, sample {sample_name(sample, index)}"
    if not isinstance(given, Mapping):
        raise FaceDataError(f"{where}: face_attributes must be an object of name: 0 or 1, found {type(given).__name__}")
    for name, value in given.items():
        if name not in vocabulary:
            raise FaceDataError(f"{where}: {unknown_name('attribute', name, vocabulary)}")
        if value not in (1, 0, -1):
            raise FaceDataError(f"{where}: attribute {name!r} is {value!r}, not 1, 0 or -1 (unknown)")
    return given
