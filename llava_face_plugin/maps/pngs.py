"""Maps of a png store as bytes: palette PNGs that carry their row in a text chunk."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from .files import DAMAGED, palette_bytes
from .rows import Row

TEXT_KEY = "llava-face"
COMPRESSION = 6
"""zlib level: 9 saves 27 % of the bytes and takes five times as long, 10 against 2 ms a map (measured on 100 maps of
CelebAMask-HQ, 512 x 512)."""


def encode_map(labels: np.ndarray, row: Row) -> bytes:
    """A palette PNG of (H, W) uint8 ids in ``labels.PALETTE``, with ``row`` in its text chunk ``llava-face``."""
    picture = Image.fromarray(labels)
    picture.putpalette(palette_bytes())
    text = PngImagePlugin.PngInfo()
    text.add_text(TEXT_KEY, row.to_json())
    out = io.BytesIO()
    picture.save(out, format="PNG", pnginfo=text, compress_level=COMPRESSION)
    return out.getvalue()


def row_of(path: Path) -> Row | None:
    """The row in a map's text chunk; None if there is no such file, or no row in it. The pixels are not decoded."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            text = picture.info.get(TEXT_KEY)
    except DAMAGED:
        return None
    return Row.from_json(text, str(path)) if isinstance(text, str) else None
