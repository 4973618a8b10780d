"""Draws one made face: head, features, skin, neck and clothes. Hair and hats are in ``made_hair.py``.

All shapes, colours and proportions are our own. Face units are explained in ``made_canvas.py``. ``l_`` is the
subject's left, i.e. the right side of the picture, here ``side = +1``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..labels import FACE_PARTS
from . import made_hair
from .made_canvas import Canvas, Colour, Frame, Points, ellipse, mirrored, mix, smooth

ID = {name: i for i, name in enumerate(FACE_PARTS)}

SKINS: tuple[Colour, ...] = (
    (252, 222, 200), (243, 203, 172), (229, 180, 142), (205, 148, 106), (164, 110, 74), (116, 76, 52),
)  # fmt: skip
EYES: tuple[Colour, ...] = ((92, 58, 34), (70, 46, 30), (78, 118, 156), (92, 128, 84), (110, 122, 130))
LIPSTICKS: tuple[Colour, ...] = ((196, 22, 52), (214, 30, 92), (150, 20, 62), (222, 56, 64))
SHADOWS: tuple[Colour, ...] = ((112, 66, 150), (60, 96, 166), (120, 64, 54), (38, 120, 122), (72, 60, 74))
CLOTHES: tuple[Colour, ...] = (
    (44, 62, 92), (128, 44, 52), (228, 226, 218), (58, 60, 66), (62, 106, 92), (196, 150, 66), (112, 92, 140),
    (88, 134, 176), (210, 120, 104),
)  # fmt: skip
METALS: tuple[Colour, ...] = ((224, 178, 60), (206, 210, 218), (232, 196, 110))
FRAMES: tuple[Colour, ...] = ((30, 28, 32), (94, 52, 32), (150, 36, 44), (64, 74, 96), (168, 140, 74))


@dataclass
class Portrait:
    """What the drawing functions share: the canvas, the attributes, the pose and the person's colours."""

    canvas: Canvas
    on: dict[str, bool]
    rng: np.random.Generator
    yaw: float
    skin: Colour
    hair: Colour
    wide: float  # of the head
    jaw: float
    chin: float
    long: bool  # hair, and its length (where it ends), parting (x) and wave (amplitude)
    length: float
    parting: float
    wave: float
    lenses: list[Points] = field(default_factory=list)

    @property
    def shade(self) -> Colour:
        """The skin in shadow."""
        return mix(self.skin, (84, 24, 16), 0.42)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def pick(self, colours: tuple[Colour, ...]) -> Colour:
        return colours[int(self.rng.integers(len(colours)))]

    def turn(self, points: Points, depth: float = 0.0) -> Points:
        """Features turned with the head, as if on a cylinder; ``depth`` further out (a nose) or in."""
        p = np.array(points, dtype=float)
        z = np.sqrt(np.maximum(0.81 - p[:, 0] ** 2, 0.0)) + depth
        p[:, 0] = p[:, 0] * np.cos(self.yaw) + z * np.sin(self.yaw)
        return p

    def at_ear(self, points: Points) -> Points:
        """Ears sit behind the middle of the head: turning shows one and hides the other."""
        p = np.array(points, dtype=float)
        p[:, 0] = p[:, 0] * np.cos(self.yaw) - 0.25 * np.sin(self.yaw)
        return p


def draw(on: dict[str, bool], rng: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, np.ndarray]:
    """The RGB image of ``size`` and its (H, W) uint8 map for one set of drawable attributes."""
    p = _person(on, rng, size)
    made_hair.back(p)
    _neck(p)
    _clothes(p)
    made_hair.front_strands(p)
    _ears(p)
    _head(p)
    _eyeglass_lenses(p)
    _eyes(p)
    _nose(p)
    _beard(p)
    _mouth(p)
    made_hair.front(p)
    _eyeglass_frames(p)
    _earrings(p)
    made_hair.hat(p)
    return p.canvas.finish()


