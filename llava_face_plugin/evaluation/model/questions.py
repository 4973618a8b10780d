"""One request of lmms-eval as the engine takes it, and the images it is about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import FaceDataError
from ...maps.files import MAX_PIXELS, open_image
from ...segment.images import file_status
from .generation import Generation


@dataclass(frozen=True)
class ImageRef:
    """An image by the key of its content, opened when it is needed."""

    key: str
    open: Callable[[], Image.Image]


@dataclass(frozen=True)
class Question:
    """A rendered prompt and its images, in the order of their places in the prompt."""

    prompt: str
    images: tuple[ImageRef, ...]
    generation: Generation


_OURS = frozenset(("question_id", "image_id", "cluster", "kind", "images"))


def image_names(doc: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What says which images a row of our question files is about, within its task; None for any other row."""
    names = doc.get("images")
    if not doc.keys() >= _OURS or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return (*names, str(doc.get("video") or ""))


def from_path(path: Path) -> ImageRef:
    """An image file. Raises ``FaceDataError`` if there is none."""
    status = file_status(path)
    return ImageRef(f"{path}:{status.st_size}:{status.st_mtime_ns}", lambda: open_image(path))


def from_visuals(visuals: Any, where: str, reopen: Callable[[], Any]) -> tuple[ImageRef, ...]:
    """What a task's ``doc_to_visual`` gave: images, or paths of images; None and an empty list are no image.

    ``reopen`` gives the same once more: pixels are hashed here, and not kept. Raises ``FaceDataError``.
    """
    return tuple(_from_visual(visual, where, index, reopen) for index, visual in enumerate(visuals or ()))


def _from_visual(visual: Any, where: str, index: int, reopen: Callable[[], Any]) -> ImageRef:
    if isinstance(visual, str | Path) and Path(visual).suffix.lower() in Image.registered_extensions():
        return from_path(Path(visual))
    if not isinstance(visual, Image.Image):
        kind = f"{visual!r}" if isinstance(visual, str) else type(visual).__name__
        raise FaceDataError(f"{where}: visual {index} is {kind}, not an image; this host reads no video and no audio")
    _check_size(visual, where)
    return ImageRef(content_key(visual), lambda: _rgb(reopen()[index]))


def _rgb(visual: Image.Image) -> Image.Image:
    return visual if visual.mode == "RGB" else visual.convert("RGB")


def content_key(image: Image.Image) -> str:
    """The same for the same pixels in RGB, and for no others."""
    pixels = _rgb(image)
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16)
    return f"{pixels.size}:{digest.hexdigest()}"


def _check_size(image: Image.Image, where: str) -> None:
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise FaceDataError(f"{where}: an image of {width}x{height} pixels; 1 to {MAX_PIXELS:,} are read", "too-large")


def keys(images: Sequence[ImageRef]) -> tuple[str, ...]:
    return tuple(image.key for image in images)
