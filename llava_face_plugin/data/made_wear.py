"""Clothes, necklaces, eyeglasses and earrings of made faces (see ``made_face.py``)."""

from __future__ import annotations

import numpy as np

from .made_canvas import Colour, ellipse, mix, smooth
from .made_portrait import ID, Portrait

CLOTHES: tuple[Colour, ...] = (
    (44, 62, 92), (128, 44, 52), (228, 226, 218), (58, 60, 66), (62, 106, 92), (196, 150, 66), (112, 92, 140),
    (88, 134, 176), (210, 120, 104),
)  # fmt: skip
METALS: tuple[Colour, ...] = ((224, 178, 60), (206, 210, 218), (232, 196, 110))
FRAMES: tuple[Colour, ...] = ((30, 28, 32), (94, 52, 32), (150, 36, 44), (64, 74, 96), (168, 140, 74))


def clothes(p: Portrait) -> None:
    """Shoulders and neckline, and the necklace on them."""
    cloth = p.pick(CLOTHES)
    dark = mix(cloth, (0, 0, 0), 0.35)
    dip = p.between(1.60, 1.72) if p.rng.random() < 0.6 else p.between(1.85, 2.0)
    w = 0.52 if p.on["Male"] else 0.44
    half = [(w, 1.40), (w + 0.24, 1.49), (1.12, 1.62), (1.5, 1.82), (1.75, 2.3), (1.85, 3.2), (0, 3.2)]
    sides = smooth(half, closed=False)
    neckline = smooth([(-w, 1.40), (-w * 0.62, (1.40 + 2 * dip) / 3), (0, dip),
                       (w * 0.62, (1.40 + 2 * dip) / 3), (w, 1.40)], closed=False)  # fmt: skip
    outline = np.concatenate([neckline, sides, (sides * [-1, 1])[::-1]])
    p.canvas.fill(outline, cloth, ID["cloth"])
    p.canvas.glaze(np.array([(0.1, 1.3), (2.2, 1.4), (2.2, 3.4), (0.9, 3.4)]), dark, 0.45, 0.2, (ID["cloth"],))
    p.canvas.stroke(neckline, dark, 0.05, ID["cloth"])
    if dip < 1.75 and p.rng.random() < 0.4:
        _collar(p, w, mix(cloth, (255, 255, 255), 0.55))
    if p.on["Wearing_Necklace"]:
        _necklace(p, w)


def _collar(p: Portrait, w: float, colour: Colour) -> None:
    for side in (-1, 1):
        flap = np.array([(side * w, 1.30), (side * 0.02, 1.74), (side * 0.26, 1.98), (side * (w + 0.2), 1.50)])
        p.canvas.fill(flap, colour, ID["cloth"])
        p.canvas.stroke(flap[[1, 2, 3]], mix(colour, (0, 0, 0), 0.3), 0.02, ID["cloth"])


def _necklace(p: Portrait, w: float) -> None:
    drop = p.between(1.60, 1.82)
    t = np.linspace(-1, 1, 23)
    chain = np.stack([t * (w + 0.02), drop - (drop - 1.34) * np.abs(t) ** 1.8], axis=1)
    if p.rng.random() < 0.4:
        for x, y in chain:
            p.canvas.fill(ellipse(x, y, 0.052, 0.052, 12), (238, 232, 222), ID["neck_l"])
            p.canvas.fill(ellipse(x - 0.012, y - 0.014, 0.018, 0.018, 8), (255, 255, 255), ID["neck_l"])
        return
    metal = p.pick(METALS)
    p.canvas.stroke(chain, mix(metal, (60, 40, 0), 0.45), 0.062, ID["neck_l"])
    p.canvas.stroke(chain - [0, 0.008], metal, 0.034)
    stone = p.pick(((188, 30, 60), (36, 96, 178), (40, 140, 96), metal))
    p.canvas.fill(ellipse(0, drop + 0.07, 0.075, 0.09), mix(metal, (60, 40, 0), 0.3), ID["neck_l"])
    p.canvas.fill(ellipse(0, drop + 0.07, 0.05, 0.065), stone, ID["neck_l"])


def eyeglass_lenses(p: Portrait) -> None:
    """Only the label: eyes and brows are drawn over it."""
    if not p.on["Eyeglasses"]:
        return
    kind = p.rng.choice(["round", "square", "aviator"])
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    power = {"round": 1.0, "square": 0.5, "aviator": 0.75}[kind]
    shape = np.stack(
        [np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power, np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power], 1
    )
    shape *= [0.235, 0.19] if kind == "round" else [0.25, 0.165]
    if kind == "aviator":
        shape[:, 0] *= 1 - 0.18 * (shape[:, 1] / 0.165)
    p.lenses = [p.turn(shape * [side, 1] + [side * 0.345, -0.095], 0.06) for side in (-1, 1)]
    for lens in p.lenses:
        p.canvas.fill(lens, None, ID["eye_g"])


def eyeglass_frames(p: Portrait) -> None:
    """Frames, bridge and temples, over eyes and hair."""
    if not p.on["Eyeglasses"]:
        return
    colour, width = p.pick(FRAMES), p.between(0.036, 0.062)
    dark = p.rng.random() < 0.15
    for lens, side in zip(p.lenses, (-1, 1), strict=True):
        if dark:
            p.canvas.fill(lens, (34, 32, 38), ID["eye_g"])
        glint = lens.mean(axis=0) + np.array([(-0.13, 0.04), (-0.03, -0.12), (0.03, -0.12), (-0.07, 0.04)])
        p.canvas.glaze(glint, (255, 255, 255), 0.28, 0.012, (ID["eye_g"], ID["l_eye"], ID["r_eye"]))
        p.canvas.stroke(np.concatenate([lens, lens[:2]]), colour, width, ID["eye_g"])
        outer = lens[np.argmax(lens[:, 0] * side)]
        hinge = p.at_ear(np.array([(side * (p.wide + 0.02), -0.17)]))[0]
        p.canvas.stroke(np.array([outer, hinge]), colour, width, ID["eye_g"])
    left, right = p.lenses
    a, b = left[np.argmax(left[:, 0])], right[np.argmin(right[:, 0])]
    bridge = smooth([a, (a + b) / 2 - [0, 0.05], b], closed=False)
    p.canvas.stroke(bridge, colour, width, ID["eye_g"])


def earrings(p: Portrait) -> None:
    """Hoops or drops, over hair, so that they are always seen."""
    if not p.on["Wearing_Earrings"]:
        return
    metal, label = p.pick(METALS), ID["ear_r"]
    dark = mix(metal, (70, 40, 0), 0.4)
    hoop = p.rng.random() < 0.5
    gem = p.pick(((188, 30, 60), (36, 96, 178), (40, 150, 110), (240, 236, 230)))
    for side in (-1, 1):
        x, y = p.at_ear(np.array([(side * (p.wide + 0.05), 0.24)]))[0]
        if hoop:
            ring = ellipse(x, y + 0.12, 0.10, 0.13)
            p.canvas.stroke(np.concatenate([ring, ring[:2]]), dark, 0.062, label)
            p.canvas.stroke(np.concatenate([ring, ring[:2]]), metal, 0.036)
        else:
            p.canvas.stroke(np.array([(x, y - 0.02), (x, y + 0.14)]), metal, 0.04, label)
            p.canvas.fill(ellipse(x, y + 0.18, 0.075, 0.10), dark, label)
            p.canvas.fill(ellipse(x, y + 0.18, 0.055, 0.08), gem, label)
