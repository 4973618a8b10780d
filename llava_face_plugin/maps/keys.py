"""The key under which a map is filed where no path is known: a hash of its image's pixels.

Upstream's inference scripts hand over pixels and no path, some of them already padded to a square. So borders in the
padding colour do not count: an image and its padded form have the same key.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

PAD_COLOUR = (122, 116, 104)
"""What LLaVA's ``expand2square`` pads with: ``int(255 * mean)`` of CLIP's image mean."""


def pixel_key(image: Image.Image, pad_colour: tuple[int, int, int] = PAD_COLOUR) -> str:
    """sha256 (hex) of size and RGB pixels, borders that consist wholly of ``pad_colour`` cropped away."""
    pixels = np.asarray(image.convert("RGB"))
    drawn = (pixels != np.asarray(pad_colour, dtype=np.uint8)).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if rows.size:
        pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    else:
        pixels = pixels[:0, :0]
    digest = hashlib.sha256(f"{pixels.shape[1]}x{pixels.shape[0]}:".encode())
    digest.update(np.ascontiguousarray(pixels).data if pixels.size else b"")
    return digest.hexdigest()
