"""One request of lmms-eval as the engine takes it, and the images or videos it is about."""

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
from .clips import Clips, is_clip
from .generation import Generation
from .host import Visual


@dataclass(frozen=True)
class ImageRef:
    """An image, or a video, by the key of its content, opened when it is needed."""

    key: str
    open: Callable[[], Visual]
    kind: str = "image"
    """``image`` or ``video``."""


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


def from_video(path: Path, clips: Clips) -> ImageRef:
    """A video file or a folder of frames. Raises ``FaceDataError`` if there is none."""
    return ImageRef(clips.key(path), lambda: clips.read(path), "video")


def from_visuals(
    visuals: Any, where: str, reopen: Callable[[], Any], clips: Clips | None = None
) -> tuple[ImageRef, ...]:
    """What a task's ``doc_to_visual`` gave: images, or paths of images or videos; None and an empty list are nothing.

    ``reopen`` gives the same once more: pixels are hashed here, and not kept. ``clips``: how videos are shown; None
    where the host reads none. Raises ``FaceDataError``.
    """
    found = tuple(_from_visual(visual, where, index, reopen, clips) for index, visual in enumerate(visuals or ()))
    if len({one.kind for one in found}) > 1:  # templates put images before videos, in whichever order they came
        raise FaceDataError(f"{where}: images and videos in one question are not supported")
    return found


def _from_visual(visual: Any, where: str, index: int, reopen: Callable[[], Any], clips: Clips | None) -> ImageRef:
    if clips is not None and isinstance(visual, str | Path) and is_clip(Path(visual)):
        return from_video(Path(visual), clips)
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
