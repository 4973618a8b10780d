"""Maps and attribute labels for LLaVA's dataset and collator, wrapped from outside.

A sample of the usual LLaVA JSON may carry ``"face_map": "relative/path.png"`` (below the image folder) and
``"face_attributes": {"Smiling": 1, "Bald": 0}`` (missing = unknown). Without a ``face_map`` the map is looked up in
``face.segmentation.maps`` by the image's path.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...config import FaceConfig
from ...errors import FaceDataError
from ...maps.lookup import Maps, open_maps
from .. import label_channel
from ..llava.samples import attribute_row, check_hits, sample_name, stored_map


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
            images = [s["image"] for s in samples if "image" in s and not s.get("face_map")]
            check_hits(self.maps, images, Path(base.data_args.image_folder or ""), config.segmentation.maps)
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


def sample_map(sample: Mapping[str, Any], index: int, folder: Path, maps: Maps | None) -> np.ndarray | None:
    """(H, W) uint8 map of a sample, or None; see ``stored_map``."""
    return stored_map(sample["image"], sample.get("face_map"), sample_name(sample, index), folder, maps)


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
    """(N, A) int8 of 1, 0, -1 = unknown, from the samples' ``face_attributes``; see ``attribute_row``."""
    rows = np.zeros((len(samples), len(vocabulary)), dtype=np.int8)
    for index, sample in enumerate(samples if vocabulary else ()):
        where = f"training data, sample {sample_name(sample, index)}"
        rows[index] = attribute_row(sample.get("face_attributes"), where, vocabulary)
    return rows
