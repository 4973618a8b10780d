"""scripts/benchmarks/dispatch_cost.py: both ways of dispatch take turns on the same adapter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))

import dispatch_cost

from llava_face_plugin.fusion import Layers

SMALL = dispatch_cost.Widths(vision=12, tap=8, hidden=8, llm=16)


def test_the_adapters_are_the_same() -> None:
    case = dispatch_cost.Case(4, 2, train=True)
    features, face = dispatch_cost.inputs((2, 16), SMALL, "cpu", torch.float32)
    layers = Layers([torch.nn.Linear(12, 16)])
    dense, grouped = (
        dispatch_cost.adapter(case, way, SMALL, "cpu")(layers, features, face) for way in ("dense", "grouped")
    )
    assert torch.allclose(dense, grouped, atol=1e-5) and not torch.allclose(dense, layers(features), atol=1e-3)


@pytest.mark.parametrize("train", [True, False])
def test_a_row_of_the_table(train: bool) -> None:
    case = dispatch_cost.Case(4, 2, train)
    row = dispatch_cost.row_of(case, (1, 16), SMALL, pairs=2, device="cpu")
    assert row["products"] == 0.5 and row["grouped / dense"]["ratio"] > 0
    cells = dispatch_cost.table([row], "cpu").cells[0]
    assert cells[:4] == ["4", "2", "training" if train else "inference", "2"] and cells[-2:] == ["x0.500", "-"]


def test_cases_hold_the_default() -> None:
    assert dispatch_cost.Widths().divided(4) == (256, 192, 256, 1024)
    assert dispatch_cost.Case(4, 2, True) in list(dispatch_cost.cases())
