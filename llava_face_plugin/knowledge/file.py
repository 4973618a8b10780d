"""The knowledge file: what the correlation and logical modules know, counted once from the training labels.

A safetensors file with the tensors ``joint`` (A, A), ``support`` (A, A) and ``known`` (A,), all int64, and
one JSON header under the metadata key ``face_knowledge``: format, vocabulary, rows, rules, prompts, meta.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from .. import __version__
from ..errors import FaceDataError
from ..labels import prompt_of
from ..registry import unknown_name
from ..rulebook import Rule, check_rules
from .cooccurrence import Cooccurrence, count, merge
from .tally import RuleTally

FORMAT = 1
_KEY = "face_knowledge"
_TENSORS = ("joint", "support", "known")


@dataclass
class Knowledge:
    """The contents of a knowledge file. Raises ``FaceDataError`` if its parts do not fit together.

    ``prompts`` has one text per attribute of the vocabulary. ``meta`` is JSON: data set, split, rows, sha256
    of the label file, created_by, rule_report (see ``RuleTally.weigh``).
    """

    cooccurrence: Cooccurrence
    rules: list[Rule]
    prompts: dict[str, str]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.cooccurrence.vocabulary
        if len(set(names)) < len(names):
            raise FaceDataError("the vocabulary names an attribute twice")
        square = (len(names), len(names))
        for part, shape in (("joint", square), ("support", square), ("known", square[:1])):
            array = getattr(self.cooccurrence, part)
            if array.shape != shape or array.dtype != np.int64:
                raise FaceDataError(f"{part} is {array.dtype} {array.shape}; expected int64 {shape}")
        check_rules(self.rules, names)
        for name in self.prompts:
            if name not in names:
                raise FaceDataError(f"prompts: {unknown_name('attribute', name, names)}")
        if missing := [name for name in names if name not in self.prompts]:
            raise FaceDataError(f"prompts: none for {', '.join(missing)}")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The A attributes, in the order of every matrix."""
        return self.cooccurrence.vocabulary

    @classmethod
    def build(
        cls,
        vocabulary: Sequence[str],
        batches: Iterable[np.ndarray],
        rules: Sequence[Rule],
        max_rate: float,
        meta: Mapping[str, Any],
        prompts: Mapping[str, str] | None = None,
    ) -> Knowledge:
        """Count (N, A) int8 label batches (-1 unknown, 0, 1) in one pass.

        Rules that more than ``max_rate`` of the rows break are dropped, the others weighted
        (``RuleTally.weigh``). ``prompts`` overrides single prompts; the others are ``labels.prompt_of``. Adds
        rows, created_by, max_rate and rule_report to ``meta``. Raises ``FaceDataError`` for labels or rules
        that do not fit the vocabulary, and for labels without a single 0.
        """
        cooccurrence, tally = count(vocabulary, ()), RuleTally(rules, vocabulary)
        for batch in batches:
            cooccurrence = merge(cooccurrence, count(vocabulary, (batch,)))
            tally.add(batch)
        if cooccurrence.known.sum() == cooccurrence.joint.trace():
            raise FaceDataError(
                f"the labels ({cooccurrence.rows} rows) hold no 0 (absent). -1 means unknown here: "
                "map the -1 of CelebA's list_attr_celeba.txt to 0"
            )
        kept, report = tally.weigh(max_rate)
        made = {
            "rows": cooccurrence.rows, "created_by": f"llava_face_plugin {__version__}",
            "max_rate": max_rate, "rule_report": report,
        }  # fmt: skip
        defaults = {name: prompt_of(name) for name in cooccurrence.vocabulary}
        return cls(cooccurrence, kept, {**defaults, **(prompts or {})}, {**meta, **made})

    def save(self, path: str | Path) -> None:
        """Write the file in one step: readers see the old file or the whole new one, never a part."""
        header = {
            "format": FORMAT, "created_by": f"llava_face_plugin {__version__}", "vocabulary": self.vocabulary,
            "rows": self.cooccurrence.rows, "rules": [rule.to_dict() for rule in self.rules],
            "prompts": self.prompts, "meta": self.meta,
        }  # fmt: skip
        parts = {name: np.ascontiguousarray(getattr(self.cooccurrence, name)) for name in _TENSORS}
        data = to_bytes(parts, {_KEY: json.dumps(header)})
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    @classmethod
    def load(cls, path: str | Path) -> Knowledge:
        """Read a knowledge file.

        Raises ``FaceDataError``, naming the file, if it is missing, cut off, something else or of another
        format.
        """
        header, arrays = _read(Path(path))
        if header.get("format") != FORMAT:
            raise FaceDataError(
                f"{path}: knowledge file of format {header.get('format')!r} (written by "
                f"{header.get('created_by', 'an unknown version')}); this version reads format {FORMAT}"
            )
        try:
            tensors = {name: arrays[name] for name in _TENSORS}
            counts = Cooccurrence(vocabulary=tuple(header["vocabulary"]), rows=header["rows"], **tensors)
            rules = [Rule.from_dict(rule) for rule in header["rules"]]
            return cls(counts, rules, header["prompts"], header["meta"])
        except KeyError as error:
            raise FaceDataError(f"{path}: the knowledge file lacks {error}") from error
        except (FaceDataError, TypeError) as error:
            raise FaceDataError(f"{path}: not a valid knowledge file: {error}") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON header and the tensors."""
    if not path.is_file():
        raise FaceDataError(f"{path}: no such knowledge file")
    try:
        with safe_open(str(path), framework="numpy") as stream:
            text = (stream.metadata() or {}).get(_KEY)
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise FaceDataError(f"{path}: not a knowledge file, or cut off: {error}") from error
    if text is None:
        raise FaceDataError(f"{path}: not a knowledge file (its metadata has no {_KEY!r})")
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise FaceDataError(f"{path}: the header of the knowledge file is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise FaceDataError(f"{path}: the header of the knowledge file is not a JSON object")
    return header, arrays
