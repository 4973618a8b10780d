"""A parser without a network, pictures it understands, and a run of it that can be killed."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from llava_face_plugin.maps.vocabularies import by_image_side
from llava_face_plugin.parsing.base import Face, Parsed
from llava_face_plugin.segment.run import Options, Summary, segment

STEP = 13
"""Part ids are written into the red channel, so far apart that JPEG mostly keeps them."""


class StandIn:
    """The part of a pixel is its red value / 13; sides by image side, as real parsers have them.

    ``log`` gets a line for each image parsed. An image with ``explode`` in its name raises.
    """

    name = "stand-in"

    def __init__(self, log: Path | None = None, seconds: float = 0.0, version: str = "1") -> None:
        self.digest = hashlib.sha256(version.encode()).hexdigest()
        self.log = log
        self.seconds = seconds

    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        assert names is not None
        for name in names:
            if "explode" in name:
                raise ValueError(f"{name} is too much for me")
        time.sleep(self.seconds * len(images))
        if self.log is not None:
            with self.log.open("a") as file:
                file.write("".join(f"{name}\n" for name in names))
        return [parsed(image) for image in images]


def parsed(image: Image.Image) -> Parsed:
    """What the stand-in says of an image."""
    assert image.mode == "RGB"
    ids = np.round(np.asarray(image)[..., 0] / STEP).clip(0, 18).astype(np.uint8)
    labels = by_image_side(ids)
    rows, columns = np.flatnonzero(labels.any(axis=1)), np.flatnonzero(labels.any(axis=0))
    if not rows.size:
        return Parsed(None)
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Parsed(labels, (Face(box, 0.75, 0.5),))


def picture(seed: int, size: tuple[int, int] = (24, 32)) -> Image.Image:
    """An RGB picture whose map is known: ``ids_of(seed, size)``; green and blue make its pixels its own."""
    ids = ids_of(seed, size)
    noise = np.random.default_rng(seed).integers(0, 256, (*ids.shape, 2), dtype=np.uint8)
    return Image.fromarray(np.dstack([ids * STEP, noise]).astype(np.uint8))


def ids_of(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A face as (H, W) ids: skin with eyes, brow, nose, hair; its eyes are of different heights."""
    width, height = size
    ids = np.zeros((height, width), dtype=np.uint8)
    shift = seed % 3
    ids[2 + shift : height - 3, 3 : width - 2] = 1
    ids[2 + shift : 6, 3 : width - 2] = 13
    ids[9:12, width - 9 : width - 5] = 4
    ids[10:12, 5:9] = 5
    ids[7:8, 5:9] = 7
    ids[7:9, width - 9 : width - 6] = 6
    ids[14:18, width // 2 : width // 2 + 2] = 2
    return ids


def make_images(folder: Path, n: int, suffix: str = ".png") -> list[str]:
    """``n`` pictures in subfolders; their names, sorted."""
    names = [f"{'abc'[i % 3]}/{i:03d}{suffix}" for i in range(n)]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(folder / name)
    return sorted(names)


def run(source: Path, out: Path, log: Path | None = None, **options: object) -> Summary:
    """``segment`` with the stand-in."""
    return segment(source, out, partial(StandIn, log), Options(**options))  # type: ignore[arg-type]


def times_parsed(log: Path) -> Counter[str]:
    """How often each image was parsed."""
    return Counter(log.read_text().split("\n")[:-1]) if log.exists() else Counter()


def content(store: Path, form: Literal["png", "parquet"] = "png") -> dict[str, tuple[str, bytes]]:
    """Row (without its time) and map of each image, for comparing stores."""
    import dataclasses

    from llava_face_plugin.maps.store import MapStore

    opened = MapStore.open(store)
    assert opened.info.format == form
    out = {}
    for row in opened.rows():
        labels = opened.get(row.image)
        assert row.image not in out, "a row twice"
        shape = repr(None if labels is None else labels.shape).encode()
        out[row.image] = (
            dataclasses.replace(row, written=0.0).to_json(),
            shape + (b"" if labels is None else labels.tobytes()),
        )
    return out


if __name__ == "__main__":
    source_, out_, log_, form_ = sys.argv[1:]
    segment(
        source_,
        out_,
        partial(StandIn, Path(log_), 0.004),
        Options(format=form_, images_per_batch=4, workers=2),  # type: ignore[arg-type]
    )
