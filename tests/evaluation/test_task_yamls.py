"""All task folders: names, versions, READMEs, metrics, and that lmms-eval itself loads them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import synthetic_sources as sources

from llava_face_plugin.evaluation.builders import BENCHMARKS
from llava_face_plugin.evaluation.questions import Header, Question, question_path, save_questions
from llava_face_plugin.evaluation.task_index import TaskIndex, read_config
from llava_face_plugin.evaluation.tasks import task_folder
from llava_face_plugin.knowledge.rules import load_rules

INDEX = TaskIndex.of([task_folder()])
TASKS = sorted(INDEX.tasks)
FOLDERS = sorted({path.parent for path in INDEX.tasks.values()})
TAGS = {
    "face_attributes", "face_demographics", "face_expression", "face_action_units", "face_verification", "face_suites",
}  # fmt: skip
HEADINGS = ("paper", "licence", "protocol", "run", "reference", "defects", "checklist", "changelog")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_says_what_it_is(task: str) -> None:
    path = INDEX.tasks[task]
    config, files = read_config(path)
    assert task.startswith("face_") and path.stem == task and config["task_alias"] != task
    assert re.fullmatch(r"\d+\.\d+", str(config["metadata"]["version"]))
    assert config["output_type"] == "generate_until" and config["test_split"] == "test"
    assert set(config.get("tag", [])) <= TAGS
    assert config["generation_kwargs"]["do_sample"] is False and config["generation_kwargs"]["max_new_tokens"] <= 1024
    assert "process_results" in config and "process_docs" in config
    assert all(not file.suffix for file in files if file.parent == task_folder())


@pytest.mark.parametrize("task", TASKS)
def test_its_questions_come_from_a_known_benchmark(task: str) -> None:
    config, _ = read_config(INDEX.tasks[task])
    (source,) = config["dataset_kwargs"]["data_files"].values()
    lines = (INDEX.tasks[task].parent / source).read_text().splitlines()
    assert len(lines) == 1 and set(json.loads(lines[0])) == {"task"}
    assert INDEX.task(task).questions in list(BENCHMARKS)


def test_every_benchmark_has_a_task() -> None:
    assert {INDEX.task(task).questions for task in TASKS} == set(BENCHMARKS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_readme_with_all_that_is_needed(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    headings = [line.lower() for line in text.splitlines() if line.startswith("#")]
    assert headings[0].startswith("# ")
    for wanted in HEADINGS:
        assert any(wanted in heading for heading in headings[1:]), f"no heading with {wanted!r}"
    assert "lmms-eval" in text and "llava-face questions" in text and re.search(r"- \[[ x]\] ", text)
    for task in (task for task in TASKS if INDEX.tasks[task].parent == folder):
        assert f"`{task}`" in text or f"`{folder.name}_" in text, f"{task} is not mentioned"


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Question files of one row for all tasks, with rules: consistency reads them."""
    monkeypatch.setenv("FACE_EVAL_DATA", str(tmp_path))
    pytest.importorskip("pyarrow", reason="question files are parquet")
    header = Header("t", "t", "test", 0, "/", extra={"rules": [r.to_dict() for r in load_rules("celeba")]})
    question = Question("q", "1", ("1.png",), "yes_no", "?", ("yes",), "Bald")
    save_questions(question_path("face_celeba_consistency"), header, [question])
    save_questions(question_path("face_faba_emotion"), header, [question])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.usefixtures("rules")
def test_metrics_are_those_of_the_list(task: str) -> None:
    config, _ = read_config(INDEX.tasks[task])
    listed = [m["metric"] for m in config["metric_list"]]
    process = config["process_results"].load()
    found: set[str] = set()
    for doc in sources.docs_of(INDEX.task(task).questions).values():
        items = process(doc, ["yes"])
        whole = [m for m, item in items.items() if isinstance(item, dict) and "question_id" in item]
        assert len(whole) == 1, "one metric, the main one, has the whole record"
        found |= set(items)
    assert sorted(found) == sorted(listed)
    for metric in INDEX.task(task).metrics:
        assert metric.name.startswith("face_") and callable(metric.aggregation())


def test_groups_name_what_exists() -> None:
    assert {"face_insight", "face_insight_ft", "face_fairface", "face_utkface", "face_celebamask_hq"} <= set(
        INDEX.groups
    )
    for name in INDEX.groups:
        assert name.startswith("face_") and INDEX.expand([name])


def test_lmms_eval_loads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tasks = pytest.importorskip("lmms_eval.tasks", reason="lmms-eval is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    manager = tasks.TaskManager("ERROR", include_path=os.fspath(task_folder()), include_defaults=False)
    assert set(manager.all_tasks) == set(TASKS) | set(INDEX.groups)
    # A group of that name takes the place of a tag.
    assert set(manager.all_tags) <= TAGS
    for task in TASKS:
        config = manager._get_config(task)
        assert config["task"] == task
