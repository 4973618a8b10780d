"""How many tiles and LLM tokens an image or a video becomes, by the rules of its family."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..errors import FaceConfigError
from .shapes import Shapes


class Visual(NamedTuple):
    """What the tower and the LLM see of one sample."""

    tiles: int
    """Views of the tower's input size, the whole image among them; of a video its frames."""
    tokens: int


def of_image(shapes: Shapes, width: int, height: int) -> Visual:
    """An image of that many pixels.

    Anyres: the whole image, then the tiles of the best canvas without the rows and columns that are padding, and one
    newline token a row (LLaVA-NeXT's ``unpad_image``; the same count as transformers' processors').
    """
    if not shapes.pinpoints:
        return Visual(1, shapes.patches)
    side = int(shapes.vision["image_size"])
    canvas_height, canvas_width = best_canvas(width, height, shapes.pinpoints)
    rows, columns = canvas_height // side, canvas_width // side
    high, wide = _unpadded(shapes.grid * rows, shapes.grid * columns, width, height)
    if shapes.most_tiles is not None:
        ratio = math.sqrt(high * wide / (shapes.most_tiles * shapes.patches))
        if ratio > 1.1:
            high, wide = int(high // ratio), int(wide // ratio)
    return Visual(1 + rows * columns, shapes.patches + high * wide + high)


def of_video(shapes: Shapes, frames: int) -> Visual:
    """A video: each frame's patches are pooled 2 x 2; OneVision adds one newline token.

    Raises ``FaceConfigError`` for a family without video.
    """
    if shapes.family == "llava_next_video":
        return Visual(frames, frames * (shapes.grid // 2) ** 2)
    if shapes.family == "llava_onevision":
        return Visual(frames, frames * math.ceil(shapes.grid / 2) ** 2 + 1)
    raise FaceConfigError(f"{shapes.name}: {shapes.family} takes no video")


def of_tiles(shapes: Shapes, tiles: int) -> Visual:
    """So many whole tiles, newline tokens left out."""
    return Visual(tiles, tiles * shapes.patches)


def best_canvas(width: int, height: int, pinpoints: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """LLaVA's ``select_best_resolution``: (height, width) that keeps most pixels, then wastes fewest."""

    def kept_and_wasted(canvas: tuple[int, int]) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(pinpoints, key=kept_and_wasted)


def _unpadded(high: int, wide: int, width: int, height: int) -> tuple[int, int]:
    """The patches of a ``high`` x ``wide`` canvas that the image covers."""
    if width / height > wide / high:
        return high - 2 * ((high - int(round(height * (wide / width), 7))) // 2), wide
    return high, wide - 2 * ((wide - int(round(width * (high / height), 7))) // 2)
