"""Vocabularies and the one convention of left and right: by hand, and on real masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import COARSE_OF, COARSE_PARTS, FACE_PARTS, NO_MAP, NUM_PARTS, SIDES
from llava_face_plugin.maps.files import read_map
from llava_face_plugin.maps.vocabularies import (
    ALIASES,
    NAMES,
    TO_CANONICAL,
    by_image_side,
    coarse,
    from_names,
    mean_column,
    mirrored,
    to_canonical,
)

# What each source's names mean, written out once more by hand: image side first, then the part.
MEANING = {
    "celebm": {"rr": "l_ear", "lr": "r_ear", "rb": "l_brow", "lb": "r_brow", "re": "l_eye", "le": "r_eye",
               "neck_l": "neck_l"},
    "lapa": {"rb": "l_brow", "lb": "r_brow", "re": "l_eye", "le": "r_eye"},
    "bisenet": {},
    "celebamask-hq": {},
}  # fmt: skip


@pytest.mark.parametrize("vocabulary", sorted(NAMES))
def test_a_table_sends_every_name_to_the_part_it_means(vocabulary: str) -> None:
    names, ids = NAMES[vocabulary], TO_CANONICAL[vocabulary]
    assert len(names) == len(ids) == len(set(ids))
    for name, part in zip(names, ids, strict=True):
        expected = MEANING[vocabulary].get(name) or ALIASES.get(name, name)
        assert FACE_PARTS[part] == expected, name


@pytest.mark.parametrize("vocabulary", sorted(NAMES))
def test_every_parser_fills_every_coarse_group(vocabulary: str) -> None:
    assert {COARSE_OF[i] for i in TO_CANONICAL[vocabulary]} == set(range(len(COARSE_PARTS))) and len(COARSE_PARTS) == 8


def test_coarse_keeps_the_unknown_and_groups_the_rest() -> None:
    labels = np.array([[0, 4, 5, NO_MAP], [11, 12, 10, 18]], dtype=np.uint8)
    assert coarse(labels).tolist() == [[0, 3, 3, NO_MAP], [6, 6, 5, 0]]
    assert len(COARSE_OF) == NUM_PARTS


def test_foreign_ids_are_named() -> None:
    with pytest.raises(FaceDataError, match=r"here: ids \[11, 200\] are not in the vocabulary 'lapa'"):
        to_canonical(np.array([[0, 11], [200, 255]], dtype=np.uint8), "lapa", "here")
    with pytest.raises(FaceDataError, match="celebmm.*did you mean 'celebm'"):
        to_canonical(np.zeros((1, 1), np.uint8), "celebmm", "here")


def test_names_of_a_checkpoint_become_ids() -> None:
    assert from_names(dict(enumerate(FACE_PARTS)), "m") == tuple(range(19))
    assert from_names({0: "Background", 1: "Left Eyebrow", 2: "upper-lip"}, "m") == (0, 6, 11)
    with pytest.raises(FaceDataError, match=r"m: id2label has names that are no face part: \['LABEL_1'\]"):
        from_names({0: "background", 1: "LABEL_1"}, "m")
    with pytest.raises(FaceDataError, match=r"ids \[0, 2\], expected 0..1"):
        from_names({0: "background", 2: "skin"}, "m")


def face(left_column: int, right_column: int) -> np.ndarray:
    labels = np.zeros((6, 12), dtype=np.uint8)
    for left, right in SIDES:
        labels[left % 6, left_column] = left
        labels[left % 6, right_column] = right
    return labels


def test_sides_are_exchanged_where_they_are_reversed_and_only_there() -> None:
    right = face(9, 2)
    assert by_image_side(right) is right
    assert np.array_equal(by_image_side(face(2, 9)), right)
    one = np.where(face(2, 9) == SIDES[0][1], 0, face(2, 9)).astype(np.uint8)
    assert (by_image_side(one) == SIDES[0][0]).sum() == 1  # an eye without its partner stays what it was
    assert mean_column(right, 3) is None


def test_a_flip_exchanges_sides_so_that_the_convention_holds() -> None:
    labels = face(9, 2)
    assert np.array_equal(mirrored(labels), labels)  # columns 9 and 2 change places, and so do the ids
    assert np.array_equal(mirrored(face(7, 1)), face(10, 4))


def test_real_masks_follow_the_convention_but_for_the_annotators_slips(real_faces: Path) -> None:
    """CelebAMask-HQ: l_ is on the picture's right in 9 of 10 masks and more; ``by_image_side`` mends the others."""
    masks = sorted((real_faces / "celebamask_hq" / "masks").glob("*.png"))
    if not masks:
        pytest.skip("FACE_TEST_DATA has no celebamask_hq/")
    for left, right in SIDES:
        before, after = [], []
        for path in masks[:200]:
            labels = read_map(path)
            columns = mean_column(labels, left), mean_column(labels, right)
            if None not in columns:
                before.append(columns[0] > columns[1])
                mended = by_image_side(labels)
                after.append(mean_column(mended, left) > mean_column(mended, right))
        assert np.mean(before) > 0.9 and all(after) and len(after) > 20
