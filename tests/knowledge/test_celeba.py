"""The built-in CelebA rules against the official label file."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.knowledge import count, edges, load_rules, weigh
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

ROOT = Path(os.environ.get("FACE_TEST_DATA", "")) / "celeba"
pytestmark = pytest.mark.skipif(
    "FACE_TEST_DATA" not in os.environ or not (ROOT / "list_attr_celeba.zip").is_file(),
    reason="needs celeba/list_attr_celeba.zip under FACE_TEST_DATA",
)


@pytest.fixture(scope="module")
def train() -> np.ndarray:
    """(162770, 40) int8 labels of the train split."""
    names, labels = lines("list_attr_celeba.zip")[1].split(), lines("list_attr_celeba.zip")[2:]
    assert tuple(names) == CELEBA_ATTRIBUTES
    matrix = np.array([line.split()[1:] for line in labels], dtype=np.int8)
    split = np.array([int(line.split()[1]) for line in lines("list_eval_partition.zip")])
    return (matrix[split == 0] == 1).astype(np.int8)


def lines(name: str) -> list[str]:
    with zipfile.ZipFile(ROOT / name) as archive, archive.open(archive.namelist()[0]) as stream:
        return io.TextIOWrapper(stream).read().splitlines()


def test_every_builtin_rule_is_broken_by_less_than_two_percent(train: np.ndarray) -> None:
    rules = load_rules("celeba")
    kept, report = weigh(rules, [train], CELEBA_ATTRIBUTES, max_rate=0.02)
    rates = {entry["rule"]: entry["rate"] for entry in report}
    assert [text for text, rate in rates.items() if not rate < 0.02] == []
    assert len(kept) == len(rules) and all(0.98 < rule.weight <= 1.0 for rule in kept)
    assert rates["not both Bald and Bangs"] == 0.0
    # From the fact sheet, recomputed there by other code (train split, rounded to 0.01 %).
    assert rates["Goatee => not No_Beard"] == pytest.approx(0.0190, abs=5e-5)
    assert rates["Wearing_Lipstick => not Male"] == pytest.approx(0.0058, abs=5e-5)
    assert rates["Bald => Male"] == pytest.approx(0.0024, abs=5e-5)


def test_train_counts_of_the_official_file(train: np.ndarray) -> None:
    cooc = count(CELEBA_ATTRIBUTES, np.array_split(train, 5))
    at = CELEBA_ATTRIBUTES.index
    assert cooc.rows == 162_770 and cooc.joint[at("Bald"), at("Bangs")] == 0
    assert cooc.prior()[at("Male")] == pytest.approx(0.4194, abs=5e-5)
    assert cooc.prior()[at("Bald")] == pytest.approx(0.0228, abs=5e-5)
    graph = edges(cooc, tau=0.4)
    assert graph["Heavy_Makeup"]["Wearing_Lipstick"] == pytest.approx(0.9763, abs=5e-5)  # 1 - 2.37 %
    assert "Bangs" not in graph["Bald"]
