"""Draws shapes into an image and its label map at once, so that the map is exact by construction.

Shapes are point lists in *face units*: the origin is the middle of the face, x grows to the right of the
picture, y downwards, and half the face is about 0.8 wide. Image and map are drawn at ``SS`` times the final
size; the image is averaged down (antialiased), the map sampled at the pixel centres (ids never mix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SS = 3
"""Supersampling. Odd, so that a pixel's centre is a sample."""

Colour = tuple[int, int, int]
Points = np.ndarray  # (N, 2) float


@dataclass(frozen=True)
class Frame:
    """Where face units land: ``scale`` pixels a unit, ``centre`` in pixels, ``roll`` in radians."""

    scale: float
    centre: tuple[float, float]
    roll: float = 0.0


class Canvas:
    """A picture and its map in the making; later shapes cover earlier ones."""

    def __init__(self, size: tuple[int, int], frame: Frame, background: Image.Image) -> None:
        self.size = size
        self.frame = frame
        large = (size[0] * SS, size[1] * SS)
        self.image = background.resize(large, Image.Resampling.BICUBIC)
        self.map = Image.new("L", large, 0)
        self._draw, self._draw_map = ImageDraw.Draw(self.image), ImageDraw.Draw(self.map)
        cos, sin = np.cos(frame.roll), np.sin(frame.roll)
        self._turn = np.array([[cos, sin], [-sin, cos]]) * frame.scale * SS
        self._origin = np.array(frame.centre) * SS

    def fill(self, points: Points, colour: Colour | None, label: int | None = None) -> None:
        """A filled polygon; ``colour`` None draws only the label, ``label`` None only the colour."""
        pixels = self._pixels(points)
        if colour is not None:
            self._draw.polygon(pixels, fill=colour)
        if label is not None:
            self._draw_map.polygon(pixels, fill=label)

    def stroke(self, points: Points, colour: Colour, width: float, label: int | None = None) -> None:
        """A line of ``width`` face units through the points."""
        pixels = self._pixels(points)
        thick = max(1, round(width * self.frame.scale * SS))
        self._draw.line(pixels, fill=colour, width=thick, joint="curve")
        if label is not None:
            self._draw_map.line(pixels, fill=label, width=thick, joint="curve")

    def glaze(
        self, points: Points, colour: Colour, strength: float, blur: float = 0.0, within: Sequence[int] = ()
    ) -> None:
        """Translucent colour (image only): ``strength`` 0..1, edge softened by ``blur`` face units.

        ``within``: only where the map has one of these ids so far. Soft shapes are drawn at final resolution.
        """
        step = 1 if blur == 0 else SS
        pixels = np.array(self._pixels(points)) / step
        soften = blur * self.frame.scale * SS / step
        margin = int(3 * soften) + 2
        bounds = np.array([s * SS // step for s in self.size])
        low = np.clip(np.floor(pixels.min(axis=0)).astype(int) - margin, 0, bounds)
        high = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + margin, 0, bounds)
        (left, top), (right, bottom) = low.tolist(), high.tolist()
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top), 0)
        shape = [(float(x), float(y)) for x, y in pixels - low]
        ImageDraw.Draw(mask).polygon(shape, fill=round(255 * strength))
        if soften:
            mask = mask.filter(ImageFilter.GaussianBlur(soften))
        box = (left * step, top * step, right * step, bottom * step)
        if step > 1:
            mask = mask.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR)
        if within:
            allowed = self.map.crop(box).point([255 if i in within else 0 for i in range(256)])
            mask = ImageChops.multiply(mask, allowed)
        self.image.paste(colour, box, mask)

    def finish(self) -> tuple[Image.Image, np.ndarray]:
        """The RGB image and its (H, W) uint8 map, both of the final size."""
        centre = SS // 2
        labels = np.asarray(self.map)[centre::SS, centre::SS]
        return self.image.reduce(SS), np.ascontiguousarray(labels)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in np.asarray(points) @ self._turn + self._origin]


def smooth(points: Sequence[Sequence[float]] | Points, closed: bool = True, steps: int = 6) -> Points:
    """A Catmull-Rom curve through the points, ``steps`` points a segment."""
    p = np.asarray(points, dtype=float)
    if closed:
        p0, p1, p2, p3 = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        p0, p1, p2, p3 = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (q[:, None] for q in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def ellipse(x: float, y: float, rx: float, ry: float, n: int = 28) -> Points:
    """An ellipse as a polygon."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def mirrored(right: Sequence[Sequence[float]]) -> Points:
    """A closed, symmetric outline from its right half, listed from top (x = 0) to bottom (x = 0)."""
    r = np.asarray(right, dtype=float)
    left = r[::-1].copy()
    left[:, 0] *= -1
    return np.concatenate([r, left[1:-1] if r[0, 0] == 0 and r[-1, 0] == 0 else left])


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """``a`` moved towards ``b`` by ``t`` in 0..1."""
    r, g, bl = (round(x + (y - x) * t) for x, y in zip(a, b, strict=True))
    return (r, g, bl)
