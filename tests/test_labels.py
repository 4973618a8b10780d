"""Parts, palette, attributes and prompts that every room builds on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llava_face_plugin.labels import (
    CELEBA_ATTRIBUTES,
    FACE_PARTS,
    NO_MAP,
    NUM_PARTS,
    PALETTE,
    prompt_of,
)


def test_parts_are_celebamask_hqs_in_its_order() -> None:
    """Golden ids of CelebAMask-HQ's own script (g_mask.py numbers its list from 1)."""
    listed = "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l neck cloth"
    assert ("background", *listed.split()) == FACE_PARTS
    assert NUM_PARTS == 19 and FACE_PARTS.index("hair") == 13


def test_no_map_is_no_part_and_exact_in_half_precision() -> None:
    assert NO_MAP >= NUM_PARTS and np.iinfo(np.uint8).max == NO_MAP
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.tensor(float(NO_MAP), dtype=dtype).item() == NO_MAP


def test_palette_has_one_colour_a_part() -> None:
    assert PALETTE.shape == (19, 3) and PALETTE.dtype == np.uint8
    assert len({tuple(c) for c in PALETTE.tolist()}) == 19
    assert PALETTE[0].tolist() == [0, 0, 0] and PALETTE[13].tolist() == [0, 0, 204]


def test_celeba_has_forty_attributes_in_alphabetical_order() -> None:
    """As in list_attr_celeba.txt, whose header line is sorted without regard to case."""
    assert len(set(CELEBA_ATTRIBUTES)) == 40
    assert list(CELEBA_ATTRIBUTES) == sorted(CELEBA_ATTRIBUTES, key=str.lower)
    assert CELEBA_ATTRIBUTES.index("Male") == 20 and CELEBA_ATTRIBUTES.index("Smiling") == 31


@pytest.mark.parametrize(
    ("name", "prompt"),
    [("Wearing_Hat", "wearing hat"), ("5_o_Clock_Shadow", "5 o clock shadow"), (" Bald ", "bald")],
)
def test_prompt_of(name: str, prompt: str) -> None:
    assert prompt_of(name) == prompt
