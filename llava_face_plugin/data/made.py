"""Made faces: drawn portraits with exact label maps and attributes, the data set that ships in the package.

They need no download and show no real person: tests, demos and first runs use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import FaceDataError
from ..maps.files import atomic_path, write_map
from . import made_face
from .conversations import Sample
from .made_attributes import MADE_ATTRIBUTES, RULES, as_labels, broken_rules, sample_attributes
from .made_portrait import Motion
from .manifest import Manifest
from .prepared import Prepared, Progress, attributes_of, write_index, write_questions, write_training

__all__ = ["MADE_ATTRIBUTES", "RULES", "broken_rules", "make", "manifest_of", "render", "sample_attributes"]

SIZE = (178, 218)
"""(width, height) in pixels: that of CelebA's aligned images."""

MIN_SIDE = 32


def render(
    attributes: np.ndarray | Mapping[str, int],
    seed: int,
    size: tuple[int, int] = SIZE,
    motion: Motion | None = None,
) -> tuple[Image.Image, np.ndarray]:
    """Draw one face: the RGB image of ``size`` (width, height) and its (H, W) uint8 map of canonical ids.

    ``attributes`` are 20 values of 0 or 1 in the order of ``MADE_ATTRIBUTES``, or a mapping; ``seed`` decides
    everything else (pose, proportions, colours, style, background): the same person, with or
    without an attribute. ``motion``: that person in another moment. Same arguments, same pixels. Raises
    ``FaceDataError`` for labels that contradict each other (bald with bangs) and sides under 32 pixels.
    """
    if min(size) < MIN_SIDE:
        raise FaceDataError(f"made face: size {size[0]}x{size[1]} is too small, the least side is {MIN_SIDE}")
    rng = np.random.default_rng([seed, 2])
    image, labels = made_face.draw(as_labels(attributes), rng, size, motion)
    # A little grain: perfectly flat areas would compress to nothing and look drawn by ruler.
    grain = rng.integers(-3, 4, (size[1], size[0], 1), dtype=np.int16)
    grained = np.clip(np.asarray(image).astype(np.int16) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(grained), labels


def make(
    out_dir: str | Path,
    n_train: int,
    n_val: int,
    seed: int = 0,
    size: tuple[int, int] = SIZE,
    *,
    k: int = 4,
    val_k: int | None = None,
    text_only: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """Draw a data set: ``images/*.jpg``, ``maps/*.png``, ``train.json``, ``val.json``,
    ``val_questions.jsonl``.

    Half of the images are of ``size``, the others up to 15 % narrower, wider, lower or higher, so that
    padding and cropping are exercised. ``k`` questions an image (``val_k`` in the question file; None: all
    20) and ``text_only`` samples without a picture go into ``train.json``. ``index.json`` lets
    ``PrecomputedParser`` find the maps. Every face is determined by ``seed`` and its number. The knowledge
    file is the caller's (``prepared.write_knowledge``).
    """
    if n_train < 1 or n_val < 0:
        raise FaceDataError(f"made faces: n_train must be at least 1 and n_val at least 0, got {n_train}, {n_val}")
    out = Path(out_dir)
    (out / "images").mkdir(parents=True, exist_ok=True)
    total = n_train + n_val
    labels = sample_attributes(total, seed)
    prepared = Prepared(
        out=out,
        vocabulary=MADE_ATTRIBUTES,
        labels={"train": labels[:n_train], "val": labels[n_train:]},
        image_folder=out,
        rules="made",
    )
    samples = []
    for i in range(total):
        samples.append(_write_face(out, i, labels[i], seed, size))
        if progress is not None:
            progress("drawing faces", i + 1, total)
    write_training(prepared, samples[:n_train], split="train", k=k, seed=seed, text_only=text_only)
    write_training(prepared, samples[n_train:], split="val", k=k, seed=seed)
    write_questions(prepared, samples[n_train:], split="val", k=val_k, seed=seed)
    write_index(prepared, samples, progress)
    prepared.files["images"], prepared.files["maps"] = out / "images", out / "maps"
    return prepared


def manifest_of(prepared: Prepared) -> Manifest:
    """The manifest of what ``make`` drew: all images, with attributes and maps; train, then val."""
    labels = [prepared.labels[split] for split in ("train", "val")]
    names = [f"{number + 1:06d}" for number in range(sum(map(len, labels)))]
    return Manifest(
        dataset="made",
        images=np.array([f"images/{name}.jpg" for name in names]),
        split=np.repeat(np.array([0, 1], dtype=np.int8), [len(rows) for rows in labels]),
        vocabulary=MADE_ATTRIBUTES,
        attributes=np.concatenate(labels).astype(np.int8),
        present=np.ones(len(names), dtype=bool),
        maps=np.array([f"maps/{name}.png" for name in names]),
        notes=["drawn faces: no real person"],
    )


def _write_face(out: Path, number: int, attributes: np.ndarray, seed: int, size: tuple[int, int]) -> Sample:
    name = f"{number + 1:06d}"
    image, labels = render(attributes, _face_seed(seed, number), _varied(size, seed, number))
    with atomic_path(out / "images" / f"{name}.jpg") as temporary:
        image.save(temporary, format="JPEG", quality=92)
    write_map(out / "maps" / f"{name}.png", labels)
    return Sample(name, f"images/{name}.jpg", attributes_of(attributes, MADE_ATTRIBUTES), f"maps/{name}.png")


def _face_seed(seed: int, number: int) -> int:
    return int(np.random.default_rng([seed, 4, number]).integers(2**31))


def _varied(size: tuple[int, int], seed: int, number: int) -> tuple[int, int]:
    rng = np.random.default_rng([seed, 5, number])
    if number % 2 == 0:
        return size
    width, height = (max(MIN_SIDE, round(n * f)) for n, f in zip(size, rng.uniform(0.85, 1.15, 2), strict=True))
    return width, height
