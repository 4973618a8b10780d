"""The prompts of all tasks are frozen in ``prompts.json``: a changed word changes a benchmark, and needs a new version.

After a change that is meant, and for new tasks, this writes the file anew::

    UPDATE_PROMPTS=1 python -m pytest tests/evaluation/test_prompt_snapshots.py

Raise ``metadata.version`` of the tasks whose prompts differ, and say so in their changelogs. The questions are those of
the small sources in ``synthetic_sources``: three topics in full, and a checksum over the first question of every topic.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import synthetic_sources as sources

from llava_face_plugin.data.wording import choice_wordings, closed_wordings
from llava_face_plugin.evaluation.task_index import TaskIndex, read_config
from llava_face_plugin.evaluation.tasks import task_folder

pytest.importorskip("pyarrow", reason="manifests are parquet")

FROZEN = Path(__file__).with_name("prompts.json")
INDEX = TaskIndex.of([task_folder()])
UPDATE = os.environ.get("UPDATE_PROMPTS") == "1"


def prompt(config: Mapping[str, Any], doc: dict[str, Any]) -> str:
    kwargs = (config.get("lmms_eval_specific_kwargs") or {}).get("default", {})
    return config["doc_to_text"].load()(doc, kwargs)


def snapshot(config: Mapping[str, Any], asked: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    texts = {topic: prompt(config, asked[topic]) for topic in sorted(asked)}
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    return {"topics": len(texts), "sha256": digest, "prompts": dict(list(texts.items())[:3])}


def frozen() -> dict[str, Any]:
    return json.loads(FROZEN.read_text(encoding="utf-8")) if FROZEN.is_file() else {}


@pytest.mark.parametrize("task", sorted(INDEX.tasks))
def test_prompts_are_as_frozen(task: str) -> None:
    config, _ = read_config(INDEX.tasks[task])
    found = snapshot(config, sources.docs_of(INDEX.task(task).questions))
    if UPDATE:
        kept = {name: value for name, value in frozen().items() if name in INDEX.tasks}
        text = json.dumps({**kept, task: found}, indent=1, sort_keys=True, ensure_ascii=False)
        FROZEN.write_text(text + "\n", encoding="utf-8")
    assert found == frozen().get(task), "see the top of this file"


def test_no_prompt_is_kept_of_a_task_that_is_gone() -> None:
    assert set(frozen()) == set(INDEX.tasks)


@pytest.mark.parametrize("task", INDEX.expand(["face_insight_ft"]))
def test_the_fine_tuned_protocol_asks_as_prepare_trains(task: str) -> None:
    config, _ = read_config(INDEX.tasks[task])
    asked = sources.docs_of(INDEX.task(task).questions)
    assert asked
    for topic, doc in asked.items():
        wordings = choice_wordings(topic, doc["options"]) if doc["kind"] == "choice" else closed_wordings(topic)
        assert prompt(config, doc) in wordings


def test_both_protocols_of_face_insight_ask_the_same_questions() -> None:
    files = [
        [INDEX.task(name).questions for name in INDEX.expand([group])] for group in ("face_insight", "face_insight_ft")
    ]
    assert files[0] == files[1] and len(files[0]) == 10
    assert files[0] == INDEX.expand(["face_insight"])
