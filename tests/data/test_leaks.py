"""No image and no known person is both trained on and asked about, whatever the splits, persons and options are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.data.celeba_files import read_identities, read_partition
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.prepared import Prepared
from llava_face_plugin.data.splits import SplitOptions, choose, strangers
from llava_face_plugin.errors import FaceDataError


def drawn(seed: int) -> Manifest:
    """Persons in several splits, unknown persons, missing images, splits without any image."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 200))
    shares = rng.dirichlet((3, 0.7, 0.7))
    return Manifest(
        "drawn", np.array([f"{i}.jpg" for i in range(n)]), rng.choice(3, n, p=shares).astype(np.int8),
        identity=rng.integers(-1, n // 2, n) if rng.random() < 0.75 else None,
        present=rng.random(n) < rng.choice((0.5, 1.0)) if rng.random() < 0.7 else None,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(300))
def test_nothing_leaks(seed: int) -> None:
    manifest = drawn(seed)
    # Each of these meets manifests with and without persons and images.
    holdout = (None, 0, 0.2, 5)[seed % 4]
    limit = 15 if seed % 5 == 0 else None
    prepared = Prepared(Path("."), (), {})
    options = SplitOptions(holdout=holdout, seed=seed, limit=limit, val_limit=limit)
    try:
        train, val, held = choose(prepared, manifest, options)
    except FaceDataError as error:
        assert "no image of the train split" in str(error) or "holdout: 5 images" in str(error)
        return
    there = np.ones(len(manifest), dtype=bool) if manifest.present is None else manifest.present
    assert len(train) and (manifest.split[train] == 0).all() and there[train].all() and there[val].all()
    assert not set(train) & set(val) and (manifest.split[val] != 2).all()
    assert not set(train) & set(held) and (manifest.split[held] == 0).all()
    assert set(val[manifest.split[val] == 0]) <= set(held) and bool(len(held)) <= bool(len(val))
    assert limit is None or max(len(train), len(val)) <= limit
    if manifest.identity is not None:
        people = manifest.identity
        trained = set(people[train]) - {-1}
        assert not trained & set(people[val]) and not trained & set(people[manifest.split != 0])
        assert not trained & set(people[held])
        assert not set(people[val]) - {-1} & set(people[manifest.split == 2])
        after = manifest.split.copy()
        after[held] = 1
        learned = (after == 0) & ~strangers(replace(manifest, split=after))  # what knowledge is counted from
        assert not set(people[learned]) - {-1} & set(people[after != 0])
    again = choose(Prepared(Path("."), (), {}), manifest, options)
    assert np.array_equal(train, again[0]) and np.array_equal(val, again[1])


def test_persons_who_are_elsewhere_are_counted() -> None:
    split, identity = np.array([0, 0, 0, 1, 2, 1], dtype=np.int8), np.array([1, 2, -1, 1, 5, 5])
    manifest = Manifest("x", np.array(list("abcdef")), split, identity=identity)
    prepared = Prepared(Path("."), (), {})
    train, val, held = choose(prepared, manifest, SplitOptions())
    assert train.tolist() == [1, 2] and val.tolist() == [3] and not len(held)
    assert prepared.skipped == {"person is also in val or test (train)": 1, "person is also in test (val)": 1}
    assert choose(prepared, manifest, SplitOptions(split="val")).val.tolist() == [3]


def test_who_is_held_out_is_so_with_all_images() -> None:
    """Also with those whose files are not there."""
    people, there = np.repeat(np.arange(6), 2), np.tile([True, False], 6)
    split = np.zeros(12, dtype=np.int8)
    manifest = Manifest("x", np.array(list("abcdefghijkl")), split, identity=people, present=there)
    _, val, held = choose(Prepared(Path("."), (), {}), manifest, SplitOptions(holdout=2))
    assert len(val) == 2 and len(held) == 4 and set(people[held]) == set(people[val])


def test_another_split_is_taken_alone() -> None:
    manifest = drawn(1)
    for number, name in ((1, "val"), (2, "test")):
        train, asked, _ = choose(Prepared(Path("."), (), {}), manifest, SplitOptions(split=name))
        assert np.array_equal(train, asked) and (manifest.split[train] == number).all()


def test_celebas_official_splits_share_no_person(real_faces: Path) -> None:
    people = read_identities(real_faces / "celeba" / "identity_CelebA.zip")
    splits = read_partition(real_faces / "celeba" / "list_eval_partition.zip")
    by_split = [{people[n] for n, s in splits.items() if s == number} for number in range(3)]
    assert [len(p) for p in by_split] == [8192, 985, 1000] and len(set.union(*by_split)) == 10_177
