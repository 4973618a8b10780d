"""The words of FABA-Bench's own emotion matcher: out of the user's clone of EmoLA, into a question file's header.

The lists are EmoLA's and are not in this package. Its Python file is parsed for two literals, never imported or run.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ...data.files import read_text
from ...errors import FaceDataError
from ..questions import question_path, read_header

EMOTIONS = ("happiness", "sadness", "surprise", "anger", "neutral", "disgust", "fear")
"""In the order of the paper's numbers."""
CODE = "emollava/eval/eval_FABA.py"
"""The file in a clone of JackYFL/EmoLA."""
EXTRA = "emola"
"""Key of the header's ``extra``: name of each literal -> the literal."""
_LITERALS = {
    "emotion_list": f"a dict that has a list of words for each of {', '.join(EMOTIONS)}",
    "negative_words": "a list of words",
}
"""What is read from the file, and what it must be."""
_LARGEST = 1 << 20
"""Bytes; the real file has 17 kB. Python's parser needs many times as much memory."""


@dataclass(frozen=True)
class OriginalWords:
    """``emotions``: emotion -> words by which the paper's code finds it. ``denials``: what drops a sentence."""

    emotions: Mapping[str, frozenset[str]]
    denials: tuple[str, ...]

    @classmethod
    def from_literals(cls, literals: Mapping[str, Any], where: str) -> OriginalWords:
        """From the values of ``emotion_list`` and ``negative_words``. Raises ``FaceDataError`` naming ``where``."""
        emotions, denials = (literals.get(name) for name in _LITERALS)
        if not isinstance(emotions, dict) or set(emotions) != set(EMOTIONS) or not all(map(_words, emotions.values())):
            raise FaceDataError(_unfit(where, "emotion_list", emotions), "format")
        if not _words(denials):
            raise FaceDataError(_unfit(where, "negative_words", denials), "format")
        return cls({emotion: frozenset(emotions[emotion]) for emotion in EMOTIONS}, tuple(denials))


def code_file(given: str) -> Path:
    """``eval_FABA.py`` itself, or in the clone. Raises ``FaceDataError`` where it is not there."""
    path = Path(given, CODE) if os.path.isdir(given) else Path(given)
    if not os.path.isfile(path):
        wanted = f"a clone of https://github.com/JackYFL/EmoLA, or its {CODE}"
        raise FaceDataError(f"--set {EXTRA}: {path}: no such file; expected {wanted}", "missing")
    return path


def read_literals(path: Path) -> dict[str, Any]:
    """Name -> value of the literals in ``eval_FABA.py``. Raises ``FaceDataError`` naming the file and what was
    expected."""
    if path.stat().st_size > _LARGEST:
        raise FaceDataError(f"{path}: larger than {_LARGEST:,} bytes; expected EmoLA's {CODE}", "too-large")
    try:
        tree = ast.parse(read_text(path), path.name)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if isinstance(error, FaceDataError):
            raise
        raise FaceDataError(f"{path}: not Python ({error!s:.100}); expected EmoLA's {CODE}", "damaged") from error
    return {name: _literal(tree, name, path) for name in _LITERALS}


def words_of(task: str) -> OriginalWords | None:
    """The words in the header of ``$FACE_EVAL_DATA/<task>.parquet``; None: it was made without. Raises
    ``FaceDataError``."""
    path = question_path(task)
    return _header_words(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=8)
def _header_words(path: Path, changed: int) -> OriginalWords | None:
    """``changed``: the file's time, so that a new one is read."""
    literals = read_header(path).extra.get(EXTRA)
    if literals is None:
        return None
    return OriginalWords.from_literals(literals if isinstance(literals, dict) else {}, f"{path}: header")


def _literal(tree: ast.Module, name: str, path: Path) -> Any:
    """The literal that is assigned to ``name``, anywhere in the file."""
    found = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    ]  # fmt: skip
    if len(found) != 1:
        wanted = f"expected one, of {_LITERALS[name]}, as in EmoLA's {CODE}"
        raise FaceDataError(f"{path}: {name} is assigned {len(found)} times; {wanted}", "format")
    try:
        return ast.literal_eval(found[0].value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        where = f"{path}, line {found[0].lineno}"
        raise FaceDataError(f"{where}: {name} is no literal; expected {_LITERALS[name]}", "format") from error


def _words(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) and word.strip() for word in value)


def _unfit(where: str, name: str, value: Any) -> str:
    found = f"{type(value).__name__} of {', '.join(map(str, value)):.60}" if isinstance(value, (dict, list)) else value
    return f"{where}: {name} is {found!s:.100}; expected {_LITERALS[name]}"