def _person(on: dict[str, bool], rng: np.random.Generator, size: tuple[int, int]) -> Portrait:
    width, height = size
    unit = min(width / 178, height / 218)
    frame = Frame(
        scale=55 * unit * rng.uniform(0.92, 1.06),
        centre=(width / 2 + unit * rng.uniform(-7, 7), height * 0.525 + unit * rng.uniform(-5, 5)),
        roll=float(rng.normal(0, 0.06)),
    )
    place = rng.uniform(0, len(SKINS) - 1)
    skin = mix(SKINS[int(place)], SKINS[min(int(place) + 1, len(SKINS) - 1)], place % 1)
    male = on["Male"]
    return Portrait(
        canvas=Canvas(size, frame, _background(rng)),
        on=on,
        rng=rng,
        yaw=float(np.clip(rng.normal(0, 0.13), -0.28, 0.28)),
        skin=skin,
        hair=made_hair.colour(on, rng),
        wide=float(rng.uniform(0.77, 0.83)) + 0.02 * male,
        jaw=float(rng.uniform(0.54, 0.60)) + 0.09 * male,
        chin=float(rng.uniform(1.10, 1.17)) + 0.03 * male,
        long=not male,
        length=float(rng.uniform(0.72, 0.95) if rng.random() < 0.3 else rng.uniform(1.35, 1.75)),
        parting=float(rng.uniform(-0.34, 0.34)),
        wave=float(rng.uniform(0.03, 0.07)) if rng.random() < 0.45 else 0.0,
    )


def _background(rng: np.random.Generator) -> Image.Image:
    """A small soft gradient with a few blurred lights, to be enlarged."""
    y, x = np.mgrid[0:27, 0:22] / np.array([26.0, 21.0])[:, None, None]
    angle = rng.uniform(0, 2 * np.pi)
    t = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    base = np.array(_hsv(rng.uniform(0, 1), rng.uniform(0.08, 0.45), rng.uniform(0.45, 0.95)))
    other = np.clip(base * rng.uniform(0.55, 0.85) + rng.uniform(-18, 18, 3), 0, 255)
    picture = base * (1 - t) + other * t
    for _ in range(int(rng.integers(0, 5))):
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0, 0.8), rng.uniform(0.08, 0.22)
        glow = np.exp(-(((x - cx) / r) ** 2 + ((y - cy) / r) ** 2))[..., None]
        picture = picture + glow * rng.uniform(-30, 45)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _hsv(h: float, s: float, v: float) -> tuple[float, float, float]:
    k = (np.array([5.0, 3.0, 1.0]) + h * 6) % 6
    rgb = 255 * (v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1))
    return float(rgb[0]), float(rgb[1]), float(rgb[2])


def _neck(p: Portrait) -> None:
    w = 0.45 if p.on["Male"] else 0.35
    half = [(0, 0.6), (w, 0.62), (w, 1.2), (w + 0.10, 1.42), (w + 0.36, 1.62), (w + 0.4, 2.6), (0, 2.6)]
    p.canvas.fill(smooth(mirrored(half)), mix(p.skin, p.shade, 0.16), ID["neck"])
    p.canvas.glaze(ellipse(0.12 * np.sign(p.yaw), 1.12, 0.6, 0.3), p.shade, 0.75, 0.09, (ID["neck"],))


def _clothes(p: Portrait) -> None:
    cloth = p.pick(CLOTHES)
    dark = mix(cloth, (0, 0, 0), 0.35)
    dip = p.between(1.60, 1.72) if p.rng.random() < 0.6 else p.between(1.85, 2.0)
    w = 0.52 if p.on["Male"] else 0.44
    half = [(w, 1.40), (w + 0.24, 1.49), (1.12, 1.62), (1.5, 1.82), (1.75, 2.3), (1.85, 3.2), (0, 3.2)]
    sides = smooth(half, closed=False)
    neckline = smooth([(-w, 1.40), (-w * 0.62, (1.40 + 2 * dip) / 3), (0, dip), (w * 0.62, (1.40 + 2 * dip) / 3),
                       (w, 1.40)], closed=False)  # fmt: skip
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


def _ears(p: Portrait) -> None:
    for side, label in ((1, ID["l_ear"]), (-1, ID["r_ear"])):
        x = side * (p.wide + 0.04)
        shape = [(x - side * 0.1, -0.24), (x + side * 0.04, -0.26), (x + side * 0.12, -0.12),
                 (x + side * 0.08, 0.08), (x + side * 0.02, 0.24), (x - side * 0.1, 0.22)]  # fmt: skip
        p.canvas.fill(p.at_ear(smooth(shape)), mix(p.skin, p.shade, 0.1), label)
        inner = p.at_ear(smooth([(x, -0.16), (x + side * 0.07, -0.08), (x + side * 0.02, 0.1)], closed=False))
        p.canvas.stroke(inner, mix(p.skin, p.shade, 0.6), 0.035)


