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
    pad = np.asarray(pad_colour, dtype=np.uint8)
    # Peeled off line by line from the edges: most images have no border, and then four lines are looked at.
    top, bottom, left, right = 0, pixels.shape[0], 0, pixels.shape[1]
    while top < bottom and (pixels[top] == pad).all():
        top += 1
    while top < bottom and (pixels[bottom - 1] == pad).all():
        bottom -= 1
    while left < right and (pixels[top:bottom, left] == pad).all():
        left += 1
    while left < right and (pixels[top:bottom, right - 1] == pad).all():
        right -= 1
    pixels = pixels[top:bottom, left:right]
    digest = hashlib.sha256(f"{pixels.shape[1]}x{pixels.shape[0]}:".encode())
    digest.update(np.ascontiguousarray(pixels).data if pixels.size else b"")
    return digest.hexdigest()
