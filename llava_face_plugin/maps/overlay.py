"""Pictures of label maps: one blended image, or a contact sheet with a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..labels import FACE_PARTS, NO_MAP, NUM_PARTS, PALETTE
from .files import NO_MAP_COLOUR, atomic_path

Row = tuple[Image.Image, "np.ndarray | None"]

TILE = 200  # height of a tile in pixels
GAP = 10
INK, MUTED, PAPER, CARD = (38, 38, 44), (118, 118, 126), (246, 246, 244), (255, 255, 255)


def paint(labels: np.ndarray) -> Image.Image:
    """(H, W) uint8 ids as an RGB picture in MaskGAN's palette; 255 (no map) is gray."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[:NUM_PARTS] = PALETTE
    table[NO_MAP] = NO_MAP_COLOUR
    return Image.fromarray(table[labels])


def blend(image: Image.Image, labels: np.ndarray, alpha: float = 0.5) -> Image.Image:
    """The image with its map painted over it, ``alpha`` in [0, 1]; background and unknown pixels stay bare.

    A map of another size than the image is resized (nearest).
    """
    image = image.convert("RGB")
    if (labels.shape[1], labels.shape[0]) != image.size:
        labels = np.asarray(Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST))
    covered = (labels != 0) & (labels != NO_MAP)
    mask = Image.fromarray((covered * round(255 * alpha)).astype(np.uint8))
    return Image.composite(paint(labels), image, mask)


def contact_sheet(
    rows: Iterable[Row], path: str | Path, titles: Sequence[str] | None = None, *, columns: int | None = None
) -> Path:
    """Write a PNG of ``image | map | overlay`` cards, one a row of ``rows``, with a legend of the parts
    present.

    ``rows`` are (image, (H, W) uint8 map or None); ``titles`` one caption each; ``columns`` cards a line
    (default: 1 up to three rows, else 2). Returns ``path``.
    """
    rows = list(rows)
    titles = list(titles) if titles is not None else [""] * len(rows)
    columns = columns or (1 if len(rows) <= 3 else 2)
    cards = [_card(image, labels, title) for (image, labels), title in zip(rows, titles, strict=True)]
    width = max((c.width for c in cards), default=3 * TILE)
    height = max((c.height for c in cards), default=0)
    lines = -(-len(cards) // columns)
    sheet_width = columns * width + (columns + 1) * GAP
    legend = _legend([labels for _, labels in rows if labels is not None], sheet_width - 2 * GAP)
    sheet = Image.new("RGB", (sheet_width, lines * (height + GAP) + legend.height + 2 * GAP), PAPER)
    for i, card in enumerate(cards):
        frame = Image.new("RGB", (width, height), CARD)
        frame.paste(card)
        sheet.paste(frame, (GAP + (i % columns) * (width + GAP), GAP + (i // columns) * (height + GAP)))
    sheet.paste(legend, (GAP, GAP + lines * (height + GAP)))
    path = Path(path)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def _card(image: Image.Image, labels: np.ndarray | None, title: str) -> Image.Image:
    tiles = [_tile(image.convert("RGB"))]
    if labels is not None:
        tiles.append(_tile(paint(labels), Image.Resampling.NEAREST))
        tiles.append(_tile(blend(image, labels)))
    tile_width = max(t.width for t in tiles)
    font = _font(13)
    size = (3 * tile_width + 4 * GAP, TILE + 2 * GAP + (22 if title else 0))
    card = Image.new("RGB", size, CARD)
    draw = ImageDraw.Draw(card)
    for i, tile in enumerate(tiles):
        card.paste(tile, (GAP + i * (tile_width + GAP) + (tile_width - tile.width) // 2, GAP))
    if labels is None:
        draw.text((2 * GAP + tile_width, GAP + TILE // 2), "no map", fill=MUTED, font=font)
    if title:
        draw.text((GAP, TILE + 2 * GAP), _shortened(title, font, size[0] - 2 * GAP), fill=INK, font=font)
    return card


def _tile(picture: Image.Image, how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    # Very wide pictures would make every card wide: they are fitted into a square and a half.
    scale = min(TILE / picture.height, 1.5 * TILE / picture.width)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), how)


def _legend(maps: Sequence[np.ndarray], width: int) -> Image.Image:
    counts = np.zeros(256, dtype=np.int64)
    for labels in maps:
        counts += np.bincount(labels.reshape(-1), minlength=256)
    parts = [i for i in range(1, NUM_PARTS) if counts[i]]
    font, cell, line = _font(13), 92, 24
    per_line = max(1, width // cell)
    legend = Image.new("RGB", (width, max(1, -(-len(parts) // per_line)) * line), PAPER)
    draw = ImageDraw.Draw(legend)
    for n, part in enumerate(parts):
        x, y = (n % per_line) * cell, (n // per_line) * line
        draw.rectangle((x, y + 5, x + 14, y + 19), fill=tuple(int(v) for v in PALETTE[part]), outline=INK)
        draw.text((x + 21, y + 4), FACE_PARTS[part], fill=INK, font=font)
    return legend


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
