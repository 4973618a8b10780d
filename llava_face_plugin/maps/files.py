"""Label maps and images on disk: strict reading, atomic writing.

A map is a palette or 8-bit gray PNG whose *pixel values* are the canonical part ids (or a 2-D ``.npy`` array of
them). It is never converted through RGB, which would replace the ids by colours.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from ..errors import FaceDataError
from ..labels import NO_MAP, NUM_PARTS, PALETTE

MAX_PIXELS = 64_000_000
"""Largest picture that is read, in pixels (our default): a guard against decompression bombs."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Formats of images. LLaVA opens any that Pillow knows; these are the ones that occur in data sets."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""How names of images end, in lower case."""

NO_MAP_COLOUR = (128, 128, 128)

DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""Everything Pillow's decoders raise on a damaged file."""


def read_map(path: str | Path, *, size: tuple[int, int] | None = None, sample: str = "") -> np.ndarray:
    """The label map in a PNG or ``.npy`` file: (H, W) uint8, ids 0..18 or 255 (no map).

    ``size`` is the wanted (width, height); ``sample`` is named in errors. Raises ``FaceDataError`` if the file is
    missing, truncated, no map (see ``read_ids``), too large, of another size, or has other ids.
    """
    where = _where("face map", path, sample)
    labels = read_ids(path, sample=sample)
    if size is not None and labels.shape[::-1] != tuple(size):
        raise FaceDataError(f"{where}: size {_by(labels.shape[::-1])}, but the image has {_by(size)}")
    check_ids(labels, where)
    return labels


def read_ids(path: str | Path, *, sample: str = "") -> np.ndarray:
    """The pixel values of a palette or 8-bit gray PNG, or of a 2-D ``.npy`` array: (H, W) uint8, any ids.

    Pillow scales gray values of fewer bits (of 4 bits, 1 becomes 17); it leaves palette indices as they are.

    Raises ``FaceDataError`` if the file is missing, truncated, neither of these, or above ``MAX_PIXELS``.
    """
    where = _where("face map", path, sample)
    if Path(path).suffix == ".npy":
        return _read_npy(Path(path), where)
    with _open(path, where, ("PNG",)) as picture:
        return _ids(picture, where)


