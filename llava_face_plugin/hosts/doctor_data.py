"""The doctor's look at training data: every sample, map and label, before a GPU is paid for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich.progress import track

from ..errors import FaceDataError
from ..parsing.maps import image_size
from .doctor import Report
from .llava_v1_data import check_sample, checked_attributes, sample_map, sample_name

_SHOWN = 5


def check_data(report: Report, path: Path, image_folder: Path, *, show_progress: bool = True) -> None:
    """Adds what is wrong with a LLaVA training JSON to the report: counts, and the first few by name."""
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
    vocabulary = [a["name"] for a in ((report.face or {}).get("knowledge") or {}).get("attributes", [])]
    errors: list[str] = []
    counts: Counter[str] = Counter()
    for index, sample in enumerate(
        track(samples, description="checking samples", disable=not show_progress, transient=True)
    ):
        try:
            counts.update(_check_one(sample, index, image_folder, vocabulary))
        except FaceDataError as error:
            errors.append(str(error))
    shown = ", ".join(f"{counts[k]} {k}" for k in ("with a map", "with attributes", "text only"))
    report.add("ok", "data", f"{len(samples)} samples: {shown}")
    for message in errors[:_SHOWN]:
        report.add("problem", "data", message)
    if len(errors) > _SHOWN:
        report.add("problem", "data", f"... and {len(errors) - _SHOWN} more samples with errors")


def _check_one(sample: Any, index: int, folder: Path, vocabulary: list[str]) -> list[str]:
    check_sample(sample, index)
    if vocabulary:
        checked_attributes(sample, index, vocabulary)
    if "image" not in sample:
        return ["text only"]
    found = ["with attributes"] if sample.get("face_attributes") else []
    if sample.get("face_map"):
        sample_map(sample, index, folder)
        return [*found, "with a map"]
    image_size(folder / sample["image"], sample=sample_name(sample, index))
    return found
