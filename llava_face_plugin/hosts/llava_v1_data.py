"""Maps and attribute labels for LLaVA's dataset and collator, wrapped from outside.

A sample of the usual LLaVA JSON may carry ``"face_map": "relative/path.png"`` (below the image folder) and
``"face_attributes": {"Smiling": 1, "Bald": 0}`` (missing = unknown). Without a ``face_map`` the map is looked up in
``face.segmentation.maps`` by the image's path.
"""

from __future__ import annotations

import os
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
from ..maps.lookup import Maps, open_maps
from ..registry import unknown_name
from . import label_channel

UNKNOWN = -1
PROBED = 64
"""Images that are looked up in the store before a training starts (our default)."""


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
        self.maps = open_maps(config.segmentation.maps) if config.segmentation.maps else None
        if self.maps is not None:
            _check_hits(self.maps, samples, Path(base.data_args.image_folder or ""), config.segmentation.maps)
        # Networks parse once and offline (``llava-face segment``), never inside a training step.
        parser = config.segmentation.parser
        self._ask_parser = parser is not None and parser.type == "precomputed"
        if parser is not None and not self._ask_parser and self.maps is None:
            n = sum("image" in s and not s.get("face_map") for s in samples)
            if n:
                warnings.warn(
                    f"{n} samples have no face_map and are trained without a map: the parser {parser.type!r} is for "
                    "inference. Make maps with `llava-face segment` and set face.segmentation.maps",
                    stacklevel=2,
                )
        self.bad_maps = 0

    def __len__(self) -> int:
        return len(self.base)

    def __getattr__(self, name: str) -> Any:
        if name == "base" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.base, name)  # lengths, modality_lengths, list_data_dict, ...

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        sample = self.base.list_data_dict[i]
        label_map = self._label_map(sample, i) if "image" in sample else None
        try:
            processor = getattr(self.base.data_args, "image_processor", None)
            asleep = label_map is not None or not self._ask_parser
            with label_channel.parser_asleep(processor, asleep=asleep):
                item = self.base[i]
        except (OSError, SyntaxError) as error:  # what Pillow raises on a missing or damaged image
            raise FaceDataError(f"image {sample.get('image')} (sample {sample_name(sample, i)}): {error}") from error
        if "image" in item:
            has_channel = item["image"].shape[-3] > 3
            if label_map is not None or not has_channel:
                item["image"] = label_channel.put(item["image"], label_map)
        item["face_attributes"] = torch.from_numpy(self.attributes[i].copy())
        return item

    def _label_map(self, sample: Mapping[str, Any], index: int) -> Tensor | None:
        """The sample's own map in the geometry of its image; None where it has none."""
        args = self.base.data_args
        try:
            labels = sample_map(sample, index, Path(args.image_folder or ""), self.maps)
        except FaceDataError as error:
            if self.config.segmentation.bad_map == "error":
                raise
            self.bad_maps += 1
            warnings.warn(f"trained without a map ({self.bad_maps} so far in this worker): {error}", stacklevel=2)
            return None
        if labels is None:
            return None
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


def sample_map(sample: Mapping[str, Any], index: int, folder: Path, maps: Maps | None) -> np.ndarray | None:
    """(H, W) uint8 map of a sample: the one it names, else that of its image in ``maps``; None where there is none.

    It may be smaller than its image, but not of another shape. Raises ``FaceDataError`` naming file and sample if
    the map or the image cannot be read, or they do not fit.
    """
    name = sample_name(sample, index)
    image = sample["image"]
    if sample.get("face_map"):
        where = f"face map {folder / sample['face_map']}"
        labels: np.ndarray | None = read_map(folder / sample["face_map"], sample=name)
    elif maps is not None and isinstance(image, str):
        where = f"face map of {image} in the store"
        try:
            labels = maps.by_name(_stored_name(image, folder))
        except FaceDataError as error:
            raise FaceDataError(f"{error} (sample {name})", error.reason) from error
    else:
        return None
    if labels is None:
        return None
    size = image_size(folder / image, sample=name)
    if not same_aspect(size, labels.shape[::-1]):
        raise FaceDataError(
            f"{where} (sample {name}): size {labels.shape[1]}x{labels.shape[0]} does not have the shape of its image, "
            f"{size[0]}x{size[1]}"
        )
    return labels


def _stored_name(image: str, folder: Path) -> str:
    """What a store below the image folder calls an image."""
    return os.path.relpath(image, folder) if os.path.isabs(image) else image


def _check_hits(maps: Maps, samples: Sequence[Mapping[str, Any]], folder: Path, path: str | None) -> None:
    """A look at some images before a training: a store that knows none of them is not the one that was meant.

    Raises ``FaceDataError`` if it has none of them, and warns if it lacks more than half.
    """
    unmapped = [s["image"] for s in samples if "image" in s and not s.get("face_map")]
    looked = unmapped[:: max(1, len(unmapped) // PROBED)][:PROBED]
    missing = sum(not _has_map(maps, _stored_name(image, folder)) for image in looked)
    if looked and missing == len(looked):
        raise FaceDataError(
            f"face.segmentation.maps {path}: it has no map of any of {len(looked)} images, such as {looked[0]!r}; was "
            f"it made from this --image_folder ({folder})? `llava-face maps check` says what it holds"
        )
    if missing > len(looked) / 2:
        warnings.warn(f"{missing} of {len(looked)} images looked at have no map in {path}", stacklevel=3)


def _has_map(maps: Maps, name: str) -> bool:
    try:
        return maps.by_name(name) is not None
    except FaceDataError:
        return True  # it is there, and broken: said when it is used


def check_sample(sample: Any, index: int) -> None:
    """Raises ``FaceDataError`` for a row that is not a LLaVA sample."""
    if not isinstance(sample, Mapping):
        raise FaceDataError(f"training data, row {index}: expected an object, found {type(sample).__name__}")
    turns = sample.get("conversations")
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise FaceDataError(f"training data, sample {sample_name(sample, index)}: no conversations")
    if not isinstance(sample.get("image", ""), str):
        raise FaceDataError(
            f"training data, sample {sample_name(sample, index)}: image is {sample['image']!r}; llava 1.2.2 takes one "
            "path a sample"
        )
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
