"""The suites' tasks in unmodified lmms-eval, asked of its dummy model."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite_samples import MAKERS, TASKS, built, settings

from llava_face_plugin.evaluation.tasks import task_folder

pytest.importorskip("pyarrow", reason="question files are parquet")
pytest.importorskip("lmms_eval", reason="the tasks are lmms-eval's")
Run = Callable[[str, str], dict[str, float]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    for suite, make in MAKERS.items():
        root = make(folder / suite)
        for task in TASKS[suite]:
            built(task, root, folder / "questions", settings=settings(root))
    return folder / "questions"


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    from lmms_eval import evaluator
    from lmms_eval.models.simple.dummy import Dummy
    from lmms_eval.tasks import TaskManager

    monkeypatch.setenv("FACE_EVAL_DATA", str(data))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    def evaluate(task: str, answer: str) -> dict[str, float]:
        manager = TaskManager("ERROR", include_path=str(task_folder()), include_defaults=False)
        found: Any = evaluator.simple_evaluate(
            model=Dummy(response=answer), tasks=[task], task_manager=manager, batch_size=1,
            cli_args=argparse.Namespace(process_with_media=False, reasoning_tags=None, agentic_trace_mode="basic"),
        )  # fmt: skip
        values = found["results"][task]
        return {k.removesuffix(",none"): v for k, v in values.items() if k.endswith(",none") and "_stderr" not in k}

    return evaluate


@pytest.mark.parametrize(
    ("task", "answer", "expected"),
    [
        ("face_facexbench", "(A) it is", {"face_acc_score": 2 / 5, "face_acc_original": 2 / 5, "face_unparsed": 0}),
        ("face_facexbench", "A man", {"face_acc_score": 0, "face_acc_original": 2 / 5, "face_unparsed": 1}),
        ("face_human_bench_en", "I'm sorry, I cannot say.", {"face_acc_score": 0, "face_refused": 1,
                                                            "face_level_acc_answered": 0}),
        ("face_human_bench_zh", "选项 A 是对的", {"face_unparsed": 0, "face_unparsed_original": 0}),
        ("face_facebench_tfq", "Yes.", {"face_acc_score": 1 / 2, "face_acc_original": 0}),
        ("face_facebench_scq", "Flat", {"face_acc_score": 1, "face_weighted_f1": 1, "face_acc_original": 1}),
        ("face_facebench_mcq", "Red, dark green", {"face_macro_f1_score": 1, "face_exact": 1, "face_micro_f1": 1}),
        ("face_facebench_oeq", "Dark green felt.", {"face_rouge_score": 1, "face_bleu_1": 1, "face_rouge_original": 1}),
        ("face_faba_emotion", "The person is happy.", {"face_acc_score": 1 / 3, "face_acc_original": 1 / 3}),
        ("face_faba_emotion", "A gloomy man.", {"face_acc_score": 0, "face_acc_original": 1 / 3, "face_unparsed": 1}),
        ("face_faba_au", "AU4.\n\nAU6 is absent.", {"face_au_f1": 2 / 9, "face_au_f1_original": 4 / 9}),
    ],
)  # fmt: skip
def test_figures(run: Run, task: str, answer: str, expected: dict[str, float]) -> None:
    found = run(task, answer)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    bounds = {name: 2.0 if name.startswith("face_s_rege") else 1.0 for name in found}
    assert all(math.isnan(value) or 0 <= value <= bounds[name] for name, value in found.items()), found
