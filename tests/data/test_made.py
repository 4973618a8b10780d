"""Made faces: labels that obey their rules, pictures that show their labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.data.made import MADE_ATTRIBUTES, broken_rules, make, render, sample_attributes
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge.rules import load_rules, violations
from llava_face_plugin.labels import CELEBA_ATTRIBUTES, FACE_PARTS
from llava_face_plugin.maps.files import open_image, read_map
from llava_face_plugin.parsing.precomputed import PrecomputedParser

PLAIN = dict.fromkeys(MADE_ATTRIBUTES, 0) | {"No_Beard": 1, "Young": 1, "Brown_Hair": 1}


def part(labels: np.ndarray, name: str) -> np.ndarray:
    return labels == FACE_PARTS.index(name)


def test_attributes_are_celebas() -> None:
    assert len(MADE_ATTRIBUTES) == 20 and set(MADE_ATTRIBUTES) < set(CELEBA_ATTRIBUTES)


def test_sampled_labels_break_no_rule_and_are_varied() -> None:
    labels = sample_attributes(20_000, seed=3)
    assert labels.shape == (20_000, 20) and labels.dtype == np.int8
    assert broken_rules(labels) == []
    for rule in load_rules("made"):  # written independently
        broken, applicable = violations(rule, labels, MADE_ATTRIBUTES)
        assert broken == 0 and applicable > 0, rule
    rates = labels.mean(axis=0)
    assert rates.min() > 0.03 and rates.max() < 0.95
    assert np.array_equal(labels, sample_attributes(20_000, seed=3))
    assert not np.array_equal(labels, sample_attributes(20_000, seed=4))


def test_sampled_labels_co_occur() -> None:
    on = dict(zip(MADE_ATTRIBUTES, sample_attributes(20_000, seed=0).T.astype(bool), strict=True))
    assert on["Wearing_Earrings"][on["Wearing_Lipstick"]].mean() > 2 * on["Wearing_Earrings"][on["Male"]].mean()
    assert on["Gray_Hair"][~on["Young"]].mean() > 5 * on["Gray_Hair"][on["Young"]].mean()
    assert on["Goatee"][on["Mustache"]].mean() > 2 * on["Goatee"][on["Male"] & ~on["Mustache"]].mean()


@pytest.mark.parametrize(
    "change",
    [
        {"Bald": 1},
        {"Bald": 1, "Brown_Hair": 0, "Bangs": 1},
        {"Black_Hair": 1},
        {"Mustache": 1},
        {"No_Beard": 0},
        {"Wearing_Hat": 1, "Bangs": 1},
    ],
)
def test_contradictions_are_found_and_not_drawn(change: dict[str, int]) -> None:
    labels = PLAIN | change
    assert broken_rules(np.array([[labels[a] for a in MADE_ATTRIBUTES]]))
    with pytest.raises(FaceDataError, match="cannot be drawn"):
        render(labels, seed=0)


def test_render_is_deterministic_and_the_map_is_exact() -> None:
    image, labels = render(PLAIN, seed=5)
    again, labels_again = render(np.array([PLAIN[a] for a in MADE_ATTRIBUTES]), seed=5)
    assert image.size == (178, 218) and image.mode == "RGB"
    assert labels.shape == (218, 178) and labels.dtype == np.uint8 and labels.max() < 19
    assert np.array_equal(np.asarray(image), np.asarray(again)) and np.array_equal(labels, labels_again)
    other, _ = render(PLAIN, seed=6)
    assert not np.array_equal(np.asarray(image), np.asarray(other))


@pytest.mark.parametrize("seed", range(6))
def test_every_face_has_its_parts_and_left_is_the_subjects(seed: int) -> None:
    _, labels = render(PLAIN | {"Male": 1}, seed)
    for name in (
        "skin",
        "nose",
        "l_eye",
        "r_eye",
        "l_brow",
        "r_brow",
        "u_lip",
        "l_lip",
        "neck",
        "cloth",
        "hair",
    ):
        assert part(labels, name).sum() >= 12, name
    for name in ("hat", "eye_g", "ear_r", "neck_l", "mouth"):
        assert not part(labels, name).any(), name
    for name in ("eye", "brow"):
        left, right = (np.nonzero(part(labels, f"{side}_{name}"))[1].mean() for side in "lr")
        assert left > right + 10  # the subject's left eye is on the right of the picture
    rows = [
        np.nonzero(part(labels, n))[0].mean() for n in ("hair", "l_brow", "l_eye", "nose", "u_lip", "l_lip", "neck")
    ]
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("Eyeglasses", "eye_g"),
        ("Wearing_Hat", "hat"),
        ("Wearing_Earrings", "ear_r"),
        ("Wearing_Necklace", "neck_l"),
        ("Mouth_Slightly_Open", "mouth"),
    ],
)
@pytest.mark.parametrize("male", [0, 1])
def test_worn_things_are_in_the_map_exactly_when_labelled(attribute: str, name: str, male: int) -> None:
    for seed in range(4):
        _, with_it = render(PLAIN | {"Male": male, attribute: 1}, seed)
        _, without = render(PLAIN | {"Male": male}, seed)
        assert part(with_it, name).sum() >= 20 and not part(without, name).any()


@pytest.mark.parametrize(
    ("attribute", "most"),
    [
        ("Wearing_Earrings", 0.05),
        ("Eyeglasses", 0.10),
        ("Smiling", 0.10),
        ("Rosy_Cheeks", 0.10),
        ("Wearing_Hat", 0.30),
    ],
)
def test_switching_an_attribute_keeps_the_person(attribute: str, most: float) -> None:
    for seed in range(3):
        a, b = (np.asarray(render(PLAIN | {attribute: v}, seed)[0]).astype(int) for v in (0, 1))
        changed = (np.abs(a - b).max(axis=2) > 2).mean()
        assert 0 < changed < most


def test_bald_heads_have_no_hair_and_bangs_cover_the_forehead() -> None:
    for seed in range(4):
        _, bald = render(PLAIN | {"Male": 1, "Bald": 1, "Brown_Hair": 0}, seed)
        _, plain = render(PLAIN, seed)
        _, bangs = render(PLAIN | {"Bangs": 1}, seed)
        assert not part(bald, "hair").any()
        assert part(bangs, "skin").sum() < 0.93 * part(plain, "skin").sum()


@pytest.mark.parametrize("attribute", MADE_ATTRIBUTES)
def test_every_attribute_changes_the_picture(attribute: str) -> None:
    """Same person, one attribute switched: more than grain must differ."""
    before = dict(PLAIN)
    if attribute in ("Mustache", "Goatee", "Bald"):
        before["Male"] = 1
    after = before | {attribute: 1 - before[attribute]}
    if attribute == "No_Beard":
        after["Goatee"] = 1
    if attribute in ("Mustache", "Goatee"):
        after["No_Beard"] = 0
    if attribute in ("Bald", "Black_Hair", "Blond_Hair", "Gray_Hair"):
        after["Brown_Hair"] = 0
    a, b = (np.asarray(render(labels, seed=2)[0]).astype(int) for labels in (before, after))
    changed = np.abs(a - b).max(axis=2) > 25
    assert changed.sum() > 60


def test_hair_colours_can_be_told_apart() -> None:
    means = []
    for colour in ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"):
        image, labels = render(PLAIN | {"Brown_Hair": 0, colour: 1}, seed=1)
        means.append(np.asarray(image)[part(labels, "hair")].mean(axis=0))
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
    assert min(gaps) > 25


def test_made_data_set(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    made = make(tmp_path, 6, 3, seed=1, text_only=2, progress=lambda *c: calls.append(c))
    train = json.loads((tmp_path / "train.json").read_text())
    assert made.rows == {"train": 6, "train (text only)": 2, "val": 3, "val questions": 60}
    assert len(train) == 8 and len(json.loads((tmp_path / "val.json").read_text())) == 3
    assert ("drawing faces", 9, 9) in calls and ("indexing maps", 9, 9) in calls
    assert made.labels["train"].shape == (6, 20) and made.labels["val"].shape == (3, 20)
    parser, sizes = PrecomputedParser(tmp_path), set()
    for row, labels in zip(train[:6], made.labels["train"], strict=True):
        assert row["face_attributes"] == dict(zip(MADE_ATTRIBUTES, labels.tolist(), strict=True))
        image = open_image(tmp_path / row["image"])
        face_map = read_map(tmp_path / row["face_map"], size=image.size)
        found = parser.parse([image])[0].labels
        assert found is not None and np.array_equal(found, face_map)
        sizes.add(image.size)
    assert (178, 218) in sizes and len(sizes) == 4  # every second one is of another size


def test_made_data_set_is_deterministic(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / name, 2, 1, seed=7, size=(64, 80))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 3 + 3 + 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.parametrize(
    "bad",
    [{"n_train": 0, "n_val": 1}, {"n_train": 1, "n_val": -1}, {"n_train": 1, "n_val": 0, "size": (9, 90)}],
)
def test_make_refuses_nonsense(tmp_path: Path, bad: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(FaceDataError, match="made face"):
        make(tmp_path, **bad)


def test_render_names_missing_attributes() -> None:
    with pytest.raises(FaceDataError, match="without a value: Young"):
        render({a: 0 for a in MADE_ATTRIBUTES if a != "Young"}, seed=0)
    with pytest.raises(FaceDataError, match="expected 20 values of 0 or 1"):
        render(np.full(20, -1), seed=0)


def test_the_images_antialiasing_does_not_reach_the_map() -> None:
    """The map is sampled at pixel centres: no id but the drawn ones, at any size the same shapes."""
    image, labels = render(PLAIN, seed=0, size=(356, 436))
    assert isinstance(image, Image.Image)
    assert set(np.unique(labels)) <= set(range(19))
    small = render(PLAIN, seed=0)[1]
    # The same shapes at double size: all but pixels at edges agree.
    assert (labels[::2, ::2] == small).mean() > 0.97
