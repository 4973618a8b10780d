"""Small question files, answers to them, and the files that lmms-eval writes of these, without running it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llava_face_plugin.data.files import sha256_of
from llava_face_plugin.evaluation.questions import Header, Question, load_questions, save_questions
from llava_face_plugin.evaluation.results import RESULTS, RUN, SAMPLES, ModelInfo, QuestionsInfo, RunInfo
from llava_face_plugin.evaluation.task_index import TaskIndex, read_config
from llava_face_plugin.evaluation.tasks import task_folder

Answers = Callable[[dict[str, Any]], str]
"""A question's row -> the model's answer."""
YES: Answers = lambda doc: "Yes"  # noqa: E731


def index() -> TaskIndex:
    return TaskIndex.of([task_folder()])


def write_questions(
    folder: Path, task: str = "face_made", images: int = 24, topics: Sequence[str] = ("Smiling", "Bald")
) -> Path:
    """Yes/no questions about ``images`` drawn squares of half as many persons, in two groups; every third is a yes."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    questions = []
    for i in range(images):
        name = f"images/{i:03d}.png"
        Image.fromarray(np.full((8, 8, 3), 2 * i, np.uint8)).save(folder / name)
        for t, topic in enumerate(topics):
            right = "yes" if (i + t) % 3 == 0 else "no"
            questions.append(
                Question(
                    f"{i:03d}:{topic}", f"{i:03d}", (name,), "yes_no", f"Is it {topic}?", (right,), topic,
                    value=right, cluster=f"person {i // 2}", groups={"side": "left" if i % 2 else "right"},
                )
            )  # fmt: skip
    path = folder / f"{task}.parquet"
    save_questions(path, Header(task, "made", "val", 0, str(folder)), questions)
    return path


def lmms_output(questions: Path, task: str, answers: Answers, limit: int | None = None) -> tuple[dict, list[dict]]:
    """(results, samples) as lmms-eval's two files have them."""
    known = index().task(task)
    process = read_config(index().tasks[task])[0]["process_results"].load()
    samples = []
    for number, doc in enumerate(load_questions(questions)[1].to_pylist()[:limit]):
        text = answers(doc)
        samples.append({"doc_id": number, "filtered_resps": text, **process(doc, [text]), "input": doc["question"]})
    figures: dict[str, Any] = {"alias": known.alias}
    for metric in known.metrics:
        items = [s[metric.name] for s in samples if metric.name in s]
        figures[f"{metric.name},none"] = metric.aggregation()(items)
        figures[f"{metric.name}_stderr,none"] = "N/A"
    return {"results": {task: figures}}, samples


def write_lmms(folder: Path, task: str, results: dict, samples: Sequence[dict]) -> None:
    """``folder/<date>_results.json`` and ``..._samples_TASK.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "20260101_000000_results.json").write_text(json.dumps(results))
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    (folder / f"20260101_000000_samples_{task}.jsonl").write_text(lines, encoding="utf-8")


def write_result(
    out: Path, questions: Path, answers: Answers, task: str = "face_made", limit: int | None = None,
    change: Callable[[dict, list[dict]], None] = lambda results, samples: None,
) -> Path:  # fmt: skip
    """A result folder as `llava-face eval` leaves it; ``change`` may spoil what lmms-eval wrote before it is signed."""
    header, _ = load_questions(questions)
    results, samples = lmms_output(questions, task, answers, limit)
    change(results, samples)
    folder = out / task
    write_lmms(folder, task, results, samples)
    for pattern, name in (("*_results.json", RESULTS), ("*_samples_*", SAMPLES)):
        next(folder.glob(pattern)).rename(folder / name)
    info = RunInfo(
        task=task, task_version="1.0", task_digest=index().task(task).digest,
        questions=QuestionsInfo(
            task=task, path=str(questions), dataset=header.dataset, split=header.split, seed=header.seed,
            rows=header.rows, digest=header.digest, image_root=str(Path(header.image_root).resolve()),
        ),
        model=ModelInfo(runner="dummy", args=out.name), limit=limit, samples=len(samples), command=["lmms"],
        versions={"llava_face_plugin": "0", "lmms_eval": "0.7.3"}, started="2026-01-01T00:00:00+00:00", seconds=1.0,
        files={name: sha256_of(folder / name) for name in (RESULTS, SAMPLES)},
    )  # fmt: skip
    (folder / RUN).write_text(info.model_dump_json())
    return out