def ids_of_png(data: bytes, where: str) -> np.ndarray:
    """As ``read_ids``, of a PNG's bytes; ``where`` is named in errors."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG",))
    except DAMAGED as error:
        raise FaceDataError(f"{where}: not a readable PNG ({error})", "format") from error
    with picture:
        return _ids(_limited(picture, where), where)


def _ids(picture: Image.Image, where: str) -> np.ndarray:
    if picture.mode not in ("P", "L"):
        raise FaceDataError(
            f"{where}: a map must be a palette or 8-bit gray PNG of part ids, this one has mode {picture.mode} "
            f"(a map saved as colours cannot be read back)"
        )
    if picture.mode == "L" and (bits := _bits(picture)) != 8:
        raise FaceDataError(f"{where}: a gray PNG of {bits} bits a pixel; save the map as an 8-bit gray or palette PNG")
    return np.asarray(_decoded(picture, where), dtype=np.uint8)


def _bits(picture: Image.Image) -> int:
    """Bits a pixel and channel of a PNG that is open and not yet decoded: the ninth byte of its first chunk, IHDR."""
    file = picture.fp  # type: ignore[attr-defined]
    place = file.tell()
    file.seek(8 + 4 + 4 + 4 + 4)
    bits = file.read(1)[0]
    file.seek(place)
    return int(bits)


def _read_npy(path: Path, where: str) -> np.ndarray:
    if not path.is_file():
        raise FaceDataError(f"{where}: no such file", "missing")
    try:
        # mapped first: a header may promise any size
        values = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise FaceDataError(f"{where}: not a readable .npy array ({error})", "format") from error
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise FaceDataError(f"{where}: expected a 2-D array of integer ids, got {values.dtype} {values.shape}")
    if values.size > MAX_PIXELS:
        raise FaceDataError(f"{where}: {values.size:,} pixels, more than the limit of {MAX_PIXELS:,}", "too-large")
    if values.size and (values.min() < 0 or values.max() > NO_MAP):
        raise FaceDataError(f"{where}: ids {values.min()}..{values.max()}, expected 0..{NO_MAP}")
    return np.array(values, dtype=np.uint8)


def write_map(path: str | Path, labels: np.ndarray) -> None:
    """Write (H, W) uint8 ids as a palette PNG with ``labels.PALETTE``; it appears whole or not at all."""
    path = Path(path)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise FaceDataError(f"face map {path}: expected (H, W) uint8, got {labels.dtype} of shape {labels.shape}")
    check_ids(labels, f"face map {path}")
    picture = Image.fromarray(labels)
    picture.putpalette(palette_bytes())
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def open_image(path: str | Path, *, sample: str = "") -> Image.Image:
    """An RGB image, read as upstream reads it (``convert("RGB")``, EXIF rotation not applied).

    Raises ``FaceDataError`` if the file is missing, damaged, in none of ``IMAGE_FORMATS``, or above ``MAX_PIXELS``.
    """
    where = _where("image", path, sample)
    with _open(path, where, IMAGE_FORMATS) as picture:
        return _decoded(picture, where).convert("RGB")


def image_size(path: str | Path, *, sample: str = "") -> tuple[int, int]:
    """(width, height) from the header alone; the same errors as ``open_image``, except for damaged pixels."""
    with _open(path, _where("image", path, sample), IMAGE_FORMATS) as picture:
        return picture.size


def check_ids(labels: np.ndarray, where: str) -> None:
    """Raises ``FaceDataError`` naming ``where`` and every value that is neither a part id nor 255."""
    if not labels.size or labels.max() < NUM_PARTS:
        return  # the usual case, and fifty times faster than counting
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    bad = [int(v) for v in present if v >= NUM_PARTS and v != NO_MAP]
    if bad:
        raise FaceDataError(f"{where}: unknown part ids {bad}; canonical ids are 0..{NUM_PARTS - 1}, {NO_MAP} = no map")


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one (width, height) is the other one scaled, within a pixel of rounding."""
    (w, h), (other_w, other_h) = size, other
    return abs(w * other_h - h * other_w) <= max(w, h, other_w, other_h)


class atomic_path:
    """``with atomic_path(p) as t``: write to ``t``; it becomes ``p`` on success and vanishes on an error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".tmp")
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.temporary.unlink(missing_ok=True)
            return
        # mkstemp makes private files; give the result the permissions any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        self.temporary.chmod(0o666 & ~mask)
        os.replace(self.temporary, self.path)


def _open(path: str | Path, where: str, formats: tuple[str, ...]) -> Image.Image:
    if not Path(path).is_file():
        raise FaceDataError(f"{where}: no such file", "missing")
    try:
        picture = Image.open(path, formats=formats)
    except DAMAGED as error:
        reason = "empty" if Path(path).stat().st_size == 0 else "format"
        raise FaceDataError(f"{where}: not a readable {'/'.join(formats)} file ({error})", reason) from error
    return _limited(picture, where)


def _limited(picture: Image.Image, where: str) -> Image.Image:
    if picture.width * picture.height > MAX_PIXELS:
        size = picture.size
        picture.close()
        raise FaceDataError(f"{where}: {_by(size)} pixels, more than the limit of {MAX_PIXELS:,}", "too-large")
    return picture


@contextmanager
def whole_images() -> Iterator[None]:
    """In here Pillow refuses truncated files, whatever its switch for the whole process says.

    Importing lmms-eval 0.7.3 turns that on: the missing part of a picture, or of a map, would silently be one colour.
    """
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _decoded(picture: Image.Image, where: str) -> Image.Image:
    try:
        with whole_images():
            picture.load()
    except DAMAGED as error:
        raise FaceDataError(f"{where}: damaged or truncated ({error})", "damaged") from error
    return picture


def palette_bytes() -> bytes:
    """The 256 RGB colours that maps are written with: ``labels.PALETTE``, and gray for 255."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[:NUM_PARTS] = PALETTE
    table[NO_MAP] = NO_MAP_COLOUR
    return table.tobytes()


def _where(kind: str, path: str | Path, sample: str) -> str:
    return f"{kind} {path}" + (f" (sample {sample})" if sample else "")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