def outline(p: Portrait) -> Points:
    """The head's outline."""
    w, jaw, chin = p.wide, p.jaw, p.chin
    half = [(0, -1.2), (0.42, -1.12), (w - 0.1, -0.82), (w, -0.35), (w - 0.02, 0.12), (jaw + 0.11, 0.52),
            (jaw - 0.10, chin - 0.28), (0.24, chin - 0.05), (0, chin)]  # fmt: skip
    points = smooth(mirrored(half))
    # The chin stands forward and so moves with the yaw.
    points[:, 0] += 0.22 * np.sin(p.yaw) * np.clip(points[:, 1] + 0.1, 0, 1)
    return points


def _head(p: Portrait) -> None:
    face = outline(p)
    skin_only = (ID["skin"],)
    p.canvas.fill(face, p.skin, ID["skin"])
    side = 1 if p.rng.random() < 0.5 else -1
    p.canvas.glaze(face * [0.55, 1] + [side * 0.72, 0.1], p.shade, 0.5, 0.22, skin_only)
    p.canvas.glaze(ellipse(-side * 0.2, -0.55, 0.4, 0.28), mix(p.skin, (255, 255, 255), 0.5), 0.4, 0.15, skin_only)
    for x in (-0.47, 0.47):
        cheek = p.turn(ellipse(x, 0.30, 0.17, 0.13))
        if p.on["Rosy_Cheeks"]:
            p.canvas.glaze(cheek, (226, 48, 74), 0.62, 0.07, skin_only)
        else:
            p.canvas.glaze(cheek, mix(p.skin, (220, 90, 80), 0.4), 0.25, 0.10, skin_only)
    if not p.on["Young"]:
        _age_lines(p)


def _age_lines(p: Portrait) -> None:
    line, faint = mix(p.skin, p.shade, 0.75), mix(p.skin, p.shade, 0.5)
    for i, y in enumerate((-0.60, -0.72, -0.84)[: int(p.rng.integers(2, 4))]):
        x = 0.36 - 0.06 * i
        wave = [(-x, y + 0.03), (-x / 2, y - 0.01), (0, y + 0.015), (x / 2, y - 0.01), (x, y + 0.03)]
        p.canvas.stroke(p.turn(smooth(wave, closed=False)), line, 0.024)
    for side in (-1, 1):
        bag = [(side * 0.22, 0.02), (side * 0.33, 0.075), (side * 0.45, 0.04)]
        p.canvas.stroke(p.turn(smooth(bag, closed=False)), faint, 0.022)
        fold = [(side * 0.20, 0.26), (side * 0.30, 0.40), (side * 0.36, 0.58)]
        p.canvas.stroke(p.turn(smooth(fold, closed=False)), line, 0.026)
        for dy in (-0.08, -0.01, 0.06):
            foot = np.array([(side * 0.57, -0.12 + dy * 0.6), (side * 0.67, -0.12 + dy * 1.5)])
            p.canvas.stroke(p.turn(foot), faint, 0.02)


def _eyes(p: Portrait) -> None:
    iris = p.pick(EYES)
    height = (0.075 if p.on["Smiling"] else 0.088) * p.between(0.9, 1.12)
    gaze = p.between(-0.035, 0.035)
    made_up, lashes = p.on["Heavy_Makeup"], not p.on["Male"]
    shadow = p.pick(SHADOWS)
    brow = mix(p.hair, (40, 26, 20), 0.35 if p.on["Gray_Hair"] or p.on["Blond_Hair"] else 0.6)
    lift = p.between(-0.02, 0.03)
    for side, eye, brow_id in ((1, ID["l_eye"], ID["l_brow"]), (-1, ID["r_eye"], ID["r_brow"])):
        x = side * 0.34
        if made_up:
            lid = [(x - side * 0.21, -0.12), (x - side * 0.1, -0.24), (x + side * 0.1, -0.28),
                   (x + side * 0.27, -0.20), (x + side * 0.2, -0.06)]  # fmt: skip
            p.canvas.glaze(p.turn(smooth(lid)), shadow, 0.85, 0.03, (ID["skin"], ID["eye_g"]))
        upper = np.array([(x - side * 0.17, -0.09), (x - side * 0.09, -0.11 - height * 0.75),
                          (x + side * 0.03, -0.11 - height), (x + side * 0.12, -0.13 - height * 0.5),
                          (x + side * 0.175, -0.125)])  # fmt: skip
        lower = np.array([(x + side * 0.09, -0.11 + height * 0.55), (x - side * 0.06, -0.10 + height * 0.6)])
        top = p.turn(smooth(upper, closed=False))
        p.canvas.fill(np.concatenate([top, p.turn(smooth([upper[-1], *lower, upper[0]], closed=False))]),
                      (244, 241, 238), eye)  # fmt: skip
        centre = p.turn(np.array([(x + gaze, -0.115)]))[0]
        for radius, colour in ((0.078, mix(iris, (0, 0, 0), 0.4)), (0.064, iris), (0.034, (14, 10, 10))):
            p.canvas.glaze(ellipse(centre[0], centre[1], radius, radius, 20), colour, 1.0, within=(eye,))
        p.canvas.fill(ellipse(centre[0] - 0.025, centre[1] - 0.03, 0.018, 0.018, 10), (255, 255, 255))
        liner = (26, 16, 18) if lashes else mix(p.shade, (30, 16, 12), 0.5)
        p.canvas.stroke(top, liner, 0.05 if made_up else 0.034 if lashes else 0.026)
        if made_up:
            wing = np.array([upper[-2], upper[-1], (x + side * 0.25, -0.19)])
            p.canvas.stroke(p.turn(wing), liner, 0.036)
        if lashes:
            for t in (0.06, 0.12, 0.17):
                root = np.array([(x + side * t, -0.12 - height * (1.05 - 3 * t)), (x + side * (t + 0.06), -0.20 - height * (1.1 - 3 * t))])
                p.canvas.stroke(p.turn(root), liner, 0.022 if made_up else 0.015)
        _brow(p, side, brow_id, brow, lift)


