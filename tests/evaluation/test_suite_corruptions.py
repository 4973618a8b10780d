"""Damaged benchmark files end in one clear error, or in a question file that can be read; never in anything else."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from suite_samples import MAKERS, TASKS, built, settings

from llava_face_plugin.errors import FaceDataError

pytest.importorskip("pyarrow", reason="question files are parquet")
DAMAGES = 200
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, float("nan"), 1e308, "", " ", "\0", "../../etc/passwd", "/etc/passwd", "x" * 5000, [],
    {}, [None], [[]], {"a": {}}, "\ud800", ["A"], "選", "NaN", ["", ""], "\n",
)  # fmt: skip
CLEAR = re.compile(r"\.(json|jsonl|parquet)|folder|not one question|question '")


def annotations(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in (".json", ".jsonl"))


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in parsed JSON."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def damaged_values(data: bytes, draw: random.Random) -> bytes:
    """One value of the JSON replaced by a hostile one, or taken out."""
    lines = data.split(b"\n") if not data.startswith((b"{\n", b"[\n")) else [data]
    at = draw.choice([i for i, line in enumerate(lines) if line.strip()])
    content = json.loads(lines[at])
    container, key = draw.choice(places(content))
    if isinstance(container, dict) and draw.random() < 0.3:
        del container[key]
    else:
        container[key] = draw.choice(HOSTILE)
    lines[at] = json.dumps(content).encode()
    return b"\n".join(lines)


def damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    """Cut off, a piece taken out, doubled or overwritten."""
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.randint(1, 60))
    return draw.choice(
        [data[:start], data[:start] + data[end:], data[:end] + data[start:],
         data[:start] + draw.randbytes(end - start) + data[end:], b"\xef\xbb\xbf" + data, b"[" * 100_000],
    )  # fmt: skip


@pytest.mark.parametrize("damage", [damaged_bytes, damaged_values])
@pytest.mark.parametrize("suite", sorted(MAKERS))
def test_damaged_annotations(suite: str, damage: Any, tmp_path: Path) -> None:
    draw = random.Random(f"{suite} {damage.__name__}")
    root = MAKERS[suite](tmp_path / suite)
    whole = {path: path.read_bytes() for path in annotations(root)}
    refused = 0
    for _ in range(DAMAGES // 2):
        path = draw.choice(sorted(whole))
        path.write_bytes(damage(whole[path], draw))
        for task in TASKS[suite][:1] if suite == "human_bench" else TASKS[suite]:
            try:
                header, rows = built(task, root, tmp_path / "q", verify=False, settings=settings(root))
            except FaceDataError as error:
                refused += 1
                assert CLEAR.search(str(error)) and len(str(error)) < 1000, error
            else:
                assert header.rows == len(rows) > 0
        path.write_bytes(whole[path])
    assert refused > 5


def test_a_missing_and_a_broken_picture_are_counted(tmp_path: Path) -> None:
    root = MAKERS["facexbench"](tmp_path / "x")
    (root / "benchmark/images/s/1.png").unlink()
    (root / "benchmark/images/m/1_2.png").write_bytes(b"\x89PNG broken")
    header, rows = built("face_facexbench", root, tmp_path / "q")
    assert len(rows) == 3 and sum(header.skipped.values()) == 2
