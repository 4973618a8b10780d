"""Whatever a model answers, a suite makes a record of it: shares in 0..1, and text that can be written."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from suite_samples import doc

from llava_face_plugin.evaluation.suites import faba, facebench, facexbench, human_bench
from llava_face_plugin.evaluation.suites.shared import Item, suite_scorer

TREE = {"level": "face", "ability": "a", "sub_ability": "s"}
CASES: dict[str, tuple[Callable[..., Any], dict[str, Item], dict[str, Any]]] = {
    "facexbench": (facexbench.record, facexbench.METRICS, doc(["male", "female", "A", "8"], ["B"])),
    "human_bench": (human_bench.record, human_bench.METRICS, doc(["是的", "不是"], ["B"], **TREE)),
    "choice": (facebench.choice_record, facebench.CHOICE, doc(["Yes", "No"], ["Yes"])),
    "multiple": (facebench.multiple_record, facebench.MULTIPLE, doc(["Red", "Dark red"], ["Red"])),
    "open": (facebench.open_record, facebench.OPEN, doc([], ["Dark red"])),
    "emotion": (faba.emotion_record, faba.EMOTION, doc([], ["fear", "The face shows fear."])),
    "units": (faba.unit_record, faba.ACTION_UNITS, doc([], ["AU4,AU7", "AU4 and AU7."])),
}
ANSWERS = (
    "", " ", "\0", "\n\n", "?!", ".", "...", "\u202e\u200bA", "𝐀", "Ａ", "（B）", "🙂", "A" * 200_000, "A. " * 50_000,
    "AU4 " * 50_000, "AU" + "9" * 5000, "no " * 50_000, "(" * 50_000, "happy, not " * 20_000, "<think>" * 20_000,
    "a.b" * 50_000, "x\ty " * 50_000, '{"answer": {"answer": "A"}}', "[" * 5000, "null", "nan", "ERROR", "-1", "1e999",
    "<answer>B</answer>", "\\boxed{B}", "選B", "不是", "I cannot determine that.", "Yes\r\nNo",
)  # fmt: skip
PIECES = ("A", "(B)", "Yes", "no", "not", "red", "dark", "AU4", "AU 7", "fear", "happy", ".", "\n", ",", "error", "\0")


@pytest.mark.parametrize("case", sorted(CASES))
def test_hostile_answers(case: str) -> None:
    make, items, asked = CASES[case]
    score = suite_scorer(make, items)
    draw = random.Random(case)
    mixed = (" ".join(draw.choices(PIECES, k=draw.randint(1, 12))) for _ in range(100))
    for answer in (*ANSWERS, *mixed):
        found = score(asked, [answer])
        json.dumps(found, ensure_ascii=False).encode()
        record = next(iter(found.values()))
        for name in ("score", "unparsed", "refused"):
            assert isinstance(record[name], float) and 0 <= record[name] <= 1, (answer[:40], name)
        assert record["unparsed"] == float(record["pred"] is None)
        assert record["unparsed"] or not record["refused"] or case == "open"
        assert all(math.isfinite(v) and 0 <= v <= 1 for v in found.values() if isinstance(v, float)), answer[:40]
