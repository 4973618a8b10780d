"""Maps and attribute labels for LLaVA-NeXT's dataset and collator, wrapped from outside.

A sample of its JSON may carry

- ``"face_map"``: a path below the image folder, or for several images a list with one path or null for each. Without
  it the map is looked up in ``face.segmentation.maps`` by the image's path. Maps of video frames come from the
  ``precomputed`` parser, which knows them by their pixels.
- ``"face_attributes"``: ``{"Smiling": 1, "Bald": 0}`` (missing = unknown), for several images a list of these. A video
  has one.
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
from ...errors import FaceDataError, FaceHostError
from ...maps.lookup import open_maps
from .. import label_channel
from ..llava.samples import attribute_row, check_hits, images_of, maps_of, sample_name, stored_map

_UNMAPPED = ("highres", "crop_split")
"""Values of ``--image_aspect_ratio`` whose cutting a map does not follow here."""


class FaceNextDataset(Dataset):
    """Upstream's ``LazySupervisedDataset``: 4-channel tiles and frames, and ``face_attributes`` (visuals, A) int8.

    Raises ``FaceDataError`` at once for a sample without conversations, with wrong attributes or a ``face_map`` that
    cannot be meant, naming it; ``FaceHostError`` for an ``--image_aspect_ratio`` that maps do not follow.
    """

    def __init__(self, base: Any, config: FaceConfig) -> None:
        self.base = base
        self.config = config
        self.vocabulary: Sequence[str] = config.knowledge.vocabulary if config.knowledge else ()
        if base.data_args.image_aspect_ratio in _UNMAPPED:
            raise FaceHostError(
                f"face mode does not support --image_aspect_ratio {base.data_args.image_aspect_ratio}: use anyres, "
                "anyres_max_N, pad or square"
            )
        samples = base.list_data_dict
        for index, sample in enumerate(samples):
            check_sample(sample, index)
            attribute_rows(sample, index, self.vocabulary)
        if config.knowledge is None and any("face_attributes" in sample for sample in samples):
            warnings.warn("the data has face_attributes, but face.knowledge is off: they are not used", stacklevel=2)
        self.folder = Path(base.data_args.image_folder or "")
        self.maps = open_maps(config.segmentation.maps) if config.segmentation.maps else None
        if self.maps is not None:
            images = [i for s in samples for i, m in zip(images_of(s), maps_of(s), strict=True) if not m]
            check_hits(self.maps, images, self.folder, config.segmentation.maps)
        # Networks parse once and offline (``llava-face segment``), never inside a training step.
        parser = config.segmentation.parser
        self._ask_parser = parser is not None and parser.type == "precomputed"
        self.bad_maps = 0
        self._current: dict[str, np.ndarray] = {}
        # On the instance: upstream's own code calls both, also when it takes another sample for a broken one.
        base._get_item = self._get_item
        base.process_image = self._process_image

    def __len__(self) -> int:
        return len(self.base)

    def __getattr__(self, name: str) -> Any:
        if name == "base" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.base, name)  # lengths, modality_lengths, list_data_dict, ...

    def __getitem__(self, i: int) -> dict[str, Any]:
        try:
            return self._get_item(i)
        except FaceDataError:
            raise
        except Exception as error:  # a broken image: upstream tries again, and then takes the next sample
            sample = self.base.list_data_dict[i]
            warnings.warn(f"sample {sample_name(sample, i)} cannot be read: {error}", stacklevel=2)
            return self.base[i]

    def _get_item(self, i: int) -> dict[str, Any]:
        processor = self.base.data_args.image_processor
        if isinstance(processor, label_channel.FaceImageProcessor):
            processor.raise_failure()  # upstream takes a broken map for a broken video, and asks for the next sample
        sample = self.base.list_data_dict[i]
        self._current = self._image_maps(sample, i)
        try:
            with label_channel.parser_asleep(processor, asleep=not self._ask_parser):
                item = type(self.base)._get_item(self.base, i)
        except FaceDataError as error:
            raise FaceDataError(f"sample {sample_name(sample, i)}: {error}", error.reason) from error
        if "face_attributes" in item:  # of the sample that upstream took for a video it could not read
            warnings.warn(f"sample {sample_name(sample, i)} cannot be read; upstream took the next one", stacklevel=2)
            return item
        if "image" in item:
            item["image"] = [(_with_channel(pixels), size, kind) for pixels, size, kind in item["image"]]
        item["face_attributes"] = torch.from_numpy(attribute_rows(sample, i, self.vocabulary))
        return item

    def _process_image(self, image_file: str, overwrite_image_aspect_ratio: str | None = None) -> Any:
        """As upstream's: (pixels, size, kind), the pixels with their map."""
        args = self.base.data_args
        labels = self._current.get(image_file)
        if labels is not None and (overwrite_image_aspect_ratio or args.image_aspect_ratio) == "pad":
            labels = label_channel.square(labels)
        with args.image_processor.with_map(labels):
            return type(self.base).process_image(self.base, image_file, overwrite_image_aspect_ratio)

    def _image_maps(self, sample: Mapping[str, Any], index: int) -> dict[str, np.ndarray]:
        """Image path -> its map (H, W) uint8, in the image's own geometry, where it has one."""
        found: dict[str, np.ndarray] = {}
        for image, face_map in zip(images_of(sample), maps_of(sample), strict=True):
            try:
                labels = stored_map(image, face_map, sample_name(sample, index), self.folder, self.maps)
            except FaceDataError as error:
                if self.config.segmentation.bad_map == "error":
                    raise
                self.bad_maps += 1
                warnings.warn(f"trained without a map ({self.bad_maps} so far in this worker): {error}", stacklevel=2)
                continue
            if labels is not None:  # an image may stand twice in a sample
                found[image] = labels
        return found


