"""The doctor's look at training data: every sample, map and label, before a GPU is paid for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from ..errors import FaceDataError
from ..maps.files import whole_images
from ..maps.lookup import Maps, open_maps
from .doctor import Report
from .llava import which
from .llava.samples import checked_attributes, images_of, maps_of, sample_name, stored_map
from .llava_next import data as llava_next
from .llava_v1 import data as llava_v1

_SHOWN = 5


def check_data(
    report: Report, path: Path, image_folder: Path, *, decode: bool = False, show_progress: bool = True
) -> None:
    """Adds what is wrong with a LLaVA training JSON to the report: counts, and the first few by name.

    Samples are those of the ``llava`` that is installed: LLaVA-NeXT's may have several images, or a video (looked for
    below ``image_folder`` too). Maps are read whole; of images the header, or with ``decode`` every pixel.
    """
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        report.add("problem", "data", f"{path}: no such file")
        return
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        report.add("problem", "data", f"{path}: not valid JSON: {error}")
        return
    if not isinstance(samples, list) or not samples:
        report.add("problem", "data", f"{path}: expected a list of samples")
        return
    try:
        maps = _maps_of(report)
    except FaceDataError as error:
        report.add("problem", "maps", str(error))
        maps = None
    vocabulary = [a["name"] for a in ((report.face or {}).get("knowledge") or {}).get("attributes", [])]
    errors: list[str] = []
    counts: Counter[str] = Counter()
    for index, sample in enumerate(
        track(samples, description="checking samples", disable=not show_progress, transient=True)
    ):
        try:
            counts.update(_check_one(sample, index, image_folder, vocabulary, maps, decode))
        except FaceDataError as error:
            errors.append(str(error))
    shown = ", ".join(f"{counts[k]} {k}" for k in ("with a map", "with attributes", "text only"))
    report.add("ok", "data", f"{len(samples)} samples: {shown}")
    for message in errors[:_SHOWN]:
        report.add("problem", "data", message)
    if len(errors) > _SHOWN:
        report.add("problem", "data", f"... and {len(errors) - _SHOWN} more samples with errors")


def _maps_of(report: Report) -> Maps | None:
    path = ((report.face or {}).get("segmentation") or {}).get("maps")
    return open_maps(path) if path else None


def _check_one(
    sample: Any, index: int, folder: Path, vocabulary: list[str], maps: Maps | None, decode: bool
) -> list[str]:
    _check_keys(sample, index, vocabulary)
    name = sample_name(sample, index)
    if "video" in sample and "image" not in sample:
        if not (folder / sample["video"]).exists():
            raise FaceDataError(f"video {folder / sample['video']} (sample {name}): no such file or folder", "missing")
    elif "image" not in sample:
        return ["text only"]
    found = ["with attributes"] if sample.get("face_attributes") else []
    for image in images_of(sample):
        _check_image(folder / image, name, decode)
    labels = [stored_map(i, m, name, folder, maps) for i, m in zip(images_of(sample), maps_of(sample), strict=True)]
    if any(one is not None for one in labels):
        found.append("with a map")
    return found


def _check_keys(sample: Any, index: int, vocabulary: list[str]) -> None:
    if which.kind() == "llava_next":
        llava_next.check_sample(sample, index)
        llava_next.attribute_rows(sample, index, vocabulary)
        return
    llava_v1.check_sample(sample, index)
    if vocabulary:
        where = f"training data, sample {sample_name(sample, index)}"
        checked_attributes(sample.get("face_attributes"), where, vocabulary)


def _check_image(path: Path, name: str, decode: bool) -> None:
    # Any format that upstream's own Image.open reads; maps ask for one of our formats.
    try:
        with whole_images(), Image.open(path) as picture:
            if decode:
                picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FaceDataError(f"image {path} (sample {name}): {error}") from error
