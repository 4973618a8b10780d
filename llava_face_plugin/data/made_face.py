"""Draws one made face: head, features, skin, neck and clothes. Hair and hats are in ``made_hair.py``, what
is worn in ``made_wear.py``.

All shapes, colours and proportions are our own. Face units are explained in ``made_canvas.py``. ``l_`` is the
subject's left, i.e. the right side of the picture, here ``side = +1``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from . import made_hair, made_wear
from .made_canvas import Canvas, Colour, Frame, Points, ellipse, mirrored, mix, smooth
from .made_portrait import ID, Motion, Portrait

SKINS: tuple[Colour, ...] = (
    (252, 222, 200), (243, 203, 172), (229, 180, 142), (205, 148, 106), (164, 110, 74), (116, 76, 52),
)  # fmt: skip
EYES: tuple[Colour, ...] = ((92, 58, 34), (70, 46, 30), (78, 118, 156), (92, 128, 84), (110, 122, 130))
LIPSTICKS: tuple[Colour, ...] = ((196, 22, 52), (214, 30, 92), (150, 20, 62), (222, 56, 64))
SHADOWS: tuple[Colour, ...] = ((112, 66, 150), (60, 96, 166), (120, 64, 54), (38, 120, 122), (72, 60, 74))


def draw(
    on: dict[str, bool], rng: np.random.Generator, size: tuple[int, int], motion: Motion | None = None
) -> tuple[Image.Image, np.ndarray]:
    """The RGB image of ``size`` and its (H, W) uint8 map for one set of drawable attributes.

    ``motion``: the same person in another moment; None: a still.
    """
    p = _person(on, rng, size)
    if motion is not None:
        p.motion, p.yaw = motion, p.yaw + motion.turn
    lot = int(rng.integers(2**32))
    for i, step in enumerate(_STEPS):
        # A lot of its own for each step: switching one attribute leaves the rest of the person as it was.
        p.rng = np.random.default_rng([lot, i])
        step(p)
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
        wide=float(rng.uniform(0.77, 0.83)) + 0.02 * male,
        jaw=float(rng.uniform(0.54, 0.60)) + 0.09 * male,
        chin=float(rng.uniform(1.10, 1.17)) + 0.03 * male,
        long=not male,
        length=float(rng.uniform(0.72, 0.95) if rng.random() < 0.3 else rng.uniform(1.35, 1.75)),
        parting=float(rng.uniform(-0.34, 0.34)),
        wave=float(rng.uniform(0.03, 0.07)) if rng.random() < 0.45 else 0.0,
        hair=made_hair.colour(on, rng),
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


def _ears(p: Portrait) -> None:
    for side, label in ((1, ID["l_ear"]), (-1, ID["r_ear"])):
        x = side * (p.wide + 0.04)
        shape = [(x - side * 0.1, -0.24), (x + side * 0.04, -0.26), (x + side * 0.12, -0.12),
                 (x + side * 0.08, 0.08), (x + side * 0.02, 0.24), (x - side * 0.1, 0.22)]  # fmt: skip
        p.canvas.fill(p.at_ear(smooth(shape)), mix(p.skin, p.shade, 0.1), label)
        inner = p.at_ear(smooth([(x, -0.16), (x + side * 0.07, -0.08), (x + side * 0.02, 0.1)], closed=False))
        p.canvas.stroke(inner, mix(p.skin, p.shade, 0.6), 0.035)


def _outline(p: Portrait) -> Points:
    """The head's outline."""
    w, jaw, chin = p.wide, p.jaw, p.chin
    half = [(0, -1.2), (0.42, -1.12), (w - 0.1, -0.82), (w, -0.35), (w - 0.02, 0.12), (jaw + 0.11, 0.52),
            (jaw - 0.10, chin - 0.28), (0.24, chin - 0.05), (0, chin)]  # fmt: skip
    points = smooth(mirrored(half))
    # The chin stands forward and so moves with the yaw.
    points[:, 0] += 0.22 * np.sin(p.yaw) * np.clip(points[:, 1] + 0.1, 0, 1)
    return points


def _head(p: Portrait) -> None:
    face = _outline(p)
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
    line, faint = mix(p.skin, p.shade, 0.95), mix(p.skin, p.shade, 0.7)
    for i, y in enumerate((-0.60, -0.72, -0.84)[: int(p.rng.integers(2, 4))]):
        x = 0.36 - 0.06 * i
        wave = [(-x, y + 0.03), (-x / 2, y - 0.01), (0, y + 0.015), (x / 2, y - 0.01), (x, y + 0.03)]
        p.canvas.stroke(p.turn(smooth(wave, closed=False)), line, 0.028)
    for side in (-1, 1):
        bag = [(side * 0.22, 0.02), (side * 0.33, 0.075), (side * 0.45, 0.04)]
        p.canvas.stroke(p.turn(smooth(bag, closed=False)), faint, 0.028)
        fold = [(side * 0.20, 0.26), (side * 0.30, 0.40), (side * 0.36, 0.58)]
        p.canvas.stroke(p.turn(smooth(fold, closed=False)), line, 0.032)
        for dy in (-0.08, -0.01, 0.06):
            foot = np.array([(side * 0.57, -0.12 + dy * 0.6), (side * 0.67, -0.12 + dy * 1.5)])
            p.canvas.stroke(p.turn(foot), faint, 0.024)


