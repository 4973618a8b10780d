"""Small benchmarks in the exact layout of the four published suites; every text in them is made up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from llava_face_plugin.evaluation.builders import BENCHMARKS, BuildOptions, build
from llava_face_plugin.evaluation.builders.human_bench import PARTS
from llava_face_plugin.evaluation.questions import Header, load_questions
from llava_face_plugin.evaluation.suites.faba_words import CODE

TASKS = {
    "facexbench": ("face_facexbench",),
    "human_bench": ("face_human_bench_en", "face_human_bench_zh"),
    "facebench": ("face_facebench_tfq", "face_facebench_scq", "face_facebench_mcq", "face_facebench_oeq"),
    "faba": ("face_faba_emotion", "face_faba_au"),
}
"""Suite -> its tasks."""
POSTPEND = "Please answer the question and provide only the correct option letter, e.g., A, B, C, D."


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=4), encoding="utf-8")
    return path


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (200, 150, 120)).save(path)


def facexbench_file(
    category: str, topic: str, questions: Mapping[str, Any], num_images: str = "single", **more: Any
) -> dict[str, Any]:
    return {
        "category": category, "sub-category": topic, "dataset": "made", "question_type": "MCQ",
        "num_images": num_images, "prepend_text": "You have to perform the task.", "postpend_text": POSTPEND, **more,
        "questions": dict(questions),
    }  # fmt: skip


def facexbench_question(
    images: Sequence[str], text: str, options: Sequence[Any], letter: str, answer: Any
) -> dict[str, Any]:
    return {
        "image_paths": list(images), "question_text": text, "options": list(options), "correct_answer_option": letter,
        "answer": answer,
    }  # fmt: skip


def facexbench(root: Path) -> Path:
    """``benchmark/`` as in the repository: one picture, several, numbers as options, a table with a context."""
    tables = {
        "made_single_mcq": facexbench_file(
            "bias_fairness", "age",
            {"1": facexbench_question(["images/s/1.png"], "How old?", ["0-9", "10-19", "20+", "30+"], "B", "10-19")},
        ),
        "made_single_mcq_count": facexbench_file(
            "face_localization", "crowd_counting",
            {
                "1": facexbench_question(["images/c/1.png"], "How many?", [8, 4, 6, 5], "D", 5),
                "2": facexbench_question(["images/c/2.png"], "How many?", [1, 2, 3, 4], "A", 1),
            },
        ),
        "made_multiple_mcq": facexbench_file(
            "fas_deepfakes", "deepfakes",
            {
                "1": facexbench_question(
                    ["images/m/1_1.png", "images/m/1_2.png"], "Which is real?",
                    ["Image 2", "Image 1", "None", "Both"], "A", "Image 2",
                )
            },
            "multiple",
        ),
        "tools_retrieval": facexbench_file(
            "tools_use", "tools_retrieval",
            {"1": facexbench_question(["images/t/1.png"], "Which calls?", ["a-b", "b-a", "a", "b"], "C", "a")},
            "zero", context="1. Made:\n    api_name: a",
        ),
    }  # fmt: skip
    for name, table in tables.items():
        write(root / "benchmark" / f"{name}.json", table)
        for question in table["questions"].values():
            for path in question["image_paths"]:
                picture(root / "benchmark" / path)
    return root


def human_bench_sample(name: str, number: int, versions: Sequence[str], options: Sequence[Any], right: int) -> Any:
    return {
        "type": name,
        "QA": {"question": f"What about {number}?", "options": list(options), "answer": right},
        "image": {
            "image_paths": {v: f"eval_data/{name}/{v}/sample_{number:04}.jpg" for v in versions},
            "source": {"dataset": "made", "paths": {"original": "raw_data/made.jpg"}, "labels": {"age": 20}},
        },
    }


def human_bench(root: Path, samples: int = 2) -> Path:
    """``test/json/{en,zh}`` with all 25 files, numbers and a doubled option among them, and the rebuilt pictures."""
    for language, ending in (("en", ""), ("zh", "_zh")):
        for name, versions, _, _ in PARTS:
            if "recognition" in name:
                options: Sequence[Any] = ("yes", "no") if language == "en" else ("是的", "不是")
            else:
                options = (20, 30, 40, 50) if "age" in name else ("w", "w", "y", "z")
            rows = [human_bench_sample(name, n, versions, options, 0) for n in range(samples)]
            write(root / "test" / "json" / language / f"{name}{ending}.json", {"data": rows})
            for row in rows:
                for path in row["image"]["image_paths"].values():
                    picture(root / "test" / path)
    return root


def facebench_row(kind: str, name: str, options: Sequence[str], gold: Any, text: str = "Is it?") -> dict[str, Any]:
    return {
        "question_id": name, "question_type": kind, "image_id": "made-1.jpg", "text": text,
        "instruction": "Please select.", "options": list(options),
        "conditions": {"option Y": [f"{name}0"], "option N": []}, "gt_answer": gold,
        "metadata": {"image_source": "made", "view": "Appearance", "attribute_level": "level 1"},
    }  # fmt: skip


def facebench(root: Path) -> Path:
    """``test.jsonl`` with all four types of question."""
    rows = [
        facebench_row("TFQ", "hat_q0", ["Yes", "No", "Information not visible"], "Yes", "Is there a hat?"),
        facebench_row("SCQ", "hat_q1", ["Tall", "Flat", "Very flat"], "Flat"),
        facebench_row("MCQ", "hat_q2", ["Red", "Green", "Dark green"], ["Red", "Dark green"]),
        facebench_row("OEQ", "hat_q3", [], "Dark green felt"),
        facebench_row("TFQ", "nose_q0", ["Yes", "No"], "No"),
    ]
    write(root / "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    picture(root / "images" / "made-1.jpg")
    return root


def faba_row(number: int, label: Any, reference: str) -> dict[str, Any]:
    path = f"FABAInstruct/eval/images/AffectNet/{number}.jpg"
    row = {
        "source": "made", "image": path, "id": f"AffectNet/{number}",
        "conversations": [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": reference}],
        "landmark": path.replace("images", "landmarks").replace("jpg", "npy"),
    }  # fmt: skip
    return row if label is None else row | {"label": label, "gpt4": reference}


EMOLA_CODE = """import a_module_that_is_not_there

