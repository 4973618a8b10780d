"""LLaVA JSON as it is (FaceCaption, FaceInstruct and the like): validated, and passed through unchanged.

A list of samples, or one JSON object a line: ``id``, ``image`` (path below the root), ``conversations`` of turns
``{"from": "human" or "gpt", "value": text}`` that alternate and begin with the human, one ``<image>`` in the first
turn of a sample with an image. ``face_attributes`` and ``face_map`` are kept, and read into the manifest. Samples that
are not so are counted by reason and left out. Layout as published with LLaVA 1.5; checked on this package's own output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FaceDataError
from ..files import look_for, read_text, source
from ..losses import Losses
from ..manifest import UNKNOWN, Manifest
from .base import DatasetInfo, ReadOptions

SUFFIXES = (".json", ".jsonl")
_ROLES = ("human", "gpt")
_PLACEHOLDER = "<image>"


def read(root: Path, options: ReadOptions) -> Manifest:
    """One row an image that is named, all of them train. Raises ``FaceDataError`` if no sample is usable."""
    path, losses = _file(root, options), Losses()
    samples = [sample for _, sample in _samples(path, losses)]
    images = list(dict.fromkeys(s["image"] for s in samples if "image" in s))
    if not images:
        named = f"; the first problem: {losses.problems[0]}" if losses.problems else ""
        raise FaceDataError(f"{path}: no usable sample with an image{named}", "empty")
    place = {image: row for row, image in enumerate(images)}
    vocabulary = tuple(dict.fromkeys(a for s in samples for a in s.get("face_attributes", ())))
    attributes = np.full((len(images), len(vocabulary)), UNKNOWN, dtype=np.int8)
    column = {name: i for i, name in enumerate(vocabulary)}
    maps = np.array([""] * len(images), dtype=object)
    for sample in samples:
        if "image" in sample:
            row = place[sample["image"]]
            for name, value in sample.get("face_attributes", {}).items():
                attributes[row, column[name]] = value
            maps[row] = sample.get("face_map", maps[row])
    names = np.array([_below(options, image) for image in images])
    present = look_for(root, names) if options.look_for_images else None
    if present is not None and not present.any():
        raise FaceDataError(f"{root}: none of the {len(images)} images of {path.name} is here", "missing")
    return Manifest(
        "llava_json", names, np.zeros(len(images), dtype=np.int8), vocabulary, attributes, present=present,
        maps=maps.astype(str) if any(maps) else None, sources=[source(path, len(samples))], skipped=losses.skipped,
        problems=losses.problems,
    )  # fmt: skip


def rows(root: Path, options: ReadOptions) -> Iterator[tuple[int, dict[str, Any]]]:
    """The usable samples as they are in the file, with the row of ``read``'s manifest (-1: no image)."""
    place: dict[str, int] = {}
    for _, sample in _samples(_file(root, options), Losses()):
        if "image" not in sample:
            yield -1, sample
        else:
            row = place.setdefault(sample["image"], len(place))
            yield row, {**sample, "image": _below(options, sample["image"])}


def _file(root: Path, options: ReadOptions) -> Path:
    if options.labels is not None:
        if not options.labels.is_file():
            raise FaceDataError(f"{options.labels}: no such file (given for the samples)", "missing")
        return options.labels
    found = sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if len(found) != 1:
        names = ", ".join(p.name for p in found[:5]) or "none"
        raise FaceDataError(
            f"{root}: expected one .json or .jsonl file, found {names}; name it with --labels", "missing"
        )
    return found[0]


def _below(options: ReadOptions, image: str) -> str:
    return f"{options.images.resolve().as_posix()}/{image}" if options.images is not None else image


