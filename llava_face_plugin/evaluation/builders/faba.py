"""FABA-Bench: the evaluation annotations of FABA-Instruct, emotions and action units, with AffectNet's images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ...data.files import sha256_of
from ...errors import FaceDataError
from ..questions import Question
from ..suites.faba import UNITS, original_emotion, original_units
from ..suites.faba_words import EMOTIONS, EXTRA, OriginalWords, code_file, read_literals
from ._suite_files import image, mapping, read_json, subfolder, text
from .base import Benchmark, Source

PROMPTS = {
    "emotion": "What emotions are conveyed by this face?",
    "au": "What AUs are conveyed by this face?",
}


def faba_questions(kind: str, source: Source) -> Iterator[Question]:
    """One question a face. ``answer`` is the label and the reference description.

    ``--set emola=PATH``: the user's clone of EmoLA, or its ``eval_FABA.py``; its words for emotions go into the
    header, for the paper's matcher. A row without ``label`` (the layout in the repository's README has none, its code
    reads one) gets the label that this matcher finds in the reference; the header counts these.
    """
    words = _words(source, source.options["emola"]) if kind == "emotion" else None
    base = subfolder(source.root, "FABAInstruct")
    path = source.root / base / "eval" / f"eval_{kind}_anno.json"
    rows = read_json(source, path)
    if not isinstance(rows, list):
        raise FaceDataError(f"{path}: expected a list of annotations", "format")
    derived = 0
    for number, row in enumerate(rows):
        where = f"{path}, annotation {number}"
        row = mapping(row, where)
        reference = _reference(row, where)
        label = row.get("label")
        derived += label is None
        if label is not None:
            gold = LABELS[kind](label, where)
        else:
            gold = ",".join(original_units(reference)) if kind == "au" else _found(reference, words, where)
        name = image(row.get("image"), where).removeprefix("FABAInstruct/")
        picture = image(name, where, base)
        yield Question(
            f"{number}:{name}", name, (picture,), "text", PROMPTS[kind], (gold, reference), kind,
            value="" if label is None else str(label),
        )  # fmt: skip
    if derived:
        source.notes.append(f"faces without a label, read from the reference text by the paper's matcher: {derived}")


def _reference(row: dict[str, Any], where: str) -> str:
    """``gpt4``, as the paper's code has it, or the answer of ``conversations``."""
    if "gpt4" in row:
        return text(row, "gpt4", where)
    turns = row.get("conversations")
    answers = [t for t in turns if isinstance(t, dict) and t.get("from") == "gpt"] if isinstance(turns, list) else []
    if not answers:
        raise FaceDataError(f"{where}: neither gpt4 nor a turn of gpt in conversations", "format")
    return text(answers[0], "value", where)


def _emotion(label: Any, where: str) -> str:
    """A name, or the paper's number of one."""
    written = str(label).strip().lower()
    if written.isdecimal() and int(written[:3]) < len(EMOTIONS):
        return EMOTIONS[int(written[:3])]
    if written not in EMOTIONS:
        raise FaceDataError(f"{where}: label {label!r:.60}; expected one of {', '.join(EMOTIONS)}, or 0 to 6", "format")
    return written


def _units(label: Any, where: str) -> str:
    """Numbers with commas; units that are not among those known are dropped, as in the paper's code."""
    written = str(label)
    if isinstance(label, bool) or not re.fullmatch(r"[\d, ]*", written):
        raise FaceDataError(f"{where}: label {label!r:.60}; expected numbers of action units", "format")
    numbers = {int(n[:6]) for n in re.findall(r"\d+", written)}
    return ",".join(f"AU{unit}" for unit in UNITS if unit in numbers)


def _words(source: Source, emola: str) -> OriginalWords | None:
    """The words of the paper's matcher, which go into the header; None, and a note there, where no clone was given."""
    if not emola:
        source.notes.append(
            "made without --set emola=PATH: face_acc_original and face_s_rege_original are undefined (NaN)"
        )
        return None
    path = code_file(emola)
    literals = read_literals(path)
    words = OriginalWords.from_literals(literals, str(path))
    source.extra[EXTRA] = literals
    source.sources.append({"name": path.name, "sha256": sha256_of(path)})
    return words


def _found(reference: str, words: OriginalWords | None, where: str) -> str:
    if words is None:
        raise FaceDataError(f"{where}: no label; --set emola=PATH (a clone of EmoLA) reads one from its text", "format")
    emotion = original_emotion(reference, words)
    if emotion is None:
        raise FaceDataError(f"{where}: no label, and the paper's matcher reads none from its text", "format")
    return emotion


LABELS: dict[str, Callable[[Any, str], str]] = {"emotion": _emotion, "au": _units}

BENCHMARKS = tuple(
    Benchmark(
        f"face_faba_{kind}", f"FABA-Bench: {name}, described in words", partial(faba_questions, kind),
        licence="none stated for the annotations; images under AffectNet's licence (research only)",
        layout=f"FABAInstruct/eval/eval_{kind}_anno.json\nFABAInstruct/eval/images/AffectNet/...",
        settings={"emola": ""},
    )
    for kind, name in (("emotion", "emotions"), ("au", "action units"))
)  # fmt: skip