def _eyes(p: Portrait) -> None:
    iris = p.pick(EYES)
    height = p.smiling(0.088, 0.075) * p.between(0.9, 1.12) * (1 - 0.94 * p.motion.blink)
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
        if p.motion.blink < 0.5:
            p.canvas.fill(ellipse(centre[0] - 0.025, centre[1] - 0.03, 0.018, 0.018, 10), (255, 255, 255))
        liner = (26, 16, 18) if lashes else mix(p.shade, (30, 16, 12), 0.5)
        p.canvas.stroke(top, liner, 0.05 if made_up else 0.034 if lashes else 0.026)
        if made_up:
            wing = np.array([upper[-2], upper[-1], (x + side * 0.25, -0.19)])
            p.canvas.stroke(p.turn(wing), liner, 0.036)
        if lashes:
            for t in (0.06, 0.12, 0.17):
                root = np.array(
                    [
                        (x + side * t, -0.12 - height * (1.05 - 3 * t)),
                        (x + side * (t + 0.06), -0.20 - height * (1.1 - 3 * t)),
                    ]
                )
                p.canvas.stroke(p.turn(root), liner, 0.022 if made_up else 0.015)
        _brow(p, side, brow_id, brow, lift)


def _brow(p: Portrait, side: int, label: int, colour: Colour, lift: float) -> None:
    thick = 0.075 if p.on["Male"] else 0.045
    y = -0.345 - lift
    arch = np.array([(0.14, y + 0.0), (0.27, y - 0.05), (0.43, y - 0.06), (0.57, y + 0.03)]) * [side, 1]
    under = np.add(arch, [0, thick])[::-1].copy()
    under[0] = arch[-1] + [0, 0.012]
    p.canvas.fill(p.turn(np.concatenate([smooth(arch, closed=False), smooth(under, closed=False)])), colour, label)


def _nose(p: Portrait) -> None:
    w, end = p.between(0.135, 0.185), p.between(0.28, 0.34)
    half = [(0, -0.16), (0.045, -0.14), (0.055, 0.06), (w * 0.72, end - 0.14), (w, end - 0.04),
            (w * 0.7, end + 0.02), (0.05, end + 0.045), (0, end + 0.05)]  # fmt: skip
    tip = ID["nose"]
    p.canvas.fill(p.turn(smooth(mirrored(half)), 0.1), mix(p.skin, p.shade, 0.07), tip)
    side = 1 if p.yaw <= 0 else -1
    flank = [(side * 0.05, -0.1), (side * 0.07, 0.08), (side * w, end - 0.06), (side * w * 0.5, end)]
    p.canvas.glaze(p.turn(np.array(flank), 0.1), p.shade, 0.5, 0.03, (tip, ID["skin"]))
    p.canvas.glaze(p.turn(ellipse(0, end - 0.08, 0.05, 0.05), 0.15), (255, 250, 244), 0.45, 0.03, (tip,))
    for s in (-1, 1):
        p.canvas.fill(
            p.turn(ellipse(s * w * 0.48, end + 0.008, 0.04, 0.02, 12), 0.1),
            mix(p.shade, (40, 8, 8), 0.4),
            tip,
        )
        wing = [(s * w * 0.86, end - 0.11), (s * w * 1.02, end - 0.04), (s * w * 0.78, end + 0.025)]
        p.canvas.stroke(p.turn(smooth(wing, closed=False), 0.08), mix(p.skin, p.shade, 0.65), 0.022)


def _mouth(p: Portrait) -> None:
    w = p.between(0.27, 0.31) + 0.08 * p.smile
    lift = p.between(p.smiling(-0.016, 0.085), p.smiling(0.006, 0.13))
    gap = p.between(p.smiling(0.09, 0.12), p.smiling(0.14, 0.17)) * p.parted
    upper, lower = p.between(0.055, 0.08), p.between(0.075, 0.11)
    y = 0.60 + 0.02 * p.smile
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
    if gap > 0:
        p.canvas.fill(np.concatenate([above, below[::-1]]), (74, 18, 22), ID["mouth"])
        teeth_end = above + (below - above) * p.smiling(0.35, 0.55)
        p.canvas.fill(np.concatenate([above[3:-3], teeth_end[3:-3][::-1]]), (246, 243, 236))
    p.canvas.fill(np.concatenate([top, above[::-1]]), mix(lip, (60, 0, 10), 0.16), ID["u_lip"])
    p.canvas.fill(np.concatenate([below, bottom[::-1]]), lip, ID["l_lip"])
    if gap <= 0:
        p.canvas.stroke(above, mix(lip, (50, 6, 10), 0.62), 0.026)
    shine = 0.5 if p.on["Wearing_Lipstick"] else 0.25
    middle = (below[12] + bottom[12]) / 2
    p.canvas.glaze(ellipse(middle[0], middle[1], w * 0.35, 0.02), (255, 240, 240), shine, 0.02, (ID["l_lip"],))
    if p.smile > 0.5:
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
        half = [
            (0, 0.405),
            (0.12, 0.40),
            (w * 0.75, 0.47),
            (w, 0.60),
            (w * 0.82, 0.60),
            (w * 0.45, 0.545),
            (0, 0.53),
        ]
        p.canvas.fill(p.turn(smooth(mirrored(half)), 0.05), colour, ID["skin"])
        for x in np.linspace(-0.8 * w, 0.8 * w, 11):
            drop = 0.12 * (abs(x) / w) ** 1.5
            hair = np.array([(x * 0.9, 0.42 + drop * 0.6), (x * 1.05, 0.525 + drop * 0.5)])
            p.canvas.stroke(p.turn(hair, 0.05), strand, 0.014)


# From back to front; later steps cover earlier ones.
_STEPS: tuple[Callable[[Portrait], None], ...] = (
    made_hair.back, _neck, made_wear.clothes, made_hair.front_strands, _ears, _head,
    made_wear.eyeglass_lenses, _eyes, _nose, _beard, _mouth,
    made_hair.front, made_wear.eyeglass_frames, made_wear.earrings, made_hair.hat,
)  # fmt: skip
