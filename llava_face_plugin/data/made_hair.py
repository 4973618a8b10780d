"""Hair and hats of made faces (see ``made_face.py``)."""

from __future__ import annotations

import numpy as np

from .made_canvas import Colour, Points, ellipse, mirrored, mix, smooth
from .made_portrait import ID, Portrait

HAIR, HAT, SKIN = ID["hair"], ID["hat"], ID["skin"]

HATS: tuple[Colour, ...] = (
    (166, 40, 48), (38, 66, 120), (48, 104, 78), (196, 160, 104), (60, 58, 64), (214, 128, 48),
    (120, 74, 132),
)  # fmt: skip

# One colour family an attribute, far enough apart to be told; the last has none of the four (red or dyed).
_COLOURS: dict[str, tuple[Colour, ...]] = {
    "Black_Hair": ((22, 20, 24), (32, 28, 30)),
    "Brown_Hair": ((98, 62, 36), (122, 78, 46), (82, 50, 30)),
    "Blond_Hair": ((226, 190, 112), (236, 208, 142), (212, 170, 92)),
    "Gray_Hair": ((168, 168, 172), (198, 198, 202), (146, 148, 154)),
    "": ((186, 74, 30), (172, 58, 34), (190, 74, 140), (52, 140, 150)),
}


def colour(on: dict[str, bool], rng: np.random.Generator) -> Colour:
    """A hair colour (for a bald head: that of brows and beard) true to the attributes."""
    name = next((n for n in _COLOURS if n and on[n]), "")
    family = _COLOURS[name]
    if on["Bald"]:
        family = _COLOURS["Brown_Hair" if on["Young"] else "Gray_Hair"]
    elif not name and on["Male"]:
        family = family[:2]
    return family[int(rng.integers(len(family)))]


def back(p: Portrait) -> None:
    """Long hair behind neck and shoulders."""
    if not p.long or p.on["Bald"]:
        return
    end = p.length
    half = [
        (0, -1.40),
        (0.5, -1.30),
        (0.86, -0.9),
        (0.98, -0.3),
        (1.0, 0.3),
        (1.0, (end + 0.3) / 2),
        (0.9, end),
        (0.5, end + 0.04),
        (0, end),
    ]
    p.canvas.fill(_waved(p, smooth(mirrored(half))), mix(p.hair, (0, 0, 0), 0.32), HAIR)


def front_strands(p: Portrait) -> None:
    """Long hair that falls in front of the shoulders, before the face is drawn over its inner edge."""
    if not p.long or p.on["Bald"] or p.length < 1.0:
        return
    for side in (-1, 1):
        outer = [(0.95, -0.2), (1.02, 0.4), (1.02, 1.0), (0.96, p.length)]
        inner = [(0.66, p.length + 0.06), (0.56, 1.2), (0.6, 0.6), (0.7, -0.2)]
        lock = _waved(p, smooth(np.array(outer + inner) * [side, 1]))
        p.canvas.fill(lock, p.hair, HAIR)
        _lines(p, np.array(outer) * [side, 1], np.array(inner[::-1]) * [side, 1], 5)


def front(p: Portrait) -> None:
    """Hair on and around the face: cap of hair, sides, bangs."""
    if p.on["Bald"]:
        if not p.on["Wearing_Hat"]:
            shine = ellipse(p.parting, -0.95, 0.22, 0.1)
            p.canvas.glaze(shine, (255, 255, 255), 0.55, 0.06, (SKIN,))
        return
    if p.long:
        _long(p)
    else:
        _short(p)
    if p.on["Bangs"]:
        _bangs(p)


def _short(p: Portrait) -> None:
    w = p.wide
    high = p.between(0.0, 0.1) if p.on["Young"] else p.between(0.08, 0.2)  # the hairline recedes with age
    top = p.between(1.36, 1.5)
    outer = [(-w - 0.04, 0.0), (-w - 0.09, -0.45), (-w + 0.02, -0.95), (-0.42, -top + 0.08),
             (p.parting * 0.4, -top), (0.42, -top + 0.08), (w - 0.02, -0.95), (w + 0.09, -0.45),
             (w + 0.04, 0.0)]  # fmt: skip
    inner = [(-w + 0.08, 0.02), (-w + 0.07, -0.38), (-w + 0.19, -0.66 - high), (-0.36, -0.82 - 1.3 * high),
             (p.parting * 0.5, -0.80 - 0.6 * high), (0.36, -0.82 - 1.3 * high), (w - 0.19, -0.66 - high),
             (w - 0.07, -0.38), (w - 0.08, 0.02)]  # fmt: skip
    shift = [0.12 * np.sin(p.yaw), 0]
    rim, edge = np.array(outer), np.array(inner) + shift
    _shadow(p, edge)
    p.canvas.fill(_closed(rim, edge), p.hair, HAIR)
    _lines(p, rim, edge, 4)
    _gloss(p, -top + 0.28)