raise RuntimeError("this file is read, never run")
emotion_list = {
    "happiness": ["elated", "glee"], "neutral": ["placid", "even"], "surprise": ["stunned", "odd"],
    "fear": ["dread", 'odd'], "disgust": ["queasy", "cross"],
    "anger": ["cross", "livid"], "sadness": ["gloomy", "tearful"],
}


def remove_neg_sentences(text):
    negative_words = ['un', "hardly"]
"""
"""A stand-in for EmoLA's ``eval_FABA.py``, with words of our own."""


def faba(root: Path) -> Path:
    """``FABAInstruct/eval``: rows as the repository's code reads them; beside it a clone of EmoLA."""
    write(root / "EmoLA" / CODE, EMOLA_CODE)
    emotions = [
        faba_row(0, "Happiness", "The person is smiling. The mouth is open."),
        faba_row(1, 1, "The corners of the lips are down. Sadness."),
        faba_row(2, "Neutral", "The person appears placid."),
    ]
    units = [
        faba_row(0, "6, 12", "1. AU6 - Cheek Raiser. 2. AU12 - Lip Corner Puller."),
        faba_row(1, "4, 99", "AU4 - Brow Lowerer."),
    ]
    for kind, rows in (("emotion", emotions), ("au", units)):
        write(root / "FABAInstruct" / "eval" / f"eval_{kind}_anno.json", rows)
        for row in rows:
            picture(root / row["image"])
    return root


MAKERS = {"facexbench": facexbench, "human_bench": human_bench, "facebench": facebench, "faba": faba}


def settings(root: Path) -> dict[str, str]:
    """What ``--set`` needs for the suite made at ``root``."""
    return {"emola": str(root / "EmoLA")} if (root / "EmoLA").is_dir() else {}


def built(task: str, root: Path, out: Path, **options: Any) -> tuple[Header, list[dict[str, Any]]]:
    """Header and rows of the question file."""
    path, _ = build(BENCHMARKS[task], root, out, None, BuildOptions(**options))
    header, table = load_questions(path)
    return header, table.to_pylist()


def doc(options: Sequence[str], answer: Sequence[str], **groups: str) -> dict[str, Any]:
    """A row of a question file, as scoring gets it."""
    return {
        "question_id": "1:q", "image_id": "1", "cluster": "1", "topic": "t", "fold": -1, "options": list(options),
        "answer": list(answer), "groups": groups,
    }  # fmt: skip