def _brow(p: Portrait, side: int, label: int, colour: Colour, lift: float) -> None:
    thick = 0.075 if p.on["Male"] else 0.045
    y = -0.345 - lift
    arch = np.array([(0.14, y + 0.0), (0.27, y - 0.05), (0.43, y - 0.06), (0.57, y + 0.03)]) * [side, 1]
    under = (arch + [0, thick])[::-1].copy()
    under[0] = arch[-1] + [0, 0.012]
    p.canvas.fill(p.turn(np.concatenate([smooth(arch, closed=False), smooth(under, closed=False)])), colour, label)


def _nose(p: Portrait) -> None:
    w, end = p.between(0.135, 0.185), p.between(0.28, 0.34)
    half = [(0, -0.16), (0.045, -0.14), (0.055, 0.06), (w * 0.72, end - 0.14), (w, end - 0.04), (w * 0.7, end + 0.02),
            (0.05, end + 0.045), (0, end + 0.05)]  # fmt: skip
    tip = ID["nose"]
    p.canvas.fill(p.turn(smooth(mirrored(half)), 0.1), mix(p.skin, p.shade, 0.07), tip)
    side = 1 if p.yaw <= 0 else -1
    flank = [(side * 0.05, -0.1), (side * 0.07, 0.08), (side * w, end - 0.06), (side * w * 0.5, end)]
    p.canvas.glaze(p.turn(np.array(flank), 0.1), p.shade, 0.5, 0.03, (tip, ID["skin"]))
    p.canvas.glaze(p.turn(ellipse(0, end - 0.08, 0.05, 0.05), 0.15), (255, 250, 244), 0.45, 0.03, (tip,))
    for s in (-1, 1):
        p.canvas.fill(p.turn(ellipse(s * w * 0.48, end + 0.008, 0.04, 0.02, 12), 0.1), mix(p.shade, (40, 8, 8), 0.4), tip)
        wing = [(s * w * 0.86, end - 0.11), (s * w * 1.02, end - 0.04), (s * w * 0.78, end + 0.025)]
        p.canvas.stroke(p.turn(smooth(wing, closed=False), 0.08), mix(p.skin, p.shade, 0.65), 0.022)


