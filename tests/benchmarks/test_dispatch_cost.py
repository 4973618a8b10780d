"""scripts/benchmarks/dispatch_cost.py: both ways of dispatch take turns on the same adapter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))

import dispatch_cost

from llava_face_plugin.fusion import Layers, Sources


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PATCHES": 16, "VISION": 12, "LLM": 16, "SOURCES": Sources(False, 2, 8)}.items():
        monkeypatch.setattr(dispatch_cost, name, value)


def test_the_adapters_are_the_same(small: None) -> None:
    case = dispatch_cost.Case(4, 2, train=True)
    features, face = dispatch_cost.inputs(2, "cpu", torch.float32)
    layers = Layers([torch.nn.Linear(12, 16)])
    dense, grouped = (dispatch_cost.adapter(case, way, "cpu")(layers, features, face) for way in ("dense", "grouped"))
    assert torch.allclose(dense, grouped, atol=1e-5) and not torch.allclose(dense, layers(features), atol=1e-3)


@pytest.mark.parametrize("train", [True, False])
def test_a_row_of_the_table(small: None, train: bool) -> None:
    case = dispatch_cost.Case(4, 2, train)
    row = dispatch_cost.row_of(case, images=1, pairs=2, device="cpu")
    assert row["products"] == 0.5 and row["grouped / dense"]["ratio"] > 0
    cells = dispatch_cost.table([row], "cpu").cells[0]
    assert cells[:4] == ["4", "2", "training" if train else "inference", "2"] and cells[-2:] == ["x0.500", "-"]


def test_cases_hold_the_default() -> None:
    assert dispatch_cost.Case(4, 2, True) in list(dispatch_cost.cases())