def _long(p: Portrait) -> None:
    w, end = p.wide, min(p.length, 1.25)
    shift = 0.12 * np.sin(p.yaw)
    crown = (p.parting, -1.02)
    for side in (-1, 1):
        outer = np.array(
            [
                (p.parting * side, -1.42),
                (0.52, -1.30),
                (w + 0.08, -0.9),
                (w + 0.18, -0.3),
                (w + 0.19, 0.3),
                (w + 0.17, end),
            ]
        )
        inner = np.array(
            [
                (crown[0] * side, -0.98),
                (0.36, -0.88),
                (w - 0.18, -0.6),
                (w - 0.10, -0.15),
                (w - 0.04, 0.3),
                (w - 0.12, end),
            ]
        )
        outer, inner = outer * [side, 1], inner * [side, 1] + [shift, 0]
        _shadow(p, inner[:4])
        p.canvas.fill(_waved(p, _closed(outer, inner)), p.hair, HAIR)
        _lines(p, outer, inner, 6)
    if not p.on["Bangs"]:
        part = np.array([(p.parting, -1.41), (p.parting + shift, -0.99)])
        p.canvas.stroke(part, mix(p.hair, (0, 0, 0), 0.4), 0.02, HAIR)
    _gloss(p, -1.12)


def _bangs(p: Portrait) -> None:
    w = p.wide - 0.06
    low = p.between(-0.50, -0.43)
    n = int(p.rng.integers(7, 12))
    x = np.linspace(-w, w, 2 * n + 1)
    tips = np.stack([x, low + 0.10 * (x / w) ** 2], axis=1)
    tips[1::2, 1] -= p.rng.uniform(0.04, 0.12, n)  # gaps between the strands
    roots = smooth([(-w, -0.75), (-0.5, -1.16), (0, -1.27), (0.5, -1.16), (w, -0.75)], closed=False)
    fringe = p.turn(np.concatenate([roots, tips[::-1]]), -0.3)
    p.canvas.glaze(np.add(fringe, [0, 0.06]), p.shade, 0.6, 0.04, (SKIN,))
    p.canvas.fill(fringe, p.hair, HAIR)
    dark = mix(p.hair, (0, 0, 0), 0.3)
    for t in tips[1::2]:
        strand = smooth([(t[0] * 0.35, -1.22), (t[0] * 0.85, -0.9), (t[0], t[1])], closed=False)
        p.canvas.stroke(p.turn(strand, -0.3), dark, 0.02, HAIR)
    _gloss(p, -0.98)


def hat(p: Portrait) -> None:
    """A beanie, a cap or a hat with a brim, over the hair."""
    if not p.on["Wearing_Hat"]:
        return
    main = p.pick(HATS)
    trim = p.pick(tuple(c for c in HATS if c != main))
    (_beanie, _cap, _brimmed)[int(p.rng.integers(3))](p, main, trim)


def _beanie(p: Portrait, main: Colour, trim: Colour) -> None:
    w = p.wide + 0.14
    dome = smooth(mirrored([(0, -1.66), (0.45, -1.58), (w - 0.12, -1.25), (w, -0.80), (w - 0.02, -0.70), (0, -0.66)]))
    if p.rng.random() < 0.5:
        p.canvas.fill(ellipse(0, -1.70, 0.2, 0.19), mix(trim, (255, 255, 255), 0.3), HAT)
    p.canvas.fill(dome, main, HAT)
    for x in np.linspace(-0.8, 0.8, 9):
        rib = smooth([(x * 0.35, -1.6), (x * 0.85, -1.25), (x, -0.85)], closed=False)
        p.canvas.stroke(rib, mix(main, (0, 0, 0), 0.22), 0.022)
    band = np.concatenate([_arc(w + 0.02, -0.92, -0.12), _arc(w + 0.02, -0.62, -0.08)[::-1]])
    p.canvas.fill(band, mix(main, trim, 0.8), HAT)
    p.canvas.glaze(_under(w - 0.1, -0.56), p.shade, 0.55, 0.05, (SKIN,))


