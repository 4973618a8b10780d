"""The knowledge file: what the correlation and logical modules know, counted once from the training labels.

A safetensors file with the tensors ``joint``, ``support`` and ``both``, (A, A) int64 (``Cooccurrence``), and one
JSON header under the metadata key ``face_knowledge``: format, created_by, vocabulary, rows, rules, prompts, meta,
and the sha256 of all that. Format 1 had ``known`` (A,) in place of ``both``, and no checksum.
"""

from __future__ import annotations

import hashlib
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
from ..maps.files import atomic_path
from ..registry import unknown_name
from ..rulebook import Rule, canonical, check_rules
from .cooccurrence import Cooccurrence, count, is_count, merge
from .tally import RuleTally, check_report

FORMAT = 2
_KEY = "face_knowledge"
_TENSORS = ("joint", "support", "both")


@dataclass
class Knowledge:
    """The contents of a knowledge file. Raises ``FaceDataError`` if its parts do not fit together.

    ``prompts`` has one text per attribute of the vocabulary. ``meta`` is JSON: dataset, split, rows, sources (the
    label files with their sha256; ``build``), created_by, max_rate, rule_report (see ``RuleTally.weigh``).
    """

    cooccurrence: Cooccurrence
    rules: list[Rule]
    prompts: dict[str, str]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.cooccurrence.vocabulary
        for name in names:
            if canonical(name) != name or name.startswith("not "):
                raise FaceDataError(f"{name!r} in the vocabulary is a literal or has stray blanks; expected a name")
        if len(set(names)) < len(names):
            raise FaceDataError("the vocabulary names an attribute twice")
        self.cooccurrence.check()
        check_rules(self.rules, names)
        for name in self.prompts:
            if name not in names:
                raise FaceDataError(f"prompts: {unknown_name('attribute', name, names)}")
        for name, text in self.prompts.items():
            if not isinstance(text, str) or not text.strip():
                raise FaceDataError(f"the prompt of {name!r} is {text!r:.80}; expected text")
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
        return cls.of(cooccurrence, tally.weigh(max_rate), {**meta, "max_rate": max_rate}, prompts)

    @classmethod
    def of(
        cls,
        counts: Cooccurrence,
        weighed: tuple[list[Rule], list[dict[str, Any]]],
        meta: Mapping[str, Any],
        prompts: Mapping[str, str] | None = None,
    ) -> Knowledge:
        """From what is already counted: ``weighed`` is that of ``RuleTally.weigh``. Adds to ``meta`` as ``build``."""
        if counts.known.sum() == counts.joint.trace():
            raise FaceDataError(
                f"the labels ({counts.rows} rows) hold no 0 (absent). -1 means unknown here: "
                "map the -1 of CelebA's list_attr_celeba.txt to 0"
            )
        kept, report = weighed
        made = {"rows": counts.rows, "created_by": f"llava_face_plugin {__version__}", "rule_report": report}
        defaults = {name: prompt_of(name) for name in counts.vocabulary}
        return cls(counts, kept, {**defaults, **(prompts or {})}, {**meta, **made})

    def save(self, path: str | Path) -> None:
        """Write the file in one step: readers see the old file or the whole new one, never a part.

        Raises ``OSError`` where it cannot be written, ``FaceDataError`` for a folder.
        """
        header = {
            "format": FORMAT, "created_by": f"llava_face_plugin {__version__}", "vocabulary": self.vocabulary,
            "rows": self.cooccurrence.rows, "rules": [rule.to_dict() for rule in self.rules],
            "prompts": self.prompts, "meta": self.meta,
        }  # fmt: skip
        parts = {name: np.ascontiguousarray(getattr(self.cooccurrence, name)) for name in _TENSORS}
        header["checksum"] = _checksum(header, parts)
        data = to_bytes(parts, {_KEY: json.dumps(header)})
        target = Path(path)
        if target.is_dir():
            raise FaceDataError(f"{path}: this is a folder; name a file to write")
        with atomic_path(target) as temporary, open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    @classmethod
    def load(cls, path: str | Path) -> Knowledge:
        """Read a knowledge file.

        Raises ``FaceDataError``, naming the file, if it is missing, cut off, something else or of another
        format.
        """
        header, arrays = _read(Path(path))
        if header.get("format") not in (1, FORMAT):
            raise FaceDataError(
                f"{path}: knowledge file of format {header.get('format')!r:.40} (written by "
                f"{header.get('created_by', 'an unknown version')!s:.60}); this version reads formats 1 and {FORMAT}"
            )
        try:
            if header["format"] == 1:
                arrays["both"] = _both_of_format_1(header["rows"], arrays["known"])
            elif header["checksum"] != _checksum(header, arrays):
                raise FaceDataError("its checksum is not that of its contents: it was damaged or edited")
            for key, kind in (("vocabulary", list), ("rules", list), ("prompts", dict), ("meta", dict)):
                if not isinstance(header[key], kind):
                    raise FaceDataError(f"{key} is {header[key]!r:.60}")
            check_report(header["meta"].get("rule_report", []))
            tensors = {name: arrays[name] for name in _TENSORS}
            counts = Cooccurrence(vocabulary=tuple(header["vocabulary"]), rows=header["rows"], **tensors)
            rules = [Rule.from_dict(rule) for rule in header["rules"]]
            return cls(counts, rules, header["prompts"], header["meta"])
        except KeyError as error:
            raise FaceDataError(f"{path}: the knowledge file lacks {error}") from error
        except (FaceDataError, TypeError) as error:
            raise FaceDataError(f"{path}: not a valid knowledge file: {error}") from error


def is_knowledge(path: str | Path) -> bool:
    """Whether a file begins as one of safetensors does, whatever its name: no text and no parquet file does."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(9)
    except OSError:  # not there, or a folder: what reads it says so
        return False
    return int.from_bytes(start[:8], "little") < 2**32 and start[8:] == b"{"  # the header's length, and the header


def _checksum(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 of the header without its checksum, and of the tensors with their shapes."""
    rest = {key: value for key, value in header.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in _TENSORS:
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _both_of_format_1(rows: Any, known: np.ndarray) -> np.ndarray:
    """(A, A) rows in which both are known, where that follows from the rows in which each is."""
    if not is_count(rows) or known.dtype != np.int64 or known.ndim != 1:
        raise FaceDataError(f"rows is {rows!r:.60}, known is {known.dtype} {known.shape}; expected counts")
    most = np.minimum.outer(known, known)
    least = np.maximum(np.add.outer(known, known) - rows, 0)
    np.fill_diagonal(least, known)
    if (most != least).any():
        raise FaceDataError(
            "format 1 does not say in how many rows two attributes are known together, which differs between "
            "attributes here: build it again with `llava-face knowledge build` or `llava-face prepare`"
        )
    return most


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
