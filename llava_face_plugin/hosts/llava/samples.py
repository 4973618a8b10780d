"""Maps and attribute labels of LLaVA's training samples, whatever the dataset around them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FaceDataError
from ...maps.files import image_size, read_map, same_aspect
from ...maps.lookup import Maps
from ...registry import unknown_name

UNKNOWN = -1
PROBED = 64
"""Images that are looked up in the store before a training starts (our default)."""


def sample_name(sample: Mapping[str, Any], index: int) -> str:
    """How a sample is named in errors: its id and its place in the file."""
    return f"{sample.get('id', '?')!r}, row {index}"


def images_of(sample: Mapping[str, Any]) -> list[str]:
    """The paths of a sample's images; empty for a video or text alone."""
    images = sample.get("image", [])
    return [images] if isinstance(images, str) else list(images)


def maps_of(sample: Mapping[str, Any]) -> list[str | None]:
    """The sample's own ``face_map`` for each of its images."""
    given = sample.get("face_map")
    if given is None:
        return [None] * len(images_of(sample))
    return [given] if isinstance(given, str) else list(given)


def stored_map(image: Any, face_map: str | None, name: str, folder: Path, maps: Maps | None) -> np.ndarray | None:
    """(H, W) uint8 map of an image: the file ``face_map``, else that of the image in ``maps``; None where none is.

    Args:
        image: its path below ``folder``, or an absolute one.
        name: of the sample, for errors.

    It may be smaller than its image, but not of another shape. Raises ``FaceDataError`` naming file and sample if
    the map or the image cannot be read, or they do not fit.
    """
    if face_map:
        where = f"face map {folder / face_map}"
        labels: np.ndarray | None = read_map(folder / face_map, sample=name)
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


def check_hits(maps: Maps, images: Sequence[Any], folder: Path, path: str | None) -> None:
    """A look at some images before a training: a store that knows none of them is not the one that was meant.

    Raises ``FaceDataError`` if it has none of them, and warns if it lacks more than half.
    """
    looked = images[:: max(1, len(images) // PROBED)][:PROBED]
    missing = sum(not _has_map(maps, _stored_name(image, folder)) for image in looked)
    if looked and missing == len(looked):
        raise FaceDataError(
            f"face.segmentation.maps {path}: it has no map of any of {len(looked)} images, such as {looked[0]!r}; was "
            f"it made from this --image_folder ({folder})? `llava-face maps check` says what it holds"
        )
    if missing > len(looked) / 2:
        warnings.warn(f"{missing} of {len(looked)} images looked at have no map in {path}", stacklevel=3)


def attribute_row(given: Any, where: str, vocabulary: Sequence[str]) -> np.ndarray:
    """(A,) int8 of 1, 0, -1 = unknown; see ``checked_attributes``."""
    values = checked_attributes(given, where, vocabulary)
    return np.array([int(values.get(name, UNKNOWN)) for name in vocabulary], dtype=np.int8)


def checked_attributes(given: Any, where: str, vocabulary: Collection[str]) -> Mapping[str, int]:
    """``face_attributes``: name -> 1, 0 or -1; empty for None.

    Raises ``FaceDataError`` starting with ``where`` for an attribute outside the vocabulary or a value other than
    1, 0 and -1 (true and false count as 1 and 0).
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise FaceDataError(f"{where}: face_attributes must be an object of name: 0 or 1, found {type(given).__name__}")
    for name, value in given.items():
        if name not in vocabulary:
            raise FaceDataError(f"{where}: {unknown_name('attribute', name, vocabulary)}")
        if value not in (1, 0, -1):
            raise FaceDataError(f"{where}: attribute {name!r} is {value!r}, not 1, 0 or -1 (unknown)")
    return given


def _stored_name(image: str, folder: Path) -> str:
    """What a store below the image folder calls an image."""
    return os.path.relpath(image, folder) if os.path.isabs(image) else image


def _has_map(maps: Maps, name: str) -> bool:
    try:
        return maps.by_name(name) is not None
    except FaceDataError:
        return True  # it is there, and broken: said when it is used