def _mouth(p: Portrait) -> None:
    smiling, parted = p.on["Smiling"], p.on["Mouth_Slightly_Open"]
    w = p.between(0.27, 0.31) + 0.08 * smiling
    lift = p.between(0.085, 0.13) if smiling else p.between(-0.016, 0.006)
    gap = (p.between(0.12, 0.17) if smiling else p.between(0.09, 0.14)) if parted else 0.0
    upper, lower = p.between(0.055, 0.08), p.between(0.075, 0.11)
    y = 0.60 + 0.02 * smiling
    u = np.linspace(-1, 1, 25)
    line = y - lift * u**2
    dome = 1 - u**2
    bow = dome**0.7 * (1 - 0.28 * np.exp(-((u / 0.16) ** 2)))
    top = np.stack([u * w, line - 0.35 * gap * dome - upper * bow], axis=1)
    above = np.stack([u * w, line - 0.35 * gap * dome], axis=1)
    below = np.stack([u * w, line + 0.65 * gap * dome], axis=1)
    bottom = np.stack([u * w, line + 0.65 * gap * dome + lower * dome**0.75], axis=1)
    top, above, below, bottom = (p.turn(q, 0.03) for q in (top, above, below, bottom))

    lip = p.pick(LIPSTICKS) if p.on["Wearing_Lipstick"] else mix(p.skin, (176, 70, 70), 0.42)
    if parted:
        p.canvas.fill(np.concatenate([above, below[::-1]]), (74, 18, 22), ID["mouth"])
        teeth_end = above + (below - above) * (0.55 if smiling else 0.35)
        p.canvas.fill(np.concatenate([above[3:-3], teeth_end[3:-3][::-1]]), (246, 243, 236))
    p.canvas.fill(np.concatenate([top, above[::-1]]), mix(lip, (60, 0, 10), 0.16), ID["u_lip"])
    p.canvas.fill(np.concatenate([below, bottom[::-1]]), lip, ID["l_lip"])
    if not parted:
        p.canvas.stroke(above, mix(lip, (50, 6, 10), 0.62), 0.026)
    shine = 0.5 if p.on["Wearing_Lipstick"] else 0.25
    middle = (below[12] + bottom[12]) / 2
    p.canvas.glaze(ellipse(middle[0], middle[1], w * 0.35, 0.02), (255, 240, 240), shine, 0.02, (ID["l_lip"],))
    if smiling:
        for s, corner in ((-1, above[0]), (1, above[-1])):
            crease = corner + np.array([(s * 0.04, -0.09), (s * 0.085, 0.0), (s * 0.05, 0.08)])
            p.canvas.stroke(smooth(crease, closed=False), mix(p.skin, p.shade, 0.6), 0.024)


def _beard(p: Portrait) -> None:
    if p.on["No_Beard"]:
        return
    colour = mix(p.hair, (30, 20, 16), 0.12)
    strand = mix(colour, (0, 0, 0), 0.35)
    if p.on["Goatee"]:
        chin = p.chin
        half = [(0, 0.79), (0.14, 0.80), (0.23, 0.86), (0.25, 0.98), (0.17, chin - 0.01), (0, chin + 0.06)]
        patch = p.turn(smooth(mirrored(half)), -0.08)
        p.canvas.fill(patch, colour, ID["skin"])
        for x in np.linspace(-0.17, 0.17, 8):
            hair = np.array([(x, 0.86 + 0.3 * abs(x)), (x * 0.85, chin + 0.02 - 0.35 * abs(x))])
            p.canvas.stroke(p.turn(hair, -0.08), strand, 0.014)
    if p.on["Mustache"]:
        w = p.between(0.32, 0.40)
        half = [(0, 0.405), (0.12, 0.40), (w * 0.75, 0.47), (w, 0.60), (w * 0.82, 0.60), (w * 0.45, 0.545), (0, 0.53)]
        p.canvas.fill(p.turn(smooth(mirrored(half)), 0.05), colour, ID["skin"])
        for x in np.linspace(-0.8 * w, 0.8 * w, 11):
            drop = 0.12 * (abs(x) / w) ** 1.5
            hair = np.array([(x * 0.9, 0.42 + drop * 0.6), (x * 1.05, 0.525 + drop * 0.5)])
            p.canvas.stroke(p.turn(hair, 0.05), strand, 0.014)


def _eyeglass_lenses(p: Portrait) -> None:
    if not p.on["Eyeglasses"]:
        return
    kind = p.rng.choice(["round", "square", "aviator"])
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    power = {"round": 1.0, "square": 0.5, "aviator": 0.75}[kind]
    shape = np.stack([np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power, np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power], 1)
    shape *= [0.235, 0.19] if kind == "round" else [0.25, 0.165]
    if kind == "aviator":
        shape[:, 0] *= 1 - 0.18 * (shape[:, 1] / 0.165)
    p.lenses = [p.turn(shape * [side, 1] + [side * 0.345, -0.095], 0.06) for side in (-1, 1)]
    for lens in p.lenses:
        p.canvas.fill(lens, None, ID["eye_g"])


def _eyeglass_frames(p: Portrait) -> None:
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


def _earrings(p: Portrait) -> None:
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