def _samples(path: Path, losses: Losses) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, sample) of the usable ones; those that are there twice in the same words come once."""
    seen: dict[tuple[str, str], list[Any]] = {}  # several different conversations about one image are usual
    for number, sample in _parsed(path, losses):
        name = f" ({sample['id']})" if isinstance(sample, dict) and "id" in sample else ""
        where = f"{path}, sample {number}{name}"
        if fault := _fault(sample):
            losses.add(fault[0], f"{where}: {fault[1]}")
            continue
        alike = seen.setdefault((str(sample.get("id")), str(sample.get("image"))), [])
        if sample in alike:
            losses.add("sample that is there twice", f"{where}: the same sample was there before")
            continue
        alike.append(sample)
        yield number, sample


def _parsed(path: Path, losses: Losses) -> Iterator[tuple[int, Any]]:
    text = read_text(path, path.with_suffix(".json").name)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise FaceDataError(f"{path}: not a list of samples (nested too deep)", "format") from error
    except ValueError as error:
        if not text.lstrip().startswith("{"):
            raise FaceDataError(f"{path}: not valid JSON: {error}", "damaged") from error
        yield from _lines(path, text, losses)
        return
    samples = [content] if isinstance(content, dict) else content
    if not isinstance(samples, list) or not samples:
        raise FaceDataError(f"{path}: expected a list of samples", "empty")
    yield from enumerate(samples, start=1)


def _lines(path: Path, text: str, losses: Losses) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                losses.add("not JSON", f"{path}, line {number}: not valid JSON: {error}")


def _fault(sample: Any) -> tuple[str, str] | None:
    """(reason, what exactly) if a sample is not as it should be."""
    if not isinstance(sample, Mapping):
        return "not a sample", f"expected an object, found {type(sample).__name__}"
    if "video" in sample:
        return "video, not an image", f"its picture is the video {sample['video']!r}"
    image = sample.get("image")
    if "image" in sample and not (isinstance(image, str) and image and "\0" not in image):
        return "image is no path", f"image is {image!r}; expected a path"
    return _turns_fault(sample.get("conversations"), "image" in sample) or _labels_fault(sample)


def _turns_fault(turns: Any, with_image: bool) -> tuple[str, str] | None:
    if not isinstance(turns, list) or not turns:
        return "no conversations", "expected 'conversations', a list of turns"
    for i, turn in enumerate(turns):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
            return "turn without text", f"turn {i + 1} has no text under 'value'"
        if turn.get("from") != _ROLES[i % 2]:
            return "roles do not alternate", f"turn {i + 1} is from {turn.get('from')!r}; expected {_ROLES[i % 2]!r}"
    if len(turns) % 2:
        return "roles do not alternate", "the last question has no answer"
    places = [i for i, turn in enumerate(turns) for _ in range(turn["value"].count(_PLACEHOLDER))]
    if places != ([0] if with_image else []):
        found = f"{_PLACEHOLDER} occurs {len(places)} times"
        return f"wrong {_PLACEHOLDER}", f"{found}; expected " + (
            "one, in the first turn" if with_image else "none: no image"
        )
    return None


def _labels_fault(sample: Mapping[str, Any]) -> tuple[str, str] | None:
    attributes = sample.get("face_attributes", {})
    if not isinstance(attributes, Mapping) or not all(
        name and type(value) is int and -1 <= value <= 1 for name, value in attributes.items()
    ):
        return "wrong face_attributes", f"face_attributes is {str(attributes)[:80]}; expected names with 1, 0 or -1"
    face_map = sample.get("face_map", "")
    if not isinstance(face_map, str) or (face_map and "image" not in sample):
        return "wrong face_map", "face_map must be a path, of a sample with an image"
    return None


INFO = DatasetInfo(
    name="llava_json",
    title="LLaVA JSON",
    citation="format: Liu, Li, Wu, Lee: Visual Instruction Tuning. NeurIPS 2023",
    licence="the terms are those of the data set that the file is from",
    layout="""NAME.json   list of {"id", "image", "conversations"} (or --labels FILE; .jsonl: one object a line)
images      where the samples say, below the root (or --images DIR)""",
    read=read,
    own_maps=True,
    rows=rows,
)
