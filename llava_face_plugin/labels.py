"""Face parts and attribute vocabularies: the names and ids every other room agrees on.

Label maps are ``uint8`` arrays in the canonical CelebAMask-HQ order below.

**Left and right, the one convention:** of a pair of eyes, brows or ears, ``l_`` is the one on the *right side of
the picture* and ``r_`` the one on its left. On a picture that is not mirrored these are the subject's left and
right, as in CelebAMask-HQ; on a mirrored one the image side still decides, because no parser can know.
"""

from __future__ import annotations

import numpy as np

FACE_PARTS: tuple[str, ...] = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""The 19 classes of CelebAMask-HQ (Lee et al., 2020); the index is the label id."""

NUM_PARTS = len(FACE_PARTS)

SIDES: tuple[tuple[int, int], ...] = ((4, 5), (6, 7), (8, 9))
"""(l_, r_) ids of eyes, brows and ears: the first lies to the right of the second in the picture."""

COARSE_PARTS: tuple[str, ...] = ("background", "skin", "brows", "eyes", "nose", "mouth", "lips", "hair")
"""A vocabulary of 8 groups that every parser can fill, LaPa's 11 classes included (grouping: our default)."""

COARSE_OF: tuple[int, ...] = (0, 1, 4, 1, 3, 3, 2, 2, 1, 1, 5, 6, 6, 7, 0, 0, 0, 0, 0)
"""The coarse group of each canonical part. Glasses and ears count as skin; hat, jewellery, neck and cloth as
background: LaPa knows none of them."""

NO_MAP = 255
"""Label id of a pixel for which no map is known. Exact in float16 and bfloat16, as every id up to 256 is."""

PALETTE: np.ndarray = np.array(
    [
        (0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255), (204, 0, 204), (0, 255, 255),
        (255, 204, 204), (102, 51, 0), (255, 0, 0), (102, 204, 0), (255, 255, 0), (0, 0, 153), (0, 0, 204),
        (255, 51, 153), (0, 204, 204), (0, 51, 0), (255, 153, 51), (0, 204, 0),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""(19, 3) RGB colour of each part: MaskGAN's palette, the one in which CelebAMask-HQ is usually drawn."""

CELEBA_ATTRIBUTES: tuple[str, ...] = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips",
    "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin",
    "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open",
    "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline",
    "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
"""The 40 attributes of CelebA (Liu et al., 2015), in the order of ``list_attr_celeba.txt``."""


def prompt_of(attribute: str) -> str:
    """The text prompt of an attribute: ``"Wearing_Hat"`` -> ``"wearing hat"`` (wording is our default)."""
    return attribute.replace("_", " ").strip().lower()
