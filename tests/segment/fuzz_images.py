"""Malformed image files of many kinds, the same ones for the same seed; no file is larger than a few kB."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

Maker = Callable[[Random], bytes]
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF"}


def good(random: Random, form: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A valid image."""
    noise = np.random.default_rng(random.randrange(2**32)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return saved(Image.fromarray(noise), form)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png(width: int, height: int, data: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG from its parts, which need not fit together."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _any(random: Random) -> bytes:
    return good(random, random.choice(list(FORMATS.values())))


def _cut(random: Random) -> bytes:
    """Less than half of a file: no decoder takes that for whole."""
    data = _any(random)
    return data[: random.randrange(12, len(data) // 2)]


def _flipped(random: Random) -> bytes:
    data = bytearray(_any(random))
    for _ in range(random.randrange(1, 40)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _hole(random: Random) -> bytes:
    data = _any(random)
    at = random.randrange(len(data) - 20)
    return data[:at] + bytes(random.randrange(1, 20)) + data[at + random.randrange(1, 20) :]


def _magic(random: Random) -> bytes:
    start = random.choice(
        [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*", b"RIFF"]
    )
    return start + random.randbytes(random.randrange(0, 400))


def _exif(random: Random) -> bytes:
    """A good picture with nonsense for EXIF."""
    image = Image.open(io.BytesIO(good(random)))
    return saved(image, "JPEG", exif=b"Exif\x00\x00" + random.randbytes(random.randrange(0, 60)))


def _tiff(random: Random) -> bytes:
    """Tags that point anywhere."""
    count = random.randrange(1, 12)
    tags = b"".join(
        struct.pack("<HHII", random.choice([256, 257, 258, 259, 262, 273, 274, 277, 279, 330]), random.randrange(1, 13),
                    random.randrange(0, 2**random.randrange(1, 32)), random.randrange(0, 2**random.randrange(1, 32)))
        for _ in range(count)
    )  # fmt: skip
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", count) + tags + struct.pack("<I", random.choice([0, 8]))


def _gif(random: Random) -> bytes:
    frames = [Image.open(io.BytesIO(good(random, "PNG", (12, 9)))) for _ in range(3)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return data[: random.randrange(13, len(data) // 4)]


@functools.cache
def _text_bomb() -> bytes:
    """70 MB of zeros in text chunks."""
    return png(4, 4, bytes(60), extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**20))) * 70)


KINDS: dict[str, Maker] = {
    "zero-byte": lambda r: b"",
    "one-byte": lambda r: r.randbytes(1),
    "text": lambda r: ("lorem ipsum " * r.randrange(1, 50)).encode(),
    "html": lambda r: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "json": lambda r: b'{"error": "rate limited", "code": 429}',
    "svg": lambda r: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
    "random": lambda r: r.randbytes(r.randrange(1, 2000)),
    "zeros": lambda r: bytes(r.randrange(1, 2000)),
    "gzip": lambda r: gzip.compress(good(r), mtime=0),
    "ppm": lambda r: b"P6 4 4 255 " + r.randbytes(48),
    "magic": _magic,
    "cut": _cut,
    "cut-jpeg": lambda r: good(r)[: r.randrange(20, 400)],
    "flipped": _flipped,
    "hole": _hole,
    "bomb": lambda r: png(*r.choice([(9000, 9000), (30000, 30000), (2**31 - 1, 2**31 - 1)]), b"\0" * 100),
    "bomb-bmp": lambda r: good(r, "BMP")[:18] + struct.pack("<ii", 60000, 60000) + good(r, "BMP")[26:],
    "no-size": lambda r: png(0, r.randrange(0, 9), b""),
    "short-data": lambda r: png(50, 50, r.randbytes(r.randrange(1, 100))),
    "odd-depth": lambda r: png(8, 8, bytes(300), depth=r.choice([0, 3, 7, 17]), colour=r.choice([1, 5, 9])),
    "bad-crc": lambda r: good(r, "PNG")[:29] + b"\0\0\0\0" + good(r, "PNG")[33:],
    "text-bomb": lambda r: _text_bomb(),
    "exif": _exif,
    "tiff": _tiff,
    "gif": _gif,
}
"""Kinds of malformed files. Some pictures can be read all the same: ``exif``, and a few of ``flipped`` and ``hole``."""

REASONS: dict[str, set[str]] = {
    "zero-byte": {"empty"}, "text": {"format"}, "html": {"format"}, "json": {"format"}, "svg": {"format"},
    "random": {"format"}, "zeros": {"format"}, "gzip": {"format"}, "ppm": {"format"}, "one-byte": {"format"},
    "bomb": {"too-large"}, "bomb-bmp": {"too-large"}, "cut": {"damaged"}, "cut-jpeg": {"damaged"}, "gif": {"damaged"},
    "short-data": {"damaged"}, "odd-depth": {"damaged"}, "bad-crc": {"damaged"}, "no-size": {"damaged"},
    "text-bomb": {"damaged"}, "tiff": {"damaged"},
}  # fmt: skip
"""Why files of a kind must fail, where there is no doubt."""


def write_malformed(folder: Path, n: int, seed: int = 0) -> dict[str, str]:
    """``n`` files, every kind about equally often; name -> kind."""
    random = Random(seed)
    kinds = {}
    for i in range(n):
        kind = list(KINDS)[i % len(KINDS)]
        name = f"{kind}/{i:03d}{random.choice(list(FORMATS))}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(KINDS[kind](random))
        kinds[name] = kind
    return kinds