def check_sample(sample: Any, index: int) -> None:
    """Raises ``FaceDataError`` for a row that is not a sample of LLaVA-NeXT, or whose maps do not fit its images."""
    if not isinstance(sample, Mapping):
        raise FaceDataError(f"training data, row {index}: expected an object, found {type(sample).__name__}")
    where = f"training data, sample {sample_name(sample, index)}"
    turns = sample.get("conversations")
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise FaceDataError(f"{where}: no conversations")
    images = sample.get("image", "")
    if not isinstance(images, str) and not (
        isinstance(images, list) and images and all(isinstance(i, str) for i in images)
    ):
        raise FaceDataError(f"{where}: image is {images!r}, not a path or a list of paths")
    if not isinstance(sample.get("video", ""), str):
        raise FaceDataError(f"{where}: video is {sample['video']!r}, not a path")
    given = sample.get("face_map")
    if given is None:
        return
    if "video" in sample:
        raise FaceDataError(
            f"{where}: a face_map for a video: maps of frames come from the parser (face.segmentation.parser, "
            "type precomputed)"
        )
    maps = [given] if isinstance(given, str) else given
    if not isinstance(maps, list) or not all(m is None or isinstance(m, str) for m in maps):
        raise FaceDataError(f"{where}: face_map is {given!r}, not a path or a list of paths and nulls")
    if len(maps) != len(images_of(sample)):
        raise FaceDataError(f"{where}: {len(maps)} face maps for {len(images_of(sample))} images")


def attribute_rows(sample: Mapping[str, Any], index: int, vocabulary: Sequence[str]) -> np.ndarray:
    """(visuals, A) int8 of 1, 0, -1 = unknown: a row for each image, one for a video or for text alone.

    Raises ``FaceDataError`` as ``attribute_row`` does, and for a list of another length.
    """
    where = f"training data, sample {sample_name(sample, index)}"
    visuals = max(1, len(images_of(sample)))
    given = sample.get("face_attributes")
    each = given if isinstance(given, list) else [given] * visuals if given is None else [given]
    if len(each) != visuals:
        raise FaceDataError(f"{where}: {len(each)} face_attributes for {visuals} images")
    if not vocabulary:
        return np.zeros((visuals, 0), dtype=np.int8)
    return np.stack([attribute_row(one, where, vocabulary) for one in each])


def _with_channel(pixels: Tensor) -> Tensor:
    """Upstream's stand-in image of a text-only sample has three channels."""
    return pixels if pixels.shape[-3] > 3 else label_channel.join(pixels, None)