def _cap(p: Portrait, main: Colour, trim: Colour) -> None:
    w = p.wide + 0.10
    dome = smooth(mirrored([(0, -1.58), (0.45, -1.50), (w - 0.10, -1.18), (w, -0.74), (w - 0.1, -0.66), (0, -0.66)]))
    p.canvas.fill(dome, main, HAT)
    for x in (-0.5, 0.5):
        seam = smooth([(0, -1.57), (x, -1.3), (x * 1.25, -0.72)], closed=False)
        p.canvas.stroke(seam, mix(main, (0, 0, 0), 0.3), 0.02)
    p.canvas.fill(ellipse(0.5 * np.sin(p.yaw), -1.06, 0.17, 0.15), mix(trim, (255, 255, 255), 0.35), HAT)
    p.canvas.glaze(_under(0.8, -0.48), p.shade, 0.65, 0.06, (SKIN,))
    visor = np.concatenate([_arc(0.84, -0.74, -0.14), _arc(0.84, -0.66, 0.16)[::-1]])
    visor[:, 0] += 0.45 * np.sin(p.yaw)
    p.canvas.fill(visor, mix(main, trim, 0.55), HAT)
    rim = visor[: len(visor) // 2]
    p.canvas.stroke(rim, mix(main, (0, 0, 0), 0.45), 0.03, HAT)


def _brimmed(p: Portrait, main: Colour, trim: Colour) -> None:
    crown = smooth(mirrored([(0, -1.52), (0.34, -1.62), (0.62, -1.48), (0.78, -0.9), (0.74, -0.76), (0, -0.72)]))
    p.canvas.glaze(_under(0.85, -0.50), p.shade, 0.6, 0.06, (SKIN,))
    p.canvas.fill(ellipse(0, -0.78, 1.34, 0.20, 40), mix(main, (0, 0, 0), 0.22), HAT)
    p.canvas.fill(ellipse(0, -0.82, 1.34, 0.18, 40), main, HAT)
    p.canvas.fill(crown, main, HAT)
    p.canvas.glaze(np.array([(0.2, -1.6), (0.9, -1.5), (0.9, -0.7), (0.3, -0.7)]), (0, 0, 0), 0.25, 0.12, (HAT,))
    band = np.concatenate([_arc(0.765, -1.02, 0.07), _arc(0.775, -0.84, 0.07)[::-1]])
    p.canvas.fill(band, trim, HAT)


def _closed(outer: Points, inner: Points) -> Points:
    return np.concatenate([smooth(outer, closed=False), smooth(inner, closed=False)[::-1]])


def _waved(p: Portrait, points: Points) -> Points:
    """Hair outlines swing with the wave, more so further down."""
    moved = points.copy()
    moved[:, 0] += p.wave * np.sin(6.5 * points[:, 1]) * np.clip(points[:, 1] + 0.6, 0, 1.2) * np.sign(points[:, 0])
    return moved


def _lines(p: Portrait, outer: Points, inner: Points, n: int) -> None:
    """Strands between the two edges of a lock, alternately darker and lighter."""
    for i, t in enumerate(np.linspace(0.12, 0.88, n)):
        strand = _waved(p, smooth(outer * (1 - t) + inner * t, closed=False))
        tone = mix(p.hair, (0, 0, 0), 0.28) if i % 2 == 0 else mix(p.hair, (255, 240, 220), 0.11)
        p.canvas.stroke(strand, tone, 0.02, HAIR)


def _gloss(p: Portrait, y: float) -> None:
    light = smooth([(-0.5, y + 0.12), (0, y), (0.5, y + 0.12), (0, y + 0.07)])
    p.canvas.glaze(light, mix(p.hair, (255, 250, 240), 0.6), 0.45, 0.05, (HAIR,))


def _shadow(p: Portrait, edge: Points) -> None:
    """The soft shadow of the hair on the skin."""
    band = np.concatenate([edge, edge[::-1] * [0.93, 1] + [0, 0.09]])
    p.canvas.glaze(band, p.shade, 0.6, 0.04, (SKIN,))


def _arc(half: float, y: float, bend: float) -> Points:
    x = np.linspace(-half, half, 25)
    return np.stack([x, y + bend * (1 - (x / half) ** 2)], axis=1)


def _under(half: float, y: float) -> Points:
    return np.concatenate([_arc(half, y - 0.2, 0.0), _arc(half, y, 0.06)[::-1]])
